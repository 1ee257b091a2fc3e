"""Kraken, spot: its public market data, without a key. Every error is HTTP 200, told apart by its text.

Bitcoin is XBT there, and Dogecoin XDG; of two currencies it has a dozen pairs. Sources: "Get Recent Trades",
"Get OHLC Data" and "What are the API rate limits?" in its documentation (2026).
"""

from tasks.errors import InvalidSymbolError
from tasks.providers.documents import Fields, Node, NothingError, Rows, SchemaDriftError
from tasks.providers.rows import Endpoint, Matcher, Provider, Quota, Verdict
from tasks.providers.symbols import Kind, Symbol

_ERROR = ("error", 0)
_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
_PAID_IN = frozenset(("USD", "EUR", "GBP", "CAD", "AUD", "CHF", "JPY", "USDT", "USDC", "BTC", "ETH"))
_CURRENCIES = frozenset(
    (
        *("EUR/USD", "GBP/USD", "AUD/USD", "USD/JPY", "USD/CAD", "USD/CHF"),
        *("EUR/GBP", "EUR/JPY", "EUR/CHF", "EUR/CAD", "EUR/AUD", "AUD/JPY"),
    )
)


def quote(reply: Node) -> Fields:
    """`/Trades`: the newest of the last thousand. `/Ticker` has the book, but no word of when."""
    trades = _of_pair(reply).rows()
    if not trades:
        raise NothingError("$.result has no trade", "no_trade")
    newest = trades[-1].named("price", "volume", "time")
    return {"last_price": newest.price_numeral("price"), "last_timestamp": newest.seconds("time")}


def bars(reply: Node) -> Rows:
    """`/OHLC`: an array for each day of UTC, today's last."""
    return _of_pair(reply).each(_bar)


def _bar(row: Node) -> Fields:
    named = row.named("start", "open", "high", "low", "close", "vwap", "volume", "trades")
    return {
        "timestamp": named.seconds("start"),
        **named.ohlcv(read=Node.numeral),
        "vwap": named.maybe(Node.numeral, "vwap"),
        "trade_count": named.maybe(Node.count, "trades"),
    }


def _of_pair(reply: Node) -> Node:
    """The one pair's; it is called by another of its names there, as XXBTZUSD."""
    found = [node for key, node in reply.child("result").items() if key != "last"]
    if len(found) != 1:
        raise SchemaDriftError("$.result is not of one pair")
    return found[0]


def pair(symbol: Symbol) -> str:
    """XBTUSD for BTC-USD, EURUSD for EUR/USD.

    Raises:
        InvalidSymbolError: Neither a coin that is paid in such money there, nor a pair of its currencies.
    """
    known = symbol.kind is Kind.COIN and symbol.quote_currency in _PAID_IN
    if not known and symbol.text not in _CURRENCIES:
        raise InvalidSymbolError(
            symbol.text, "kraken has coins, as in BTC-EUR, and few pairs of currencies, as in EUR/USD"
        )
    return "".join(_NAMES.get(name, name) for name in (symbol.base, symbol.quote_currency))


ROW = Provider(
    service="kraken",
    name="Kraken",
    base_url="https://api.kraken.com/0/public",
    auth=None,
    endpoints={
        "quote": Endpoint("/Trades", quote, params={"pair": "{symbol}"}, spell=pair, example="BTC-EUR"),
        "bars": Endpoint(
            "/OHLC",
            bars,
            params={"pair": "{symbol}", "interval": "1440", "since": "{start_unix}"},
            spell=pair,
            example="BTC-EUR",
            window_days=150,
            adjustment="raw",
        ),
    },
    matchers=(
        Matcher(Verdict.NOT_FOUND, "no such pair", _ERROR, "Unknown asset"),
        Matcher(Verdict.NOT_FOUND, "no such pair, or not any more", _ERROR, "Invalid asset pair"),
        Matcher(Verdict.RATE_LIMIT, "more than one call a second", _ERROR, "Too many requests"),
        Matcher(Verdict.RATE_LIMIT, "more than one call a second", _ERROR, "Rate limit exceeded"),
        Matcher(Verdict.RATE_LIMIT, "more calls than it takes", _ERROR, "EService:Throttled"),
        Matcher(Verdict.RATE_LIMIT, "locked out for asking on", _ERROR, "Temporary lockout", hold=900.0),
        Matcher(Verdict.CALLER_ERROR, "a parameter is wrong", _ERROR, "Invalid arguments"),
        Matcher(Verdict.PROVIDER_FAILURE, "an error of its own", _ERROR),
    ),
    quota=Quota(60, 60),
    rate_hold=5.0,
    key_required=False,
)
