"""What may stand for a symbol: checked before it gets near a URL, so it can break out of none."""

import re

from tasks.errors import InvalidSymbolError

SYMBOL = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9.\-^=:]{1,32}")
"""ASCII only; the look-ahead refuses "." and "..", which a path would take for a step."""


def clean_symbol(symbol: str) -> str:
    """The symbol in upper case.

    Raises:
        InvalidSymbolError: Not 1 to 32 letters, digits or . - ^ = : with a letter or digit among them.
    """
    if not isinstance(symbol, str) or not SYMBOL.fullmatch(symbol):
        raise InvalidSymbolError(symbol)
    return symbol.upper()
