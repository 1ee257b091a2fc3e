"""Polygon, named Massive since 2025-10-30: both hosts answer (api.polygon.io too), and its keys stay.

Its symbols, by its documentation (https://massive.com/docs): BRK.B, I:SPX, C:EURUSD, X:BTCUSD. The snapshots
and the news here are those of shares; it has no share listed outside the US.

A plan that is behind the market says so in `status` ("DELAYED") beside a good reply.
"""

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.indices import Names
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict, Window, intraday
from tasks.providers.symbols import Spelling

_KINDS = {"recurring": "cash", "special": "special"}


def quote(reply: Node) -> Fields:
    """A snapshot; trades and quotes are in it where the plan includes them, bars in any plan that has it."""
    found = reply.child("ticker")
    trade, book, minute, day, before = (
        found.maybe(Node.child, name) or Node({}, f"{found.path}.{name}")
        for name in ("lastTrade", "lastQuote", "min", "day", "prevDay")
    )
    # Without trades in the plan, or before the day's first one: at night the snapshot is cleared.
    traded = trade.maybe(Node.number, "p")
    return {
        "symbol": found.symbol("ticker"),
        "last_price": trade.price("p") if traded else minute.price("c"),
        "last_size": trade.maybe(Node.size, "s") if traded else None,
        "last_timestamp": trade.nanoseconds("t") if traded else minute.milliseconds("t"),
        "bid": book.maybe(Node.number, "p"),
        "bid_size": book.maybe(Node.count, "s"),
        "ask": book.maybe(Node.number, "P"),
        "ask_size": book.maybe(Node.count, "S"),
        "open": day.maybe(Node.number, "o"),
        "high": day.maybe(Node.number, "h"),
        "low": day.maybe(Node.number, "l"),
        "volume": day.maybe(Node.number, "v"),
        "prev_close": before.maybe(Node.number, "c"),
        "change": found.maybe(Node.number, "todaysChange"),
        "change_percent": found.maybe(Node.percent, "todaysChangePerc"),
        "is_delayed": reply.maybe(Node.text, "status") == "DELAYED" or None,
    }


def bars(reply: Node) -> Rows | None:
    """Aggregates; of an unknown ticker, and of a window without a trade, `results` is not there."""
    if reply.count("resultsCount") == 0:
        return None
    adjusted = reply.maybe(Node.child, "adjusted")  # of an index it is not told
    common = {
        "symbol": reply.symbol("ticker"),
        "adjustment": "split" if adjusted and adjusted.value is True else "raw",
    }
    return reply.child("results").each(_bar, common)


def _bar(row: Node) -> Fields:
    return {
        "timestamp": row.milliseconds("t"),
        **row.ohlcv(("o", "h", "l", "c", "v")),
        "vwap": row.maybe(Node.number, "vw"),
        "trade_count": row.maybe(Node.count, "n"),
    }


def minutes(reply: Node) -> Rows:
    """The same; a weekend without a trade is no unknown ticker."""
    return bars(reply) or Rows()


def dividends(reply: Node) -> Rows:
    """As they were paid; a kind of their own has what is irregular, or not known."""
    return reply.child("results").each(_dividend)


def _dividend(row: Node) -> Fields:
    return {
        "symbol": row.symbol("ticker"),
        "ex_date": row.date("ex_dividend_date"),
        "pay_date": row.maybe(Node.date, "pay_date"),
        "record_date": row.maybe(Node.date, "record_date"),
        "declared": row.maybe(Node.date, "declaration_date"),
        "amount": row.price("cash_amount"),
        "currency": row.maybe(Node.text, "currency"),
        "kind": _KINDS.get(row.maybe(Node.text, "distribution_type") or ""),
    }


def splits(reply: Node) -> Rows:
    """Splits, reverse splits and dividends in shares."""
    return reply.child("results").each(_split)


def _split(row: Node) -> Fields:
    return {
        "symbol": row.symbol("ticker"),
        "date": row.date("execution_date"),
        **row.split_of("split_to", "split_from"),
    }


def news(reply: Node) -> Rows:
    """Sentiments are told for each ticker, not for the article."""
    return reply.child("results").each(_article)


def _article(row: Node) -> Fields:
    return {
        "article_id": row.text("id"),
        "published_at": row.instant("published_utc"),
        "title": row.prose("title"),
        "author": row.maybe(Node.prose, "author"),
        "source": row.maybe(_name, "publisher"),
        "url": row.link("article_url"),
        "excerpt": row.maybe(Node.prose, "description"),
        "image_url": row.maybe(Node.url, "image_url"),
        "symbols": row.maybe(Node.texts, "tickers") or (),
        "tags": row.maybe(Node.texts, "keywords") or (),
    }


def _name(row: Node, key: str) -> str | None:
    return row.child(key).maybe(Node.prose, "name")


# Preferred shares have a small p: BACpL. Rights are not documented.
_ISSUES = {"PR": "p{}", "RT": ""}
_SHARES = Spelling(issues=_ISSUES)
_BARS = Spelling(
    issues=_ISSUES, index=Names("polygon"), fx="C:{base}{quote}", coin="X:{base}{quote}", own=":"
)


ROW = Provider(
    service="polygon",
    name="Polygon",
    base_url="https://api.massive.com",
    auth=Auth("header", prefix="Bearer "),
    endpoints={
        # In no free plan.
        "quote": Endpoint("/v2/snapshot/locale/us/markets/stocks/tickers/{symbol}", quote, spell=_SHARES),
        "bars": Endpoint(
            "/v2/aggs/ticker/{symbol}/range/1/day/{start}/{end}",
            bars,
            params={"adjusted": "false", "sort": "asc", "limit": "5000"},  # adjusted: for splits
            spell=_BARS,
            window_days=140,
            adjustment="raw",
        ),
        **intraday(
            {"1m": "1/minute", "5m": "5/minute", "15m": "15/minute", "30m": "30/minute", "1h": "1/hour"},
            "/v2/aggs/ticker/{symbol}/range/{interval}/{start}/{end}",
            minutes,
            # Its limit is of the minutes that the bars are made of.
            {"adjusted": "false", "sort": "desc", "limit": "50000"},
            spell=_BARS,
            adjustment="raw",
        ),
        # Since 2026-02 in these places, in every plan; the old ones, /v3/reference, are to go.
        "dividends": Endpoint(
            "/stocks/v1/dividends",
            dividends,
            params={"ticker": "{symbol}", "sort": "ex_dividend_date.desc", "limit": "1000"},
            spell=_SHARES,
            adjustment="raw",
        ),
        "splits": Endpoint(
            "/stocks/v1/splits",
            splits,
            params={"ticker": "{symbol}", "sort": "execution_date.desc", "limit": "1000"},
            spell=_SHARES,
        ),
        "news": Endpoint(
            "/v2/reference/news",
            news,
            params={"ticker": "{symbol}", "order": "desc", "sort": "published_utc", "limit": "50"},
            spell=_SHARES,
        ),
    },
    matchers=(Matcher(Verdict.ENTITLEMENT, "not in this plan", ("status",), equals="NOT_AUTHORIZED"),),
    statuses=frozenset({400, 401, 404, 429}),
    quota=Quota(5, 60, burst=2),  # two at once make up for a turn that came late
    rate_hold=Window.MINUTE,
)
