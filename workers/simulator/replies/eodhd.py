"""EODHD: errors are plain text."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from workers.simulator.replies.reply import (
    BAD_GATEWAY,
    DAY,
    MINUTE,
    Answers,
    Limit,
    Replies,
    Reply,
    as_told,
    intraday,
    last_close,
    last_days,
)


def quote(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    close = Decimal(str(sample["previousClose"]))
    return {
        **sample,
        "code": symbol,
        "timestamp": int(now.timestamp()),
        "close": float(price),
        "change": round(float(price - close), 4),
        "change_p": round(float((price - close) / close * 100), 4),
    }


def bars(sample: Mapping[str, object], _symbol: str, price: Decimal, now: datetime) -> object:
    newest, *older = last_days(now, 100)
    rows = [{**sample, "date": day.isoformat()} for day in reversed(older)]
    return [*rows, {**sample, "date": newest.isoformat(), "close": float(price)}]


def minutes(
    sample: Mapping[str, Any], _symbol: str, price: Decimal, starts: list[datetime], _span: str
) -> object:
    rows = last_close(sample, "close", float(price), len(starts))
    return [
        {
            "timestamp": int(start.timestamp()),
            "gmtoffset": 0,
            "datetime": f"{start:%Y-%m-%d %H:%M:%S}",
            **row,
        }
        for start, row in zip(starts, rows, strict=True)
    ][::-1]


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    return [
        {
            **sample,
            "date": f"{now - timedelta(hours=hours):%Y-%m-%dT%H:%M:%S}+00:00",
            "link": f"https://finance.yahoo.com/news/{hours}",
            "symbols": [symbol],
        }
        for hours in range(3)
    ]


QUOTE = {
    "gmtoffset": 0,
    "open": 229.74,
    "high": 233.22,
    "low": 229.57,
    "volume": 37931706,
    "previousClose": 230.57,
}
UNKNOWN_QUOTE = {
    "code": "ZZZTOP.US",
    **dict.fromkeys(
        (
            "timestamp",
            "gmtoffset",
            "open",
            "high",
            "low",
            "close",
            "volume",
            "previousClose",
            "change",
            "change_p",
        ),
        "NA",
    ),
}
BAR = {
    "open": 177.83,
    "high": 182.88,
    "low": 177.71,
    "close": 182.01,
    "adjusted_close": 179.2736,
    "volume": 104487900,
}
MINUTES = {"open": 179.5, "high": 179.6, "low": 179.3, "close": 179.36, "volume": 1200345}
ARTICLE = {
    "title": "Usher and Apple CEO Tim Cook had a meeting...",
    "content": "...",
    "tags": [],
    "sentiment": {"polarity": 0.997, "neg": 0.024, "neu": 0.871, "pos": 0.105},
}
NOT_FOUND = Reply(404, "Ticker Not Found.")

DIVIDENDS = [
    {
        "date": "2020-05-08",
        "declarationDate": "2020-04-30",
        "recordDate": "2020-05-11",
        "paymentDate": "2020-05-14",
        "period": "Quarterly",
        "value": 0.205,
        "unadjustedValue": 0.82,
        "currency": "USD",
    }
]
SPLITS = [{"date": "2020-08-31", "split": "4.000000/1.000000"}]


def _listed(rows: list[dict[str, object]], _symbol: str) -> object:
    return rows


REPLIES = Replies(
    endpoints={
        "quote": Answers(
            QUOTE, quote, unknown_symbol=Reply(200, UNKNOWN_QUOTE), start=Decimal("231.41")
        ),  # as its clients report it
        "bars": Answers(BAR, bars, unknown_symbol=NOT_FOUND, start=Decimal("182.01")),
        **intraday(MINUTES, minutes, NOT_FOUND, Decimal("179.36"), ("1m", "5m", "1h")),
        "news": Answers(ARTICLE, news, unknown_symbol=Reply(200, [])),  # undocumented: as without news
        "dividends": Answers(DIVIDENDS, as_told(_listed), NOT_FOUND),
        "splits": Answers(SPLITS, as_told(_listed), NOT_FOUND),
    },
    server_error=BAD_GATEWAY,
    throttle=Reply(429, "Too Many Requests"),  # the text is undocumented
    quota=Reply(
        402,
        "You exceeded your daily API requests limit.  Please contact support@eodhistoricaldata.com",
    ),
    bad_key=Reply(401, "Unauthenticated"),
    no_path=NOT_FOUND,
    bad_call=Reply(400, None),
    limits=(Limit(1_000, MINUTE, "clock"), Limit(20, DAY, "clock", "quota")),
)
