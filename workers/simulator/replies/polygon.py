"""Polygon, named Massive: the text of an error is in `error`, or in `message`."""

from collections.abc import Mapping
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from tasks.providers.documents import NEW_YORK
from workers.simulator.replies.reply import (
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


def quote(sample: Mapping[str, Any], symbol: str, price: Decimal, now: datetime) -> object:
    close = Decimal(str(sample["prevDay"]["c"]))
    nanoseconds = int(now.timestamp() * 1_000) * 1_000_000
    return {
        "request_id": REQUEST,
        "status": "OK",
        "ticker": {
            **sample,
            "ticker": symbol,
            "lastQuote": {**sample["lastQuote"], "t": nanoseconds},
            "lastTrade": {**sample["lastTrade"], "p": float(price), "t": nanoseconds},
            "todaysChange": float(price - close),
            "todaysChangePerc": round(float((price - close) / close * 100), 4),
            "updated": nanoseconds,
        },
    }


def bars(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    days = last_days(now, 100)[::-1]
    rows: list[dict[str, object]] = [
        {**sample, "t": int(datetime.combine(day, time(), NEW_YORK).timestamp()) * 1_000} for day in days
    ]
    rows[-1]["c"] = float(price)
    return {
        "adjusted": False,
        "queryCount": len(rows),
        "request_id": REQUEST,
        "results": rows,
        "resultsCount": len(rows),
        "status": "OK",
        "ticker": symbol,
    }


def minutes(
    sample: Mapping[str, Any], symbol: str, price: Decimal, starts: list[datetime], _span: str
) -> object:
    rows = last_close(sample, "c", float(price), len(starts))
    told = [{**row, "t": int(start.timestamp()) * 1_000} for start, row in zip(starts, rows, strict=True)]
    return {
        "adjusted": False,
        "queryCount": len(told),
        "request_id": REQUEST,
        "results": told,
        "resultsCount": len(told),
        "status": "OK",
        "ticker": symbol,
    }


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    article = {**sample, "published_utc": f"{now:%Y-%m-%dT%H:%M:%SZ}", "tickers": [symbol]}
    return {"count": 1, "request_id": REQUEST, "results": [article], "status": "OK"}


REQUEST = "657e430f1ae768891f018e08e03598d8"
TICKER = {
    "day": {"c": 120.4229, "h": 120.53, "l": 118.81, "o": 119.62, "v": 28727868, "vw": 119.725},
    "lastQuote": {"P": 120.47, "S": 4, "p": 120.46, "s": 8, "t": 1605195918507251700},
    "lastTrade": {"c": [14, 41], "i": "4046", "p": 120.47, "s": 236, "t": 1605195918306274000, "x": 10},
    "min": {
        "av": 28724441,
        "c": 120.4201,
        "h": 120.468,
        "l": 120.37,
        "n": 762,
        "o": 120.435,
        "t": 1684428720000,
        "v": 270796,
        "vw": 120.4129,
    },
    "prevDay": {"c": 119.49, "h": 119.63, "l": 116.44, "o": 117.19, "v": 110597265, "vw": 118.4998},
    "ticker": "AAPL",
    "todaysChange": 0.98,
    "todaysChangePerc": 0.82,
    "updated": 1605195918306274000,
}
BAR = {"c": 75.0875, "h": 75.15, "l": 73.7975, "n": 1, "o": 74.06, "v": 135647456, "vw": 74.6099}
NO_BARS = Reply(
    200,
    {
        "ticker": "ZZZZ",
        "queryCount": 0,
        "resultsCount": 0,
        "adjusted": False,
        "status": "OK",
        "request_id": "req-empty",
        "count": 0,
    },
)
ARTICLE = {
    "id": "8ec638777ca03b553ae516761c2a22ba2fdd2f37befae3ab6fdab74e9e5193eb",
    "publisher": {
        "name": "Investing.com",
        "homepage_url": "https://www.investing.com/",
        "logo_url": "https://s3.massive.com/public/assets/news/logos/investing.png",
        "favicon_url": "https://s3.massive.com/public/assets/news/favicons/investing.ico",
    },
    "title": "Markets are underestimating Fed cuts: UBS By Investing.com - Investing.com UK",
    "author": "Sam Boughedda",
    "article_url": "https://uk.investing.com/...",
    "amp_url": "https://m.uk.investing.com/...",
    "image_url": "https://i-invdn-com.investing.com/news/LYNXNPEC4I0AL_L.jpg",
    "description": "UBS analysts warn ...",
    "keywords": ["Federal Reserve", "interest rates", "economic data"],
    "insights": [{"ticker": "UBS", "sentiment": "positive", "sentiment_reasoning": "..."}],
}


def _error(status: int, word: str, name: str, text: str) -> Reply:
    return Reply(status, {"status": word, "request_id": REQUEST, name: text})


LIMIT = _error(
    429,
    "ERROR",
    "error",
    "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue.",
)

DIVIDENDS = [
    {
        "cash_amount": 0.82,
        "currency": "USD",
        "declaration_date": "2020-04-30",
        "distribution_type": "recurring",
        "ex_dividend_date": "2020-05-08",
        "frequency": 4,
        "historical_adjustment_factor": 0.99723,
        "id": "E8e3c4f794613e9205e2f178a36c53fcc57cdabb55e1988c87b33f9e52e221444",
        "pay_date": "2020-05-14",
        "record_date": "2020-05-11",
        "split_adjusted_cash_amount": 0.205,
    }
]
SPLITS = [
    {
        "adjustment_type": "forward_split",
        "execution_date": "2020-08-31",
        "historical_adjustment_factor": 0.25,
        "id": "E90a77bdf742661741ed7c8fc086415f0457c2816c45899d73aaa88bdc8ff6025",
        "split_from": 1,
        "split_to": 4,
    }
]
NONE = Reply(200, {"request_id": REQUEST, "results": [], "status": "OK"})


def _results(rows: list[dict[str, object]], symbol: str) -> object:
    return {
        "request_id": REQUEST,
        "results": [{**row, "ticker": symbol} for row in rows],
        "status": "OK",
    }


REPLIES = Replies(
    endpoints={
        "quote": Answers(
            TICKER,
            quote,
            unknown_symbol=_error(
                404, "NotFound", "message", "Ticker not found."
            ),  # the body is undocumented
            start=Decimal("120.47"),
        ),
        "bars": Answers(
            BAR,
            bars,
            unknown_symbol=NO_BARS,
            start=Decimal("75.09"),
        ),
        **intraday(BAR, minutes, NO_BARS, Decimal("75.09")),
        # undocumented: a list without an article
        "news": Answers(
            ARTICLE,
            news,
            unknown_symbol=Reply(200, {"count": 0, "request_id": REQUEST, "results": [], "status": "OK"}),
        ),
        "dividends": Answers(DIVIDENDS, as_told(_results), NONE),
        "splits": Answers(SPLITS, as_told(_results), NONE),
    },
    server_error=_error(500, "ERROR", "error", "internal error"),  # undocumented
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a minute
    bad_key=_error(401, "ERROR", "error", "Unknown API Key"),  # undocumented: as its clients report it
    no_path=_error(404, "NotFound", "message", "Not Found"),  # undocumented
    bad_call=_error(400, "ERROR", "error", "a query parameter was malformed"),
    limits=(Limit(5, MINUTE, "clock"),),
)
