from tests.contract.replies import Documented
from workers.simulator.replies import kraken as simulated

QUOTE = simulated.result("XXBTZEUR", [simulated.TRADE], "1763672397827736900")
BARS = simulated.result("XXBTZEUR", [simulated.DAY], 1763510400)


def error(text: str) -> dict[str, object]:
    return {"error": [text]}


BY_STATUS = {401: "provider_failure", 403: "provider_failure"}  # there is no key
DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented(
        "quote", 200, simulated.result("ZEURZUSD", [simulated.TRADE], "0"), "success", symbol="EUR/USD"
    ),
    Documented("quote", 200, simulated.result("XXBTZEUR", [], "0"), "empty"),
    Documented("quote", 200, {"error": [], "result": {"last": "0"}}, "provider_failure"),
    Documented("bars", 200, BARS, "success"),
    Documented("bars", 200, simulated.result("XXBTZEUR", [], 0), "empty"),
    Documented("bars", 200, simulated.result("XXBTZEUR", [simulated.DAY[:6]], 0), "provider_failure"),
    *(
        reply
        for dataset in ("quote", "bars")
        for reply in (
            Documented(dataset, 200, error("EQuery:Unknown asset pair"), "not_found"),
            Documented(dataset, 200, error("EGeneral:Too many requests"), "rate_limit", 5),
            Documented(dataset, 200, error("EAPI:Rate limit exceeded"), "rate_limit", 5),
            Documented(dataset, 200, error("EGeneral:Temporary lockout"), "rate_limit", 900),
            Documented(dataset, 200, error("EGeneral:Invalid arguments"), "caller_error"),
            Documented(dataset, 200, error("EService:Unavailable"), "provider_failure"),
            Documented(dataset, 200, error("EService:Busy"), "provider_failure"),
            Documented(dataset, 520, "", "provider_failure"),
        )
    ),
]
