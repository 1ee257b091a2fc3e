"""CoinGecko. Coins by their ids, bitcoin and not BTC; an unknown one is an empty object.

A demo key and a paid one look alike, and each is refused (400, by code) where the other is asked for: which
it is, COINGECKO_PLAN says. Codes and limits are those of "Errors & Rate Limits" in its documentation of 2026:
100 calls a minute with a demo key; fewer and fewer without one (explored#166, zkool2#754).

Many coins share a name such as BTC, so it is translated only for the best known, by its list /coins/list; all
others are asked for by their id, as in COINGECKO:BITCOIN.
"""

from tasks.errors import InvalidSymbolError
from tasks.providers.documents import Fields, Node, NothingError
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict, Window
from tasks.providers.symbols import Kind, Symbol

_PREFIX = "COINGECKO:"
_STATUSES = (("status",), ("error", "status"), ())  # an error stands in any of them
_CODES = {  # whatever the status: 429 is reported with 200, too, and 10010 comes with 400
    "429": (Verdict.RATE_LIMIT, "too many calls a minute"),
    "10002": (Verdict.AUTH, "it wants a key, of the demo plan or a paid one"),
    "10006": (Verdict.QUOTA, "the month's calls are used up"),
    "10005": (Verdict.ENTITLEMENT, "the data is not in this plan"),
    "10010": (Verdict.AUTH, "the key is a paid plan's: set COINGECKO_PLAN=pro"),
    "10011": (Verdict.AUTH, "the key is the demo plan's: set COINGECKO_PLAN=demo"),
    "10012": (Verdict.ENTITLEMENT, "days so long ago are not in this plan"),
}


def quote(reply: Node) -> Fields | None:
    """`/simple/price`: an object by coin; the change is of 24 hours."""
    coins = reply.members("id")
    if not coins:
        return None
    coin = coins[0]
    if coin.maybe(Node.number, "usd") is None:  # undocumented: one it knows, but has no price of
        raise NothingError(f"{coin.path} has no price", "no_trade")
    return {
        "symbol": coin.symbol("id", _PREFIX),
        "last_price": coin.price("usd"),
        "last_timestamp": coin.seconds("last_updated_at"),
        "change_percent": coin.maybe(Node.percent, "usd_24h_change"),
        # usd_24h_vol is in dollars, not a number of coins.
        "currency": "USD",
    }


_IDS = {
    "AAVE": "aave",
    "ADA": "cardano",
    "ALGO": "algorand",
    "APT": "aptos",
    "ARB": "arbitrum",
    "ATOM": "cosmos",
    "AVAX": "avalanche-2",
    "BCH": "bitcoin-cash",
    "BNB": "binancecoin",
    "BTC": "bitcoin",
    "DAI": "dai",
    "DOGE": "dogecoin",
    "DOT": "polkadot",
    "ETC": "ethereum-classic",
    "ETH": "ethereum",
    "FIL": "filecoin",
    "HBAR": "hedera-hashgraph",
    "ICP": "internet-computer",
    "LINK": "chainlink",
    "LTC": "litecoin",
    "NEAR": "near",
    "OP": "optimism",
    "PEPE": "pepe",
    "POL": "polygon-ecosystem-token",
    "SHIB": "shiba-inu",
    "SOL": "solana",
    "SUI": "sui",
    "TON": "the-open-network",
    "TRX": "tron",
    "UNI": "uniswap",
    "USDC": "usd-coin",
    "USDT": "tether",
    "XLM": "stellar",
    "XMR": "monero",
    "XRP": "ripple",
    "XTZ": "tezos",
    "ZEC": "zcash",
}


def coin(symbol: Symbol) -> str:
    """A coin's id; prices are asked for in dollars.

    Raises:
        InvalidSymbolError: None of the best known, or not in dollars.
    """
    if symbol.kind is not Kind.COIN:
        return symbol.text.lower()
    if symbol.base not in _IDS or symbol.quote_currency != "USD":
        raise InvalidSymbolError(symbol.text, "coingecko has BTC-USD and the like, and COINGECKO:BITCOIN")
    return _IDS[symbol.base]


ROW = Provider(
    service="coingecko",
    name="CoinGecko",
    base_url="https://api.coingecko.com/api/v3",
    auth=Auth("header", "x-cg-demo-api-key"),
    plans={
        "demo": {},
        "pro": {
            "base_url": "https://pro-api.coingecko.com/api/v3",
            "auth": Auth("header", "x-cg-pro-api-key"),
            "quota": None,  # by what is paid
            "key_required": True,
        },
    },
    endpoints={
        "quote": Endpoint(
            "/simple/price",
            quote,
            params={
                "ids": "{symbol}",
                "vs_currencies": "usd",
                "include_24hr_change": "true",
                "include_last_updated_at": "true",
                "precision": "full",
            },
            spell=coin,
            prefix=_PREFIX,
            beside=frozenset({Kind.COIN}),
            example="COINGECKO:BITCOIN",
        ),
        # /coins/{id}/ohlc (bars) is daily in paid plans only; free are candles of 30 minutes to 4 days.
    },
    matchers=tuple(
        Matcher(verdict, says, (*path, "error_code"), equals=code)
        for code, (verdict, says) in _CODES.items()
        for path in _STATUSES
    ),
    statuses=frozenset({401, 408}),
    # With a demo key; beside it, 10 000 a month.
    quota=Quota(100, 60),
    rate_hold=60.0,  # where Retry-After is missing
    quota_hold=Window.MONTH,
    key_required=False,
)
