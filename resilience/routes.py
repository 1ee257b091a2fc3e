"""Which queues take a message, where the broker itself does not know.

AMQP brokers route, and say what nobody takes. Every other transport is routed by kombu: each connection knows
the exchanges that were declared on it, takes any other for a direct one, and drops without a word what has no
queue. So what is published to is declared first, and looked for; what has no queue is not published.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

logger = get_logger(__name__)


class Routes:
    """The queues by exchange and routing key, as one connection finds them.

    Args:
        app: Whose queues may have to be declared again: its broker may have come back empty.
        channel: kombu's, of any transport but AMQP. From now on it publishes by what was found here.
        lost: What it raises when the broker is gone.
    """

    def __init__(self, app: Celery, channel: Any, lost: tuple[type[Exception], ...]) -> None:
        self._app = app
        self._channel = channel
        self._lost = lost
        self._found: dict[tuple[str, str], list[str]] = {}
        self._declared: set[str] = set()
        channel._lookup = self._lookup  # noqa: SLF001 - kombu's exchanges deliver by it

    def begin(self) -> None:
        """Of a batch: what is found from now on counts for all of it."""
        self._found.clear()
        self._declared.clear()

    def find(self, exchange: str, routing_key: str) -> list[str]:
        """The queues that take it, none if it would be dropped.

        The default exchange takes any name for a queue's: it is a list that its worker will read.
        """
        place = (exchange, routing_key)
        if place not in self._found:
            self._found[place] = [] if exchange or not routing_key else [routing_key]
            if exchange:
                with self._tolerant():  # bindings that cannot be read are none
                    self._found[place] = self._look(exchange, routing_key)
        return self._found[place]

    def _lookup(self, exchange: str, routing_key: str, _default: object = None) -> list[str]:
        return self.find(exchange, routing_key)

    def _look(self, exchange: str, routing_key: str) -> list[str]:
        self._learn(exchange)
        if self._channel.typeof(exchange).type == "fanout":
            if not self._channel.supports_fanout:
                return []
            if self._channel.connection.driver_type == "redis":
                return [exchange]  # it keeps nothing, and says only in the act how many have heard it
        found = self._taking(exchange, routing_key)
        if not found and self._declare(exchange):
            found = self._taking(exchange, routing_key)
        return found

    def _taking(self, exchange: str, routing_key: str) -> list[str]:
        table = self._table(exchange)
        queues = self._channel.typeof(exchange).lookup(table, exchange, routing_key, None)
        return [queue for queue in queues if queue]

    def _table(self, exchange: str) -> list[Any]:
        try:
            return list(self._channel.get_table(exchange))
        except KeyError:  # nobody has declared it here
            return []

    def _learn(self, exchange: str) -> None:
        """Have this connection know the exchange's type."""
        for _, known in self._own(exchange):
            with self._tolerant():
                known(self._channel).declare()
        known_here = exchange in self._channel.state.exchanges
        if not known_here and any(pattern for _, pattern, *_ in self._table(exchange)):
            # Another app's: only what is bound to a topic has a pattern.
            self._channel.exchange_declare(exchange, type="topic")

    def _declare(self, exchange: str) -> bool:
        """Bind the app's own queues to it again; False: there are none, or they were."""
        if exchange in self._declared:
            return False
        self._declared.add(exchange)
        queues = {id(queue): queue for queue, _ in self._own(exchange)}.values()
        for queue in queues:
            with self._tolerant():
                # Else kombu takes it for bound, as it was before the broker was emptied.
                self._channel.state.queue_bindings_delete(queue.name)
                queue(self._channel).declare()
        return bool(queues)

    def _own(self, exchange: str) -> Iterator[tuple[Any, Any]]:
        """The app's queues that are bound to it, each with the exchange as it is declared there."""
        for queue in list(self._app.amqp.queues.values()):
            for bound in (queue, *queue.bindings):
                if bound.exchange is not None and bound.exchange.name == exchange:
                    yield queue, bound.exchange

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        """What cannot be declared, as without the right to, may be there all the same."""
        try:
            yield
        except self._lost:
            raise
        except Exception as error:  # noqa: BLE001 - any transport's: without a queue the message is kept
            logger.debug("not declared or not found: %r", error)
