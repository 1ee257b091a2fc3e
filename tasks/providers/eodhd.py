"""EODHD. Its errors are plain text; a symbol has its exchange behind a dot.

Its symbols, by its list of exchanges (https://eodhd.com/list-of-stock-markets) and its pages of indices,
currencies and coins: BRK-B.US, VOD.LSE, GSPC.INDX, EURUSD.FOREX, BTC-USD.CC.

A free key has 20 calls a day, which starts at midnight in GMT ("API Limits" in its documentation, 2025-09).
"""

from tasks.providers.documents import Fields, Node, Rows, each
from tasks.providers.indices import Names
from tasks.providers.rows import YEARS, Auth, Endpoint, Matcher, Provider, Quota, Verdict, Window, intraday
from tasks.providers.symbols import FAMILIAR, Spelling

_US = ".US"


def quote(reply: Node) -> Fields | None:
    """Delayed; `change_p` in percent. Of a symbol it does not know, every value is NA."""
    reply.child("close")
    if not any(reply.maybe(Node.number, key) for key in ("close", "previousClose")):
        return None
    return {
        "symbol": reply.symbol("code").removesuffix(_US),
        "last_price": reply.price("close"),
        "last_timestamp": reply.seconds("timestamp"),
        "open": reply.maybe(Node.number, "open"),
        "high": reply.maybe(Node.number, "high"),
        "low": reply.maybe(Node.number, "low"),
        "prev_close": reply.maybe(Node.number, "previousClose"),
        "change": reply.maybe(Node.number, "change"),
        "change_percent": reply.maybe(Node.percent, "change_p"),
        "volume": reply.maybe(Node.number, "volume"),
        "is_delayed": True,
    }


def bars(reply: Node) -> Rows:
    """Raw prices, and a close adjusted for splits and dividends."""
    return each((row for row in reply.rows() if not _is_notice(row)), _bar)


def _bar(row: Node) -> Fields:
    return {
        "timestamp": row.session("date"),
        **row.ohlcv(),
        "adj_close": row.maybe(Node.number, "adjusted_close"),
    }


def minutes(reply: Node) -> Rows:
    """`/intraday`: of each bar its start; as traded, some hours after the session's end."""
    return reply.each(lambda row: {"timestamp": row.seconds("timestamp"), **row.ohlcv()})


def dividends(reply: Node) -> Rows:
    """As they were paid; what they are as of today's shares is `value`."""
    return reply.each(_dividend)


def _dividend(row: Node) -> Fields:
    return {
        "ex_date": row.date("date"),
        "pay_date": row.maybe(Node.date, "paymentDate"),
        "record_date": row.maybe(Node.date, "recordDate"),
        "declared": row.maybe(Node.date, "declarationDate"),
        "amount": row.price("unadjustedValue"),
        "currency": row.maybe(Node.text, "currency"),
    }


def splits(reply: Node) -> Rows:
    """New shares over old ones, in a text."""
    return reply.each(_split)


def _split(row: Node) -> Fields:
    new, _, old = row.text("split").partition("/")
    shares = Node({"new": new, "old": old}, row.child("split").path)
    return {"date": row.date("date"), **shares.split_of("new", "old", Node.numeral)}


def _is_notice(row: Node) -> bool:
    """Whether it is the last row of the free plan, which says that the rest is not in it."""
    return isinstance(row.value, dict) and row.value.keys() == {"warning"}


def news(reply: Node) -> Rows:
    """No ids, no publisher; the text is the article's own."""
    return reply.each(_article)


def _article(row: Node) -> Fields:
    return {
        "published_at": row.instant("date"),
        "title": row.prose("title"),
        "url": row.link("link"),
        "body": row.maybe(Node.prose, "content"),
        "symbols": [symbol.removesuffix(_US) for symbol in row.maybe(Node.texts, "symbols") or ()],
        "tags": row.maybe(Node.texts, "tags") or (),
        "sentiment": row.maybe(_polarity, "sentiment"),
    }


def _polarity(row: Node, key: str) -> str:
    return str(row.child(key).number("polarity"))


# Named as everywhere; then those with a name of its own. It has no Milan, Tokyo, Singapore or New Zealand.
_FAMILIAR = (
    *("XTSE", "XTSX", "XMEX", "BVMF", "XBUE", "XSGO", "XDUB", "XFRA", "XBER", "XDUS", "XHAM", "XHAN", "XMUN"),
    *("XPAR", "XAMS", "XBRU", "XLIS", "XMAD", "XSWX", "XWBO", "XSTO", "XCSE", "XOSL", "XHEL", "XICE", "XPRA"),
    *("XBSE", "ASEX", "XIST", "XTAE", "XHKG", "XTAI", "ROCO", "XKOS", "XBKK", "XIDX", "XSTC"),
)
_EXCHANGES = {mic: FAMILIAR[mic] for mic in _FAMILIAR} | {
    "": _US,
    "NEOE": ".NEO",
    "XLIM": ".LIM",
    "XLON": ".LSE",
    "XETR": ".XETRA",
    "XSTU": ".STU",
    "XWAR": ".WAR",
    "XBUD": ".BUD",
    "XCAI": ".EGX",
    "XJSE": ".JSE",
    "XNAI": ".XNAI",
    "XNSA": ".XNSA",
    "XSHG": ".SHG",
    "XSHE": ".SHE",
    "XKRX": ".KO",
    "XNSE": ".NSE",
    "XBOM": ".BSE",
    "XKAR": ".KAR",
    "XCOL": ".CM",
    "XKLS": ".KLSE",
    "XPHS": ".PSE",
    "XASX": ".AU",
}
_SPELL = Spelling(
    dash="-",
    exchanges=_EXCHANGES,
    index=Names("eodhd", "{}.INDX"),
    fx="{base}{quote}.FOREX",
    coin="{base}-{quote}.CC",
    issues={"PR": "-P{}", "RT": ""},
)

_SHARES = _SPELL.of_shares()
_SINCE = {"fmt": "json", "from": "{start}"}

ROW = Provider(
    service="eodhd",
    name="EODHD",
    base_url="https://eodhd.com/api",
    auth=Auth("query", "api_token"),
    endpoints={
        # The free plan has the bars alone, of the last year.
        "quote": Endpoint("/real-time/{symbol}", quote, params={"fmt": "json"}, spell=_SPELL),
        "bars": Endpoint(
            "/eod/{symbol}",
            bars,
            params={"fmt": "json", "period": "d", "from": "{start}", "to": "{end}"},
            spell=_SPELL,
            window_days=150,
            adjustment="raw",
        ),
        **intraday(
            {"1m": "1m", "5m": "5m", "1h": "1h"},
            "/intraday/{symbol}",
            minutes,
            {"fmt": "json", "interval": "{interval}", "from": "{start_unix}", "to": "{end_unix}"},
            spell=_SPELL,
            adjustment="raw",
        ),
        "dividends": Endpoint(
            "/div/{symbol}", dividends, params=_SINCE, spell=_SHARES, window_days=YEARS, adjustment="raw"
        ),
        "splits": Endpoint("/splits/{symbol}", splits, params=_SINCE, spell=_SHARES, window_days=YEARS),
        "news": Endpoint("/news", news, params={"s": "{symbol}", "limit": "50", "fmt": "json"}, spell=_SPELL),
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
