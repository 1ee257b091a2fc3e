from tests.contract.replies import BAD_GATEWAY, Documented, as_simulated
from workers.simulator.replies import twelvedata as simulated

QUOTE = simulated.QUOTE
META = {"symbol": "AAPL", **simulated.META}
BARS = {"meta": META, "values": [{"datetime": "2021-09-16", **simulated.BAR}], "status": "ok"}
# As documented: what was asked for a minute is good, but not what is asked for here.
MINUTES = {
    **BARS,
    "meta": {**META, "interval": "1min"},
    "values": [{"datetime": "2021-09-16 15:59:00", **simulated.BAR}],
}
MINUTE = (
    "You have run out of API credits for the current minute. 9 API credits were used, with the current limit "
    "being 8. Wait for the next minute or consider upgrading your plan at https://twelvedata.com/pricing"
)
# undocumented: as its clients report it
DAY = (
    "You have run out of API credits for the day. 1316 API credits were used, with the current limit being "
    "800."
)
INTERVAL = (
    "Invalid **interval** provided: 0.99min. Supported intervals: 1min, 5min, 15min, 30min, 45min, 1h, 2h, "
    "4h, 8h, 1day, 1week, 1month"
)
NO_SYMBOL = (
    "**symbol** or **figi** parameter is missing or invalid. Please provide a valid symbol according to API "
    "documentation: https://twelvedata.com/docs#reference-data"
)
NOT_FOUND = "**symbol** not found: NOPE. Please specify it correctly."
PLAN = "This symbol is available starting with Grow plan. Consider upgrading: https://twelvedata.com/pricing"
NO_DATA = "No data is available on the specified dates. Try setting different start/end dates."


def error(code: int, message: str) -> dict[str, object]:
    return {"code": code, "message": message, "status": "error"}


ERRORS = [
    (error(429, MINUTE), "rate_limit", 60),
    (error(429, DAY), "quota", 86_400),
    (error(401, "apikey parameter is incorrect or not specified"), "auth", 300),
    (error(403, "API key lacks permissions for the requested resource"), "entitlement", 86_400),
    (error(403, PLAN), "entitlement", 86_400),
    (error(404, PLAN), "entitlement", 86_400),
    (error(400, INTERVAL), "caller_error", None),
    (error(414, "Input parameter array exceeds the allowed length"), "caller_error", None),
    (error(404, NO_SYMBOL), "not_found", None),
    (error(400, NO_SYMBOL), "not_found", None),
    (error(404, NOT_FOUND), "not_found", None),
    (error(404, "Not Found"), "not_found", None),
    (error(400, NO_DATA), "empty", None),
    (error(520, "error message"), "provider_failure", None),
    (error(500, "error message"), "provider_failure", None),
]

DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 200, {**QUOTE, "last_quote_at": None, "volume": None}, "success"),
    Documented("bars", 200, BARS, "success"),
    Documented("bars", 200, {**BARS, "values": []}, "empty"),
    Documented("bars", 200, MINUTES, "provider_failure"),
    Documented("bars", 200, {**BARS, "meta": {**META, "interval": "45min"}}, "provider_failure"),
    # Currencies have no exchange, and its clock neither.
    Documented("bars", 200, {**BARS, "meta": {"symbol": "AAPL", "interval": "1day"}}, "success"),
    Documented("bars", 200, {**BARS, "meta": {**META, "exchange_timezone": "Mars"}}, "provider_failure"),
    Documented("bars", 200, {**BARS, "meta": {**META, "exchange_timezone": "America"}}, "provider_failure"),
    Documented("quote", 502, BAD_GATEWAY, "provider_failure"),
    # Clients report each of them with its own status, and with 200.
    *(
        Documented(dataset, status, body, verdict, hold)
        for body, verdict, hold in ERRORS
        for status in (body["code"], 200)
        for dataset in ("quote", "bars")
    ),
    *as_simulated(simulated.REPLIES, nothing=dict.fromkeys(("bars_", "dividends", "splits"), "not_found")),
]
