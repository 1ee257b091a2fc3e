from tests.contract.replies import BAD_GATEWAY, Documented

REQUEST = "657e430f1ae768891f018e08e03598d8"
TICKER = {
    "day": {"c": 120.4229, "h": 120.53, "l": 118.81, "o": 119.62, "v": 28727868, "vw": 119.725},
    "lastQuote": {"P": 120.47, "S": 4, "p": 120.46, "s": 8, "t": 1605195918507251700},
    "lastTrade": {"c": [14, 41], "i": "4046", "p": 120.47, "s": 236, "t": 1605195918306274000, "x": 10},
    "min": {
        "av": 28724441,
        "c": 120.4201,
        "h": 120.468,
        "l": 120.37,
        "n": 762,
        "o": 120.435,
        "t": 1684428720000,
        "v": 270796,
        "vw": 120.4129,
    },
    "prevDay": {"c": 119.49, "h": 119.63, "l": 116.44, "o": 117.19, "v": 110597265, "vw": 118.4998},
    "ticker": "AAPL",
    "todaysChange": 0.98,
    "todaysChangePerc": 0.82,
    "updated": 1605195918306274000,
}
QUOTE = {"request_id": REQUEST, "status": "OK", "ticker": TICKER}
NO_TRADES = {name: value for name, value in TICKER.items() if name not in ("lastTrade", "lastQuote")}
AT_NIGHT = {**NO_TRADES, "min": dict.fromkeys(TICKER["min"], 0), "day": dict.fromkeys(TICKER["day"], 0)}
BARS = {
    "adjusted": True,
    "next_url": "https://api.massive.com/v2/aggs/ticker/AAPL/range/1/day/1578114000000/2020-01-10"
    "?cursor=bGltaXQ9MiZzb3J0PWFzYw",
    "queryCount": 2,
    "request_id": "6a7e466379af0a71039d60cc78e72282",
    "results": [
        {
            "c": 75.0875,
            "h": 75.15,
            "l": 73.7975,
            "n": 1,
            "o": 74.06,
            "t": 1577941200000,
            "v": 135647456,
            "vw": 74.6099,
        },
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
    "results": [
        {
            "id": "8ec638777ca03b553ae516761c2a22ba2fdd2f37befae3ab6fdab74e9e5193eb",
            "publisher": {
                "name": "Investing.com",
                "homepage_url": "https://www.investing.com/",
                "logo_url": "https://s3.massive.com/public/assets/news/logos/investing.png",
                "favicon_url": "https://s3.massive.com/public/assets/news/favicons/investing.ico",
            },
            "title": "Markets are underestimating Fed cuts: UBS By Investing.com - Investing.com UK",
            "author": "Sam Boughedda",
            "published_utc": "2024-06-24T18:33:53Z",
            "article_url": "https://uk.investing.com/...",
            "tickers": ["UBS"],
            "amp_url": "https://m.uk.investing.com/...",
            "image_url": "https://i-invdn-com.investing.com/news/LYNXNPEC4I0AL_L.jpg",
            "description": "UBS analysts warn ...",
            "keywords": ["Federal Reserve", "interest rates", "economic data"],
            "insights": [{"ticker": "UBS", "sentiment": "positive", "sentiment_reasoning": "..."}],
        }
    ],
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
    Documented("quote", 200, {**QUOTE, "ticker": AT_NIGHT}, "not_found"),
    Documented("quote", 404, NO_TICKER, "not_found"),
    Documented("bars", 200, BARS, "success"),
    Documented("bars", 200, {**BARS, "adjusted": False}, "success"),
    Documented("bars", 200, {**BARS, "status": "DELAYED"}, "success"),
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
            Documented(dataset, 403, PLAN, "entitlement", 3_600),
            Documented(dataset, 401, UNKNOWN_KEY, "auth", 300),
            Documented(dataset, 400, MALFORMED, "caller_error"),
            Documented(dataset, 500, INTERNAL, "provider_failure"),
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure"),
        )
    ),
]
