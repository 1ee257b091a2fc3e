"""A worker's own way to the broker: messages go back to their queues, and it is known which have arrived."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from kombu.messaging import Producer

if TYPE_CHECKING:
    from celery import Celery
    from kombu.entity import Queue

    from resilience.parking import Stored

logger = get_logger(__name__)

# Nothing here waits longer: it runs on a worker's event loop.
BROKER_SECONDS = 1.0
# A broker that let the loop wait and failed is left alone for so many times as long.
REST = 10


def make_brief(connection: Any) -> None:
    """Have a connection, not open yet, wait BROKER_SECONDS at most for an answer and repeat nothing."""
    kind = connection.transport.driver_type
    if kind == "amqp":
        connection.connect_timeout = BROKER_SECONDS
        limits = {"read_timeout": BROKER_SECONDS, "write_timeout": BROKER_SECONDS}
    elif kind == "redis":
        limits = {
            "socket_timeout": BROKER_SECONDS,
            "socket_connect_timeout": BROKER_SECONDS,
            "max_retries": 0,
            "connect_retries_timeout": BROKER_SECONDS,
        }
    else:
        return
    connection.transport_options = {**connection.transport_options, **limits}


class Outlet:
    """A connection to the broker beside the consumer's, none of whose acts lasts longer than BROKER_SECONDS.

    Args:
        app: The Celery app.
    """

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.connection: Any = None
        self._failures = 0
        self._rests_until = 0.0
        self._blocked = False
        # A batch that is held up may be published by others meanwhile; who is to notice must be told.
        self._marks = bool(app.conf.worker_deduplicate_successful_tasks)

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

    def send(self, messages: list[Stored]) -> list[Stored]:
        """Publish each to its own queue; returns those the broker has for certain."""
        started = time.monotonic()
        certain: list[Stored] = []
        try:
            if self._amqp:
                self._send_amqp(messages, certain)
            else:
                self._send_batch(messages, certain)
        except Exception as error:  # noqa: BLE001 - any broker's; what is not certain is offered again
            self._failed(started, error)
        else:
            self._failures = 0
        return certain

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
            self._blocked = False
            with contextlib.suppress(Exception):
                connection.collect()

    @property
    def _amqp(self) -> bool:
        return bool(self.connection.transport.driver_type == "amqp")

    def _alive(self) -> bool:
        """False for a connection that was closed while nobody listened."""
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
        kind = connection.transport.driver_type
        if kind == "amqp":
            for _ in range(self._failures % len(connection.alt or [""])):
                connection.maybe_switch_next()  # of a cluster's nodes, another each time
        make_brief(connection)  # the next look tries again
        if kind == "amqp":
            connection.transport_options = {
                **connection.transport_options,
                "confirm_publish": False,  # a batch is confirmed as one
                "on_blocked": self._on_blocked,
                "on_unblocked": self._on_unblocked,
            }
        self.connection = connection
        if kind == "amqp":  # no heartbeats: there is nobody to answer them
            connection.ensure_connection(max_retries=0, timeout=BROKER_SECONDS)

    def _send_batch(self, messages: list[Stored], certain: list[Stored]) -> None:
        """Redis takes a batch in one round trip; a broker without batches gets them one by one."""
        producer = Producer(self.connection.default_channel)
        # kombu counts a KeyError among them, which is what an odd message raises.
        lost = tuple(kind for kind in self.connection.connection_errors if kind is not KeyError)
        try:
            with producer.batch():
                for message in messages:
                    message.publish(producer, marked=self._marks)
        except lost:
            raise
        except Exception as error:  # noqa: BLE001 - one that nobody can publish takes none of the others along
            if len(messages) == 1:
                logger.error("%s stays where it is, it cannot be published: %r", messages[0].id, error)  # noqa: TRY400 - it says it all
                return
            for message in messages:
                self._send_batch([message], certain)
        else:
            certain += messages

    def _send_amqp(self, messages: list[Stored], certain: list[Stored]) -> None:
        """An exchange that is gone closes the channel, and would take the others of its batch along."""
        try:
            self._send_confirmed(messages, certain)
        except self.connection.channel_errors as error:
            if len(messages) == 1:
                logger.error("%s stays where it is: %s", messages[0].id, error)  # noqa: TRY400 - it says it all
                return
            sent = {message.id for message in certain}
            for message in messages:
                if message.id not in sent:
                    self._send_amqp([message], certain)

    def _send_confirmed(self, messages: list[Stored], certain: list[Stored]) -> None:
        """All, then their confirmations: to wait for each would cost a write to disk apiece."""
        ends = time.monotonic() + BROKER_SECONDS
        channel = self.connection.channel()  # whose delivery tags count from 1
        channel.confirm_select()
        waiting = dict(enumerate(messages, 1))
        refused: set[str] = set()

        def confirmed(tag: int, multiple: bool) -> None:  # noqa: FBT001 - amqp's signature
            for number in [n for n in waiting if n <= tag] if multiple else [tag]:
                message = waiting.pop(number)
                if message.id not in refused:
                    certain.append(message)

        def rejected(tag: int, multiple: bool) -> None:  # noqa: FBT001 - amqp's signature
            for number in [n for n in waiting if n <= tag] if multiple else [tag]:
                logger.error("the broker would not take %s", waiting.pop(number).id)

        def returned(error: Exception, exchange: str, routing_key: str, message: Any) -> None:
            """Comes before its confirmation, which then means nothing."""
            headers = message.properties.get("application_headers") or {}
            ident = headers.get("id") or message.properties.get("correlation_id")
            refused.add(ident)
            logger.error(
                "%s stays where it is, no queue takes %r of %r: %s", ident, routing_key, exchange, error
            )

        channel.events["basic_ack"].add(confirmed)
        channel.events["basic_nack"].add(rejected)
        channel.events["basic_return"].add(returned)
        producer = Producer(channel, auto_declare=False)
        for message in messages:
            message.publish(producer, mandatory=True, marked=self._marks)
        while waiting:
            channel.connection.drain_events(timeout=max(ends - time.monotonic(), 0.001))
        channel.close()

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
