"""Coinbase Exchange: its public market data, without a key. A pair is spelled as here, BTC-USD.

Sources: "Get product ticker", "Get product candles" and "REST API Rate Limits" in its documentation (2026).
"""

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import Endpoint, Matcher, Provider, Quota, Verdict
from tasks.providers.symbols import Spelling

_PAIR = Spelling(
    exchanges={},
    coin="{base}-{quote}",
    paid_in=frozenset(("USD", "EUR", "GBP", "USDC", "USDT", "BTC", "ETH")),
    own=None,
)


def quote(reply: Node) -> Fields:
    """`/ticker`: the last trade and the book; the volume is of the last 24 hours."""
    return {
        "last_price": reply.price_numeral("price"),
        "last_timestamp": reply.instant("time"),
        "bid": reply.maybe(Node.numeral, "bid"),
        "ask": reply.maybe(Node.numeral, "ask"),
        "volume": reply.maybe(Node.numeral, "volume"),
    }


def bars(reply: Node) -> Rows:
    """`/candles`: an array for each day of UTC, today's first; days without a trade are not there."""
    return reply.each(_bar)


def _bar(row: Node) -> Fields:
    named = row.named("start", "low", "high", "open", "close", "volume")
    return {"timestamp": named.seconds("start"), **named.ohlcv()}


ROW = Provider(
    service="coinbase",
    name="Coinbase",
    base_url="https://api.exchange.coinbase.com",
    auth=None,
    endpoints={
        "quote": Endpoint("/products/{symbol}/ticker", quote, spell=_PAIR, example="BTC-USD"),
        "bars": Endpoint(
            "/products/{symbol}/candles",
            bars,
            params={"granularity": "86400"},  # without a start and an end, the newest 300
            spell=_PAIR,
            example="BTC-USD",
            adjustment="raw",
        ),
    },
    matchers=(
        # As its clients report it.
        Matcher(Verdict.NOT_FOUND, "the pair is delisted", ("message",), "delisted"),
    ),
    statuses=frozenset({400, 403, 404, 429}),
    quota=Quota(10, 1),
    rate_hold=1.0,
    key_required=False,
)
