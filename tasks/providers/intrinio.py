"""Intrinio. Errors are in `error` and `message`; it lets a call take 25 seconds before it answers 503.

US shares are written as here, BRK.B; its companies are those traded in the US
(https://help.intrinio.com/companies-securities).
"""

from tasks.providers.documents import NEW_YORK, Fields, Node
from tasks.providers.rows import Auth, Endpoint, Provider, Quota


def quote(reply: Node) -> Fields:
    """`/prices/realtime`, from the plan's own source."""
    return {
        "symbol": reply.child("security").symbol("ticker"),
        "last_price": reply.price("last_price"),
        "last_size": reply.maybe(Node.count, "last_size"),
        "last_timestamp": reply.instant("last_time"),
        "bid": reply.maybe(Node.number, "bid_price"),
        "bid_size": reply.maybe(Node.count, "bid_size"),
        "ask": reply.maybe(Node.number, "ask_price"),
        "ask_size": reply.maybe(Node.count, "ask_size"),
        "open": reply.maybe(Node.number, "open_price"),
        "high": reply.maybe(Node.number, "high_price"),
        "low": reply.maybe(Node.number, "low_price"),
        "volume": reply.maybe(Node.number, "market_volume") or reply.maybe(Node.number, "exchange_volume"),
    }


def bars(reply: Node) -> list[Fields]:
    """Raw prices, the adjusted ones beside them."""
    symbol = reply.child("security").symbol("ticker")
    return [
        {
            "symbol": symbol,
            "timestamp": row.session("date", NEW_YORK),
            **row.ohlcv(),
            "adj_close": row.maybe(Node.number, "adj_close"),
            "dividend": row.maybe(Node.number, "dividend"),
            "split_ratio": row.maybe(Node.number, "split_ratio"),
        }
        for row in reply.child("stock_prices").rows()
    ]


def news(reply: Node) -> list[Fields]:
    """Of one company, which is named once."""
    company = reply.child("company").symbol("ticker")
    return [
        {
            "article_id": row.text("id"),
            "published_at": row.instant("publication_date"),
            "title": row.prose("title"),
            "source": row.maybe(Node.prose, "source", ""),
            "url": row.url("url"),
            "excerpt": row.maybe(Node.prose, "summary", ""),
            "symbols": [company],
            "language": row.maybe(Node.text, "language", ""),
        }
        for row in reply.child("news").rows()
    ]


ROW = Provider(
    service="intrinio",
    name="Intrinio",
    base_url="https://api-v2.intrinio.com",
    auth=Auth("header", prefix="Bearer "),
    endpoints={
        "quote": Endpoint("/securities/{symbol}/prices/realtime", quote),
        "bars": Endpoint(
            "/securities/{symbol}/prices",
            bars,
            params={
                "start_date": "{start}",
                "end_date": "{end}",
                "frequency": "daily",
                "page_size": "200",  # more than the days there are
            },
            window_days=140,
            adjustment="raw",
        ),
        "news": Endpoint("/companies/{symbol}/news", news, params={"page_size": "50"}),
    },
    statuses=frozenset({401, 403, 404, 429}),
    deadline_seconds=26.0,
    read_seconds=26.0,
    plan_lists_symbols=True,
    quota=Quota(100, 1),
    rate_hold=60.0,
)
