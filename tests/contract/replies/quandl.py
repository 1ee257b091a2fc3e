from tests.contract.replies import BAD_GATEWAY, Documented

HEAD = {
    "limit": None,
    "transform": None,
    "column_index": None,
    "column_names": ["Date", "Value"],
    "start_date": "2014-02-01",
    "end_date": "2015-07-29",
    "frequency": "daily",
    "data": [["2015-07-11", 444.3], ["2015-07-13", 433.3]],
    "collapse": None,
    "order": "asc",
}


def series(**changed: object) -> dict[str, object]:
    return {"dataset_data": {**HEAD, **changed}}


def error(code: str, message: str) -> dict[str, object]:
    return {"quandl_error": {"code": code, "message": message}}


TEN_MINUTES = "You have exceeded your 10-minute call limit as a registered user."
DAILY = "You have exceeded your daily call limit as a registered user."
BAD_KEY = "We could not recognize your API key. Please check your API key and try again."
NO_KEY = "A valid API key is required to retrieve data."
NO_PERMISSION = (
    "You do not have permission to view this dataset. Please subscribe to this database to get access."
)
NO_TABLE = "You have submitted an incorrect Table code. Please check your Table codes and try again."
RETIRED = "This dataset has been deprecated and cannot be called."
BAD_FILTER = "You cannot use start_date column as a filter."
TOO_SLOW = "Your request took too long. Please try again later."
GONE = error("QECx06", RETIRED)

BY_STATUS = {410: "retired"}

DOCUMENTED = [
    Documented("observations", 200, series(), "success"),
    Documented("observations", 200, series(data=[["2015-07-11", None]]), "success"),
    Documented("observations", 200, series(data=[]), "empty"),
    Documented("observations", 200, series(data=[["2015-07-11", 444.3, 1]]), "provider_failure"),
    Documented("observations", 200, series(column_names=["Date", "USD", "EUR"]), "provider_failure"),
    Documented("observations", 429, error("QELx04", TEN_MINUTES), "rate_limit", 600),
    Documented("observations", 429, error("QELx05", "..."), "rate_limit", 600),
    Documented("observations", 429, error("QELx01", "..."), "quota", 86_400),
    Documented("observations", 429, error("QELx02", DAILY), "quota", 86_400),
    Documented("observations", 429, error("QELx03", "..."), "quota", 86_400),
    Documented("observations", 429, error("QEAx06", "..."), "quota", 86_400),
    Documented("observations", 202, error("QEAx07", "..."), "rate_limit", 30),
    Documented("observations", 422, error("QELx06", "..."), "caller_error"),
    Documented("observations", 414, error("QELx07", "..."), "caller_error"),
    Documented("observations", 413, error("QELx08", "..."), "caller_error"),
    Documented("observations", 400, error("QEAx01", BAD_KEY), "auth", 300),
    Documented("observations", 403, error("QEAx03", "..."), "auth", 300),
    Documented("observations", 401, error("QEPx01", "..."), "auth", 300),
    Documented("observations", 403, error("QEPx04", NO_KEY), "auth", 300),
    Documented("observations", 403, error("QEPx04", NO_PERMISSION), "entitlement", 86_400),
    Documented("observations", 404, error("QECx02", NO_TABLE), "not_found"),
    Documented("observations", 404, GONE, "retired"),
    Documented("observations", 410, GONE, "retired"),
    Documented("observations", 410, "", "retired"),
    Documented("observations", 422, error("QESx08", BAD_FILTER), "caller_error"),
    Documented("observations", 503, error("QEXx01", TOO_SLOW), "provider_failure"),
    Documented("observations", 502, error("QEXx02", "..."), "provider_failure"),
    Documented("observations", 500, error("QEXx03", "..."), "provider_failure"),
    Documented("observations", 502, BAD_GATEWAY, "provider_failure"),
]
