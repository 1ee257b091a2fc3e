"""Quote replies, one reader per provider: the provider's names and units in, a Quote's fields out.

Required is what makes a quote: its price and its time. The rest may be absent or null, but not of another
type.
"""

from tasks.providers.documents import Fields, Node


def iex_cloud(reply: Node) -> Fields:
    """`/stock/{symbol}/quote`: times in milliseconds, changePercent already a fraction."""
    return {
        "symbol": reply.symbol("symbol"),
        "last_price": reply.price("latestPrice"),
        "last_size": reply.maybe(Node.count, "iexRealtimeSize"),
        "last_timestamp": reply.milliseconds("latestUpdate"),
        "bid": reply.maybe(Node.number, "iexBidPrice"),
        "bid_size": reply.maybe(Node.count, "iexBidSize"),
        "ask": reply.maybe(Node.number, "iexAskPrice"),
        "ask_size": reply.maybe(Node.count, "iexAskSize"),
        "open": reply.maybe(Node.number, "open"),
        "high": reply.maybe(Node.number, "high"),
        "low": reply.maybe(Node.number, "low"),
        "prev_close": reply.maybe(Node.number, "previousClose"),
        "change": reply.maybe(Node.number, "change"),
        "change_percent": reply.maybe(Node.number, "changePercent"),
        "volume": reply.maybe(Node.number, "latestVolume"),
        "exchange": reply.maybe(Node.text, "primaryExchange"),
    }


def alpha_vantage(reply: Node) -> Fields | None:
    """`GLOBAL_QUOTE`: every number is a string, the time is a day, an unknown symbol is an empty object."""
    quote = reply.child_starting("Global Quote")
    if quote.value == {}:
        return None
    return {
        "symbol": quote.symbol("01. symbol"),
        "last_price": quote.price_numeral("05. price"),
        "last_timestamp": quote.day("07. latest trading day"),
        "open": quote.maybe(Node.numeral, "02. open"),
        "high": quote.maybe(Node.numeral, "03. high"),
        "low": quote.maybe(Node.numeral, "04. low"),
        "volume": quote.maybe(Node.numeral, "06. volume"),
        "prev_close": quote.maybe(Node.numeral, "08. previous close"),
        "change": quote.maybe(Node.numeral, "09. change"),
        "change_percent": quote.maybe(Node.percent_text, "10. change percent"),
    }


def finnhub(reply: Node) -> Fields | None:
    """`/quote`: no symbol in the reply, `dp` in percent, and zeros instead of "unknown symbol"."""
    if reply.number("c") == 0 and reply.number("t") == 0:
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
