from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import finnhub as simulated

QUOTE = simulated.QUOTE
LIMIT = {"error": "API limit reached. Please try again later. Remaining Limit: 0"}
LIMIT_HEADERS = {
    "X-Ratelimit-Limit": "60",
    "X-Ratelimit-Remaining": "0",
    "X-Ratelimit-Reset": "<unix seconds>",
}
NEWS = [{**simulated.ARTICLE, "id": 25286, "datetime": 1569550360, "related": "AAPL"}]
CANDLES = {
    "c": [217.68, 221.03, 219.89],
    "h": [222.49, 221.5, 220.94],
    "l": [217.19, 217.1402, 218.83],
    "o": [221.03, 218.55, 220],
    "s": "ok",
    "t": [1569297600, 1569384000, 1569470400],
    "v": [33463820, 24018876, 20730608],
}
FILINGS = [
    {
        **simulated.FILING,
        "symbol": "AAPL",
        "filedDate": "2020-02-27 00:00:00",
        "acceptedDate": "2020-02-27 06:14:21",
    }
]

DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 429, LIMIT, "rate_limit", 60, LIMIT_HEADERS),
    Documented("quote", 403, {"error": "You don't have access to this resource."}, "entitlement", 86_400),
    Documented(
        "quote", 200, {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}, "not_found"
    ),
    Documented("quote", 200, [], "not_found"),
    Documented("quote", 502, BAD_GATEWAY, "provider_failure"),
    Documented("bars", 200, CANDLES, "success"),
    Documented("bars", 200, {"s": "no_data"}, "not_found"),
    Documented("bars", 200, {**CANDLES, "v": []}, "provider_failure"),
    Documented("bars", 403, {"error": "You don't have access to this resource."}, "entitlement", 86_400),
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, [], "empty"),
    Documented("news", 429, LIMIT, "rate_limit", 60),
    Documented("filings", 200, FILINGS, "success"),
    Documented("filings", 200, [], "empty"),
    Documented("filings", 403, {"error": "You don't have access to this resource."}, "entitlement", 86_400),
    *as_simulated(simulated.REPLIES, nothing={"bars_": "not_found", "dividends": "empty", "splits": "empty"}),
]
