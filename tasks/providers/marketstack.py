"""Marketstack. Two limits are 429, told apart by a code: five calls a second, and the month's.

Its symbols, by its documentation of version 2 (https://marketstack.com/documentation_v2) and its users:
BRK-B, VOD.L, with the familiar suffixes. Indices have endpoints of their own; it has no currencies, no coins.

Version 2; the one before is frozen. Keys made at APILayer's own dashboard are asked for at
api.apilayer.net/marketstack/v2, by MARKETSTACK_BASE_URL (its documentation, 2026).
"""

from datetime import date
from zoneinfo import ZoneInfo

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import YEARS, Auth, Endpoint, Matcher, Provider, Quota, Verdict, Window, intraday
from tasks.providers.symbols import FAMILIAR, Spelling

_CODE = ("error", "code")
_UTC = ZoneInfo("UTC")  # a quote's time names no zone; of US exchanges this makes it too old, never too fresh


def bars(reply: Node) -> Rows:
    """Raw prices, and a close adjusted for splits and dividends; a session is told as its midnight in UTC."""
    return reply.child("data").each(_bar)


def _bar(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "timestamp": row.instant("date"),
        "mic": row.maybe(Node.text, "exchange"),
        "currency": row.maybe(Node.text, "price_currency"),
        **row.ohlcv(),
        "adj_close": row.maybe(Node.number, "adj_close"),
        "dividend": row.maybe(Node.number, "dividend"),
        # split_factor may stand for another distribution too.
    }


def minutes(reply: Node) -> Rows:
    """`/intraday`: trades of IEX, as they were; of each bar its start, in UTC."""
    return reply.child("data").each(
        lambda row: {
            "symbol": row.symbol("symbol"),
            "timestamp": row.instant("date"),
            **row.ohlcv(),
        }
    )


def dividends(reply: Node) -> Rows:
    """As they were paid."""
    return reply.child("data").each(_dividend)


def _dividend(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "ex_date": _day(row, "date"),
        "pay_date": row.maybe(_day, "payment_date"),
        "record_date": row.maybe(_day, "record_date"),
        "declared": row.maybe(_day, "declaration_date"),
        "amount": row.price("dividend"),
    }


def splits(reply: Node) -> Rows:
    """How many new shares an old one became."""
    return reply.child("data").each(_split)


def _split(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "date": _day(row, "date"),
        "ratio": row.price("split_factor"),
    }


def _day(row: Node, key: str) -> date:
    """Told as a date, or as its midnight."""
    return row.instant(key, _UTC).date() if ":" in row.text(key) else row.date(key)


def quote(reply: Node) -> Fields | None:
    """`/stockprice`: a list of one; the price is a string."""
    rows = reply.child("data").rows()
    if not rows:
        return None
    row = rows[0]
    return {
        "symbol": row.symbol("ticker"),
        "last_price": row.price_numeral("price"),
        "last_timestamp": row.instant("trade_last", _UTC),
        "exchange": row.maybe(Node.text, "exchange_code"),
        "currency": row.maybe(Node.text, "currency"),
    }


_NO_ISSUES = dict.fromkeys(("PR", "WS", "U", "RT"), "")  # how it spells them is not documented
_SPELL = Spelling(dash="-", exchanges=FAMILIAR, issues=_NO_ISSUES)
_SINCE = {"symbols": "{symbol}", "date_from": "{start}", "limit": "1000"}

ROW = Provider(
    service="marketstack",
    name="Marketstack",
    base_url="https://api.marketstack.com/v2",
    auth=Auth("query", "access_key"),
    endpoints={
        "bars": Endpoint(
            "/eod",
            bars,
            params={"symbols": "{symbol}", "date_from": "{start}", "date_to": "{end}", "limit": "1000"},
            spell=_SPELL,
            window_days=150,
            no_rows=Verdict.NOT_FOUND,  # what an unknown symbol may be
            adjustment="raw",
        ),
        # In the basic plan and higher ones, below 15 minutes in the professional one.
        **intraday(
            {"1m": "1min", "5m": "5min", "15m": "15min", "30m": "30min", "1h": "1hour"},
            "/intraday",
            minutes,
            {
                "symbols": "{symbol}",
                "interval": "{interval}",
                "date_from": "{start}",
                "date_to": "{end}",
                "limit": "400",
            },
            spell=Spelling(dash="-", issues=_NO_ISSUES),
            adjustment="raw",
        ),
        "dividends": Endpoint(
            "/dividends", dividends, params=_SINCE, spell=_SPELL, window_days=YEARS, adjustment="raw"
        ),
        "splits": Endpoint("/splits", splits, params=_SINCE, spell=_SPELL, window_days=YEARS),
        # In the professional plan and higher ones.
        "quote": Endpoint("/stockprice", quote, params={"ticker": "{symbol}"}, spell=_SPELL),
    },
    matchers=(
        Matcher(Verdict.RATE_LIMIT, "five requests a second", _CODE, equals="rate_limit_reached"),
        Matcher(Verdict.QUOTA, "the month's requests are used up", _CODE, equals="too_many_requests"),
        # as the version before this one calls it
        Matcher(Verdict.QUOTA, "the month's requests are used up", _CODE, equals="usage_limit_reached"),
        Matcher(Verdict.NOT_FOUND, "no such symbol", _CODE, equals="no_valid_symbols_provided"),
        Matcher(Verdict.ENTITLEMENT, "the endpoint is not in this plan", _CODE, "access_restricted"),
    ),
    statuses=frozenset({401, 404, 422}),
    # A caller who asks for a few symbols does not wait seven hours for each.
    quota=Quota(100, Window.MONTH.seconds, burst=5),
    circuit={"failure_threshold": 3},  # a failed call is one of the hundred
    rate_hold=1.0,
    quota_hold=Window.MONTH,
)
