"""Where circuits live: one protocol, two stores, and what stands in when the shared one is lost.

    redis://  sentinel://  cluster://                 the fleet's, Lua on the server's clock  (redis.py)
    rediss://  rediss+sentinel://  rediss+cluster://  the same with TLS
    memory://                                         the same machine in Python, one process's  (memory.py)

A new store is a module here and a line in ``open_store``; it passes ``tests/contract/test_store.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from celery._state import get_current_task  # it imports no more of Celery

from resilience.errors import ConfigurationError, StoreUnavailableError
from resilience.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilience.circuit import Circuit, Finding, History, Known, Order, Permit, Report, Transition
    from resilience.parking import ParkingLot
    from resilience.policy import Policy
    from resilience.stores.redis import Scripts

# Of every key, with the layout's number: a version that lays keys out differently has another. When that
# must be, and how a fleet then moves, is in docs/upgrading.md.
PREFIX = "circuit:1:"
SCHEMES = (
    *("redis", "rediss", "sentinel", "redis+sentinel", "rediss+sentinel"),
    *("cluster", "redis+cluster", "rediss+cluster"),
)


class Store(Protocol):
    """Decides and remembers, atomically, on one clock."""

    @property
    def lot(self) -> ParkingLot | None:
        """Where refused messages wait; None where nothing outlives the process."""

    def acquire(self, service: str, policy: Policy, owner: str = "", key: str = "") -> Permit:
        """May one call go ahead?

        Args:
            service: The circuit's name.
            policy: Its policy, unless the fleet has another in force.
            owner: The id of the task that asks, if one does.
            key: The fingerprint of the key the call would be made with, if there is one.
        """

    def report(self, permit: Permit, policy: Policy, finding: Finding) -> Report:
        """What a granted call said about its provider."""

    def forget(self, service: str, owner: str) -> None:
        """A task ended with another service's answer: drop what is kept of it here."""

    def control(self, service: str, act: str, seconds: float, note: str, actor: str) -> None:
        """An operator's ``open``, ``close``, ``disable`` or ``reset``."""

    def override(
        self, service: str, seen: str | None, stages: Sequence[tuple[int, str]], note: str, actor: str
    ) -> bool:
        """Another policy for the whole fleet.

        Args:
            service: The circuit's name.
            seen: The override that was read before, '' for none; None: whatever it is by now.
            stages: See ``policy.override_stages``; none ends it.
            note: Why.
            actor: Who.

        Returns:
            Whether it is done; not where somebody has changed what was read.
        """

    def restore(
        self, service: str, order: Order | None, stages: Sequence[tuple[int, str]], note: str, actor: str
    ) -> None:
        """Tell a store that has lost its memory what an operator had said; any other keeps to what it has.

        Args:
            service: The circuit's name.
            order: What lay over it.
            stages: See ``override``; with its note and actor.
            note: See ``stages``.
            actor: See ``stages``.
        """

    def remind(self, service: str, known: Known) -> None:
        """Tell a store what it has forgotten; one that knows better keeps to that."""

    def remove(self, service: str) -> int:
        """Forget a circuit, unless tasks are parked there.

        Returns:
            How many are; 0: it is gone; -1: nothing was known of it.
        """

    def transitions(self, services: Sequence[str]) -> list[Transition]:
        """The changes of state nobody in the fleet has been handed yet, oldest first for each service.

        What is not said to be heard within a minute is handed out again: its asker is gone.
        """

    def heard(self, transitions: Sequence[Transition]) -> None:
        """These have been passed on."""

    def read(self, services: Sequence[str]) -> dict[str, Circuit]:
        """The circuits as they stand."""

    def history(self, services: Sequence[str], most: int) -> dict[str, History]:
        """What the circuits have been through; of each at most so many changes of state."""


_opened: dict[str, Store] = {}
_default: dict[str, Store] = {}


def open_store(url: str) -> Store:
    """The store a URL names, the same object for the same URL within a process.

    Raises:
        ConfigurationError: For a scheme nobody here serves.
    """
    if url not in _opened:
        before, found, _ = url.partition("://")
        scheme = before.lower() if found else ""  # without one, it could be a password's beginning
        if scheme == "memory":
            _opened[url] = MemoryStore()
        elif scheme in SCHEMES:
            from resilience.stores.failover import FailoverStore  # noqa: PLC0415 - redis only where it is used
            from resilience.stores.redis import RedisStore  # noqa: PLC0415 - the same

            try:
                store = RedisStore(url)
            except ValueError as error:
                raise ConfigurationError(
                    f"the store's URL cannot be read, {error}: "
                    "write it as redis://user:password@host:port/number, "
                    "sentinel://:password@host:port,host:port/name/number or "
                    "cluster://user:password@host:port,host:port, with / ? # : @ and % in a "
                    "password percent-encoded"
                ) from None
            _opened[url] = FailoverStore(store, MemoryStore())
        else:
            raise ConfigurationError(
                f"store scheme {scheme!r} is unknown: use redis://, rediss://, sentinel://, "
                "rediss+sentinel://, cluster://, rediss+cluster:// or memory://"
            )
    return _opened[url]


def set_default_store(store: Store | str | None) -> None:
    """What breakers without a store of their own use from now on; None: back to the environment."""
    _default.clear()
    if store is not None:
        _default["store"] = open_store(store) if isinstance(store, str) else store


def default_store() -> Store | None:
    """The store of the running task's app, else the one set by ``install`` or ``set_default_store``.

    Without either RESILIENCE_STORE_URL's, if that is set.
    """
    task = get_current_task()
    gate = getattr(task.app, "resilience_gate", None) if task else None
    if gate is not None:
        return gate.store  # type: ignore[no-any-return]  # an attribute of an untyped object
    if "store" not in _default:
        url = os.environ.get("RESILIENCE_STORE_URL")
        if not url:
            return None
        _default["store"] = open_store(url)
    return _default["store"]


def shared_scripts() -> Scripts:
    """The shared store's server, for data that lives beside the circuits.

    Raises:
        StoreUnavailableError: No shared store is configured, or it is known not to answer.
    """
    from resilience.stores.failover import FailoverStore  # noqa: PLC0415 - redis only where it is used

    store = default_store()
    if not isinstance(store, FailoverStore):
        raise StoreUnavailableError("memory://", "no shared store is configured; set RESILIENCE_STORE_URL")
    if not store.up:
        raise StoreUnavailableError(store.shared.scripts.address, "it did not answer a moment ago")
    return store.shared.scripts
