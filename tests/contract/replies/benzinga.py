from tests.contract.replies import Documented
from workers.simulator.replies import benzinga as simulated

NEWS = [
    {
        **simulated.ARTICLE,
        "id": 39518145,
        "created": "Thu, 27 Jun 2024 03:33:35 -0400",
        "updated": "Thu, 27 Jun 2024 03:33:35 -0400",
        "body": "<p>...</p>",
        "image": [
            {"size": "thumb", "url": "https://cdn.benzinga.com/..."},
            {"size": "small", "url": "https://cdn.benzinga.com/..."},
            {"size": "large", "url": "https://cdn.benzinga.com/..."},
        ],
        "stocks": [{"name": "AAPL"}],
    }
]
CURRENCY = [{**NEWS[0], "image": [], "stocks": [{"name": "$BTC"}, {"name": "AAPL"}]}]
QUOTE = {
    "F": {
        **simulated.QUOTE,
        "symbol": "F",
        "description": "Ford Motor Company Common Stock",
        "sector": "Consumer Cyclical",
        "industry": "Auto Manufacturers",
        "lastTradePrice": 13.59,
        "lastTradeTime": 1457125230000,
        "change": 0.05,
        "changePercent": 0.37,
    }
}
LIMIT = {"message": "API rate limit exceeded"}
LIMIT_HEADERS = {"Retry-After": "<seconds>", "RateLimit-Reset": "<seconds>"}
BROKEN = simulated.BROKEN.body

DOCUMENTED = [
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, CURRENCY, "success"),
    Documented("news", 200, [], "empty"),
    Documented("news", 200, ['Access Denied for user 0 "Benzinga News API"'], "entitlement", 86_400),
    Documented("news", 401, ['Access denied for user 0 "anonymous"'], "auth", 300),
    Documented("news", 403, {"message": "Forbidden"}, "entitlement", 86_400),
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
