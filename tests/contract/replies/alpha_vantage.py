from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import alpha_vantage as simulated

BURST = (
    "Thank you for using Alpha Vantage! Please consider spreading out your free API requests more "
    "sparingly (1 request per second). You may subscribe to any of the premium plans at "
    "https://www.alphavantage.co/premium/ to lift the free key rate limit (25 requests per day) and "
    "instantly remove all daily rate limits."
)
DAILY = (
    "We have detected your API key as {key} and our standard API rate limit is 25 requests per day. Please "
    "subscribe to any of the premium plans at https://www.alphavantage.co/premium/ to instantly remove all "
    "daily rate limits."
)
NOTE = (
    "Thank you for using Alpha Vantage! Our standard API call frequency is 5 calls per minute and 500 calls "
    "per day. Please visit https://www.alphavantage.co/premium/ if you would like to target a higher API "
    "call frequency."
)
KEY = (
    "the parameter apikey is invalid or missing. Please claim your free API key on "
    "(https://www.alphavantage.co/support/#api-key). It should take less than 20 seconds."
)
CALL = (
    "Invalid API call. Please retry or visit the documentation (https://www.alphavantage.co/documentation/) "
    "for TIME_SERIES_DAILY."
)
PREMIUM = (
    "Thank you for using Alpha Vantage! This is a premium endpoint. You may subscribe to any of the premium "
    "plans at https://www.alphavantage.co/premium/ to instantly unlock all premium endpoints"
)
DEMO = (
    "The **demo** API key is for demo purposes only. Please claim your free API key at "
    "(https://www.alphavantage.co/support/#api-key) to explore our full API offerings."
)
QUOTE = simulated.QUOTE
DAY = simulated.BAR
BARS = {
    "Meta Data": {
        "1. Information": "Daily Prices (open, high, low, close) and Volumes",
        "2. Symbol": "IBM",
        "3. Last Refreshed": "2024-11-01",
        "4. Output Size": "Compact",
        "5. Time Zone": "US/Eastern",
    },
    "Time Series (Daily)": {"2024-11-04": {**DAY, "4. close": "207.0000"}, "2024-11-01": DAY},
}
FEED = {
    **simulated.FEED,
    "items": "1",
    "feed": [
        {
            **simulated.ARTICLE,
            "time_published": "20250120T100000",
            "ticker_sentiment": [
                {
                    "ticker": "IBM",
                    "relevance_score": "0.9",
                    "ticker_sentiment_score": "0.4567",
                    "ticker_sentiment_label": "Bullish",
                }
            ],
        }
    ],
}

DOCUMENTED = [
    Documented("quote", 200, {"Global Quote": QUOTE}, "success", symbol="MSFT"),
    Documented("quote", 200, {"Global Quote - DATA DELAYED BY 15 MINUTES": QUOTE}, "success", symbol="MSFT"),
    Documented("quote", 200, {"Information": BURST}, "rate_limit", 2),
    Documented("quote", 200, {"Information": DAILY.format(key="REDACTED")}, "quota", 86_400),
    Documented("quote", 200, {"Note": NOTE}, "rate_limit", 60),
    Documented("quote", 200, {"Error Message": KEY}, "auth", 300),
    Documented("quote", 200, {"Information": DEMO}, "auth", 300),
    Documented("quote", 200, {"Error Message": CALL}, "not_found"),
    Documented("quote", 200, {"Global Quote": {}}, "not_found"),
    Documented("quote", 200, {"Information": PREMIUM}, "entitlement", 86_400),
    Documented("quote", 502, BAD_GATEWAY, "provider_failure"),
    Documented("bars", 200, BARS, "success", symbol="IBM"),
    Documented("bars", 200, {"Error Message": CALL}, "not_found"),
    Documented("bars", 200, {"Information": DAILY.format(key="REDACTED")}, "quota", 86_400),
    Documented("bars", 200, {"Information": PREMIUM}, "entitlement", 86_400),
    Documented("bars", 200, {**BARS, "Time Series (Daily)": {}}, "empty"),
    Documented("news", 200, FEED, "success", symbol="IBM"),
    Documented("news", 200, {**FEED, "items": "0", "feed": []}, "empty"),
    Documented("news", 200, {"Information": BURST}, "rate_limit", 2),
    Documented("news", 200, {"Information": simulated.INVALID_INPUTS}, "not_found"),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "not_found")),
]
