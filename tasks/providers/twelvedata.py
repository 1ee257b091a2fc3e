"""Twelve Data. An error tells its HTTP status in the body's `code` and may come as 200; numbers are strings.

Its press releases are no news here: they have no URL.

Its symbols, by its documentation (https://twelvedata.com/docs) and its lists /stocks, /indices, /forex_pairs
and /cryptocurrencies: BRK.B, VOD with mic_code=XLON, SPX, EUR/USD, BTC/USD. Of indices those of the US are
asked for whose names no US share has.
"""

from zoneinfo import ZoneInfo

from tasks.exchanges import EXCHANGES, US, exchange_of
from tasks.providers.documents import Fields, Node, Rows, SchemaDriftError
from tasks.providers.indices import Names
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict, Window, intraday
from tasks.providers.symbols import Spelling, Symbol

_UTC = ZoneInfo("UTC")  # currencies are traded on no exchange, and have its days
_PLAIN = frozenset({200})
_INTERVALS = {f"{minutes}min": f"{minutes}m" for minutes in (1, 5, 15, 30)} | {
    "1h": "1h",
    "1day": "1d",
    "1week": "1W",
    "1month": "1M",
}
_DAYS = ("1d", "1W", "1M")


def quote(reply: Node) -> Fields:
    """`close` is the last price, `percent_change` in percent."""
    return {
        "symbol": _symbol(reply),
        "last_price": reply.price_numeral("close"),
        "last_timestamp": reply.maybe(Node.seconds, "last_quote_at") or reply.seconds("timestamp"),
        "open": reply.maybe(Node.numeral, "open"),
        "high": reply.maybe(Node.numeral, "high"),
        "low": reply.maybe(Node.numeral, "low"),
        "volume": reply.maybe(Node.numeral, "volume"),
        "prev_close": reply.maybe(Node.numeral, "previous_close"),
        "change": reply.maybe(Node.numeral, "change"),
        "change_percent": reply.maybe(Node.percent_text, "percent_change"),
        "exchange": reply.maybe(Node.text, "mic_code") or reply.maybe(Node.text, "exchange"),
        "currency": reply.maybe(Node.text, "currency"),
    }


def bars(reply: Node) -> Rows:
    """`/time_series`: on the exchange's clock; what spans a day or more has no time of day."""
    told = reply.child("meta")
    zone, interval = told.maybe(Node.zone, "exchange_timezone"), _INTERVALS.get(told.text("interval"))
    if interval is None:
        raise SchemaDriftError(f"{told.path}.interval is none that bars have here")
    common = {
        "symbol": _symbol(told),
        "interval": interval,
        "zone": zone,
        "currency": told.maybe(Node.text, "currency"),
    }

    def bar(row: Node) -> Fields:
        start = row.session("datetime") if interval in _DAYS else row.instant("datetime", zone or _UTC)
        return {"timestamp": start, **row.ohlcv(read=Node.numeral)}

    return reply.child("values").each(bar, common)


def _symbol(named: Node) -> str:
    """Of a share with its exchange: the name alone may be that of one listed elsewhere."""
    symbol, exchange = named.symbol("symbol"), exchange_of(named.maybe(Node.text, "mic_code", "") or "")
    is_share = exchange is not None and "/" not in symbol and symbol not in _INDICES.all()
    return f"{symbol}.{exchange.mic}" if exchange and is_share else symbol


_INDICES = Names("twelvedata")
_SPELL = Spelling(
    abroad=".",
    exchanges={"": "", **{exchange.mic: "" for exchange in EXCHANGES if exchange is not US}},
    index=_INDICES,
    fx="{base}/{quote}",
    coin="{base}/{quote}",
)


def dividends(reply: Node) -> Rows:
    """As they were paid."""
    head = reply.child("meta")
    common = {"symbol": _symbol(head), "currency": head.maybe(Node.text, "currency")}
    return reply.child("dividends").each(_dividend, common)


def _dividend(row: Node) -> Fields:
    return {"ex_date": row.date("ex_date"), "amount": row.price("amount")}


def splits(reply: Node) -> Rows:
    """Four new shares for an old one are told as from 4 to 1, with a ratio of 0.25."""
    symbol = _symbol(reply.child("meta"))
    return reply.child("splits").each(_split, {"symbol": symbol})


def _split(row: Node) -> Fields:
    return {"date": row.date("date"), **row.split_of("from_factor", "to_factor")}


def _venue(symbol: Symbol) -> str:
    """Its MIC of an exchange: Tokyo goes by that of all of Japan there."""
    return "XJPX" if symbol.mic == "XTKS" else symbol.mic


_SHARES = _SPELL.of_shares()
_ALL = {"symbol": "{symbol}", "mic_code": "{venue}", "range": "full"}

ROW = Provider(
    service="twelvedata",
    name="Twelve Data",
    base_url="https://api.twelvedata.com",
    auth=Auth("header", prefix="apikey "),
    endpoints={
        "quote": Endpoint(
            "/quote", quote, params={"symbol": "{symbol}", "mic_code": "{venue}"}, spell=_SPELL, venue=_venue
        ),
        "bars": Endpoint(
            "/time_series",
            bars,
            params={
                "symbol": "{symbol}",
                "mic_code": "{venue}",
                "interval": "1day",
                "outputsize": "100",
                "adjust": "none",
            },
            spell=_SPELL,
            venue=_venue,
            adjustment="raw",
        ),
        # Their times are the exchange's, whose clock the reply names; of times in UTC it would not say so.
        **intraday(
            {"1m": "1min", "5m": "5min", "15m": "15min", "30m": "30min", "1h": "1h"},
            "/time_series",
            bars,
            {
                "symbol": "{symbol}",
                "mic_code": "{venue}",
                "interval": "{interval}",
                "outputsize": "400",
                "adjust": "none",
            },
            spell=_SPELL,
            venue=_venue,
            adjustment="raw",
        ),
        # In no free plan; there a call costs twenty credits.
        "dividends": Endpoint(
            "/dividends",
            dividends,
            params={**_ALL, "adjust": "false"},
            spell=_SHARES,
            venue=_venue,
            adjustment="raw",
        ),
        "splits": Endpoint("/splits", splits, params=_ALL, spell=_SHARES, venue=_venue),
    },
    matchers=(
        # Both limits have code 429.
        Matcher(Verdict.QUOTA, "the day's credits are used up", ("message",), "API credits for the day"),
        Matcher(Verdict.QUOTA, "the day's credits are used up", ("message",), "credits for the current day"),
        Matcher(Verdict.RATE_LIMIT, "the minute's credits are used up", ("code",), equals="429"),
        Matcher(Verdict.AUTH, "the API key is wrong or missing", ("code",), equals="401"),
        # A plan's limit comes as 403, or as 404.
        Matcher(Verdict.ENTITLEMENT, "not in this plan", ("message",), "available starting with"),
        Matcher(Verdict.ENTITLEMENT, "not in this plan", ("message",), "not available with your plan"),
        Matcher(Verdict.ENTITLEMENT, "not in this plan", ("code",), equals="403"),
        # An unknown symbol comes as 404, or as 400, in many words.
        Matcher(Verdict.NOT_FOUND, "no such symbol", ("message",), "**symbol**"),
        Matcher(Verdict.NOT_FOUND, "no such symbol", ("message",), "may be delisted"),
        Matcher(Verdict.NOT_FOUND, "no such symbol", ("code",), equals="404"),
        Matcher(Verdict.EMPTY, "no data on these days", ("message",), "No data is available"),
        Matcher(Verdict.CALLER_ERROR, "a parameter is wrong", ("code",), equals="400", statuses=_PLAIN),
        Matcher(Verdict.CALLER_ERROR, "a parameter is too long", ("code",), equals="414", statuses=_PLAIN),
        Matcher(
            Verdict.PROVIDER_FAILURE, "an error of its own", ("status",), equals="error", statuses=_PLAIN
        ),
    ),
    statuses=frozenset({400, 414}),
    # 8 credits a minute and 800 a day, one for each call made here: evenly over the day, 8 at once.
    plan_lists_symbols=True,
    quota=Quota(800, 86_400, burst=8),
    rate_hold=Window.MINUTE,
    quota_hold=Window.DAY,  # when its day starts is undocumented; UTC's, as its clients found
)
