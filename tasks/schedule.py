"""The schedule: one TOML file the user edits. A bad one is refused with its lines and the remedies.

[[fetch]]
dataset = "quote"
provider = "finnhub"            # or a list, or "auto": each symbol is dealt to one, others stand in
symbols = ["AAPL", "MSFT"]      # or symbols_file = "symbols.txt", one a line, beside this file
every_seconds = 15              # or crontab = "*/5 9-16 * * mon-fri", with timezone = "America/New_York"
market_hours = "XNYS"           # only while this exchange is open; may be left out
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

from resilience import get_circuit_breaker
from resilience.configure import parse, read_text
from tasks.errors import InputError
from tasks.fetch import is_retired, is_set_up
from tasks.providers import (
    ORDER,
    PROVIDERS,
    clean_symbol,
    find_endpoint,
    find_provider,
    providers_of,
)
from tasks.records import DATASETS
from tasks.settings import credential_of, require_contact
from tasks.timing import NEVER, Crontab, Every, Timing, market

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from tasks.providers import Endpoint, Provider
    from tasks.records import Record

EXAMPLE = {
    "dataset": 'dataset = "quote"',
    "provider": 'provider = "finnhub"',
    "symbols": 'symbols = ["AAPL"]',
    "every_seconds": "every_seconds = 15",
}
KEYS = (*EXAMPLE, "symbols_file", "crontab", "timezone", "market_hours")
AUTO = "auto"
# A provider without a documented quota is dealt symbols as if it had this one.
ASSUMED_CALLS_A_SECOND = 1.0
# Of a file with more that is wrong, the rest is counted.
MOST_PROBLEMS = 50
_TABLE = re.compile(r"""\s*\[\[\s*["']?fetch["']?\s*\]\]""")
SHORTEST_SECONDS = 1
EXAMPLE_SECONDS = 60.0
LONGEST_SECONDS = 366 * 86_400
_GOLDEN = (math.sqrt(5) - 1) / 2


class Problem(NamedTuple):
    """What is wrong at a line (from 1) of a file, and the remedy."""

    file: str
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}"


class ScheduleError(InputError):
    """A schedule that cannot be used.

    Args:
        problems: Everything that is wrong, in the file's order; at least one.
    """

    def __init__(self, problems: Sequence[Sequence[Any]]) -> None:
        self.problems = [Problem(*problem) for problem in problems]
        super().__init__([list(problem) for problem in self.problems])

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:MOST_PROBLEMS]]
        more = len(self.problems) - len(lines)
        return "\n".join([*lines, f"and {more} more"] if more else lines)


@dataclass(frozen=True, slots=True)
class Fetch:
    """One symbol fetched again and again.

    Attributes:
        dataset: What.
        provider: Who is asked first.
        symbol: Of what.
        timing: When.
        choice: The provider as the file has it: its name, several with a plus, or auto.
        fallbacks: Who is asked, in order, while the provider's circuit is shut, or where it has no value.
        place: Its place among those due together, from 0 to less than 1.
        table: The number of its [[fetch]] table, from 0.
    """

    dataset: str
    provider: str
    symbol: str
    timing: Timing
    choice: str = ""
    fallbacks: tuple[str, ...] = ()
    place: float = 0
    table: int = 0

    @property
    def name(self) -> str:
        """Its name in beat; who it is dealt to is no part of it."""
        return f"{self.dataset}/{self.choice or self.provider}/{self.symbol}"

    def next_after(self, when: float) -> float:
        """The first due time later than ``when``, as Unix times."""
        return self.timing.next_after(when, self.place)

    def caught_up(self, due: float, then: float, now: float) -> float:
        """When to send what was not sent when it was due: then, unless it is due again before.

        What was due more than once, or at an exchange that has closed by then, waits for its next time.
        """
        again, hours = self.next_after(now), self.timing.market
        session = hours.session_from(then) if hours else (0, math.inf)
        if self.next_after(due) < again or session is None or session[0] > then:
            return again
        return min(then, again)


def load(file: Path, usable: Callable[[str], bool] = is_set_up) -> list[Fetch]:
    """Read and check a schedule.

    Args:
        file: Where it is.
        usable: Tells of a service whether symbols may be dealt to it.

    Raises:
        ScheduleError: It names the lines, the values and the remedies.
    """
    try:
        text = read_text(file)
    except (OSError, ValueError) as error:  # a name may hold what no name can
        problem = f"cannot be read ({error}); name another with SCHEDULE_FILE"
        raise ScheduleError([(str(file), 1, problem)]) from None
    try:
        document = parse(text)
    except (ValueError, RecursionError) as error:  # endless digits and brackets are no TOMLDecodeError
        line = re.search(r"at line (\d+)", str(error))
        at = int(line[1]) if line else text.count("\n") + 1
        raise ScheduleError([(str(file), at, f"no TOML, see https://toml.io: {error}")]) from None
    return placed(_Reader(file, text, usable).read(document))


def examples(services: Iterable[str], beside: Sequence[Fetch] = ()) -> list[Fetch]:
    """What shows providers at work that no file asks: once a minute, each kind of record, of its example.

    So of bars those of days alone: bars of minutes are asked for and read in the same way.

    Args:
        services: The providers.
        beside: What the file asks for. Of that there is no example: it would hide that its provider is down.

    Raises:
        tasks.errors.UnknownServiceError: There is no provider of one of these names.
    """
    timing, asked = Every(EXAMPLE_SECONDS), {(fetch.dataset, fetch.symbol) for fetch in beside}
    return placed(
        [
            Fetch(dataset, service, endpoint.example, timing, choice=service)
            for service in services
            for dataset, endpoint in _one_of_each_kind(find_provider(service))
            if (dataset, endpoint.example) not in asked
        ]
    )


def _one_of_each_kind(row: Provider) -> Iterable[tuple[str, Endpoint]]:
    kinds: dict[type[Record], tuple[str, Endpoint]] = {}
    for dataset, endpoint in row.endpoints.items():
        kinds.setdefault(DATASETS[dataset], (dataset, endpoint))
    return kinds.values()


def placed(fetches: Sequence[Fetch]) -> list[Fetch]:
    """Give those of one interval, and those by crontabs, evenly spaced places.

    Those of one provider stand as far apart as they can, too: it has a quota of its own.
    """
    groups: dict[float, dict[object, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, fetch in enumerate(fetches):
        # Crontabs of any kind may be due at the same minute; intervals only meet by chance.
        kind = fetch.timing.spread_seconds if isinstance(fetch.timing, Every) else -1
        groups[kind][fetch.provider, fetch.timing].append(index)
    found = list(fetches)
    for number, members in enumerate(groups.values()):
        order = sorted(
            ((rank + 0.5) / len(indexes), index)
            for indexes in members.values()
            for rank, index in enumerate(indexes)
        )
        # Groups start at different times, or all their first ones would be due at the same.
        offset = number * _GOLDEN % 1
        for rank, (_, index) in enumerate(order):
            found[index] = replace(found[index], place=(rank + offset) / len(order))
    return found


def calls_a_second(service: str) -> float | None:
    """What its circuit lets through by its quota; None for no quota."""
    policy = get_circuit_breaker(service).policy
    if policy.quota_calls is None or policy.quota_seconds is None:
        return None
    return policy.quota_calls / policy.quota_seconds


def deal(symbol: str, services: Sequence[str], weights: Sequence[float]) -> tuple[str, ...]:
    """The services in the order in which a symbol is theirs: weighted rendezvous hashing.

    Each is first for a share of all symbols that is its weight's. Another symbol moves none; another service
    takes some from each, and moves none between them.
    """

    def score(service: str, weight: float) -> float:
        digest = blake2b(f"{service} {symbol}".encode(), digest_size=8).digest()
        return -math.log((int.from_bytes(digest) + 0.5) / 2**64) / weight

    return tuple(
        name
        for _, name in sorted(
            (score(name, weight), name) for name, weight in zip(services, weights, strict=True)
        )
    )


def _shown(value: object) -> str:
    """Short enough for one line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - a line's room


class _Reader:
    """Checks a parsed schedule; keeps the text to tell lines."""

    def __init__(self, file: Path, text: str, usable: Callable[[str], bool]) -> None:
        self.path, self.file = file, str(file)
        self.usable = usable
        self.lines = text.splitlines()
        self.starts = [n for n, line in enumerate(self.lines) if _TABLE.match(line)]
        self.names: set[str] = set()
        self.problems: list[Problem] = []

    def read(self, document: dict[str, Any]) -> list[Fetch]:
        for key in document:
            if key != "fetch":
                self._note(self._line_of_key(key), f"unknown {key!r}: write [[fetch]] tables")
        blocks = document.get("fetch")
        if not blocks:
            self._note(1, "nothing to fetch: add a [[fetch]] table")
        elif not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            self._note(
                self._line_of_key("fetch"),
                f"fetch={_shown(blocks)} is no list of tables: write [[fetch]], in double brackets",
            )
        else:
            found = [fetch for index, block in enumerate(blocks) for fetch in self._block(index, block)]
            if not self.problems:
                return found
        raise ScheduleError(self.problems)

    def _block(self, index: int, block: dict[str, Any]) -> list[Fetch]:
        known = len(self.problems)
        for key in block:
            if key not in KEYS:
                with self._at(index, key):
                    raise InputError(f"unknown key {key!r}; known are {', '.join(KEYS)}")
        for key, others in (
            ("dataset", ()),
            ("provider", ()),
            ("symbols", ("symbols_file",)),
            ("every_seconds", ("crontab",)),
        ):
            with self._at(index, others[0] if others and others[0] in block else ""):
                self._one_of(block, key, *others)
        if len(self.problems) > known:
            return []
        timing = services = None
        with self._at(index, "crontab" if "crontab" in block else "every_seconds"):
            timing = self._timing(index, block)
        dataset = block["dataset"] if isinstance(block["dataset"], str) else repr(block["dataset"])
        with self._at(index, "provider"):
            services = self._services(index, block["provider"], dataset)
        symbols = list(self._symbols(index, block))
        if services is None:
            return []
        choice = AUTO if block["provider"] == AUTO else "+".join(services)
        found = []
        for file, line, symbol in symbols:
            with self._noting(file, line):
                fetch = self._dealt(dataset, services, choice, symbol)
                if timing is not None:
                    found.append(replace(fetch, timing=timing, table=index))
        return found

    @staticmethod
    def _one_of(block: dict[str, Any], *keys: str) -> None:
        given = [key for key in keys if key in block]
        if not given:
            other = "".join(f", or {key}" for key in keys[1:])
            raise InputError(f"{keys[0]} is missing: add it, as in {EXAMPLE[keys[0]]}{other}")
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)}: give one of them")

    def _timing(self, index: int, block: dict[str, Any]) -> Timing | None:
        hours = zone = None
        with self._at(index, "market_hours"):
            if "market_hours" in block:
                hours = market(_text(block, "market_hours", "XNYS"))
        with self._at(index, "timezone"):
            zone = self._zone(block)
        found: Timing
        if "crontab" in block:
            if zone is None:
                return None
            found = Crontab(_text(block, "crontab", "*/5 9-16 * * mon-fri"), zone, hours)
        else:
            found = Every(_seconds(block["every_seconds"]), hours)
        if found.next_after(time.time()) == NEVER:
            raise InputError(f"{found}: is never due in the year to come; give another time")
        return found

    @staticmethod
    def _zone(block: dict[str, Any]) -> ZoneInfo:
        if "timezone" not in block:
            return ZoneInfo("UTC")
        if "crontab" not in block:
            raise InputError("timezone is a crontab's; remove it, or add a crontab")
        name = _text(block, "timezone", "America/New_York")
        try:
            return ZoneInfo(name)
        except (ValueError, OSError, LookupError):  # a folder's name, or one that leads out of theirs
            raise InputError(
                f"timezone={_shown(name)}: no such time zone; give one as in America/New_York"
            ) from None

    def _services(self, index: int, choice: Any, dataset: str) -> tuple[str, ...] | None:
        """The providers the file names; of auto, the dataset's that can stand in for each other."""
        if choice == AUTO:
            with self._at(index, "dataset"):
                return _interchangeable(dataset)
            return None
        names = choice if isinstance(choice, list) and choice else [choice]
        for name in names:
            row = find_provider(name if isinstance(name, str) else repr(name))
            with self._at(index, "dataset"):
                find_endpoint(row, dataset)
                continue
            return None
        for name in names:
            if is_retired(name):
                living = ", ".join(_living(dataset))
                raise InputError(f"{name} was retired on {PROVIDERS[name].retired}: use another ({living})")
            with self._at(index, "provider"):
                if not self.usable(name):
                    require_contact(name)
        if len(set(names)) < len(names):
            raise InputError(f"provider={_shown(choice)}: one is there twice: remove one")
        kinds = {name: PROVIDERS[name].endpoints[dataset].adjustment for name in names}
        if len(set(kinds.values())) > 1:
            told = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            raise InputError(
                f"{dataset} adjusted in different ways cannot be mixed ({told}): name those of one"
            )
        return tuple(names)

    def _symbols(self, index: int, block: dict[str, Any]) -> Iterator[tuple[str, int, Any]]:
        """Each symbol, with the place that names it."""
        if "symbols_file" in block:
            with self._at(index, "symbols_file"):
                yield from self._listed(_text(block, "symbols_file", "symbols.txt"))
            return
        symbols, line = block["symbols"], self._line(index, "symbols")
        if isinstance(symbols, list) and symbols:
            yield from ((self.file, line, symbol) for symbol in symbols)
        else:
            self._note(line, f"symbols={_shown(symbols)}: give a list, as in {EXAMPLE['symbols']}")

    def _listed(self, name: str) -> list[tuple[str, int, str]]:
        file = self.path.parent / name
        try:
            lines = read_text(file).splitlines()
        except (OSError, ValueError) as error:  # a name may hold what no name can
            raise InputError(
                f"symbols_file: {file} cannot be read ({error}); give a path from {self.path.parent}"
            ) from None
        found = [(str(file), n, line.partition("#")[0].strip()) for n, line in enumerate(lines, 1)]
        found = [entry for entry in found if entry[2]]
        if not found:
            raise InputError(f"symbols_file: {file} names no symbol: write one a line")
        return found

    def _dealt(self, dataset: str, services: tuple[str, ...], choice: str, symbol: Any) -> Fetch:
        symbol = clean_symbol(symbol)
        if len(services) == 1 and choice != AUTO:
            find_endpoint(find_provider(services[0]), dataset).spelling(symbol)
            order: tuple[str, ...] = services
        else:
            able = [name for name in providers_of(dataset, symbol) if name in services]
            ready = [name for name in able if self.usable(name)]
            if not able:
                raise InputError(
                    f"no {dataset} of {symbol!r} at {', '.join(services)}: name another provider"
                )
            if not ready:
                raise InputError(f"no provider of {symbol!r} is set up: {_settings_of(able)}")
            order = deal(symbol, ready, [calls_a_second(name) or ASSUMED_CALLS_A_SECOND for name in ready])
        fetch = Fetch(dataset, order[0], symbol, Every(LONGEST_SECONDS), choice, order[1:])
        if fetch.name in self.names:
            raise InputError(f"{fetch.name} is there twice: remove one")
        self.names.add(fetch.name)
        return fetch

    def _at(self, index: int, key: str) -> contextlib.AbstractContextManager[None]:
        """Note what is wrong with a key of a table, at its line."""
        return self._noting(self.file, self._line(index, key))

    @contextlib.contextmanager
    def _noting(self, file: str, line: int) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            self.problems.append(Problem(file, line, str(error)))

    def _note(self, line: int, problem: str) -> None:
        self.problems.append(Problem(self.file, line, problem))

    def _line(self, index: int, key: str) -> int:
        """Where a table has a key; where it begins, if that is not found."""
        start = self.starts[index] if index < len(self.starts) else 0
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.lines)
        for n in range(start, end):
            if key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", self.lines[n]):
                return n + 1
        return start + 1

    def _line_of_key(self, key: str) -> int:
        pattern = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}\b")
        return next((n + 1 for n, line in enumerate(self.lines) if pattern.match(line)), 1)


def _text(block: dict[str, Any], key: str, example: str) -> str:
    if not isinstance(block[key], str):
        raise InputError(f'{key}={_shown(block[key])}: give text, as in {key} = "{example}"')
    return str(block[key])


def _seconds(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not SHORTEST_SECONDS <= value <= LONGEST_SECONDS:
        raise InputError(
            f"every_seconds={_shown(value)}: give seconds, from {SHORTEST_SECONDS} to {LONGEST_SECONDS}"
        )
    return float(value)


def _living(dataset: str) -> list[str]:
    return [name for name, row in PROVIDERS.items() if dataset in row.endpoints and not is_retired(name)]


def _interchangeable(dataset: str) -> tuple[str, ...]:
    """A dataset's living providers whose answers are alike: of bars, those adjusted as the first's are."""
    providers_of(dataset)  # or there is no such dataset
    living = [name for name in ORDER.get(dataset, ()) if not is_retired(name)]
    kinds = {name: PROVIDERS[name].endpoints[dataset].adjustment for name in living}
    return tuple(name for name in living if kinds[name] == kinds[living[0]])


def _settings_of(services: Sequence[str]) -> str:
    """The variables that would set one of them up."""
    return f"set {' or '.join(filter(None, map(credential_of, services)))}"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a schedule asks of a provider.

    Attributes:
        provider: Who.
        symbols: How many fetches it is asked first for.
        calls_a_minute: In the busiest minute.
        calls_a_day: In the busiest 24 hours soon after now.
        quota_calls: What its quota allows, None for no quota,
        quota_seconds: in so many seconds.
        calls_a_quota: What the schedule asks for in so many seconds.
        warning: Where that is more: the numbers, and the remedy.
    """

    provider: str
    symbols: int
    calls_a_minute: float
    calls_a_day: float
    quota_calls: int | None
    quota_seconds: float | None
    calls_a_quota: float | None
    warning: str | None


def demand(fetches: Sequence[Fetch]) -> list[Demand]:
    """What a schedule asks of each provider, by the calls of its fetches while every circuit is closed."""
    counts: dict[str, dict[Timing, int]] = defaultdict(lambda: defaultdict(int))
    for fetch in fetches:
        counts[fetch.provider][fetch.timing] += 1
    now = time.time()
    return [_demand(provider, timings, now) for provider, timings in counts.items()]


def _demand(provider: str, timings: dict[Timing, int], now: float) -> Demand:
    def asked(seconds: float) -> float:
        return sum(count * timing.most_in(seconds, now) for timing, count in timings.items())

    policy = get_circuit_breaker(provider).policy
    calls, seconds = policy.quota_calls, policy.quota_seconds
    in_quota = warning = None
    if calls is not None and seconds is not None:
        in_quota = asked(seconds)
        if in_quota > calls * (1 + 1e-9):
            warning = (
                f"{provider} is asked for {in_quota:.6g} calls in {seconds:g} s, its quota allows {calls}: "
                "the rest goes to others where it may, or expires; fetch less often or less, deal symbols "
                f"to more providers, or set your plan's quota_calls and quota_seconds for [{provider}] in "
                "circuits.toml"
            )
    symbols = sum(timings.values())
    return Demand(provider, symbols, asked(60), asked(86_400), calls, seconds, in_quota, warning)
