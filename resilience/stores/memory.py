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
    LOST,
    Circuit,
    CircuitState,
    Finding,
    Permit,
    Policy,
    Reason,
    Report,
    Verdict,
    from_micros,
    micros_in,
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
    losses: dict[str, int] = field(default_factory=dict)

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

    def live_probes(self, now: int) -> list[int]:
        return [ends for ends in self.probes.values() if ends > now]


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

    def acquire(self, service: str, policy: Policy, owner: str = "") -> Permit:
        """See ``Store.acquire``."""
        token = f"{owner}:{uuid.uuid4().hex}"
        with self._lock:
            now, m = self._load(service)
            spent = m.attempts.get(owner, 0) if owner else 0
            if m.forced == "open":
                return self._refuse(service, m, now, m.forced_until, "forced", spent)
            if m.forced or m.state == "closed":
                return self._grant(service, m, token, None, spent)
            if m.state == "open":
                if now < m.retry_at:
                    return self._refuse(service, m, now, m.retry_at, m.reason, spent)
                m.move(now, "half_open", m.reason, 0)
            probes = m.live_probes(now)
            if m.successes >= policy.successes_needed:  # it was lowered meanwhile
                m.move(now, "closed", "", 0)
                return self._grant(service, m, token, None, spent)
            crowded = len(probes) >= policy.half_open_max_calls
            if crowded or len(probes) + m.successes >= policy.successes_needed:
                return self._refuse(service, m, now, min(probes), m.reason, spent)
            m.probes[token] = now + micros_in(policy.lease_seconds)
            return self._grant(service, m, token, m.probes[token], spent)

    def report(self, permit: Permit, policy: Policy, finding: Finding) -> Report:
        """See ``Store.report``."""
        with self._lock:
            now, m = self._load(permit.service)
            if finding.verdict is Verdict.FAILURE:
                m.failures_total += 1
                m.last_failure = now
            lost = permit.generation == LOST
            token, probe = _found(m, finding.owner) if lost else (permit.token, permit.probe)
            current = permit.generation == m.generation or (lost and (probe or m.state == "closed"))
            if probe and current:
                ends = m.probes.pop(token, 0)
                current = ends > now or (ends > 0 and finding.verdict is Verdict.SUCCESS)
            applied = current and not m.forced
            if applied:
                _apply(m, now, policy, finding)
            attempts, losses = _count(m, finding, probe=probe, lost=lost)
            return Report(
                applied=applied,
                state=m.shown(),
                attempts=attempts,
                losses=losses,
                retry_at=from_micros(m.retry_at),
                reason=Reason(m.reason) if m.reason else None,
            )

    def forget(self, service: str, owner: str) -> None:
        """See ``Store.forget``."""
        with self._lock:
            _, m = self._load(service)
            m.attempts.pop(owner, None)
            m.losses.pop(owner, None)

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
                m.forced_until, m.actor, m.note = now + micros_in(seconds), actor, note

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
            in_flight=len(m.live_probes(now)),
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
    def _grant(service: str, m: _Machine, token: str, ends: int | None, spent: int) -> Permit:
        m.allowed += 1
        return Permit(
            granted=True,
            service=service,
            state=m.shown(),
            # Under an operator's word calls change nothing, also when it has ended meanwhile.
            generation=-2 if m.forced else m.generation,
            token=token,
            probe=ends is not None,
            until=from_micros(ends),
            attempts=spent,
            shared=False,
        )

    @staticmethod
    def _refuse(service: str, m: _Machine, now: int, retry_at: int, reason: str, spent: int) -> Permit:
        m.blocked += 1
        return Permit(
            granted=False,
            service=service,
            state=m.shown(),
            generation=m.generation,
            retry_at=from_micros(max(retry_at, now + 1)),
            reason=Reason(reason),
            attempts=spent,
            shared=False,
        )


def _found(m: _Machine, owner: str) -> tuple[str, bool]:
    """The latest probe's permit of a task whose process was lost, if it had one."""
    if owner and m.state == "half_open":
        own = [(ends, token) for token, ends in m.probes.items() if token.startswith(f"{owner}:")]
        if own:
            return max(own)[1], True
    return "", False


def _count(m: _Machine, finding: Finding, *, probe: bool, lost: bool) -> tuple[int, int]:
    verdict, owner = finding.verdict, finding.owner
    if not owner:
        return 0, 0
    spent = m.attempts.pop(owner, 0) + (verdict is Verdict.FAILURE and not probe)
    losses = m.losses.pop(owner, 0) + lost
    again = verdict is Verdict.FAILURE and (m.shown().shut or spent < finding.max_attempts)
    if lost or verdict is Verdict.HOLD or again:
        m.attempts[owner], m.losses[owner] = spent, losses
    return spent, losses


def _apply(m: _Machine, now: int, policy: Policy, finding: Finding) -> None:
    verdict = finding.verdict
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
        m.move(now, "open", finding.reason or Reason.RATE_LIMITED, now + micros_in(finding.hold_seconds))
