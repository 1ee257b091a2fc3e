"""What may stand for a symbol: checked before it gets near a URL, so it can break out of none.

A provider that spells symbols in its own way has a function for that in its row (`Endpoint.spell`).
"""

import re

from tasks.errors import InvalidSymbolError
from tasks.records import LONGEST_SYMBOL

SYMBOL = re.compile(
    rf"(?=.*[A-Za-z0-9])(?:[A-Za-z0-9._\-^=]{{1,32}}|(?=[^:]*:)[A-Za-z0-9._\-^=:]{{1,{LONGEST_SYMBOL}}})"
)
"""ASCII only; the first look-ahead refuses "." and "..", which a path would take for a step.

No ticker is longer than 32. What has a colon names a provider's own thing, and those go by long words: a
coin's id at CoinGecko, an indicator at the World Bank. They document no bound; the one here keeps what is
made of a symbol, keys and log lines, short.
"""

_CIK = re.compile(r"[0-9]{10}")


def clean_symbol(symbol: str) -> str:
    """The symbol in upper case.

    Raises:
        InvalidSymbolError: Not 1 to 32 letters, digits or . _ - ^ = with a letter or digit among them, nor up
            to LONGEST_SYMBOL of them with a colon, too.
    """
    if not isinstance(symbol, str) or not SYMBOL.fullmatch(symbol):
        raise InvalidSymbolError(symbol)
    return symbol.upper()


def cik(symbol: str) -> str:
    """A company's number at the SEC.

    Raises:
        InvalidSymbolError: Not ten digits.
    """
    if not _CIK.fullmatch(symbol):
        raise InvalidSymbolError(
            symbol,
            "filings are asked for by CIK, ten digits, as in 0000320193 for AAPL; "
            "https://www.sec.gov/files/company_tickers.json lists them (fill up with zeros on the left)",
        )
    return symbol


def ticker(symbol: str) -> str:
    """A symbol of an exchange, where a CIK could be meant.

    Raises:
        InvalidSymbolError: Ten digits.
    """
    if _CIK.fullmatch(symbol):
        raise InvalidSymbolError(symbol, "a CIK is known to sec_edgar only; ask for a ticker, as in AAPL")
    return symbol
