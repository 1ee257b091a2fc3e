from tests.contract.replies import Documented
from workers.simulator.replies import coinbase as simulated

QUOTE = simulated.TICKER
CANDLES = [simulated.CANDLE]


def error(message: str) -> dict[str, object]:
    return {"message": message}


BY_STATUS = {401: "provider_failure", 403: "provider_failure"}  # there is no key
DOCUMENTED = [
    Documented("quote", 200, QUOTE, "success"),
    Documented("quote", 200, {**QUOTE, "price": None}, "empty"),
    Documented("bars", 200, CANDLES, "success"),
    Documented("bars", 200, [], "empty"),
    Documented("bars", 200, [simulated.CANDLE[:5]], "provider_failure"),
    *(
        reply
        for dataset in ("quote", "bars")
        for reply in (
            Documented(dataset, 404, error("NotFound"), "not_found"),
            Documented(dataset, 400, error("Not allowed for delisted products"), "not_found"),
            Documented(dataset, 400, error("Unsupported granularity"), "caller_error"),
            Documented(dataset, 429, error("Public rate limit exceeded"), "rate_limit", 1),
            Documented(dataset, 500, error("Internal server error"), "provider_failure"),
        )
    ),
]
