"""Which id a provider knows a ticker by, where it wants ids of its own: from its own list of them.

The list is a value like any other: asked for through the provider's circuit and quota, judged, and kept in
the shared store. Here it is read, once an hour in each process, and given to whoever makes a call.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from resilience.errors import StoreUnavailableError
from resilience.stores import shared_scripts
from tasks import last_good
from tasks.settings import provider_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Directory = tuple[str, str]
"""The dataset, and the symbol in it."""

READ_AGAIN_SECONDS = 3_600.0
# One who asks for a list may take so long, before another one asks.
CLAIM_SECONDS = 30

_read: dict[Directory, tuple[float, Mapping[str, str]]] = {}


def find(directory: Directory) -> Mapping[str, str] | None:
    """Ticker → id; None where the list must be asked for: there is none, or it is fresh no more."""
    until, idents = _read.get(directory, (0.0, {}))
    if time.monotonic() < until:
        return idents
    with contextlib.suppress(StoreUnavailableError):
        entry = last_good.recall(*directory)
        left = provider_settings().freshness(directory[0]).fresh_seconds - entry.age_seconds if entry else 0
        if entry and left > 0:
            return note(directory, entry.value, left)
    return None


def note(directory: Directory, value: Any, seconds: float = READ_AGAIN_SECONDS) -> Mapping[str, str]:
    """Have this process know a list for so long, and no longer than an hour."""
    rows: Iterable[Mapping[str, str]] = value
    idents = {row["ticker"]: row["cik"] for row in rows}
    _read[directory] = (time.monotonic() + min(seconds, READ_AGAIN_SECONDS), idents)
    return idents


@contextlib.contextmanager
def claim(directory: Directory) -> Iterator[bool]:
    """Whether the caller is the one of the fleet who asks for the list now; any may without the store.

    One who does not get it leaves it to the next one.
    """
    key, claimed = f"{last_good.PREFIX}asked:{':'.join(directory)}", True
    with contextlib.suppress(StoreUnavailableError):
        claimed = bool(shared_scripts().evaluate(_CLAIM, (key,), CLAIM_SECONDS))
    try:
        yield claimed
    except Exception:
        with contextlib.suppress(StoreUnavailableError):
            shared_scripts().evaluate(_LEAVE, (key,))
        raise


# KEYS  1 who asks for the list     ARGV  1 seconds     out  1 for the first
_CLAIM = "if redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 1 end return 0"

# KEYS  1 who asks for the list
_LEAVE = "return redis.call('DEL', KEYS[1])"
