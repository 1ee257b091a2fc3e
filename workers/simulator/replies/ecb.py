"""ECB: lines of CSV, the oldest first; an error is a line of text."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import Answers, Replies, Reply, last_days


def quote(sample: Sequence[str], symbol: str, price: Decimal, now: datetime) -> object:
    return _lines(sample, ["EXR", "D", symbol, "EUR", "SP00", "A"], price, now, 1)


def observations(sample: Sequence[str], symbol: str, price: Decimal, now: datetime) -> object:
    dimensions = symbol.replace("/", ".").split(".")
    return _lines(sample, [*dimensions, *[""] * (6 - len(dimensions))][:6], price, now, 60)


def _lines(header: Sequence[str], key: list[str], price: Decimal, now: datetime, number: int) -> str:
    written = ".".join(filter(None, key))
    days = reversed(last_days(now, number))
    rows = [",".join([written, *key[1:], f"{day:%Y-%m-%d}", str(price)]) for day in days]
    return "\r\n".join([*header, *rows, ""])


HEADER = "KEY,FREQ,CURRENCY,CURRENCY_DENOM,EXR_TYPE,EXR_SUFFIX,TIME_PERIOD,OBS_VALUE"
NOTHING = Reply(404, "No results found.")

REPLIES = Replies(
    endpoints={
        "quote": Answers([HEADER], quote, unknown_symbol=NOTHING, start=Decimal("1.16"), kind="text/csv"),
        "observations": Answers(
            [HEADER], observations, unknown_symbol=NOTHING, start=Decimal("1.16"), kind="text/csv"
        ),
    },
    server_error=Reply(503, ""),  # no body is documented
    throttle=Reply(429, ""),  # undocumented
    quota=Reply(429, ""),  # it documents none
    bad_key=Reply(401, ""),  # it has no keys
    no_path=Reply(404, ""),  # undocumented
    bad_call=Reply(400, ""),  # no body is documented
)
