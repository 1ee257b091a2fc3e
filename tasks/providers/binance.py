"""Binance, spot. No key: asked for is the host of public market data, behind which there are no accounts.

A pair is one word, BTCUSDT, and coins are paid in USDT and USDC there, never in USD. Sources: "Market Data
Only URLs", "LIMITS" and "Error Codes" in binance-spot-api-docs (2026).
"""

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import Endpoint, Matcher, Provider, Quota, Verdict
from tasks.providers.symbols import Spelling

_CODE = ("code",)
_PAID_IN = frozenset(
    (
        "USDT",
        "USDC",
        "BTC",
        "ETH",
        "EUR",
        "TRY",
        "BRL",
        "JPY",
        "MXN",
        "ARS",
        "COP",
        "CZK",
        "PLN",
        "RON",
        "ZAR",
    )
)
_PAIR = Spelling(exchanges={}, coin="{base}{quote}", paid_in=_PAID_IN, own=None)
_COLUMNS = ("start", "open", "high", "low", "close", "volume", "end", "paid", "trades")


def quote(reply: Node) -> Fields:
    """`/ticker/24hr`: everything but the last price and the book is of the last 24 hours."""
    return {
        "symbol": reply.symbol("symbol"),
        "last_price": reply.price_numeral("lastPrice"),
        "last_timestamp": reply.milliseconds("closeTime"),
        "bid": reply.maybe(Node.numeral, "bidPrice"),
        "ask": reply.maybe(Node.numeral, "askPrice"),
        "open": reply.maybe(Node.numeral, "openPrice"),
        "high": reply.maybe(Node.numeral, "highPrice"),
        "low": reply.maybe(Node.numeral, "lowPrice"),
        "change": reply.maybe(Node.numeral, "priceChange"),
        "change_percent": reply.maybe(Node.percent_text, "priceChangePercent"),
        "volume": reply.maybe(Node.numeral, "volume"),
    }


def bars(reply: Node) -> Rows:
    """`/klines`: an array for each day of UTC, today's among them."""
    return reply.each(_bar)


def _bar(row: Node) -> Fields:
    named = row.named(*_COLUMNS)
    return {
        "timestamp": named.milliseconds("start"),
        **named.ohlcv(read=Node.numeral),
        "trade_count": named.maybe(Node.count, "trades"),
    }


ROW = Provider(
    service="binance",
    name="Binance",
    base_url="https://data-api.binance.vision/api/v3",
    auth=None,
    endpoints={
        "quote": Endpoint(
            "/ticker/24hr", quote, params={"symbol": "{symbol}"}, spell=_PAIR, example="BTC-USDT"
        ),
        "bars": Endpoint(
            "/klines",
            bars,
            params={"symbol": "{symbol}", "interval": "1d", "limit": "150"},
            spell=_PAIR,
            example="BTC-USDT",
            adjustment="raw",
        ),
    },
    matchers=(
        Matcher(Verdict.NOT_FOUND, "no such pair", _CODE, equals="-1121"),
        Matcher(Verdict.RATE_LIMIT, "too many requests a minute", _CODE, equals="-1003"),
        # Who goes on after a 429 is banned, for two minutes to three days; Retry-After tells.
        Matcher(Verdict.RATE_LIMIT, "banned for asking on", statuses=frozenset({418}), hold=120.0),
        Matcher(Verdict.RATE_LIMIT, "its firewall's limit", statuses=frozenset({403})),
        Matcher(Verdict.ENTITLEMENT, "it serves nobody in this country", statuses=frozenset({451})),
        *(
            Matcher(Verdict.PROVIDER_FAILURE, "an error of its own", _CODE, equals=code)
            for code in ("-1000", "-1001", "-1006", "-1007", "-1008", "-1016")
        ),
    ),
    statuses=frozenset({400, 429}),
    quota=Quota(3_000, 60),  # each of these calls weighs 2, of 6 000 a minute
    rate_hold=60.0,
    key_required=False,
)
