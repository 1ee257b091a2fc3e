"""Tradier. What would be a list of one element is the element alone; a brokerage account is needed.

A class of shares has a slash: BRK/B is asked for where BRK.B is meant. It has US shares, and the indices that
have options, by their names alone (SPX); its documentation of quotes has the type index.
"""

from tasks.providers.documents import Fields, Node, Rows, each
from tasks.providers.indices import Names
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Reset, Verdict, intraday
from tasks.providers.symbols import Spelling


def quote(reply: Node) -> Fields | None:
    """`/markets/quotes` of one symbol."""
    quotes = reply.child("quotes")
    for found in () if quotes.value is None else _elements(quotes.child("quote")):
        return {
            "symbol": found.text("symbol"),
            "last_price": found.price("last"),
            "last_size": found.maybe(Node.size, "last_volume"),
            "last_timestamp": found.milliseconds("trade_date"),
            "bid": found.maybe(Node.number, "bid"),
            "bid_size": found.maybe(Node.count, "bidsize"),
            "ask": found.maybe(Node.number, "ask"),
            "ask_size": found.maybe(Node.count, "asksize"),
            "open": found.maybe(Node.number, "open"),
            "high": found.maybe(Node.number, "high"),
            "low": found.maybe(Node.number, "low"),
            "prev_close": found.maybe(Node.number, "prevclose"),
            "change": found.maybe(Node.number, "change"),
            "change_percent": found.maybe(Node.percent, "change_percentage"),
            "volume": found.maybe(Node.number, "volume"),
            "exchange": found.maybe(Node.text, "exch"),
        }
    return None


def bars(reply: Node) -> Rows:
    """`/markets/history`: null where there is no day, and where there is no such symbol."""
    told = reply.child("history")
    return Rows() if told.value is None else each(_elements(told.child("day")), _bar)


def _bar(row: Node) -> Fields:
    return {"timestamp": row.session("date"), **row.ohlcv()}


def minutes(reply: Node) -> Rows:
    """`/markets/timesales`: of each bar its start; null where nothing was traded."""
    told = reply.child("series")
    return Rows() if told.value is None else each(_elements(told.child("data")), _minute)


def _minute(row: Node) -> Fields:
    return {
        "timestamp": row.seconds("timestamp"),
        **row.ohlcv(),
        "vwap": row.maybe(Node.number, "vwap"),
    }


def _elements(node: Node) -> list[Node]:
    return [node] if isinstance(node.value, dict) else node.rows()


_SPELL = Spelling(dash="/", index=Names("tradier"))

ROW = Provider(
    service="tradier",
    name="Tradier",
    base_url="https://api.tradier.com/v1",
    auth=Auth("header", prefix="Bearer "),
    endpoints={
        "quote": Endpoint("/markets/quotes", quote, params={"symbols": "{symbol}"}, spell=_SPELL),
        "bars": Endpoint(
            "/markets/history",
            bars,
            params={"symbol": "{symbol}", "interval": "daily", "start": "{start}", "end": "{end}"},
            spell=_SPELL,
            window_days=140,
            # Its documentation says that dividends may be left out, and of splits nothing.
            adjustment="split",
        ),
        # The trades of some weeks at most, in New York's time.
        **intraday(
            {"1m": "1min", "5m": "5min", "15m": "15min"},
            "/markets/timesales",
            minutes,
            {
                "symbol": "{symbol}",
                "interval": "{interval}",
                "start": "{start} 00:00",
                "end": "{end} 23:59",
                "session_filter": "all",
            },
            spell=_SPELL,
            adjustment="raw",
        ),
    },
    matchers=(
        Matcher(Verdict.NOT_FOUND, "no such symbol", ("quotes", "unmatched_symbols")),
        Matcher(
            Verdict.RATE_LIMIT,
            "too many requests a minute",
            contains="Quota Violation",
            statuses=frozenset({429}),
        ),
        Matcher(
            Verdict.AUTH,
            "the token is a sandbox's, or the sandbox's address is asked with another",
            contains="no apiproduct match",
            statuses=frozenset({401}),
        ),
    ),
    statuses=frozenset({401}),
    quota=Quota(120, 60),  # of market data
    # A sandbox's token is another than the account's; its prices are 15 minutes old.
    plans={"live": {}, "sandbox": {"base_url": "https://sandbox.tradier.com/v1", "quota": Quota(60, 60)}},
    rate_hold=60.0,  # its minute starts with the first call
    reset=Reset("X-Ratelimit-Expiry", "unix_milliseconds"),
)
