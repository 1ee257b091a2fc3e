from tests.contract.replies import Documented
from workers.simulator.replies import ecb as simulated

CSV, TEXT = ({"Content-Type": kind} for kind in ("text/csv", "text/plain"))


def lines(*rows: str) -> str:
    return "\r\n".join([simulated.HEADER, *rows, ""])


def rate(day: str, value: str, currency: str = "USD") -> str:
    return f"EXR.D.{currency}.EUR.SP00.A,D,{currency},EUR,SP00,A,{day},{value}"


RATES = lines(rate("2026-11-19", "1.1583"), rate("2026-11-20", "1.152"))
HOLIDAY = lines(rate("2026-04-02", "1.15"), rate("2026-04-03", "NaN"))
MONTHS = lines("ICP.M.U2.N.000000.4.ANR,M,U2,N,000000,4,2026-09,2.2")
DETAILED = "\r\n".join(
    [
        f"{simulated.HEADER},OBS_STATUS,TITLE",
        f'{rate("2026-11-20", "1.152")},A,"US dollar/Euro, reference"',
        "",
    ]
)
INFLATION = "ECB:ICP:M.U2.N.000000.4.ANR"

BY_STATUS = {401: "provider_failure", 403: "provider_failure"}  # there is no key
BY_BODY = {b"": "empty"}
DOCUMENTED = [
    Documented("quote", 200, RATES, "success", headers=CSV),
    Documented("quote", 200, RATES, "provider_failure", headers=CSV, symbol="EUR/GBP"),
    Documented("quote", 200, lines(rate("2026-04-03", "NaN")), "empty", headers=CSV),
    Documented("quote", 200, lines(), "not_found", headers=CSV),
    Documented("observations", 200, RATES, "success", headers=CSV),
    Documented("observations", 200, HOLIDAY, "success", headers=CSV),
    Documented("observations", 200, DETAILED, "success", headers=CSV),
    Documented("observations", 200, MONTHS, "success", headers=CSV, symbol=INFLATION),
    Documented("observations", 200, RATES, "provider_failure", headers=CSV, symbol=INFLATION),
    Documented("observations", 200, lines(), "empty", headers=CSV),
    *(
        reply
        for dataset in ("quote", "observations")
        for reply in (
            Documented(dataset, 404, "No results found.", "not_found", headers=TEXT),
            Documented(dataset, 400, "", "caller_error"),
            Documented(dataset, 406, "", "caller_error"),
            Documented(dataset, 500, "", "provider_failure"),
            Documented(dataset, 503, "", "provider_failure"),
        )
    ),
]
