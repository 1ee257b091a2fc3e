from tests.contract.replies import BAD_GATEWAY, Documented

OBSERVATIONS = {
    "realtime_start": "2026-05-28",
    "realtime_end": "2026-05-28",
    "observation_start": "2025-01-01",
    "observation_end": "2026-04-01",
    "units": "lin",
    "output_type": 1,
    "file_type": "json",
    "order_by": "observation_date",
    "sort_order": "asc",
    "count": 2,
    "offset": 0,
    "limit": 100000,
    "observations": [
        {"realtime_start": "2026-05-28", "realtime_end": "2026-05-28", "date": "2026-01-01", "value": "4.0"},
        {"realtime_start": "2026-05-28", "realtime_end": "2026-05-28", "date": "2026-02-01", "value": "."},
    ],
}
HELP = "Read https://fred.stlouisfed.org/docs/api/api_key.html for more information."


def error(code: int, message: str) -> dict[str, object]:
    return {"error_code": code, "error_message": message}


def xml(message: str) -> str:
    """An error as it is written unless JSON is asked for."""
    return f'<?xml version="1.0" encoding="utf-8" ?>\n<error code="400" message="{message}"/>'


FORMAT = "Bad Request.  The value for variable api_key is not a 32 character alpha-numeric lower-case string."
UNREGISTERED = "Bad Request.  The value for variable api_key is not registered."
LIMIT = error(429, "Too Many Requests.  Exceeded Rate Limit")

DOCUMENTED = [
    Documented("observations", 200, OBSERVATIONS, "success"),
    Documented("observations", 200, {**OBSERVATIONS, "count": 0, "observations": []}, "empty"),
    Documented("observations", 429, LIMIT, "rate_limit", 60),
    Documented("observations", 200, LIMIT, "rate_limit", 60),
    Documented("observations", 400, error(400, f"{FORMAT}  {HELP}"), "auth", 300),
    Documented("observations", 400, error(400, f"{UNREGISTERED}  {HELP}"), "auth", 300),
    Documented("observations", 400, error(400, "Bad Request.  The series does not exist."), "not_found"),
    Documented("observations", 400, error(400, "Bad Request.  Something else."), "caller_error"),
    Documented("observations", 400, xml(UNREGISTERED), "auth", 300),
    Documented("observations", 400, xml("Bad Request.  The series does not exist."), "not_found"),
    Documented("observations", 423, error(423, "Locked. ..."), "provider_failure"),
    Documented("observations", 500, error(500, "Internal Server Error"), "provider_failure"),
    Documented("observations", 502, BAD_GATEWAY, "provider_failure"),
]
