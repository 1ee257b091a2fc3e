"""Twelve Data: an error's body has its status."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from tasks.providers.documents import NEW_YORK
from workers.simulator.replies.reply import (
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
    close = Decimal(str(sample["previous_close"]))
    name, _, exchange = symbol.partition(":")
    return {
        **sample,
        "symbol": name,
        "mic_code": exchange or sample["mic_code"],
        "datetime": now.date().isoformat(),
        "timestamp": int(now.timestamp()),
        "last_quote_at": int(now.timestamp()),
        "close": f"{price:.5f}",
        "change": f"{price - close:.5f}",
        "percent_change": f"{(price - close) / close * 100:.5f}",
    }


def bars(sample: Mapping[str, str], symbol: str, price: Decimal, now: datetime) -> object:
    days = last_days(now, 100)
    name, _, exchange = symbol.partition(":")
    return {
        "meta": {"symbol": name, **META, "mic_code": exchange or META["mic_code"]},
        "values": [
            {
                "datetime": day.isoformat(),
                **sample,
                "close": f"{price:.5f}" if day == days[0] else sample["close"],
            }
            for day in days
        ],
        "status": "ok",
    }


def minutes(
    sample: Mapping[str, Any], symbol: str, price: Decimal, starts: list[datetime], span: str
) -> object:
    rows = last_close(sample, "close", f"{price:.5f}", len(starts))
    name, _, exchange = symbol.partition(":")
    about = {"symbol": name, **META, "mic_code": exchange or META["mic_code"]}
    return {
        "meta": {**about, "interval": span.replace("m", "min")},
        "values": [
            {"datetime": f"{start.astimezone(NEW_YORK):%Y-%m-%d %H:%M:%S}", **row}
            for start, row in zip(starts, rows, strict=True)
        ],
        "status": "ok",
    }


def _error(code: int, message: str) -> Reply:
    return Reply(code, {"code": code, "message": message, "status": "error"})


QUOTE = {
    "symbol": "AAPL",
    "name": "Apple Inc",
    "exchange": "NASDAQ",
    "mic_code": "XNAS",
    "currency": "USD",
    "datetime": "2021-09-16",
    "timestamp": 1631772000,
    "last_quote_at": 1631772000,
    "open": "148.44000",
    "high": "148.96840",
    "low": "147.22099",
    "close": "148.85001",
    "volume": "67903927",
    "previous_close": "149.09000",
    "change": "-0.23999",
    "percent_change": "-0.16097",
    "average_volume": "83571571",
    "is_market_open": False,
    "fifty_two_week": {
        "low": "103.10000",
        "high": "157.25999",
        "low_change": "45.75001",
        "high_change": "-8.40999",
        "low_change_percent": "44.37440",
        "high_change_percent": "-5.34782",
        "range": "103.099998 - 157.259995",
    },
}
META = {
    "interval": "1day",
    "currency": "USD",
    "exchange_timezone": "America/New_York",
    "exchange": "NASDAQ",
    "mic_code": "XNAS",
    "type": "Common Stock",
}
BAR = {
    "open": "148.73500",
    "high": "148.86000",
    "low": "148.73000",
    "close": "148.85001",
    "volume": "624277",
}
NO_SYMBOL = _error(
    404,
    "**symbol** or **figi** parameter is missing or invalid. Please provide a valid symbol according to API "
    "documentation: https://twelvedata.com/docs#reference-data",
)

HEAD = {
    "name": "Apple Inc",
    "currency": "USD",
    "exchange": "NASDAQ",
    "mic_code": "XNAS",
    "exchange_timezone": "America/New_York",
}
DIVIDENDS = {"dividends": [{"ex_date": "2020-05-08", "amount": 0.82}]}
SPLITS = {
    "splits": [
        {
            "date": "2020-08-31",
            "description": "4-for-1 split",
            "ratio": 0.25,
            "from_factor": 4,
            "to_factor": 1,
        }
    ]
}


def _about(told: dict[str, object], symbol: str) -> object:
    name, _, exchange = symbol.partition(":")
    return {"meta": {"symbol": name, **HEAD, "mic_code": exchange or HEAD["mic_code"]}, **told}


REPLIES = Replies(
    endpoints={
        "quote": Answers(QUOTE, quote, unknown_symbol=NO_SYMBOL, start=Decimal("148.85")),
        "bars": Answers(BAR, bars, unknown_symbol=NO_SYMBOL, start=Decimal("148.85")),
        **intraday(BAR, minutes, NO_SYMBOL, Decimal("148.85")),
        "dividends": Answers(DIVIDENDS, as_told(_about), NO_SYMBOL),
        "splits": Answers(SPLITS, as_told(_about), NO_SYMBOL),
    },
    server_error=_error(520, "error message"),
    throttle=_error(
        429,
        "You have run out of API credits for the current minute. 9 API credits were used, with the current "
        "limit being 8. Wait for the next minute or consider upgrading your plan at "
        "https://twelvedata.com/pricing",
    ),
    # undocumented: as its clients report it
    quota=_error(
        429,
        "You have run out of API credits for the day. 801 API credits were used, with the current limit "
        "being 800.",
    ),
    bad_key=_error(401, "apikey parameter is incorrect or not specified"),
    no_path=_error(404, "Not Found"),  # undocumented
    bad_call=_error(
        400,
        "Invalid **interval** provided: 0.99min. Supported intervals: 1min, 5min, 15min, 30min, 45min, 1h, "
        "2h, 4h, 8h, 1day, 1week, 1month",
    ),
    limits=(Limit(8, MINUTE, "clock"), Limit(800, DAY, "clock", "quota")),
)
