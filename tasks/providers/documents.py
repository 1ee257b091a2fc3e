"""Reading a reply's JSON without trusting it: exact numbers, bounded sizes, errors naming the JSON path."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import NoReturn, TypeVar

from tasks.providers.symbols import SYMBOL

Fields = Mapping[str, object]
"""A record's fields by name."""

ABSENT = object()
"""Stands for the document of a body that is no JSON."""

_T = TypeVar("_T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_NUMERAL = re.compile(r"[+-]?[0-9]{1,28}(\.[0-9]{1,28})?")
_ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_MAX_DIGITS = 28  # decimal's default precision: what fits is exact under every operation used here
_MAX_MAGNITUDE = Decimal(10) ** 15  # above any price, and above any day's volume
_MAX_TEXT = 200


class NotJSONError(ValueError):
    """The body is no JSON document that may be trusted."""


class SchemaDriftError(ValueError):
    """The document has not the documented shape; the message starts with the JSON path."""


def parse(body: bytes) -> object:
    """Parse a body, numbers exactly.

    Raises:
        NotJSONError: Not UTF-8, not JSON, NaN or Infinity, a key twice, nested or long beyond reason.
    """
    try:
        return json.loads(
            body.decode("utf-8-sig"),
            parse_float=_decimal,
            parse_constant=_refuse_constant,
            object_pairs_hook=_without_duplicates,
        )
    except UnicodeDecodeError:
        raise NotJSONError("the body is not UTF-8") from None
    except RecursionError:
        raise NotJSONError("the body is nested too deeply") from None
    except ValueError as error:
        # JSONDecodeError's own text has a position and none of the body; int() refuses absurdly long numbers.
        raise NotJSONError(f"the body is not valid JSON ({error})") from None


def _decimal(numeral: str) -> Decimal:
    try:
        return Decimal(numeral)
    except InvalidOperation:  # an exponent of twenty digits
        raise NotJSONError("a number is out of range") from None


def _refuse_constant(name: str) -> NoReturn:
    raise NotJSONError(f"{name} is no JSON number")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise NotJSONError("an object has the same key twice")
    return members


def at(document: object, path: tuple[str | int, ...]) -> str | None:
    """The value at a path as text, None where there is none; a container's text is empty."""
    value = document
    for step in path:
        value = _step(value, step)
    if isinstance(value, int | Decimal):
        return str(value) if Decimal(value).copy_abs() < _MAX_MAGNITUDE else ""
    if isinstance(value, str):
        return value
    return None if value is None or value is ABSENT else ""


def _step(value: object, step: str | int) -> object:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


@dataclass(frozen=True, slots=True)
class Node:
    """One place in a document. Each reader takes a key of the object here and raises SchemaDriftError.

    Attributes:
        value: What is there.
        path: Where, as a JSON path.
    """

    value: object
    path: str = "$"

    def child(self, key: str) -> "Node":
        """The member `key`."""
        if not isinstance(self.value, dict):
            raise SchemaDriftError(f"{self.path} is {_kind(self.value)}, not an object")
        path = f"{self.path}.{key}" if key.isidentifier() else f"{self.path}[{key!r}]"
        if key not in self.value:
            raise SchemaDriftError(f"{path} is missing")
        return Node(self.value[key], path)

    def child_starting(self, prefix: str) -> "Node":
        """The first member whose key starts with `prefix`: Alpha Vantage appends notices to its keys."""
        keys = self.value if isinstance(self.value, dict) else ()
        found = self.child(next((key for key in keys if key.startswith(prefix)), prefix))
        return Node(found.value, f"{self.path}[{prefix!r}]")

    def maybe(self, read: Callable[["Node", str], _T], key: str) -> _T | None:
        """Read `key` where it is there and not null."""
        if isinstance(self.value, dict) and self.value.get(key) is None:
            return None
        return read(self, key)

    def text(self, key: str) -> str:
        """A string of 1 to 200 printable characters."""
        node = self.child(key)
        if not isinstance(node.value, str):
            raise SchemaDriftError(f"{node.path} is {_kind(node.value)}, not a string")
        if not node.value.strip() or len(node.value) > _MAX_TEXT or not node.value.isprintable():
            raise SchemaDriftError(f"{node.path} is empty, too long or not printable")
        return node.value

    def symbol(self, key: str) -> str:
        """A symbol, upper case."""
        text = self.text(key)
        if not SYMBOL.fullmatch(text):
            raise SchemaDriftError(f"{self.child(key).path} is no symbol")
        return text.upper()

    def number(self, key: str) -> Decimal:
        """A JSON number."""
        node = self.child(key)
        if isinstance(node.value, bool) or not isinstance(node.value, int | Decimal):
            raise SchemaDriftError(f"{node.path} is {_kind(node.value)}, not a number")
        return _bounded(Decimal(node.value), node.path)

    def numeral(self, key: str) -> Decimal:
        """A number written in a string."""
        node, text = self.child(key), self.text(key)
        if not _NUMERAL.fullmatch(text):
            raise SchemaDriftError(f"{node.path} is no decimal number")
        return _bounded(Decimal(text), node.path)

    def price(self, key: str) -> Decimal:
        """A JSON number above zero."""
        return _positive(self.number(key), self.child(key).path)

    def price_numeral(self, key: str) -> Decimal:
        """A number above zero written in a string."""
        return _positive(self.numeral(key), self.child(key).path)

    def count(self, key: str) -> int:
        """A whole JSON number, zero or more."""
        value = self.number(key)
        if value < 0 or value != value.to_integral_value():
            raise SchemaDriftError(f"{self.child(key).path} is no count")
        return int(value)

    def percent(self, key: str) -> Decimal:
        """A JSON number in percent, as a fraction."""
        return self.number(key).scaleb(-2)

    def percent_text(self, key: str) -> Decimal:
        """A string such as "-0.5852%", as a fraction."""
        node, text = self.child(key), self.text(key).removesuffix("%")
        if not _NUMERAL.fullmatch(text):
            raise SchemaDriftError(f"{node.path} is no percentage")
        return _bounded(Decimal(text), node.path).scaleb(-2)

    def seconds(self, key: str) -> datetime:
        """Unix time in seconds."""
        return self._instant(key, per_second=1)

    def milliseconds(self, key: str) -> datetime:
        """Unix time in milliseconds."""
        return self._instant(key, per_second=1_000)

    def day(self, key: str) -> datetime:
        """A date, as its midnight in UTC: too old rather than too fresh."""
        node, text = self.child(key), self.text(key)
        try:
            found = date.fromisoformat(text) if _ISO_DAY.fullmatch(text) else None
        except ValueError:
            found = None
        if found is None:
            raise SchemaDriftError(f"{node.path} is no date (YYYY-MM-DD)")
        return _sane(datetime(found.year, found.month, found.day, tzinfo=UTC), node.path)

    def _instant(self, key: str, per_second: int) -> datetime:
        microseconds = int(self.number(key) * 1_000_000 / per_second)
        path = self.child(key).path
        try:
            return _sane(_EPOCH + timedelta(microseconds=microseconds), path)
        except OverflowError:
            raise SchemaDriftError(f"{path} is not a time between 1990 and 2100") from None


def _bounded(value: Decimal, path: str) -> Decimal:
    exponent = value.as_tuple().exponent
    fits = isinstance(exponent, int) and exponent >= -_MAX_DIGITS and value.copy_abs() < _MAX_MAGNITUDE
    if not fits or len(value.as_tuple().digits) > _MAX_DIGITS:
        raise SchemaDriftError(f"{path} is an absurd number")
    return value


def _positive(value: Decimal, path: str) -> Decimal:
    if value <= 0:
        raise SchemaDriftError(f"{path} is not above zero")
    return value


def _sane(instant: datetime, path: str) -> datetime:
    """A time in the wrong unit lands outside these bounds."""
    if not _EARLIEST <= instant < _LATEST:
        raise SchemaDriftError(f"{path} is not a time between 1990 and 2100")
    return instant


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
