"""Stooq: CSV, and lines of text for errors."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import BAD_GATEWAY, Answers, Replies, Reply, last_days


def bars(sample: Sequence[str], _symbol: str, price: Decimal, now: datetime) -> object:
    days = reversed(last_days(now, 120))
    lines = [f"{day:%Y-%m-%d},211.5,214.86,210.64,{price},66213186" for day in days]
    return "\r\n".join([*sample, *lines, ""])


HEADER = "Date,Open,High,Low,Close,Volume"
NO_DATA = Reply(200, "No data")  # undocumented: as its clients report it

REPLIES = Replies(
    endpoints={
        "bars": Answers([HEADER], bars, unknown_symbol=NO_DATA, start=Decimal("213.25"), kind="text/csv")
    },
    server_error=BAD_GATEWAY,
    throttle=Reply(429, ""),  # undocumented
    quota=Reply(200, "Exceeded the daily hits limit"),
    bad_key=Reply(200, "Get your apikey"),  # undocumented: as its clients report it
    no_path=Reply(404, ""),  # undocumented
    bad_call=NO_DATA,
)
