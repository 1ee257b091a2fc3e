from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import alpaca as simulated

SNAPSHOT = simulated.SNAPSHOT
QUOTE = {"AAPL": SNAPSHOT}
NOT_YET = dict.fromkeys(("latestQuote", "minuteBar", "dailyBar", "prevDailyBar"))
BAR = {"t": "2022-02-01T05:00:00Z", **simulated.BAR}
BARS = {"bars": {"AAPL": [BAR]}, "next_page_token": None}
ARTICLE = {
    **simulated.ARTICLE,
    "created_at": "2024-11-07T09:16:41Z",
    "updated_at": "2024-11-07T09:16:41Z",
    "symbols": ["CWAN"],
}
PICTURE = {"size": "large", "url": "https://cdn.benzinga.com/files/image.jpg"}
LIMIT_HEADERS = {
    "X-RateLimit-Limit": "200",
    "X-RateLimit-Remaining": "0",
    "X-RateLimit-Reset": "1674044551",  # long ago, and not believed
}
RECENT = "subscription does not permit querying recent SIP data"


def news(*articles: object) -> dict[str, object]:
    return {"news": list(articles), "next_page_token": None}


# A snapshot that is null is of a symbol it does not know.
BY_BODY = {b'{"Information": null}': "not_found"}

DOCUMENTED = [
    Documented("quote", 200, {"AAPL": None}, "not_found"),
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 200, {"AAPL": {**SNAPSHOT, **NOT_YET}}, "success"),
    Documented("quote", 200, {"AAPL": {**SNAPSHOT, "latestTrade": None}}, "empty"),
    Documented("quote", 200, {}, "not_found"),
    Documented("quote", 200, {"AAPL": {}}, "not_found"),
    Documented("quote", 200, {"quotes": {}}, "not_found"),
    # as the latest quotes are, which no price is in
    Documented("quote", 200, {"quotes": {"AAPL": SNAPSHOT["latestQuote"]}}, "provider_failure"),
    Documented("quote", 200, {"error": {"message": "..."}}, "provider_failure"),
    Documented("quote", 200, {"MSFT": SNAPSHOT}, "provider_failure"),
    Documented("bars", 200, BARS, "success"),
    Documented("bars", 200, {"bars": {}, "next_page_token": None}, "not_found"),
    Documented("bars", 200, {"bars": {"MSFT": [BAR]}, "next_page_token": None}, "provider_failure"),
    Documented("news", 200, news(ARTICLE), "success", symbol="CWAN"),
    Documented("news", 200, news({**ARTICLE, "images": [PICTURE]}), "success", symbol="CWAN"),
    Documented("news", 200, news({**ARTICLE, "url": None}, ARTICLE), "success", symbol="CWAN"),
    Documented("news", 200, news(), "empty"),
    *(
        reply
        for dataset in ("quote", "bars", "news")
        for reply in (
            Documented(dataset, 429, {"message": "too many requests."}, "rate_limit", 60, LIMIT_HEADERS),
            Documented(dataset, 401, {"message": "unauthorized."}, "auth", 300),
            Documented(dataset, 403, {"message": "forbidden."}, "auth", 300),
            Documented(dataset, 403, {"message": RECENT}, "entitlement", 86_400),
            Documented(dataset, 422, {"message": RECENT}, "entitlement", 86_400),
            Documented(dataset, 400, {"message": "invalid symbol: ..."}, "not_found"),
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure"),
        )
    ),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "empty")),
]
