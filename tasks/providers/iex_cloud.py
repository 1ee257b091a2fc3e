"""IEX Cloud, retired on 2024-08-31, as it had announced on 2024-05-31.

Its errors are plain text; 402 and 403 each stand for two things, told apart by it. US shares were written as
here, BRK.B.
"""

from datetime import date

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Verdict


def quote(reply: Node) -> Fields:
    """Times in milliseconds, changePercent already a fraction."""
    return {
        "symbol": reply.symbol("symbol"),
        "last_price": reply.price("latestPrice"),
        "last_size": reply.maybe(Node.count, "iexRealtimeSize"),
        "last_timestamp": reply.milliseconds("latestUpdate"),
        "bid": reply.maybe(Node.number, "iexBidPrice"),
        "bid_size": reply.maybe(Node.count, "iexBidSize"),
        "ask": reply.maybe(Node.number, "iexAskPrice"),
        "ask_size": reply.maybe(Node.count, "iexAskSize"),
        "open": reply.maybe(Node.number, "open"),
        "high": reply.maybe(Node.number, "high"),
        "low": reply.maybe(Node.number, "low"),
        "prev_close": reply.maybe(Node.number, "previousClose"),
        "change": reply.maybe(Node.number, "change"),
        "change_percent": reply.maybe(Node.number, "changePercent"),
        "volume": reply.maybe(Node.number, "latestVolume"),
        "exchange": reply.maybe(Node.text, "primaryExchange"),
    }


def bars(reply: Node) -> Rows:
    """`/chart`: adjusted for splits."""
    return reply.each(_bar)


def _bar(row: Node) -> Fields:
    return {"timestamp": row.session("date"), **row.ohlcv(), "vwap": row.maybe(Node.number, "vwap")}


def news(reply: Node) -> Rows:
    """No ids; `related` is a list in a string."""
    return reply.each(_article)


def _article(row: Node) -> Fields:
    return {
        "published_at": row.milliseconds("datetime"),
        "title": row.prose("headline"),
        "source": row.maybe(Node.prose, "source"),
        "url": row.link("url"),
        "excerpt": row.maybe(Node.prose, "summary"),
        "image_url": row.maybe(Node.url, "image"),
        "symbols": row.maybe(Node.split, "related") or (),
        "language": row.maybe(Node.text, "lang"),
    }


ROW = Provider(
    service="iex_cloud",
    name="IEX Cloud",
    base_url="https://cloud.iexapis.com/stable",
    auth=Auth("query", "token"),
    endpoints={
        "quote": Endpoint("/stock/{symbol}/quote", quote),
        "bars": Endpoint("/stock/{symbol}/chart/6m", bars, adjustment="split"),
        "news": Endpoint("/stock/{symbol}/news/last/50", news),
    },
    matchers=(
        Matcher(
            Verdict.AUTH,
            "the API key is not valid",
            contains="API key provided is not valid",
            statuses=frozenset({403}),
        ),
        Matcher(
            Verdict.ENTITLEMENT,
            "the data is not in this plan",
            contains="not available to your current tier",
            statuses=frozenset({402}),
        ),
        Matcher(
            Verdict.QUOTA,
            "the account's own spending limit is reached",
            contains="circuit breaker has been engaged",
            statuses=frozenset({403}),
        ),
    ),
    statuses=frozenset({402, 429, 451}),
    retired=date(2024, 8, 31),
    note="all products were retired on 2024-08-31; IEX prices are still served by Tiingo and Alpaca",
)
