from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import eodhd as simulated

QUOTE = {
    **simulated.QUOTE,
    "code": "AAPL.US",
    "timestamp": 1729888080,
    "close": 231.41,
    "change": 0.84,
    "change_p": 0.3643,
}
UNKNOWN = simulated.UNKNOWN_QUOTE
BARS = [{"date": "2022-01-03", **simulated.BAR}]
NOTICE = "Data is limited by one year as you have free subscription."
NEWS = [
    {
        **simulated.ARTICLE,
        "date": "2024-06-05T20:35:00+00:00",
        "link": "https://finance.yahoo.com/news/...",
        "symbols": ["AAPL.US"],
    }
]
DAILY = "You exceeded your daily API requests limit.  Please contact support@eodhistoricaldata.com"

DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 200, {**QUOTE, "open": "NA", "change_p": None}, "success"),
    Documented("quote", 200, {**QUOTE, "code": "BRK-B.US"}, "success", symbol="BRK.B"),
    Documented("quote", 200, {**QUOTE, "code": "BRK-B.US"}, "success", symbol="BRK-B"),
    Documented("quote", 200, {**QUOTE, "code": "MSFT.US"}, "provider_failure"),
    Documented("quote", 200, UNKNOWN, "not_found", symbol="ZZZTOP"),
    Documented("quote", 403, "Only EOD data allowed for free users", "entitlement", 86_400),
    Documented("quote", 402, DAILY, "quota", 86_400),
    Documented("quote", 401, "Unauthenticated", "auth", 300),
    Documented("quote", 404, "Ticker Not Found.", "not_found"),
    Documented("quote", 400, None, "caller_error"),
    Documented("quote", 429, "...", "rate_limit", 60),
    Documented("quote", 502, BAD_GATEWAY, "provider_failure"),
    Documented("bars", 200, BARS, "success"),
    Documented("bars", 200, [*BARS, {"warning": NOTICE}], "success"),
    Documented("bars", 200, [{**BARS[0], "warning": NOTICE}], "success"),
    Documented("bars", 200, [{"warning": NOTICE}], "empty"),
    Documented("bars", 404, "Ticker Not Found.", "not_found"),
    Documented("news", 200, NEWS, "success"),
    Documented("news", 200, [], "empty"),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "not_found")),
]
