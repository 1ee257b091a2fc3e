"""The schedule: one TOML file the user edits. A bad one is refused with its line and the remedy.

[[fetch]]
dataset = "quote"
provider = "finnhub"
symbols = ["AAPL", "MSFT"]
every_seconds = 15
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.errors import InputError
from tasks.fetch import is_retired
from tasks.providers import PROVIDERS, clean_symbol, find_endpoint, find_provider

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = {
    "dataset": 'dataset = "quote"',
    "provider": 'provider = "finnhub"',
    "symbols": 'symbols = ["AAPL"]',
    "every_seconds": "every_seconds = 15",
}
KEYS = tuple(EXAMPLE)
_TABLE = re.compile(r"""\s*\[\[\s*["']?fetch["']?\s*\]\]""")
SHORTEST_SECONDS = 1
LONGEST_SECONDS = 366 * 86_400


class ScheduleError(InputError):
    """A schedule that cannot be used.

    Args:
        file: Its path.
        line: Where (from 1).
        problem: What is wrong, and the remedy.
    """

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(file, line, problem)
        self.file = file
        self.line = line
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Fetch:
    """One symbol fetched again and again."""

    dataset: str
    provider: str
    symbol: str
    every_seconds: float

    @property
    def name(self) -> str:
        """Its name in beat."""
        return f"{self.dataset}/{self.provider}/{self.symbol}"


def load(file: Path) -> list[Fetch]:
    """Read and check a schedule.

    Raises:
        ScheduleError: It names the line, the value and the remedy.
    """
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ScheduleError(
            str(file), 1, f"cannot be read ({error}); name another with SCHEDULE_FILE"
        ) from None
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # endless digits and brackets are no TOMLDecodeError
        line = re.search(r"at line (\d+)", str(error))
        at = int(line[1]) if line else text.count("\n") + 1
        raise ScheduleError(str(file), at, f"no TOML, see https://toml.io: {error}") from None
    return _Reader(file, text).read(document)


def _shown(value: object) -> str:
    """Short enough for one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - a line's room


class _Reader:
    """Checks a parsed schedule; keeps the text to tell lines."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = str(file)
        self.lines = text.splitlines()
        self.starts = [n for n, line in enumerate(self.lines) if _TABLE.match(line)]
        self.names: set[str] = set()

    def read(self, document: dict[str, Any]) -> list[Fetch]:
        for key in document:
            if key != "fetch":
                raise ScheduleError(
                    self.file, self._line_of_key(key), f"unknown {key!r}: write [[fetch]] tables"
                )
        blocks = document.get("fetch")
        if not blocks:
            raise ScheduleError(self.file, 1, "nothing to fetch: add a [[fetch]] table")
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise ScheduleError(
                self.file,
                self._line_of_key("fetch"),
                f"fetch={_shown(blocks)} is no list of tables: write [[fetch]], in double brackets",
            )
        return [fetch for index, block in enumerate(blocks) for fetch in self._block(index, block)]

    def _block(self, index: int, block: dict[str, Any]) -> list[Fetch]:
        for key in block:
            if key not in KEYS:
                raise self._error(index, key, f"unknown key {key!r}; known are {', '.join(KEYS)}")
        for key in KEYS:
            if key not in block:
                raise self._error(index, "", f"{key} is missing: add it, as in {EXAMPLE[key]}")
        every = self._every(index, block["every_seconds"])
        provider, dataset = self._served(index, block["provider"], block["dataset"])
        symbols = block["symbols"]
        if not isinstance(symbols, list) or not symbols:
            raise self._error(
                index, "symbols", f"symbols={_shown(symbols)}: give a list, as in {EXAMPLE['symbols']}"
            )
        return [self._fetch(index, dataset, provider, symbol, every) for symbol in symbols]

    def _fetch(self, index: int, dataset: str, provider: str, symbol: Any, every: float) -> Fetch:
        try:
            fetch = Fetch(dataset, provider, clean_symbol(symbol), every)
            find_endpoint(find_provider(provider), dataset).spelling(fetch.symbol)
        except InputError as error:
            raise self._error(index, "symbols", str(error)) from None
        if fetch.name in self.names:
            raise self._error(index, "symbols", f"{fetch.name} is there twice: remove one")
        self.names.add(fetch.name)
        return fetch

    def _every(self, index: int, value: Any) -> float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not SHORTEST_SECONDS <= value <= LONGEST_SECONDS:
            raise self._error(
                index,
                "every_seconds",
                f"every_seconds={_shown(value)}: give seconds, from {SHORTEST_SECONDS} to {LONGEST_SECONDS}",
            )
        return float(value)

    def _served(self, index: int, provider: Any, dataset: Any) -> tuple[str, str]:
        try:
            row = find_provider(provider if isinstance(provider, str) else repr(provider))
        except InputError as error:
            raise self._error(index, "provider", str(error)) from None
        try:
            find_endpoint(row, dataset if isinstance(dataset, str) else repr(dataset))
        except InputError as error:
            raise self._error(index, "dataset", str(error)) from None
        if is_retired(row.service):
            living = ", ".join(
                name
                for name, other in PROVIDERS.items()
                if dataset in other.endpoints and not is_retired(name)
            )
            raise self._error(
                index, "provider", f"{row.service} was retired on {row.retired}: use another ({living})"
            )
        return row.service, dataset

    def _error(self, index: int, key: str, problem: str) -> ScheduleError:
        start = self.starts[index] if index < len(self.starts) else 0
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.lines)
        for n in range(start, end):
            if key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", self.lines[n]):
                return ScheduleError(self.file, n + 1, problem)
        return ScheduleError(self.file, start + 1, problem)

    def _line_of_key(self, key: str) -> int:
        pattern = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}\b")
        return next((n + 1 for n, line in enumerate(self.lines) if pattern.match(line)), 1)
