"""Reading a reply without trusting it: exact numbers, bounded sizes, errors naming the JSON path."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import date as Date  # noqa: N812 - `Node.date` would hide it
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo

from tasks.errors import InvalidSymbolError
from tasks.providers.redaction import printable
from tasks.providers.symbols import clean_symbol

Fields = Mapping[str, object]
"""A record's fields by name."""

NOTHING_MORE: Fields = MappingProxyType({})

ABSENT = object()
"""Stands for the document of a body that is none."""

NEW_YORK = ZoneInfo("America/New_York")
"""The clock of the US exchanges."""

_T = TypeVar("_T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_NUMERAL = re.compile(r"[+-]?([0-9]{1,28}(\.[0-9]{0,28})?|\.[0-9]{1,28})([eE][+-]?[0-9]{1,2})?")
_ISO_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NO_TEXT = frozenset(("", "none", "null"))
_NO_NUMBER = _NO_TEXT | {"na", "n/a", "n/d", "nan", "-", "--"}  # of a text these may be all there is to say
_MAX_DIGITS = 28  # decimal's default precision: what fits is exact under every operation used here
_MAX_PLACES = 64  # of 17 digits behind zeros: what is left where a program took a price from its like
_MAX_MAGNITUDE = Decimal(10) ** 15  # above any price, and above any day's volume
_MAX_AMOUNT = Decimal(10) ** 21  # above any economy, in any currency
_MAX_TEXT = 200
_MAX_PROSE = 2_000
_MAX_URL = 8_000  # what anybody who takes one is to bear (RFC 9110, 4.1)
_HOST = re.compile(r"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")
_NOT_ENCODED = "%:/?#[]@!$&'()*+,;="  # beside letters, digits and -._~ (RFC 3986, 2)
_ISO_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_PLACE = re.compile(r"\[[0-9]+\]")
_CIK = re.compile(r"[0-9]{1,10}")
_COMPACT_INSTANT = re.compile(r"[0-9]{8}T[0-9]{4}([0-9]{2})?")


class UnreadableError(ValueError):
    """The body is no document that may be trusted."""


class SchemaDriftError(ValueError):
    """The document, or a row of it, has not the documented shape; the message starts with the JSON path.

    Args:
        message: What is wrong.
        why: In a word, for a counter.
        shape: The message without any text of the provider's, where it has some.
    """

    def __init__(self, message: str, why: str = "malformed", shape: str = "") -> None:
        super().__init__(message)
        self.why = why
        self.shape = _PLACE.sub("[]", shape or message)


class NothingError(SchemaDriftError):
    """There is nothing where something is needed: null, a blank, a price of zero. Of a row, no drift."""

    def __init__(self, message: str, why: str = "blank") -> None:
        super().__init__(message, why)


class Rows(list[Fields]):
    """The usable rows of a list, and why the others were left out.

    Args:
        usable: Their fields.
        left_out: What was wrong with each of the others.
    """

    def __init__(self, usable: Iterable[Fields] = (), left_out: Iterable[SchemaDriftError] = ()) -> None:
        super().__init__(usable)
        self.left_out = list(left_out)


def each(
    nodes: Iterable["Node"], read: Callable[["Node"], Fields | None], common: Fields = NOTHING_MORE
) -> Rows:
    """Read every row; one that cannot be read is left out.

    Args:
        nodes: The rows.
        read: A row's fields; None where it is no row, but a provider's word to its caller.
        common: Fields that all rows have, told once beside them; a row's own come before these.
    """
    rows = Rows()
    for node in nodes:
        try:
            fields = read(node)
        except SchemaDriftError as error:
            rows.left_out.append(error)
        else:
            rows += [] if fields is None else [{**common, **fields}]
    return rows


def parse(body: bytes) -> object:
    """Parse a body, numbers exactly.

    Raises:
        UnreadableError: Not UTF-8, not JSON, a key twice, nested or long beyond reason.
    """
    try:
        return json.loads(
            body.decode("utf-8-sig"),
            parse_float=_decimal,
            parse_constant=_constant,
            object_pairs_hook=_without_duplicates,
        )
    except UnicodeDecodeError:
        raise UnreadableError("the body is not UTF-8") from None
    except RecursionError:
        raise UnreadableError("the body is nested too deeply") from None
    except ValueError as error:
        # JSONDecodeError's own text has a position and none of the body; int() refuses absurdly long numbers.
        raise UnreadableError(f"the body is not valid JSON ({error})") from None


def parse_csv(body: bytes) -> object:
    """Parse a CSV body: a list of objects, texts by the names in the header line.

    A line of another length is a list of its texts, which nobody takes for a row.

    Raises:
        UnreadableError: Not UTF-8, no header of two names or more, or a name twice.
    """
    try:
        lines = [line for line in csv.reader(body.decode("utf-8-sig").splitlines(), strict=True) if line]
    except UnicodeDecodeError:
        raise UnreadableError("the body is not UTF-8") from None
    except csv.Error as error:
        raise UnreadableError(f"the body is not valid CSV ({error})") from None
    names = lines[0] if lines else []
    if len(names) < 2 or len(set(names)) < len(names):  # noqa: PLR2004 - one column is a line of text
        raise UnreadableError("the body is no CSV with a header line")
    return [dict(zip(names, line, strict=True)) if len(line) == len(names) else line for line in lines[1:]]


def _decimal(numeral: str) -> Decimal:
    try:
        return Decimal(numeral)
    except InvalidOperation:  # an exponent of twenty digits
        raise UnreadableError("a number is out of range") from None


def _constant(name: str) -> None:
    """NaN and Infinity are no JSON, yet sent where there is no value: taken for null, they spoil one row."""


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise UnreadableError("an object has the same key twice")
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

    def maybe(self, read: Callable[["Node", str], _T], key: str, *nothing: str) -> _T | None:
        """Read `key` where there is something: not null, nor blank, nor a text that means `nothing`."""
        if isinstance(self.value, dict) and (self.value.get(key) is None or self.value[key] in nothing):
            return None
        try:
            return read(self, key)
        except NothingError:
            return None

    def rows(self) -> list["Node"]:
        """The elements of the array here; null is an array without any."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise SchemaDriftError(f"{self.path} is {_kind(self.value)}, not an array")
        return [Node(value, f"{self.path}[{place}]") for place, value in enumerate(self.value)]

    def each(self, read: Callable[["Node"], Fields | None], common: Fields = NOTHING_MORE) -> Rows:
        """Read every element of the array here; see `each`."""
        return each(self.rows(), read, common)

    def columns(self, *names: str) -> list["Node"]:
        """Arrays of one length, side by side in the object here, as an object for each place.

        One that is null has nothing in any place.
        """
        columns = [[element.value for element in self.child(name).rows()] for name in names]
        length = max(map(len, columns))
        columns = [
            [None] * length if self.child(name).value is None else column
            for name, column in zip(names, columns, strict=True)
        ]
        if len({len(column) for column in columns}) > 1:
            raise SchemaDriftError(f"{self.path} has columns of different lengths")
        return [
            Node(dict(zip(names, values, strict=True)), f"{self.path}[{place}]")
            for place, values in enumerate(zip(*columns, strict=True))
        ]

    def named(self, *names: str) -> "Node":
        """The array here as an object, its elements named by their places; those beyond are left out."""
        cells = [cell.value for cell in self.rows()]
        if len(cells) < len(names):
            raise SchemaDriftError(f"{self.path} has less than {len(names)} elements")
        return Node(dict(zip(names, cells, strict=False)), self.path)

    def items(self) -> list[tuple[str, "Node"]]:
        """The members of the object here, each with its key; null is an object without any.

        Their paths count them: a key that no documentation names is the provider's text, which may echo ours.
        """
        if self.value is None:
            return []
        if not isinstance(self.value, dict):
            raise SchemaDriftError(f"{self.path} is {_kind(self.value)}, not an object")
        return [
            (key, Node(value, f"{self.path}[{place}]"))
            for place, (key, value) in enumerate(self.value.items())
        ]

    def members(self, name: str) -> list["Node"]:
        """The objects that are members of the object here, each with its key under `name`."""
        return [
            Node({**member.value, name: key}, member.path) if isinstance(member.value, dict) else member
            for key, member in self.items()
        ]

    def text(self, key: str) -> str:
        """A string of 1 to 200 printable characters."""
        text = self._string(key)
        if len(text) > _MAX_TEXT or not text.isprintable():
            raise SchemaDriftError(f"{self.child(key).path} is too long or not printable")
        return text

    def texts(self, key: str) -> list[str]:
        """An array of strings for people, blank ones left out."""
        rows = [Node({key: row.value}, row.path) for row in self.child(key).rows()]
        return [text for row in rows if (text := row.maybe(Node.prose, key)) is not None]

    def names(self, key: str, name: str) -> list[str]:
        """An array of objects with a name each; nothing where it is not there, blank ones left out."""
        listed = self.maybe(Node.child, key)
        found = [row.maybe(Node.prose, name) for row in listed.rows()] if listed else []
        return [text for text in found if text is not None]

    def split(self, key: str, separator: str = ",") -> list[str]:
        """A string with a list in it; the parts, blank ones left out."""
        return [part for part in map(str.strip, self._string(key).split(separator)) if part]

    def prose(self, key: str) -> str:
        """Text for people, brought to one printable line of at most 2 000 characters."""
        line = printable(self._string(key), _MAX_PROSE)
        if not line:
            raise NothingError(f"{self.child(key).path} is blank")
        return line

    def url(self, key: str) -> str | None:
        """An http or https URL, an IRI percent-encoded; None for any other text: people wrote it."""
        return _uri(self._string(key).strip())

    def link(self, key: str) -> str:
        """The URL, http or https, that an article is read at."""
        path, why = self.child(key).path, "no_url"
        if self.maybe(Node._string, key) is None:
            raise NothingError(f"{path} is blank", why)
        found = self.url(key)
        if found is None:
            raise SchemaDriftError(f"{path} is no http or https URL", why)
        return found

    def _string(self, key: str) -> str:
        """A string that is not blank, nor a word of a program's for nothing."""
        node = self.child(key)
        if node.value is None:
            raise NothingError(f"{node.path} is null")
        if not isinstance(node.value, str):
            raise SchemaDriftError(f"{node.path} is {_kind(node.value)}, not a string")
        if node.value.strip().casefold() in _NO_TEXT:
            raise NothingError(f"{node.path} is blank")
        return node.value

    def symbol(self, key: str, prefix: str = "") -> str:
        """A symbol with our prefix for this provider's, upper case."""
        text = prefix + self.text(key)
        try:
            clean_symbol(text)
        except InvalidSymbolError:
            raise SchemaDriftError(f"{self.child(key).path} is no symbol") from None
        return text.upper()

    def cik(self, key: str) -> str:
        """A company's number at the SEC, in a string or as a number, filled up to ten digits."""
        text = str(self.count(key)) if isinstance(self.child(key).value, int) else self.text(key)
        if not _CIK.fullmatch(text):
            raise SchemaDriftError(f"{self.child(key).path} is no CIK")
        return text.zfill(10)

    def number(self, key: str) -> Decimal:
        """A JSON number."""
        return _bounded(self._number(key), self.child(key).path)

    def _number(self, key: str) -> Decimal:
        node = self.child(key)
        if _says_nothing(node.value):
            raise NothingError(f"{node.path} is no number")
        if isinstance(node.value, bool) or not isinstance(node.value, int | Decimal):
            raise SchemaDriftError(f"{node.path} is {_kind(node.value)}, not a number")
        return Decimal(node.value)

    def amount(self, key: str) -> Decimal:
        """A JSON number that may be an economy's."""
        return _bounded(self._number(key), self.child(key).path, _MAX_AMOUNT)

    def numeral(self, key: str) -> Decimal:
        """A number written in a string."""
        return _bounded(self._numeral(key, "decimal number"), self.child(key).path)

    def _numeral(self, key: str, kind: str, unit: str = "") -> Decimal:
        node = self.child(key)
        told = node.value.removesuffix(unit) if isinstance(node.value, str) else node.value
        if _says_nothing(told):
            raise NothingError(f"{node.path} is no number")
        text = self.text(key).removesuffix(unit)
        if not _NUMERAL.fullmatch(text):
            raise SchemaDriftError(f"{node.path} is no {kind}")
        return Decimal(text)

    def price(self, key: str) -> Decimal:
        """A JSON number above zero."""
        return self._price(Node.number, key)

    def price_numeral(self, key: str) -> Decimal:
        """A number above zero written in a string."""
        return self._price(Node.numeral, key)

    def _price(self, read: Callable[["Node", str], Decimal], key: str) -> Decimal:
        path, price = self.child(key).path, self.maybe(read, key)
        if not price:
            raise NothingError(f"{path} is no price", "no_trade")
        if price < 0:
            raise SchemaDriftError(f"{path} is not above zero")
        return price

    def count(self, key: str) -> int:
        """A whole JSON number, zero or more."""
        value = self.number(key)
        if value < 0 or value != value.to_integral_value():
            raise SchemaDriftError(f"{self.child(key).path} is no count")
        return int(value)

    def size(self, key: str) -> int:
        """The shares of a trade; where they are none but parts of one, too, there is no count of them."""
        value = self.number(key)
        if value > 0 and value != value.to_integral_value():
            raise NothingError(f"{self.child(key).path} is no whole number")
        return self.count(key)

    def ohlcv(
        self,
        keys: Iterable[str] = ("open", "high", "low", "close", "volume"),
        read: Callable[["Node", str], Decimal] | None = None,
    ) -> Fields:
        """The bar that the object here is: four prices above zero, and a volume where one is told.

        Args:
            keys: What they are called here, in the order of the default.
            read: `Node.numeral` where they are written in strings; JSON numbers otherwise.
        """
        opened, high, low, close, volume = keys
        read = read or Node.number
        return {
            "open": self._price(read, opened),
            "high": self._price(read, high),
            "low": self._price(read, low),
            "close": self._price(read, close),
            "volume": self.maybe(read, volume),
        }

    def split_of(self, new: str, old: str, read: Callable[["Node", str], Decimal] | None = None) -> Fields:
        """The split that the object here is: so many new shares for so many old ones.

        Args:
            new: What the new ones are called here.
            old: What the old ones are called here.
            read: As for a bar.
        """
        came, went = self._price(read or Node.number, new), self._price(read or Node.number, old)
        return {"ratio": came / went, "new": came, "old": went}

    def percent(self, key: str) -> Decimal:
        """A JSON number in percent, as a fraction."""
        return self.number(key).scaleb(-2)

    def percent_text(self, key: str) -> Decimal:
        """A string such as "-0.5852%", as a fraction."""
        return _bounded(self._numeral(key, "percentage", "%"), self.child(key).path).scaleb(-2)

    def seconds(self, key: str) -> datetime:
        """Unix time in seconds."""
        return self._instant(key, per_second=1)

    def milliseconds(self, key: str) -> datetime:
        """Unix time in milliseconds."""
        return self._instant(key, per_second=1_000)

    def nanoseconds(self, key: str) -> datetime:
        """Unix time in nanoseconds."""
        return self._instant(key, per_second=1_000_000_000)

    def date(self, key: str) -> Date:
        """A date, YYYY-MM-DD, of any year: series reach far back."""
        node, text = self.child(key), self.text(key)
        try:
            found = Date.fromisoformat(text) if _ISO_DAY.fullmatch(text) else None
        except ValueError:
            found = None
        if found is None:
            raise SchemaDriftError(f"{node.path} is no date (YYYY-MM-DD)")
        return found

    def day(self, key: str) -> datetime:
        """A date, as its midnight in UTC: too old rather than too fresh."""
        found = self.date(key)
        return _sane(datetime(found.year, found.month, found.day, tzinfo=UTC), self.child(key).path)

    def session(self, key: str) -> Date:
        """A trading day, as a date: when it begins is its exchange's to say; see `canonical`."""
        return self.day(key).date()

    def zone(self, key: str) -> ZoneInfo:
        """A clock, by its name in the time zone database, as in America/New_York."""
        node, name = self.child(key), self.text(key)
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # no such zone; no name of one; a folder of the database
            raise SchemaDriftError(f"{node.path} is no time zone") from None

    def instant(self, key: str, zone: ZoneInfo | None = None) -> datetime:
        """A date and a time (ISO 8601), to the microsecond; `zone` is the clock of one that names none."""
        node, found = self.child(key), _ISO_INSTANT.fullmatch(self.text(key))
        if found is None or (zone is None and found[4] is None):
            raise SchemaDriftError(f"{node.path} is no time (YYYY-MM-DDThh:mm:ss and its zone)")
        text = f"{found[1]}T{found[2]}{(found[3] or '.0')[:7]:0<7}{found[4] or ''}"
        return _read_time(datetime.fromisoformat, text, node.path, zone)

    def compact_instant(self, key: str) -> datetime:
        """A date and a time in UTC, YYYYMMDDThhmmss or without the seconds."""
        node, text = self.child(key), self.text(key)
        if not _COMPACT_INSTANT.fullmatch(text):
            raise SchemaDriftError(f"{node.path} is no time (YYYYMMDDThhmmss)")
        return _read_time(datetime.fromisoformat, text, node.path, ZoneInfo("UTC"))

    def mail_date(self, key: str) -> datetime:
        """A date and a time as in an e-mail's head (RFC 2822); without a zone, in UTC."""
        return _read_time(parsedate_to_datetime, self.text(key), self.child(key).path, ZoneInfo("UTC"))

    def _instant(self, key: str, per_second: int) -> datetime:
        path, number = self.child(key).path, self._number(key) / per_second
        if not number:
            raise NothingError(f"{path} is zero, no time")
        if number.copy_abs() >= _MAX_MAGNITUDE:
            raise SchemaDriftError(f"{path} is not a time between 1990 and 2100")
        try:
            return _sane(_EPOCH + timedelta(microseconds=int(number * 1_000_000)), path)
        except OverflowError:
            raise SchemaDriftError(f"{path} is not a time between 1990 and 2100") from None


def _uri(text: str) -> str | None:
    """The URI an IRI stands for (RFC 3987, 3.1), its host as DNS has it; None if it is no http(s) one."""
    try:
        parts = urlsplit(text)
        user, at_sign, host = parts.netloc.rpartition("@")
        if not host.isascii():
            name, colon, port = host.partition(":")
            host = name.encode("idna").decode() + colon + port
        if parts.scheme not in {"http", "https"} or not _HOST.fullmatch(host):
            return None
        found = quote(parts._replace(netloc=f"{user}{at_sign}{host}").geturl(), safe=_NOT_ENCODED)
    except ValueError:  # half of an IPv6 address, a label of 64 characters, half of a surrogate pair
        return None
    return found if len(found) <= _MAX_URL else None


def _bounded(value: Decimal, path: str, magnitude: Decimal = _MAX_MAGNITUDE) -> Decimal:
    exponent = value.as_tuple().exponent
    fits = isinstance(exponent, int) and exponent >= -_MAX_PLACES and value.copy_abs() < magnitude
    if not fits or len(value.as_tuple().digits) > _MAX_DIGITS:
        raise SchemaDriftError(f"{path} is an absurd number")
    return value


def _says_nothing(value: object) -> bool:
    """Whether it stands where a number would, had the provider one: null, or a word for it."""
    return value is None or (isinstance(value, str) and value.strip().casefold() in _NO_NUMBER)


def _read_time(read: Callable[[str], datetime], text: str, path: str, zone: ZoneInfo | None) -> datetime:
    try:
        found = read(text)
        found = found.replace(tzinfo=zone) if found.tzinfo is None else found
        return _sane(found, path).astimezone(UTC)
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, SchemaDriftError):
            raise
        raise SchemaDriftError(f"{path} is no time there is") from None


def _sane(instant: datetime, path: str) -> datetime:
    """A time in the wrong unit lands outside these bounds."""
    if not _EARLIEST <= instant < _LATEST:
        raise SchemaDriftError(f"{path} is not a time between 1990 and 2100")
    return instant


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
