"""Quandl: an error has a code, whose letters tell its kind."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import DAY, MINUTE, Answers, Limit, Replies, Reply, last_days


def observations(sample: Mapping[str, object], _symbol: str, price: Decimal, now: datetime) -> object:
    days = [day.isoformat() for day in last_days(now, 30)]
    return {
        "dataset_data": {
            **sample,
            "start_date": days[-1],
            "end_date": days[0],
            "data": [[day, float(price)] for day in days],
        }
    }


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"quandl_error": {"code": code, "message": message}})


HEAD = {
    "limit": 1000,
    "transform": None,
    "column_index": 1,
    "column_names": ["Date", "Value"],
    "frequency": "daily",
    "collapse": None,
    "order": "desc",
}
NO_SERIES = _error(
    404,
    "QECx02",
    "You have submitted an incorrect Table code. Please check your Table codes and try again.",
)

REPLIES = Replies(
    endpoints={"observations": Answers(HEAD, observations, unknown_symbol=NO_SERIES)},
    server_error=_error(503, "QEXx01", "Your request took too long. Please try again later."),
    throttle=_error(429, "QELx04", "You have exceeded your 10-minute call limit as a registered user."),
    quota=_error(429, "QELx02", "You have exceeded your daily call limit as a registered user."),
    bad_key=_error(
        400, "QEAx01", "We could not recognize your API key. Please check your API key and try again."
    ),
    no_path=NO_SERIES,  # undocumented
    bad_call=_error(422, "QESx08", "You cannot use start_date column as a filter."),
    limits=(Limit(300, 10), Limit(2_000, 10 * MINUTE), Limit(50_000, DAY, says="quota")),
)
