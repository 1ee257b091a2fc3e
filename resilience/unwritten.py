"""Results that a pool process could not write: they go to the main process, which writes them later.

Celery's tracer would write FAILURE instead, with the backend's error, or give up with nothing written and
have the message acknowledged. Here the message stays unacknowledged until its result is written, and the task
is not called again for it.
"""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from threading import current_thread, local, main_thread
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from celery import states
from celery.app.trace import TraceInfo, trace_ok_t
from celery.exceptions import Ignore
from celery.result import result_from_tuple
from celery.utils.log import get_logger
from kombu.exceptions import EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = get_logger(__name__)

_here = local()
#: In a task's request: when its tracer began, on the monotonic clock.
BEGAN = "resilience_began"
#: In a task's request: the hard time limit that holds for it, in seconds; None: there is none.
HARD_LIMIT = "resilience_hard_limit"
# A write ends so long before the limit: this part of it, but no more than a second.
MARGIN, MOST_MARGIN_SECONDS = 0.25, 1.0
LEAST_SECONDS, MOST_SECONDS = 0.05, 86400.0


class Unwritten(Ignore):
    """Leaves the pool process with what could not be written, encoded as the backend does it.

    Carries only plain values: it crosses a process boundary.
    """

    def __init__(  # one flat argument list, because that is what survives the crossing
        self,
        state: str,
        encoded: Any,
        traceback: str | None,
        children: list[Any],
        publish: bool,  # noqa: FBT001 - positional, as above
        problem: str,
    ) -> None:
        super().__init__(state, encoded, traceback, children, publish, problem)
        self.state = state
        self.encoded = encoded
        self.traceback = traceback
        self.children = children
        self.publish = publish
        self.problem = problem

    @property
    def succeeded(self) -> bool:
        """Whether it is a result, or an error."""
        return bool(self.state == states.SUCCESS)

    def value(self, backend: Any) -> Any:
        """The result or the exception, as whoever asks for it would get it."""
        value = backend.decode(self.encoded)
        return value if self.succeeded else backend.exception_to_python(value)

    def write(self, backend: Any, request: Any) -> None:
        """Write it after all: chords and errbacks are told."""
        value = self.value(backend)
        request.children[:] = [result_from_tuple(child, backend.app) for child in self.children]
        if self.succeeded:
            backend.mark_as_done(request.id, value, request, self.publish)
        else:
            backend.mark_as_failure(
                request.id, value, self.traceback, request=request, store_result=self.publish
            )


class HangsError(Exception):
    """A write is not done, and its process would be killed for it; no client takes this for its own."""


@contextmanager
def before_limit(request: Any) -> Iterator[None]:
    """End a write that hangs before the hard time limit ends its process.

    That would be taken for a failure of the service, which has answered. As a soft time limit, this ends what
    waits in Python.
    """
    limit, began = (request.get(name) if request else None for name in (HARD_LIMIT, BEGAN))
    if not limit or not began or current_thread() is not main_thread():
        yield
        return

    def late(*_: object) -> None:
        raise HangsError(f"not written within the time limit of {limit} s")

    started = time.monotonic()
    left = limit - min(limit * MARGIN, MOST_MARGIN_SECONDS) - (started - began)
    handler = signal.signal(signal.SIGALRM, late)
    due, interval = signal.setitimer(signal.ITIMER_REAL, min(max(left, LEAST_SECONDS), MOST_SECONDS))
    try:
        yield
    finally:  # somebody else's alarm may be set
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if due:
            signal.setitimer(
                signal.ITIMER_REAL, max(due - (time.monotonic() - started), LEAST_SECONDS), interval
            )


class Written:
    """A task's result backend, while Celery's tracer has to do with it.

    Args:
        backend: The real one.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def store_result(self, task_id: str, result: Any, state: str, **options: Any) -> Any:
        """STARTED is for information."""
        try:
            return self._backend.store_result(task_id, result, state, **options)
        except Exception as error:  # noqa: BLE001 - any backend's; a missing state loses nothing
            logger.warning("state %s of %s not written: %r", state, task_id, error)
            return None

    def mark_as_retry(self, task_id: str, *rest: Any, **options: Any) -> Any:
        """RETRY too: its message is on its way."""
        try:
            return self._backend.mark_as_retry(task_id, *rest, **options)
        except Exception as error:  # noqa: BLE001 - as above
            logger.warning("state RETRY of %s not written: %r", task_id, error)
            return None

    def mark_as_done(self, task_id: str, result: Any, request: Any = None, store_result: bool = True) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        """The end, or the news that it could not be written."""
        try:
            with before_limit(request):
                self._backend.mark_as_done(task_id, result, request, store_result)
        except EncodeError:
            raise  # the result's own fault
        except Exception as error:
            raise self._unwritten(states.SUCCESS, result, None, request, store_result, error) from error

    def mark_as_failure(
        self,
        task_id: str,
        exc: Exception,
        traceback: str | None = None,
        request: Any = None,
        store_result: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        **options: Any,
    ) -> None:
        """The end, or the news that it could not be written."""
        if isinstance(exc, Unwritten):
            raise exc  # the tracer would write that
        try:
            with before_limit(request):
                self._backend.mark_as_failure(
                    task_id, exc, traceback, request=request, store_result=store_result, **options
                )
        except Exception as error:
            raise self._unwritten(states.FAILURE, exc, traceback, request, store_result, error) from error

    def _unwritten(
        self,
        state: str,
        value: Any,
        traceback: str | None,
        request: Any,
        publish: bool,  # noqa: FBT001 - positional, as above
        error: Exception,
    ) -> Unwritten:
        encoded = self._backend.encode(self._backend.encode_result(value, state))
        children = self._backend.current_task_children(request) or []
        return Unwritten(state, encoded, traceback, children, publish, repr(error))


def traced() -> Any:
    """The task this thread's tracer is at work on, if any: before its body, in it, or after it."""
    return getattr(_here, "task", None)


def kept(task: Any, tracer: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's tracer of a task, whose unwritten end comes back to the main process from any pool."""

    def trace(task_id: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        before, _here.task = traced(), task
        try:
            began = {**(request or {}), BEGAN: time.monotonic()}
            return tracer(task_id, args, kwargs, undoubted(task, task_id, began))
        except Unwritten as unwritten:
            return trace_ok_t(ExceptionInfo(), TraceInfo("IGNORED", unwritten), 0.0, None)
        finally:
            _here.task = before

    return trace


def undoubted(task: Any, task_id: str, request: dict[str, Any]) -> dict[str, Any]:
    """A message that has come again, as a first one where nobody can tell whether its task has ended before.

    With ``worker_deduplicate_successful_tasks`` Celery's tracer looks, and where its look fails, so does the
    task, which was never called. Whatever comes from the lot has come again.
    """
    delivery = request.get("delivery_info") or {}
    if not (delivery.get("redelivered") and task.app.conf.worker_deduplicate_successful_tasks):
        return request
    try:
        task.app.backend.get_state(task_id)
    except Exception as error:  # noqa: BLE001 - any backend's
        logger.warning("whether %s has ended before cannot be read: %r", task_id, error)
        return request | {"delivery_info": {**delivery, "redelivered": False}}
    return request
