"""The worker's main process: parks what a circuit refuses before a pool process is touched.

Hooks, in the order a message meets them:
    ``strategy``                  on receipt
    ``ResilientRequest.revoked``  at dispatch: what was prefetched, rate-limited or had an ETA
    ``ResilientRequest.on_failure``  back from the pool, where the task itself was refused
The first two go by a snapshot at most a second old; the store has the last word in the act of parking.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.backends.base import DisabledBackend
from celery.exceptions import WorkerLostError
from celery.utils.functional import maybe_list
from celery.utils.log import get_logger
from celery.utils.nodenames import gethostname
from celery.worker import state as worker_state
from celery.worker.request import Request
from celery.worker.strategy import default as default_strategy
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2

from resilience.breaker import iso
from resilience.circuit import LOST, Circuit, CircuitState, Known, Permit, Reason, Report, Verdict
from resilience.errors import (
    ConfigurationError,
    ParkingLotError,
    StoreFullError,
    StoreUnavailableError,
    StoreUnreadableError,
)
from resilience.messages import ODD, tell
from resilience.parking import PUBLISHED_AGAIN, Lane, Stored, Taken, Waiting, expires_of
from resilience.policy import effective
from resilience.registry import get_circuit_breaker
from resilience.retrying import ASKED_FOR
from resilience.standby import REQUEUE_SECONDS, Standby
from resilience.states import ParkedStates
from resilience.task import NEVER_WAITS, Parked, ResilientTask, subject_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from celery import Celery

    from resilience.breaker import CircuitBreaker
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


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that cannot run now.

    Attributes:
        task: Its task.
        message: As it was delivered.
        wait: Why, and how it will wait.
        entry: As it will lie in the lot.
    """

    task: ResilientTask
    message: Any
    wait: Parked
    entry: Waiting

    @classmethod
    def of(cls, task: ResilientTask, message: Any, wait: Parked) -> Refusal | None:
        """None for a message that cannot be kept as JSON."""
        try:
            stored = wait.parks(message)
            entry = Waiting(stored, Lane(task.lane), wait.delay_seconds, wait.behind, task.group_of(stored))
        except ODD as error:
            logger.error("cannot park a message of %s, its headers are no JSON: %s", task.name, error)  # noqa: TRY400 - the message says it all
            return None
        return cls(task, message, wait, entry)

    @property
    def stored(self) -> Stored:
        """The message as it will be published again."""
        return self.entry.message


class Gate:
    """What the main process knows of the circuits, and how it parks.

    Args:
        app: The Celery app.
        store: Where circuits and lots live.

    Attributes:
        states: Writes what parked tasks wait for.
        sought: Revoked tasks that have been looked for in the lots and not been parked since.
    """

    def __init__(self, app: Celery, store: Store) -> None:
        self.app = app
        self.store = store
        self.consumer: Any = None
        self.standby = Standby(self)
        self.states = ParkedStates()
        self.sought: set[str] = set()
        self._pending: list[tuple[Refusal, Callable[[], object]]] = []
        self._gone: set[str] = set()
        self._shut: dict[str, Parked] = {}
        self._shut_until: dict[str, float] = {}
        self._idle_until: dict[str, float] = {}

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
        """Look at the circuits: one round trip."""
        circuits = self.store.read(self.services())
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
        return circuits

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
        if all(self._shut_until.get(service, 0) <= now for service in task.services):
            return None  # nearly always, and at no cost
        try:
            candidates = task.candidates(*args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever is wrong with them, the task itself says it
            return None
        # A service that is gone for good decides nothing: the task waits for the others, or fails.
        services = [service for service in candidates if service not in self._gone]
        if not services or any(self._shut_until.get(service, 0) <= now for service in services):
            return None
        return min((self._shut[service] for service in services), key=lambda wait: wait.retry_at)

    def park(self, task: ResilientTask, message: Any, wait: Parked, *, gate: bool) -> Taken:
        """State, then park; the caller acknowledges.

        Returns:
            Whether the message is PARKED, should run after all, or, NOT_NOW, cannot be parked at present. One
            there is no room for has ended in FAILURE: it is done with as if it were parked.
        """
        refusal = Refusal.of(task, message, wait)
        return self._park(wait.service, [refusal], gate=gate)[0] if refusal else Taken.LET_THROUGH

    def settle(self, message: Any, taken: Taken) -> bool:
        """Acknowledge what is parked, keep what cannot be now; False: it should run after all."""
        if taken is Taken.PARKED:
            # Directly: through the promise it costs five times as much on RabbitMQ.
            message.ack_log_error(logger, self.consumer.connection_errors)
        elif taken is Taken.NOT_NOW:
            self.standby.keep(message)
        return taken is not Taken.LET_THROUGH

    def park_soon(self, refusal: Refusal, otherwise: Callable[[], object]) -> None:
        """State, park, acknowledge, together with what arrives in the next moment.

        Args:
            refusal: What to park.
            otherwise: What to do if it should run after all.
        """
        if self.consumer.hub is None:  # the timer is another thread's: one by one
            self._park_and_acknowledge([(refusal, otherwise)])
            return
        self._pending.append((refusal, otherwise))
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
            self._park_and_acknowledge(pending)

    def _park_and_acknowledge(self, pending: list[tuple[Refusal, Callable[[], object]]]) -> None:
        def service(pair: tuple[Refusal, object]) -> str:
            return pair[0].wait.service

        for name, group in groupby(sorted(pending, key=service), key=service):
            some = list(group)
            told = self._park_each(name, [refusal for refusal, _ in some])
            for (refusal, otherwise), taken in zip(some, told, strict=True):
                try:
                    if not self.settle(refusal.message, taken):
                        otherwise()
                except Exception:  # the others are parked, and must be acknowledged
                    logger.exception("cannot end the delivery of %s", refusal.stored.id)

    def _park_each(self, service: str, refusals: Sequence[Refusal]) -> list[Taken]:
        """In one act, or, where one of them is in the way of that, one by one; none is forgotten."""
        try:
            return self._park(service, refusals, gate=True)
        except Exception:
            if len(refusals) > 1:
                return [taken for one in refusals for taken in self._park_each(service, [one])]
            logger.exception("cannot park %s for %s", refusals[0].stored.id, service)
            return [Taken.LET_THROUGH]

    def _park(self, service: str, refusals: Sequence[Refusal], *, gate: bool) -> list[Taken]:
        """All that wait for one service, in one act; for each as ``park``."""
        lot = self.store.lot
        if lot is None:
            return [Taken.NOT_NOW] * len(refusals)
        self._write_states(refusals)
        breaker = get_circuit_breaker(service)
        entries = [refusal.entry for refusal in refusals]
        # A task that comes back from a call has had its turn: there are few of them.
        called = any(entry.behind or entry.delay_seconds for entry in entries)
        spare = self.standby.watermark.reached and not called
        try:
            taken = lot.park(service, entries, breaker.policy, gate=gate, spare=spare, key=breaker.key)
        except StoreFullError as error:
            self.standby.full(error)
            return [Taken.NOT_NOW] * len(refusals)
        except StoreUnreadableError:  # of this circuit alone, and said
            return [Taken.NOT_NOW] * len(refusals)
        except StoreUnavailableError as error:
            logger.warning("cannot park %d tasks of %s: %s", len(entries), service, error)
            return [Taken.NOT_NOW] * len(refusals)
        return [
            self._became(refusal, what, breaker.policy, gate=gate)
            for refusal, what in zip(refusals, taken, strict=True)
        ]

    def _became(self, refusal: Refusal, taken: Taken, policy: Policy, *, gate: bool) -> Taken:
        wait = refusal.wait
        if taken is Taken.PARKED:
            self.sought.discard(refusal.stored.id)  # it may have been revoked on its way here
            if bears_revoked_stamp(refusal.stored.fields):
                worker_state.revoked.add(refusal.stored.id)
            self._send_event(refusal.stored, wait)
            # Where calls must keep to a pace, the next may go though this one may not.
            if not gate and not wait.delay_seconds and wait.reason not in PACED:
                self._note(wait)
        elif taken is Taken.FULL:
            return self._turn_away(refusal.stored, wait.service, policy)
        return taken

    def _turn_away(self, stored: Stored, service: str, policy: Policy) -> Taken:
        """There is no room for it: it ends in FAILURE, which is better than to fill the store up."""
        problem = (
            f"its parking lot is full ({policy.max_parked} tasks or {policy.max_parked_bytes} bytes): "
            "send less to it, give tasks a time limit with expires, or raise the policy's limit"
        )
        try:
            get_circuit_breaker(service).forget(stored.id)
            ResilientRequest.of(self, stored).fail(ParkingLotError(service, problem))
        except Exception:
            logger.exception("cannot end %s", stored.id)
            return Taken.LET_THROUGH
        return Taken.PARKED

    def end_unreadable(self, service: str, message: Stored) -> None:
        """Of its message nothing is left but its id: whoever waits for its result is told."""
        logger.error("what waits for %s as %r cannot be read: %s", service, message.id, message.problem)
        problem = "what was stored of this task cannot be read: send it again"
        tell(self.app.backend, message.id, ParkingLotError(service, problem))

    def _note(self, wait: Parked) -> None:
        """A task has just been refused: no need to wait for the next look to know."""
        left = (wait.retry_at - datetime.now(UTC)).total_seconds()
        self._shut[wait.service] = wait
        self._shut_until[wait.service] = time.monotonic() + min(left, TICK_SECONDS)

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
        """Before parking: written later, they could overwrite a final one."""
        now = iso(datetime.now(UTC))
        batches: dict[Any, list[tuple[Stored, dict[str, Any]]]] = {}  # nearly always one backend
        for refusal in refusals:
            task, stored, wait = refusal.task, refusal.stored, refusal.wait
            if not (stored.fields.get("ignore_result") or task.ignore_result):
                meta = {
                    "service": wait.service,
                    "reason": wait.reason,
                    "retry_at": iso(wait.retry_at),
                    "since": now,
                    "verdict": wait.label,
                }
                batches.setdefault(task.backend, []).append((stored, meta))
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


def gate_of(app: Celery) -> Gate:
    """The app's gate.

    Raises:
        ConfigurationError: When ``resilience.install(app)`` was not called.
    """
    gate = getattr(app, "resilience_gate", None)
    if gate is None:
        raise ConfigurationError(
            f"app {app.main!r} has resilient tasks: call resilience.install(app) where the app is made"
        )
    return gate  # type: ignore[no-any-return]  # an attribute of an untyped object


def strategy(task: ResilientTask, app: Celery, consumer: Any) -> Callable[..., Any]:
    """Celery's hook for received messages: park what would be refused, pass on the rest."""
    handle = default_strategy(task, app, consumer)
    gate = gate_of(app)

    def on_message(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any, **options: Any) -> Any:
        if body is not None or not isinstance(message.payload, (list, tuple)):
            return handle(message, body, ack, reject, callbacks, **options)
        wait = gate.refuses(task, message.payload[0], message.payload[1])
        run = partial(handle, message, body, ack, reject, callbacks, **options)
        refusal = Refusal.of(task, message, wait) if wait and _plain(message) else None
        if refusal is None:
            return run()
        gate.park_soon(refusal, otherwise=run)
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


class ResilientRequest(Request):
    """A message on its way through the pool."""

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        if message.headers.get(PUBLISHED_AGAIN):
            # worker_deduplicate_successful_tasks goes by this, which otherwise only a broker sets.
            self.delivery_info["redelivered"] = True

    def revoked(self) -> bool:
        """Called right before the pool gets the task; True frees the slot."""
        gate = gate_of(self.app)
        if super().revoked():
            return True
        wait = gate.refuses(self.task, self.args, self.kwargs)
        taken = gate.park(self.task, self.message, wait, gate=True) if wait else Taken.LET_THROUGH
        if not gate.settle(self.message, taken):
            return False
        worker_state.task_ready(self)
        # So that Celery neither acknowledges it again nor asks a second time.
        self.acknowledged = self._already_revoked = True
        return True

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: FBT001, FBT002 - Celery's signature
        """Park what the task itself could not get through; the rest is Celery's."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, Parked):
            worker_state.task_ready(self)
            self._park(error)
            return None
        lost = isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt))
        stopping = worker_state.should_terminate or worker_state.should_stop
        if lost and not stopping and not self._success_was_stored():
            return self._on_lost(error)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> Any:  # noqa: FBT001 - Celery's signature
        """A hard time-out is a failure of the service."""
        if soft:
            return super().on_timeout(soft, timeout)
        self._report_lost()
        self._forget()
        return super().on_timeout(soft, timeout)

    @classmethod
    def of(cls, gate: Gate, stored: Stored) -> ResilientRequest:
        """The original request of a parked message, to end it.

        Raises:
            Exception: For a message Celery would refuse to read, or another app's.
        """
        message = stored.restore(gate.app.conf.accept_content)
        options: dict[str, Any] = {}
        if isinstance(message.payload, dict):  # of the protocol before the present one, as Celery reads it
            convert = hybrid_to_proto2 if "args" in message.payload else proto1_to_proto2
            names = ("body", "headers", "decoded", "utc")
            options = dict(zip(names, convert(message, message.payload), strict=True))
        return cls(
            message,
            app=gate.app,
            # An operator's command is no worker.
            hostname=gate.consumer.hostname if gate.consumer else gethostname(),
            eventer=gate.consumer.event_dispatcher if gate.consumer else None,
            task=gate.app.tasks[stored.fields["task"]],
            **options,
        )

    def revoke(self, reason: str) -> None:
        """REVOKED, as Celery ends what expired in a queue: chords are told. The lot is told by its lease."""
        try:
            super()._announce_revoked(reason, False, None, reason == "expired")  # noqa: FBT003 - Celery's, positional
        except ODD:
            logger.exception("%s[%s]: what is to follow it is malformed", self.name, self.id)
            if self.store_errors:
                self.task.backend.mark_as_revoked(self.id, reason)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:  # noqa: FBT001 - Celery's signature
        """Celery's, for what is revoked or has expired when its turn comes, or while it runs."""
        self._forget()  # it may have been released to try the circuit
        super()._announce_revoked(reason, terminated, signum, expired)

    def _on_lost(self, error: BaseException) -> None:
        """The task's process died: a failure of the service, and a try of the task. Too many end it."""
        worker_state.task_ready(self)
        report = self._report_lost()
        if report.losses >= self.task.max_losses:
            self._forget()
            self.fail(WorkerLostError(f"{report.losses} processes were lost with this task: {error}"))
            return
        reason = report.reason or Reason.FAILURES
        pause = self.task.backoff(report.losses)
        until = datetime.now(UTC) + timedelta(seconds=pause)
        self._park(Parked(self.task.service, reason, until, pause, behind=True))

    def _park(self, wait: Parked) -> None:
        """What comes back from the pool without an end: to the lot, or to the broker."""
        gate = gate_of(self.app)
        if gate.park(self.task, self.message, wait, gate=False) is Taken.PARKED:
            self.acknowledge()
        else:
            gate.give_back(self, wait)

    def fail(self, error: Exception) -> None:
        """FAILURE by the original request: errbacks run, chords are told."""
        try:
            self.task.backend.mark_as_failure(
                self.id, error, request=self._context, store_result=self.store_errors
            )
        except ODD:
            logger.exception("%s[%s]: what is to follow it is malformed", self.name, self.id)
            if self.store_errors:
                self.task.backend.mark_as_failure(self.id, error)
        self.acknowledge()
        signals.task_failure.send(
            sender=self.task,
            task_id=self.id,
            exception=error,
            args=self.args,
            kwargs=self.kwargs,
            traceback=None,
            einfo=None,
        )
        self.send_event("task-failed", exception=repr(error), traceback="")
        extra = {"task": self.name, "task_id": self.id, "service": self.task.service}
        logger.error("%s[%s]: %s", self.name, self.id, error, extra=extra)

    def _forget(self) -> None:
        """It ends: nothing is kept of it beside the circuits.

        Before its final state is written. Another copy of it, which did not see that state, may write PARKED
        over it and park: forgotten only then, it would be PARKED for ever, and nowhere.
        """
        for service in {*self.task.services, *self._candidates()}:
            get_circuit_breaker(service).forget(self.id)

    def _candidates(self) -> tuple[str, ...]:
        """The services it may use, as far as its arguments can be read."""
        try:
            return tuple(self.task.candidates(*self.args, **self.kwargs))
        except Exception:  # noqa: BLE001 - whatever is wrong with them, the task itself says it
            return tuple(self.task.services)

    def _report_lost(self) -> Report:
        """The permit died with its process; the store finds it by the task.

        Where the task could have been calling another service, nothing is said of any.
        """
        lost = Permit(granted=True, service=self.task.service, state=CircuitState.CLOSED, generation=LOST)
        own = {*self.task.services, *self._candidates()} == {self.task.service}
        verdict = Verdict.FAILURE if own else Verdict.IGNORED
        return get_circuit_breaker(self.task.service).report(
            lost,
            verdict,
            owner=self.id,
            max_attempts=self.task.max_attempts,
            detail="the process that called it was lost",
            subject=subject_of(self.task.name, self.args, self.kwargs),
        )
