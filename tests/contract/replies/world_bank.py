from tests.contract.replies import BAD_GATEWAY, Documented

PAGING = {"page": 1, "pages": 1, "per_page": 50, "total": 1, "sourceid": "2", "lastupdated": "2026-10-01"}
ROW = {
    "indicator": {"id": "NY.GDP.MKTP.CD", "value": "GDP (current US$)"},
    "country": {"id": "US", "value": "United States"},
    "countryiso3code": "USA",
    "date": "2023",
    "value": 27360935000000,
    "unit": "",
    "obs_status": "",
    "decimal": 0,
}
MANY = [{**ROW, "date": "2023Q4", "value": None}, {**ROW, "date": "2023M08"}, {**ROW, "date": "1960"}]
RUPIAHS = {**ROW, "countryiso3code": "IDN", "value": 20892376700000000}
EMPTY = {"page": 0, "pages": 0, "per_page": 50, "total": 0, "sourceid": None, "lastupdated": None}


def message(number: str, key: str, value: str) -> list[object]:
    return [{"message": [{"id": number, "key": key, "value": value}]}]


INVALID = message("120", "Invalid value", "The provided parameter value is not valid")
ARCHIVED = message(
    "175", "Invalid format", "The indicator was not found. It may have been deleted or archived."
)
NOT_JSON = '<?xml version="1.0"?><wb:error><wb:message id="175" key="...">...</wb:message></wb:error>'
XML = {"Content-Type": "text/xml"}

DOCUMENTED = [
    Documented("observations", 200, [PAGING, [ROW]], "success"),
    Documented("observations", 200, [{**PAGING, "total": 3}, MANY], "success"),
    Documented("observations", 200, [PAGING, [RUPIAHS]], "success", symbol="WB:IDN:NY.GDP.MKTP.CN"),
    Documented("observations", 200, [EMPTY, None], "empty"),
    Documented("observations", 200, INVALID, "not_found"),
    Documented("observations", 200, ARCHIVED, "not_found"),
    Documented(
        "observations", 200, message("105", "Service currently unavailable", "..."), "provider_failure"
    ),
    Documented(
        "observations",
        200,
        '<?xml version="1.0" encoding="utf-8"?><wb:error ...>',
        "provider_failure",
        headers=XML,
    ),
    Documented("observations", 200, NOT_JSON, "not_found", headers=XML),
    Documented("observations", 502, BAD_GATEWAY, "provider_failure"),
]
# There is no key, and every error of its own is 200.
BY_STATUS = {401: "provider_failure", 403: "provider_failure", 404: "provider_failure"}
