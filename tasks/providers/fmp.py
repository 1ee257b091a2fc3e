"""Financial Modeling Prep. A used-up limit may be HTTP 200; 402 is what the plan does not have.

Its symbols, by its documentation (https://site.financialmodelingprep.com/developer/docs/stable): BRK-B,
VOD.L, ^GSPC, EURUSD, BTCUSD, with the familiar suffixes. News of currencies and of coins have endpoints of
their own.

Asked for is its stable API. The versions before it answer 403, a legacy endpoint, to every key made after
2025-08-31 (FinancialModelingPrep.NET#145, FinRobot#73).
"""

from zoneinfo import ZoneInfo

from tasks.providers.documents import NEW_YORK, Fields, Node, Rows
from tasks.providers.indices import Names
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict, intraday
from tasks.providers.symbols import FAMILIAR, HYPHENATED, Spelling

_UTC = ZoneInfo("UTC")  # an article's time names no zone; this one makes it rather too old than too fresh
_MESSAGE = ("Error Message",)


def quote(reply: Node) -> Fields | None:
    """A list of one, of none where the symbol is unknown; `changePercentage` in percent."""
    rows = reply.rows()
    if not rows:
        return None
    row = rows[0]
    return {
        "symbol": row.symbol("symbol"),
        "last_price": row.price("price"),
        "last_timestamp": row.seconds("timestamp"),
        "open": row.maybe(Node.number, "open"),
        "high": row.maybe(Node.number, "dayHigh"),
        "low": row.maybe(Node.number, "dayLow"),
        "prev_close": row.maybe(Node.number, "previousClose"),
        "change": row.maybe(Node.number, "change"),
        "change_percent": row.maybe(Node.percent, "changePercentage"),
        "volume": row.maybe(Node.number, "volume"),
        "exchange": row.maybe(Node.text, "exchange"),
    }


def bars(reply: Node) -> Rows:
    """`/full`: split-adjusted; the raw and the dividend-adjusted prices are endpoints of their own."""
    return reply.each(_bar)


def _bar(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "timestamp": row.session("date"),
        **row.ohlcv(),
        "vwap": row.maybe(Node.number, "vwap"),
    }


def minutes(reply: Node) -> Rows:
    """`/historical-chart`: of each bar its start, in New York's time; split-adjusted."""
    return reply.each(lambda row: {"timestamp": row.instant("date", NEW_YORK), **row.ohlcv()})


def dividends(reply: Node) -> Rows:
    """As they were paid; what they are as of today's shares stands beside that."""
    return reply.each(_dividend)


def _dividend(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "ex_date": row.date("date"),
        "pay_date": row.maybe(Node.date, "paymentDate"),
        "record_date": row.maybe(Node.date, "recordDate"),
        "declared": row.maybe(Node.date, "declarationDate"),
        "amount": row.price("dividend"),
    }


def splits(reply: Node) -> Rows:
    """New shares over old ones."""
    return reply.each(_split)


def _split(row: Node) -> Fields:
    return {
        "symbol": row.symbol("symbol"),
        "date": row.date("date"),
        **row.split_of("numerator", "denominator"),
    }


def news(reply: Node) -> Rows:
    """No ids; an article names the one symbol it was found by."""
    return reply.each(_article)


def _article(row: Node) -> Fields:
    symbol = row.maybe(Node.symbol, "symbol")
    return {
        "published_at": row.instant("publishedDate", _UTC),
        "title": row.prose("title"),
        "source": row.maybe(Node.prose, "publisher") or row.maybe(Node.prose, "site"),
        "url": row.link("url"),
        "excerpt": row.maybe(Node.prose, "text"),
        "image_url": row.maybe(Node.url, "image"),
        "symbols": [symbol] if symbol else (),
    }


_SPELL = Spelling(
    dash="-",
    exchanges=FAMILIAR,
    index=Names("fmp", "^{}"),
    fx="{base}{quote}",
    coin="{base}{quote}",
    paid_in=frozenset({"USD"}),
    issues=HYPHENATED,
)

_SHARES = _SPELL.of_shares()

ROW = Provider(
    service="fmp",
    name="Financial Modeling Prep",
    base_url="https://financialmodelingprep.com/stable",
    auth=Auth("header", "apikey"),
    endpoints={
        "quote": Endpoint("/quote", quote, params={"symbol": "{symbol}"}, spell=_SPELL),
        "bars": Endpoint(
            "/historical-price-eod/full",
            bars,
            params={"symbol": "{symbol}", "from": "{start}", "to": "{end}"},
            spell=_SPELL,
            window_days=150,
            no_rows=Verdict.NOT_FOUND,  # what an unknown symbol is
            adjustment="split",
        ),
        # In no free plan.
        **intraday(
            {"1m": "1min", "5m": "5min", "15m": "15min", "30m": "30min", "1h": "1hour"},
            "/historical-chart/{interval}",
            minutes,
            {"symbol": "{symbol}", "from": "{start}", "to": "{end}"},
            spell=Spelling(
                dash="-", issues=HYPHENATED
            ),  # on whose clock it tells those of others is not documented
            adjustment="split",
        ),
        "dividends": Endpoint(
            "/dividends", dividends, params={"symbol": "{symbol}"}, spell=_SHARES, adjustment="raw"
        ),
        "splits": Endpoint("/splits", splits, params={"symbol": "{symbol}"}, spell=_SHARES),
        "news": Endpoint(
            "/news/stock",
            news,
            params={"symbols": "{symbol}", "page": "0", "limit": "50"},
            spell=_SHARES,
        ),
    },
    matchers=(
        Matcher(Verdict.QUOTA, "the day's requests are used up", _MESSAGE, "Limit Reach"),
        Matcher(Verdict.QUOTA, "the day's requests are used up", ("error",), "Limit Reach"),
        Matcher(Verdict.AUTH, "the API key is not valid", _MESSAGE, "Invalid API KEY"),
        Matcher(Verdict.RETIRED, "this version of the API is retired", _MESSAGE, "Legacy Endpoint"),
        # A plan has endpoints, and of some of them only certain symbols.
        Matcher(Verdict.ENTITLEMENT, "the data is not in this plan", statuses=frozenset({402})),
    ),
    plan_lists_symbols=True,
    quota=Quota(250, 86_400, burst=5),
)
