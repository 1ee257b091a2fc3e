"""The state machine in Python, for one process.

It stands in when the shared store is lost, and it is the oracle the Lua is tested against: keep each
method line by line beside its script. It has no parking lot, because nothing here outlives the process.
"""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

from resilience.circuit import (
    MICROSECONDS,
    Circuit,
    CircuitState,
    Permit,
    Policy,
    Reason,
    Report,
    Verdict,
    from_micros,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(slots=True)
class _Machine:
    """One circuit's hash and its probes."""

    state: str = "closed"
    generation: int = 0
    failures: int = 0
    successes: int = 0
    reopened: int = 0
    retry_at: int = 0
    reason: str = ""
    since: int = 0
    last_failure: int = 0
    forced: str = ""
    forced_until: int = 0
    actor: str = ""
    note: str = ""
    allowed: int = 0
    blocked: int = 0
    trips: int = 0
    failures_total: int = 0
    probes: dict[str, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    def load(self, now: int) -> None:
        if self.forced and self.forced_until <= now:
            self.lift()

    def lift(self) -> None:
        self.forced, self.forced_until, self.actor, self.note = "", 0, "", ""

    def shown(self) -> CircuitState:
        if self.forced == "open":
            return CircuitState.FORCED_OPEN
        if self.forced == "disabled":
            return CircuitState.DISABLED
        return CircuitState(self.state)

    def move(self, now: int, to: str, reason: str, retry_at: int) -> None:
        self.state, self.reason, self.retry_at, self.successes, self.since = to, reason, retry_at, 0, now
        self.generation += 1
        self.probes.clear()
        if to == "closed":
            self.failures = self.reopened = 0

    def live_probes(self, now: int) -> dict[str, int]:
        for token in [token for token, ends in self.probes.items() if ends <= now]:
            del self.probes[token]
        return self.probes


class MemoryStore:
    """Circuits of one process.

    Args:
        clock: Microseconds since the epoch; the machine's own unless a test moves time.
    """

    lot = None

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or (lambda: time.time_ns() // 1000)
        self._machines: dict[str, _Machine] = {}
        # Held for a few microseconds of arithmetic, never across a call.
        self._lock = Lock()

    def acquire(self, service: str, policy: Policy, owner: str = "") -> Permit:  # noqa: ARG002 - no lot here, so no reservations
        """See ``Store.acquire``."""
        token = uuid.uuid4().hex
        with self._lock:
            now, m = self._load(service)
            if m.forced == "open":
                return self._refuse(service, m, now, m.forced_until, "forced")
            if m.forced or m.state == "closed":
                return self._grant(service, m, token, None)
            if m.state == "open":
                if now < m.retry_at:
                    return self._refuse(service, m, now, m.retry_at, m.reason)
                m.move(now, "half_open", m.reason, 0)
            probes = m.live_probes(now)
            if m.successes >= policy.successes_needed:  # it was lowered meanwhile
                m.move(now, "closed", "", 0)
                return self._grant(service, m, token, None)
            crowded = len(probes) >= policy.half_open_max_calls
            if crowded or len(probes) + m.successes >= policy.successes_needed:
                return self._refuse(service, m, now, min(probes.values()), m.reason)
            probes[token] = now + _micros(policy.lease_seconds)
            return self._grant(service, m, token, probes[token])

    def report(
        self,
        permit: Permit,
        policy: Policy,
        verdict: Verdict,
        *,
        hold_seconds: float = 0,
        reason: Reason | None = None,
        owner: str = "",
        max_attempts: int = 0,
    ) -> Report:
        """See ``Store.report``."""
        with self._lock:
            now, m = self._load(permit.service)
            if verdict is Verdict.FAILURE:
                m.failures_total += 1
                m.last_failure = now
            current = permit.generation == m.generation or (permit.generation == -1 and m.state == "closed")
            if permit.probe and current:
                current = m.probes.pop(permit.token, 0) > now
            applied = current and not m.forced
            if applied:
                _apply(m, now, policy, verdict, now + _micros(hold_seconds), reason)
            attempts = _count_attempt(m, permit, verdict, owner, max_attempts)
            return Report(
                applied=applied,
                state=m.shown(),
                attempts=attempts,
                retry_at=from_micros(m.retry_at),
                reason=Reason(m.reason) if m.reason else None,
            )

    def forget(self, service: str, owner: str) -> None:
        """See ``Store.forget``."""
        with self._lock:
            _, m = self._load(service)
            m.attempts.pop(owner, None)

    def control(self, service: str, act: str, seconds: float, note: str, actor: str) -> None:
        """See ``Store.control``."""
        with self._lock:
            now, m = self._load(service)
            if act in ("close", "reset"):
                if m.shown() is not CircuitState.CLOSED or m.state != "closed":
                    m.move(now, "closed", "", 0)
                m.lift()
                m.failures = 0
            if act != "reset" and seconds > 0:
                m.forced = "closed" if act == "close" else {"open": "open", "disable": "disabled"}[act]
                m.forced_until, m.actor, m.note = now + _micros(seconds), actor, note

    def read(self, services: Sequence[str]) -> dict[str, Circuit]:
        """See ``Store.read``."""
        with self._lock:
            return {service: self._read(service) for service in services}

    def _read(self, service: str) -> Circuit:
        now, m = self._load(service)
        forced_open = m.forced == "open"
        reason = "forced" if forced_open else m.reason
        return Circuit(
            service=service,
            state=m.shown(),
            generation=m.generation,
            failures=m.failures,
            successes=m.successes,
            reopened=m.reopened,
            in_flight=sum(ends > now for ends in m.probes.values()),
            since=from_micros(m.since),
            retry_at=from_micros(m.forced_until if forced_open else m.retry_at),
            reason=Reason(reason) if reason else None,
            last_failure=from_micros(m.last_failure),
            forced_until=from_micros(m.forced_until),
            actor=m.actor or None,
            note=m.note or None,
            allowed_total=m.allowed,
            blocked_total=m.blocked,
            failures_total=m.failures_total,
            trips_total=m.trips,
            read_at=from_micros(now),
            shared=False,
        )

    def _load(self, service: str) -> tuple[int, _Machine]:
        now = self._clock()
        machine = self._machines.setdefault(service, _Machine())
        machine.load(now)
        return now, machine

    @staticmethod
    def _grant(service: str, m: _Machine, token: str, ends: int | None) -> Permit:
        m.allowed += 1
        return Permit(
            granted=True,
            service=service,
            state=m.shown(),
            generation=m.generation,
            token=token,
            probe=ends is not None,
            until=from_micros(ends),
            shared=False,
        )

    @staticmethod
    def _refuse(service: str, m: _Machine, now: int, retry_at: int, reason: str) -> Permit:
        m.blocked += 1
        return Permit(
            granted=False,
            service=service,
            state=m.shown(),
            generation=m.generation,
            retry_at=from_micros(max(retry_at, now + 1)),
            reason=Reason(reason),
            shared=False,
        )


def _micros(seconds: float) -> int:
    return round(seconds * MICROSECONDS)


def _count_attempt(m: _Machine, permit: Permit, verdict: Verdict, owner: str, budget: int) -> int:
    if not owner:
        return 0
    spent = m.attempts.pop(owner, 0) + (verdict is Verdict.FAILURE and not permit.probe)
    if verdict is Verdict.HOLD or (verdict is Verdict.FAILURE and (m.shown().shut or spent < budget)):
        m.attempts[owner] = spent
    return spent


def _apply(m: _Machine, now: int, policy: Policy, verdict: Verdict, hold: int, reason: Reason | None) -> None:
    if verdict is Verdict.SUCCESS:
        if m.state == "half_open":
            m.successes += 1
            if m.successes >= policy.successes_needed:
                m.move(now, "closed", "", 0)
        else:
            m.failures = 0
    elif verdict is Verdict.FAILURE:
        m.failures += 1
        if m.state == "half_open" or m.failures >= policy.failure_threshold:
            m.trips += 1
            m.reopened += m.state == "half_open"
            chance = random.random()  # noqa: S311 - spreads load, guards nothing
            m.move(now, "open", "failures", now + policy.open_micros(m.reopened, chance))
    elif verdict is Verdict.HOLD:
        m.move(now, "open", reason or Reason.RATE_LIMITED, hold)
