from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import fmp as simulated

QUOTE = {
    **simulated.QUOTE,
    "symbol": "AAPL",
    "price": 232.8,
    "changePercentage": 2.1008,
    "change": 4.79,
    "timestamp": 1738702801,
}
BARS = [{**simulated.BAR, "symbol": "AAPL", "date": "2025-02-04"}]
NEWS = [
    {
        **simulated.ARTICLE,
        "symbol": "AAPL",
        "publishedDate": "2025-02-03 21:05:14",
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
    Documented("quote", 402, PREMIUM, "entitlement", 86_400),
    Documented("quote", 403, LEGACY, "retired", 86_400),
    Documented("quote", 502, BAD_GATEWAY, "provider_failure"),
    Documented("bars", 200, BARS, "success"),
    Documented("bars", 200, [], "not_found"),
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, [], "empty"),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "empty")),
]
BY_STATUS = {402: "entitlement"}
