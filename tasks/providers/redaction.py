"""Keys stay out of every text that leaves this package."""

import logging
import re
from collections.abc import Collection
from urllib.parse import quote, quote_plus

MASK = "[redacted]"

_SPEAKS_OF_KEYS = re.compile(r"key|token|secret|password|credential|authori[sz]ation", re.IGNORECASE)
_WORD = (
    r"[^\s\"'<>(){}\[\],;]"  # what ends a key, or the URL it is in; a key may hold any of + / = . and more
)
_LIKE_A_KEY = re.compile(rf"(?={_WORD}*[0-9]){_WORD}{{8,}}|{_WORD}{{16,}}")
_MARKUP = re.compile(r"<[^<>]*>")


def redact(text: str, keys: Collection[str]) -> str:
    """The text with every key masked, as it is and as a URL spells it."""
    for key in keys:
        for spelling in {key, quote(key, safe=""), quote_plus(key)}:
            if spelling:
                text = text.replace(spelling, MASK)
    return text


def printable(text: str, limit: int = 200) -> str:
    """One line of at most `limit` characters, without control characters and surrogates."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def excerpt(text: str, limit: int = 160) -> str:
    """What of a provider's text may be shown: nothing where it speaks of keys, and no key-like word.

    Providers echo the key, or the URL it was in, and a judge of replies does not know the key.
    """
    if _SPEAKS_OF_KEYS.search(text):
        return ""
    # One character more than is looked at, so that the word at the end, which may be half a key, is left out.
    head = text if len(text) <= 8 * limit else text[: 8 * limit + 1].rpartition(" ")[0]
    return printable(_LIKE_A_KEY.sub(MASK, _MARKUP.sub(" ", head)), limit)


class KeyFilter(logging.Filter):
    """Masks the known keys in the records of a logger whose code is not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: frozenset[str] = frozenset()  # replaced, never changed: other threads log meanwhile

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask, and let the record pass."""
        record.msg, record.args = redact(record.getMessage(), self.keys), ()
        return True
