from tests.contract.replies import Documented

QUOTE = {
    "bitcoin": {
        "usd": 76975,
        "usd_market_cap": 1542226908349.8406,
        "usd_24h_vol": 29096603418.89408,
        "usd_24h_change": -1.4093297098441402,
        "last_updated_at": 1779092258,
    }
}
LIMIT = {
    "status": {
        "error_code": 429,
        "error_message": "You've exceeded the Rate Limit. Please visit "
        "https://www.coingecko.com/en/api/pricing to subscribe to our API plans for higher rate limits.",
    }
}
AT = "2026-01-01T00:00:00.000+00:00"


def error(code: int, message: str) -> dict[str, object]:
    return {"status": {"timestamp": AT, "error_code": code, "error_message": message}}


BY_BODY = {b"{}": "not_found"}
HOST = "If you are using {} API key, please change your root URL from {} to {}"
PRO_KEY = HOST.format("Pro", "api.coingecko.com", "pro-api.coingecko.com")
DEMO_KEY = HOST.format("Demo", "pro-api.coingecko.com", "api.coingecko.com")
PRO = "This request is limited to PRO API subscribers. ..."
PRO_KEY = "If you are using Pro API key, please change your root URL from ... to pro-api.coingecko.com"
DEMO_KEY = "If you are using Demo API key, please change your root URL from pro-api.coingecko.com to ..."
LONG_AGO = "Public API users are limited to querying historical data within the past 365 days. ..."

DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 200, {}, "not_found"),
    Documented("quote", 200, {"bitcoin": {}}, "empty"),
    Documented("quote", 429, LIMIT, "rate_limit", 53, {"retry-after": "53"}),
    Documented("quote", 429, LIMIT, "rate_limit", 1, {"retry-after": "0"}),
    Documented("quote", 200, LIMIT, "rate_limit", 60),
    Documented("quote", 401, error(10002, "API Key Missing"), "auth", 300),
    Documented("quote", 401, {"error": error(10010, "Invalid API Key. ...")}, "auth", 300),
    Documented("quote", 400, error(10010, PRO_KEY), "auth", 300),
    Documented("quote", 400, error(10011, DEMO_KEY), "auth", 300),
    Documented("quote", 401, {"error": error(10005, PRO)}, "entitlement", 86_400),
    Documented("quote", 403, error(10005, PRO), "entitlement", 86_400),
    Documented("quote", 400, error(10010, PRO_KEY), "auth", 300),
    Documented("quote", 400, {"error_code": 10010, "status": {"error_message": PRO_KEY}}, "auth", 300),
    Documented("quote", 400, error(10011, DEMO_KEY), "auth", 300),
    Documented("quote", 401, {"error": error(10012, LONG_AGO)}, "entitlement", 86_400),
    Documented("quote", 408, "", "provider_failure"),
    Documented("quote", 503, "", "provider_failure"),
]
