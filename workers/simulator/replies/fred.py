"""FRED: whatever the caller did wrong is 400."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import Answers, Limit, Replies, Reply


def observations(sample: Mapping[str, object], _symbol: str, _price: Decimal, now: datetime) -> object:
    today = f"{now:%Y-%m-%d}"
    vintage = {"realtime_start": today, "realtime_end": today}
    months = [f"{now:%Y}-{month:02}-01" for month in range(now.month, 0, -1)]
    values = [{**vintage, "date": month, "value": "4.0"} for month in months]
    values[0]["value"] = "."
    return {**sample, **vintage, "count": len(values), "observations": values}


def _error(status: int, message: str) -> Reply:
    return Reply(status, {"error_code": status, "error_message": message})


HEAD = {
    "observation_start": "1600-01-01",
    "observation_end": "9999-12-31",
    "units": "lin",
    "output_type": 1,
    "file_type": "json",
    "order_by": "observation_date",
    "sort_order": "desc",
    "offset": 0,
    "limit": 1000,
}
LIMIT = _error(429, "Too Many Requests.  Exceeded Rate Limit")

REPLIES = Replies(
    endpoints={
        "observations": Answers(
            HEAD,
            observations,
            unknown_symbol=_error(400, "Bad Request.  The series does not exist."),
        )
    },
    server_error=_error(500, "Internal Server Error"),
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a minute
    bad_key=_error(
        400,
        "Bad Request.  The value for variable api_key is not registered.  "
        "Read https://fred.stlouisfed.org/docs/api/api_key.html for more information.",
    ),
    no_path=_error(404, "Not Found"),  # undocumented
    bad_call=_error(400, "Bad Request.  Variable series_id is not set."),  # undocumented
    limits=(Limit(2, 1),),
)
