"""A thread beside a worker's event loop, for what may hang: result backends, and the hooks of users' tasks.

The loop hands in a job and goes on. What comes after the job happens on the loop again, or, where Celery runs
none, on its timer. A job that is not done when the worker stops is lost with it; so whatever it was for stays
leased or unacknowledged until then, and comes again.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread, current_thread
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger

from resilience.forks import begin_anew

if TYPE_CHECKING:
    from collections.abc import Callable

logger = get_logger(__name__)

# An act that takes longer than this is taken for hanging.
HANGS_SECONDS = 0.5
# A worker that stops no longer has a loop: so long it waits for each job itself.
LAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do beside the loop, and what comes after it, told how it failed."""

    act: Callable[[], object]
    then: Callable[[Exception | None], object]


def _nothing(_error: Exception | None) -> None:
    pass


class Background:
    """One thread, one job after the other, in order. Outside a worker everything is done at once.

    Args:
        name: The thread's.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        begin_anew(self)

    def begin(self) -> None:
        """Nothing is under way; in a forked child, whose parent has the thread, for ever."""
        self._jobs: Queue[Job] = Queue()
        self._done: Queue[tuple[Job, Exception | None]] = Queue()
        self._thread: Thread | None = None
        self._consumer: Any = None
        self._runs = False
        self._since = 0.0

    def attach(self, consumer: Any) -> None:
        """From now on there is a loop: this consumer's."""
        self._consumer, self._runs = consumer, True

    def detach(self) -> None:
        """The loop ends."""
        self._runs = False
        self.finish(LAST_SECONDS)

    @property
    def idle(self) -> bool:
        """Whether all is done."""
        return self._jobs.unfinished_tasks == 0

    @property
    def hangs(self) -> bool:
        """Whether the act under way takes too long."""
        since = self._since
        return since > 0 and time.monotonic() - since > HANGS_SECONDS

    def breathe(self) -> None:
        """For a job of many acts: one is over, the next begins."""
        self._since = time.monotonic()

    def do(
        self,
        act: Callable[[], object],
        then: Callable[[Exception | None], object] = _nothing,
        patience: float = 0,
    ) -> None:
        """Do this beside the loop, then that on it; ``then`` is told what ``act`` raised, if anything.

        Args:
            act: May hang.
            then: On the loop, before this returns if all is done within ``patience`` seconds.
            patience: Spares the loop another turn where nothing is amiss.
        """
        job, idle = Job(act, then), self.idle
        if self._consumer is None or current_thread() is self._thread:
            then(self._try(job))
            return
        self._jobs.put(job)
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # there are too many; the next job tries again
                self._thread = None
                logger.warning("%s: %s", self._name, error)
        if not self._runs:
            self.finish(LAST_SECONDS)
        elif idle and patience:
            self.finish(patience)

    def skip(self) -> None:
        """Go on without the jobs that have not begun."""
        with contextlib.suppress(Empty):
            while True:
                self._done.put((self._jobs.get_nowait(), None))
        self.collect()

    def collect(self) -> None:
        """What comes after the jobs that are done."""
        with contextlib.suppress(Empty):
            while True:
                self._after(*self._done.get_nowait())

    def finish(self, seconds: float) -> None:
        """Wait for what is to be done, so long at most."""
        ends = time.monotonic() + seconds
        with contextlib.suppress(Empty):
            while not self.idle:
                self._after(*self._done.get(timeout=max(ends - time.monotonic(), 0)))

    def _after(self, job: Job, error: Exception | None) -> None:
        try:
            job.then(error)
        except Exception:  # it is nobody else's
            logger.exception("%s: after a job", self._name)
        finally:
            self._jobs.task_done()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            self._done.put((job, self._try(job)))
            self._call_back()

    def _try(self, job: Job) -> Exception | None:
        before, self._since = self._since, time.monotonic()
        try:
            with _fresh_connections():
                job.act()
        except Exception as error:  # noqa: BLE001 - whoever gave the job is told
            return error
        finally:
            self._since = before
        return None

    def _call_back(self) -> None:
        try:
            if self._consumer.hub is not None:
                self._consumer.call_soon(self.collect)
            else:
                self._consumer.timer.call_after(0, self.collect)
        except Exception:  # the loop is closed: whoever stops the worker collects
            logger.debug("%s: there is no loop", self._name, exc_info=True)


class _fresh_connections:  # noqa: N801 - a context manager, used like a function
    """Django's database connections are a thread's own, and one that was dropped is kept for ever."""

    def __enter__(self) -> None:
        self._close_old()

    def __exit__(self, *_: object) -> None:
        self._close_old()

    @staticmethod
    def _close_old() -> None:
        database = sys.modules.get("django.db")
        if database is not None:
            with contextlib.suppress(Exception):  # Django is there, and not set up
                database.close_old_connections()
