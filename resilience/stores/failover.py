"""What stands in when the shared store is lost: the same machine, in this process.

One command may wait for the store's time-out; from then on nobody asks the store again until a
background thread has heard from it. A permit is reported to the machine that gave it; where that
cannot be, the verdict goes to the other one, which can still learn from a failure.

What this process has seen shut stays shut meanwhile, and if the store comes back without its memory,
the process reminds it.
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
from resilience.circuit import LOST, UNDER_ORDERS, Finding, Known, Verdict, to_micros
from resilience.errors import StoreUnavailableError
from resilience.policy import MICROSECONDS
from resilience.stores.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from resilience.circuit import Circuit, CircuitState, History, Permit, Report, Transition
    from resilience.parking import ParkingLot
    from resilience.policy import Policy
    from resilience.stores.memory import MemoryStore
    from resilience.stores.redis import RedisStore

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the store last said of a circuit.

    Attributes:
        generation: Its era.
        policy: What it is decided by.
        known: If it is shut, so that the store can be reminded.
        ends: When ``known`` is over, on this process's monotonic clock.
    """

    generation: int = -1
    policy: Policy | None = None
    known: Known | None = None
    ends: float = 0

    @property
    def shut(self) -> Known | None:
        """What is still so."""
        return self.known if time.monotonic() < self.ends else None


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
            if self._seen.get(service, _NOTHING).known is None:
                viewed = self.views.acquire(service, policy, key)
                if viewed is not None:
                    return viewed
            with contextlib.suppress(StoreUnavailableError):
                permit = self.shared.acquire(service, policy, owner, key)
                self.views.asked(permit, key)
                known = self._forgotten(service, permit.generation)
                if known:
                    if permit:
                        self.shared.report(permit, policy, Finding(Verdict.IGNORED))
                    self.shared.remind(service, known)
                    permit = self.shared.acquire(service, policy, owner, key)
                self._see(
                    service, permit.generation, permit.state, permit, permit.at_micros, key, permit.policy
                )
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
                self._see(service, report.generation, report.state, report, report.at_micros, finding.key)
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

    def override(self, service: str, text: str, seconds: float, note: str, actor: str) -> None:
        """See ``Store.override``. An operator must know: raises StoreUnavailableError."""
        self.shared.override(service, text, seconds, note, actor)

    def remind(self, service: str, known: Known) -> None:
        """See ``Store.remind``; while the store is lost, the local one is told."""
        if self.up:
            with contextlib.suppress(StoreUnavailableError):
                self.shared.remind(service, known)
                return
        self.local.remind(service, known)

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
                forgotten = {name: self._forgotten(name, c.generation) for name, c in circuits.items()}
                reminded = {name: known for name, known in forgotten.items() if known}
                for name, known in reminded.items():
                    self.shared.remind(name, known)
                circuits |= self.shared.read(list(reminded))
                for name, c in circuits.items():
                    now = to_micros(c.read_at) if c.read_at else 0
                    self._see(name, c.generation, c.state, c, now, next(iter(c.refused_keys), ""))
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
        generation: int,
        state: CircuitState,
        told: Permit | Report | Circuit,
        now: int,
        key: str,
        policy: Policy | None = None,
    ) -> None:
        """Keep what the store has just said."""
        before = self._seen.get(service, _NOTHING)
        policy = policy or before.policy
        if not state.shut and before.known is None and (policy is before.policy or policy == before.policy):
            if generation not in (before.generation, UNDER_ORDERS):
                self._seen[service] = replace(before, generation=generation)
            return  # nearly always
        known, ends = (before.known, before.ends) if state.shut else (None, 0.0)
        if state.shut and told.retry_at and told.reason and now:
            known = Known(generation, told.retry_at, told.reason, key)
            # The store's time runs here by the time that has passed, not by this machine's clock.
            ends = time.monotonic() + (to_micros(told.retry_at) - now) / MICROSECONDS
        era = before.generation if generation == UNDER_ORDERS else generation
        self._seen[service] = _Seen(era, policy, known, ends)

    def _forgotten(self, service: str, generation: int) -> Known | None:
        """What the store should know and does not: its eras only go up, unless it lost its memory."""
        seen = self._seen.get(service)
        return seen.shut if seen and 0 <= generation < seen.generation else None

    def _alone(self, service: str, policy: Policy) -> Policy:
        """The policy for a machine that hears of no other host."""
        seen = self._seen.get(service)
        return _of_one_host(seen.policy if seen and seen.policy else policy)

    def _lose(self, error: StoreUnavailableError) -> None:
        """Told by the shared store's client at the first failure; a thread waits for its return."""
        with self._lock:
            if self._lost:
                return
            self.local.begin_anew()
            for service, seen in list(self._seen.items()):
                if seen.shut:
                    self._carry_over(service, seen, seen.shut)
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

    def _carry_over(self, service: str, seen: _Seen, known: Known) -> None:
        """What was shut a moment ago is no less so because nobody can be asked."""
        circuit = self.local.read([service])[service]
        left = timedelta(seconds=seen.ends - time.monotonic())
        retry_at = (circuit.read_at or datetime.now(UTC)) + left
        self.local.remind(service, replace(known, generation=circuit.generation + 1, retry_at=retry_at))

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


@lru_cache(maxsize=1024)
def _of_one_host(policy: Policy) -> Policy:
    return replace(policy, min_reporters=1)
