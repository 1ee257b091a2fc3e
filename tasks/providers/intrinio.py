"""Intrinio. Errors are in `error` and `message`; it lets a call take 25 seconds before it answers 503.

US shares are written as here, BRK.B; its companies are those traded in the US
(https://help.intrinio.com/companies-securities).
"""

from decimal import Decimal

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import YEARS, Auth, Endpoint, Provider, Quota, intraday


def quote(reply: Node) -> Fields:
    """`/prices/realtime`, from the plan's own source."""
    return {
        "symbol": reply.child("security").symbol("ticker"),
        "last_price": reply.price("last_price"),
        "last_size": reply.maybe(Node.size, "last_size"),
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


def bars(reply: Node) -> Rows:
    """Raw prices, the adjusted ones beside them."""
    symbol = reply.child("security").symbol("ticker")
    return reply.child("stock_prices").each(_bar, {"symbol": symbol})


def _bar(row: Node) -> Fields:
    return {
        "timestamp": row.session("date"),
        **row.ohlcv(),
        "adj_close": row.maybe(Node.number, "adj_close"),
        "dividend": row.maybe(Node.number, "dividend"),
        "split_ratio": _split_ratio(row),
    }


def minutes(reply: Node) -> Rows:
    """`/prices/intervals`: `time` is a bar's start (its SDK 6), in UTC; as traded."""
    symbol = reply.child("security").symbol("ticker")
    return reply.child("intervals").each(_minute, {"symbol": symbol})


def _minute(row: Node) -> Fields:
    return {
        "timestamp": row.instant("time"),
        **row.ohlcv(),
        "vwap": row.maybe(Node.number, "average"),
    }


def dividends(reply: Node) -> Rows:
    """`/prices/adjustments`: the days on which there was one; as they were paid."""
    symbol = reply.child("security").symbol("ticker")
    return reply.child("stock_price_adjustments").each(_dividend, {"symbol": symbol})


def _dividend(row: Node) -> Fields | None:
    day, amount = row.date("date"), row.maybe(Node.number, "dividend")
    if not amount:
        return None
    return {"ex_date": day, "amount": amount, "currency": row.maybe(Node.text, "dividend_currency")}


def splits(reply: Node) -> Rows:
    """The same of splits."""
    symbol = reply.child("security").symbol("ticker")
    return reply.child("stock_price_adjustments").each(_split, {"symbol": symbol})


def _split(row: Node) -> Fields | None:
    day, ratio = row.date("date"), _split_ratio(row)
    return None if ratio in (None, 1) else {"date": day, "ratio": ratio}


def _split_ratio(row: Node) -> Decimal | None:
    """New shares for an old one. Recorded is the other way round, too, which its documentation leaves open.

    But it documents that the factor is one for earlier prices: below 1 where shares became more.
    """
    told, factor = row.maybe(Node.number, "split_ratio"), row.maybe(Node.number, "factor")
    if not told or told == 1 or not factor:
        return told or None
    return told if (told > 1) == (factor < 1) else 1 / told


def news(reply: Node) -> Rows:
    """Of one company, which is named once."""
    company = reply.child("company").symbol("ticker")
    return reply.child("news").each(_article, {"symbols": [company]})


def _article(row: Node) -> Fields:
    return {
        "article_id": row.text("id"),
        "published_at": row.instant("publication_date"),
        "title": row.prose("title"),
        "source": row.maybe(Node.prose, "source"),
        "url": row.link("url"),
        "excerpt": row.maybe(Node.prose, "summary"),
        "language": row.maybe(Node.text, "language"),
    }


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
        **intraday(
            {"1m": "1m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "1h"},
            "/securities/{symbol}/prices/intervals",
            minutes,
            {
                "interval_size": "{interval}",
                "start_date": "{start}",
                "end_date": "{end}",
                "timezone": "UTC",
                "page_size": "400",
            },
            adjustment="raw",
        ),
        "dividends": Endpoint(
            "/securities/{symbol}/prices/adjustments",
            dividends,
            params={"start_date": "{start}", "page_size": "500"},
            window_days=YEARS,
            adjustment="raw",
        ),
        "splits": Endpoint(
            "/securities/{symbol}/prices/adjustments",
            splits,
            params={"start_date": "{start}", "page_size": "501"},
            window_days=YEARS,
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
