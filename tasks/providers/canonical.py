"""One form of times and prices, whatever a provider sends: a session has one start, and a price one unit.

A reader gives what its reply says. Of a bar that may be its day alone, as a date, and beside it what tells on
whose clock that day begins and in what its prices are:

    zone      the exchange's clock, where the reply tells it
    mic       the exchange, where the reply tells that
    currency  as the provider writes it
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from tasks.errors import InvalidSymbolError
from tasks.exchanges import MINOR_UNITS, exchange_of
from tasks.providers.documents import NEW_YORK, Fields
from tasks.providers.symbols import Kind, Symbol, parse
from tasks.records import Bar, Dividend, Filing, Quote, Record

_UTC = ZoneInfo("UTC")
_DAYS = frozenset(("1d", "1W", "1M"))
_PRICES = {
    Quote: ("last_price", "bid", "ask", "open", "high", "low", "prev_close", "change"),
    Dividend: ("amount",),
    Bar: ("open", "high", "low", "close", "vwap", "adj_close", "dividend"),
}
_CODE = re.compile(r"[A-Za-z]{3,5}")  # USDT is a coin, and others are paid in it
_HOURS_BEFORE = (time(22), time(23))  # midnight; Yahoo's are off around a change of daylight saving
_MAY_BE_ZERO = frozenset(("change", "dividend"))


def canonical(kind: type[Record], fields: Fields, symbol: str) -> Fields:
    """The fields with their times and prices in the one form they have here.

    Args:
        kind: The record they are for.
        fields: As a reader gives them.
        symbol: What they are about.
    """
    if kind is Filing and fields.get("symbol") is not None:
        return {**fields, "symbol": _parsed(str(fields["symbol"])).text}
    if kind not in _PRICES:
        return fields
    currency, parts = _unit(fields)
    about = _parsed(symbol)
    found = {
        **fields,
        **_prices(fields, _PRICES[kind], parts),
        "currency": currency or about.quote_currency or None,
    }
    if found.get("interval") in _DAYS:
        found["timestamp"] = _session(found, about)
    return {name: value for name, value in found.items() if name not in ("zone", "mic")}


def _prices(fields: Fields, names: tuple[str, ...], parts: int) -> Mapping[str, object]:
    """In the currency itself, of which the told unit is one of so many parts; zero is no price."""
    told = {name: value for name in names if isinstance(value := fields.get(name), Decimal)}
    return {name: value / parts if value or name in _MAY_BE_ZERO else None for name, value in told.items()}


def _unit(fields: Fields) -> tuple[str | None, int]:
    """The currency (ISO 4217) and how many of the told unit make one of it; None where it is not told."""
    told = str(fields.get("currency") or "").strip()
    if part := MINOR_UNITS.get(told) or MINOR_UNITS.get(told.upper()):
        return part
    return (told.upper() if _CODE.fullmatch(told) else None), 1


def _session(fields: Mapping[str, object], about: Symbol) -> datetime:
    """When a day's bar begins: at midnight on the clock of its exchange, whoever tells it."""
    told, clock = fields["timestamp"], _clock(fields, about)
    if isinstance(told, datetime):
        # Providers that tell only days write them as midnights in UTC.
        instant, zone = told.astimezone(UTC), fields.get("zone")
        there = instant.astimezone(zone if isinstance(zone, ZoneInfo) else clock)
        if there.time() in _HOURS_BEFORE and there.tzinfo is not _UTC:
            there += timedelta(hours=2)  # its midnight, by a clock that is an hour or two off
        told = instant.date() if instant.time() == time() else there.date()
    if not isinstance(told, date):
        raise TypeError(f"a bar's timestamp is a date or a datetime, not {told!r}")
    return datetime.combine(told, time(), clock).astimezone(UTC)


def _clock(fields: Mapping[str, object], about: Symbol) -> ZoneInfo:
    if about.kind in (Kind.FX, Kind.COIN) or ":" in about.text:
        return _UTC  # traded on no exchange, all day long
    if isinstance(zone := fields.get("zone"), ZoneInfo):
        return zone
    exchange = exchange_of(str(fields.get("mic") or "")) or about.exchange
    return ZoneInfo(exchange.zone) if exchange else NEW_YORK


def _parsed(symbol: str) -> Symbol:
    try:
        return parse(symbol)
    except InvalidSymbolError:  # a provider's own spelling, where nobody asked for it
        return Symbol(Kind.OTHER, symbol)
