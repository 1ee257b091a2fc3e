"""The releaser: brings parked messages back when their circuit lets them. A timer in every worker.

Level-triggered: it looks again and again while anything is parked, so nothing is stranded by a missed
edge. A batch is leased, published, then deleted by its lease; a releaser killed in between leaves a
lease that lapses, and the batch is offered again.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from celery import bootsteps
from celery.utils.log import get_logger

from resilience.circuit import CircuitState
from resilience.ending import Ender, end
from resilience.errors import ResilienceError, StoreUnavailableError, StoreUnreadableError
from resilience.gate import TICK_SECONDS
from resilience.messages import guard
from resilience.outlet import Outlet
from resilience.policy import MICROSECONDS, effective, quota_interval
from resilience.registry import get_circuit_breaker
from resilience.request import ResilientRequest, gate_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from celery import Celery

    from resilience.circuit import Circuit
    from resilience.gate import Gate
    from resilience.parking import ParkingLot, Stored
    from resilience.stores import Store

logger = get_logger(__name__)

# A tick runs on the worker's event loop: healthy work waits no longer than this.
TICK_BUDGET_SECONDS = 0.05
BATCH = 100
# A task that went to another service and came back waits so long before it may go elsewhere again.
STAY_SECONDS = 60.0
SHORTEST_PAUSE_SECONDS = 0.02


class Releaser(bootsteps.StartStopStep):
    """Refreshes the gate and empties the lots, about twice a second."""

    requires: ClassVar[Any] = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self.timer_entry: Any = None
        self.outlet = Outlet(consumer.app, lambda: getattr(consumer, "connection", None))
        self.ender = Ender(consumer.app, self.outlet.problem)
        self._first = ""
        self._published: deque[tuple[str, str, list[str]]] = deque()
        self._moved: dict[str, float] = {}
        self._skip: dict[str, int] = {}
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Look once before the first message is received, then on the timer.

        Raises:
            ConfigurationError: Under these settings a parked task could be lost.
        """
        gate = gate_of(consumer.app)
        gate.start(consumer)
        guard(consumer)
        gate.check()
        gate.refresh()
        gate.standby.start()
        self.timer_entry = consumer.timer.call_repeatedly(TICK_SECONDS, self.tick, (gate,))

    def stop(self, consumer: Any) -> None:
        """Stop looking; whoever else runs goes on."""
        if self.timer_entry:
            self.timer_entry.cancel()
            self.timer_entry = None
        self._carefully(gate_of(consumer.app).stop)
        self.outlet.close()
        gate_of(consumer.app).standby.stop()

    def tick(self, gate: Gate) -> None:
        """One look. Never raises: the worker's loop would take it for a lost broker."""
        self._carefully(lambda: self.look(gate))

    def look(self, gate: Gate) -> None:
        """See how the circuits stand, and do for what waits all there is to do."""
        circuits = gate.refresh()
        gate.standby.tick()
        gate.tick()
        for step in (self.release, self.move_on):
            self._carefully(partial(step, gate, circuits))

    def between(self, gate: Gate, services: list[str], pause: float, until: float) -> None:
        """Another look, between two ticks, at services that let tasks go a few at a time."""
        began = time.monotonic()
        left: deque[str] = deque()
        self._carefully(
            lambda: left.extend(self._each(services, lambda name: self.release_batch(gate, name)))
        )
        in_turn = [*left, *(name for name in services if name not in left)]
        # However many they are, half of the loop's time is left for healthy work.
        self._look_again(gate, in_turn, max(pause, time.monotonic() - began), until)

    def _look_again(self, gate: Gate, services: list[str], pause: float, until: float) -> None:
        if time.monotonic() + pause < until and self.timer_entry:
            gate.consumer.timer.call_after(pause, self.between, (gate, services, pause, until))

    def _carefully(self, look: Callable[[], object]) -> None:
        try:
            look()
        except StoreUnavailableError as error:
            logger.warning("nothing released: %s", error)
        except Exception:
            logger.exception("nothing released")
            self.outlet.close()

    def release(self, gate: Gate, circuits: dict[str, Circuit]) -> None:
        """Empty the lots for at most TICK_BUDGET_SECONDS, each time beginning where the last one stopped."""
        if gate.store.lot is not None:
            self._settle(gate.store.lot)  # before they could be offered again
        names = sorted(name for name, circuit in circuits.items() if _may_stir(gate, circuit))
        start = bisect_left(names, self._first)
        in_turn = names[start:] + names[:start]
        self.ender.look(gate, in_turn, circuits)
        left = self._each(in_turn, lambda name: self.release_batch(gate, name))
        # Where all had their turn, another one is the first, lest the same be the last each time.
        self._first = next(iter(left or in_turn[1:]), "")
        pauses = {name: pause for name in names if (pause := _pause(circuits[name]))}
        if pauses:
            until = time.monotonic() + TICK_SECONDS
            self._look_again(gate, list(pauses), min(pauses.values()), until)

    def _each(self, names: Iterable[str], look: Callable[[str], int]) -> deque[str]:
        """Look at each, and again where there was much, while there is time; whose turn it is then."""
        pending = deque(names)
        ends = time.monotonic() + TICK_BUDGET_SECONDS
        while pending and time.monotonic() < ends:
            name = pending.popleft()
            if (self._try(name, look) or 0) >= BATCH:
                pending.append(name)
        return pending

    def _try(self, name: str, look: Callable[[str], int]) -> int | None:
        """What a look at a lot returns; None where it failed: the others' lots are no worse for it."""
        try:
            return look(name)
        except StoreUnreadableError:  # of this circuit alone, and said
            return None
        except StoreUnavailableError:
            raise
        except Exception:
            logger.exception("nothing released for %s", name)
            self.outlet.close()
            return None

    def release_batch(self, gate: Gate, service: str) -> int:
        """Lease, publish, delete; returns how many went, BATCH where more may at once."""
        lot = gate.store.lot
        if lot is None or not self.outlet.open():
            return 0
        breaker, most = get_circuit_breaker(service), self.outlet.most
        token, messages = lot.take(service, breaker.policy, most, breaker.key)
        sent, deferred = self._send(lot, service, token, messages)
        # What no queue takes has left its place to the next.
        return BATCH if deferred or len(sent) >= most else len(sent)

    def _send(
        self, lot: ParkingLot, service: str, token: str, messages: list[Stored]
    ) -> tuple[list[str], list[str]]:
        """Publish leased messages; forget those the broker has, and put those back that no queue takes.

        Returns:
            The ids of the ones and of the others.
        """
        odd = [message for message in messages if message.problem]
        if odd:
            gate = gate_of(self.outlet.app)
            end(gate, lot, service, token, odd, "unreadable", "unreadable", self.outlet)
            messages = [message for message in messages if not message.problem]
        refused: list[Stored] = []
        sent = [message.id for message in self.outlet.send(messages, refused)] if messages else []
        if sent:
            self._published.append((service, token, sent))
            self._settle(lot)
        deferred = [message.id for message in refused]
        if deferred:
            lot.defer(service, token, deferred)
        return sent, deferred

    def _settle(self, lot: ParkingLot) -> None:
        """Forget what is published; where the store fails just then, at the first look when it is back.

        A lease that has lapsed until then is another's, and nothing happens.
        """
        while self._published:
            with suppress(StoreUnreadableError):  # of that circuit alone, and said
                lot.settle(*self._published[0])
            self._published.popleft()

    def move_on(self, gate: Gate, circuits: dict[str, Circuit]) -> None:
        """Let on-demand tasks go whose service is shut, but who may use another that is not."""
        now = time.monotonic()
        self._moved = {ident: until for ident, until in self._moved.items() if until > now}
        shut = [name for name, circuit in circuits.items() if circuit.parked_ready and not gate.lets(name)]
        shared = gate.shared_services() if shut else {}
        for service in shut:
            if any(gate.lets(other) for other in shared.get(service, ())):
                self._try(service, partial(self._move_on_from, gate))

    def _move_on_from(self, gate: Gate, service: str) -> int:
        lot = gate.store.lot
        if lot is None:
            return 0
        skip = self._skip.get(service, 0)
        waiting = lot.on_demand(service, BATCH, skip)
        # Those whose arguments leave them no choice would hide the others.
        self._skip[service] = skip + BATCH if len(waiting) == BATCH else 0
        ids = [message.id for message in waiting if message.id not in self._moved and _may_go(gate, message)]
        if not ids or not self.outlet.open():
            return 0
        token, messages = lot.pick(service, self.outlet.most, ids)
        sent, _ = self._send(lot, service, token, messages)
        self._moved |= dict.fromkeys(sent, time.monotonic() + STAY_SECONDS)
        return len(sent)


def _may_stir(gate: Gate, circuit: Circuit) -> bool:
    """Whether there is something to do for what waits there; with many open circuits there mostly is not."""
    if not circuit.parked or circuit.away or not gate.idle([circuit.service]):
        return bool(circuit.parked)
    if circuit.read_at is None or circuit.parked_since is None:
        return True
    most = effective(get_circuit_breaker(circuit.service).policy, circuit.override).max_parked_seconds
    overdue = (circuit.read_at - circuit.parked_since).total_seconds() >= most
    return overdue or (circuit.stirs_at is not None and circuit.stirs_at <= circuit.read_at)


def _pause(circuit: Circuit) -> float:
    """Seconds to the next look at a closed circuit that keeps to a pace; 0: the next tick will do."""
    policy = effective(get_circuit_breaker(circuit.service).policy, circuit.override)
    if circuit.state is not CircuitState.CLOSED:
        return 0
    if circuit.recovering_since or policy.max_concurrent:
        return SHORTEST_PAUSE_SECONDS
    # Twice in the time of one call, so that none is missed by much.
    return max(quota_interval(policy) / MICROSECONDS / 2, SHORTEST_PAUSE_SECONDS) if policy.quota_calls else 0


def _may_go(gate: Gate, message: Stored) -> bool:
    """Whether a service its task may use, with these arguments, lets it."""
    try:
        request = ResilientRequest.of(gate, message)
        args, kwargs, task = request.args, request.kwargs, request.task
        return any(gate.lets(service) for service in task.services_for(args, kwargs))
    except Exception:  # noqa: BLE001 - another app's, or not to be read: its own service will tell
        return False


def lot_of(store: Store | None) -> ParkingLot:
    """The lot of a store, in which tasks wait.

    Raises:
        StoreUnavailableError: There is none without a shared store.
    """
    if store is None or store.lot is None:
        raise StoreUnavailableError(
            "memory://", "there is no shared store: name one with RESILIENCE_STORE_URL"
        )
    return store.lot


def drop(app: Celery, service: str, ids: Sequence[str] = (), reason: str = "dropped") -> list[str]:
    """End parked tasks of a service as REVOKED, or, where they cannot be read, as FAILURE: these, or all.

    Args:
        app: Whose tasks they are.
        service: Whose lot.
        ids: The tasks; none: all.
        reason: Shown as the error of the revoked task.

    Returns:
        The ids of those that have ended. A task on its way back to its queue is not among them.

    Raises:
        StoreUnavailableError: The shared store does not answer.
        ResilienceError: All were meant, and some are left; it names them.
    """
    gate = gate_of(app)
    lot = lot_of(gate.store)
    began = gate.store.read([service])[service].read_at
    gone: list[str] = []
    tried: set[str] = set()
    wanted = list(ids)
    outlet = Outlet(app)
    try:
        while True:
            token, messages = lot.pick(service, BATCH, wanted[:BATCH])
            # What cannot be ended is offered again once its lease is over.
            new = {message.id for message in messages} - tried
            gone += end(gate, lot, service, token, messages, reason, "operator", outlet)
            tried |= new
            wanted = wanted[BATCH:]
            if not (wanted if ids else new):
                break
    finally:
        outlet.close()
    waiting = [] if ids else lot.waiting(service, BATCH)
    left = [entry.message.id for entry in waiting if began is None or entry.since <= began]
    if left:
        raise ResilienceError(
            f"{len(gone)} of the tasks parked for {service} were dropped, {len(left)} or more are left, on "
            f"their way back to their queues or not to be ended here: {', '.join(left)}"
        )
    return gone
