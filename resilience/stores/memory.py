"""The state machine in Python, for one process.

It stands in when the shared store is lost, and it is the oracle the Lua is tested against: keep each
method line by line beside its script. It has no parking lot, because nothing here outlives the process.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING

from resilience.circuit import (
    ASKED,
    LOST,
    REEXAMINE_SECONDS,
    STOPPED,
    TOOK,
    UNDER_ORDERS,
    UNPROBED,
    Circuit,
    CircuitState,
    Evidence,
    Finding,
    History,
    Known,
    Order,
    Permit,
    Reason,
    Report,
    Sample,
    Transition,
    Verdict,
    duration_fields,
    from_micros,
    time_of,
    to_micros,
    token_for,
)
from resilience.forks import hold
from resilience.policy import MICROSECONDS, Policy, effective, micros_in, quota_interval, ramp_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TRANSITIONS_KEPT = 500
_MINUTE = 60 * MICROSECONDS
_SAMPLES_KEPT = 61
_BUCKETS = 10
_RAMP_ENDS = MICROSECONDS // 1000
_RAMP_SLOWEST = 32 * MICROSECONDS
# Here no task comes before its turn; what a store noted that knows of such is no matter either way.
_AHEAD = MICROSECONDS // 10
_REEXAMINE = micros_in(REEXAMINE_SECONDS)


@dataclass(slots=True)
class _Machine:
    """One circuit's hash, its probes, calls, window and reporters."""

    service: str
    record: Callable[[Transition], None]
    state: str = "closed"
    generation: int = 0
    failures: int = 0
    successes: int = 0
    reopened: int = 0
    retry_at: int = 0
    reason: str = ""
    since: int = 0
    last_failure: int = 0
    last_error: str = ""
    forced: str = ""
    forced_until: int = 0
    actor: str = ""
    note: str = ""
    override: str = ""
    override_until: int = 0
    override_stages: tuple[tuple[int, str], ...] = ()
    override_actor: str = ""
    override_note: str = ""
    good_key: str = ""
    refused: set[str] = field(default_factory=set)
    doubted: dict[str, int] = field(default_factory=dict)
    tat: int = 0
    ramp: int = 0
    ramp_doubles: int = MICROSECONDS
    pulled_back: int = 0
    reminded: bool = False
    acted: bool = False
    allowed: int = 0
    blocked: int = 0
    would_block: int = 0
    trips: int = 0
    failures_total: int = 0
    moved: Counter[str] = field(default_factory=Counter)
    moves: int = 0
    heard: int = 0
    took: Counter[str] = field(default_factory=Counter)
    succeeded: int = 0
    held: int = 0
    probes: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    looked_through: int = 0
    window: dict[int, list[int]] = field(default_factory=dict)
    whose: dict[int, str] = field(default_factory=dict)
    subject: str = ""
    failing: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    reporters: dict[str, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)
    past: deque[Transition] = field(default_factory=lambda: deque(maxlen=TRANSITIONS_KEPT))
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=_SAMPLES_KEPT))

    def load(self, now: int) -> None:
        if self.forced and self.forced_until <= now:
            before = self.shown()
            self.lift()
            self.note_move(now, before, note="time limit reached")
        if self.override and self.override_until <= now:
            self.lay_override(now)

    def lay_override(self, now: int) -> None:
        """The first of the stages that has not ended; without one it is over."""
        left = (stage for stage in self.override_stages if stage[0] > now)
        self.override_until, self.override = next(left, (0, ""))
        if not self.override:
            self.override_stages, self.override_actor, self.override_note = (), "", ""

    def lift(self) -> None:
        self.forced, self.forced_until, self.actor, self.note = "", 0, "", ""

    def order(self) -> Order | None:
        return Order(self.forced, self.forced_until, self.note, self.actor) if self.forced else None

    def shown(self) -> CircuitState:
        if self.forced == "open":
            return CircuitState.FORCED_OPEN
        if self.forced == "disabled":
            return CircuitState.DISABLED
        return CircuitState(self.state)

    def move(
        self,
        now: int,
        to: str,
        reason: str,
        retry_at: int,
        *,
        evidence: Evidence | None = None,
        actor: str = "",
        note: str = "",
    ) -> None:
        before = self.shown()
        self.state, self.reason, self.retry_at, self.successes, self.since = to, reason, retry_at, 0, now
        self.generation += 1
        for kept in (self.probes, self.window, self.whose, self.reporters, self.subjects):
            kept.clear()
        self.end_ramp()
        if to == "closed":
            self.clear_failures()
            self.reopened = 0
        self._record(now, before, CircuitState(to), reason, evidence, actor, note)

    def clear_failures(self) -> None:
        self.failures, self.subject = 0, ""
        self.failing.clear()
        self.subjects.clear()

    def count_failure(self, finding: Finding, threshold: int) -> None:
        """See the function of this name in ``lua/report.lua``."""
        if finding.verdict is not Verdict.FAILURE:
            return
        subject, known = finding.subject if finding.owner else "", _is_known(finding)
        if known:
            if subject in self.subjects or self.attempts.get(finding.owner, 0) > 0:
                return
            if not self.subjects_enough(threshold):
                self.subjects.add(subject)
        self.failures += 1
        if self.subject == "*":
            return
        if subject and (self.subject in ("", subject) or finding.owner in self.failing):
            self.subject = self.subject or subject
            if known:
                return
            self.failing.add(finding.owner)
            if len(self.failing) < max(threshold, 2):
                return
        self.met_by_several()

    def subjects_enough(self, threshold: int) -> bool:
        """See the function of this name in ``lua/report.lua``."""
        return len(self.subjects) >= (max(threshold, 5) if self.state == "half_open" else threshold)

    def met_by_several(self) -> None:
        """It is not one subject's trouble."""
        self.subject = "*"
        self.failing.clear()

    def note_move(
        self, now: int, before: CircuitState, reason: str | None = None, actor: str = "", note: str = ""
    ) -> None:
        """What an observer sees has changed, the machine beneath has not."""
        if before is not self.shown():
            why = self.reason if reason is None else reason
            self._record(now, before, self.shown(), why, None, actor, note)

    def _record(
        self,
        now: int,
        before: CircuitState,
        after: CircuitState,
        reason: str,
        evidence: Evidence | None,
        actor: str,
        note: str,
    ) -> None:
        self.moved[f"{before.value}:{after.value}"] += 1
        self.moves += 1
        self.record(
            Transition(
                service=self.service,
                before=before,
                after=after,
                reason=Reason(reason) if reason else None,
                evidence=evidence or Evidence(self.failures),
                at=time_of(now),
                retry_at=from_micros(self.retry_at),
                actor=actor or None,
                note=note or None,
                number=self.moves,
            )
        )

    def sample(self, now: int) -> Sample:
        return Sample(time_of(now), self.blocked, self.succeeded, self.failures_total, self.held)

    def live_probes(self, now: int) -> list[int]:
        return [ends for ends in self.probes.values() if ends > now]

    def reexamined(self, now: int) -> int:
        if self.state != "open" or self.reason not in UNPROBED:
            return max(self.retry_at, now + _REEXAMINE)
        if self.retry_at <= now:
            self.retry_at = now + _REEXAMINE
        return self.retry_at

    def stance(self, now: int, key: str) -> tuple[str, int, str]:  # noqa: PLR0911 - line by line as the script
        """Who may pass: see the function of this name in ``lua/prelude.lua``."""
        if self.forced == "open":
            return "refuse", self.forced_until, "forced"
        if self.forced == "disabled":
            return "pass", 0, ""
        if key in self.refused:
            return "refuse", self.reexamined(now), "auth"
        if self.doubted.get(key, 0) > now and self.state == "closed":
            return "refuse", self.doubted[key], "turned_away"
        if self.forced or self.state == "closed":
            return "pass", 0, ""
        if self.state == "open" and self.reason == "retired":
            return "refuse", self.reexamined(now), self.reason
        if self.state == "open" and self.reason != "auth" and now < self.retry_at:
            return "refuse", self.retry_at, self.reason
        return "try", 0, ""

    def full(self, policy: Policy, now: int) -> tuple[int, str] | None:
        """Until when, and why, the service can bear no more calls; None: it can."""
        if policy.max_concurrent is not None:
            self.calls = {token: ends for token, ends in self.calls.items() if ends > now}
            if len(self.calls) >= policy.max_concurrent:
                return min(self.calls.values()), "concurrency"
        interval, burst, whose = self.pace(policy, now)
        if self.ramp and now < self.pulled_back + MICROSECONDS:
            return self.pulled_back + MICROSECONDS, "recovering"
        if policy.quota_strict and policy.quota_seconds:
            latest = now + _AHEAD + policy.lease_micros(probe=False) + micros_in(policy.quota_seconds)
            if max(self.counted.values(), default=0) > latest:
                self.counted = {token: min(ends, latest) for token, ends in self.counted.items()}
        if interval:
            self.tat = min(self.tat, now + _AHEAD + burst * interval)
            free_at = self.tat - (burst - 1) * interval
            if free_at > now:
                return free_at, whose
        if policy.quota_strict and policy.quota_calls:
            free_at = self.countable_at(policy.quota_calls)
            if free_at > now:
                return free_at, "quota"
        return None

    def countable_at(self, most: int) -> int:
        if len(self.counted) < most:
            return 0
        return sorted(self.counted.values(), reverse=True)[most - 1]

    def end_ramp(self) -> None:
        self.ramp, self.ramp_doubles, self.pulled_back = 0, MICROSECONDS, 0

    def ramp_step(self, policy: Policy, now: int) -> tuple[int, int] | None:
        if not self.ramp:
            return None
        own, at_least = (now - self.ramp) // self.ramp_doubles, (now - self.since) // _RAMP_SLOWEST
        doublings = max(own, at_least, 0)
        step = ramp_interval(policy) >> min(doublings, 50)  # which ends any; the shift stays a sane number
        if step < _RAMP_ENDS:
            self.end_ramp()
            return None
        return step, doublings

    def pull_back(self, now: int, step: tuple[int, int] | None) -> None:
        if step is None:
            return
        _, doublings = step
        self.ramp_doubles = min(self.ramp_doubles * 4, _RAMP_SLOWEST)
        self.pulled_back = now
        self.ramp = max(now + MICROSECONDS - max(doublings - 1, 0) * self.ramp_doubles, 1)

    def pace(self, policy: Policy, now: int) -> tuple[int, int, str]:
        ramp = self.ramp_step(policy, now)
        if ramp and ramp[0] > quota_interval(policy):
            return ramp[0], max(1, MICROSECONDS // 2 // ramp[0]), "recovering"
        return quota_interval(policy), policy.quota_burst, "quota"

    def recover(self, policy: Policy, now: int) -> None:
        self.move(now, "closed", "", 0)
        if policy.ramp_calls is not None:
            self.ramp = now

    def take_room(self, policy: Policy, now: int, token: str) -> None:
        if policy.max_concurrent is not None:
            self.calls[token] = now + policy.lease_micros(probe=False)
        interval, _, _ = self.pace(policy, now)
        if interval:
            self.tat = max(self.tat, now) + interval
        if policy.quota_strict and policy.quota_seconds:
            if len(self.counted) >= self.looked_through:  # not at each call: a quota may be of thousands
                self.counted = {kept: ends for kept, ends in self.counted.items() if ends > now}
                self.looked_through = 2 * len(self.counted)
            lease = policy.lease_micros(probe=False)
            self.counted[token] = now + lease + micros_in(policy.quota_seconds)


def _steady() -> Callable[[], int]:
    """What time it was, and what has passed since: setting this machine's clock moves no deadline."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the first goes on while a machine sleeps
    began = time.time_ns() - time.clock_gettime_ns(clock)
    return lambda: (began + time.clock_gettime_ns(clock)) // 1000


class MemoryStore:
    """Circuits of one process.

    Args:
        clock: Microseconds since the epoch; the machine's own unless a test moves time. It must not jump.
    """

    lot = None

    def __init__(self, clock: Callable[[], int] | None = None) -> None:
        self._clock = clock or _steady()
        self._machines: dict[str, _Machine] = {}
        self._transitions: deque[Transition] = deque(maxlen=TRANSITIONS_KEPT)
        # Held for a few microseconds of arithmetic, never across a call.
        self._lock = hold(Lock())

    def acquire(self, service: str, policy: Policy, owner: str = "", key: str = "") -> Permit:
        """See ``Store.acquire``."""
        token = token_for(owner)
        with self._lock:
            now, m = self._load(service)
            policy = effective(policy, m.override)
            answer = _Answer(m, policy, now, token, m.attempts.get(owner, 0) if owner else 0)
            way, when, why = m.stance(now, key)
            if way == "refuse":
                return answer.refuse(when, why)
            if way == "pass":
                return answer.pass_()
            if m.state == "open":
                m.move(now, "half_open", m.reason, 0)
            if m.successes >= policy.successes_needed:  # it was lowered meanwhile
                m.recover(policy, now)
                return answer.pass_()
            probes = m.live_probes(now)
            crowded = len(probes) >= policy.half_open_max_calls
            if crowded or len(probes) + m.successes >= policy.successes_needed:
                return answer.refuse(min(probes), m.reason)
            full = m.full(policy, now)
            if full:
                return answer.refuse(*full)
            m.take_room(policy, now, token)
            m.probes[token] = now + policy.lease_micros(probe=True)
            return answer.grant(m.probes[token])

    def report(self, permit: Permit, policy: Policy, finding: Finding) -> Report:
        """See ``Store.report``."""
        with self._lock:
            now, m = self._load(permit.service)
            policy = effective(policy, m.override)
            if finding.verdict is Verdict.FAILURE:
                m.failures_total += 1
                m.last_failure = now
            if finding.verdict in (Verdict.FAILURE, Verdict.HOLD) and finding.detail:
                m.last_error = finding.detail
            if permit.at_micros:
                m.took.update(duration_fields(finding.verdict, max(now - permit.at_micros, 0)))
            m.succeeded += finding.verdict is Verdict.SUCCESS
            m.held += finding.verdict is Verdict.HOLD
            lost = permit.generation in (LOST, STOPPED)
            token, probe = permit.token, permit.probe
            if lost:
                m.calls.pop(_latest_of(m.calls, finding.owner), None)
                token = _latest_of(m.probes, finding.owner) if m.state == "half_open" else ""
                probe = bool(token)
            else:
                m.calls.pop(token, None)
                if policy.quota_strict and policy.quota_seconds and token in m.counted:
                    m.counted[token] = now + micros_in(policy.quota_seconds)
            current = (permit.generation == m.generation or lost) and (probe or m.state == "closed")
            if probe and current:
                ends = m.probes.pop(token, 0)
                current = ends > now or (ends > 0 and finding.verdict is Verdict.SUCCESS)
            applied = current and not m.forced
            if applied:
                slow = _is_slow(policy, finding.verdict, now, permit.at_micros)
                _apply(m, now, policy, finding, permit.at_micros, slow=slow)
            own = _is_own(m, finding)
            gone = permit.generation if lost else 0
            attempts, losses = _count(m, finding, probe=probe, gone=gone, own=own)
            return Report(
                applied=applied,
                state=m.shown(),
                attempts=attempts,
                losses=losses,
                retry_at=from_micros(m.retry_at),
                reason=Reason(m.reason) if m.reason else None,
                generation=m.generation,
                at_micros=now,
                own=own,
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
            before, m.acted = m.shown(), True
            if act in ("close", "reset"):
                if before is not CircuitState.CLOSED or m.state != "closed":
                    m.move(now, "closed", "", 0, actor=actor, note=note)
                m.lift()
                m.end_ramp()
                m.clear_failures()
                m.tat = 0
                for kept in (m.window, m.whose, m.reporters, m.refused, m.doubted):
                    kept.clear()
            if act != "reset" and seconds > 0:
                m.forced = {"close": "closed", "open": "open", "disable": "disabled"}[act]
                m.forced_until, m.actor, m.note = now + micros_in(seconds), actor, note
            if act in ("open", "disable"):
                m.note_move(now, before, "forced", actor, note)

    def override(
        self, service: str, seen: str | None, stages: Sequence[tuple[int, str]], note: str, actor: str
    ) -> bool:
        """See ``Store.override``."""
        with self._lock:
            _, m = self._load(service)
            if seen is not None and seen != m.override:
                return False
            m.override_stages = tuple(stages)
            m.override_until, m.override = stages[0] if stages else (0, "")
            m.override_actor, m.override_note, m.acted = actor, note, True
            return True

    def restore(
        self, service: str, order: Order | None, stages: Sequence[tuple[int, str]], note: str, actor: str
    ) -> None:
        """See ``Store.restore``."""
        with self._lock:
            now, m = self._load(service)
            if m.acted:
                return
            before, m.acted, m.reminded = m.shown(), True, True
            if order and order.until > now:
                m.forced, m.forced_until = order.act, order.until
                m.note, m.actor = order.note, order.actor
                m.note_move(now, before, "forced", order.actor, order.note)
            m.override_stages, m.override_actor, m.override_note = tuple(stages), actor, note
            m.lay_override(now)

    def remind(self, service: str, known: Known) -> None:
        """See ``Store.remind``."""
        with self._lock:
            now, m = self._load(service)
            retry_at = to_micros(known.retry_at)
            if known.generation <= m.generation or retry_at <= now or m.state != "closed" or m.forced:
                return
            m.generation, m.reminded = known.generation, True
            if known.reason is Reason.AUTH:
                m.refused.add(known.key)
            m.move(now, "open", known.reason, retry_at, note="the store had lost it")

    def remove(self, service: str) -> int:
        """See ``Store.remove``."""
        with self._lock:
            known = self._machines.pop(service, None)
            self._transitions = deque(
                (change for change in self._transitions if change.service != service), TRANSITIONS_KEPT
            )
        return 0 if known else -1

    def begin_anew(self) -> None:
        """A store is lost again: what was known at an earlier loss, and what is over, counts no more."""
        with self._lock:
            now = self._clock()
            for service, m in list(self._machines.items()):
                if m.reminded or m.forced or (m.state != "closed" and m.retry_at <= now):
                    del self._machines[service]

    def transitions(self, services: Sequence[str]) -> list[Transition]:
        """See ``Store.transitions``."""
        with self._lock:
            news = [self._handed(change) for change in self._transitions if change.service in services]
            self._transitions = deque(
                (change for change in self._transitions if change.service not in services), TRANSITIONS_KEPT
            )
            return news

    def _handed(self, change: Transition) -> Transition:
        m = self._machines.get(change.service)
        if m is None:  # it has begun anew since
            return change
        lost, m.heard = max(change.number - m.heard - 1, 0), change.number
        return replace(change, lost=lost)

    def heard(self, transitions: Sequence[Transition]) -> None:
        """See ``Store.heard``; what is handed out is gone here."""

    def read(self, services: Sequence[str]) -> dict[str, Circuit]:
        """See ``Store.read``."""
        with self._lock:
            return {service: self._read(service) for service in services}

    def history(self, services: Sequence[str], most: int) -> dict[str, History]:
        """See ``Store.history``."""
        with self._lock:
            return {service: self._history(service, most) for service in services}

    def _history(self, service: str, most: int) -> History:
        now, m = self._load(service)
        return History(
            now=time_of(now),
            state=m.shown(),
            transitions=tuple(itertools.islice(reversed(m.past), most)),
            complete=m.moves == len(m.past) <= most,
            samples=(m.sample(now), *m.samples),
        )

    def _keep(self, change: Transition) -> None:
        self._transitions.append(change)
        self._machines[change.service].past.append(change)

    def _read(self, service: str) -> Circuit:
        now, m = self._load(service)
        if m.state == "open" and m.reason in UNPROBED:
            m.reexamined(now)
        if not m.samples or to_micros(m.samples[0].at) // _MINUTE != now // _MINUTE:
            m.samples.appendleft(m.sample(now))
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
            recovering_since=from_micros(m.since if m.ramp else 0),
            retry_at=from_micros(m.forced_until if forced_open else m.retry_at),
            reason=Reason(reason) if reason else None,
            last_failure=from_micros(m.last_failure),
            last_error=m.last_error or None,
            forced_until=from_micros(m.forced_until),
            actor=m.actor or None,
            note=m.note or None,
            refused_keys=frozenset(m.refused),
            override=m.override,
            override_until=from_micros(m.override_until),
            override_stages=m.override_stages,
            override_actor=m.override_actor or None,
            override_note=m.override_note or None,
            order=m.order(),
            acted=m.acted,
            allowed_total=m.allowed,
            blocked_total=m.blocked,
            would_block_total=m.would_block,
            failures_total=m.failures_total,
            trips_total=m.trips,
            moved_total=dict(m.moved),
            took={name.removeprefix(TOOK): number for name, number in m.took.items()},
            used_until=from_micros(m.tat),
            read_at=from_micros(now),
            shared=False,
        )

    def _load(self, service: str) -> tuple[int, _Machine]:
        now = self._clock()
        if service not in self._machines:
            self._machines[service] = _Machine(service, self._keep)
        machine = self._machines[service]
        machine.load(now)
        return now, machine


@dataclass(slots=True)
class _Answer:
    """The permits one ``acquire`` can give."""

    m: _Machine
    policy: Policy
    now: int
    token: str
    spent: int

    def pass_(self) -> Permit:
        if self.m.forced != "disabled":
            full = self.m.full(self.policy, self.now)
            if full:
                return self.refuse(*full)
            self.m.take_room(self.policy, self.now, self.token)
        return self.grant()

    def grant(self, ends: int | None = None, generation: int | None = None) -> Permit:
        self.m.allowed += 1
        if generation is None:
            generation = self.m.generation
        return Permit(
            granted=True,
            service=self.m.service,
            state=self.m.shown(),
            # Under an operator's word calls change nothing, also when it has ended meanwhile.
            generation=UNDER_ORDERS if self.m.forced else generation,
            token=self.token,
            probe=ends is not None,
            until=from_micros(ends),
            attempts=self.spent,
            shared=False,
            at_micros=self.now,
            policy=self.policy,
            order=self.m.order(),
            override=self.m.override,
        )

    def refuse(self, retry_at: int, reason: str) -> Permit:
        if self.policy.observe_only and self.m.forced != "open":
            self.m.would_block += 1
            return self.grant(generation=None if self.m.state == "closed" else UNDER_ORDERS)
        self.m.blocked += 1
        return Permit(
            granted=False,
            service=self.m.service,
            state=self.m.shown(),
            generation=self.m.generation,
            retry_at=from_micros(max(retry_at, self.now + 1)),
            reason=Reason(reason),
            attempts=self.spent,
            shared=False,
            at_micros=self.now,
            policy=self.policy,
            order=self.m.order(),
            override=self.m.override,
        )


def _latest_of(leases: dict[str, int], owner: str) -> str:
    """The latest permit of a task whose process was lost, '' if it had none."""
    own = [(ends, token) for token, ends in leases.items() if owner and token.partition(":")[2] == owner]
    return max(own)[1] if own else ""


def _is_known(finding: Finding) -> bool:
    """Whether somebody knows what failed, and it is no guess."""
    return bool(finding.owner and finding.subject) and not finding.guessed


def _is_own(m: _Machine, finding: Finding) -> bool:
    about = finding.subject if finding.owner else ""
    return finding.verdict is Verdict.FAILURE and about != "" and (not finding.guessed or m.subject == about)


def _count(m: _Machine, finding: Finding, *, probe: bool, gone: int, own: bool) -> tuple[int, int]:
    verdict, owner = finding.verdict, finding.owner
    if not owner:
        return 0, 0
    asked = finding.max_attempts == ASKED
    tried = verdict is Verdict.FAILURE or gone == STOPPED
    spent = m.attempts.pop(owner, 0) + (tried and (own or not probe) and not asked)
    losses = m.losses.pop(owner, 0) + (gone == LOST)
    shut = m.shown().shut and not own
    again = verdict is Verdict.FAILURE and (asked or shut or spent < finding.max_attempts)
    if gone or verdict is Verdict.HOLD or again:
        m.attempts[owner], m.losses[owner] = spent, losses
    return spent, losses


def _is_slow(policy: Policy, verdict: Verdict, now: int, granted: int) -> bool:
    if policy.slow_call_seconds is None or verdict not in (Verdict.SUCCESS, Verdict.FAILURE) or not granted:
        return False
    return now - granted > micros_in(policy.slow_call_seconds)


def _apply(m: _Machine, now: int, policy: Policy, finding: Finding, granted: int, *, slow: bool) -> None:
    verdict, failed = finding.verdict, finding.verdict is Verdict.FAILURE
    if verdict is Verdict.SUCCESS:
        m.good_key = finding.key
        m.doubted.pop(finding.key, None)
    if verdict is Verdict.IGNORED:
        return
    if verdict is Verdict.HOLD:
        _hold(m, now, finding)
    elif m.state == "half_open":
        _probed(m, now, policy, finding, slow=slow)
    else:
        ramp = m.ramp_step(policy, now)
        if failed and ramp and 0 < granted <= m.pulled_back:
            return
        if failed:
            m.count_failure(finding, policy.failure_threshold)
            m.pull_back(now, None if _is_known(finding) else ramp)
        else:
            m.clear_failures()
        seen = _tally(m, now, policy, finding, slow=slow)
        reason = _tripped(m, now, policy, finding, seen, slow=slow)
        if reason:
            _trip(m, now, policy, reason, seen)


def _probed(m: _Machine, now: int, policy: Policy, finding: Finding, *, slow: bool) -> None:
    failed = finding.verdict is Verdict.FAILURE
    m.count_failure(finding, policy.failure_threshold)
    if failed and _is_known(finding) and not m.subjects_enough(policy.failure_threshold):
        return
    if failed or slow:
        _trip(m, now, policy, "failures" if failed else "slow_calls", Evidence(m.failures))
        return
    m.successes += 1
    m.subjects.clear()
    if m.successes >= policy.successes_needed:
        m.recover(policy, now)


def _hold(m: _Machine, now: int, finding: Finding) -> None:
    key, until = finding.key, now + micros_in(finding.hold_seconds)
    reason = finding.reason or Reason.RATE_LIMITED
    of_key = reason in (Reason.AUTH, Reason.TURNED_AWAY)
    tried = now >= m.doubted.get(key, 0) or (m.state == "half_open" and m.reason == reason)
    if reason is Reason.TURNED_AWAY and key in m.doubted and tried:
        reason = Reason.AUTH
    alone = of_key and m.good_key not in ("", key)
    if reason is Reason.AUTH:
        m.refused.add(key)
        m.doubted.pop(key, None)
        if not alone:
            m.good_key = ""
    elif reason is Reason.TURNED_AWAY:
        m.doubted.setdefault(key, until)
    if alone:
        return
    m.move(now, "open", reason, until)


def _trip(m: _Machine, now: int, policy: Policy, reason: str, evidence: Evidence) -> None:
    m.trips += 1
    m.reopened += m.state == "half_open"
    chance = random.random()  # noqa: S311 - spreads load, guards nothing
    m.move(now, "open", reason, now + policy.open_micros(m.reopened, chance), evidence=evidence)


def _tally(m: _Machine, now: int, policy: Policy, finding: Finding, *, slow: bool) -> Evidence:
    """Counts this call in the window; the window lies in ten buckets, each by the number of its time."""
    if policy.failure_rate is None and policy.slow_call_rate is None:
        return Evidence(m.failures)
    failed = finding.verdict is Verdict.FAILURE
    number = now // (micros_in(policy.window_seconds) // _BUCKETS)
    if failed or slow:
        who = finding.owner if finding.owner and finding.subject else "*"
        who = finding.subject if _is_known(finding) else who
        m.whose[number] = who if m.whose.get(number, who) == who else "*"
    bucket = m.window.setdefault(number, [0, 0, 0])
    for place, counts in enumerate((True, failed, slow)):
        bucket[place] += counts
    for old in [old for old in m.window if not number - _BUCKETS < old <= number]:
        del m.window[old]
        m.whose.pop(old, None)
    calls, fails, slows = map(sum, zip(*m.window.values(), strict=True))
    return Evidence(m.failures, calls, fails, slows)


def _tripped(
    m: _Machine, now: int, policy: Policy, finding: Finding, seen: Evidence, *, slow: bool
) -> str | None:
    """Why a closed circuit opens now; None: it stays."""
    failed = finding.verdict is Verdict.FAILURE
    if not (failed or slow) or not _confirmed(m, now, policy, finding.host):
        return None
    several = m.subject == "*" or policy.failure_threshold == 1
    if failed and m.failures >= policy.failure_threshold and several:
        return "failures"
    whose = set(m.whose.values())
    if not seen.calls or seen.calls < policy.minimum_calls or (len(whose) == 1 and "*" not in whose):
        return None
    if failed and policy.failure_rate is not None and seen.failed / seen.calls >= policy.failure_rate:
        m.met_by_several()
        return "failures"
    if slow and policy.slow_call_rate is not None and seen.slow / seen.calls >= policy.slow_call_rate:
        return "slow_calls"
    return None


def _confirmed(m: _Machine, now: int, policy: Policy, host: str) -> bool:
    """Have enough different hosts seen the trouble? This one has."""
    if policy.min_reporters == 1:
        return True
    m.reporters[host] = now
    oldest = now - micros_in(policy.window_seconds)
    m.reporters = {name: at for name, at in m.reporters.items() if at > oldest}
    return len(m.reporters) >= policy.min_reporters
