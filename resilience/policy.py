"""When a circuit opens, for how long, how it is tried again, and what its service can bear. No I/O."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeGuard

from resilience.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

MICROSECONDS = 1_000_000
# A lease outlives its call's deadline by this, so that a slow report still finds its permit.
LEASE_GRACE_SECONDS = 2.0
MIN_SECONDS = 0.001
# A year: beyond it a time limit is a mistake, and microseconds stay exact in a double.
MAX_SECONDS = 366 * 86_400.0
# More is a mistake too; and products of counts and microseconds stay exact.
MAX_COUNT = 10_000_000
MAX_BYTES = 2**40
# A strict quota's calls are kept one by one; so many take a megabyte of the store.
STRICT_CALLS = 10_000


@dataclass(frozen=True, slots=True)
class Policy:
    """How one circuit behaves. Any of the three rules opens it: consecutive failures, their rate, slow calls.

    Attributes:
        failure_threshold: Consecutive failures that open it.
        timeout_seconds: How long it stays open before the first probe, exactly; never less, later on.
        half_open_max_calls: Probes in flight at most while half-open.
        call_seconds: The longest a call may take; a permit that is a lease lives for this and
            ``LEASE_GRACE_SECONDS``, so a killed process frees it by itself.
        timeout_cap_seconds: Doubles the open time at each failed recovery, up to this; None, or less than
            ``timeout_seconds``: it stays.
        jitter: Takes a random part, up to this fraction, off what doubling has added, so that fleets do not
            come back in step. The first open time is exact, and none is longer than the cap.
        half_open_successes: Successes that close it; None: as many as ``half_open_max_calls``.
        probe_seconds: The longest a probe may take, if less than ``call_seconds``; None: the same.
        failure_rate: Opens it when this fraction of the calls of the window failed; None: no such rule.
        slow_call_seconds: A call that took longer is slow, whatever it answered; None: no call is.
        slow_call_rate: Opens it when this fraction of the calls of the window was slow; a slow probe then
            counts as a failed one.
        window_seconds: The window the rates and ``min_reporters`` look at, in ten steps.
        minimum_calls: Calls the window must hold before a rate means anything.
        min_reporters: Hosts that must have reported trouble within the window before the circuit opens, so
            that one broken machine cannot cut off the others.
        quota_calls: Calls the provider allows in ``quota_seconds``, evenly spaced; None: no quota.
        quota_seconds: See ``quota_calls``.
        quota_burst: Calls that may go at once after a pause. They come on top of ``quota_calls``, unless
        quota_strict: no stretch of ``quota_seconds`` sees more than ``quota_calls`` at the provider, the
            burst included. A call counts from its permit until ``quota_seconds`` after its report, so it
            matters not when in between it arrived. The store keeps each so long: at most ``STRICT_CALLS``.
        ramp_calls: After it closes, calls a second at first; doubles every second until nobody would notice.
            A failure stops it for a second, halves it and has it double more rarely, but since it closed it
            has doubled once in 32 seconds at least, however many fail. None: all at once.
        max_concurrent: Calls in flight at most, in the whole fleet; None: any number.
        max_parked: Tasks that may wait for it; one more ends in FAILURE, as with the next two.
        max_parked_bytes: What their messages may take.
        max_parked_seconds: How long one may wait; results must not expire before that.
        observe_only: Decides and counts what it would have refused, and refuses nothing but what an
            operator's ``force_open`` does.

    Raises:
        ConfigurationError: For a value that cannot work; it names the field, the value and the remedy.
    """

    failure_threshold: int = 5
    timeout_seconds: float = 60
    half_open_max_calls: int = 3
    call_seconds: float = 30
    timeout_cap_seconds: float | None = None
    jitter: float = 0
    half_open_successes: int | None = None
    probe_seconds: float | None = None
    failure_rate: float | None = None
    slow_call_seconds: float | None = None
    slow_call_rate: float | None = None
    window_seconds: float = 60
    minimum_calls: int = 10
    min_reporters: int = 1
    quota_calls: int | None = None
    quota_seconds: float | None = None
    quota_burst: int = 1
    quota_strict: bool = False
    ramp_calls: int | None = None
    max_concurrent: int | None = None
    max_parked: int = 1_000_000
    max_parked_bytes: int = 2**30
    max_parked_seconds: float = 86_400
    observe_only: bool = False
    #: As the scripts read it: JSON, times in microseconds; what is no rule of it is not there.
    wire: str = field(init=False, repr=False, compare=False)
    #: Whether a call on a closed circuit concerns nothing but the count of failures.
    plain: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, (check, optional) in _CHECKS.items():
            value = getattr(self, name)
            if value is None and optional:
                continue
            remedy = check(value)
            if remedy:
                raise ConfigurationError(f"{name}={value!r}: give {remedy}{', or None' if optional else ''}")
        self._check_together("quota_calls", "quota_seconds")
        self._check_together("slow_call_seconds", "slow_call_rate")
        if self.quota_strict and (self.quota_calls or 0) > STRICT_CALLS:
            raise ConfigurationError(
                f"quota_calls={self.quota_calls!r} are too many to keep one by one: give at most "
                f"{STRICT_CALLS}, or quota_strict=false and quota_burst - 1 calls less"
            )
        if self.probe_seconds is not None:
            self._check_order("probe_seconds", "call_seconds")
        # Once for each policy, not once for each call.
        rules = _wire(self)
        object.__setattr__(self, "wire", json.dumps(rules, separators=(",", ":")))
        object.__setattr__(self, "plain", not rules.keys() & _NOT_PLAIN)

    def _check_together(self, one: str, other: str) -> None:
        for given, missing in ((one, other), (other, one)):
            if getattr(self, given) is not None and getattr(self, missing) is None:
                raise ConfigurationError(
                    f"{given}={getattr(self, given)!r} means nothing without {missing}: give both, or neither"
                )

    def _check_order(self, less: str, more: str) -> None:
        if getattr(self, more) < getattr(self, less):
            raise ConfigurationError(
                f"{more}={getattr(self, more)!r} is less than {less}={getattr(self, less)!r}: "
                f"raise {more} or lower {less}"
            )

    @property
    def successes_needed(self) -> int:
        """Successes that close a half-open circuit."""
        return self.half_open_successes or self.half_open_max_calls

    def seconds(self, *, probe: bool) -> float:
        """The longest a call may take."""
        return self.probe_seconds if probe and self.probe_seconds else self.call_seconds

    def lease_micros(self, *, probe: bool) -> int:
        """How long a permit that is a lease lives without a report."""
        return micros_in(self.seconds(probe=probe) + LEASE_GRACE_SECONDS)

    def open_micros(self, reopened: int, chance: float) -> int:
        """How long the circuit stays open now.

        Args:
            reopened: Failed recoveries in a row before this one.
            chance: A random number from 0 to 1, for the jitter.
        """
        first = micros_in(self.timeout_seconds)
        longest = max(first, micros_in(self.timeout_cap_seconds or 0))
        # Beyond sixty doublings any cap is reached; the exponent stays a sane number.
        added = min(longest, first << min(reopened, 60)) - first
        return first + math.floor(added * (1 - self.jitter * chance))

    def changed(self, changes: Mapping[str, Any]) -> Policy:
        """This policy with some fields changed.

        Raises:
            ConfigurationError: For a field there is none of, or a value that cannot work.
        """
        for name in changes:
            if name not in _CHECKS:
                raise ConfigurationError(f"{name!r} is no field of a policy; known are {', '.join(_CHECKS)}")
        return replace(self, **changes)


def _count(value: object) -> str:
    fine = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_COUNT
    return "" if fine else f"a whole number from 1 to {MAX_COUNT}"


def _bytes(value: object) -> str:
    fine = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_BYTES
    return "" if fine else f"a whole number of bytes from 1 to {MAX_BYTES}"


def _seconds(value: object) -> str:
    fine = _is_number(value) and MIN_SECONDS <= value <= MAX_SECONDS
    return "" if fine else f"seconds from {MIN_SECONDS} to {MAX_SECONDS:.0f}"


def _rate(value: object) -> str:
    return "" if _is_number(value) and 0 < value <= 1 else "a fraction, more than 0 and at most 1"


def _fraction(value: object) -> str:
    return "" if _is_number(value) and 0 <= value <= 1 else "a fraction from 0 to 1"


def _flag(value: object) -> str:
    return "" if isinstance(value, bool) else "true or false"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


#: field: (what is wrong with a value, in the words of the remedy; whether None means "no such rule")
_CHECKS = {
    "failure_threshold": (_count, False),
    "timeout_seconds": (_seconds, False),
    "half_open_max_calls": (_count, False),
    "call_seconds": (_seconds, False),
    "timeout_cap_seconds": (_seconds, True),
    "jitter": (_fraction, False),
    "half_open_successes": (_count, True),
    "probe_seconds": (_seconds, True),
    "failure_rate": (_rate, True),
    "slow_call_seconds": (_seconds, True),
    "slow_call_rate": (_rate, True),
    "window_seconds": (_seconds, False),
    "minimum_calls": (_count, False),
    "min_reporters": (_count, False),
    "quota_calls": (_count, True),
    "quota_seconds": (_seconds, True),
    "quota_burst": (_count, False),
    "quota_strict": (_flag, False),
    "ramp_calls": (_count, True),
    "max_concurrent": (_count, True),
    "max_parked": (_count, False),
    "max_parked_bytes": (_bytes, False),
    "max_parked_seconds": (_seconds, False),
    "observe_only": (_flag, False),
}


_NOT_PLAIN = frozenset({"failure_rate", "slow_rate", "reporters", "interval", "concurrent"})


def _wire(policy: Policy) -> dict[str, float]:
    rules = {
        "threshold": policy.failure_threshold,
        "timeout": micros_in(policy.timeout_seconds),
        "timeout_cap": micros_in(policy.timeout_cap_seconds or 0),
        "jitter": policy.jitter,
        "probes": policy.half_open_max_calls,
        "successes": policy.successes_needed,
        "lease": policy.lease_micros(probe=False),
        "probe_lease": policy.lease_micros(probe=True),
        "failure_rate": policy.failure_rate or 0,
        "slow_rate": policy.slow_call_rate or 0,
        "slow": micros_in(policy.slow_call_seconds or 0),
        "window": micros_in(policy.window_seconds),
        "minimum": policy.minimum_calls,
        "reporters": policy.min_reporters,
        "interval": quota_interval(policy),
        "burst": policy.quota_burst,
        "counted": policy.quota_calls or 0,
        "counted_for": micros_in(policy.quota_seconds or 0),
        "concurrent": policy.max_concurrent or 0,
        "ramp": ramp_interval(policy),
        "most": policy.max_parked,
        "bytes": policy.max_parked_bytes,
        "age": micros_in(policy.max_parked_seconds),
        "observe": int(policy.observe_only),
    }
    if not policy.failure_rate and not policy.slow_call_rate:
        del rules["minimum"]
        if policy.min_reporters == 1:
            del rules["window"]
    if policy.min_reporters == 1:
        del rules["reporters"]
    if not quota_interval(policy):
        del rules["burst"]
    if not policy.quota_strict:
        del rules["counted"], rules["counted_for"]
    # A policy of few rules is short on the wire.
    return {name: value for name, value in rules.items() if value}


def quota_interval(policy: Policy) -> int:
    """Microseconds from one call to the next at the quota's pace, rounded up; 0 for no quota."""
    if policy.quota_calls is None or policy.quota_seconds is None:
        return 0
    return -(-micros_in(policy.quota_seconds) // policy.quota_calls)


def ramp_interval(policy: Policy) -> int:
    """Microseconds from one call to the next when the circuit has just closed; 0: all at once."""
    return 0 if policy.ramp_calls is None else MICROSECONDS // policy.ramp_calls


@dataclass(frozen=True, slots=True)
class Change:
    """One field of a policy as an operator has changed it.

    Attributes:
        value: What it is now.
        until: When that ends, on the store's clock, in microseconds since the epoch.
        actor: Who did it.
        note: Why.
    """

    value: Any
    until: int
    actor: str = ""
    note: str = ""


def override_text(base: Policy, changes: Mapping[str, Any], laid: Mapping[str, Change] | None = None) -> str:
    """A change of policy as it is kept beside a circuit: what was changed, and the outcome.

    Args:
        base: What is changed.
        changes: The values, by field.
        laid: The same with who, why and until when.

    Raises:
        ConfigurationError: For a change that cannot work.
    """
    changed = base.changed(changes)
    told = {"changes": dict(changes), "policy": as_fields(changed), "wire": _wire(changed)}
    told["laid"] = {name: [one.until, one.actor, one.note] for name, one in (laid or {}).items()}
    return json.dumps(told, separators=(",", ":"))


def override_stages(base: Policy, laid: Mapping[str, Change]) -> list[tuple[int, str]]:
    """Changes that end at different times, as the policies they make one after the other.

    Returns:
        Until when, and the policy's text; the first to end first. None where nothing is changed.

    Raises:
        ConfigurationError: For changes that cannot work together, now or once some of them have ended.
    """
    stages: list[tuple[int, str]] = []
    for until in sorted({one.until for one in laid.values()}):
        left = {name: one for name, one in laid.items() if one.until >= until}
        try:
            text = override_text(base, {name: one.value for name, one in left.items()}, left)
        except ConfigurationError as error:
            if not stages:
                raise
            ended = ", ".join(sorted(laid.keys() - left.keys()))
            raise ConfigurationError(
                f"once the time limit of {ended} is reached, {error}; or give them the same time limit"
            ) from None
        stages.append((until, text))
    return stages


def laid_down(override: str, until: int = 0, actor: str = "", note: str = "") -> dict[str, Change]:
    """An override's changes, each with its own time limit.

    Args:
        override: Its text, '' for none.
        until: Of one that an earlier release has made: that of all its changes; with who, and why.
        actor: See ``until``.
        note: See ``until``.
    """
    told = json.loads(override) if override else {"changes": {}}
    laid = told.get("laid") or {}
    return {
        name: Change(value, *laid.get(name, (until, actor, note))) for name, value in told["changes"].items()
    }


def parse_change(text: str) -> tuple[str, Any]:
    """``failure_threshold=4`` as a field and its value, which is a number, true, false or none.

    Raises:
        ConfigurationError: For anything else.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return name, words[value.lower()]
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    raise ConfigurationError(
        f"{text!r}: write {name if equals else 'FIELD'}=VALUE with a number, true, false or none"
    )


def as_fields(policy: Policy) -> dict[str, Any]:
    """Every field and its value."""
    return {name: getattr(policy, name) for name in _CHECKS}


@lru_cache(maxsize=1024)
def effective(base: Policy, override: str) -> Policy:
    """The policy in force, given the fleet's override of it ('' for none)."""
    if not override:
        return base
    outcome = json.loads(override)["policy"]
    # Another release may know more fields than this one, or allow what this one does not.
    try:
        return Policy(**{name: value for name, value in outcome.items() if name in _CHECKS})
    except ConfigurationError:
        return base


def changes_of(override: str) -> dict[str, Any]:
    """What an override changes, by field."""
    changes: dict[str, Any] = json.loads(override)["changes"] if override else {}
    return changes


def micros_in(seconds: float) -> int:
    """So many seconds in microseconds."""
    return round(seconds * MICROSECONDS)


DEFAULT = Policy()
