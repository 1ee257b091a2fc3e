from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import polygon as simulated

TICKER = simulated.TICKER
QUOTE = {"request_id": simulated.REQUEST, "status": "OK", "ticker": TICKER}
NO_TRADES = {name: value for name, value in TICKER.items() if name not in ("lastTrade", "lastQuote")}
AT_NIGHT = {**NO_TRADES, "min": dict.fromkeys(TICKER["min"], 0), "day": dict.fromkeys(TICKER["day"], 0)}
BARS = {
    "adjusted": True,
    "next_url": "https://api.massive.com/v2/aggs/ticker/AAPL/range/1/day/1578114000000/2020-01-10"
    "?cursor=bGltaXQ9MiZzb3J0PWFzYw",
    "queryCount": 2,
    "request_id": "6a7e466379af0a71039d60cc78e72282",
    "results": [
        {**simulated.BAR, "t": 1577941200000},
        {
            "c": 74.3575,
            "h": 75.145,
            "l": 74.125,
            "n": 1,
            "o": 74.2875,
            "t": 1578027600000,
            "v": 146535512,
            "vw": 74.7026,
        },
    ],
    "resultsCount": 2,
    "status": "OK",
    "ticker": "AAPL",
}
AS_TRADED = {**BARS, "adjusted": False}
NO_BARS = {
    "ticker": "ZZZZ",
    "queryCount": 0,
    "resultsCount": 0,
    "adjusted": True,
    "status": "OK",
    "request_id": "req-empty",
    "count": 0,
}
NEWS = {
    "count": 1,
    "next_url": "https://api.massive.com:443/v2/reference/news?cursor=...",
    "request_id": "831afdb0b8078549fed053476984947a",
    "results": [{**simulated.ARTICLE, "published_utc": "2024-06-24T18:33:53Z", "tickers": ["UBS"]}],
    "status": "OK",
}
LIMIT = {
    "status": "ERROR",
    "request_id": "aabbccddeeff00112233445566778899",
    "error": "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to "
    "continue.",
}
PLAN = {
    "status": "NOT_AUTHORIZED",
    "request_id": "8d40e43d65b20250455760ccfa4e3e0b",
    "message": "You are not entitled to this data. Please upgrade your plan at https://polygon.io/pricing",
}
MALFORMED = {"status": "ERROR", "request_id": "x", "error": "a query parameter was malformed"}
NO_TICKER = {"status": "NotFound", "request_id": "x", "message": "Ticker not found."}
UNKNOWN_KEY = {"status": "ERROR", "request_id": "x", "error": "Unknown API Key"}
INTERNAL = {"status": "ERROR", "request_id": "x", "error": "internal error"}

DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 200, {**QUOTE, "status": "DELAYED"}, "success"),
    Documented("quote", 200, {**QUOTE, "ticker": NO_TRADES}, "success"),
    Documented("quote", 200, {**QUOTE, "ticker": AT_NIGHT}, "empty"),
    Documented("quote", 404, NO_TICKER, "not_found"),
    # as it is for a request with adjusted=true; the row asks for prices as they were traded
    Documented("bars", 200, BARS, "provider_failure"),
    Documented("bars", 200, AS_TRADED, "success"),
    Documented("bars", 200, {**AS_TRADED, "status": "DELAYED"}, "success"),
    Documented("bars", 200, NO_BARS, "not_found"),
    Documented("bars", 200, {**NO_BARS, "resultsCount": 2}, "provider_failure"),
    Documented("news", 200, NEWS, "success", symbol="UBS"),
    Documented("news", 200, {**NEWS, "count": 0, "results": []}, "empty"),
    *(
        reply
        for dataset in ("quote", "bars", "news")
        for reply in (
            Documented(dataset, 429, LIMIT, "rate_limit", 60),
            Documented(dataset, 429, "", "rate_limit", 60),
            Documented(dataset, 403, PLAN, "entitlement", 86_400),
            Documented(dataset, 401, UNKNOWN_KEY, "auth", 300),
            Documented(dataset, 400, MALFORMED, "caller_error"),
            Documented(dataset, 500, INTERNAL, "provider_failure"),
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure"),
        )
    ),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "empty")),
]
