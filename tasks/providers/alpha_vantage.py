"""Alpha Vantage. Every error is HTTP 200, told apart by its text; numbers are strings.

Its symbols, by its documentation's examples (TSCO.LON, SHOP.TRT, GPV.TRV, MBG.DEX, RELIANCE.BSE, 600104.SHH,
000002.SHZ), by what its search and its LISTING_STATUS answer (BRK-B, BAC-P-L), and by its users (UCB.BRU,
EDP.LIS: moneydance_open's wiki, 2026-08). No index is served as a share is.
Currencies and coins have functions of their own; in its news a coin is CRYPTO:BTC.

A free key has 25 requests a day, and since 2025-12-10 again no two in one second (finance-quote#546).
"""

from collections.abc import Mapping

from tasks.providers.documents import NEW_YORK, Fields, Node, Rows, SchemaDriftError, each
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict, intraday
from tasks.providers.symbols import Spelling
from tasks.records import Interval

_NAMES: Mapping[Interval, str] = {
    "1m": "1min",
    "5m": "5min",
    "15m": "15min",
    "30m": "30min",
    "1h": "60min",
}
_INTERVALS = {name: interval for interval, name in _NAMES.items()}


def quote(reply: Node) -> Fields | None:
    """`GLOBAL_QUOTE`: the time is a day, an unknown symbol is an empty object."""
    found = reply.child_starting("Global Quote")
    if found.value == {}:
        return None
    return {
        "symbol": found.symbol("01. symbol"),
        "last_price": found.price_numeral("05. price"),
        "last_timestamp": found.day("07. latest trading day"),
        "open": found.maybe(Node.numeral, "02. open"),
        "high": found.maybe(Node.numeral, "03. high"),
        "low": found.maybe(Node.numeral, "04. low"),
        "volume": found.maybe(Node.numeral, "06. volume"),
        "prev_close": found.maybe(Node.numeral, "08. previous close"),
        "change": found.maybe(Node.numeral, "09. change"),
        "change_percent": found.maybe(Node.percent_text, "10. change percent"),
        "is_delayed": any("DELAYED" in key for key, _ in reply.items()) or None,
    }


def bars(reply: Node) -> Rows:
    """`TIME_SERIES_DAILY`: an object by day."""
    symbol = _head(reply, "5. Time Zone").symbol("2. Symbol")
    days = reply.child("Time Series (Daily)").members("date")
    return each(days, lambda row: {"timestamp": row.session("date"), **_prices(row)}, {"symbol": symbol})


def minutes(reply: Node) -> Rows:
    """`TIME_SERIES_INTRADAY`: an object by the bar's start, in New York's time."""
    head = _head(reply, "6. Time Zone")
    interval = _INTERVALS.get(head.text("4. Interval"))
    if interval is None:
        raise SchemaDriftError(f"{head.path}['4. Interval'] is none that bars have here")
    common = {"symbol": head.symbol("2. Symbol"), "interval": interval}
    starts = reply.child_starting("Time Series (").members("start")
    return each(starts, lambda row: {"timestamp": row.instant("start", NEW_YORK), **_prices(row)}, common)


def _head(reply: Node, zone: str) -> Node:
    head = reply.child("Meta Data")
    if head.text(zone) != "US/Eastern":  # what it says of every exchange
        raise SchemaDriftError(f"$['Meta Data'][{zone!r}] is not US/Eastern")
    return head


def _prices(row: Node) -> Fields:
    return row.ohlcv(("1. open", "2. high", "3. low", "4. close", "5. volume"), Node.numeral)


def dividends(reply: Node) -> Rows | None:
    """`DIVIDENDS`: as they were paid, and those to come; an unknown symbol is an empty object."""
    if reply.value == {}:
        return None
    symbol = reply.symbol("symbol")
    return reply.child("data").each(_dividend, {"symbol": symbol})


def _dividend(row: Node) -> Fields:
    return {
        "ex_date": row.date("ex_dividend_date"),
        "pay_date": row.maybe(Node.date, "payment_date"),
        "record_date": row.maybe(Node.date, "record_date"),
        "declared": row.maybe(Node.date, "declaration_date"),
        "amount": row.price_numeral("amount"),
    }


def splits(reply: Node) -> Rows | None:
    """`SPLITS`: how many new shares an old one became."""
    if reply.value == {}:
        return None
    symbol = reply.symbol("symbol")
    return reply.child("data").each(_split, {"symbol": symbol})


def _split(row: Node) -> Fields:
    return {"date": row.date("effective_date"), "ratio": row.price_numeral("split_factor")}


def news(reply: Node) -> Rows:
    """`NEWS_SENTIMENT`: no ids, times in UTC."""
    return reply.child("feed").each(_article)


def _article(row: Node) -> Fields:
    return {
        "published_at": row.compact_instant("time_published"),
        "title": row.prose("title"),
        "author": ", ".join(row.maybe(Node.texts, "authors") or ()) or None,
        "source": row.maybe(Node.prose, "source"),
        "url": row.link("url"),
        "excerpt": row.maybe(Node.prose, "summary"),
        "image_url": row.maybe(Node.url, "banner_image"),
        "symbols": row.names("ticker_sentiment", "ticker"),
        "tags": row.names("topics", "topic"),
        "sentiment": row.maybe(Node.text, "overall_sentiment_label"),
    }


_ISSUES = {"PR": "-P-{}", "RT": ""}  # as its LISTING_STATUS has them: BAC-P-L, ACHR-WS
_SPELL = Spelling(
    dash="-",
    issues=_ISSUES,
    exchanges={
        "": "",
        "XLON": ".LON",
        "XTSE": ".TRT",
        "XTSX": ".TRV",
        "XETR": ".DEX",
        "XFRA": ".FRK",
        "XPAR": ".PAR",
        "XAMS": ".AMS",
        "XBRU": ".BRU",
        "XLIS": ".LIS",
        "BVMF": ".SAO",
        "XBOM": ".BSE",
        "XSHG": ".SHH",
        "XSHE": ".SHZ",
    },
)

ROW = Provider(
    service="alpha_vantage",
    name="Alpha Vantage",
    base_url="https://www.alphavantage.co",
    auth=Auth("query", "apikey"),
    endpoints={
        "quote": Endpoint(
            "/query", quote, params={"function": "GLOBAL_QUOTE", "symbol": "{symbol}"}, spell=_SPELL
        ),
        "bars": Endpoint(
            "/query",
            bars,
            params={"function": "TIME_SERIES_DAILY", "symbol": "{symbol}", "outputsize": "compact"},
            spell=_SPELL,
            adjustment="raw",
        ),
        # In no free plan.
        **intraday(
            _NAMES,
            "/query",
            minutes,
            {
                "function": "TIME_SERIES_INTRADAY",
                "symbol": "{symbol}",
                "interval": "{interval}",
                "adjusted": "false",
                "outputsize": "compact",
            },
            spell=Spelling(dash="-", issues=_ISSUES),
            adjustment="raw",
        ),
        "dividends": Endpoint(
            "/query",
            dividends,
            params={"function": "DIVIDENDS", "symbol": "{symbol}"},
            spell=Spelling(dash="-", issues=_ISSUES),
            adjustment="raw",
        ),
        "splits": Endpoint(
            "/query",
            splits,
            params={"function": "SPLITS", "symbol": "{symbol}"},
            spell=Spelling(dash="-", issues=_ISSUES),
        ),
        "news": Endpoint(
            "/query",
            news,
            params={"function": "NEWS_SENTIMENT", "tickers": "{symbol}", "sort": "LATEST", "limit": "50"},
            spell=Spelling(dash="-", issues=_ISSUES, coin="CRYPTO:{base}", own=":"),
        ),
    },
    matchers=(
        # The burst text also names the daily limit, so it is looked for first.
        Matcher(
            Verdict.RATE_LIMIT, "too many requests a second", ("Information",), "spreading out your", hold=2.0
        ),
        # Of older years: of the minute and the day in one text, or without a number.
        *(
            Matcher(Verdict.RATE_LIMIT, "too many requests a minute", (member,), words)
            for member in ("Information", "Note")
            for words in ("per minute and", "optimizing your API call frequency", "higher API call volume")
        ),
        Matcher(Verdict.QUOTA, "the day's requests are used up", ("Information",), "requests per day"),
        Matcher(Verdict.QUOTA, "the day's requests are used up", ("Note",), "requests per day"),
        Matcher(Verdict.RATE_LIMIT, "too many requests a minute", ("Note",)),
        Matcher(
            Verdict.AUTH,
            "the API key is invalid or missing",
            ("Error Message",),
            "apikey is invalid or missing",
        ),
        # Undocumented, as its clients report them; the second is all there is of an unknown ticker's news.
        Matcher(
            Verdict.AUTH, "the demo key gets no more than the examples", ("Information",), "demo purposes"
        ),
        Matcher(Verdict.NOT_FOUND, "no such ticker", ("Information",), "Invalid inputs"),
        Matcher(Verdict.EMPTY, "no articles", ("Information",), "No articles found"),
        Matcher(Verdict.NOT_FOUND, "no such symbol or function", ("Error Message",), "Invalid API call"),
        Matcher(Verdict.NOT_FOUND, "no such symbol or function", ("Information",), "Invalid API call"),
        # An endpoint, or a parameter's value.
        Matcher(Verdict.ENTITLEMENT, "it is not in this plan", ("Information",), "is a premium"),
    ),
    # A caller who asks for a few symbols does not wait an hour for each.
    quota=Quota(25, 86_400),  # and no two in the same second
)
