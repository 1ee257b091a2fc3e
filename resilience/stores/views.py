"""Closed circuits that need not be asked: a busy process goes by what it has heard a moment ago.

A circuit is viewed where nothing at all is wrong with it, for ``VIEW_SECONDS`` from when it was asked for.
The store notes until when somebody may go by a view, and a report of trouble returns only then. So a call
that was let through by a view began before any such report had returned: it was in flight already, and as
exact as if it had asked. Successes are counted, and told with the next question.

Only calls in quick succession are worth it: a circuit is viewed once a process calls it ``BUSY`` times in a
second.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilience.circuit import CircuitState, Permit, Report
from resilience.errors import StoreUnavailableError
from resilience.policy import micros_in

if TYPE_CHECKING:
    from resilience.policy import Policy
    from resilience.stores.redis import Scripts

VIEW_SECONDS = 0.1
BUSY = 20
IDLE_SECONDS = 1.0


@dataclass(slots=True)
class _View:
    """One circuit as this process may take it, and what it has to tell."""

    policy: Policy
    key: str
    generation: int = 0
    until: float = 0
    allowed: int = 0
    succeeded: int = 0
    used: float = 0
    # How many calls had to ask, in which second.
    asked: int = 0
    second: int = 0


class Views:
    """What this process need not ask for.

    Args:
        scripts: The store's.
    """

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._views: dict[str, _View] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def acquire(self, service: str, policy: Policy, key: str) -> Permit | None:
        """A permit, if the circuit may be taken for closed at this moment."""
        view = self._views.get(service)
        if view is None or view.policy is not policy or view.key != key or self._pid != os.getpid():
            return None
        now = time.monotonic()
        if now >= view.until:
            return None
        with self._lock:
            view.allowed += 1
        view.used = now
        return Permit(
            granted=True,
            service=service,
            state=CircuitState.CLOSED,
            generation=view.generation,
            viewed=True,
            policy=view.policy,
        )

    def success(self, permit: Permit) -> Report | None:
        """Its report, if there is nothing a success would set back."""
        view = self._views.get(permit.service)
        if view is None or view.generation != permit.generation or time.monotonic() >= view.until:
            return None
        with self._lock:
            view.succeeded += 1
        return Report(applied=True, state=CircuitState.CLOSED, generation=view.generation)

    def asked(self, permit: Permit, key: str) -> None:
        """A call had to ask; many in a second make the circuit viewed."""
        view = self._views.get(permit.service)
        second = int(time.monotonic())
        if view is None or view.policy is not permit.policy or view.key != key:
            view = self._views[permit.service] = _View(permit.policy, key)
        if view.second != second:
            view.second, view.asked = second, 0
        view.asked += 1
        if view.asked == BUSY and permit.policy.plain:
            view.used = time.monotonic()
            self._start()

    def renew(self) -> bool:
        """Tell what was counted, ask for what is in use; false if nothing is."""
        now = time.monotonic()
        busy = {name: view for name, view in self._views.items() if now - view.used < IDLE_SECONDS}
        if not busy:
            return False
        counts = {}
        with self._lock:
            for name, view in busy.items():
                counts[name] = view.allowed, view.succeeded
                view.allowed = view.succeeded = 0
        moment = micros_in(VIEW_SECONDS)
        answers = self._scripts.run_many(
            "renew", [(name, ("", view.key, *counts[name], moment)) for name, view in busy.items()]
        )
        for view, (clean, generation) in zip(busy.values(), answers, strict=True):
            view.generation = generation
            # From before it was asked for: the store's note is the later one.
            view.until = now + VIEW_SECONDS if clean else 0
        return True

    def close(self) -> None:
        """Tell what is left to tell, and ask no more."""
        self._stop.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join()
            atexit.unregister(self.close)

    def _start(self) -> None:
        if self._pid != os.getpid():  # a forked child has its parent's locks, and no thread that frees them
            self._lock, self._stop, self._thread = threading.Lock(), threading.Event(), None
            self._pid = os.getpid()
            atexit.register(self.close)
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="circuit-views", daemon=True)
                self._thread.start()

    def _keep(self) -> None:
        with contextlib.suppress(StoreUnavailableError):  # whoever calls next finds out too
            while self.renew():
                if self._stop.wait(VIEW_SECONDS / 2):
                    self.renew()
                    return
