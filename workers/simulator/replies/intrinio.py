"""Intrinio: errors are in `error` and `message`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from workers.simulator.replies.reply import (
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
    return {
        **sample,
        "last_price": float(price),
        "last_time": _stamp(now),
        "updated_on": _stamp(now),
        "security": {**sample["security"], "ticker": symbol},
    }


def bars(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    rows = [{"date": day.isoformat(), **sample} for day in last_days(now, 100)]
    rows[0] |= {"close": float(price), "adj_close": float(price)}
    return {"stock_prices": rows, "security": {"id": "sec_agjrgj", "ticker": symbol}, "next_page": None}


def minutes(
    sample: Mapping[str, Any], symbol: str, price: Decimal, starts: list[datetime], _span: str
) -> object:
    rows = last_close(sample, "close", float(price), len(starts))
    length = starts[0] - starts[1]
    told = [
        {**row, "time": _stamp(start), "close_time": _stamp(start + length)}
        for start, row in zip(starts, rows, strict=True)
    ]
    security = {"id": "sec_agjrgj", "ticker": symbol}
    return {"intervals": told, "source": "iex", "security": security, "next_page": None}


def news(sample: Mapping[str, object], symbol: str, _price: Decimal, now: datetime) -> object:
    return {
        "news": [{**sample, "publication_date": _stamp(now)}],
        "company": {"id": "com_NX6GzO", "ticker": symbol},
        "next_page": None,
    }


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


QUOTE = {
    "messages": [
        (
            "market_center, listing_venue, sales_conditions, and quote_conditions are only available with "
            "our delayed sip feed."
        )
    ],
    "last_size": 100,
    "bid_price": 186.9,
    "bid_size": 100,
    "ask_price": 189.36,
    "ask_size": 600,
    "open_price": 190.14,
    "close_price": 189.38,
    "high_price": 190.35,
    "low_price": 188.58,
    "exchange_volume": 151884,
    "market_volume": None,
    "source": "iex",
    "listing_venue": None,
    "sales_conditions": None,
    "quote_conditions": None,
    "market_center_code": "I",
    "is_darkpool": False,
    "security": {
        "id": "sec_agjrgj",
        "ticker": "AAPL",
        "exchange_ticker": "AAPL:UW",
        "figi": "BBG000B9Y5X2",
        "composite_figi": "BBG000B9XRY4",
    },
}
BAR = {
    "intraperiod": False,
    "frequency": "daily",
    "open": 189.57,
    "high": 190.96,
    "low": 188.65,
    "close": 189.71,
    "volume": 54412900.0,
    "adj_open": 189.57,
    "adj_high": 190.96,
    "adj_low": 188.65,
    "adj_close": 189.71,
    "adj_volume": 54412900.0,
    "factor": 1.0,
    "split_ratio": 1.0,
    "dividend": 0.0,
    "change": 1.7,
    "percent_change": 0.009,
    "fifty_two_week_high": 198.23,
    "fifty_two_week_low": 124.17,
}
MINUTES = {
    "interval": "1m",
    "open": 189.6,
    "close": 189.71,
    "high": 189.8,
    "low": 189.55,
    "volume": 10250.0,
    "average": 189.68,
    "change": 0.0006,
}
ARTICLE = {"id": "nws_xxxx", "title": "...", "url": "https://...", "summary": "...", "source": "yahoo"}


def _error(status: int, error: str, message: str) -> Reply:
    return Reply(status, {"error": error, "message": message})


NO_SYMBOL = _error(404, "Identifier not found", "...")  # the text is undocumented
# The status and the header are documented; the text is not.
LIMIT = Reply(
    429,
    {"error": "You have reached your limit", "message": "..."},
    {"Retry-After": "{to_reset}"},
)

DIVIDENDS = [
    {
        "date": "2020-05-08",
        "factor": 0.9973,
        "dividend": 0.82,
        "dividend_currency": "USD",
        "split_ratio": 1.0,
    }
]
SPLITS = [
    {
        "date": "2020-08-31",
        "factor": 0.25,
        "dividend": 0.0,
        "dividend_currency": None,
        "split_ratio": 4.0,
    }
]


def _adjustments(rows: list[dict[str, object]], symbol: str) -> object:
    security = {"id": "sec_agjrgj", "ticker": symbol}
    return {"stock_price_adjustments": rows, "security": security, "next_page": None}


REPLIES = Replies(
    endpoints={
        "quote": Answers(QUOTE, quote, unknown_symbol=NO_SYMBOL, start=Decimal("189.38")),
        "bars": Answers(BAR, bars, unknown_symbol=NO_SYMBOL, start=Decimal("189.71")),
        **intraday(MINUTES, minutes, NO_SYMBOL, Decimal("189.71")),
        "news": Answers(ARTICLE, news, unknown_symbol=NO_SYMBOL),
        "dividends": Answers(DIVIDENDS, as_told(_adjustments), NO_SYMBOL),
        "splits": Answers(SPLITS, as_told(_adjustments), NO_SYMBOL),
    },
    server_error=Reply(500, ""),
    throttle=LIMIT,
    quota=LIMIT,  # it has no limit but the one a second
    bad_key=_error(401, "API Key was invalid.", "API Key was formatted invalidly."),
    no_path=_error(404, "Not Found", "..."),  # undocumented
    limits=(Limit(100, 1),),
)
