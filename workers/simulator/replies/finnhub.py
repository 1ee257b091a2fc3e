"""Finnhub: an unknown symbol is HTTP 200 with zeros."""

from collections.abc import Mapping
from datetime import datetime, time, timedelta
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
    as_told,
    intraday,
    last_close,
    last_days,
)


def quote(sample: Mapping[str, object], _symbol: str, price: Decimal, now: datetime) -> object:
    close = Decimal(str(sample["pc"]))
    return {
        **sample,
        "c": float(price),
        "d": round(float(price - close), 4),
        "dp": round(float((price - close) / close * 100), 4),
        "t": int(now.timestamp()),
    }


def bars(sample: Mapping[str, object], _symbol: str, price: Decimal, now: datetime) -> object:
    days = last_days(now, 100)[::-1]
    columns = {name: [value] * len(days) for name, value in sample.items()}
    columns["c"][-1] = float(price)
    return {
        **columns,
        "s": "ok",
        "t": [int(datetime.combine(day, time(), NEW_YORK).timestamp()) for day in days],
    }


def minutes(
    sample: Mapping[str, Any], _symbol: str, price: Decimal, starts: list[datetime], _span: str
) -> object:
    rows = last_close(sample, "c", float(price), len(starts))[::-1]
    columns = {name: [row[name] for row in rows] for name in sample}
    return {**columns, "s": "ok", "t": [int(start.timestamp()) for start in starts[::-1]]}


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    return [
        {
            **sample,
            "id": 25286 + hours,
            "related": symbol,
            "datetime": int((now - timedelta(hours=hours)).timestamp()),
        }
        for hours in range(3)
    ]


def filings(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    return [
        {
            **sample,
            "symbol": symbol,
            "filedDate": f"{now:%Y-%m-%d} 00:00:00",
            "acceptedDate": f"{now:%Y-%m-%d} 06:14:21",
        }
    ]


QUOTE = {
    "c": 261.74,
    "d": 2.29,
    "dp": 0.8826,
    "h": 263.31,
    "l": 260.68,
    "o": 261.07,
    "pc": 259.45,
    "t": 1582641000,
}
BAR = {"c": 217.68, "h": 222.49, "l": 217.19, "o": 221.03, "v": 33463820}
ARTICLE = {
    "category": "company news",
    "headline": "More sops needed to boost electronic manufacturing: Top govt official",
    "image": "https://img.etimg.com/photo.jpg",
    "source": "The Economic Times India",
    "summary": "NEW DELHI | CHENNAI: ...",
    "url": "https://economictimes.indiatimes.com/...",
}
FILING = {
    "accessNumber": "0001193125-20-050884",
    "cik": "320193",
    "form": "8-K",
    "reportUrl": "https://www.sec.gov/ix?doc=/Archives/edgar/data/320193/000119312520050884/d865740d8k.htm",
    "filingUrl": "https://www.sec.gov/Archives/edgar/data/320193/000119312520050884/"
    "0001193125-20-050884-index.html",
}
LIMIT = Reply(
    429,
    {"error": "API limit reached. Please try again later. Remaining Limit: 0"},
    {"X-Ratelimit-Limit": "60", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": "{reset}"},
)

DIVIDENDS = [
    {
        "adjustedAmount": 0.205,
        "amount": 0.82,
        "currency": "USD",
        "date": "2020-05-08",
        "declarationDate": "2020-04-30",
        "freq": "4",
        "payDate": "2020-05-14",
        "recordDate": "2020-05-11",
    }
]
SPLITS = [{"date": "2020-08-31", "fromFactor": 1, "toFactor": 4}]


def _listed(rows: list[dict[str, object]], symbol: str) -> object:
    return [{**row, "symbol": symbol} for row in rows]


REPLIES = Replies(
    endpoints={
        "quote": Answers(
            QUOTE,
            quote,
            unknown_symbol=Reply(
                200, {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}
            ),
            start=Decimal("261.74"),
        ),
        "bars": Answers(BAR, bars, unknown_symbol=Reply(200, {"s": "no_data"}), start=Decimal("217.68")),
        **intraday(BAR, minutes, Reply(200, {"s": "no_data"}), Decimal("217.68")),
        "news": Answers(ARTICLE, news, unknown_symbol=Reply(200, [])),
        "filings": Answers(FILING, filings, unknown_symbol=Reply(200, [])),  # undocumented: as the news
        "dividends": Answers(DIVIDENDS, as_told(_listed), Reply(200, [])),
        "splits": Answers(SPLITS, as_told(_listed), Reply(200, [])),
    },
    server_error=BAD_GATEWAY,
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a minute
    bad_key=Reply(401, {"error": "Invalid API key"}),  # undocumented: as its clients report it
    no_path=Reply(404, "<html><body><h1>404 Not Found</h1></body></html>"),
    limits=(Limit(30, 1), Limit(60, MINUTE, "clock")),
)
