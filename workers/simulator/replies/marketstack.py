"""Marketstack: an error has a code and a text."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from workers.simulator.replies.reply import (
    MONTH,
    Answers,
    Limit,
    Replies,
    Reply,
    as_told,
    intraday,
    last_close,
    last_days,
)


def bars(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    newest, *older = [
        {**sample, "symbol": symbol, "date": f"{day:%Y-%m-%d}T00:00:00+0000"} for day in last_days(now, 100)
    ]
    found = [{**newest, "close": float(price), "adj_close": float(price)}, *older]
    total = len(found)
    return {"pagination": {"limit": 1000, "offset": 0, "count": total, "total": total}, "data": found}


def minutes(
    sample: Mapping[str, Any], symbol: str, price: Decimal, starts: list[datetime], _span: str
) -> object:
    rows = last_close(sample, "close", float(price), len(starts))
    found = [
        {**row, "symbol": symbol, "date": f"{start:%Y-%m-%dT%H:%M:%S}+0000"}
        for start, row in zip(starts, rows, strict=True)
    ]
    total = len(found)
    return {"pagination": {"limit": 400, "offset": 0, "count": total, "total": total}, "data": found}


def quote(sample: Mapping[str, object], symbol: str, price: Decimal, now: datetime) -> object:
    found = {**sample, "ticker": symbol, "price": str(price), "trade_last": f"{now:%Y-%m-%d %H:%M:%S}"}
    return {"data": [found]}


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"error": {"code": code, "message": message}})


BAR = {
    "open": 129.8,
    "high": 133.04,
    "low": 129.47,
    "close": 132.995,
    "volume": 106686703.0,
    "adj_high": 133.04,
    "adj_low": 129.47,
    "adj_close": 132.995,
    "adj_open": 129.8,
    "adj_volume": 106686703.0,
    "split_factor": 1.0,
    "dividend": 0.0,
    "name": "Apple Inc",
    "exchange_code": "NASDAQ",
    "asset_type": "Stock",
    "price_currency": "usd",
    "exchange": "XNAS",
}
MINUTES = {
    "open": 132.9,
    "high": 133.04,
    "low": 132.8,
    "mid": 132.98,
    "last_size": 100,
    "bid_size": 100.0,
    "bid_price": 132.97,
    "ask_price": 132.99,
    "ask_size": 200.0,
    "last": 132.99,
    "close": 132.995,
    "volume": 41250.0,
    "marketstack_last": 132.99,
    "exchange": "IEXG",
}
# as its clients report it
NO_SYMBOL = _error(422, "no_valid_symbols_provided", "At least one valid symbol must be provided")
PRICE = {"exchange_code": "NASDAQ", "exchange_name": "...", "country": "...", "currency": "USD"}

DIVIDENDS = [
    {
        "date": "2020-05-08",
        "dividend": 0.82,
        "payment_date": "2020-05-14 04:00:00",
        "record_date": "2020-05-11 04:00:00",
        "declaration_date": "2020-04-30 04:00:00",
        "distr_freq": "q",
    }
]
SPLITS = [{"date": "2020-08-31", "split_factor": 4.0, "stock_split": "4:1"}]


def _data(rows: list[dict[str, object]], symbol: str) -> object:
    found = [{**row, "symbol": symbol} for row in rows]
    total = len(found)
    return {"pagination": {"limit": 1000, "offset": 0, "count": total, "total": total}, "data": found}


REPLIES = Replies(
    endpoints={
        "bars": Answers(
            BAR,
            bars,
            unknown_symbol=NO_SYMBOL,
            start=Decimal("132.99"),
        ),
        **intraday(MINUTES, minutes, NO_SYMBOL, Decimal("132.99")),
        # undocumented: a list of none
        "quote": Answers(PRICE, quote, unknown_symbol=Reply(200, {"data": []}), start=Decimal("231.41")),
        "dividends": Answers(DIVIDENDS, as_told(_data), NO_SYMBOL),
        "splits": Answers(SPLITS, as_told(_data), NO_SYMBOL),
    },
    server_error=_error(500, "internal_error", "An internal error occurred."),
    throttle=_error(
        429,
        "rate_limit_reached",
        "The given user account has reached the rate limit (5 requests per second).",
    ),
    quota=_error(
        429,
        "too_many_requests",
        "The given user account has reached its monthly allowed request volume.",
    ),
    bad_key=_error(
        401,
        "missing_access_key",
        "You have not supplied an API Access Key. [Required format: access_key=YOUR_ACCESS_KEY]",
    ),
    no_path=_error(404, "404_not_found", "Resource not found."),
    bad_call=_error(422, "validation_error", "Request failed with validation error"),
    limits=(Limit(5, 1), Limit(100, MONTH, "clock", "quota")),
)
