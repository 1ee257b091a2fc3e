from tests.contract.replies import BAD_GATEWAY, Documented

QUOTE = {
    "ticker": "IBM",
    "timestamp": "2024-06-24T10:28:57.053159184-04:00",
    "lastSaleTimestamp": "2024-06-24T10:28:57.053159184-04:00",
    "quoteTimestamp": "2024-06-24T10:28:50.950142514-04:00",
    "open": 174.69,
    "high": 178.46,
    "low": 174.31,
    "mid": 179.55,
    "tngoLast": 177.97,
    "last": 177.97,
    "lastSize": 10,
    "bidSize": 400,
    "bidPrice": 174.1,
    "askPrice": 185.0,
    "askSize": 162,
    "prevClose": 172.46,
    "volume": 39782,
}
CLOSED = dict.fromkeys(("mid", "last", "lastSize", "bidSize", "bidPrice", "askPrice", "askSize"))
BARS = [
    {
        "date": "2023-01-03T00:00:00.000Z",
        "close": 125.07,
        "high": 130.9,
        "low": 124.17,
        "open": 130.28,
        "volume": 112117471,
        "adjClose": 124.378105644,
        "adjHigh": 130.1758537523,
        "adjLow": 123.4830844953,
        "adjOpen": 129.5592836276,
        "adjVolume": 112117471,
        "divCash": 0.0,
        "splitFactor": 1.0,
    }
]
NEWS = [
    {
        "id": 25286,
        "publishedDate": "2016-01-11T23:13:00Z",
        "title": "Tech giants may be stronger than you think",
        "url": "http://www.cnbc.com/2016/01/11/...",
        "description": "Technology companies could soon rebound ...",
        "source": "cnbc.com",
        "crawlDate": "2016-01-12T21:07:28.073309+00:00",
        "tickers": ["googl", "aapl"],
        "tags": ["Technology"],
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
    Documented("news", 403, {"detail": PLAN}, "entitlement", 3_600),
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
            Documented(dataset, 403, "None", "auth", 300),
            Documented(dataset, 200, {"detail": "None"}, "provider_failure"),
            Documented(dataset, 200, "None", "provider_failure"),
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure"),
        )
    ),
]
