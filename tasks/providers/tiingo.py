"""Tiingo. Prices of IEX; errors are in `detail`, or plain text, and may come as 200.

A class of shares has a hyphen: BRK-B is asked for where BRK.B is meant. Beside US shares it has Chinese ones,
by names that tell no exchange; currencies and coins have endpoints of their own.
"""

from datetime import date

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import (
    YEARS,
    Auth,
    Endpoint,
    Matcher,
    Provider,
    Quota,
    Until,
    Verdict,
    Window,
    intraday,
)
from tasks.providers.symbols import Spelling

_SPENT = frozenset({200, 429})


def quote(reply: Node) -> Fields | None:
    """Of one ticker; out of hours only `tngoLast` has a price."""
    if not reply.rows():
        return None
    found = reply.rows()[0]
    return {
        "symbol": found.symbol("ticker"),
        "last_price": found.price("tngoLast"),
        "last_size": found.maybe(Node.size, "lastSize"),
        "last_timestamp": found.instant("timestamp"),
        "bid": found.maybe(Node.number, "bidPrice"),
        "bid_size": found.maybe(Node.count, "bidSize"),
        "ask": found.maybe(Node.number, "askPrice"),
        "ask_size": found.maybe(Node.count, "askSize"),
        "open": found.maybe(Node.number, "open"),
        "high": found.maybe(Node.number, "high"),
        "low": found.maybe(Node.number, "low"),
        "prev_close": found.maybe(Node.number, "prevClose"),
        "volume": found.maybe(Node.number, "volume"),
    }


def bars(reply: Node) -> Rows:
    """Raw prices, the adjusted ones beside them; a day is its midnight in UTC."""
    return reply.each(_bar)


def _bar(row: Node) -> Fields:
    return {
        "timestamp": row.instant("date"),
        **row.ohlcv(),
        "adj_close": row.maybe(Node.number, "adjClose"),
        "dividend": row.maybe(Node.number, "divCash"),
        "split_ratio": row.maybe(Node.number, "splitFactor"),
    }


def minutes(reply: Node) -> Rows:
    """`/iex`: trades of that exchange alone, as they were; of each bar its start, in UTC."""
    return reply.each(lambda row: {"timestamp": row.instant("date"), **row.ohlcv()})


def dividends(reply: Node) -> Rows:
    """`/corporate-actions`: as they were paid; one that is cancelled is none."""
    return reply.each(_dividend)


def _dividend(row: Node) -> Fields | None:
    if row.maybe(Node.text, "distributionFrequency") == "c":
        return None
    return {
        "symbol": row.symbol("ticker"),
        "ex_date": _day(row, "exDate"),
        "pay_date": row.maybe(_day, "paymentDate"),
        "record_date": row.maybe(_day, "recordDate"),
        "declared": row.maybe(_day, "declarationDate"),
        "amount": row.price("distribution"),
    }


def splits(reply: Node) -> Rows:
    """The same of splits."""
    return reply.each(_split)


def _split(row: Node) -> Fields | None:
    if row.maybe(Node.text, "splitStatus") == "c":
        return None
    return {
        "symbol": row.symbol("ticker"),
        "date": _day(row, "exDate"),
        **row.split_of("splitTo", "splitFrom"),
    }


def _day(row: Node, key: str) -> date:
    return row.instant(key).date()


def news(reply: Node) -> Rows:
    """Tickers in lower case."""
    return reply.each(_article)


def _article(row: Node) -> Fields:
    return {
        "article_id": str(row.count("id")),
        "published_at": row.instant("publishedDate"),
        "title": row.prose("title"),
        "source": row.maybe(Node.prose, "source"),
        "url": row.link("url"),
        "excerpt": row.maybe(Node.prose, "description"),
        "symbols": row.maybe(Node.texts, "tickers") or (),
        "tags": row.maybe(Node.texts, "tags") or (),
    }


# "Symbology" in its documentation: Simon Property's series J is SPG-P-J.
_SPELL = Spelling(dash="-", issues={"PR": "-P-{}", "RT": ""})

ROW = Provider(
    service="tiingo",
    name="Tiingo",
    base_url="https://api.tiingo.com",
    auth=Auth("header", prefix="Token "),
    endpoints={
        "quote": Endpoint("/iex/", quote, params={"tickers": "{symbol}"}, spell=_SPELL),
        "bars": Endpoint(
            "/tiingo/daily/{symbol}/prices",
            bars,
            params={"startDate": "{start}", "endDate": "{end}"},
            spell=_SPELL,
            window_days=140,
            adjustment="raw",
        ),
        **intraday(
            {"1m": "1min", "5m": "5min", "15m": "15min", "30m": "30min", "1h": "1hour"},
            "/iex/{symbol}/prices",
            minutes,
            {
                "startDate": "{start}",
                "resampleFreq": "{interval}",
                "columns": "open,high,low,close,volume",  # without them it has no volume
            },
            spell=_SPELL,
            adjustment="raw",
        ),
        # Sold beside any plan, as the news are.
        "dividends": Endpoint(
            "/tiingo/corporate-actions/{symbol}/distributions",
            dividends,
            params={"startExDate": "{start}"},
            spell=_SPELL,
            window_days=YEARS,
            adjustment="raw",
        ),
        "splits": Endpoint(
            "/tiingo/corporate-actions/{symbol}/splits",
            splits,
            params={"startExDate": "{start}"},
            spell=_SPELL,
            window_days=YEARS,
        ),
        "news": Endpoint(
            "/tiingo/news",
            news,
            params={"tickers": "{symbol}", "limit": "50", "sortBy": "publishedDate"},
            spell=_SPELL,
        ),
    },
    matchers=(
        Matcher(
            Verdict.RATE_LIMIT,
            "the hour's requests are used up",
            contains="run over your hourly request allocation",
            statuses=_SPENT,
            hold=Window.HOUR,
        ),
        Matcher(
            Verdict.QUOTA,
            "the day's requests are used up",
            contains="run over your daily request allocation",
            statuses=_SPENT,
            hold=Until(Window.DAY, "America/New_York"),  # "midnight EST"
        ),
        Matcher(
            Verdict.QUOTA,
            "the month's symbols are used up",
            contains="symbol look up for this month",
            statuses=_SPENT,
            hold=Window.MONTH,
        ),
        Matcher(Verdict.NOT_FOUND, "no such ticker", contains="Error: Ticker '", statuses=frozenset({200})),
        Matcher(Verdict.AUTH, "the token is missing", ("detail",), "supply a token"),
        Matcher(Verdict.AUTH, "the token is not valid", ("detail",), "Invalid token"),
        Matcher(Verdict.AUTH, "the token is not valid", equals="None", statuses=frozenset({403})),
        Matcher(Verdict.ENTITLEMENT, "it is not in this plan", ("detail",), "not have permission"),
    ),
    statuses=frozenset({403, 404, 429}),
    # 50 an hour and 1 000 a day, by its clients: evenly over the day, which keeps to both.
    quota=Quota(1_000, 86_400, burst=5),
    rate_hold=Window.HOUR,
)
