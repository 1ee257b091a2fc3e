from tests.contract.replies import BAD_GATEWAY, Documented

SNAPSHOT = {
    "latestTrade": {
        "t": "2022-03-18T14:33:58.448432206Z",
        "x": "D",
        "p": 161.1998,
        "s": 200,
        "c": ["@"],
        "i": 39884,
        "z": "C",
    },
    "latestQuote": {
        "t": "2022-03-18T14:33:58.547942Z",
        "ax": "K",
        "ap": 161.2,
        "as": 2,
        "bx": "K",
        "bp": 161.19,
        "bs": 5,
        "c": ["R"],
        "z": "C",
    },
    "minuteBar": {
        "t": "2022-03-18T14:32:00Z",
        "o": 161.1,
        "h": 161.2,
        "l": 161.0,
        "c": 161.15,
        "v": 10000,
        "n": 100,
        "vw": 161.1,
    },
    "dailyBar": {
        "t": "2022-03-18T04:00:00Z",
        "o": 160.51,
        "h": 161.52,
        "l": 159.87,
        "c": 161.15,
        "v": 1000000,
        "n": 10000,
        "vw": 160.9,
    },
    "prevDailyBar": {
        "t": "2022-03-17T04:00:00Z",
        "o": 158.61,
        "h": 161.0,
        "l": 157.63,
        "c": 160.62,
        "v": 75615376,
        "n": 1,
        "vw": 159.8,
    },
}
QUOTE = {"AAPL": SNAPSHOT}
NOT_YET = dict.fromkeys(("latestQuote", "minuteBar", "dailyBar", "prevDailyBar"))
BAR = {
    "t": "2022-02-01T05:00:00Z",
    "o": 174,
    "h": 174.84,
    "l": 172.31,
    "c": 174.61,
    "v": 85998033,
    "n": 732412,
    "vw": 173.703516,
}
BARS = {"bars": {"AAPL": [BAR]}, "next_page_token": None}
ARTICLE = {
    "id": 41799100,
    "author": "Benzinga Newsdesk",
    "headline": "Piper Sandler Maintains Neutral on Clearwater Analytics Hldg, Raises Price Target to $28",
    "summary": "",
    "content": "",
    "source": "benzinga",
    "created_at": "2024-11-07T09:16:41Z",
    "updated_at": "2024-11-07T09:16:41Z",
    "images": [],
    "symbols": ["CWAN"],
    "url": "https://www.benzinga.com/news/24/11/41799100/...",
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


DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 200, {"AAPL": {**SNAPSHOT, **NOT_YET}}, "success"),
    Documented("quote", 200, {"AAPL": {**SNAPSHOT, "latestTrade": None}}, "not_found"),
    Documented("quote", 200, {}, "not_found"),
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
            Documented(dataset, 403, {"message": RECENT}, "entitlement", 3_600),
            Documented(dataset, 422, {"message": RECENT}, "entitlement", 3_600),
            Documented(dataset, 400, {"message": "invalid symbol: ..."}, "caller_error"),
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure"),
        )
    ),
]
