"""Binance: an error has a negative code; prices are strings."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from workers.simulator.replies.reply import MINUTE, Answers, Limit, Replies, Reply, last_midnights

MILLISECOND = 1_000


def quote(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    end = int(now.timestamp()) * MILLISECOND
    return {
        **sample,
        "symbol": symbol,
        "lastPrice": f"{price:.8f}",
        "openTime": end - 86_400_000,
        "closeTime": end,
    }


def bars(sample: list[object], _symbol: str, price: Decimal, now: datetime) -> object:
    starts = [start * MILLISECOND for start in reversed(last_midnights(now, 150))]
    return [
        [start, *sample[1:4], f"{price:.8f}", sample[5], start + 86_399_999, *sample[7:]] for start in starts
    ]


def error(status: int, code: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, {"code": code, "msg": message}, headers or {})


TICKER = {
    "symbol": "BTCUSDT",
    "priceChange": "-94.99999800",
    "priceChangePercent": "-0.103",
    "weightedAvgPrice": "92031.11000000",
    "prevClosePrice": "92100.00000000",
    "lastPrice": "92005.00000200",
    "lastQty": "0.02000000",
    "bidPrice": "92004.99000000",
    "bidQty": "1.50000000",
    "askPrice": "92005.01000000",
    "askQty": "0.80000000",
    "openPrice": "92100.00000000",
    "highPrice": "93000.00000000",
    "lowPrice": "91000.00000000",
    "volume": "8913.30000000",
    "quoteVolume": "820301123.30000000",
    "openTime": 1763586000000,
    "closeTime": 1763672400000,
    "firstId": 28385,
    "lastId": 28460,
    "count": 76,
}
KLINE = [
    1763596800000,
    "91500.01000000",
    "93000.00000000",
    "90500.75800000",
    "92005.00000200",
    "14897.06",
    1763683199999,
    "1370000000.26175120",
    308000,
    "1756.87402397",
    "161600000.66601900",
    "0",
]
UNKNOWN = error(400, -1121, "Invalid symbol.")
LIMIT = error(
    429,
    -1003,
    "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. Please use WebSocket "
    "Streams for live updates to avoid polling the API.",
    {"Retry-After": "{to_reset}"},
)

REPLIES = Replies(
    endpoints={
        "quote": Answers(TICKER, quote, unknown_symbol=UNKNOWN, start=Decimal("92005.00")),
        "bars": Answers(KLINE, bars, unknown_symbol=UNKNOWN, start=Decimal("92005.00")),
    },
    server_error=error(500, -1000, "An unknown error occurred while processing the request."),
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a minute
    bad_key=Reply(401, ""),  # it has no keys
    no_path=Reply(404, "<html><body><h2>404 Not found</h2></body></html>"),  # undocumented
    bad_call=error(400, -1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
    limits=(Limit(3_000, MINUTE, "clock"),),
)
