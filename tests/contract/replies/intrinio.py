from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import intrinio as simulated

QUOTE = {
    **simulated.QUOTE,
    "last_price": 189.38,
    "last_time": "2023-11-17T15:23:47.252Z",
    "updated_on": "2023-11-17T15:23:51.999Z",
}
BARS = {
    "stock_prices": [{"date": "2023-11-16", **simulated.BAR}],
    "security": {"id": "sec_agjrgj", "ticker": "AAPL"},
    "next_page": None,
}
NEWS = {
    "news": [{**simulated.ARTICLE, "publication_date": "2023-11-17T15:00:00.000Z"}],
    "company": {"id": "com_NX6GzO", "ticker": "AAPL"},
    "next_page": None,
}
LIMIT = {"error": "You have reached your limit", "message": "..."}
KEY = {"error": "API Key was invalid.", "message": "API Key was formatted invalidly."}
PLAN = {
    "error": "You do not have sufficient access to view this data",
    "message": "Please contact sales@intrinio.com to access this data.",
}

DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("bars", 200, BARS, "success"),
    Documented("bars", 200, {**BARS, "stock_prices": []}, "empty"),
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, {**NEWS, "news": []}, "empty"),
    *(
        reply
        for dataset in ("quote", "bars", "news")
        for reply in (
            Documented(dataset, 429, LIMIT, "rate_limit", 30, {"Retry-After": "30"}),
            Documented(dataset, 429, LIMIT, "rate_limit", 60, {"Retry-After": "<seconds>"}),
            Documented(dataset, 401, KEY, "auth", 300),
            Documented(dataset, 403, PLAN, "entitlement", 86_400),
            Documented(dataset, 404, {"error": "Identifier not found", "message": "..."}, "not_found"),
            Documented(dataset, 500, None, "provider_failure"),
            Documented(dataset, 503, "", "provider_failure"),  # after 25 seconds
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure"),
        )
    ),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "not_found")),
]
