"""Closed circuits that need not be asked: a busy process goes by what it has heard a moment ago.

A circuit is viewed where nothing at all is wrong with it, for ``VIEW_SECONDS`` from when it was asked for.
The store notes until when somebody may go by a view, and a report of trouble returns only then. So a call
that was let through by a view began before any such report had returned: it was in flight already, and as
exact as if it had asked. Successes, and how long they took, are counted, and told with the next question.

Only calls in quick succession are worth it: a circuit is viewed once a process calls it ``BUSY`` times in a
second.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilience import forks
from resilience.circuit import CircuitState, Permit, Report, Verdict, duration_fields
from resilience.errors import UNREADABLE, StoreUnavailableError
from resilience.policy import micros_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience.policy import Policy
    from resilience.stores.redis import Scripts

VIEW_SECONDS = 0.1
BUSY = 20
IDLE_SECONDS = 1.0


@dataclass(slots=True)
class _View:
    """One circuit as this process may take it."""

    policy: Policy
    key: str
    #: The circuit's era, and until when it may be gone by. One value, so that nobody reads half of a new one.
    good: tuple[int, float] = (0, 0)
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
        forks.begin_anew(self)

    def begin(self) -> None:
        """A forked child has nothing of its parent's: not its counts, not its locks, not its thread."""
        self._views: dict[str, _View] = {}
        #: By service, by field of its circuit: what nobody has been told of.
        self._counts: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, service: str, policy: Policy, key: str) -> Permit | None:
        """A permit, if the circuit may be taken for closed at this moment."""
        view = self._views.get(service)
        if view is None or view.key != key:
            return None
        if view.policy is not policy and view.policy != policy:
            return None
        generation, until = view.good
        now = time.monotonic()
        if now >= until:
            return None
        view.used = now
        self._count(service, {"allowed": 1})
        return Permit(
            granted=True,
            service=service,
            state=CircuitState.CLOSED,
            generation=generation,
            viewed_at=now,
            policy=view.policy,
        )

    def success(self, permit: Permit) -> Report | None:
        """Its report, if there is nothing a success would set back."""
        view = self._views.get(permit.service)
        if view is None:
            return None
        generation, until = view.good
        now = time.monotonic()
        if generation != permit.generation or now >= until:
            return None
        view.used = now
        took = duration_fields(Verdict.SUCCESS, micros_in(now - permit.viewed_at))
        self._count(permit.service, {"verdict:success": 1, **took})
        return Report(applied=True, state=CircuitState.CLOSED, generation=generation)

    def asked(self, permit: Permit, key: str) -> None:
        """A call had to ask; many in a second make the circuit viewed."""
        view = self._views.get(permit.service)
        second = int(time.monotonic())
        if view is None or view.key != key or view.policy != permit.policy:
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
        busy = {name: view for name, view in list(self._views.items()) if now - view.used < IDLE_SECONDS}
        with self._lock:
            counts, self._counts = self._counts, {}
        asked = [(name, self._views[name].key) for name in {*busy, *counts} if name in self._views]
        if not asked:
            return False
        moment = micros_in(VIEW_SECONDS)
        try:
            answers = self._scripts.run_many(
                "renew", [(name, ("", key, moment, *_flat(counts.get(name, {})))) for name, key in asked]
            )
        except StoreUnavailableError:
            for name, more in counts.items():
                self._count(name, more)
            raise
        for (name, _), answer in zip(asked, answers, strict=True):
            view = busy.get(name)
            if view is None:
                continue
            try:
                clean, generation = answer
            except UNREADABLE:  # an error, or what is kept there is no circuit: it is asked each time
                clean = generation = 0
            # From before it was asked for: the store's note is the later one.
            view.good = (generation, now + VIEW_SECONDS if clean else 0)
        return True

    def close(self) -> None:
        """Tell what is left to tell, and ask no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            atexit.unregister(self.close)

    def _count(self, service: str, more: Mapping[str, int]) -> None:
        with self._lock:
            counts = self._counts.get(service)
            if counts is None:
                counts = self._counts[service] = Counter()
            for name, number in more.items():
                counts[name] += number

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._keep, name="circuit-views", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # none can be started now: every call asks, and one of them tries again
                    return
                if self._thread is None:
                    atexit.register(self.close)
                self._thread = thread

    def _keep(self) -> None:
        with contextlib.suppress(StoreUnavailableError):  # whoever calls next finds out too
            while self.renew():
                if self._stop.wait(VIEW_SECONDS / 2):
                    self.renew()
                    return


def _flat(counts: Mapping[str, int]) -> list[str | int]:
    return [part for pair in counts.items() for part in pair]
