"""Alpaca: objects by symbol, errors in `message`."""

from collections.abc import Mapping
from datetime import UTC, datetime, time
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


def quote(sample: Mapping[str, Any], symbol: str, price: Decimal, now: datetime) -> object:
    stamp = _stamp(now)
    trade = {**sample["latestTrade"], "t": stamp, "p": float(price)}
    return {symbol: {**sample, "latestTrade": trade, "latestQuote": {**sample["latestQuote"], "t": stamp}}}


def bars(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    days = last_days(now, 100)[::-1]
    rows = [{"t": _stamp(datetime.combine(day, time(), NEW_YORK)), **sample} for day in days]
    rows[-1]["c"] = float(price)
    return {"bars": {symbol: rows}, "next_page_token": None}


def minutes(
    sample: Mapping[str, Any], symbol: str, price: Decimal, starts: list[datetime], _span: str
) -> object:
    rows = last_close(sample, "c", float(price), len(starts))
    told = [{"t": _stamp(start), **row} for start, row in zip(starts, rows, strict=True)]
    return {"bars": {symbol: told}, "next_page_token": None}


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    article = {**sample, "created_at": _stamp(now), "updated_at": _stamp(now), "symbols": [symbol]}
    return {"news": [article], "next_page_token": None}


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


SNAPSHOT = {
    "latestTrade": {
        "t": "2022-03-18T14:33:58.448432206Z",
        "x": "D",
        "p": 161.1998,
        "s": 200,
        "c": ["@"],
        "i": 39884,
        "z": "C",
    },
    "latestQuote": {
        "t": "2022-03-18T14:33:58.547942Z",
        "ax": "K",
        "ap": 161.2,
        "as": 2,
        "bx": "K",
        "bp": 161.19,
        "bs": 5,
        "c": ["R"],
        "z": "C",
    },
    "minuteBar": {
        "t": "2022-03-18T14:32:00Z",
        "o": 161.1,
        "h": 161.2,
        "l": 161.0,
        "c": 161.15,
        "v": 10000,
        "n": 100,
        "vw": 161.1,
    },
    "dailyBar": {
        "t": "2022-03-18T04:00:00Z",
        "o": 160.51,
        "h": 161.52,
        "l": 159.87,
        "c": 161.15,
        "v": 1000000,
        "n": 10000,
        "vw": 160.9,
    },
    "prevDailyBar": {
        "t": "2022-03-17T04:00:00Z",
        "o": 158.61,
        "h": 161.0,
        "l": 157.63,
        "c": 160.62,
        "v": 75615376,
        "n": 1,
        "vw": 159.8,
    },
}
BAR = {"o": 174, "h": 174.84, "l": 172.31, "c": 174.61, "v": 85998033, "n": 732412, "vw": 173.703516}
ARTICLE = {
    "id": 41799100,
    "author": "Benzinga Newsdesk",
    "headline": "Piper Sandler Maintains Neutral on Clearwater Analytics Hldg, Raises Price Target to $28",
    "summary": "",
    "content": "",
    "source": "benzinga",
    "images": [],
    "url": "https://www.benzinga.com/news/24/11/41799100/...",
}
# The status and the headers are documented; the text is not.
LIMIT = Reply(
    429,
    {"message": "too many requests."},
    {"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "{reset}"},
)

DIVIDENDS = {
    "cash_dividends": [
        {
            "id": "59c0f8d4-6f3a-4d0d-8a4f-1d2b7c9e0a11",
            "cusip": "037833100",
            "rate": 0.82,
            "special": False,
            "foreign": False,
            "process_date": "2020-05-14",
            "ex_date": "2020-05-08",
            "record_date": "2020-05-11",
            "payable_date": "2020-05-14",
        }
    ]
}
SPLITS = {
    "forward_splits": [
        {
            "id": "59c0f8d4-6f3a-4d0d-8a4f-1d2b7c9e0a12",
            "cusip": "037833100",
            "new_rate": 4,
            "old_rate": 1,
            "process_date": "2020-08-31",
            "ex_date": "2020-08-31",
            "record_date": "2020-08-24",
            "payable_date": "2020-08-28",
        }
    ]
}
NONE = Reply(200, {"corporate_actions": {}, "next_page_token": None})


def _actions(kinds: dict[str, list[dict[str, object]]], symbol: str) -> object:
    told = {kind: [{**row, "symbol": symbol} for row in rows] for kind, rows in kinds.items()}
    return {"corporate_actions": told, "next_page_token": None}


REPLIES = Replies(
    endpoints={
        "quote": Answers(SNAPSHOT, quote, unknown_symbol=Reply(200, {}), start=Decimal("161.20")),
        "bars": Answers(
            BAR,
            bars,
            unknown_symbol=Reply(200, {"bars": {}, "next_page_token": None}),
            start=Decimal("174.61"),
        ),
        **intraday(BAR, minutes, Reply(200, {"bars": {}, "next_page_token": None}), Decimal("174.61")),
        # undocumented: a list without an article
        "news": Answers(ARTICLE, news, unknown_symbol=Reply(200, {"news": [], "next_page_token": None})),
        "dividends": Answers(DIVIDENDS, as_told(_actions), NONE),
        "splits": Answers(SPLITS, as_told(_actions), NONE),
    },
    server_error=BAD_GATEWAY,
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a minute
    bad_key=Reply(401, {"message": "unauthorized."}),  # the text is undocumented
    no_path=Reply(404, {"message": "endpoint not found."}),  # undocumented
    bad_call=Reply(400, {"message": "invalid symbol: ..."}),  # the text is undocumented
    limits=(Limit(200, MINUTE, "clock"),),
)
