"""What a fork must not break: a child has its parent's memory, and none of its other threads.

A lock that another thread holds just then is held for ever in the child. So a fork waits for the locks over
what must be whole (``hold``), and what has threads or connections begins anew in the child (``begin_anew``).
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from _thread import LockType

# No lock here is held for long; one that is held longer is the forking thread's own, in a signal's handler.
HOLD_SECONDS = 1.0


class Anew(Protocol):
    """What begins anew in a child."""

    def begin(self) -> None:
        """Own locks, threads and connections from now on; nothing is waited for, and nothing closed."""


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
    for owner in list(_anew):
        owner.begin()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
