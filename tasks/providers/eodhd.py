"""EODHD. Its errors are plain text; a symbol has its exchange behind a dot, and these are the US ones."""

from tasks.providers.documents import NEW_YORK, Fields, Node
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict, Window

_US = ".US"
_NONE = "NA"  # what stands for a value there is none of


def quote(reply: Node) -> Fields | None:
    """Delayed; `change_p` in percent. Of a symbol it does not know, every value is NA."""
    if reply.child("close").value == _NONE:
        return None
    code = reply.symbol("code").removesuffix(_US)
    return {
        # A class of shares may have been asked for with the dot.
        **({} if "-" in code else {"symbol": code}),
        "last_price": reply.price("close"),
        "last_timestamp": reply.seconds("timestamp"),
        "open": reply.maybe(Node.number, "open", _NONE),
        "high": reply.maybe(Node.number, "high", _NONE),
        "low": reply.maybe(Node.number, "low", _NONE),
        "prev_close": reply.maybe(Node.number, "previousClose", _NONE),
        "change": reply.maybe(Node.number, "change", _NONE),
        "change_percent": reply.maybe(Node.percent, "change_p", _NONE),
        "volume": reply.maybe(Node.number, "volume", _NONE),
        "is_delayed": True,
    }


def bars(reply: Node) -> list[Fields]:
    """Raw prices, and a close adjusted for splits and dividends."""
    return [
        {
            "timestamp": row.session("date", NEW_YORK),
            **row.ohlcv(),
            "adj_close": row.maybe(Node.number, "adjusted_close"),
        }
        for row in reply.rows()
        if not _is_notice(row)
    ]


def _is_notice(row: Node) -> bool:
    """Whether it is the last row of the free plan, which says that the rest is not in it."""
    return isinstance(row.value, dict) and row.value.keys() == {"warning"}


def news(reply: Node) -> list[Fields]:
    """No ids, no publisher; the text is the article's own."""
    return [
        {
            "published_at": row.instant("date"),
            "title": row.prose("title"),
            "url": row.url("link"),
            "body": row.maybe(Node.prose, "content", ""),
            "symbols": [symbol.removesuffix(_US) for symbol in row.texts("symbols")],
            "tags": row.texts("tags"),
            "sentiment": row.maybe(_polarity, "sentiment"),
        }
        for row in reply.rows()
    ]


def _polarity(row: Node, key: str) -> str:
    return str(row.child(key).number("polarity"))


def us(symbol: str) -> str:
    """A share listed in the US, a class of shares behind a dash."""
    return f"{symbol.replace('.', '-')}{_US}"


ROW = Provider(
    service="eodhd",
    name="EODHD",
    base_url="https://eodhd.com/api",
    auth=Auth("query", "api_token"),
    endpoints={
        # The free plan has the bars alone, of the last year.
        "quote": Endpoint("/real-time/{symbol}", quote, params={"fmt": "json"}, spell=us),
        "bars": Endpoint(
            "/eod/{symbol}",
            bars,
            params={"fmt": "json", "period": "d", "from": "{start}", "to": "{end}"},
            spell=us,
            window_days=150,
            adjustment="raw",
        ),
        "news": Endpoint("/news", news, params={"s": "{symbol}", "limit": "50", "fmt": "json"}, spell=us),
    },
    matchers=(
        Matcher(
            Verdict.ENTITLEMENT,
            "the free plan has daily bars alone",
            contains="Only EOD data allowed",
            statuses=frozenset({403}),
        ),
    ),
    statuses=frozenset({400, 401, 402, 404, 429}),
    quota=Quota(20, 86_400, burst=5),
    circuit={"failure_threshold": 3},  # a failed call is one of the twenty
    rate_hold=Window.MINUTE,
)
