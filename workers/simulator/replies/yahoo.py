"""Yahoo Finance: one chart for quotes and bars."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from workers.simulator.replies.reply import (
    Answers,
    Replies,
    Reply,
    as_told,
    intraday,
    last_close,
    last_days,
)


def quote(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    return _chart(sample, symbol, price, now, 1)


def bars(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    return _chart(sample, symbol, price, now, 120)


def _chart(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime, days: int) -> object:
    meta = {
        **sample,
        "symbol": symbol,
        "regularMarketPrice": float(price),
        "regularMarketTime": int(now.timestamp()),
    }
    opening = timedelta(hours=14, minutes=30)
    starts = [datetime.combine(day, time(), UTC) + opening for day in reversed(last_days(now, days))]
    closes = [231.41] * (days - 1) + [float(price)]
    columns = {
        "open": [229.74] * days,
        "high": [233.22] * days,
        "low": [229.57] * days,
        "close": closes,
        "volume": [38802304] * days,
    }
    chart = {
        "meta": meta,
        "timestamp": [int(start.timestamp()) for start in starts],
        "indicators": {"quote": [columns], "adjclose": [{"adjclose": closes}]},
    }
    return {"chart": {"result": [chart], "error": None}}


def minutes(
    sample: Mapping[str, Any], symbol: str, price: Decimal, starts: list[datetime], span: str
) -> object:
    rows = last_close(sample, "close", float(price), len(starts))[::-1]
    columns = {name: [row[name] for row in rows] for name in sample}
    chart = {
        "meta": {**META, "symbol": symbol, "dataGranularity": span},
        "timestamp": [int(start.timestamp()) for start in starts[::-1]],
        "indicators": {"quote": [columns]},
    }
    return {"chart": {"result": [chart], "error": None}}


def _error(status: int, code: str, description: str, about: str = "chart") -> Reply:
    return Reply(status, {about: {"result": None, "error": {"code": code, "description": description}}})


META = {
    "currency": "USD",
    "exchangeName": "NMS",
    "instrumentType": "EQUITY",
    "gmtoffset": -14400,
    "timezone": "EDT",
    "exchangeTimezoneName": "America/New_York",
    "chartPreviousClose": 230.57,
    "dataGranularity": "1d",
    "range": "1d",
}
MINUTES = {"open": 231.3, "high": 231.5, "low": 231.2, "close": 231.41, "volume": 120513}
UNKNOWN = _error(404, "Not Found", "No data found, symbol may be delisted")
LIMIT = Reply(429, "Edge: Too Many Requests", kind="text/html")

DIVIDENDS = {"dividends": {"1588944600": {"amount": 0.205, "date": 1588944600}}}
SPLITS = {
    "splits": {"1598880600": {"date": 1598880600, "numerator": 4.0, "denominator": 1.0, "splitRatio": "4:1"}}
}


def _events(events: dict[str, object], symbol: str) -> object:
    chart = {
        "meta": {**META, "symbol": symbol, "dataGranularity": "1mo", "range": "10y"},
        "timestamp": [1588305600],
        "events": events,
        "indicators": {"quote": [{"close": [79.49]}], "adjclose": [{"adjclose": [77.1]}]},
    }
    return {"chart": {"result": [chart], "error": None}}


REPLIES = Replies(
    endpoints={
        "quote": Answers(META, quote, unknown_symbol=UNKNOWN, start=Decimal("231.41")),
        "bars": Answers({**META, "range": "6mo"}, bars, unknown_symbol=UNKNOWN, start=Decimal("231.41")),
        **intraday(MINUTES, minutes, UNKNOWN, Decimal("231.41")),
        "dividends": Answers(DIVIDENDS, as_told(_events), UNKNOWN),
        "splits": Answers(SPLITS, as_told(_events), UNKNOWN),
    },
    server_error=Reply(502, ""),  # undocumented
    throttle=LIMIT,
    quota=LIMIT,  # it tells of no other limit
    bad_key=_error(401, "Unauthorized", "Invalid Crumb", about="finance"),
    no_path=Reply(404, ""),  # undocumented
    bad_call=_error(422, "Unprocessable Entity", "..."),  # undocumented
)
