"""Finnhub. An unknown symbol is HTTP 200 with zeros; times are Unix seconds.

Its symbols, by its lists of them (/stock/symbol, /index/constituents): BRK.B, VOD.L, NOVO-B.CO, ^GSPC, with
the familiar suffixes. Currencies and coins (OANDA:EUR_USD, BINANCE:BTCUSDT) have endpoints of their own. Its
company news are documented for North America alone, its filings for the US.
"""

from zoneinfo import ZoneInfo

from tasks.providers.documents import Fields, Node, Rows, each
from tasks.providers.indices import Names
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
from tasks.providers.symbols import FAMILIAR, Spelling

_UTC = ZoneInfo("UTC")  # a filing's times name no zone; this one makes them rather too old than too fresh


def quote(reply: Node) -> Fields | None:
    """No symbol in the reply, `dp` in percent."""
    known = [reply.child(key).value for key in ("c", "t")] + [reply.maybe(Node.number, "pc")]
    if not any(known):
        return None
    return {
        "last_price": reply.price("c"),
        "last_timestamp": reply.seconds("t"),
        "open": reply.maybe(Node.number, "o"),
        "high": reply.maybe(Node.number, "h"),
        "low": reply.maybe(Node.number, "l"),
        "prev_close": reply.maybe(Node.number, "pc"),
        "change": reply.maybe(Node.number, "d"),
        "change_percent": reply.maybe(Node.percent, "dp"),
    }


def bars(reply: Node) -> Rows:
    """`/stock/candle`: columns beside each other, of each bar its start; a day's is its midnight."""
    return each(reply.columns("t", "o", "h", "l", "c", "v"), _bar)


def _bar(row: Node) -> Fields:
    return {"timestamp": row.seconds("t"), **row.ohlcv(("o", "h", "l", "c", "v"))}


def dividends(reply: Node) -> Rows:
    """As they were paid; what they are as of today's shares stands beside that."""
    return reply.each(_dividend)


def _dividend(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "ex_date": row.date("date"),
        "pay_date": row.maybe(Node.date, "payDate"),
        "record_date": row.maybe(Node.date, "recordDate"),
        "declared": row.maybe(Node.date, "declarationDate"),
        "amount": row.price("amount"),
        "currency": row.maybe(Node.text, "currency"),
    }


def splits(reply: Node) -> Rows:
    """From so many old shares to so many new ones."""
    return reply.each(_split)


def _split(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "date": row.date("date"),
        **row.split_of("toFactor", "fromFactor"),
    }


def news(reply: Node) -> Rows:
    """`related` is a list in a string."""
    return reply.each(_article)


def _article(row: Node) -> Fields:
    return {
        "article_id": str(row.count("id")),
        "published_at": row.seconds("datetime"),
        "title": row.prose("headline"),
        "source": row.maybe(Node.prose, "source"),
        "url": row.link("url"),
        "excerpt": row.maybe(Node.prose, "summary"),
        "image_url": row.maybe(Node.url, "image"),
        "symbols": row.maybe(Node.split, "related") or (),
        "tags": row.maybe(Node.split, "category") or (),
    }


def filings(reply: Node) -> Rows:
    """The CIK comes without its zeros, a date with a time of midnight."""
    return reply.each(_filing)


def _filing(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "cik": row.cik("cik"),
        "accession_number": row.text("accessNumber"),
        "form": row.text("form"),
        "filing_date": row.instant("filedDate", _UTC).date(),
        "accepted_at": row.maybe(_accepted, "acceptedDate"),
        "report_url": row.maybe(Node.url, "reportUrl"),
        "filing_url": row.maybe(Node.url, "filingUrl"),
    }


def _accepted(row: Node, key: str) -> object:
    return row.instant(key, _UTC)


_SPELL = Spelling(exchanges=FAMILIAR, index=Names("finnhub", "^{}"), own=":")
_NORTH_AMERICA = {mic: FAMILIAR[mic] for mic in ("", "XTSE", "XTSX", "XCNQ", "NEOE")}
_WINDOW = {"symbol": "{symbol}", "from": "{start}", "to": "{end}"}

ROW = Provider(
    service="finnhub",
    name="Finnhub",
    base_url="https://finnhub.io/api/v1",
    auth=Auth("header", "X-Finnhub-Token"),
    endpoints={
        "quote": Endpoint("/quote", quote, params={"symbol": "{symbol}"}, spell=_SPELL),
        # In no free plan. Its days are adjusted for splits; only minutes and hours are not.
        "bars": Endpoint(
            "/stock/candle",
            bars,
            params={"symbol": "{symbol}", "resolution": "D", "from": "{start_unix}", "to": "{end_unix}"},
            spell=_SPELL,
            window_days=140,
            adjustment="split",
        ),
        # In no free plan. As traded.
        **intraday(
            {"1m": "1", "5m": "5", "15m": "15", "30m": "30", "1h": "60"},
            "/stock/candle",
            bars,
            {"symbol": "{symbol}", "resolution": "{interval}", "from": "{start_unix}", "to": "{end_unix}"},
            spell=_SPELL,
            adjustment="raw",
        ),
        # In no free plan.
        "dividends": Endpoint(
            "/stock/dividend",
            dividends,
            params=_WINDOW,
            spell=Spelling(exchanges=FAMILIAR),
            window_days=YEARS,
            adjustment="raw",
        ),
        "splits": Endpoint(
            "/stock/split",
            splits,
            params=_WINDOW,
            spell=Spelling(exchanges=FAMILIAR),
            window_days=YEARS,
        ),
        # No article is no unknown symbol: it has none of many a share listed outside the US.
        "news": Endpoint(
            "/company-news",
            news,
            params={"symbol": "{symbol}", "from": "{start}", "to": "{end}"},
            spell=Spelling(exchanges=_NORTH_AMERICA),
            window_days=7,
        ),
        "filings": Endpoint(
            "/stock/filings",
            filings,
            params={"symbol": "{symbol}", "from": "{start}", "to": "{end}"},
            window_days=365,
        ),
    },
    matchers=(
        Matcher(
            Verdict.ENTITLEMENT,
            "the resource is not in this plan",
            ("error",),
            "have access to this resource",
            statuses=frozenset({403}),
        ),
        Matcher(Verdict.NOT_FOUND, "no data for the symbol", ("s",), equals="no_data"),
    ),
    statuses=frozenset({429}),
    plan_lists_symbols=True,
    quota=Quota(60, 60),
    rate_hold=Window.MINUTE,
    reset=Reset("X-Ratelimit-Reset"),  # unverified, so only believed where it is plausible
)
