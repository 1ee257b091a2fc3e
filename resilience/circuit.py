"""The values a circuit is made of. No I/O, no clock.

The state machine itself runs twice, as Lua (``lua/*.lua``) and as Python
(``stores/memory.py``); both speak in these values, and one suite tests both.

                     failure_threshold consecutive failures, or a hold
            ┌────────┐ ───────────────────────────────────────► ┌──────┐
            │ closed │                                          │ open │ ◄─┐
            └────────┘ ◄──────────┐                             └──────┘   │
                                  │ half_open_max_calls             │      │ one failure,
                                  │ successes                       │      │ or a hold
                             ┌───────────┐    retry_at has come     │      │
                             │ half_open │ ◄────────────────────────┘      │
                             └───────────┘ ────────────────────────────────┘

``forced_open`` and ``disabled`` are an operator's, lie over the machine for a limited time, and
leave it untouched underneath.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from resilience.errors import ConfigurationError

MICROSECONDS = 1_000_000


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
    """Why a circuit is open."""

    FAILURES = "failures"
    SLOW_CALLS = "slow_calls"
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota"
    AUTH = "auth"
    ENTITLEMENT = "entitlement"
    RETIRED = "retired"
    FORCED = "forced"


@dataclass(frozen=True, slots=True)
class Policy:
    """When a circuit opens, for how long, and how it is tried again.

    Attributes:
        failure_threshold: Consecutive failures that open it.
        timeout_seconds: How long it stays open before the first probe, exactly.
        timeout_cap_seconds: Doubles the open time at each failed recovery, up to this; None: it stays.
        jitter: Lengthens each open time by a random part of itself, up to this fraction, so that fleets
            do not come back in step.
        half_open_max_calls: Probes in flight at most while half-open.
        half_open_successes: Successes that close it; None: as many as ``half_open_max_calls``.
        call_seconds: The longest a call may take; a probe's permit is a lease of this and
            ``LEASE_GRACE_SECONDS``, so a killed prober frees it by itself.
    """

    failure_threshold: int = 5
    timeout_seconds: float = 60
    half_open_max_calls: int = 3
    call_seconds: float = 30
    timeout_cap_seconds: float | None = None
    jitter: float = 0
    half_open_successes: int | None = None

    def __post_init__(self) -> None:
        for name in ("failure_threshold", "half_open_max_calls"):
            self._check_count(name)
        for name in ("timeout_seconds", "call_seconds"):
            self._check_seconds(name)
        if self.half_open_successes is not None:
            self._check_count("half_open_successes")
        if self.timeout_cap_seconds is not None:
            self._check_seconds("timeout_cap_seconds")
            if self.timeout_cap_seconds < self.timeout_seconds:
                raise ConfigurationError(
                    f"timeout_cap_seconds={self.timeout_cap_seconds!r} is less than "
                    f"timeout_seconds={self.timeout_seconds!r}: give at least that, or None"
                )
        if not _is_number(self.jitter) or not 0 <= self.jitter <= 1:
            raise ConfigurationError(f"jitter={self.jitter!r}: give a fraction from 0 to 1")

    def _check_count(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name}={value!r}: give a whole number of at least 1")

    def _check_seconds(self, name: str) -> None:
        value = getattr(self, name)
        if not _is_number(value) or not 0 < value <= MAX_SECONDS:
            raise ConfigurationError(f"{name}={value!r}: give seconds, more than 0 and at most {MAX_SECONDS}")

    @property
    def lease_seconds(self) -> float:
        """How long a probe's permit lives without a report."""
        return self.call_seconds + LEASE_GRACE_SECONDS

    @property
    def successes_needed(self) -> int:
        """Successes that close a half-open circuit."""
        return self.half_open_successes or self.half_open_max_calls

    def open_micros(self, reopened: int, chance: float) -> int:
        """How long the circuit stays open now.

        Args:
            reopened: Failed recoveries in a row before this one.
            chance: A random number from 0 to 1, for the jitter.
        """
        seconds = self.timeout_seconds
        if self.timeout_cap_seconds is not None:
            # Beyond sixty doublings any cap is reached; the exponent stays a sane number.
            seconds = min(self.timeout_cap_seconds, seconds * 2 ** min(reopened, 60))
        return math.floor(seconds * (1 + self.jitter * chance) * MICROSECONDS)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@lru_cache(maxsize=1024)
def wire(policy: Policy) -> str:
    """A policy as the scripts read it: JSON, times in microseconds."""
    cap = policy.timeout_cap_seconds
    return json.dumps(
        {
            "failure_threshold": policy.failure_threshold,
            "timeout": micros_in(policy.timeout_seconds),
            "timeout_cap": 0 if cap is None else micros_in(cap),
            "jitter": policy.jitter,
            "half_open_max_calls": policy.half_open_max_calls,
            "successes_needed": policy.successes_needed,
            "lease": micros_in(policy.lease_seconds),
        },
        separators=(",", ":"),
    )


# A lease outlives its call's deadline by this, so that a slow report still finds its permit.
LEASE_GRACE_SECONDS = 2.0
#: The generation of a report whose process is gone: nobody knows the permit.
LOST = -1
# A year: beyond it a time limit is a mistake, and microseconds stay exact in a double.
MAX_SECONDS = 366 * 86_400.0


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
        retry_at: Refused: when to try again, always in the future. Granted: None.
        reason: Refused: why.
        attempts: Failed attempts the owner has spent so far.
        shared: False when a local breaker decided because the store is lost.
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

    def __bool__(self) -> bool:
        return self.granted


@dataclass(frozen=True, slots=True)
class Finding:
    """What a finished call found out.

    Attributes:
        verdict: About its provider.
        hold_seconds: With a hold: how long the provider wants to be left alone.
        reason: With a hold: why.
        owner: The id of the task that made the call, empty if none did.
        max_attempts: That task's attempt budget.
    """

    verdict: Verdict
    hold_seconds: float = 0
    reason: Reason | None = None
    owner: str = ""
    max_attempts: int = 0


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
    """

    applied: bool
    state: CircuitState
    attempts: int = 0
    losses: int = 0
    retry_at: datetime | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Circuit:
    """One circuit as it stands, counters included. Times are UTC; counts are since the store began."""

    service: str
    state: CircuitState = CircuitState.CLOSED
    generation: int = 0
    failures: int = 0
    successes: int = 0
    reopened: int = 0
    in_flight: int = 0
    since: datetime | None = None
    retry_at: datetime | None = None
    reason: Reason | None = None
    last_failure: datetime | None = None
    forced_until: datetime | None = None
    actor: str | None = None
    note: str | None = None
    allowed_total: int = 0
    blocked_total: int = 0
    failures_total: int = 0
    trips_total: int = 0
    parked: int = 0
    parked_ready: int = 0
    parked_since: datetime | None = None
    parked_total: int = 0
    released_total: int = 0
    read_at: datetime | None = None
    shared: bool = True


def micros_in(seconds: float) -> int:
    """So many seconds in microseconds."""
    return round(seconds * MICROSECONDS)


def to_micros(when: datetime) -> int:
    """Microseconds since the epoch, exactly."""
    return (when - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: float | str | bytes | None) -> datetime | None:
    """The UTC time of so many microseconds since the epoch; None for nothing or zero."""
    value = int(micros or 0)
    return _EPOCH + timedelta(microseconds=value) if value else None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
