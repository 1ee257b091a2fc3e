from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import marketstack as simulated

BAR = {**simulated.BAR, "symbol": "AAPL", "date": "2021-04-09T00:00:00+0000"}

PRICE = {**simulated.PRICE, "ticker": "AAPL", "price": "231.41", "trade_last": "2026-10-25 15:59:59"}


def page(*rows: object) -> dict[str, object]:
    pagination = {"limit": 100, "offset": 0, "count": len(rows), "total": len(rows)}
    return {"pagination": pagination, "data": list(rows)}


def error(code: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "message": message}}


SECOND = error(
    "rate_limit_reached", "The given user account has reached the rate limit (5 requests per second)."
)
MONTH = error("too_many_requests", "The given user account has reached its monthly allowed request volume.")
NO_KEY = error(
    "missing_access_key",
    "You have not supplied an API Access Key. [Required format: access_key=YOUR_ACCESS_KEY]",
)
NOT_IN_PLAN = error(
    "function_access_restricted",
    "The given API endpoint is not supported on the current subscription plan.",
)
NO_HTTPS = error("https_access_restricted", "HTTPS access is not supported on the current subscription plan.")
NO_SYMBOL = error("no_valid_symbols_provided", "At least one valid symbol must be provided")

DOCUMENTED = [
    Documented("bars", 200, page(BAR), "success"),
    Documented("quote", 200, {"data": [PRICE]}, "success"),
    Documented("quote", 200, {"data": []}, "not_found"),
    Documented("quote", 403, NOT_IN_PLAN, "entitlement", 86_400),
    Documented("bars", 200, page(), "not_found"),
    Documented("bars", 422, NO_SYMBOL, "not_found"),
    Documented("bars", 422, error("validation_error", "..."), "caller_error"),
    Documented("bars", 429, SECOND, "rate_limit", 1),
    Documented("bars", 429, MONTH, "quota", 31 * 86_400),
    Documented("bars", 429, error("usage_limit_reached", "..."), "quota", 31 * 86_400),
    Documented("bars", 401, NO_KEY, "auth", 300),
    Documented("bars", 403, NOT_IN_PLAN, "entitlement", 86_400),
    Documented("bars", 403, NO_HTTPS, "entitlement", 86_400),
    Documented("bars", 404, error("404_not_found", "Resource not found."), "not_found"),
    Documented("bars", 500, error("internal_error", "An internal error occurred."), "provider_failure"),
    Documented("bars", 502, BAD_GATEWAY, "provider_failure"),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "not_found")),
]
