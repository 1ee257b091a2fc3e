"""Yahoo Finance, unofficial: no contract, and no key. What needs its cookie and crumb is not asked for.

Its symbols, by its help page "Exchanges and data providers" (SLN2310) and its pages of indices, currencies
and coins: BRK-B, VOD.L, NOVO-B.CO, ^GSPC, EURUSD=X, BTC-USD; futures are GC=F.

Since 2025 it answers 429 to who does not name a browser of today in full (moneymanagerex#7497,
yahoo-finance2#982): the one named here is to be kept up to date.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from tasks.providers.documents import Fields, Node, NothingError, Rows, SchemaDriftError, each
from tasks.providers.indices import Names
from tasks.providers.rows import Endpoint, Matcher, Provider, Verdict, intraday
from tasks.providers.symbols import FAMILIAR, HYPHENATED, Spelling
from tasks.records import Interval

_INTERVALS: Mapping[str, Interval] = {
    "1m": "1m",
    "5m": "5m",
    "15m": "15m",
    "30m": "30m",
    "60m": "1h",
    "1h": "1h",
}
_LENGTHS = {
    **{f"{minutes}m": timedelta(minutes=minutes) for minutes in (1, 5, 15, 30)},
    "1h": timedelta(hours=1),
}
_PRICES = ("open", "high", "low", "close", "volume")


def quote(reply: Node) -> Fields:
    """The head of a day's chart."""
    chart = _chart(reply)
    head = chart.child("meta") if chart else Node({}, "$.chart.result")
    if head.maybe(Node.number, "regularMarketPrice") is None:  # as of a share that is delisted
        raise NothingError(f"{head.path}.regularMarketPrice is missing", "no_trade")
    return {
        "symbol": head.symbol("symbol"),
        "last_price": head.price("regularMarketPrice"),
        "last_timestamp": head.seconds("regularMarketTime"),
        "prev_close": head.maybe(Node.number, "chartPreviousClose"),
        "exchange": head.maybe(Node.text, "exchangeName"),
        "currency": head.maybe(Node.text, "currency"),
    }


def bars(reply: Node) -> Rows:
    """Columns, null where nothing was traded; today may come twice, the live one last."""
    chart = _chart(reply)
    if chart is None or (isinstance(chart.value, dict) and "timestamp" not in chart.value):
        return Rows()
    head = chart.child("meta")
    common = {
        "symbol": head.symbol("symbol"),
        "zone": head.zone("exchangeTimezoneName"),
        "currency": head.maybe(Node.text, "currency"),
    }
    return each(_rows(chart), _bar, common)


def _bar(row: Node) -> Fields:
    return {
        "timestamp": row.seconds("timestamp"),
        **row.ohlcv(),
        "adj_close": row.maybe(Node.number, "adjclose"),
    }


def minutes(reply: Node) -> Rows:
    """The same columns, without adjusted ones; the live price may stand behind the last bar, which has it."""
    chart = _chart(reply)
    if chart is None:
        return Rows()
    head = chart.child("meta")
    interval = _INTERVALS.get(head.text("dataGranularity"))
    if interval is None:
        raise SchemaDriftError(f"{head.path}.dataGranularity is none that bars have here")
    common = {
        "symbol": head.symbol("symbol"),
        "interval": interval,
        "currency": head.maybe(Node.text, "currency"),
    }
    if isinstance(chart.value, dict) and "timestamp" not in chart.value:
        return Rows()
    rows = each(_rows(chart), _bar, common)
    return Rows(_one_after_another(rows, _LENGTHS[interval]), rows.left_out)


def _one_after_another(rows: Rows, length: timedelta) -> Iterator[Fields]:
    """Those that do not begin within the one before them, nor within a minute, as the live price does."""
    ends = datetime.min.replace(tzinfo=UTC)
    for row in rows:
        start = row["timestamp"]
        if isinstance(start, datetime) and start >= ends and not start.second:
            ends = start + length
            yield row


def dividends(reply: Node) -> Rows:
    """The chart's events: as of today's shares; a day is told by when trade begins on it.

    Some are in another currency than the share, and say so.
    """
    return _events(reply, "dividends", _dividend, "ex_date", "currency")


def _dividend(row: Node) -> Fields:
    told = row.maybe(Node.text, "currency")
    return {"amount": row.price("amount"), **({"currency": told} if told else {})}


def splits(reply: Node) -> Rows:
    """New shares over old ones."""
    return _events(reply, "splits", lambda row: row.split_of("numerator", "denominator"), "date")


def _events(reply: Node, kind: str, read: Callable[[Node], Fields], day: str, *common: str) -> Rows:
    chart = _chart(reply)
    if chart is None:
        return Rows()
    head = chart.child("meta")
    symbol, zone = head.symbol("symbol"), head.zone("exchangeTimezoneName")
    known = {"symbol": symbol, **{name: head.maybe(Node.text, name) for name in common}}
    events = chart.maybe(Node.child, "events") or Node({})
    listed = events.maybe(Node.child, kind) or Node({})
    return each(
        listed.members("key"),
        lambda row: {day: row.seconds("date").astimezone(zone).date(), **read(row)},
        known,
    )


def _chart(reply: Node) -> Node | None:
    results = reply.child("chart").child("result").rows()
    if len(results) > 1:
        raise SchemaDriftError("$.chart.result is more than one chart")
    return results[0] if results else None


def _rows(chart: Node) -> list[Node]:
    """The columns of times, of prices and, of days, of adjusted closes, side by side."""
    indicators = chart.child("indicators")
    prices, adjusted = indicators.child("quote").rows(), indicators.maybe(Node.child, "adjclose")
    if not prices or (adjusted and not adjusted.rows()):
        raise SchemaDriftError(f"{indicators.path} has no column")
    columns = {name: prices[0].child(name).value for name in _PRICES}
    columns["timestamp"] = chart.child("timestamp").value
    if adjusted:
        columns["adjclose"] = adjusted.rows()[0].child("adjclose").value
    return Node(columns, chart.path).columns(*columns)


_PATH = "/v8/finance/chart/{symbol}"
# Names that an older coin has there; these have CoinMarketCap's number behind them, as its search tells.
_COINS = {
    name: f"{name}{number}"
    for name, number in {
        "APT": 21794,
        "ARB": 11841,
        "COMP": 5692,
        "GRT": 6719,
        "IMX": 10603,
        "JUP": 29210,
        "MNT": 27075,
        "PEPE": 24478,
        "POL": 28321,
        "STX": 4847,
        "SUI": 20947,
        "TAO": 22974,
        "TON": 11419,
        "UNI": 7083,
    }.items()
}
_SPELL = Spelling(
    dash="-",
    exchanges=FAMILIAR,
    index=Names("yahoo", "^{}"),
    fx="{base}{quote}=X",
    coin="{base}-{quote}",
    coins=_COINS,
    issues=HYPHENATED,
    own="=",
)
_BROWSER = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/150.0.0.0 Safari/537.36"
)

_SHARES = _SPELL.of_shares()

ROW = Provider(
    service="yahoo",
    name="Yahoo Finance",
    base_url="https://query2.finance.yahoo.com",
    auth=None,
    endpoints={
        "quote": Endpoint(_PATH, quote, params={"interval": "1d", "range": "1d"}, spell=_SPELL),
        "bars": Endpoint(
            _PATH, bars, params={"interval": "1d", "range": "6mo"}, spell=_SPELL, adjustment="split"
        ),
        **intraday(
            {"1m": "1m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "1h"},
            _PATH,
            minutes,
            {"interval": "{interval}", "period1": "{start_unix}", "period2": "{end_unix}"},
            spell=_SPELL,
            adjustment="split",
        ),
        "dividends": Endpoint(
            _PATH,
            dividends,
            params={"interval": "1mo", "range": "10y", "events": "div"},
            spell=_SHARES,
            adjustment="split",
        ),
        "splits": Endpoint(
            _PATH,
            splits,
            params={"interval": "1mo", "range": "10y", "events": "split"},
            spell=_SHARES,
        ),
    },
    matchers=(
        Matcher(
            Verdict.RATE_LIMIT,
            "too many requests",
            contains="Too Many Requests",
            statuses=frozenset({200, 403}),  # reported without the status 429, too
        ),
        Matcher(
            Verdict.EMPTY,
            "no bars on these days",
            ("chart", "error", "description"),
            "Data doesn't exist for",
        ),
        Matcher(Verdict.NOT_FOUND, "no such symbol", ("chart", "error", "code"), equals="Not Found"),
        Matcher(
            Verdict.PROVIDER_FAILURE,
            "an error of its own",
            ("chart", "error", "code"),
            statuses=frozenset({200}),
        ),
        Matcher(
            Verdict.RATE_LIMIT, "too many requests", statuses=frozenset({999})
        ),  # an old status of its own
    ),
    statuses=frozenset({401, 429}),  # 401 asks for a crumb
    # No limit is documented, nor how long one holds: rather too long than too short.
    rate_hold=300.0,
    headers={"User-Agent": _BROWSER},
    key_required=False,
)
