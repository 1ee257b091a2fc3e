from tests.contract.replies import Documented
from workers.simulator.replies import iex_cloud as simulated

QUOTE = {
    "symbol": "AAPL",
    "companyName": "Apple Inc.",
    "primaryExchange": "Nasdaq Global Select",
    "open": 170.89,
    "high": 170.78,
    "low": 169.71,
    "latestPrice": 170.39,
    "latestUpdate": 1510942738831,
    "latestVolume": 13529933,
    "iexRealtimeSize": 200,
    "previousClose": 171.1,
    "change": -0.71,
    "changePercent": -0.00415,
    "iexBidPrice": 166.18,
    "iexBidSize": 100,
    "iexAskPrice": 172,
    "iexAskSize": 315,
}
CHART = [{"date": "2018-02-01", **simulated.BAR}]
NEWS = [{**simulated.ARTICLE, "datetime": 1545215400000, "related": "AAPL,AMZN,GOOG,GOOGL,MSFT"}]

DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("bars", 200, CHART, "success"),
    Documented("bars", 200, [], "empty"),
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, [], "empty"),
    Documented("quote", 429, "Too many requests", "rate_limit", 60),
    Documented("quote", 403, "The API key provided is not valid.", "auth", 300),
    Documented(
        "quote",
        402,
        "You have exceeded your allotted message quota. Please enable pay-as-you-go to regain access",
        "quota",
        86_400,
    ),
    Documented(
        "quote", 402, "The requested data is not available to your current tier.", "entitlement", 86_400
    ),
    Documented(
        "quote",
        403,
        "Your pay-as-you-go circuit breaker has been engaged and further requests are not allowed.",
        "quota",
        86_400,
    ),
    Documented(
        "quote", 451, "The requested data requires additional permission to access.", "entitlement", 86_400
    ),
    Documented("quote", 500, "System Error", "provider_failure"),
]
