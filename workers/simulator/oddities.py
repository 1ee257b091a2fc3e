"""What real providers send now and then: a row with nothing in it, and symbols that are traded no more.

A row is an element of a list of objects (or of arrays of one length), a member of an object whose members
are all alike, a place in columns of one length, a line of CSV, or the whole of a reply that has none of
these. It is made odd in the ways that recordings show: prices that are null, zero or the text NaN, texts that
are blank, no object at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

_FEWEST_COLUMNS = 3
_FEWEST_CELLS = 2  # of an array that is a row
_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Oddities:
    """How much of what a provider sends is odd.

    Attributes:
        rows: Which part of all rows, 0 to 1.
        delisted: Which part of all symbols nobody knows any more, 0 to 1; always the same ones.
    """

    rows: float = 0.0
    delisted: float = 0.0

    def is_delisted(self, symbol: str) -> bool:
        """Whether a symbol is one of those."""
        return crc32(symbol.encode()) % _PARTS < self.delisted * _PARTS


class Spoiler:
    """Makes some rows of one reply odd.

    Args:
        part: Which part of all rows, 0 to 1.
        chance: Where the choice comes from.

    Attributes:
        rows: How many rows it has seen.
        odd: How many of them it has made odd.
    """

    def __init__(self, part: float, chance: random.Random) -> None:
        self.part, self.chance = part, chance
        self.rows = self.odd = 0

    def spoil(self, body: object) -> object:
        """The body, some of its rows made odd; it is not changed itself."""
        found = self._lines(body) if isinstance(body, str) else self._part(body)
        return found if self.rows else self._row(body)

    def _part(self, body: object) -> object:
        if isinstance(body, list):
            made = self._row if _are_rows(body) else self._part
            return [made(part) for part in body]
        if not isinstance(body, dict):
            return body
        columns = _columns(body)
        if columns:
            return self._columns(body, columns)
        made = self._row if _are_members(body) else self._part
        return {name: made(part) for name, part in body.items()}

    def _hits(self) -> bool:
        self.rows += 1
        hit = self.chance.random() < self.part
        self.odd += hit
        return hit

    def _row(self, row: object) -> object:
        if not self._hits():
            return row
        made = (way(row) for way in self.chance.sample(_WAYS, len(_WAYS)))
        return next(odd for odd in made if odd != row)  # numbers cannot be changed where there are none

    def _columns(self, body: dict[str, object], names: list[str]) -> dict[str, object]:
        """A place is odd in all columns but those of times: that is how days without a trade come."""
        found = {name: list(body[name]) for name in names}  # type: ignore[call-overload]
        for place in range(len(found[names[0]])):
            if self._hits():
                for name in names:
                    if name not in ("t", "timestamp"):
                        found[name][place] = _empty(found[name][place])
        return {**body, **found}

    def _lines(self, body: str) -> str:
        head, *lines = body.splitlines(keepends=True)
        if "," not in head:
            return body
        return head + "".join(
            "," * line.count(",") + "\n" if line.strip() and self._hits() else line for line in lines
        )


def _are_rows(elements: list[object]) -> bool:
    if elements and all(isinstance(element, dict) for element in elements):
        return not any(map(_has_columns, elements))
    lengths = {len(element) if isinstance(element, list) else 0 for element in elements}
    return len(lengths) == 1 and lengths.pop() >= _FEWEST_CELLS


def _has_columns(body: object) -> bool:
    if isinstance(body, list):
        return any(map(_has_columns, body))
    return isinstance(body, dict) and any(_are_numbers(part) or _has_columns(part) for part in body.values())


def _are_numbers(part: object) -> bool:
    return isinstance(part, list) and bool(part) and all(isinstance(cell, int | float) for cell in part)


def _are_members(body: dict[str, object]) -> bool:
    """Whether it is an object of rows: two or more that have the same members."""
    kinds = {frozenset(member) if isinstance(member, dict) else frozenset() for member in body.values()}
    return len(body) > 1 and len(kinds) == 1 and bool(kinds.pop())


def _columns(body: dict[str, object]) -> list[str]:
    """The names of the columns of one length, where there are some."""
    lists = {name: part for name, part in body.items() if isinstance(part, list)}
    plain = [name for name, part in lists.items() if not any(isinstance(cell, dict | list) for cell in part)]
    lengths = {len(lists[name]) for name in plain}
    return plain if len(plain) >= _FEWEST_COLUMNS and len(lengths) == 1 and lengths != {0} else []


def _empty(cell: object) -> object:
    return "" if isinstance(cell, str) else None


def _changed(number: Callable[[object], object], text: Callable[[str], object]) -> Callable[[object], object]:
    """A way to change the cells of a row: its numbers, and what is written as one; or its other texts."""

    def cell(value: object) -> object:
        if isinstance(value, str):
            return number(value) if _is_numeral(value) else text(value)
        return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else value

    def row(value: object) -> object:
        if isinstance(value, dict):
            return {name: row(part) if isinstance(part, dict) else cell(part) for name, part in value.items()}
        return [cell(part) for part in value] if isinstance(value, list) else value

    return row


def _is_numeral(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _same(value: object) -> object:
    return value


_WAYS: tuple[Callable[[object], object], ...] = (
    _changed(lambda _: None, _same),
    _changed(lambda value: "0" if isinstance(value, str) else 0, _same),
    _changed(lambda _: "NaN", _same),
    _changed(_same, lambda _: " "),
    lambda _: None,
    lambda _: "odd",
)
