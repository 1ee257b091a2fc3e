"""Tiingo: errors are in `detail`."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from workers.simulator.replies.reply import (
    BAD_GATEWAY,
    DAY,
    HOUR,
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
    stamp = now.isoformat()
    return [
        {
            **sample,
            "ticker": symbol,
            "timestamp": stamp,
            "lastSaleTimestamp": stamp,
            "quoteTimestamp": stamp,
            "tngoLast": float(price),
            "last": float(price),
        }
    ]


def bars(sample: Mapping[str, object], _symbol: str, price: Decimal, now: datetime) -> object:
    days = last_days(now, 100)[::-1]
    rows = [{"date": f"{day}T00:00:00.000Z", **sample} for day in days]
    rows[-1] |= {"close": float(price), "adjClose": float(price)}
    return rows


def minutes(
    sample: Mapping[str, Any], _symbol: str, price: Decimal, starts: list[datetime], _span: str
) -> object:
    rows = last_close(sample, "close", float(price), len(starts))
    return [
        {"date": f"{start:%Y-%m-%dT%H:%M:%S}.000Z", **row} for start, row in zip(starts, rows, strict=True)
    ][::-1]


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    stamp = now.isoformat()
    return [{**sample, "publishedDate": stamp, "crawlDate": stamp, "tickers": [symbol.lower()]}]


QUOTE = {
    "open": 174.69,
    "high": 178.46,
    "low": 174.31,
    "mid": 179.55,
    "lastSize": 10,
    "bidSize": 400,
    "bidPrice": 174.1,
    "askPrice": 185.0,
    "askSize": 162,
    "prevClose": 172.46,
    "volume": 39782,
}
BAR = {
    "close": 125.07,
    "high": 130.9,
    "low": 124.17,
    "open": 130.28,
    "volume": 112117471,
    "adjClose": 124.378105644,
    "adjHigh": 130.1758537523,
    "adjLow": 123.4830844953,
    "adjOpen": 129.5592836276,
    "adjVolume": 112117471,
    "divCash": 0.0,
    "splitFactor": 1.0,
}
MINUTES = {"open": 178.1, "high": 178.25, "low": 177.9, "close": 177.97, "volume": 1250.0}
ARTICLE = {
    "id": 25286,
    "title": "Tech giants may be stronger than you think",
    "url": "http://www.cnbc.com/2016/01/11/...",
    "description": "Technology companies could soon rebound ...",
    "source": "cnbc.com",
    "tags": ["Technology"],
}


def _error(status: int, detail: str) -> Reply:
    return Reply(status, {"detail": detail})


_UPGRADE = "Then upgrade at https://api.tiingo.com/pricing to have your limits increased."

DIVIDENDS = [
    {
        "permaTicker": "US000000000038",
        "exDate": "2020-05-08T00:00:00.000Z",
        "paymentDate": "2020-05-14T00:00:00.000Z",
        "recordDate": "2020-05-11T00:00:00.000Z",
        "declarationDate": "2020-04-30T00:00:00.000Z",
        "distribution": 0.82,
        "distributionFrequency": "q",
    }
]
SPLITS = [
    {
        "permaTicker": "US000000000038",
        "exDate": "2020-08-31T00:00:00.000Z",
        "splitFrom": 1.0,
        "splitTo": 4.0,
        "splitFactor": 4.0,
        "splitStatus": "a",
    }
]


def _listed(rows: list[dict[str, object]], symbol: str) -> object:
    return [{**row, "ticker": symbol.lower()} for row in rows]


REPLIES = Replies(
    endpoints={
        "quote": Answers(QUOTE, quote, unknown_symbol=Reply(200, []), start=Decimal("177.97")),
        "bars": Answers(
            BAR, bars, unknown_symbol=_error(404, "Error: Ticker 'ZZZZ' not found"), start=Decimal("125.07")
        ),
        **intraday(MINUTES, minutes, Reply(200, []), Decimal("177.97")),  # undocumented: as the quotes
        "news": Answers(ARTICLE, news, unknown_symbol=Reply(200, [])),  # undocumented: as the quotes
        # undocumented: as the quotes
        "dividends": Answers(DIVIDENDS, as_told(_listed), Reply(200, [])),
        "splits": Answers(SPLITS, as_told(_listed), Reply(200, [])),
    },
    server_error=BAD_GATEWAY,
    throttle=_error(429, f"Error: You have run over your hourly request allocation. {_UPGRADE}"),
    # undocumented but for the word "daily"
    quota=_error(429, f"Error: You have run over your daily request allocation. {_UPGRADE}"),
    bad_key=_error(401, "Invalid token."),  # undocumented: as its clients report it
    no_path=_error(404, "Not found."),  # undocumented
    limits=(Limit(50, HOUR, "clock"), Limit(1_000, DAY, "clock", "quota")),
)
