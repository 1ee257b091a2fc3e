from tests.contract.replies import Documented
from workers.simulator.replies import binance as simulated

BY_STATUS = {401: "provider_failure", 403: "rate_limit", 418: "rate_limit"}
QUOTE = simulated.TICKER
KLINES = [simulated.KLINE]
NO_TRADE = {**QUOTE, "lastPrice": "0.00000000", "bidPrice": "0.00000000"}


def error(code: int, message: str) -> dict[str, object]:
    return {"code": code, "msg": message}


UNKNOWN = error(-1121, "Invalid symbol.")
WEIGHT = error(-1003, "Too much request weight used; current limit is 6000 request weight per 1 MINUTE.")
BANNED = error(-1003, "Way too much request weight used; IP banned until 1763672460000.")
COUNTRY = error(0, "Service unavailable from a restricted location according to 'b. Eligibility'.")
WAITED = {"Retry-After": "30"}

DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 200, NO_TRADE, "empty"),
    Documented("bars", 200, KLINES, "success"),
    Documented("bars", 200, [], "empty"),
    Documented("bars", 200, [simulated.KLINE[:4]], "provider_failure"),
    Documented("quote", 200, {**QUOTE, "symbol": "ETHUSDT"}, "provider_failure"),
    *(
        reply
        for dataset in ("quote", "bars")
        for reply in (
            Documented(dataset, 400, UNKNOWN, "not_found"),
            Documented(
                dataset, 400, error(-1102, "Mandatory parameter 'symbol' was not sent."), "caller_error"
            ),
            Documented(dataset, 400, error(-1001, "Internal error; unable to process."), "provider_failure"),
            Documented(dataset, 429, WEIGHT, "rate_limit", 30, WAITED),
            Documented(dataset, 418, BANNED, "rate_limit", 30, WAITED),
            Documented(dataset, 418, "", "rate_limit", 120),
            Documented(dataset, 403, "<html><h1>403 Forbidden</h1></html>", "rate_limit", 60),
            Documented(dataset, 451, COUNTRY, "entitlement", 86_400),
            Documented(
                dataset,
                503,
                error(-1008, "Request throttled by system-level protection."),
                "provider_failure",
            ),
        )
    ),
]
