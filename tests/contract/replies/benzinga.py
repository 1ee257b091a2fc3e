from tests.contract.replies import Documented

NEWS = [
    {
        "id": 39518145,
        "author": "Rounak Jain",
        "created": "Thu, 27 Jun 2024 03:33:35 -0400",
        "updated": "Thu, 27 Jun 2024 03:33:35 -0400",
        "title": "Apple Watch X: Cupertino's Special 10th Anniversary Edition To Reportedly Feature Largest "
        "Display Yet",
        "teaser": "New images of the rumored Apple Watch X or Series 10 have surfaced, ...",
        "body": "<p>...</p>",
        "url": "https://www.benzinga.com/news/24/06/39518145/apple-watch-x-...",
        "image": [
            {"size": "thumb", "url": "https://cdn.benzinga.com/..."},
            {"size": "small", "url": "https://cdn.benzinga.com/..."},
            {"size": "large", "url": "https://cdn.benzinga.com/..."},
        ],
        "channels": [{"name": "News"}, {"name": "Tech"}],
        "stocks": [{"name": "AAPL"}],
        "tags": [{"name": "Apple"}, {"name": "Apple Watch"}],
    }
]
CURRENCY = [{**NEWS[0], "image": [], "stocks": [{"name": "$BTC"}, {"name": "AAPL"}]}]
QUOTE = {
    "F": {
        "symbol": "F",
        "exchange": "XNYS",
        "isoExchange": "XNYS",
        "bzExchange": "NYSE",
        "type": "STOCK",
        "name": "Ford Motor",
        "description": "Ford Motor Company Common Stock",
        "sector": "Consumer Cyclical",
        "industry": "Auto Manufacturers",
        "open": 13.56,
        "high": 13.86,
        "low": 13.43,
        "close": 13.59,
        "bidPrice": 12.0,
        "askPrice": 13.95,
        "askSize": 10,
        "bidSize": 0,
        "size": 1875880,
        "bidTime": 1457139600000,
        "askTime": 1457139600000,
        "lastTradePrice": 13.59,
        "lastTradeTime": 1457125230000,
        "volume": 31818610,
        "change": 0.05,
        "changePercent": 0.37,
        "previousClosePrice": 13.54,
    }
}
LIMIT = {"message": "API rate limit exceeded"}
LIMIT_HEADERS = {"Retry-After": "<seconds>", "RateLimit-Reset": "<seconds>"}
BROKEN = {
    "data": None,
    "errors": [
        {
            "code": "database_query_error",
            "id": "ERR_12345",
            "value": "Unable to fetch data for symbol: INVALID",
        }
    ],
    "ok": False,
}

DOCUMENTED = [
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, CURRENCY, "success"),
    Documented("news", 200, [], "empty"),
    Documented("news", 200, ['Access Denied for user 0 "Benzinga News API"'], "entitlement", 3_600),
    Documented("news", 403, {"message": "Forbidden"}, "entitlement", 3_600),
    Documented("news", 400, '"Invalid or Missing Query Parameters"', "caller_error"),
    Documented("news", 404, None, "not_found"),
    Documented("news", 429, LIMIT, "rate_limit", 60, LIMIT_HEADERS),
    Documented("news", 429, LIMIT, "rate_limit", 7, {"RateLimit-Reset": "7"}),
    Documented("news", 499, '"Request Context Cancelled"', "provider_failure"),
    Documented("news", 500, '"Internal Error"', "provider_failure"),
    Documented("news", 500, BROKEN, "provider_failure"),
    Documented("news", 503, None, "provider_failure"),
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 200, {}, "not_found"),
    Documented("quote", 200, {**QUOTE, "F": "?"}, "provider_failure"),
]
