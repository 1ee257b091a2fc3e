"""Benzinga. A licence says what a key may ask for; one refused for news is a list with a text, as 200.

US shares are written as here, BRK.B, as on its own pages (benzinga.com/quote/BRK.B).
"""

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Reset, Verdict


def news(reply: Node) -> Rows:
    """Times as in an e-mail's head, names in objects of their own."""
    return reply.each(_article)


def _article(row: Node) -> Fields:
    return {
        "article_id": str(row.count("id")),
        "published_at": row.mail_date("created"),
        "updated_at": row.maybe(Node.mail_date, "updated"),
        "title": row.prose("title"),
        "author": row.maybe(Node.prose, "author"),
        "source": "Benzinga",
        "url": row.link("url"),
        "excerpt": row.maybe(Node.prose, "teaser"),
        "image_url": row.maybe(_large, "image"),
        "symbols": row.names("stocks", "name"),  # text, not symbols: a currency's has a dollar sign
        "tags": [*row.names("channels", "name"), *row.names("tags", "name")],
    }


def _large(row: Node, key: str) -> str | None:
    images = row.child(key).rows()
    return {image.maybe(Node.text, "size"): image.maybe(Node.url, "url") for image in images}.get("large")


def quote(reply: Node) -> Fields | None:
    """An object by symbol; empty, as its clients have it, where that is unknown."""
    found = reply.members("key")
    if not found:
        return None
    row = found[0]
    return {
        "symbol": row.symbol("symbol"),
        "last_price": row.price("lastTradePrice"),
        "last_timestamp": row.milliseconds("lastTradeTime"),
        "bid": row.maybe(Node.number, "bidPrice"),
        "bid_size": row.maybe(Node.count, "bidSize"),
        "ask": row.maybe(Node.number, "askPrice"),
        "ask_size": row.maybe(Node.count, "askSize"),
        "open": row.maybe(Node.number, "open"),
        "high": row.maybe(Node.number, "high"),
        "low": row.maybe(Node.number, "low"),
        "prev_close": row.maybe(Node.number, "previousClosePrice"),
        "change": row.maybe(Node.number, "change"),
        "change_percent": row.maybe(Node.percent, "changePercent"),
        "volume": row.maybe(Node.number, "volume"),
        "exchange": row.maybe(Node.text, "isoExchange"),
        "is_delayed": True,
    }


ROW = Provider(
    service="benzinga",
    name="Benzinga",
    base_url="https://api.benzinga.com",
    auth=Auth("query", "token"),  # /quoteDelayed wants it there; a header is documented for news alone
    endpoints={
        "news": Endpoint(
            "/api/v2/news",
            news,
            params={"tickers": "{symbol}", "displayOutput": "abstract", "pageSize": "100"},
        ),
        "quote": Endpoint("/api/v2/quoteDelayed", quote, params={"symbols": "{symbol}"}, example="F"),
        # /api/v2/bars: nothing says what its prices are adjusted for.
    },
    matchers=(
        Matcher(
            Verdict.AUTH, "the token is missing or not valid", (0,), 'access denied for user 0 "anonymous"'
        ),
        Matcher(Verdict.ENTITLEMENT, "the news are not in this licence", (0,), "access denied"),
        Matcher(
            Verdict.ENTITLEMENT,
            "the endpoint is not in this licence",
            ("message",),
            equals="Forbidden",
            statuses=frozenset({403}),
        ),
    ),
    statuses=frozenset({400, 404, 429, 499}),
    reset=Reset("RateLimit-Reset", "seconds"),  # its gateway's default, so only believed where plausible
)
