r"""Text that others wrote, an operator, a task's sender or a provider, on its way to a terminal or a log.

Unchanged where it is plain. A character that would act on a terminal, end a line or turn the writing round is
spelled out, as in ``\x1b``.
"""

from __future__ import annotations

import unicodedata

from rich.text import Text

# Control, format (as what turns writing round) and surrogate characters, and what Unicode ends a line with.
_ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
INDENT = "\n  "


def one_line(text: object) -> str:
    """Anything as one line."""
    said = str(text)
    if said.isprintable():  # nearly always
        return said
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _ACTING else char
        for char in said
    )


def cell(value: object) -> Text:
    """Anything as a table's cell, None as none; in a string, rich takes brackets for markup."""
    return value if isinstance(value, Text) else Text(one_line("" if value is None else value))


def lines(text: str) -> str:
    """Text of several lines; all but the first are indented, so that none looks like the first of another."""
    return INDENT.join(one_line(line) for line in text.split("\n"))
