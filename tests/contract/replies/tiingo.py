from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import tiingo as simulated

QUOTE = {
    **simulated.QUOTE,
    "ticker": "IBM",
    "timestamp": "2024-06-24T10:28:57.053159184-04:00",
    "lastSaleTimestamp": "2024-06-24T10:28:57.053159184-04:00",
    "quoteTimestamp": "2024-06-24T10:28:50.950142514-04:00",
    "tngoLast": 177.97,
    "last": 177.97,
}
CLOSED = dict.fromkeys(("mid", "last", "lastSize", "bidSize", "bidPrice", "askPrice", "askSize"))
BARS = [{"date": "2023-01-03T00:00:00.000Z", **simulated.BAR}]
NEWS = [
    {
        **simulated.ARTICLE,
        "publishedDate": "2016-01-11T23:13:00Z",
        "crawlDate": "2016-01-12T21:07:28.073309+00:00",
        "tickers": ["googl", "aapl"],
    }
]
UPGRADE = "Then upgrade at https://api.tiingo.com/pricing to have your limits increased."
HOURLY = f"Error: You have run over your hourly request allocation. {UPGRADE}"
DAILY = "Error: You have run over your daily request allocation."
MONTHLY = "Error: You have run over your 500 symbol look up for this month."
NO_TICKER = "Error: Ticker 'ZZZZ' not found"
PLAN = "You do not have permission to access the News API"

DOCUMENTED = [
    Documented("quote", 200, [QUOTE], "success", symbol="IBM"),
    Documented("quote", 200, [{**QUOTE, **CLOSED}], "success", symbol="IBM"),
    Documented("quote", 200, [{**QUOTE, "ticker": "BRK-B"}], "success", symbol="BRK.B"),
    Documented("quote", 200, [{**QUOTE, "ticker": "BRK-B"}], "success", symbol="BRK-B"),
    Documented("quote", 200, [{**QUOTE, "ticker": "BRK-B"}], "provider_failure", symbol="BRK.A"),
    Documented("quote", 200, [], "not_found"),
    Documented("bars", 200, BARS, "success"),
    Documented("bars", 200, [], "empty"),
    Documented("bars", 404, {"detail": NO_TICKER}, "not_found"),
    Documented("bars", 200, {"detail": NO_TICKER}, "not_found"),
    Documented("bars", 200, NO_TICKER, "not_found"),
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, [], "empty"),
    Documented("news", 403, {"detail": PLAN}, "entitlement", 86_400),
    *(
        reply
        for dataset in ("quote", "bars", "news")
        for reply in (
            Documented(dataset, 429, {"detail": HOURLY}, "rate_limit", 3_600),
            Documented(dataset, 200, {"detail": HOURLY}, "rate_limit", 3_600),
            Documented(dataset, 429, "", "rate_limit", 3_600),
            Documented(dataset, 429, {"detail": DAILY}, "quota", 86_400),
            Documented(dataset, 200, DAILY, "quota", 86_400),
            Documented(dataset, 429, MONTHLY, "quota", 31 * 86_400),
            # 401, or 403, by whom one asks
            Documented(dataset, 401, {"detail": "Please supply a token"}, "auth", 300),
            Documented(dataset, 403, {"detail": "Please supply a token"}, "auth", 300),
            Documented(dataset, 401, {"detail": "Invalid token."}, "auth", 300),
            Documented(dataset, 200, {"detail": "Please supply a token"}, "auth", 300),
            Documented(dataset, 200, {"detail": "Invalid token."}, "auth", 300),
            Documented(dataset, 200, {"detail": PLAN}, "entitlement", 86_400),
            Documented(dataset, 403, "None", "auth", 300),
            Documented(dataset, 200, {"detail": "None"}, "provider_failure"),
            Documented(dataset, 200, "None", "provider_failure"),
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure"),
        )
    ),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "empty")),
]
