"""Alpaca's market data. Objects by symbol with keys of a letter; a symbol that is not among them is unknown.

It has US shares, BRK.B as here; its coins (BTC/USD) have endpoints of their own.

The setting is `id:secret`. Feeds are those of the plan: quotes of IEX where it has no live consolidated ones,
bars up to 15 minutes ago.
"""

from collections.abc import Callable

from tasks.providers.documents import Fields, Node, NothingError, Rows, SchemaDriftError, each
from tasks.providers.rows import (
    YEARS,
    Auth,
    Endpoint,
    Matcher,
    Provider,
    Quota,
    Reset,
    Verdict,
    Window,
    intraday,
)

_WHO = frozenset({401, 403})
_PARTS = frozenset(("latestTrade", "latestQuote", "minuteBar", "dailyBar", "prevDailyBar"))


def quote(reply: Node) -> Fields | None:
    """`/snapshots`: sizes in round lots; parts that there are not yet are null, or not there."""
    for found in reply.members("symbol"):
        if found.value is None:  # as of a symbol it does not know
            return None
        names = {name for name, _ in found.items()} - {"symbol"}
        if names and not names & _PARTS:  # as an error's object
            raise SchemaDriftError(f"{found.path} is no snapshot")
        trade, book, day, before = (
            found.maybe(Node.child, name) or Node({})
            for name in ("latestTrade", "latestQuote", "dailyBar", "prevDailyBar")
        )
        if not trade.value:
            if book.value or day.value or before.value:
                raise NothingError(f"{found.path}.latestTrade is null", "no_trade")
            return None
        return {
            "symbol": found.symbol("symbol"),
            "last_price": trade.price("p"),
            "last_size": trade.maybe(Node.size, "s"),
            "last_timestamp": trade.instant("t"),
            "bid": book.maybe(Node.number, "bp"),
            "bid_size": book.maybe(Node.count, "bs"),
            "ask": book.maybe(Node.number, "ap"),
            "ask_size": book.maybe(Node.count, "as"),
            "open": day.maybe(Node.number, "o"),
            "high": day.maybe(Node.number, "h"),
            "low": day.maybe(Node.number, "l"),
            "volume": day.maybe(Node.number, "v"),
            "prev_close": before.maybe(Node.number, "c"),
        }
    return None


def bars(reply: Node) -> Rows | None:
    """A list for each symbol; a day is its midnight on the exchange's clock."""
    listed = reply.child("bars").items()
    rows = [
        Node({"symbol": symbol, "bar": row.value}, row.path) for symbol, rows in listed for row in rows.rows()
    ]
    return each(rows, _bar) if rows else None


def _bar(found: Node) -> Fields:
    row = Node(found.child("bar").value, found.path)
    return {
        "symbol": found.child("symbol").value,
        "timestamp": row.instant("t"),
        **row.ohlcv(("o", "h", "l", "c", "v")),
        "vwap": row.maybe(Node.number, "vw"),
        "trade_count": row.maybe(Node.count, "n"),
    }


def minutes(reply: Node) -> Rows:
    """The same; a weekend without a bar is no unknown symbol."""
    return bars(reply) or Rows()


def dividends(reply: Node) -> Rows:
    """Of `/corporate-actions`: kinds that there are none of are not there."""
    return _actions(reply, "cash_dividends", read=_dividend)


def _dividend(row: Node) -> Fields:
    special = row.maybe(Node.child, "special")
    return {
        "symbol": row.symbol("symbol"),
        "ex_date": row.date("ex_date"),
        "pay_date": row.maybe(Node.date, "payable_date"),
        "record_date": row.maybe(Node.date, "record_date"),
        "amount": row.price("rate"),
        "currency": row.maybe(Node.text, "currency"),
        "kind": ("special" if special.value else "cash") if special else None,
    }


def splits(reply: Node) -> Rows:
    """Those of one share into several, and of several into one."""
    return _actions(reply, "forward_splits", "reverse_splits", read=_split)


def _split(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "date": row.date("ex_date"),
        **row.split_of("new_rate", "old_rate"),
    }


def _actions(reply: Node, *kinds: str, read: Callable[[Node], Fields]) -> Rows:
    told = reply.child("corporate_actions")
    listed = [told.maybe(Node.child, kind) for kind in kinds]
    return each((row for rows in listed if rows for row in rows.rows()), read)


def news(reply: Node) -> Rows:
    """Of Benzinga. An article without a URL, which its SDK allows, is none that could be read."""
    return reply.child("news").each(_article)


def _article(row: Node) -> Fields:
    images = row.maybe(Node.child, "images") or Node(None)
    return {
        "article_id": str(row.count("id")),
        "published_at": row.instant("created_at"),
        "updated_at": row.maybe(Node.instant, "updated_at"),
        "title": row.prose("headline"),
        "author": row.maybe(Node.prose, "author"),
        "source": row.maybe(Node.prose, "source"),
        "url": row.link("url"),
        "excerpt": row.maybe(Node.prose, "summary"),
        "body": row.maybe(Node.prose, "content"),
        "image_url": next((image.maybe(Node.url, "url") for image in images.rows()), None),
        "symbols": row.maybe(Node.texts, "symbols") or (),
    }


def _actions_of(types: str) -> dict[str, str]:
    return {
        "symbols": "{symbol}",
        "types": types,
        "start": "{start}",
        "end": "{end}",
        "limit": "1000",
        "sort": "desc",
    }


ROW = Provider(
    service="alpaca",
    name="Alpaca",
    base_url="https://data.alpaca.markets",
    auth=Auth("pair", "APCA-API-KEY-ID", second="APCA-API-SECRET-KEY"),
    endpoints={
        "quote": Endpoint("/v2/stocks/snapshots", quote, params={"symbols": "{symbol}"}),
        "bars": Endpoint(
            "/v2/stocks/bars",
            bars,
            # Without an end it is the newest that the plan may see.
            params={
                "symbols": "{symbol}",
                "timeframe": "1Day",
                "start": "{start}",
                "limit": "1000",
                "adjustment": "raw",
            },
            window_days=140,
            adjustment="raw",
        ),
        **intraday(
            {"1m": "1Min", "5m": "5Min", "15m": "15Min", "30m": "30Min", "1h": "1Hour"},
            "/v2/stocks/bars",
            minutes,
            {
                "symbols": "{symbol}",
                "timeframe": "{interval}",
                "start": "{start}",
                "limit": "400",
                "sort": "desc",
                "adjustment": "raw",
            },
            adjustment="raw",
        ),
        "dividends": Endpoint(
            "/v1/corporate-actions",
            dividends,
            params=_actions_of("cash_dividend"),
            window_days=YEARS,
            adjustment="raw",
        ),
        "splits": Endpoint(
            "/v1/corporate-actions",
            splits,
            params=_actions_of("forward_split,reverse_split"),
            window_days=YEARS,
        ),
        "news": Endpoint(
            "/v1beta1/news", news, params={"symbols": "{symbol}", "start": "{start}", "limit": "50"}
        ),
    },
    matchers=(
        # Unknown to it; others may have it.
        Matcher(
            Verdict.NOT_FOUND, "no such symbol", ("message",), "invalid symbol", statuses=frozenset({400})
        ),
        # A word, a dot, and no more.
        Matcher(Verdict.AUTH, "the key is not valid", ("message",), equals="unauthorized.", statuses=_WHO),
        Matcher(Verdict.AUTH, "the key is not valid", ("message",), equals="forbidden.", statuses=_WHO),
        Matcher(Verdict.AUTH, "the key is not valid", ("message",), "is not authorized", statuses=_WHO),
        Matcher(
            Verdict.ENTITLEMENT,
            "the newest consolidated prices are not in this plan",
            ("message",),
            "subscription does not permit",
            statuses=frozenset({403, 422}),
        ),
    ),
    statuses=frozenset({400, 401, 403, 429}),
    quota=Quota(200, 60),
    rate_hold=Window.MINUTE,
    reset=Reset("X-RateLimit-Reset"),
)
