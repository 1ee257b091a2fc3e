"""A worker's own way to the broker: messages go back to their queues, and it is known which have arrived.

The rule: a message is published only where a queue takes it, and is certain only once the broker has said so.
What no queue takes, and what nobody can publish, is refused: it stays where it is, and the log says why once.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from kombu.messaging import Producer
from redis.exceptions import OutOfMemoryError, ReadOnlyError

from resilience.parking import PUBLISHED_AGAIN
from resilience.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from kombu.entity import Queue

    from resilience.parking import Stored

logger = get_logger(__name__)

# Nothing here waits longer: it runs on a worker's event loop.
BROKER_SECONDS = 1.0
# A broker that let the loop wait and failed is left alone for so many times as long.
REST = 10
# So many go to the broker as one batch,
BATCH = 100
# to one that takes them one by one, as SQS does, fewer: as many as it takes in this time, and one at first.
SHARE_SECONDS = 0.05
FIRST = 1
# What holds a delivery back, or takes it for the last one, was meant for the first: SQS and its like, and two
# plugins of RabbitMQ.
ONCE = {"DelaySeconds", "delay_seconds", "MessageDeduplicationId", "x-delay", "x-deduplication-header"}
# What kombu's publish takes for itself.
ARGUMENTS = inspect.signature(Producer.publish).parameters.keys() - {"delivery_mode", "priority"}
# What Redis says of one key, and no other: its queue is none, or is not ours.
QUEUES_OWN = ("WRONGTYPE", "NOPERM", "No permission")
# So many problems are kept, so that each is said once.
MOST_PROBLEMS = 1000


def make_brief(connection: Any) -> None:
    """Have a connection, not open yet, wait BROKER_SECONDS at most for an answer and repeat nothing."""
    kind, options = connection.transport.driver_type, connection.transport_options
    limits: dict[str, Any] = {}
    if kind == "amqp":
        connection.connect_timeout = BROKER_SECONDS
        limits = {"read_timeout": BROKER_SECONDS, "write_timeout": BROKER_SECONDS}
    elif kind == "redis":
        limits = {
            "socket_timeout": BROKER_SECONDS,
            "socket_connect_timeout": BROKER_SECONDS,
            "retry_on_timeout": False,
            "max_retries": 0,
            "connect_retries_timeout": BROKER_SECONDS,
        }
    elif kind == "sqs":
        brief = {
            "connect_timeout": BROKER_SECONDS,
            "read_timeout": BROKER_SECONDS,
            "retries": {"total_max_attempts": 1},
        }
        limits = {"client-config": (options.get("client-config") or {}) | brief, "max_retries": 0}
    connection.transport_options = {**options, **limits}


class Outlet:
    """A connection to the broker beside the consumer's, none of whose acts lasts longer than BROKER_SECONDS.

    Args:
        app: The Celery app.
        consumer: Tells the consumer's connection, if there is one: of a list of brokers the one it listens to
            comes first.

    Attributes:
        most: So many messages it takes at a time.
    """

    def __init__(self, app: Celery, consumer: Callable[[], Any] = lambda: None) -> None:
        self.app = app
        self.connection: Any = None
        self.most = FIRST
        self._consumer = consumer
        self._heard_at: tuple[Any, ...] | None = None
        self._routes: Routes | None = None
        self._failures = 0
        self._rests_until = 0.0
        self._blocked = False
        self._problems: dict[tuple[str, ...], str] = {}

    @property
    def rests(self) -> bool:
        """Whether it is left alone for now."""
        return time.monotonic() < self._rests_until

    def open(self) -> bool:
        """Connect, unless connected; to be done before anything is leased. False: not now."""
        if self.rests:
            return False
        started = time.monotonic()
        try:
            if self.connection is None or not self._alive():
                self._connect()
        except Exception as error:  # noqa: BLE001 - any broker's; the next look tries again
            self._failed(started, error)
        return self.connection is not None and not self._blocked

    def send(self, messages: list[Stored], refused: list[Stored] | None = None) -> list[Stored]:
        """Publish each to its own queue; returns those the broker has for certain, each in a queue.

        Args:
            messages: What to publish.
            refused: Is given those that are certainly in none: no queue takes them, or nobody can publish
                them. Whether others have arrived is not known.
        """
        started = time.monotonic()
        certain: list[Stored] = []
        kept = [] if refused is None else refused
        try:
            if self._amqp:
                self._send_amqp(messages, certain, kept)
            else:
                self._send_routed(messages, certain, kept)
        except Exception as error:  # noqa: BLE001 - any broker's; what is not certain is offered again
            self._failed(started, error)
        else:
            self._failures = 0
        if self._problems:
            self._note_solved(certain)
        return certain

    def problem(self, message: Stored) -> str:
        """Why it could not be published when it was last tried here; '' if it could, or was not tried."""
        return self._problems.get((message.id,)) or self._problems.get(_place(message), "")

    def declare(self, queue: Queue) -> bool:
        """See that a queue is there, its exchange and its binding too; False: not now."""
        started = time.monotonic()
        try:
            with self.connection.channel() as channel:
                queue(channel).declare()
        except Exception as error:  # noqa: BLE001 - any broker's; the next who needs it tries again
            self._failed(started, error)
            return False
        return True

    def close(self) -> None:
        """Give it up, in whatever state it is."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            self._routes = None
            self._blocked = False
            with contextlib.suppress(Exception):
                connection.collect()

    @property
    def _amqp(self) -> bool:
        return bool(self.connection.transport.driver_type == "amqp")

    @property
    def _lost(self) -> tuple[type[Exception], ...]:
        """What is raised when the broker is gone; anything else is about one message."""
        if self._amqp:  # a message that breaks the protocol ends its connection too
            return tuple(self.connection.recoverable_connection_errors)
        # kombu counts a KeyError among them, which an odd message raises, and not a server that is full.
        known = {*self.connection.connection_errors, OutOfMemoryError, ReadOnlyError}
        return tuple(known - {KeyError})

    def _alive(self) -> bool:
        """False for one that was closed while nobody listened, or whose consumer is at another broker."""
        if self.connection.alt and _server(self._consumer()) not in (None, self._heard_at):
            self.close()
            return False
        if self._amqp:
            if not self.connection.connected:  # else kombu would connect, in its own time
                self.close()
                return False
            try:
                while True:
                    self.connection.connection.drain_events(timeout=0)
            except TimeoutError:
                pass  # it has nothing more to say
            except Exception:  # noqa: BLE001 - lost, in whatever way
                self.close()
                return False
        return True

    def _connect(self) -> None:
        connection = self.app.connection_for_write()
        self._choose(connection)
        make_brief(connection)  # the next look tries again
        kind = connection.transport.driver_type
        if kind == "amqp":
            connection.transport_options = {
                **connection.transport_options,
                "confirm_publish": False,  # a batch is confirmed as one
                "on_blocked": self._on_blocked,
                "on_unblocked": self._on_unblocked,
            }
        self.most = BATCH if kind in ("amqp", "redis") else FIRST
        self.connection = connection
        # No heartbeats: there is nobody to answer them.
        connection.ensure_connection(max_retries=0, timeout=BROKER_SECONDS)

    def _choose(self, connection: Any) -> None:
        """Of several brokers the consumer's; of those that do not answer another each time."""
        self._heard_at = _server(self._consumer())
        brokers = len(connection.alt or [""])
        for _ in range(brokers):
            if self._heard_at in (None, _server(connection)):
                break
            connection.maybe_switch_next()
        for _ in range(self._failures % brokers):
            connection.maybe_switch_next()

    def _prepared(self, channel: Any, message: Stored) -> Any:
        """As kombu's channels take it.

        Raises:
            ValueError: It has a property that no message has which somebody has published.
        """
        headers = {name: value for name, value in message.headers.items() if name not in ONCE}
        # A batch that is held up may be published by others meanwhile; who is to notice must be told.
        if self.app.conf.worker_deduplicate_successful_tasks:
            headers[PUBLISHED_AGAIN] = True
        properties = {name: value for name, value in message.properties.items() if name not in ONCE}
        if odd := properties.keys() & ARGUMENTS:
            raise ValueError(f"{', '.join(sorted(odd))}: no properties of a message")
        properties.setdefault("delivery_mode", 2)
        body = message.body
        return channel.prepare_message(
            body.encode(message.content_encoding or "utf-8") if isinstance(body, str) else body,
            priority=properties.pop("priority", 0),
            content_type=message.content_type,
            content_encoding=message.content_encoding,
            headers=headers,
            properties=properties,
        )

    def _send_routed(self, messages: list[Stored], certain: list[Stored], refused: list[Stored]) -> None:
        """By kombu's own routing: what it would drop is not published."""
        channel = self.connection.default_channel
        if self._routes is None:
            self._routes = Routes(self.app, channel, self._lost)
        self._routes.begin()
        routed = []
        for message in messages:
            if self._routes.find(message.exchange, message.routing_key):
                routed.append(message)
            else:
                self._refuse(message, refused)
        if self.connection.transport.driver_type == "redis":
            self._send_together(channel, routed, certain, refused)
        else:
            self._send_each(channel, routed, certain, refused)

    def _send_together(
        self, channel: Any, messages: list[Stored], certain: list[Stored], refused: list[Stored]
    ) -> None:
        """Redis takes a batch in one round trip, and answers for each."""
        batch = channel.create_publish_batch(max_size=sys.maxsize)
        commands: list[tuple[Stored, slice]] = []
        try:
            for message in messages:
                before = len(batch.pipeline)
                try:
                    prepared = self._prepared(channel, message)
                    batch.publish(prepared, exchange=message.exchange, routing_key=message.routing_key)
                except Exception as error:  # noqa: BLE001 - nobody can publish it; that is nothing to the others
                    self._refuse(message, refused, error)
                else:
                    commands.append((message, slice(before, len(batch.pipeline))))
            answers = batch.pipeline.execute(raise_on_error=False) if commands else []
        finally:
            batch.close()
        for message, own in commands:
            # The length of its queue, or how many have heard it.
            if any(isinstance(answer, int) and answer for answer in answers[own]):
                certain.append(message)
                continue
            said = next((answer for answer in answers[own] if isinstance(answer, Exception)), None)
            if said and not str(said).startswith(QUEUES_OWN):
                raise said  # the broker's trouble, not the message's
            self._refuse(message, refused, said)

    def _send_each(
        self, channel: Any, messages: list[Stored], certain: list[Stored], refused: list[Stored]
    ) -> None:
        """A broker without batches gets them one by one, and so many only that the loop goes on."""
        started, lost = time.monotonic(), self._lost
        for count, message in enumerate(messages, 1):
            try:
                prepared = self._prepared(channel, message)
                channel.basic_publish(prepared, exchange=message.exchange, routing_key=message.routing_key)
            except lost:
                raise
            except Exception as error:  # noqa: BLE001 - one that nobody can publish takes none of the others along
                self._refuse(message, refused, error)
            else:
                certain.append(message)
            took = time.monotonic() - started
            self.most = max(min(round(SHARE_SECONDS * count / max(took, 1e-6)), BATCH), 1)
            if took > BROKER_SECONDS:
                return  # the leases of the rest lapse

    def _send_amqp(self, messages: list[Stored], certain: list[Stored], refused: list[Stored]) -> None:
        """An exchange that is gone closes the channel, and would take the others of its batch along."""
        lost, ends = self._lost, time.monotonic() + BROKER_SECONDS
        try:
            self._send_confirmed(messages, certain, refused)
        except lost:
            raise
        except Exception:
            done = {id(message) for message in (*certain, *refused)}
            left = [message for message in messages if id(message) not in done]
            gone: dict[tuple[str, ...], Exception] = {}
            for message in left:
                if time.monotonic() > ends:
                    raise
                if _place(message) in gone:
                    self._refuse(message, refused, gone[_place(message)])
                    continue
                try:
                    self._send_confirmed([message], certain, refused)
                except lost:
                    raise
                except Exception as error:  # noqa: BLE001 - any broker's word, or kombu's
                    if isinstance(error, self.connection.channel_errors):
                        gone[_place(message)] = error
                    self._refuse(message, refused, error)

    def _send_confirmed(self, messages: list[Stored], certain: list[Stored], refused: list[Stored]) -> None:
        """All, then their confirmations: to wait for each would cost a write to disk apiece."""
        ends = time.monotonic() + BROKER_SECONDS
        channel = self.connection.channel()  # whose delivery tags count from 1
        channel.confirm_select()
        waiting = dict(enumerate(messages, 1))
        returned: set[str] = set()

        def answered(tag: int, multiple: bool, *, taken: bool) -> None:  # noqa: FBT001 - amqp's signature
            for number in [n for n in waiting if n <= tag] if multiple else [tag]:
                message = waiting.pop(number)
                if message.id in returned:
                    self._refuse(message, refused)
                elif taken:
                    certain.append(message)
                else:
                    self._refuse(message, refused, RuntimeError("the broker would not take it"))

        def come_back(error: Exception, exchange: str, routing_key: str, message: Any) -> None:  # noqa: ARG001 - amqp's signature
            """Comes before its confirmation, which then means nothing."""
            headers = message.properties.get("application_headers") or {}
            returned.add(headers.get("id") or message.properties.get("correlation_id"))

        channel.events["basic_ack"].add(lambda tag, multiple: answered(tag, multiple, taken=True))
        channel.events["basic_nack"].add(lambda tag, multiple: answered(tag, multiple, taken=False))
        channel.events["basic_return"].add(come_back)
        for message in messages:
            prepared = self._prepared(channel, message)
            channel.basic_publish(
                prepared, exchange=message.exchange, routing_key=message.routing_key, mandatory=True
            )
        while waiting:
            channel.connection.drain_events(timeout=max(ends - time.monotonic(), 0.001))
        channel.close()

    def _refuse(self, message: Stored, refused: list[Stored], error: Exception | None = None) -> None:
        """It stays where it is. Said once of a place no queue takes, and of a message nobody can publish."""
        refused.append(message)
        target = f"what is sent to exchange {message.exchange!r} with routing key {message.routing_key!r}"
        if error is None:
            key, problem = _place(message), f"no queue takes {target}"
            remedy = "start a worker that consumes such a queue, or name it in task_queues"
        else:
            key, problem = (message.id,), f"nobody can publish {target}: {error!r}"
            remedy = "mend what it names, or end the task with circuits drop"
        if self._problems.get(key) == problem:
            return
        if len(self._problems) >= MOST_PROBLEMS:
            self._problems.clear()
        self._problems[key] = problem
        logger.error("%s is kept, and tried again: %s; %s", message.id, problem, remedy)

    def _note_solved(self, messages: list[Stored]) -> None:
        for message in messages:
            self._problems.pop((message.id,), None)
            if self._problems.pop(_place(message), None):
                logger.warning("a queue takes exchange %r, routing key %r again", *_place(message))

    def _failed(self, started: float, error: Exception) -> None:
        now = time.monotonic()
        self._failures += 1
        self._rests_until = now + REST * (now - started)
        logger.warning("the broker does not take what goes back to it: %r", error)
        # A blocked one takes it later. Closed, each connection would leave a copy of a batch behind.
        if not self._blocked:
            self.close()

    def _on_blocked(self, reason: str) -> None:  # noqa: ARG002 - amqp's signature
        """It has no memory or disk left, says so at the first message, and listens to no more."""
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False


def _place(message: Stored) -> tuple[str, ...]:
    return message.exchange, message.routing_key


def _server(connection: Any) -> tuple[Any, ...] | None:
    """Which of the brokers of a list a connection goes to."""
    if connection is None:
        return None
    return connection.transport_cls, connection.hostname, connection.port, connection.virtual_host
