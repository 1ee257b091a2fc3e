from tests.contract.replies import BAD_GATEWAY, Documented

QUOTE = {
    "symbol": "AAPL",
    "name": "Apple Inc.",
    "price": 232.8,
    "changePercentage": 2.1008,
    "change": 4.79,
    "volume": 44489128,
    "dayLow": 226.65,
    "dayHigh": 233.13,
    "yearHigh": 260.1,
    "yearLow": 164.08,
    "marketCap": 3500823120000,
    "priceAvg50": 240.2278,
    "priceAvg200": 219.98755,
    "exchange": "NASDAQ",
    "open": 227.2,
    "previousClose": 228.01,
    "timestamp": 1738702801,
}
BARS = [
    {
        "symbol": "AAPL",
        "date": "2025-02-04",
        "open": 227.2,
        "high": 233.13,
        "low": 226.65,
        "close": 232.8,
        "volume": 44489128,
        "change": 5.6,
        "changePercent": 2.46479,
        "vwap": 230.86,
    }
]
NEWS = [
    {
        "symbol": "AAPL",
        "publishedDate": "2025-02-03 21:05:14",
        "publisher": "Zacks Investment Research",
        "title": "...",
        "image": "https://images.financialmodelingprep.com/news/...",
        "site": "zacks.com",
        "text": "...",
        "url": "https://www.zacks.com/...",
    }
]


def error(message: str) -> dict[str, object]:
    return {"Error Message": message}


LIMIT = error(
    "Limit Reach . Please upgrade your plan or visit our documentation for more details at "
    "https://site.financialmodelingprep.com/"
)
BAD_KEY = error(
    "Invalid API KEY. Feel free to create a Free API Key or visit "
    "https://site.financialmodelingprep.com/faqs?search=why-is-my-api-key-invalid for more information."
)
LEGACY = error(
    "Legacy Endpoint : Due to Legacy endpoints being no longer supported - This endpoint is only available "
    "for legacy users who have valid subscriptions prior August 31, 2025."
)
PREMIUM = (
    "Premium Query Parameter: 'Special Endpoint : This value set for 'symbol' is not available under your "
    "current subscription"
)

DOCUMENTED = [
    Documented("quote", 200, [QUOTE], "success"),
    Documented("quote", 200, [], "not_found"),
    Documented("quote", 200, LIMIT, "quota", 86_400),
    Documented("quote", 429, LIMIT, "quota", 86_400),
    Documented("quote", 401, BAD_KEY, "auth", 300),
    Documented("quote", 200, BAD_KEY, "auth", 300),
    Documented("quote", 402, PREMIUM, "entitlement", 3_600),
    Documented("quote", 403, LEGACY, "retired", 86_400),
    Documented("quote", 502, BAD_GATEWAY, "provider_failure"),
    Documented("bars", 200, BARS, "success"),
    Documented("bars", 200, [], "not_found"),
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, [], "empty"),
]
BY_STATUS = {402: "entitlement"}
