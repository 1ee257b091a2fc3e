"""Tradier: errors are plain text, the limits in headers."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from tasks.providers.documents import NEW_YORK
from workers.simulator.replies.reply import (
    BAD_GATEWAY,
    MINUTE,
    Answers,
    Limit,
    Replies,
    Reply,
    intraday,
    last_close,
    last_days,
)


def quote(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    milliseconds = int(now.timestamp() * 1_000)
    close = Decimal(str(sample["prevclose"]))
    found = {
        **sample,
        "symbol": symbol,
        "last": float(price),
        "change": float(price - close),
        "change_percentage": round(float((price - close) / close * 100), 2),
        "trade_date": milliseconds,
        "bid_date": milliseconds,
        "ask_date": milliseconds,
        "root_symbols": symbol,
    }
    return {"quotes": {"quote": found}}


def bars(sample: Mapping[str, object], _symbol: str, price: Decimal, now: datetime) -> object:
    rows = [{"date": day.isoformat(), **sample} for day in last_days(now, 100)[::-1]]
    rows[-1]["close"] = float(price)
    return {"history": {"day": rows}}


def minutes(
    sample: Mapping[str, Any], _symbol: str, price: Decimal, starts: list[datetime], _span: str
) -> object:
    rows = last_close(sample, "close", float(price), len(starts))
    told = [
        {
            "time": f"{start.astimezone(NEW_YORK):%Y-%m-%dT%H:%M:%S}",
            "timestamp": int(start.timestamp()),
            "price": row["close"],
            **row,
        }
        for start, row in zip(starts, rows, strict=True)
    ]
    return {"series": {"data": told[::-1]}}


QUOTE = {
    "description": "SPDR S&P 500",
    "exch": "P",
    "type": "etf",
    "volume": 16616657,
    "open": 547.16,
    "high": 550.28,
    "low": 546.67,
    "close": None,
    "bid": 547.95,
    "ask": 547.96,
    "average_volume": 57774558,
    "last_volume": 100,
    "prevclose": 546.37,
    "week_52_high": 550.12,
    "week_52_low": 409.21,
    "bidsize": 2,
    "bidexch": "P",
    "asksize": 2,
    "askexch": "Q",
}
DAY = {"open": 183.985, "high": 186.95, "low": 183.82, "close": 186.86, "volume": 64885408}
MINUTES = {
    "open": 186.9,
    "high": 187.0,
    "low": 186.8,
    "close": 186.86,
    "volume": 52013,
    "vwap": 186.89,
}
# The headers are documented; the status and the text are not.
LIMIT = Reply(
    429,
    "Quota Violation",
    {
        "X-Ratelimit-Allowed": "120",
        "X-Ratelimit-Used": "121",
        "X-Ratelimit-Available": "0",
        "X-Ratelimit-Expiry": "{reset_ms}",
    },
)

REPLIES = Replies(
    endpoints={
        "quote": Answers(
            QUOTE,
            quote,
            unknown_symbol=Reply(200, {"quotes": {"unmatched_symbols": {"symbol": "WRONGSYMBOL"}}}),
            start=Decimal("547.94"),
        ),
        # undocumented: as for a window without a day
        "bars": Answers(DAY, bars, unknown_symbol=Reply(200, {"history": None}), start=Decimal("186.86")),
        **intraday(
            MINUTES, minutes, Reply(200, {"series": None}), Decimal("186.86"), ("1m", "5m", "15m")
        ),  # undocumented: the same
    },
    server_error=BAD_GATEWAY,
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a minute
    bad_key=Reply(401, "Invalid Access Token"),  # the text is undocumented
    no_path=Reply(404, "Not Found"),  # undocumented
    bad_call=Reply(400, "Bad Request"),  # undocumented
    limits=(Limit(120, MINUTE, "first_call"),),
)
