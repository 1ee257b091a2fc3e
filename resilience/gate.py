"""The worker's main process: parks what a circuit refuses before a pool process is touched.

Hooks, in the order a message meets them:
    ``strategy``                  on receipt
    ``ResilientRequest.revoked``  at dispatch: what was prefetched, rate-limited or had an ETA
    ``ResilientRequest.on_failure``  back from the pool, where the task itself was refused
The first two go by a snapshot at most a second old; the store has the last word in the act of parking.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from celery.backends.base import DisabledBackend
from celery.utils.functional import maybe_list
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from celery.worker.strategy import default as default_strategy

from resilience.background import Background
from resilience.breaker import iso
from resilience.circuit import Circuit, CircuitState, Known, Reason, Verdict
from resilience.errors import (
    ConfigurationError,
    ParkingLotError,
    StoreFullError,
    StoreUnavailableError,
    StoreUnreadableError,
)
from resilience.messages import ODD, tell
from resilience.parking import Lane, Stored, Taken, Waiting, expires_of
from resilience.policy import effective
from resilience.registry import CIRCUIT_BREAKERS, get_circuit_breaker, unknown, unregistered
from resilience.request import ResilientRequest, gate_of
from resilience.retrying import ASKED_FOR
from resilience.standby import REQUEUE_SECONDS, Standby
from resilience.states import ParkedStates
from resilience.supported import check_settings
from resilience.task import NEVER_WAITS, Parked, ResilientTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from celery import Celery

    from resilience.breaker import CircuitBreaker
    from resilience.parking import ParkingLot
    from resilience.policy import Policy
    from resilience.stores import Store

logger = get_logger(__name__)

# Why a message waits that says nothing of the next call.
PACED = frozenset({Reason.QUOTA, Reason.CONCURRENCY, Reason.RECOVERING, ASKED_FOR})
# As Redis counts; a Valkey tells which of these it is like. The scripts are tried on the oldest one too.
OLDEST_SERVER = (6, 2)
# How often the circuits are looked at, and the lots emptied.
TICK_SECONDS = 0.5
# Messages that arrive in a burst are parked together: how long the first waits for others, how many at most.
LINGER_SECONDS = 0.005
BATCH = 100
# A backend that is well answers in less: then no message waits for another turn of the loop.
PATIENCE_SECONDS = 0.005
# So many may wait for their state to be written; what comes then is parked without one.
MOST_WRITTEN = 1000
# A message that waits longer for its result backend makes room for another; for so many at once.
ROOM_SECONDS = 0.05
MOST_ROOM = 1000
# An end that cannot be written is tried again after a pause that doubles up to so many seconds.
LONGEST_PAUSE = 10.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that cannot run now.

    Attributes:
        task: Its task.
        message: As it was delivered.
        wait: Why, and how it will wait.
        entry: As it will lie in the lot.
        then: Told whether it is PARKED, should run after all, or, NOT_NOW, cannot be parked at present. One
            there is no room for has ended in FAILURE: it is done with as if it were parked.
        gate: It is parked only if the circuit refuses it at that moment.
    """

    task: ResilientTask
    message: Any
    wait: Parked
    entry: Waiting
    then: Callable[[Taken], object]
    gate: bool

    @classmethod
    def of(
        cls,
        task: ResilientTask,
        message: Any,
        wait: Parked,
        then: Callable[[Taken], object],
        *,
        gate: bool,
    ) -> Refusal | None:
        """None for a message that cannot be kept as JSON."""
        try:
            stored = wait.parks(message)
            entry = Waiting(stored, Lane(task.lane), wait.delay_seconds, wait.behind, task.group_of(stored))
        except ODD as error:
            logger.error("cannot park a message of %s, its headers are no JSON: %s", task.name, error)  # noqa: TRY400 - the message says it all
            return None
        return cls(task, message, wait, entry, then, gate)

    @property
    def stored(self) -> Stored:
        """The message as it will be published again."""
        return self.entry.message

    @property
    def has_state(self) -> bool:
        """Whether anybody can see what it waits for."""
        ignored = self.stored.fields.get("ignore_result") or self.task.ignore_result
        return not ignored and not isinstance(self.task.backend, DisabledBackend)


class Gate:
    """What the main process knows of the circuits, and how it parks.

    Args:
        app: The Celery app.
        store: Where circuits and lots live.

    Attributes:
        states: Writes what parked tasks wait for.
        writing: Where it does.
        ending: Where tasks end that end in the main process.
        sought: Revoked tasks that have been looked for in the lots and not been parked since.
    """

    def __init__(self, app: Celery, store: Store) -> None:
        self.app = app
        self.store = store
        self.consumer: Any = None
        self.standby = Standby(self)
        self.writing, self.ending = Background("states"), Background("ends")
        self.states = ParkedStates(self.writing.breathe)
        self.sought: set[str] = set()
        self._pending: list[Refusal] = []
        # What a consumer that is gone had in its hands is another's by now.
        self._era = 0
        self._written = self._rooms = 0
        self._gone: set[str] = set()
        self._shut: dict[str, Parked] = {}
        self._shut_until: dict[str, float] = {}
        self._idle_until: dict[str, float] = {}
        self._any_shut_until = 0.0
        self._app_name = app.main or ""
        self._own: frozenset[str] = frozenset()
        self._noted: set[str] = set()

    def services(self) -> list[str]:
        """Every circuit a task of this app is under."""
        tasks = (task for task in self.app.tasks.values() if isinstance(task, ResilientTask))
        return sorted({service for task in tasks for service in task.services})

    def shared_services(self) -> dict[str, set[str]]:
        """For each service those that some task may use instead."""
        shared: dict[str, set[str]] = {}
        for task in self.app.tasks.values():
            if isinstance(task, ResilientTask) and len(task.services) > 1:
                for service in task.services:
                    shared.setdefault(service, set()).update(task.services)
        return shared

    def check(self) -> None:
        """Refuse to work where a parked task, or its state, could vanish.

        Raises:
            ConfigurationError: It names the setting and the remedy.
        """
        expires = self.app.conf.result_expires
        check_settings(self.app)  # which are read now
        if strangers := unregistered(self.services()):
            known = [name for name in CIRCUIT_BREAKERS if name not in strangers]
            logger.warning(
                "tasks name circuits that nobody has registered; they have the default policy: %s",
                "; ".join(unknown(name, known) for name in strangers),
            )
        for service in self.services():
            if get_circuit_breaker(service).own_store not in (None, self.store):
                raise ConfigurationError(elsewhere(service))
        seconds = expires.total_seconds() if isinstance(expires, timedelta) else expires
        if seconds and not isinstance(self.app.backend, DisabledBackend):
            for service in self.services():
                wait = get_circuit_breaker(service).policy.max_parked_seconds
                if seconds < wait:
                    raise ConfigurationError(
                        f"result_expires={seconds:.0f} s is less than the {wait:.0f} s a task may wait for "
                        f"{service}: raise it, or lower the policy's max_parked_seconds"
                    )
        lot = self.store.lot
        version = lot.version() if lot else ()
        if lot and version and version < OLDEST_SERVER:
            raise ConfigurationError(
                f"the store at {lot.address} is Redis {'.'.join(map(str, version))}, which has no "
                f"XAUTOCLAIM: use {'.'.join(map(str, OLDEST_SERVER))} or newer, or Valkey"
            )
        policy = lot.eviction() if lot else ""
        if policy.startswith("allkeys"):
            raise ConfigurationError(
                f"the store's maxmemory-policy is {policy}: it could throw parked tasks away; "
                "set noeviction, in a server of its own"
            )

    def refresh(self) -> dict[str, Circuit]:
        """Look at the circuits, and at whatever else has a lot: two round trips."""
        own, lot = self.services(), self.store.lot
        if lot is not None:
            with contextlib.suppress(StoreUnavailableError):
                self._noted = {name for name in lot.noted(self._app_name) if is_name(name)}
        circuits = self.store.read(sorted({*own, *self._noted}))
        self._own = frozenset(own)
        if lot is not None:
            self._note_lots(lot, circuits)
        self._gone = {name for name, circuit in circuits.items() if circuit.reason in NEVER_WAITS}
        self._shut_until = {
            name: _shut_until(circuit, get_circuit_breaker(name)) for name, circuit in circuits.items()
        }
        # Though fresh messages are refused, the lot may send some: then whoever comes must be looked at.
        self._idle_until = self._shut_until | {
            name: _shut_until(replace(circuit, parked_ready=0), get_circuit_breaker(name))
            for name, circuit in circuits.items()
            if circuit.parked_ready
        }
        self._shut = {
            name: _wait_at(circuit, get_circuit_breaker(name)) for name, circuit in circuits.items()
        }
        self._any_shut_until = max(self._shut_until.values(), default=0)
        return circuits

    def _note_lots(self, lot: ParkingLot, circuits: dict[str, Circuit]) -> None:
        """Keep the list of lots: after a restart, or where services are named anew, it is all that is known.

        A lot is noted after a message is parked, and before that is acknowledged; so one that was filled
        while it was struck off is seen here.
        """
        shared = {name: circuit for name, circuit in circuits.items() if circuit.shared}
        try:
            for name, circuit in shared.items():
                if circuit.parked and name not in self._noted:
                    lot.note(self._app_name, name)
                elif name in self._noted and not circuit.parked:
                    lot.strike(self._app_name, name)
                    if self.store.read([name])[name].parked:
                        lot.note(self._app_name, name)
        except StoreUnavailableError as error:
            logger.warning("lots not noted: %s", error)  # at the next look

    def lets(self, service: str) -> bool:
        """Whether a task may go there now, as far as this process knows."""
        return service not in self._gone and self._shut_until.get(service, 0) <= time.monotonic()

    def idle(self, services: Iterable[str]) -> bool:
        """Whether no task under these circuits can run now, wherever it comes from, as far as is known."""
        now = time.monotonic()
        waited_for = [service for service in services if service not in self._gone]
        return bool(waited_for) and all(self._idle_until.get(service, 0) > now for service in waited_for)

    def newly_revoked(self) -> list[str]:
        """Tasks this worker has been told to revoke, which it forgets after hours, but for those sought."""
        if not worker_state.revoked:
            return []
        revoked = worker_state.revoked.as_dict().keys()
        self.sought &= revoked
        return sorted(revoked - self.sought)

    def refuses(self, task: ResilientTask, args: Any, kwargs: Any) -> Parked | None:
        """Where the task would wait if it cannot run now, as far as this process knows."""
        now = time.monotonic()
        if self._any_shut_until <= now:
            return None  # nearly always, and at no cost
        # Who chooses by the arguments may choose a service that is not among its own.
        plain = getattr(task.candidates, "__func__", None) is ResilientTask.candidates
        if plain and all(self._shut_until.get(service, 0) <= now for service in task.services):
            return None
        try:
            candidates = task.services_for(args, kwargs)
        except Exception:  # noqa: BLE001 - whatever is wrong with them, the task itself says it
            return None
        # A service that is gone for good decides nothing: the task waits for the others, or fails.
        services = [service for service in candidates if service not in self._gone]
        if not services or any(self._shut_until.get(service, 0) <= now for service in services):
            return None
        return min((self._shut[service] for service in services), key=lambda wait: wait.retry_at)

    def start(self, consumer: Any) -> None:
        """There is a loop, this consumer's."""
        self.consumer, self.states.worker = consumer, consumer.hostname
        for thread in (self.writing, self.ending):
            thread.attach(consumer)

    def stop(self) -> None:
        """The loop ends; the broker gives to others what is still in this worker's hands."""
        self.flush()
        for thread in (self.writing, self.ending):
            thread.detach()
        self._era += 1
        self._written = self._rooms = 0

    def tick(self) -> None:
        """Nobody waits for a backend that hangs: what is not being written this moment goes without a state.

        What is must not be able to run meanwhile: written late, its state could replace a final one.
        """
        if self.writing.hangs:
            self.writing.skip()

    def park(
        self, task: ResilientTask, message: Any, wait: Parked, then: Callable[[Taken], object], *, gate: bool
    ) -> bool:
        """State, then park; what ``then`` is told is in ``Refusal``. False: it cannot be kept."""
        refusal = Refusal.of(task, message, wait, then, gate=gate)
        if refusal is not None:
            self._write_and_park([refusal])
        return refusal is not None

    def park_soon(self, refusal: Refusal) -> None:
        """The same, together with what arrives in the next moment."""
        if self.consumer.hub is None:  # the timer is another thread's: one by one
            self._write_and_park([refusal])
            return
        self._pending.append(refusal)
        if len(self._pending) >= BATCH or self._is_last(refusal.message):
            self.flush()
        elif len(self._pending) == 1:
            self.consumer.timer.call_after(LINGER_SECONDS, self.flush)

    def _is_last(self, message: Any) -> bool:
        """Whether the broker sends no more before something is acknowledged, as far as anybody knows."""
        qos = getattr(message.channel, "qos", None)
        full = qos is not None and not qos.can_consume()
        return full or 0 < self.consumer.qos.value <= len(self._pending)

    def flush(self) -> None:
        """Park what is pending."""
        pending, self._pending = self._pending, []
        if pending:
            self._write_and_park(pending)

    def _write_and_park(self, refusals: Sequence[Refusal]) -> None:
        """In this order: written later, a state could replace a final one."""
        told: list[Refusal] = []
        rest: list[Refusal] = []
        ready = not self.writing.hangs and self._written < MOST_WRITTEN
        for refusal in refusals:
            tells = ready and refusal.has_state and not self.states.rests(refusal.task.backend)
            (told if tells else rest).append(refusal)
        self._park_all(rest)
        if not told:
            return
        era, enough, written = self._era, None, False
        self._written += len(told)

        def then(_error: Exception | None) -> None:
            nonlocal written
            if era == self._era:
                written = True
                self._written -= len(told)
                if enough:
                    enough()
                self._park_all(told)

        self.writing.do(partial(self._write_states, told), then, PATIENCE_SECONDS)
        if not written:
            enough = self.make_room(len(told))

    def make_room(self, count: int) -> Callable[[], None]:
        """For messages that stay unacknowledged: if that takes long, others come although they do.

        Returns:
            To be called when it is over.
        """
        if self.consumer is None:
            return lambda: None
        qos, room = self.consumer.qos, 0

        def widen() -> None:
            nonlocal room
            # Up to worker_eta_task_limit, which is what bounds such messages elsewhere.
            before = qos.value
            room = max(qos.increment_eventually(min(count, MOST_ROOM - self._rooms)) - before, 0)
            self._rooms += room

        def over() -> None:
            timer.cancel()
            if room:
                self._rooms -= room
                qos.decrement_eventually(room)

        timer = self.consumer.timer.call_after(ROOM_SECONDS, widen)
        return over

    def finish(
        self, request: ResilientRequest, end: Callable[[], object], then: Callable[[], object]
    ) -> None:
        """Have the end of a task written, then go on. Until then its message stays unacknowledged."""
        era, enough, pause = self._era, self.make_room(1), 1.0

        def done(error: Exception | None) -> None:
            nonlocal pause
            if era != self._era:
                return
            if error is None:
                enough()
                then()
                return
            logger.warning("cannot end task %s now: %r", request.id, error)
            if self.consumer is not None:
                self.consumer.timer.call_after(pause, self.ending.do, (end, done))
            pause = min(pause * 2, LONGEST_PAUSE)

        self.ending.do(end, done)

    def _park_all(self, refusals: Sequence[Refusal]) -> None:
        def where(refusal: Refusal) -> tuple[str, bool]:
            return refusal.wait.service, refusal.gate

        for (service, gate), group in groupby(sorted(refusals, key=where), key=where):
            some, breaker = list(group), get_circuit_breaker(service)
            if breaker.own_store not in (None, self.store):
                # It would be let go where its circuit is looked up here, and refused where that is.
                told, problem = [Taken.FULL] * len(some), elsewhere(service)
            else:
                told, problem = self._park_each(service, some, gate=gate), full(breaker.policy)
            for refusal, taken in zip(some, told, strict=True):
                try:
                    if taken is Taken.FULL:
                        self._turn_away(refusal, problem)
                    else:
                        refusal.then(taken)
                except Exception:  # the others are parked, and must be acknowledged
                    logger.exception("cannot go on with %s", refusal.stored.id)

    def _park_each(self, service: str, refusals: Sequence[Refusal], *, gate: bool) -> list[Taken]:
        """In one act, or, where one of them is in the way of that, one by one; none is forgotten."""
        try:
            return self._park(service, refusals, gate=gate)
        except Exception:
            if len(refusals) > 1:
                return [taken for one in refusals for taken in self._park_each(service, [one], gate=gate)]
            logger.exception("cannot park %s for %s", refusals[0].stored.id, service)
            return [Taken.LET_THROUGH]

    def _park(self, service: str, refusals: Sequence[Refusal], *, gate: bool) -> list[Taken]:
        """All that wait for one service, in one act."""
        lot = self.store.lot
        if lot is None:
            return [Taken.NOT_NOW] * len(refusals)
        breaker = get_circuit_breaker(service)
        entries = [refusal.entry for refusal in refusals]
        # A task that comes back from a call has had its turn: there are few of them.
        called = any(entry.behind or entry.delay_seconds for entry in entries)
        spare = self.standby.watermark.reached and not called
        try:
            taken = lot.park(service, entries, breaker.policy, gate=gate, spare=spare, key=breaker.key)
            if service not in self._own and Taken.PARKED in taken:
                lot.note(self._app_name, service)
        except StoreFullError as error:
            self.standby.full(error)
            return [Taken.NOT_NOW] * len(refusals)
        except StoreUnreadableError:  # of this circuit alone, and said
            return [Taken.NOT_NOW] * len(refusals)
        except StoreUnavailableError as error:
            logger.warning("cannot park %d tasks of %s: %s", len(entries), service, error)
            return [Taken.NOT_NOW] * len(refusals)
        for refusal, what in zip(refusals, taken, strict=True):
            if what is Taken.PARKED:
                self._parked(refusal)
        return taken

    def _parked(self, refusal: Refusal) -> None:
        wait = refusal.wait
        self.sought.discard(refusal.stored.id)  # it may have been revoked on its way here
        if bears_revoked_stamp(refusal.stored.fields):
            worker_state.revoked.add(refusal.stored.id)
        self._send_event(refusal.stored, wait)
        # Where calls must keep to a pace, the next may go though this one may not.
        if not refusal.gate and not wait.delay_seconds and wait.reason not in PACED:
            self._note(wait)

    def _turn_away(self, refusal: Refusal, problem: str) -> None:
        """It cannot wait: it ends in FAILURE, which is better than to fill the store up, or to go round."""
        service, stored = refusal.wait.service, refusal.stored
        try:
            get_circuit_breaker(service).forget(stored.id)
            request = ResilientRequest.of(self, stored)
        except Exception:
            logger.exception("cannot end %s", stored.id)
            refusal.then(Taken.LET_THROUGH)
            return
        end = partial(request.fail, ParkingLotError(service, problem))
        self.finish(request, end, partial(refusal.then, Taken.PARKED))

    def end_unreadable(self, service: str, message: Stored) -> None:
        """Of its message nothing is left but its id: whoever waits for its result is told."""
        logger.error("what waits for %s as %r cannot be read: %s", service, message.id, message.problem)
        problem = "what was stored of this task cannot be read: send it again"
        tell(self.app, message.id, ParkingLotError(service, problem))

    def _note(self, wait: Parked) -> None:
        """A task has just been refused: no need to wait for the next look to know."""
        left = (wait.retry_at - datetime.now(UTC)).total_seconds()
        self._shut[wait.service] = wait
        self._shut_until[wait.service] = time.monotonic() + min(left, TICK_SECONDS)
        self._any_shut_until = max(self._any_shut_until, self._shut_until[wait.service])

    def settle(self, message: Any, taken: Taken) -> None:
        """Acknowledge what is parked, keep what cannot be now."""
        if taken is Taken.PARKED:
            # Directly: through the promise it costs five times as much on RabbitMQ.
            message.ack_log_error(logger, self.consumer.connection_errors)
        elif taken is Taken.NOT_NOW:
            self.standby.keep(message)

    def give_back(self, request: ResilientRequest, wait: Parked) -> None:
        """A pool process could not get it through, and it cannot be parked."""
        circuit = self.store.read([wait.service])[wait.service]
        if not circuit.shared:
            self._learn(wait, circuit)
        if self.standby.needed or wait.retries is not None:
            self.standby.keep(request.message, wait)
            request.acknowledged = True
        else:  # to its queue again, after a pause, so that nothing spins
            self.consumer.timer.call_after(REQUEUE_SECONDS, request.reject, (True,))

    def _learn(self, wait: Parked, circuit: Circuit) -> None:
        """What a pool process finds out while a circuit is local, it finds out for itself alone.

        Entered into this process's own circuit, it spares the others the same way. Here nobody hears of
        successes; so a task's own failure counts for no more than this process can tell: that it came right
        after the open time.
        """
        breaker = get_circuit_breaker(wait.service)
        if wait.reason in PACED:
            return
        now, call = circuit.read_at or datetime.now(UTC), breaker.policy.call_seconds
        tried = circuit.retry_at and timedelta() <= now - circuit.retry_at < timedelta(seconds=call)
        if circuit.state is CircuitState.OPEN and (tried or not wait.delay_seconds):
            permit = breaker.acquire()
            if permit.probe:
                breaker.report(permit, Verdict.FAILURE)
        elif circuit.state is CircuitState.CLOSED and not wait.delay_seconds and wait.reason:
            known = Known(circuit.generation + 1, wait.retry_at, Reason(wait.reason), breaker.key)
            self.store.remind(wait.service, known)
        self.refresh()

    def _write_states(self, refusals: Sequence[Refusal]) -> None:
        now = iso(datetime.now(UTC))
        batches: dict[Any, list[tuple[Stored, dict[str, Any]]]] = {}  # nearly always one backend
        for refusal in refusals:
            wait = refusal.wait
            meta = {
                "service": wait.service,
                "reason": wait.reason,
                "retry_at": iso(wait.retry_at),
                "since": now,
                "verdict": wait.label,
            }
            batches.setdefault(refusal.task.backend, []).append((refusal.stored, meta))
        for backend, batch in batches.items():
            self.states.write(backend, batch)

    def _send_event(self, stored: Stored, wait: Parked) -> None:
        """``task-retried``: Flower lets an event it does not know outrank even REVOKED, for ever."""
        events = self.consumer.event_dispatcher if self.consumer else None
        if events and events.enabled:
            fields = stored.fields
            events.send(
                "task-received",
                uuid=stored.id,
                name=fields.get("shadow") or fields.get("task"),
                args=fields.get("argsrepr"),
                kwargs=fields.get("kwargsrepr"),
                root_id=fields.get("root_id"),
                parent_id=fields.get("parent_id"),
                retries=fields.get("retries", 0),
                eta=fields.get("eta"),
                expires=fields.get("expires"),
            )
            events.send("task-retried", uuid=stored.id, exception=str(wait), traceback="")


def _wait_at(circuit: Circuit, breaker: CircuitBreaker) -> Parked:
    """How a message of this process would wait there."""
    reason = (
        Reason.AUTH if breaker.key in circuit.refused_keys else circuit.reason or _limit(circuit, breaker)
    )
    return Parked(circuit.service, reason, circuit.retry_at or datetime.now(UTC))


def _limit(circuit: Circuit, breaker: CircuitBreaker) -> Reason | None:
    """What calls must keep to while the circuit is closed: then what has waited goes first."""
    policy = effective(breaker.policy, circuit.override)
    if circuit.recovering_since:
        return Reason.RECOVERING
    if policy.quota_calls:
        return Reason.QUOTA
    return Reason.CONCURRENCY if policy.max_concurrent else None


def _shut_until(circuit: Circuit, breaker: CircuitBreaker) -> float:
    """Until when, on the monotonic clock, fresh messages of this process are refused; 0: they are not."""
    forced_open = circuit.state is CircuitState.FORCED_OPEN
    observed = effective(breaker.policy, circuit.override).observe_only and not forced_open
    if observed or circuit.state is CircuitState.DISABLED:
        return 0
    if breaker.key in circuit.refused_keys:
        return time.monotonic() + TICK_SECONDS * 2  # until the next look: no probe ends it
    if not circuit.state.shut and _limit(circuit, breaker) is None:
        return 0
    if circuit.parked_ready and not forced_open:
        return float("inf")  # probes come from the lot: until the next look
    # Half-open: whoever comes first tries it. Another key was refused: with this one it is tried at any time.
    if circuit.reason is Reason.AUTH or circuit.retry_at is None or circuit.read_at is None:
        return 0
    return time.monotonic() + (circuit.retry_at - circuit.read_at).total_seconds()


def is_name(service: str) -> bool:
    """Whether a circuit may be called so."""
    try:
        get_circuit_breaker(service)
    except ConfigurationError:
        return False
    return True


def full(policy: Policy) -> str:
    """What is wrong where a lot takes no more."""
    return (
        f"its parking lot is full ({policy.max_parked} tasks or {policy.max_parked_bytes} bytes): "
        "send less to it, give tasks a time limit with expires, or raise the policy's limit"
    )


def elsewhere(service: str) -> str:
    """What is wrong where a task's circuit has a store of its own."""
    return (
        f"the circuit breaker {service!r} has another store than its task's app, which parks in its own: "
        "leave store out of CircuitBreaker(), or give install() the same"
    )


def strategy(task: ResilientTask, app: Celery, consumer: Any) -> Callable[..., Any]:
    """Celery's hook for received messages: park what would be refused, pass on the rest."""
    handle = default_strategy(task, app, consumer)
    gate = gate_of(app)

    def on_message(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **options: Any) -> Any:
        if body is not None or not isinstance(message.payload, (list, tuple)):
            return handle(message, body, ack, reject, callbacks, **options)
        wait = gate.refuses(task, message.payload[0], message.payload[1])
        run = partial(handle, message, body, ack, reject, callbacks, **options)

        def then(taken: Taken) -> None:
            run() if taken is Taken.LET_THROUGH else gate.settle(message, taken)

        refusal = (
            Refusal.of(task, message, wait, then, gate=True) if wait is not None and _plain(message) else None
        )
        if refusal is None:
            return run()
        gate.park_soon(refusal)
        return None

    return on_message


def _plain(message: Any) -> bool:
    """Not revoked, expired or for later: those go Celery's way first."""
    headers = message.headers
    expires = headers.get("expires")
    if headers.get("eta") or headers["id"] in worker_state.revoked or bears_revoked_stamp(headers):
        return False
    return not expires or expires_of(headers) > time.time_ns() // 1000


def bears_revoked_stamp(fields: dict[str, Any]) -> bool:
    """Whether somebody has revoked what bears one of its stamps, as Celery's own ``revoked`` decides."""
    if not worker_state.revoked_stamps:
        return False  # nearly always
    stamps = fields.get("stamps") or {}
    for name in fields.get("stamped_headers") or ():
        revoked = maybe_list(worker_state.revoked_stamps.get(name)) or ()
        if any(stamp in revoked for stamp in maybe_list(stamps.get(name)) or ()):
            return True
    return False
