"""What stands in when the shared store is lost: the same machine, in this process.

One command may wait for the store's time-out; from then on nobody asks the store again until a
background thread has heard from it. A permit is reported to the machine that gave it; where that
cannot be, the verdict goes to the other one, which can still learn from a failure.

What this process has seen shut stays shut meanwhile, and if the store comes back without its memory,
the process reminds it; also of what an operator had said. That a store lost its memory shows: eras of a
circuit only go up, and once any operator has acted on it, that stays on record.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakMethod

from resilience import forks
from resilience.circuit import (
    LOST,
    UNDER_ORDERS,
    Circuit,
    Finding,
    Known,
    Report,
    Verdict,
    time_of,
    to_micros,
)
from resilience.errors import UNREADABLE, ConfigurationError, StoreUnavailableError
from resilience.policy import MICROSECONDS, laid_down, micros_in, override_stages
from resilience.stores.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resilience.circuit import History, Order, Permit, Transition
    from resilience.parking import ParkingLot
    from resilience.policy import Change, Policy
    from resilience.stores.memory import MemoryStore
    from resilience.stores.redis import RedisStore

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
# An operator's word is believed for so long after it was seen to hold: who asks more rarely may have missed
# its end.
BELIEVED_SECONDS = 600.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the store last said of a circuit.

    Attributes:
        generation: Its era.
        known: If it is shut, so that the store can be reminded.
        ends: When ``known`` is over, on this process's monotonic clock.
        order: An operator's word, if one lies over it.
        override: The fleet's override of its policy, and its stages.
        stages: See ``override``.
        at: When an operator's word was last seen, on the store's clock.
        seen: The same on this process's monotonic clock.
    """

    generation: int = -1
    known: Known | None = None
    ends: float = 0
    order: Order | None = None
    override: str = ""
    stages: tuple[tuple[int, str], ...] = ()
    at: int = 0
    seen: float = 0

    @property
    def shut(self) -> Known | None:
        """What is still so."""
        return self.known if time.monotonic() < self.ends else None

    @property
    def plain(self) -> bool:
        """Whether there is nothing a store would have to be reminded of."""
        return self.known is None and self.order is None and not self.override

    @property
    def now(self) -> int:
        """The store's clock, by the time that has passed here."""
        return self.at + micros_in(time.monotonic() - self.seen)

    @property
    def ordered(self) -> Order | None:
        """An operator's word that still holds."""
        return self.order if self.order and self.now < self.order.until else None

    @property
    def changed(self) -> dict[str, Change]:
        """Changes of the policy that still hold."""
        if not self.override:
            return {}
        now = self.now
        return {name: one for name, one in laid_down(self.override).items() if now < one.until}


_NOTHING = _Seen()


class FailoverStore:
    """The shared store while it answers, the local one while it does not.

    Args:
        shared: The fleet's store.
        local: This process's stand-in.
    """

    def __init__(self, shared: RedisStore, local: MemoryStore) -> None:
        self.shared = shared
        self.local = local
        self.views = Views(shared.scripts)
        self._seen: dict[str, _Seen] = {}
        self._lost_at = 0.0
        lose = WeakMethod(self._lose)  # or a store that nobody has would keep its connections
        shared.scripts.on_lost = lambda error: _call(lose(), error)
        forks.begin_anew(self)

    def begin(self) -> None:
        """A child finds out for itself whether the store is lost: none of its threads looks."""
        self._lost = False
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._check: threading.Thread | None = None
        self._checks_at = 0.0

    @property
    def lot(self) -> ParkingLot | None:
        """The shared lot, None while the store is known to be lost."""
        return self.shared.lot if self.up else None

    @property
    def up(self) -> bool:
        """Whether the shared store answered when last asked."""
        if not self._lost:
            return True
        self._watch()
        return False

    def acquire(self, service: str, policy: Policy, owner: str = "", key: str = "") -> Permit:
        """See ``Store.acquire``; never raises for a lost store."""
        if self.up:
            if self._seen.get(service, _NOTHING).plain:
                viewed = self.views.acquire(service, policy, key)
                if viewed is not None:
                    return viewed
            with contextlib.suppress(StoreUnavailableError):
                permit = self.shared.acquire(service, policy, owner, key)
                self.views.asked(permit, key)
                if self._lacks(service, permit) and self._reminds(service):
                    if permit:
                        self.shared.report(permit, policy, Finding(Verdict.IGNORED))
                    permit = self.shared.acquire(service, policy, owner, key)
                self._see(service, permit, permit.at_micros, key, policy)
                return permit
        return self.local.acquire(service, self._alone(service, policy), owner, key)

    def report(self, permit: Permit, policy: Policy, finding: Finding) -> Report:
        """See ``Store.report``; never raises for a lost store, so a provider's result is never lost."""
        service = permit.service
        if permit.viewed and finding.verdict is Verdict.SUCCESS and self.up:
            told = self.views.success(permit)
            if told is not None:
                return told
        if permit.shared and self.up:
            with contextlib.suppress(StoreUnavailableError):
                report = self.shared.report(permit, policy, finding)
                self._see(service, report, report.at_micros, finding.key)
                return report
        if permit.shared:  # the local machine never gave it: let it count as evidence while closed
            permit = replace(permit, generation=LOST, probe=False)
        return self.local.report(permit, self._alone(service, policy), finding)

    def forget(self, service: str, owner: str) -> None:
        """See ``Store.forget``; never raises for a lost store."""
        if self.up:
            with contextlib.suppress(StoreUnavailableError):
                self.shared.forget(service, owner)
        self.local.forget(service, owner)

    def control(self, service: str, act: str, seconds: float, note: str, actor: str) -> None:
        """See ``Store.control``. An operator must know: raises StoreUnavailableError."""
        self.shared.control(service, act, seconds, note, actor)

    def override(
        self, service: str, seen: str | None, stages: Sequence[tuple[int, str]], note: str, actor: str
    ) -> bool:
        """See ``Store.override``. An operator must know: raises StoreUnavailableError."""
        return self.shared.override(service, seen, stages, note, actor)

    def restore(
        self, service: str, order: Order | None, stages: Sequence[tuple[int, str]], note: str, actor: str
    ) -> None:
        """See ``Store.restore``."""
        (self.shared if self.up else self.local).restore(service, order, stages, note, actor)

    def remind(self, service: str, known: Known) -> None:
        """See ``Store.remind``; while the store is lost, the local one is told."""
        if self.up:
            with contextlib.suppress(StoreUnavailableError):
                self.shared.remind(service, known)
                return
        self.local.remind(service, known)

    def remove(self, service: str) -> int:
        """See ``Store.remove``. An operator must know: raises StoreUnavailableError."""
        parked = self.shared.remove(service)
        if parked <= 0:
            self._seen.pop(service, None)
            self.local.remove(service)
        return parked

    def transitions(self, services: Sequence[str]) -> list[Transition]:
        """See ``Store.transitions``; none while the store is lost."""
        if self.up:
            with contextlib.suppress(StoreUnavailableError):
                return self.shared.transitions(services)
        return []

    def heard(self, transitions: Sequence[Transition]) -> None:
        """See ``Store.heard``; unheard, they are handed out again."""
        with contextlib.suppress(StoreUnavailableError):
            self.shared.heard(transitions)

    def read(self, services: Sequence[str]) -> dict[str, Circuit]:
        """See ``Store.read``; the local circuits, marked ``shared=False``, while the store is lost."""
        if self.up:
            with contextlib.suppress(StoreUnavailableError):
                circuits = _readable(self.shared.circuits(services))
                circuits |= self.shared.read([name for name, c in circuits.items() if self._remind(name, c)])
                for name, c in circuits.items():
                    now = to_micros(c.read_at) if c.read_at else 0
                    self._see(name, c, now, next(iter(c.refused_keys), ""))
                return circuits | self.local.read([name for name in services if name not in circuits])
        return self.local.read(services)

    def history(self, services: Sequence[str], most: int) -> dict[str, History]:
        """See ``Store.history``; this process's own while the store is lost."""
        if self.up:
            with contextlib.suppress(StoreUnavailableError):
                found = _readable(self.shared.histories(services, most))
                return found | self.local.history([name for name in services if name not in found], most)
        return self.local.history(services, most)

    def _see(
        self,
        service: str,
        told: Permit | Report | Circuit,
        now: int,
        key: str,
        policy: Policy | None = None,
    ) -> None:
        """Keep what the store has just said; a report says nothing of an operator's word."""
        before = self._seen.get(service, _NOTHING)
        generation, state = told.generation, told.state
        word = before if isinstance(told, Report) else told
        if not state.shut and before.plain and word.order is None and not word.override:
            if generation not in (before.generation, UNDER_ORDERS):
                self._seen[service] = replace(before, generation=generation)
            return  # nearly always
        known, ends = (before.known, before.ends) if state.shut else (None, 0.0)
        if state.shut and told.retry_at and told.reason and now and word.order is None:
            known = Known(generation, told.retry_at, told.reason, key)
            # The store's time runs here by the time that has passed, not by this machine's clock.
            ends = time.monotonic() + (to_micros(told.retry_at) - now) / MICROSECONDS
        era = before.generation if generation == UNDER_ORDERS else generation
        seen = replace(before, generation=era, known=known, ends=ends)
        if word is not before:
            seen = replace(seen, order=word.order, override=word.override, at=now, seen=time.monotonic())
            if isinstance(word, Circuit):
                seen = replace(seen, stages=word.override_stages)
            elif word.override != before.override and policy is not None:
                seen = replace(seen, stages=_stages(policy, word.override))
        self._seen[service] = seen

    def _lacks(self, service: str, permit: Permit) -> bool:
        """Whether the store knows less than it has told, as far as a permit shows; or an operator did it."""
        seen = self._seen.get(service, _NOTHING)
        if seen.plain:
            return False
        return bool(
            self._forgotten(seen, permit.generation)
            or (permit.order is None and seen.ordered)
            or (not permit.override and seen.changed)
        )

    def _reminds(self, service: str) -> bool:
        """Look at the circuit, and tell the store what it lacks; whether there was anything."""
        circuit = _readable(self.shared.circuits([service])).get(service)
        return circuit is not None and self._remind(service, circuit)

    def _remind(self, service: str, circuit: Circuit) -> bool:
        """Tell the store what it should know and does not; whether there was anything."""
        seen = self._seen.get(service, _NOTHING)
        known = self._forgotten(seen, circuit.generation)
        now = to_micros(circuit.read_at) if circuit.read_at else seen.now
        if known:  # until when is what is left by this process's clock: the store may have another one since
            left = micros_in(seen.ends - time.monotonic())
            self.shared.remind(service, replace(known, retry_at=time_of(now + left)))
        changed = seen.changed
        # Once an operator has acted, that is on record, unless the store lost its memory.
        said = not circuit.acted and (seen.ordered or changed) and self._believed(seen)
        if said:
            latest = next(reversed(changed.values()), None)
            by = (latest.note, latest.actor) if latest else ("", "")
            order, off = seen.ordered, now - seen.now
            order = order and replace(order, until=order.until + off)
            self.shared.restore(service, order, [(until + off, text) for until, text in seen.stages], *by)
        return bool(known or said)

    def _forgotten(self, seen: _Seen, generation: int) -> Known | None:
        """What the store should know and does not: its eras only go up, unless it lost its memory."""
        return seen.shut if 0 <= generation < seen.generation else None

    def _believed(self, seen: _Seen) -> bool:
        """While the store was away, nobody could end what had been said."""
        until = self._lost_at if self._lost_at > seen.seen else time.monotonic()
        return until - seen.seen < BELIEVED_SECONDS

    def _alone(self, service: str, policy: Policy) -> Policy:
        """The policy for a machine that hears of no other host, as far as it was changed for the fleet."""
        changed = self._seen.get(service, _NOTHING).changed
        if changed:
            with contextlib.suppress(ConfigurationError):  # of another release, or of other settings
                policy = policy.changed({name: one.value for name, one in changed.items()})
        return _of_one_host(policy)

    def _lose(self, error: StoreUnavailableError) -> None:
        """Told by the shared store's client at the first failure; a thread waits for its return."""
        with self._lock:
            if self._lost:
                return
            self._lost_at = time.monotonic()
            self.local.begin_anew()
            for service, seen in list(self._seen.items()):
                self._carry_over(service, seen)
            self._lost = True
        logger.error("%s; circuits are local to this process until it does", error)
        self._watch()

    def _watch(self) -> None:
        """Have somebody wait for its return; where no thread can be started now, at a later call."""
        now = time.monotonic()
        if now < self._checks_at or (self._check is not None and self._check.is_alive()):
            return
        with self._lock:
            if not self._lost or self._closing.is_set() or (self._check and self._check.is_alive()):
                return
            name = f"breaker-store-check {self.shared.scripts.address}"
            check = threading.Thread(target=self._await_return, name=name, daemon=True)
            try:
                check.start()
            except RuntimeError as error:
                self._checks_at = now + CHECK_SECONDS
                logger.warning("nobody looks whether the breaker store is back yet: %s", error)
            else:
                self._check = check

    def _carry_over(self, service: str, seen: _Seen) -> None:
        """What was shut a moment ago, or ordered, is no less so because nobody can be asked."""
        known, order = seen.shut, seen.ordered
        if not known and not order:
            return
        circuit = self.local.read([service])[service]
        now = circuit.read_at or datetime.now(UTC)
        if known:
            retry_at = now + timedelta(seconds=seen.ends - time.monotonic())
            self.local.remind(service, replace(known, generation=circuit.generation + 1, retry_at=retry_at))
        if order:
            left = order.until - seen.now
            self.local.restore(service, replace(order, until=to_micros(now) + left), (), "", "")

    def close(self) -> None:
        """Give up waiting for a lost store, and let go of the connections."""
        self._closing.set()
        self.views.close()
        self.shared.scripts.close()
        if self._check is not None:
            self._check.join()

    def _works(self) -> bool:
        try:
            return self.shared.scripts.works()
        except Exception:  # whatever it is, the store is not back, and nobody else would look
            logger.exception("the breaker store could not be looked at")
            return False

    def _await_return(self) -> None:
        while not self._works():
            if self._closing.wait(CHECK_SECONDS):
                return
        with self._lock:
            self._lost = False
        logger.warning("the breaker store at %s is back", self.shared.scripts.address)


def _call(method: Callable[[StoreUnavailableError], None] | None, error: StoreUnavailableError) -> None:
    if method is not None:
        method(error)


def _readable(found: Mapping[str, T | StoreUnavailableError]) -> dict[str, T]:
    """One that cannot be read takes none of the others along."""
    return {name: each for name, each in found.items() if not isinstance(each, StoreUnavailableError)}


def _stages(base: Policy, override: str) -> tuple[tuple[int, str], ...]:
    """An override's, by the policy of this process: they were made by the policy of whoever changed it."""
    try:
        return tuple(override_stages(base, laid_down(override)))
    except (ConfigurationError, *UNREADABLE):
        return ()


@lru_cache(maxsize=1024)
def _of_one_host(policy: Policy) -> Policy:
    return replace(policy, min_reporters=1)
