"""What a provider's plan does not have: told once, and not asked for again while the note of it lasts.

The circuit stays closed, because the provider answers and its other datasets are fine. A note is about one
dataset and one key, where plans list symbols about one symbol too, and is the whole fleet's.
``circuits reset`` takes it back; who has another key is not concerned.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from resilience.errors import UNREADABLE, StoreUnavailableError
from resilience.stores import shared_scripts
from tasks.providers import PROVIDERS, find_provider

if TYPE_CHECKING:
    from collections.abc import Iterable

# A sorted set: "service dataset fingerprint symbol", by the second in which the note lapses.
KEY = "entitlement:1"
SPACES = 3
# A process looks at the notes so often; what another has noted or taken back is seen as late as that.
LOOK_SECONDS = 1.0


class _Seen:
    """What this process last saw of the notes."""

    at = -LOOK_SECONDS
    notes: dict[str, datetime]

    def __init__(self) -> None:
        self.notes = {}


_seen = _Seen()


def note(service: str, dataset: str, key: str, symbol: str, seconds: float) -> bool:
    """A provider has just said that this is not in its plan.

    Args:
        service: The provider.
        dataset: What it does not give.
        key: The fingerprint of the key it was asked with, '' for none.
        symbol: Of what; of any, unless its plans list symbols.
        seconds: How long it is not asked again.

    Returns:
        Whether nobody in the fleet knew.

    Raises:
        StoreUnavailableError: It is not noted.
    """
    about = symbol if find_provider(service).plan_lists_symbols else ""
    new = shared_scripts().evaluate(_NOTE, (KEY,), _member(service, dataset, key, about), int(seconds))
    _seen.at = -LOOK_SECONDS
    return bool(new)


def missing_until(service: str, dataset: str, key: str, symbol: str) -> datetime | None:
    """Until when the service is not asked for this; None where it may be, as far as this process knows."""
    now = time.monotonic()
    if now - _seen.at >= LOOK_SECONDS:
        _seen.at = now  # also where it fails: a lost store is not asked by every task
        with contextlib.suppress(StoreUnavailableError):  # what was seen last still counts
            _seen.notes = _read()
    found = (_seen.notes.get(_member(service, dataset, key, about)) for about in ("", symbol))
    return max(filter(None, found), default=None)


def forget(service: str) -> None:
    """Take back what is noted of a service, for every key.

    Raises:
        StoreUnavailableError: It is not taken back.
    """
    shared_scripts().evaluate(_FORGET, (KEY,), f"{service} ")
    _seen.at = -LOOK_SECONDS


def add_to(rows: Iterable[dict[str, Any]]) -> None:
    """Put what is known of providers into circuits' plain JSON: ``not_in_plan`` and ``provider_note``.

    Where no store answers, nothing is known of plans.
    """
    try:
        found = sorted(_read().items())
    except StoreUnavailableError:
        found = []
    noted: dict[str, list[dict[str, Any]]] = {}
    for member, until in found:
        service, dataset, key, symbol = member.split(" ")
        told = {"dataset": dataset, "symbol": symbol or None, "key": key, "until": until.isoformat()}
        noted.setdefault(service, []).append(told)
    for row in rows:
        row["not_in_plan"] = noted.get(row["service"], [])
        provider = PROVIDERS.get(row["service"])
        row["provider_note"] = provider.note if provider else ""


def _member(service: str, dataset: str, key: str, symbol: str) -> str:
    return f"{service} {dataset} {key} {symbol}"  # none of them has a space


def _read() -> dict[str, datetime]:
    told = iter(shared_scripts().evaluate(_READ, (KEY,)))
    found = {}
    for member, until in zip(told, told, strict=True):
        with contextlib.suppress(*UNREADABLE, OSError):  # as of a year that there is not
            if member.count(b" ") == SPACES:
                found[member.decode()] = datetime.fromtimestamp(int(until), UTC)
    return found


# ARGV  1 the note  2 seconds it lasts     out  1 if it is new
_NOTE = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local new = redis.call('ZADD', KEYS[1], 'NX', now + ARGV[2], ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
redis.call('EXPIRE', KEYS[1], last - now + 1)
return new
"""

# out  note, the second it lapses, ...
_READ = """
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. redis.call('TIME')[1], '+inf', 'WITHSCORES')
"""

# ARGV  1 how the notes start
_FORGET = """
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(member, 1, #ARGV[1]) == ARGV[1] then
    redis.call('ZREM', KEYS[1], member)
  end
end
return 1
"""
