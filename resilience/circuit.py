"""The values a circuit is made of. No I/O, no clock.

The state machine itself runs twice, as Lua (``lua/*.lua``) and as Python
(``stores/memory.py``); both speak in these values, and one suite tests both.

              failures in a row, too many or too slow, or a hold
            ┌────────┐ ───────────────────────────────────────► ┌──────┐
            │ closed │                                          │ open │ ◄─┐
            └────────┘ ◄──────────┐                             └──────┘   │
                                  │ successes_needed                │      │ one failure,
                                  │ successes                       │      │ or a hold
                             ┌───────────┐    retry_at has come     │      │
                             │ half_open │ ◄────────────────────────┘      │
                             └───────────┘ ────────────────────────────────┘

``forced_open`` and ``disabled`` are an operator's, lie over the machine for a limited time, and
leave it untouched underneath. A circuit that is open for ``auth`` lets nobody try it with a key that was
refused, one that is open for ``retired`` lets nobody try it at all: an operator's ``reset`` ends both. A
refusal that does not say that it is the key, ``turned_away``, is a hold; only where the same key meets it
again when that is over does it become ``auth``.
"""

from __future__ import annotations

import itertools
import os
import socket
import uuid
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from resilience.policy import DEFAULT, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping


class CircuitState(StrEnum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"

    @property
    def shut(self) -> bool:
        """Whether a call is not simply let through."""
        return self not in (CircuitState.CLOSED, CircuitState.DISABLED)


class Verdict(StrEnum):
    """What a finished call says about its provider.

    ``IGNORED`` says nothing; ``HOLD`` says "not before a time", and is no failure.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"
    HOLD = "hold"


class Reason(StrEnum):
    """Why a circuit is open, or refuses a call.

    ``QUOTA``, ``CONCURRENCY`` and ``RECOVERING`` are also the limits a closed circuit keeps.
    """

    FAILURES = "failures"
    SLOW_CALLS = "slow_calls"
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota"
    AUTH = "auth"
    TURNED_AWAY = "turned_away"
    ENTITLEMENT = "entitlement"
    RETIRED = "retired"
    FORCED = "forced"
    CONCURRENCY = "concurrency"
    RECOVERING = "recovering"


def reason_of(text: str) -> Reason | None:
    """The reason of that name, None for ''; of one that only a later release knows, that it is trouble."""
    try:
        return Reason(text) if text else None
    except ValueError:
        return Reason.FAILURES


#: What waiting alone does not mend: nobody probes it.
UNPROBED = frozenset({Reason.AUTH, Reason.RETIRED})
#: When a refusal for one of these says to come back.
REEXAMINE_SECONDS = 300.0


#: The generation of a report whose process is gone: nobody knows the permit.
LOST = -1
#: The generation of a permit given under an operator's word, or against the circuit's own in a policy that
#: only observes: its report changes nothing.
UNDER_ORDERS = -2
#: The generation of a report whose call was stopped on purpose, by its time limit or an operator: as LOST,
#: but no process is counted as lost with the task.
STOPPED = -3


@dataclass(frozen=True, slots=True)
class Order:
    """An operator's word as it lies over a circuit.

    Attributes:
        act: open, closed (failures do not open it) or disabled.
        until: When it ends, on the store's clock, in microseconds since the epoch.
        actor: Who gave it.
        note: Why.
    """

    act: str
    until: int
    note: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Permit:
    """The breaker's answer to "may I call?". True when granted.

    Attributes:
        granted: Whether the call may go ahead.
        service: The circuit's name.
        state: The circuit's state as it was decided on.
        generation: The circuit's era; a report from an earlier one changes no state.
        token: Names this permit; empty when refused.
        probe: Whether this is a half-open probe, held under a lease.
        until: Granted: when a probe's lease ends (None for others). Refused: None.
        at_micros: When it was decided, on the store's clock, in microseconds since the epoch.
        policy: What it was decided by, the fleet's overrides included.
        wait_seconds: How long the call has to wait for its turn: a released task may be a little early.
        viewed_at: When it was given without asking the store, because that had said a moment ago that all is
            well; on this process's monotonic clock. 0: the store was asked.
        retry_at: Refused: when to try again, always in the future. Granted: None.
        reason: Refused: why.
        attempts: Failed attempts the owner has spent so far.
        shared: False when a local breaker decided because the store is lost.
        untold: Empties when it is reported: a call has one end. The permit's copies share it.
        order: An operator's word that lies over the circuit, if one does.
        override: The fleet's override of the policy, '' for none.
    """

    granted: bool
    service: str
    state: CircuitState
    generation: int
    token: str = ""
    probe: bool = False
    until: datetime | None = None
    retry_at: datetime | None = None
    reason: Reason | None = None
    attempts: int = 0
    shared: bool = True
    at_micros: int = 0
    policy: Policy = DEFAULT
    viewed_at: float = 0
    wait_seconds: float = 0
    untold: list[None] = field(default_factory=lambda: [None], compare=False, repr=False)
    order: Order | None = None
    override: str = ""

    def __bool__(self) -> bool:
        return self.granted

    @property
    def viewed(self) -> bool:
        """Whether it was given without asking the store."""
        return self.viewed_at > 0

    @property
    def call_seconds(self) -> float:
        """The longest this call may take."""
        return self.policy.seconds(probe=self.probe)

    @property
    def retry_in(self) -> float:
        """Refused: seconds from the decision to ``retry_at``, whatever this machine's clock says."""
        return (self.retry_at - time_of(self.at_micros)).total_seconds() if self.retry_at else 0


#: The attempt budget of a task that has asked for another attempt itself: it spends none and comes back.
ASKED = -1


@dataclass(frozen=True, slots=True)
class Finding:
    """What a finished call found out.

    Attributes:
        verdict: About its provider.
        hold_seconds: With a hold: how long the provider wants to be left alone.
        reason: With a hold: why.
        owner: The id of the task that made the call, empty if none did.
        max_attempts: That task's attempt budget, or ASKED.
        key: The fingerprint of the key the call was made with, empty if there is none.
        host: Whose finding it is.
        detail: With a failure or hold: what was wrong, in a line for people, free of secrets; else empty.
        subject: What the owner's call was about, the same for all that ask the same; empty: for itself alone.
            Failures of one subject are evidence about that, and count once, at the first attempt of a task:
            so many subjects as there may be failures open the circuit.
        guessed: Nobody knows whether it is the subject or the service that failed: it is the service, too, if
            so many tasks that the circuit opens by their number have met it.
    """

    verdict: Verdict
    hold_seconds: float = 0
    reason: Reason | None = None
    owner: str = ""
    max_attempts: int = 0
    key: str = ""
    host: str = field(default_factory=socket.gethostname)
    detail: str = ""
    subject: str = ""
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a report did.

    Attributes:
        applied: False when it came too late to change the state (it was counted all the same).
        state: The circuit's state afterwards.
        attempts: Attempts the reporting task has spent so far, this one included.
        losses: Processes lost with that task so far.
        retry_at: When the circuit is tried again, if it is not closed.
        reason: Why it is open, if it is.
        generation: The circuit's era afterwards.
        at_micros: When it was taken down, on the store's clock, in microseconds since the epoch.
        own: It was a failure that is known to be its subject's; or, where that is a guess, since the last
            success nothing has failed but what has the same subject.
    """

    applied: bool
    state: CircuitState
    attempts: int = 0
    losses: int = 0
    retry_at: datetime | None = None
    reason: Reason | None = None
    generation: int = 0
    at_micros: int = 0
    own: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a circuit went by when it moved.

    Attributes:
        failures: Consecutive failures.
        calls: Calls in the window of a policy with rates, else 0; ``failed`` and ``slow`` of them.
        failed: See ``calls``.
        slow: See ``calls``.
    """

    failures: int = 0
    calls: int = 0
    failed: int = 0
    slow: int = 0


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of one circuit's state. Each is on record once for the whole fleet.

    Attributes:
        service: The circuit's name.
        before: Its state before.
        after: Its state after.
        reason: Why it is open, or was; None for none.
        evidence: What it went by.
        at: When, on the store's clock.
        retry_at: When it will be tried again; None where that means nothing.
        actor: Who did it; None: the circuit itself.
        note: In words.
        id: Names it among its service's; empty where the store gives it none.
        number: Its place among all of its service's since the store began; 0: nobody knows.
        lost: So many before it were never handed out: they were more than a store keeps.
    """

    service: str
    before: CircuitState
    after: CircuitState
    reason: Reason | None
    evidence: Evidence
    at: datetime
    retry_at: datetime | None = None
    actor: str | None = None
    note: str | None = None
    id: str = ""
    number: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """What had come of a circuit's calls at a moment: counts since the store began."""

    at: datetime
    blocked: int = 0
    succeeded: int = 0
    failed: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of a circuit's calls in a stretch of time: refused, successes, failures, holds."""

    since: datetime
    until: datetime
    blocked: int
    succeeded: int
    failed: int
    held: int


@dataclass(frozen=True, slots=True)
class History:
    """What a circuit has been through, as far as the store remembers.

    Attributes:
        now: When it was asked for, on the store's clock.
        state: Where the circuit stands now.
        transitions: Its latest changes of state, the latest first.
        complete: Whether there are no earlier ones.
        samples: The counts now, and once a minute before for an hour, the latest first; none of a minute
            in which nobody looked at the circuit.
    """

    now: datetime
    state: CircuitState
    transitions: tuple[Transition, ...]
    complete: bool
    samples: tuple[Sample, ...]

    def outcomes(self) -> list[Outcomes]:
        """What came of the calls from one sample to the next, the earliest first."""
        found = []
        for before, after in itertools.pairwise(reversed(self.samples)):
            rows = zip(_counts(before), _counts(after), strict=True)
            found.append(Outcomes(before.at, after.at, *(max(new - old, 0) for old, new in rows)))
        return found


def _counts(sample: Sample) -> tuple[int, ...]:
    return sample.blocked, sample.succeeded, sample.failed, sample.held


@dataclass(frozen=True, slots=True)
class Known:
    """What a process knows of a circuit that was shut a moment ago.

    Attributes:
        generation: The circuit's era.
        retry_at: When it will be tried again, on the store's clock.
        reason: Why it is shut.
        key: With ``auth``: the fingerprint of the refused key.
    """

    generation: int
    retry_at: datetime
    reason: Reason
    key: str = ""


@dataclass(frozen=True, slots=True)
class Circuit:
    """One circuit as it stands, counters included. Times are UTC; counts are since the store began.

    ``used_until`` is when a steady stream at the quota's pace would have used up what has been used (GCRA's
    theoretical arrival time). ``moved_total`` counts changes of what an observer sees, as ``closed:open``.
    ``took`` is how long calls took, as ``duration_fields`` names it. ``stirs_at`` is when the next in the lot
    comes due, expires, or is no longer in a releaser's hands. ``order`` is an operator's word that lies over
    it, ``acted`` whether any operator has done anything to it since the store began. ``override_until`` is
    when the first of the override's changes ends.
    """

    service: str
    state: CircuitState = CircuitState.CLOSED
    generation: int = 0
    failures: int = 0
    successes: int = 0
    reopened: int = 0
    in_flight: int = 0
    since: datetime | None = None
    recovering_since: datetime | None = None
    retry_at: datetime | None = None
    reason: Reason | None = None
    last_failure: datetime | None = None
    last_error: str | None = None
    forced_until: datetime | None = None
    actor: str | None = None
    note: str | None = None
    refused_keys: frozenset[str] = frozenset()
    override: str = ""
    override_until: datetime | None = None
    override_stages: tuple[tuple[int, str], ...] = ()
    override_actor: str | None = None
    override_note: str | None = None
    order: Order | None = None
    acted: bool = False
    allowed_total: int = 0
    blocked_total: int = 0
    would_block_total: int = 0
    failures_total: int = 0
    trips_total: int = 0
    moved_total: Mapping[str, int] = field(default_factory=dict)
    took: Mapping[str, int] = field(default_factory=dict)
    parked: int = 0
    parked_ready: int = 0
    parked_since: datetime | None = None
    away: int = 0
    stirs_at: datetime | None = None
    used_until: datetime | None = None
    parked_total: int = 0
    coalesced_total: int = 0
    released_total: int = 0
    unroutable_total: int = 0
    dropped_total: Mapping[str, int] = field(default_factory=dict)
    read_at: datetime | None = None
    shared: bool = True


#: Upper bounds of the histogram of call durations, in microseconds; as in ``lua/report.lua``.
DURATION_BOUNDS = (100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000)
#: What the fields of that histogram begin with in a circuit's hash.
TOOK = "took:"


def duration_fields(verdict: Verdict, took: int) -> dict[str, int]:
    """What grows by how much when a call with this verdict has taken so many microseconds.

    ``took:success:250000`` counts those over the bound before and up to this one, ``took:success:inf`` those
    over the last, ``took:success:sum`` is the time of all.
    """
    place = bisect_left(DURATION_BOUNDS, took)
    bound = DURATION_BOUNDS[place] if place < len(DURATION_BOUNDS) else "inf"
    return {f"{TOOK}{verdict.value}:{bound}": 1, f"{TOOK}{verdict.value}:sum": took}


def to_micros(when: datetime) -> int:
    """Microseconds since the epoch, exactly."""
    return (when - _EPOCH) // timedelta(microseconds=1)


def token_for(owner: str) -> str:
    """A new permit's name, and its owner behind the first colon: so the permit of a lost process is found.

    The owner comes last because it may be anything, colons and what reservations begin with included.
    """
    if _process.pid != os.getpid():  # a forked child's are not its parent's
        _process.name, _process.pid = uuid.uuid4().hex, os.getpid()
    return f"{_process.name}-{next(_numbers)}:{owner}"


class _process:  # noqa: N801 - one namespace, never an object
    pid = 0
    name = ""


_numbers = itertools.count()


def count_of(text: float | str | bytes) -> int:
    """A number as the store counts: of 64 bits.

    Raises:
        ValueError: It is no such number.
    """
    number = int(text)
    if abs(number) >= 2**63:
        raise ValueError(f"a number of {number.bit_length()} bits is none of the store's")
    return number


def time_of(micros: float | str | bytes) -> datetime:
    """The UTC time of so many microseconds since the epoch; beyond the calendar its first or last.

    Somebody may have put any number beside a task in the lot, and the others' circuit must still be read.
    """
    try:
        return _EPOCH + timedelta(microseconds=float(micros))
    except OverflowError:
        return _LAST if float(micros) > 0 else _FIRST


def from_micros(micros: float | str | bytes | None) -> datetime | None:
    """The UTC time of so many microseconds since the epoch; None for nothing or zero."""
    return time_of(micros) if micros and float(micros) else None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
