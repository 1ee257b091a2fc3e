"""Kraken: every error is HTTP 200, with its texts in a list."""

from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import MINUTE, Answers, Limit, Replies, Reply, last_midnights


def quote(sample: list[object], symbol: str, price: Decimal, now: datetime) -> object:
    newest = now.timestamp()
    trades = [[f"{price:.5f}", sample[1], newest - back, *sample[3:]] for back in (30.5, 2.25, 0.1)]
    return result(symbol, trades, str(int(newest * 1_000_000_000)))


def bars(sample: list[object], symbol: str, price: Decimal, now: datetime) -> object:
    starts = list(reversed(last_midnights(now, 150)))
    days = [[start, *sample[1:4], f"{price:.1f}", *sample[5:]] for start in starts]
    return result(symbol, days, starts[-2])


def result(symbol: str, rows: list[list[object]], last: object) -> dict[str, object]:
    return {"error": [], "result": {symbol: rows, "last": last}}


def error(text: str) -> Reply:
    return Reply(200, {"error": [text]})


TRADE = ["79243.40000", "0.34507674", 1763672397.8277369, "b", "m", "", 61044952]
DAY = [1763596800, "78800.1", "80100.0", "78250.0", "79243.4", "79010.2", "1483.10932112", 20321]
UNKNOWN = error("EQuery:Unknown asset pair")
LIMIT = error("EGeneral:Too many requests")

REPLIES = Replies(
    endpoints={
        "quote": Answers(TRADE, quote, unknown_symbol=UNKNOWN, start=Decimal("79243.40")),
        "bars": Answers(DAY, bars, unknown_symbol=UNKNOWN, start=Decimal("79243.40")),
    },
    server_error=Reply(520, ""),  # its gateway's
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a second
    bad_key=Reply(401, ""),  # none is asked for
    no_path=error("EGeneral:Unknown method"),
    bad_call=error("EGeneral:Invalid arguments"),
    limits=(Limit(60, MINUTE),),
)
