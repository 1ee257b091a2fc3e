"""Connections that callers of ``refresh`` keep for a moment, so that the next refresh need not make new ones.

None of them waits long for a server that hangs, as those of Celery's own pools do. Each is one caller's while
it is used, whatever thread that is; a forked child makes its own.
"""

from __future__ import annotations

import atexit
import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery.backends.redis import RedisBackend

from resilience.outlet import BROKER_SECONDS, make_brief
from resilience.states import brief

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from celery.backends.base import Backend
    from kombu.connection import Connection

#: One that was used longer ago may have been closed by the broker, for want of a heartbeat.
KEPT_SECONDS = 10.0
KEPT_MOST = 8


@dataclass
class _Kept:
    """What one app's callers have left, in one process."""

    idle: deque[tuple[float, Connection]] = field(default_factory=deque)
    results: Backend | None = None


_kept: dict[Celery, _Kept] = {}
#: A parent's, in its child: to close them here would shut the parent's sockets.
_parents: list[Any] = []


def publish(app: Celery, send: Callable[[Connection], None]) -> None:
    """Have something sent on a connection that was used a moment ago, or else on a new one.

    Args:
        app: Whose broker it goes to.
        send: Sends; called a second time, with another connection, where the first one was broken.

    Raises:
        Exception: What the broker's client raises when the broker cannot be reached, or does not answer.
    """
    idle = _of(app).idle
    began = time.monotonic()
    connection = _take(idle, began)
    if connection is not None:
        try:
            _send_on(connection, send, idle)
        except Exception:  # broken since, as after a restart, unless it was waited for
            if time.monotonic() - began > BROKER_SECONDS / 2:
                raise
        else:
            return
    connection = app.connection_for_write()
    _connect(connection)
    _send_on(connection, send, idle)


def results_of(app: Celery) -> Backend:
    """The result backend, and none that keeps a caller waiting when it hangs."""
    if not isinstance(app.backend, RedisBackend):
        return app.backend
    kept = _of(app)
    if kept.results is None:
        kept.results = brief(app.backend)
    return kept.results


def close() -> None:
    """Close what is kept."""
    while _kept:
        _, kept = _kept.popitem()
        for _, connection in kept.idle:
            connection.collect()
        if isinstance(kept.results, RedisBackend):
            kept.results.client.connection_pool.disconnect()


def _of(app: Celery) -> _Kept:
    return _kept.setdefault(app, _Kept())


def _take(idle: deque[tuple[float, Connection]], now: float) -> Connection | None:
    """The one used last; those used too long ago are closed."""
    while idle:
        try:
            used, connection = idle.pop()
        except IndexError:  # another thread was faster
            return None
        if now - used < KEPT_SECONDS:
            return connection
        connection.collect()
    return None


def _send_on(
    connection: Connection, send: Callable[[Connection], None], idle: deque[tuple[float, Connection]]
) -> None:
    try:
        send(connection)
    except BaseException:
        connection.collect()  # to close it in order could hang, too
        raise
    if len(idle) < KEPT_MOST:
        idle.append((time.monotonic(), connection))
    else:
        connection.release()


def _connect(connection: Connection) -> None:
    """To the first of the broker's addresses that answers."""
    for left in reversed(range(len(connection.alt) or 1)):
        make_brief(connection)
        if connection.transport.driver_type == "amqp":
            # Or what a hanging broker never read would be taken for sent.
            options: dict[str, Any] = connection.transport_options or {}
            connection.transport_options = options | {"confirm_publish": True}
        try:
            connection.ensure_connection(max_retries=0, timeout=BROKER_SECONDS)
        except Exception:
            if not left:
                connection.collect()
                raise
            connection.maybe_switch_next()
        else:
            return


def _after_fork() -> None:
    _parents.extend(_kept.values())
    _kept.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close)
