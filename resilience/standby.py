"""Where refused messages wait while they cannot be parked: at the broker.

Either the store is lost, or its memory is nearly used up (``watermark.py``). Until that is over:

    a queue that serves nothing but shut services   is not consumed; its messages stay where they are
    any other queue                                 a refused message goes to its end again after a pause

The pause of a message is spent in the broker where that can hold one back (AMQP: a queue whose messages
expire into the exchange they came from), else in the worker, unacknowledged. The message is published as it
came, then acknowledged: no attempt is spent, and a crash in between repeats it. What cannot be published is
rejected, and comes back at once; what no queue takes would be dropped by that too, and stays unacknowledged.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from kombu.entity import Exchange, Queue
from kombu.exceptions import ContentDisallowed, DecodeError

from resilience.messages import ODD
from resilience.outlet import Outlet
from resilience.parking import Stored
from resilience.task import ResilientTask
from resilience.watermark import RESUME_BELOW, Watermark

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery

    from resilience.errors import StoreFullError
    from resilience.gate import Gate
    from resilience.task import Parked

logger = get_logger(__name__)

# How long a refused message rests before it is looked at again.
PAUSE_SECONDS = 5
# So many a worker holds beside what it prefetches, about 5 kB each; more take the place of other messages.
MOST_HELD = 1000
# What comes within this time goes back to the broker as one batch,
GATHER_SECONDS = 0.02
# and healthy work waits no longer than this for the batches of one go.
FLUSH_BUDGET_SECONDS = 0.05
# A message the broker does not take is rejected after this pause, so that nothing spins.
REQUEUE_SECONDS = 1.0
# How often the store's memory is looked at.
LOOK_SECONDS = 5.0
MEGABYTE = 1_000_000
SUSPENDED = "nothing new is parked, refused messages wait at the broker: %s; %s"
REMEDY = (
    "raise the store's maxmemory, end parked tasks with circuits drop, or lower max_parked; "
    f"parking goes on below {RESUME_BELOW:.0%}"
)


@dataclass(frozen=True, slots=True)
class Held:
    """A refused message in this worker's hands.

    Attributes:
        message: kombu's, unacknowledged.
        sent: What goes back.
        until: When it goes back, on the monotonic clock.
        room: The prefetch count was raised by one for it.
        refused: It does not go sooner: no queue took it, or others can be parked and it was refused for its
            own circuit.
    """

    message: Any
    sent: Stored
    until: float
    room: bool
    refused: bool = False


class Standby:
    """What a worker's main process does with refused messages it cannot park.

    Args:
        gate: Knows the consumer, the store, and which circuits are shut.
    """

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.watermark = Watermark()
        self._outlet = Outlet(gate.app, lambda: gate.consumer and gate.consumer.connection)
        self._declared: set[str] = set()
        self._held: deque[Held] = deque()
        self._flush_comes = False
        self._looks_at = 0.0
        # Whether the broker can hold a message back by itself.
        self._at_broker = False
        self._own: dict[str, frozenset[str]] = {}
        self._paused: dict[str, Queue] = {}

    @property
    def needed(self) -> bool:
        """Whether nothing new can be parked now."""
        return self.watermark.reached or self.gate.store.lot is None

    def start(self) -> None:
        """Before the first message is received: a queue that was paused is paused again."""
        self._own = own_queues(self.gate.app)
        self._at_broker = self.gate.consumer.connection.transport.driver_type == "amqp"
        self._look()
        self._steer(self._to_pause())

    def stop(self) -> None:
        """The connection goes: the broker gives to others what is held, and all queues are new."""
        self._held.clear()
        self._paused.clear()
        self._declared.clear()
        self._flush_comes = False
        self._outlet.close()

    def tick(self) -> None:
        """After each look at the circuits."""
        self._look()
        wanted = self._to_pause()
        if wanted != self._paused.keys():
            # With a pool of threads the timer is a thread too; the consumer is the main thread's.
            self.gate.consumer.call_soon(self._steer, wanted)
        self.flush()

    def keep(self, message: Any, wait: Parked | None = None) -> None:
        """Take a refused message; it is acknowledged here, once it is back at the broker.

        Args:
            message: kombu's.
            wait: Of one that comes back from the pool. If its task asked for that with ``retry()``, it goes
                with an ETA, as Celery would send it.
        """
        try:
            stored = wait.parks(message) if wait else Stored.of(message)
        except (DecodeError, ContentDisallowed, *ODD):  # it keeps none of the others
            logger.exception("cannot send back a message")
            message.reject_log_error(logger, self.gate.consumer.connection_errors, requeue=True)
            return
        if wait and wait.retries is not None:
            stored = replace(stored, headers=stored.headers | {"eta": wait.retry_at.isoformat()})
            self._held.appendleft(Held(message, stored, until=0, room=False))
            self._flush_soon()
        elif self._at_broker:
            self._held.append(Held(message, stored, until=0, room=False))
            self._flush_soon()
        else:
            until = time.monotonic() + PAUSE_SECONDS
            self._held.append(Held(message, stored, until, self._make_room(), refused=not self.needed))

    def flush(self) -> None:
        """Send back those whose pause is over; all, once they can be parked."""
        self._flush_comes = False
        ends = time.monotonic() + FLUSH_BUDGET_SECONDS
        while batch := self._due():
            self._send_back(batch)
            if time.monotonic() > ends:
                self._flush_soon()
                return

    def full(self, error: StoreFullError) -> None:
        """The store has just refused a message for want of memory: no need to wait for the next look."""
        if not self.watermark.reached:
            self.watermark.reached = True
            logger.error(SUSPENDED, error, REMEDY)

    def _make_room(self) -> bool:
        """Let others come although this one is not acknowledged; False: enough of them are held."""
        qos = self.gate.consumer.qos
        before = qos.value
        # Up to worker_eta_task_limit, which is what bounds such messages elsewhere.
        return len(self._held) < MOST_HELD and qos.increment_eventually() > before

    def _flush_soon(self) -> None:
        if not self._flush_comes:
            self._flush_comes = True
            self.gate.consumer.timer.call_after(GATHER_SECONDS, self.flush)

    def _due(self) -> list[Held]:
        now, at_once = time.monotonic(), not self.needed
        batch: list[Held] = []
        while self._held and len(batch) < self._outlet.most:
            held = self._held[0]
            if held.until > now and (held.refused or not at_once):
                break
            batch.append(self._held.popleft())
        return batch

    def _send_back(self, batch: list[Held]) -> None:
        """Publish, then acknowledge; or reject; or, where it would be dropped, hold on."""
        consumer = self.gate.consumer
        errors = consumer.connection_errors
        messages = [held.sent for held in batch]
        rooms: dict[str, Queue] = {}
        if self._at_broker:
            rooms = {exchange: waiting_room(exchange) for exchange in {m.exchange for m in messages}}
            messages = [replace(m, exchange=rooms[m.exchange].exchange.name) for m in messages]
        refused: list[Stored] = []
        certain = {id(message) for message in self._publish(messages, rooms.values(), refused)}
        dropped = set() if self._at_broker else {id(message) for message in refused}
        for held, message in zip(batch, messages, strict=True):
            if id(message) in dropped:
                self._held.append(replace(held, until=time.monotonic() + PAUSE_SECONDS, refused=True))
                continue
            if held.room:
                consumer.qos.decrement_eventually()
            if id(message) in certain:
                held.message.ack_log_error(logger, errors)
            else:
                reject = held.message.reject_log_error
                consumer.timer.call_after(REQUEUE_SECONDS, reject, (logger, errors, True))

    def _publish(self, messages: list[Stored], rooms: Iterable[Queue], refused: list[Stored]) -> list[Stored]:
        """Those the broker has for certain; what no queue takes is added to ``refused``."""
        if not self._outlet.open() or not all(map(self._is_there, rooms)):
            return []
        taken = self._outlet.send(messages, refused)
        if len(taken) < len(messages):
            self._declared.clear()  # somebody may have deleted a room
        return taken

    def _is_there(self, room: Queue) -> bool:
        if room.name not in self._declared and self._outlet.declare(room):
            self._declared.add(room.name)
        return room.name in self._declared

    def _look(self) -> None:
        """At the store's memory, every LOOK_SECONDS."""
        lot, now = self.gate.store.lot, time.monotonic()
        if lot is None or now < self._looks_at:
            return
        self._looks_at = now + LOOK_SECONDS
        memory = lot.memory()
        if memory is None or not self.watermark.see(*memory):
            return
        used, most = memory
        figures = f"{used / MEGABYTE:.1f} of {most / MEGABYTE:.1f} MB of the store at {lot.address} are used"
        if self.watermark.reached:
            logger.error(SUSPENDED, figures, REMEDY)
        else:
            logger.warning("messages are parked again: %s", figures)

    def _to_pause(self) -> set[str]:
        """The queues of this worker all of whose messages would be refused."""
        if not self.needed:
            return set()
        chosen = self.gate.app.amqp.queues.consume_from
        return {name for name in self._own.keys() & chosen.keys() if self.gate.idle(self._own[name])}

    def _steer(self, wanted: set[str]) -> None:
        """Pause these queues and no others. What was prefetched still comes."""
        consumer = self.gate.consumer.task_consumer
        if consumer is None:  # the worker stops
            return
        for queue in consumer.queues:
            if queue.name in wanted:
                self._paused[queue.name] = queue
                consumer.cancel_by_queue(queue.name)
                logger.warning("queue %s is paused: its services are shut, and %s", queue.name, self._why())
        chosen = self.gate.app.amqp.queues.consume_from
        for name in self._paused.keys() - wanted:
            queue = self._paused.pop(name)
            if name in chosen:  # nobody has cancelled it meanwhile
                consumer.add_queue(queue)
                consumer.consume()
                logger.warning("queue %s is consumed again", name)

    def _why(self) -> str:
        lost = self.gate.store.lot is None
        return "there is no store to park in" if lost else "the store is nearly full"


def waiting_room(exchange: str) -> Queue:
    """Where an AMQP broker holds messages back for an exchange: they expire into it, as they came.

    The room has an exchange of its own that takes every routing key and keeps it. Its arguments are the ones
    with which a broker loses nothing on the way.
    """
    name = f"standby.{exchange or 'default'}.{PAUSE_SECONDS}s"
    arguments = {
        "x-queue-type": "quorum",
        "x-message-ttl": PAUSE_SECONDS * 1000,
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    return Queue(name, Exchange(name, type="fanout"), queue_arguments=arguments)


def own_queues(app: Celery) -> dict[str, frozenset[str]]:
    """Which queues serve only tasks under circuits, and whose; by the app's own routing.

    The default queue is none of them: whoever sends without a route sends there.
    """
    own: dict[str, frozenset[str]] = {}
    shared = {app.conf.task_default_queue}
    for task in app.tasks.values():
        try:
            name = _queue_of(app, task)
        except Exception as error:  # noqa: BLE001 - a router is anybody's code
            logger.warning("no queue is ever paused, nobody can tell that of %s: %r", task.name, error)
            return {}
        if isinstance(task, ResilientTask):
            own[name] = own.get(name, frozenset()).union(task.services)
        else:
            shared.add(name)
    return {name: services for name, services in own.items() if name not in shared}


def _queue_of(app: Celery, task: Any) -> str:
    """Where a message of this task goes unless its sender says otherwise.

    Raises:
        LookupError: It goes to an exchange, and no queue of the app takes it from there.
    """
    said = {option: getattr(task, option, None) for option in ("queue", "exchange", "routing_key")}
    route = app.amqp.router.route({k: v for k, v in said.items() if v}, task.name, task_type=task)
    if "queue" in route:
        return str(route["queue"].name)
    for queue in app.amqp.queues.values():
        if (queue.exchange.name, queue.routing_key) == (route.get("exchange"), route.get("routing_key")):
            return str(queue.name)
    raise LookupError(f"its route {route} names no queue")
