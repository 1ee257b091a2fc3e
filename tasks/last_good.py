"""The last good value of each (dataset, symbol), kept in the shared store beside the circuits.

``fetched_at`` is the store's clock, so a worker with a wrong one cannot make a value look younger.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resilience.circuit import from_micros
from resilience.errors import StoreUnavailableError
from resilience.policy import MICROSECONDS
from resilience.stores import shared_scripts
from tasks.records import as_json, as_of, newest

if TYPE_CHECKING:
    from datetime import datetime

    from tasks.records import Value

# All under one hash tag: a value and its provider's line are written by one script, so on one server.
PREFIX = "last_good:1:{all}:"


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a dataset's age means.

    Attributes:
        target_seconds: Older than this is stale.
        max_seconds: Older than this is no value any more.
    """

    target_seconds: float
    max_seconds: float


DAY = 86_400
FRESHNESS = {
    # A long weekend lies between the last trade and the next.
    "quote": Freshness(60, 5 * DAY),
    "bars": Freshness(DAY, 10 * DAY),
    "news": Freshness(900, 5 * DAY),
    "filings": Freshness(DAY, 30 * DAY),
    "observations": Freshness(DAY, 90 * DAY),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept value.

    Attributes:
        provider: Who gave it.
        value: The record, or the list of them, as plain JSON.
        as_of: The provider's own time of it (ISO 8601).
        fetched_at: When it was fetched, on the store's clock.
        age_seconds: How long ago that is, on the same clock.
    """

    provider: str
    value: dict[str, Any] | list[dict[str, Any]]
    as_of: str | None
    fetched_at: datetime
    age_seconds: float


def remember(dataset: str, symbol: str, value: Value) -> datetime:
    """Keep a value, no empty list; the latest fetched wins.

    Returns:
        Its ``fetched_at``.

    Raises:
        StoreUnavailableError: The store does not answer; the value is not kept.
    """
    record = newest(value)
    assert record is not None  # noqa: S101 - see above
    key = f"{PREFIX}{dataset}:{symbol}"
    keep = round(FRESHNESS[dataset].max_seconds)
    text, when = json.dumps(as_json(value)), as_of(value) or ""
    micros = shared_scripts().evaluate(
        _REMEMBER, (key, f"{PREFIX}providers"), record.provider, text, when, keep, symbol
    )
    fetched_at = from_micros(micros)
    assert fetched_at is not None  # noqa: S101 - a server's clock is not at the epoch
    return fetched_at


def recall(dataset: str, symbol: str) -> Entry | None:
    """The kept value, None where there is none or it is too old to be one.

    Raises:
        StoreUnavailableError: The store does not answer.
    """
    row = shared_scripts().evaluate(_RECALL, (f"{PREFIX}{dataset}:{symbol}",))
    if not row[1]:
        return None
    now, provider, value, as_of, micros = row
    fetched_at = from_micros(micros)
    age = max(0.0, (now - int(micros)) / MICROSECONDS)
    if fetched_at is None or age > FRESHNESS[dataset].max_seconds:
        return None
    return Entry(provider.decode(), json.loads(value), as_of.decode() or None, fetched_at, age)


def by_provider() -> dict[str, tuple[str, float]]:
    """Each provider's latest symbol and its age in seconds; empty where the store does not answer."""
    try:
        now, *pairs = shared_scripts().evaluate(_PROVIDERS, (f"{PREFIX}providers",))
    except StoreUnavailableError:
        return {}
    found = {}
    for provider, text in zip(pairs[::2], pairs[1::2], strict=True):
        micros, symbol = text.decode().split(" ", 1)
        found[provider.decode()] = (symbol, max(0.0, (now - int(micros)) / MICROSECONDS))
    return found


# KEYS  1 the value  2 each provider's latest
# ARGV  1 provider  2 value  3 as_of  4 seconds to keep it  5 symbol     out  fetched_at (us)
_REMEMBER = """
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000000 + tonumber(time[2]))
redis.call('HSET', KEYS[1], 'provider', ARGV[1], 'value', ARGV[2], 'as_of', ARGV[3], 'fetched_at', now)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], now .. ' ' .. ARGV[5])
return now
"""

# KEYS  1 the value     out  {now (us), provider, value, as_of, fetched_at (us)}
_RECALL = """
local time = redis.call('TIME')
local row = redis.call('HMGET', KEYS[1], 'provider', 'value', 'as_of', 'fetched_at')
return { tonumber(time[1]) * 1000000 + tonumber(time[2]), row[1], row[2], row[3], row[4] }
"""

# KEYS  1 each provider's latest     out  {now (us), provider, text, ...}
_PROVIDERS = """
local time = redis.call('TIME')
local out = { tonumber(time[1]) * 1000000 + tonumber(time[2]) }
for _, item in ipairs(redis.call('HGETALL', KEYS[1])) do
  out[#out + 1] = item
end
return out
"""
