"""What a fork must not break: a child has its parent's memory, and none of its other threads.

A lock that another thread holds just then is held for ever in the child. So a fork waits for the locks over
what must be whole (``hold``), and what has threads or connections begins anew in the child (``begin_anew``).
kombu's cached properties have a lock each, for all objects of a class, and take it at every look, at a result
backend's connection too: a child gets new ones. What such a lock guards is there as a whole, or not at all.
"""

from __future__ import annotations

import os
import sys
from threading import Lock, RLock
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from kombu.utils.objects import cached_property

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Iterator

# No lock here is held for long; one that is held longer is the forking thread's own, in a signal's handler.
HOLD_SECONDS = 1.0


class Anew(Protocol):
    """What begins anew in a child."""

    def begin(self) -> None:
        """Own locks, threads and connections from now on; nothing is waited for, and nothing closed."""


_LIBRARIES = frozenset({"celery", "kombu"})
_forking = Lock()
_held: list[LockType] = []
_locks: WeakSet[LockType] = WeakSet()
_anew: WeakSet[Anew] = WeakSet()


def hold(lock: LockType) -> LockType:
    """Have every fork wait until nobody holds this lock."""
    _locks.add(lock)
    return lock


def begin_anew(owner: Anew) -> None:
    """Have ``begin`` called now, and in every forked child."""
    owner.begin()
    _anew.add(owner)


def _before() -> None:
    _forking.acquire(timeout=HOLD_SECONDS)
    _held[:] = [lock for lock in list(_locks) if lock.acquire(timeout=HOLD_SECONDS)]


def _after() -> None:
    while _held:
        _held.pop().release()
    if _forking.locked():
        _forking.release()


def _in_child() -> None:
    _after()
    for found in _cached_properties():
        found.lock = RLock()
    for owner in list(_anew):
        owner.begin()


def _cached_properties() -> Iterator[cached_property]:
    """Those of the classes in Celery's and kombu's modules.

    Their types are asked for, and not the things themselves: Celery has proxies, which would make an app.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _LIBRARIES:
            continue
        for thing in list(vars(module).values()):
            if issubclass(type(thing), type):
                yield from (
                    found for found in vars(thing).values() if issubclass(type(found), cached_property)
                )


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
