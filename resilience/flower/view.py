"""What the Circuits pages show, read from the store in a few round trips; never on Flower's event loop."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from resilience import CIRCUIT_BREAKERS, extension, publishing
from resilience.circuit import CircuitState, Reason, from_micros
from resilience.flower import drawing
from resilience.operations.words import UNPROBED
from resilience.parking import expires_of
from resilience.stores import default_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience.circuit import History, Transition
    from resilience.parking import Entry

WORDS = {
    "closed": "closed",
    "open": "open",
    "half_open": "half-open",
    "forced_open": "forced open",
    "disabled": "disabled",
    "": "not on record",
}
# Changes of state: enough for an hour's strip, and for a service's own page.
FEW, MANY = 20, 50


@dataclass(frozen=True)
class Service:
    """One circuit as a page shows it.

    Attributes:
        row: Its plain JSON.
        history: What it has been through.
        added: What the app's extensions have for their columns: words, and smaller words; None for none.
    """

    row: dict[str, Any]
    history: History
    added: Mapping[str, tuple[str, str] | None]

    @property
    def name(self) -> str:
        """The service's."""
        return str(self.row["service"])

    @property
    def now(self) -> datetime:
        """The store's clock."""
        return self.history.now

    @property
    def since(self) -> datetime | None:
        """When the circuit came to the state that is shown."""
        latest = self.history.transitions[:1]
        return latest[0].at if latest else moment(self.row["since"])

    @property
    def next_try(self) -> str:
        """In words; '' where nothing is to be tried."""
        state, reason = self.row["state"], self.row["reason"]
        if state == CircuitState.HALF_OPEN:
            return f"now, {counted(self.row['half_open_in_flight'], 'probe')} in flight"
        if state not in (CircuitState.OPEN, CircuitState.FORCED_OPEN):
            return ""
        if reason in UNPROBED:
            return UNPROBED[reason]
        return until(self.row["retry_at"], self.now)

    @property
    def quota_next(self) -> str:
        """With none of its quota left: when the next call may go."""
        return until(self.row["quota_next_at"], self.now)

    @cached_property
    def strip(self) -> list[drawing.Stretch]:
        """The states of the last hour."""
        return drawing.strip(self.history)

    @cached_property
    def bars(self) -> list[drawing.Bar]:
        """What came of the calls of the last hour."""
        return drawing.bars(self.history)

    @property
    def strip_in_words(self) -> str:
        """For who does not see the picture."""
        lasted: Counter[str] = Counter()
        for stretch in self.strip:
            lasted[WORDS[stretch.state]] += round((stretch.until - stretch.since).total_seconds())
        return "Last hour: " + ", ".join(f"{state} {span(seconds)}" for state, seconds in lasted.items())

    @property
    def bars_in_words(self) -> str:
        """The same for the calls."""
        found = [bar.outcomes for bar in self.bars]
        told = (
            (drawing.total(found, "succeeded"), "succeeded"),
            (drawing.total(found, "failed"), "failed"),
            (drawing.total(found, "held"), "answered with a pause"),
            (drawing.total(found, "blocked"), "refused"),
        )
        calls = [f"{number:,} {what}" for number, what in told if number]
        return "Calls in the last hour: " + (", ".join(calls) or "none on record")


@dataclass(frozen=True)
class Board:
    """All circuits.

    Attributes:
        services: In the order of the registry.
        columns: Titles of the columns that the app's extensions add.
        shared: Whether these are the fleet's, not this process's own because the store is lost.
        published: When the beat job last published, None for never.
    """

    services: list[Service]
    columns: list[str]
    shared: bool
    published: datetime | None

    def number(self, *states: CircuitState) -> int:
        """How many circuits are in one of these states."""
        return sum(service.row["state"] in states for service in self.services)

    @property
    def parked(self) -> int:
        """Tasks that wait, of all services."""
        return sum(service.row["parked"] for service in self.services)

    @property
    def shut(self) -> list[Service]:
        """Those that do not simply let calls through."""
        return [service for service in self.services if CircuitState(service.row["state"]).shut]

    @property
    def now(self) -> datetime:
        """The store's clock."""
        return self.services[0].now if self.services else datetime.now(UTC)


@dataclass(frozen=True)
class Detail:
    """One circuit, and what waits for it."""

    service: Service
    parked: list[Entry]

    @property
    def evidence(self) -> list[tuple[str, str]]:
        """What the circuit goes by, and what it has counted; a name and words for each that there is."""
        row, now = self.service.row, self.service.now
        last = moment(row["last_failure_time"])
        dropped = [f"{number:,} dropped ({reason})" for reason, number in row["dropped_total"].items()]
        facts = {
            "Failures": f"{row['failure_count']} in a row, {row['failure_threshold']} open it",
            "Last failure": f"{ago(last, now)}, {clock(last)}" if last else "",
            "Last error": row["last_error"] or "",
            "Opens for": span(row["timeout_seconds"]),
            "Probes": f"{row['half_open_in_flight']} in flight, {row['half_open_successes']} succeeded, "
            f"{row['half_open_max_calls']} at once at most"
            if row["state"] == CircuitState.HALF_OPEN
            else "",
            "Asked to pause": until(row["hold_until"], now) and f"ends {until(row['hold_until'], now)}",
            "Recovering": ago(moment(row["recovering_since"]), now) and "at a pace that doubles",
            "Quota": self._quota(),
            **{
                title: ", ".join(words) if words else "none yet"
                for title, words in self.service.added.items()
            },
            "Operator": _word(row["actor"], row["note"], row["forced_until"], now),
            "Policy changed": "; ".join(
                f"{name}={one['value']}, " + _word(one["actor"], one["note"], one["until"], now)
                for name, one in row["policy_changes_by_field"].items()
            ),
            "Only observes": "it lets through what it would refuse" if row["observe_only"] else "",
            "Keys refused": ", ".join(row["refused_keys"]),
            **{name.replace("_", " ").capitalize(): words for name, words in extension.in_words(row).items()},
            "Calls so far": f"{row['allowed_total']:,} let through, {row['blocked_total']:,} refused, "
            f"{row['failures_total']:,} failed; opened {counted(row['trips_total'], 'time')}",
            "Parked so far": ", ".join(
                [
                    f"{row['parked_total']:,} parked",
                    f"{row['released_total']:,} released",
                    f"{row['coalesced_total']:,} answered with another",
                    *dropped,
                ]
            )
            if row["parked_total"]
            else "",
        }
        return [(name, words) for name, words in facts.items() if words]

    def _quota(self) -> str:
        row, now = self.service.row, self.service.now
        if row["quota_left"] is None:
            return ""
        left = f"{row['quota_left']} may go at once; {row['quota_calls']} in {span(row['quota_seconds'])}"
        following = f"; next {until(row['quota_next_at'], now)}" if row["quota_next_at"] else ""
        return left + following


def board() -> Board:
    """All circuits as they stand."""
    services = _services(list(CIRCUIT_BREAKERS), FEW)
    shared = all(service.row["shared"] for service in services)
    published = publishing.published_at()
    columns = list(services[0].added) if services else []
    return Board(services, columns, shared, moment(published))


def detail(name: str, most: int) -> Detail:
    """One circuit as it stands, with so many of its parked tasks at most, the longest waiting first."""
    [service] = _services([name], MANY)
    store = default_store()
    lot = store.lot if store else None
    return Detail(service, lot.waiting(name, most) if lot and service.row["parked"] else [])


def _services(names: list[str], transitions: int) -> list[Service]:
    rows = {row["service"]: row for row in publishing.states() if row["service"] in names}
    extension.annotate(rows.values())
    store = default_store()
    columns = extension.columns()
    histories = store.history(names, transitions) if store else {}
    return [
        Service(
            rows[name],
            histories.get(name) or CIRCUIT_BREAKERS[name].store.history([name], transitions)[name],
            {title: words.get(name) for title, words in columns.items()},
        )
        for name in names
    ]


def _word(actor: str | None, note: str | None, ends: str | None, now: datetime) -> str:
    """An operator's, '' where there is none."""
    if not actor:
        return ""
    return f"by {actor}" + (f", ends {until(ends, now)}" if ends else "") + (f": {note}" if note else "")


def why(change: Transition) -> str:
    """What made a circuit change its state."""
    if change.actor or change.note:
        return "an operator's word" if change.actor else change.note or ""
    if change.after in _BY_ITSELF:
        return _BY_ITSELF[change.after]
    seen, reason = change.evidence, (change.reason or "").replace("_", " ")
    if change.reason is Reason.SLOW_CALLS:
        return f"{reason}: {seen.slow} of {seen.calls}"
    if change.reason is not Reason.FAILURES:
        return reason
    return f"{reason}: {seen.failures} in a row" + (f", {seen.failed} of {seen.calls}" if seen.calls else "")


_BY_ITSELF = {
    CircuitState.CLOSED: "its probes succeeded",
    CircuitState.HALF_OPEN: "time to try again",
}


def expires(entry: Entry, now: datetime) -> str:
    """When Celery would revoke a parked task; '' for never."""
    return until(from_micros(expires_of(entry.message.fields)), now)


def moment(text: str | None) -> datetime | None:
    """The time that ISO 8601 says, None for none."""
    return datetime.fromisoformat(text) if text else None


def ago(when: datetime | None, now: datetime) -> str:
    """How long since, in words; '' for never."""
    return f"{span((now - when).total_seconds())} ago" if when else ""


def until(when: str | datetime | None, now: datetime) -> str:
    """How long from now, in words; '' for nothing due."""
    when = moment(when) if isinstance(when, str) else when
    if when is None:
        return ""
    left = (when - now).total_seconds()
    return f"in {span(left)}" if left > 0 else "now"


def span(seconds: float) -> str:
    """So long, in the two units that matter."""
    seconds = max(round(seconds), 0)
    for size, unit, smaller, name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // smaller
            return f"{seconds // size} {unit}" + (f" {rest} {name}" if rest and seconds < 10 * size else "")
    return f"{seconds} s"


def counted(number: int, noun: str) -> str:
    """A number and what of."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def clock(when: datetime) -> str:
    """A time in full, to the second."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


#: What the longest pause an operator can choose is, and the others.
LIMITS = tuple(
    (int(length.total_seconds()), text)
    for length, text in (
        (timedelta(minutes=5), "5 minutes"),
        (timedelta(minutes=15), "15 minutes"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(hours=4), "4 hours"),
        (timedelta(days=1), "1 day"),
        (timedelta(days=7), "7 days"),
        (timedelta(days=30), "30 days"),
    )
)
