"""What stands in when the shared store is lost: the same machine, in this process.

One command may wait for the store's time-out; from then on nobody asks the store again until a
background thread has heard from it. A permit is reported to the machine that gave it; where that
cannot be, the verdict goes to the other one, which can still learn from a failure.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from resilience.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilience.circuit import Circuit, Finding, Permit, Policy, Report
    from resilience.parking import ParkingLot
    from resilience.stores.memory import MemoryStore
    from resilience.stores.redis import RedisStore

logger = logging.getLogger(__name__)

CHECK_SECONDS = 0.5


class FailoverStore:
    """The shared store while it answers, the local one while it does not.

    Args:
        shared: The fleet's store.
        local: This process's stand-in.
    """

    def __init__(self, shared: RedisStore, local: MemoryStore) -> None:
        self.shared = shared
        self.local = local
        # The pid for which the store is lost: a forked child finds out for itself, because the
        # thread that would tell it of the store's return does not live in it.
        self._lost_in = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._check: threading.Thread | None = None
        shared.scripts.on_lost = self._lose

    @property
    def lot(self) -> ParkingLot | None:
        """The shared lot, None while the store is known to be lost."""
        return self.shared.lot if self.up else None

    @property
    def up(self) -> bool:
        """Whether the shared store answered when last asked."""
        return self._lost_in != os.getpid()

    def acquire(self, service: str, policy: Policy, owner: str = "") -> Permit:
        """See ``Store.acquire``; never raises for a lost store."""
        if self.up:
            with contextlib.suppress(StoreUnavailableError):
                return self.shared.acquire(service, policy, owner)
        return self.local.acquire(service, policy, owner)

    def report(self, permit: Permit, policy: Policy, finding: Finding) -> Report:
        """See ``Store.report``; never raises for a lost store, so a provider's result is never lost."""
        if permit.shared and self.up:
            with contextlib.suppress(StoreUnavailableError):
                return self.shared.report(permit, policy, finding)
        if permit.shared:  # the local machine never gave it: let it count as evidence while closed
            permit = replace(permit, generation=-1, probe=False)
        return self.local.report(permit, policy, finding)

    def forget(self, service: str, owner: str) -> None:
        """See ``Store.forget``; never raises for a lost store."""
        if self.up:
            with contextlib.suppress(StoreUnavailableError):
                self.shared.forget(service, owner)
        self.local.forget(service, owner)

    def control(self, service: str, act: str, seconds: float, note: str, actor: str) -> None:
        """See ``Store.control``. An operator must know: raises StoreUnavailableError."""
        self.shared.control(service, act, seconds, note, actor)

    def read(self, services: Sequence[str]) -> dict[str, Circuit]:
        """See ``Store.read``; the local circuits, marked ``shared=False``, while the store is lost."""
        if self.up:
            with contextlib.suppress(StoreUnavailableError):
                return self.shared.read(services)
        return self.local.read(services)

    def _lose(self, error: StoreUnavailableError) -> None:
        """Told by the shared store's client at the first failure; a thread waits for its return."""
        with self._lock:
            if not self.up:
                return
            self._lost_in = os.getpid()
        logger.error("%s; circuits are local to this process until it does", error)
        name = f"breaker-store-check {self.shared.scripts.address}"
        self._check = threading.Thread(target=self._await_return, name=name, daemon=True)
        self._check.start()

    def close(self) -> None:
        """Give up waiting for a lost store, and let go of the connections."""
        self._closing.set()
        if self._check is not None and not self.up:
            self._check.join()
        self.shared.scripts.client.close()

    def _await_return(self) -> None:
        while not self.shared.scripts.works():
            if self._closing.wait(CHECK_SECONDS):
                return
        self._lost_in = 0
        logger.warning("the breaker store at %s is back", self.shared.scripts.address)
