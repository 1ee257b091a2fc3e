"""How every endpoint of the catalogue is asked for one symbol of each kind.

Written down from the providers' documentation, not computed; None where there is no such symbol.
"""

from tasks.providers import PROVIDERS

SYMBOLS = ("BRK.B", "VOD.L", "^GSPC", "EUR/USD", "BTC-USD")
_DOT, _DASH = ("BRK.B", None, None, None, None), ("BRK-B", None, None, None, None)
_ABROAD = ("BRK.B", "VOD.L", None, None, None)
_ABROAD_DASH = ("BRK-B", "VOD.L", None, None, None)
_NOTHING = (None, None, None, None, None)

SPELLED: dict[tuple[str, str], tuple[str | None, ...]] = {
    ("iex_cloud", "quote"): _DOT,
    ("iex_cloud", "bars"): _DOT,
    ("iex_cloud", "news"): _DOT,
    ("alpha_vantage", "quote"): ("BRK-B", "VOD.LON", None, None, None),
    ("alpha_vantage", "bars"): ("BRK-B", "VOD.LON", None, None, None),
    ("alpha_vantage", "news"): ("BRK-B", None, None, None, "CRYPTO:BTC"),
    ("finnhub", "quote"): ("BRK.B", "VOD.L", "^GSPC", None, None),
    ("finnhub", "bars"): ("BRK.B", "VOD.L", "^GSPC", None, None),
    ("finnhub", "news"): _DOT,
    ("finnhub", "filings"): _DOT,
    ("finnhub", "dividends"): _ABROAD,
    ("finnhub", "splits"): _ABROAD,
    ("sec_edgar", "filings"): _DASH,
    ("sec_edgar", "facts"): _NOTHING,
    ("sec_edgar", "companies"): _NOTHING,
    ("fred", "observations"): _NOTHING,
    ("twelvedata", "quote"): ("BRK.B", "VOD", "SPX", "EUR/USD", "BTC/USD"),
    ("twelvedata", "bars"): ("BRK.B", "VOD", "SPX", "EUR/USD", "BTC/USD"),
    ("polygon", "quote"): _DOT,
    ("polygon", "bars"): ("BRK.B", None, "I:SPX", "C:EURUSD", "X:BTCUSD"),
    ("polygon", "news"): _DOT,
    ("tiingo", "quote"): _DASH,
    ("tiingo", "bars"): _DASH,
    ("tiingo", "news"): _DASH,
    ("alpaca", "quote"): _DOT,
    ("alpaca", "bars"): _DOT,
    ("alpaca", "news"): _DOT,
    ("tradier", "quote"): ("BRK/B", None, "SPX", None, None),
    ("tradier", "bars"): ("BRK/B", None, "SPX", None, None),
    ("intrinio", "quote"): _DOT,
    ("intrinio", "bars"): _DOT,
    ("intrinio", "news"): _DOT,
    ("news_api", "news"): ("BRK.B", "VOD.L", None, "EUR/USD", None),
    ("benzinga", "news"): _DOT,
    ("benzinga", "quote"): _DOT,
    ("quandl", "observations"): _NOTHING,
    ("fmp", "quote"): ("BRK-B", "VOD.L", "^GSPC", "EURUSD", "BTCUSD"),
    ("fmp", "bars"): ("BRK-B", "VOD.L", "^GSPC", "EURUSD", "BTCUSD"),
    ("fmp", "news"): ("BRK-B", "VOD.L", None, None, None),
    ("eodhd", "quote"): ("BRK-B.US", "VOD.LSE", "GSPC.INDX", "EURUSD.FOREX", "BTC-USD.CC"),
    ("eodhd", "bars"): ("BRK-B.US", "VOD.LSE", "GSPC.INDX", "EURUSD.FOREX", "BTC-USD.CC"),
    ("eodhd", "news"): ("BRK-B.US", "VOD.LSE", "GSPC.INDX", "EURUSD.FOREX", "BTC-USD.CC"),
    ("marketstack", "bars"): ("BRK-B", "VOD.L", None, None, None),
    ("marketstack", "quote"): ("BRK-B", "VOD.L", None, None, None),
    ("coingecko", "quote"): (None, None, None, None, "bitcoin"),
    ("world_bank", "observations"): _NOTHING,
    ("us_treasury", "observations"): _NOTHING,
    ("yahoo", "quote"): ("BRK-B", "VOD.L", "^GSPC", "EURUSD=X", "BTC-USD"),
    ("yahoo", "bars"): ("BRK-B", "VOD.L", "^GSPC", "EURUSD=X", "BTC-USD"),
    ("stooq", "bars"): ("BRK-B.US", None, None, None, None),
    ("openfigi", "reference"): ("BRK/B", "VOD", None, None, None),
    ("coinbase", "quote"): (None, None, None, None, "BTC-USD"),
    ("coinbase", "bars"): (None, None, None, None, "BTC-USD"),
    ("kraken", "quote"): (None, None, None, "EURUSD", "XBTUSD"),
    ("kraken", "bars"): (None, None, None, "EURUSD", "XBTUSD"),
    ("binance", "quote"): _NOTHING,  # its coins are not paid in USD
    ("binance", "bars"): _NOTHING,
    ("ecb", "quote"): (None, None, None, "USD", None),
    ("ecb", "observations"): _NOTHING,
}

# Bars of minutes: of shares abroad where the clock of their times is known, and of what the source trades.
for _service, _spelled in {
    "alpaca": _DOT,
    "alpha_vantage": _DASH,
    "eodhd": SPELLED["eodhd", "bars"],
    "finnhub": SPELLED["finnhub", "bars"],
    "fmp": _DASH,
    "intrinio": _DOT,
    "marketstack": _DASH,
    "polygon": SPELLED["polygon", "bars"],
    "tiingo": _DASH,
    "tradier": SPELLED["tradier", "bars"],
    "twelvedata": SPELLED["twelvedata", "bars"],
    "yahoo": SPELLED["yahoo", "bars"],
}.items():
    SPELLED |= {
        (_service, _dataset): _spelled
        for _dataset in PROVIDERS[_service].endpoints
        if _dataset.startswith("bars_")
    }
# Dividends and splits: of shares alone.
for _service, _spelled in {
    "alpaca": _DOT,
    "alpha_vantage": _DASH,
    "eodhd": ("BRK-B.US", "VOD.LSE", None, None, None),
    "fmp": _ABROAD_DASH,
    "intrinio": _DOT,
    "marketstack": _ABROAD_DASH,
    "polygon": _DOT,
    "tiingo": _DASH,
    "twelvedata": ("BRK.B", "VOD", None, None, None),
    "yahoo": _ABROAD_DASH,
}.items():
    SPELLED |= {(_service, _dataset): _spelled for _dataset in ("dividends", "splits")}

VENUES = {("twelvedata", "VOD.L"): "XLON"}
"""The exchange, where a query has it apart."""
