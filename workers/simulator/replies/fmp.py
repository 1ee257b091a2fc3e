"""Financial Modeling Prep: lists, and errors as an object."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from tasks.providers.documents import NEW_YORK
from workers.simulator.replies.reply import (
    BAD_GATEWAY,
    DAY,
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
    return [
        {
            **sample,
            "symbol": symbol,
            "price": float(price),
            "change": round(float(price - close), 4),
            "changePercentage": round(float((price - close) / close * 100), 4),
            "timestamp": int(now.timestamp()),
        }
    ]


def bars(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    days = last_days(now, 100)
    return [
        {
            **sample,
            "symbol": symbol,
            "date": day.isoformat(),
            **({"close": float(price)} if day == days[0] else {}),
        }
        for day in days
    ]


def minutes(
    sample: Mapping[str, Any], _symbol: str, price: Decimal, starts: list[datetime], _span: str
) -> object:
    rows = last_close(sample, "close", float(price), len(starts))
    return [
        {"date": f"{start.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}", **row}
        for start, row in zip(starts, rows, strict=True)
    ]


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    return [
        {
            **sample,
            "symbol": symbol,
            "publishedDate": f"{now - timedelta(hours=hours):%Y-%m-%d %H:%M:%S}",
            "url": f"https://www.zacks.com/{hours}",
        }
        for hours in range(3)
    ]


def _error(status: int, message: str) -> Reply:
    return Reply(status, {"Error Message": message})


QUOTE = {
    "name": "Apple Inc.",
    "volume": 44489128,
    "dayLow": 226.65,
    "dayHigh": 233.13,
    "yearHigh": 260.1,
    "yearLow": 164.08,
    "marketCap": 3500823120000,
    "priceAvg50": 240.2278,
    "priceAvg200": 219.98755,
    "exchange": "NASDAQ",
    "open": 227.2,
    "previousClose": 228.01,
}
BAR = {
    "open": 227.2,
    "high": 233.13,
    "low": 226.65,
    "close": 232.8,
    "volume": 44489128,
    "change": 5.6,
    "changePercent": 2.46479,
    "vwap": 230.86,
}
MINUTES = {"open": 232.87, "low": 232.72, "high": 233.13, "close": 232.79, "volume": 720121}
ARTICLE = {
    "publisher": "Zacks Investment Research",
    "title": "...",
    "image": "https://images.financialmodelingprep.com/news/...",
    "site": "zacks.com",
    "text": "...",
}
NOTHING = Reply(200, [])

DIVIDENDS = [
    {
        "date": "2020-05-08",
        "recordDate": "2020-05-11",
        "paymentDate": "2020-05-14",
        "declarationDate": "2020-04-30",
        "adjDividend": 0.205,
        "dividend": 0.82,
        "yield": 1.0,
        "frequency": "Quarterly",
    }
]
SPLITS = [{"date": "2020-08-31", "numerator": 4, "denominator": 1, "splitType": "stock-split"}]


def _listed(rows: list[dict[str, object]], symbol: str) -> object:
    return [{**row, "symbol": symbol} for row in rows]


REPLIES = Replies(
    endpoints={
        "quote": Answers(QUOTE, quote, unknown_symbol=NOTHING, start=Decimal("232.80")),
        "bars": Answers(BAR, bars, unknown_symbol=NOTHING, start=Decimal("232.80")),
        **intraday(MINUTES, minutes, NOTHING, Decimal("232.80")),
        "news": Answers(ARTICLE, news, unknown_symbol=NOTHING),
        "dividends": Answers(DIVIDENDS, as_told(_listed), NOTHING),
        "splits": Answers(SPLITS, as_told(_listed), NOTHING),
    },
    server_error=BAD_GATEWAY,
    throttle=_error(429, "Too Many Requests"),  # undocumented: the text of a plan by the minute
    quota=_error(
        200,
        "Limit Reach . Please upgrade your plan or visit our documentation for more details at "
        "https://site.financialmodelingprep.com/",
    ),
    bad_key=_error(
        401,
        "Invalid API KEY. Feel free to create a Free API Key or visit "
        "https://site.financialmodelingprep.com/faqs?search=why-is-my-api-key-invalid for more information.",
    ),
    no_path=Reply(404, []),  # undocumented
    limits=(Limit(250, DAY, says="quota"),),
)
