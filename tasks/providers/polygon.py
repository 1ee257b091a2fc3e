"""Polygon, named Massive since 2025-10-30: both hosts answer, and its keys stay.

Its symbols, by its documentation (https://massive.com/docs): BRK.B, I:SPX, C:EURUSD, X:BTCUSD. The snapshots
and the news here are those of shares; it has no share listed outside the US.

A plan that is behind the market says so in `status` ("DELAYED") beside a good reply.
"""

from tasks.providers.documents import Fields, Node
from tasks.providers.indices import Names
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict, Window
from tasks.providers.symbols import Spelling


def quote(reply: Node) -> Fields | None:
    """A snapshot; trades and quotes are in it where the plan includes them, bars in any plan that has it."""
    found = reply.child("ticker")
    trade, book = found.maybe(Node.child, "lastTrade"), found.maybe(Node.child, "lastQuote") or Node({})
    minute, day = found.child("min"), found.child("day")
    if trade is None and minute.number("c") == 0:
        return None  # the snapshot is cleared at night, until the first trade
    return {
        "symbol": found.symbol("ticker"),
        "last_price": trade.price("p") if trade else minute.price("c"),
        "last_size": trade.maybe(Node.count, "s") if trade else None,
        "last_timestamp": trade.nanoseconds("t") if trade else minute.milliseconds("t"),
        "bid": book.maybe(Node.number, "p"),
        "bid_size": book.maybe(Node.count, "s"),
        "ask": book.maybe(Node.number, "P"),
        "ask_size": book.maybe(Node.count, "S"),
        "open": day.maybe(Node.number, "o"),
        "high": day.maybe(Node.number, "h"),
        "low": day.maybe(Node.number, "l"),
        "volume": day.maybe(Node.number, "v"),
        "prev_close": found.child("prevDay").maybe(Node.number, "c"),
        "change": found.maybe(Node.number, "todaysChange"),
        "change_percent": found.maybe(Node.percent, "todaysChangePerc"),
        "is_delayed": reply.maybe(Node.text, "status") == "DELAYED" or None,
    }


def bars(reply: Node) -> list[Fields] | None:
    """Aggregates; of an unknown ticker, and of a window without a trade, `results` is not there."""
    if reply.count("resultsCount") == 0:
        return None
    symbol, adjusted = reply.symbol("ticker"), reply.child("adjusted").value is True
    return [
        {
            "symbol": symbol,
            "timestamp": row.milliseconds("t"),
            **row.ohlcv(("o", "h", "l", "c", "v")),
            "vwap": row.maybe(Node.number, "vw"),
            "trade_count": row.maybe(Node.count, "n"),
            "adjustment": "split" if adjusted else "raw",
        }
        for row in reply.child("results").rows()
    ]


def news(reply: Node) -> list[Fields]:
    """Sentiments are told for each ticker, not for the article."""
    return [
        {
            "article_id": row.text("id"),
            "published_at": row.instant("published_utc"),
            "title": row.prose("title"),
            "author": row.maybe(Node.prose, "author", ""),
            "source": row.child("publisher").maybe(Node.prose, "name", ""),
            "url": row.url("article_url"),
            "excerpt": row.maybe(Node.prose, "description", ""),
            "image_url": row.maybe(Node.url, "image_url", ""),
            "symbols": row.texts("tickers"),
            "tags": row.maybe(Node.texts, "keywords") or (),
        }
        for row in reply.child("results").rows()
    ]


ROW = Provider(
    service="polygon",
    name="Polygon",
    base_url="https://api.massive.com",
    auth=Auth("header", prefix="Bearer "),
    endpoints={
        # In no free plan.
        "quote": Endpoint("/v2/snapshot/locale/us/markets/stocks/tickers/{symbol}", quote),
        "bars": Endpoint(
            "/v2/aggs/ticker/{symbol}/range/1/day/{start}/{end}",
            bars,
            params={"adjusted": "false", "sort": "asc", "limit": "5000"},  # adjusted: for splits
            spell=Spelling(index=Names("polygon"), fx="C:{base}{quote}", coin="X:{base}{quote}", own=":"),
            window_days=140,
            adjustment="raw",
        ),
        "news": Endpoint(
            "/v2/reference/news",
            news,
            params={"ticker": "{symbol}", "order": "desc", "sort": "published_utc", "limit": "50"},
        ),
    },
    matchers=(Matcher(Verdict.ENTITLEMENT, "not in this plan", ("status",), equals="NOT_AUTHORIZED"),),
    statuses=frozenset({400, 401, 404, 429}),
    quota=Quota(5, 60, burst=2),  # two at once make up for a turn that came late
    rate_hold=Window.MINUTE,
)
