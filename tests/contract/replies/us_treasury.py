from tests.contract.replies import Documented
from workers.simulator.replies import us_treasury as simulated

PAGE = "&page%5Bnumber%5D=1&page%5Bsize%5D=100"
RATE = {
    "record_date": "2026-09-30",
    "security_type_desc": "Marketable",
    "security_desc": "Treasury Bills",
    "avg_interest_rate_amt": "4.123",
}
RATES = {
    "data": [RATE],
    "meta": simulated.ENVELOPE["meta"],
    "links": {"self": PAGE, "first": PAGE, "prev": None, "next": None, "last": PAGE},
}
TIPS = "Treasury Inflation-Protected Securities (TIPS)"
UNKNOWN_PARAMETER = {
    "error": "Invalid Query Param",
    "message": "Invalid query parameter 'sorts' with value '[-record_date]'. For more information please see "
    "the documentation.",
}

DOCUMENTED = [
    Documented("observations", 200, RATES, "success"),
    Documented(
        "observations", 200, {**RATES, "data": [{**RATE, "avg_interest_rate_amt": "null"}]}, "success"
    ),
    Documented("observations", 200, RATES, "provider_failure", symbol="UST:TREASURY-NOTES"),
    Documented(
        "observations",
        200,
        {**RATES, "data": [{**RATE, "security_desc": TIPS}]},
        "success",
        symbol="UST:TREASURY-TIPS",
    ),
    Documented("observations", 200, {**RATES, "data": []}, "not_found"),
    Documented("observations", 429, "", "rate_limit", 60),
    Documented("observations", 400, UNKNOWN_PARAMETER, "caller_error"),
    Documented("observations", 403, "", "provider_failure"),
    Documented("observations", 500, "", "provider_failure"),
]
BY_STATUS = {401: "provider_failure", 403: "provider_failure"}  # there is no key
