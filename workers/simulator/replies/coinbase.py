"""Coinbase Exchange: an error is a message; candles are arrays, the newest first."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import Answers, Limit, Replies, Reply, last_midnights


def quote(sample: Mapping[str, object], _symbol: str, price: Decimal, now: datetime) -> object:
    return {**sample, "price": str(price), "time": f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"}


def bars(sample: list[object], _symbol: str, price: Decimal, now: datetime) -> object:
    starts = last_midnights(now, 300)
    return [[start, *sample[1:4], float(price), sample[5]] for start in starts]


def error(status: int, message: str) -> Reply:
    return Reply(status, {"message": message})


TICKER = {
    "ask": "92005.02",
    "bid": "92005.01",
    "volume": "7483.10932112",
    "trade_id": 902114512,
    "price": "92005.01",
    "size": "0.00121",
    "time": "2026-11-20T21:00:00.124567Z",
    "rfq_volume": "12.530012",
}
CANDLE = [1763596800, 90500.75, 93000, 91500.01, 92005.01, 7483.10932112]
LIMIT = error(429, "Public rate limit exceeded")
UNKNOWN = error(404, "NotFound")

REPLIES = Replies(
    endpoints={
        "quote": Answers(TICKER, quote, unknown_symbol=UNKNOWN, start=Decimal("92005.01")),
        "bars": Answers(CANDLE, bars, unknown_symbol=UNKNOWN, start=Decimal("92005.01")),
    },
    server_error=error(500, "Internal server error"),
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a second
    bad_key=Reply(401, ""),  # none is asked for
    no_path=UNKNOWN,
    bad_call=error(400, "Unsupported granularity"),
    limits=(Limit(10, 1),),
)
