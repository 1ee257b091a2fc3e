from tests.contract.replies import BAD_GATEWAY, Documented

QUOTE = {
    "messages": [
        (
            "market_center, listing_venue, sales_conditions, and quote_conditions are only available with "
            "our delayed sip feed."
        )
    ],
    "last_price": 189.38,
    "last_time": "2023-11-17T15:23:47.252Z",
    "last_size": 100,
    "bid_price": 186.9,
    "bid_size": 100,
    "ask_price": 189.36,
    "ask_size": 600,
    "open_price": 190.14,
    "close_price": 189.38,
    "high_price": 190.35,
    "low_price": 188.58,
    "exchange_volume": 151884,
    "market_volume": None,
    "updated_on": "2023-11-17T15:23:51.999Z",
    "source": "iex",
    "listing_venue": None,
    "sales_conditions": None,
    "quote_conditions": None,
    "market_center_code": "I",
    "is_darkpool": False,
    "security": {
        "id": "sec_agjrgj",
        "ticker": "AAPL",
        "exchange_ticker": "AAPL:UW",
        "figi": "BBG000B9Y5X2",
        "composite_figi": "BBG000B9XRY4",
    },
}
BARS = {
    "stock_prices": [
        {
            "date": "2023-11-16",
            "intraperiod": False,
            "frequency": "daily",
            "open": 189.57,
            "high": 190.96,
            "low": 188.65,
            "close": 189.71,
            "volume": 54412900.0,
            "adj_open": 189.57,
            "adj_high": 190.96,
            "adj_low": 188.65,
            "adj_close": 189.71,
            "adj_volume": 54412900.0,
            "factor": 1.0,
            "split_ratio": 1.0,
            "dividend": 0.0,
            "change": 1.7,
            "percent_change": 0.009,
            "fifty_two_week_high": 198.23,
            "fifty_two_week_low": 124.17,
        }
    ],
    "security": {"id": "sec_agjrgj", "ticker": "AAPL"},
    "next_page": None,
}
NEWS = {
    "news": [
        {
            "id": "nws_xxxx",
            "title": "...",
            "publication_date": "2023-11-17T15:00:00.000Z",
            "url": "https://...",
            "summary": "...",
            "source": "yahoo",
        }
    ],
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
            Documented(dataset, 403, PLAN, "entitlement", 3_600),
            Documented(dataset, 404, {"error": "Identifier not found", "message": "..."}, "not_found"),
            Documented(dataset, 500, None, "provider_failure"),
            Documented(dataset, 503, "", "provider_failure"),  # after 25 seconds
            Documented(dataset, 502, BAD_GATEWAY, "provider_failure"),
        )
    ),
]
