"""The last good value of each (dataset, symbol), kept in the shared store beside the circuits.

Of bars there is one for each adjustment: a series that changes it halfway shows price jumps nobody traded.

``fetched_at`` is the store's clock, so a worker with a wrong one cannot make a value look younger.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resilience.circuit import count_of, from_micros
from resilience.errors import UNREADABLE, StoreUnavailableError
from resilience.policy import MICROSECONDS
from resilience.stores import shared_scripts
from tasks import not_found
from tasks.providers import find_provider
from tasks.records import adjustment_of, as_json, as_of, newest
from tasks.settings import provider_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from tasks.records import Value

logger = logging.getLogger(__name__)

# All under one hash tag: a value and its provider's line are written by one script, so on one server.
PREFIX = "last_good:1:{all}:"
# A value that is none any more is kept for as long again, so that it can be told from one that never was.
KEPT_FOR = 2
# And for so much longer, so that a store's clock that is ahead for some seconds does not take it away.
KEPT_LONGER_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Entry:
    """One kept value.

    Attributes:
        provider: Who gave it.
        value: The record, or the list of them, as plain JSON.
        as_of: The provider's own time of it (ISO 8601).
        fetched_at: When it was fetched, on the store's clock.
        age_seconds: How long ago that is, on the same clock; below zero where that was set back since.
    """

    provider: str
    value: dict[str, Any] | list[dict[str, Any]]
    as_of: str | None
    fetched_at: datetime
    age_seconds: float


def remember(dataset: str, symbol: str, value: Value) -> datetime:
    """Keep a value, no empty list; the latest fetched wins, of bars the latest of the same adjustment.

    Whoever said that there is no such symbol is disproved by it, where the dataset's order was asked or this
    provider.

    Returns:
        Its ``fetched_at``.

    Raises:
        StoreUnavailableError: The store does not answer; the value is not kept.
    """
    record, adjustment = newest(value), adjustment_of(value)
    assert record is not None  # noqa: S101 - see above
    keep = round(provider_settings().freshness(dataset).max_seconds * KEPT_FOR) + KEPT_LONGER_SECONDS
    text, when = json.dumps(as_json(value)), as_of(value) or ""
    keys = (
        _key(dataset, symbol, adjustment),
        f"{PREFIX}providers",
        f"{PREFIX}fetched",
        not_found.key_of(dataset, symbol, record.provider),
        not_found.key_of(dataset, symbol, None, adjustment),
    )
    micros = shared_scripts().evaluate(_REMEMBER, keys, record.provider, text, when, keep, symbol, dataset)
    fetched_at = from_micros(micros)
    assert fetched_at is not None  # noqa: S101 - a server's clock is not at the epoch
    return fetched_at


def recall(dataset: str, symbol: str, adjustment: str | None = None) -> Entry | None:
    """The kept value, however old; None where there is none.

    Args:
        dataset: What.
        symbol: Of what.
        adjustment: Of bars: what their prices are adjusted for.

    Raises:
        StoreUnavailableError: The store does not answer.
    """
    row = shared_scripts().evaluate(_RECALL, (_key(dataset, symbol, adjustment),))
    now, provider, value, as_of, micros = row
    try:
        fetched_at = from_micros(micros or 0)
        if fetched_at is None:
            return None
        age, kept = (now - int(micros)) / MICROSECONDS, json.loads(value)
        if not all(isinstance(record, dict) for record in (kept if isinstance(kept, list) else [kept])):
            raise ValueError("it is no record, nor a list of them")
        service = find_provider(provider.decode()).service
        return Entry(service, kept, as_of.decode() or None, fetched_at, age)
    except UNREADABLE as error:  # the next fetch writes over it
        logger.error("the kept %s of %s cannot be read: %r", dataset, symbol, error)  # noqa: TRY400 - it says it all
        return None


def _key(dataset: str, symbol: str, adjustment: str | None) -> str:
    """Symbols are in upper case, so none ends like an adjustment."""
    return f"{PREFIX}{dataset}:{symbol}" + (f":{adjustment}" if adjustment else "")


def note_stale(dataset: str, provider: str) -> None:
    """A reader got a value of this provider that is not current; not counted without the store."""
    with contextlib.suppress(StoreUnavailableError):
        shared_scripts().evaluate(_NOTE_STALE, (f"{PREFIX}stale_reads",), f"{dataset}:{provider}")


def note_left_out(dataset: str, provider: str, counts: Mapping[str, int]) -> None:
    """So many rows of a reply were of no use, by why; not counted without the store."""
    parts = [part for why, count in counts.items() for part in (f"{dataset}:{provider}:{why}", count)]
    with contextlib.suppress(StoreUnavailableError):
        shared_scripts().evaluate(_NOTE_LEFT_OUT, (f"{PREFIX}left_out",), *parts)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is told to Prometheus.

    Attributes:
        ages: By dataset and provider: how old its latest value is, in seconds.
        stale_reads: By dataset and provider: how often a stale one was read.
        left_out: By dataset, provider and why: how many rows were of no use.
    """

    ages: dict[tuple[str, ...], float]
    stale_reads: dict[tuple[str, ...], int]
    left_out: dict[tuple[str, ...], int]


def figures() -> Figures:
    """What all processes have noted, in one round trip.

    Raises:
        StoreUnavailableError: The store does not answer.
    """
    keys = (f"{PREFIX}fetched", f"{PREFIX}stale_reads", f"{PREFIX}left_out")
    now, fetched, stale, left_out = shared_scripts().evaluate(_FIGURES, keys)
    ages = {name: max(0.0, (now - micros) / MICROSECONDS) for name, micros in _pairs(fetched, 2)}
    return Figures(ages, dict(_pairs(stale, 2)), dict(_pairs(left_out, 3)))


def _pairs(row: list[bytes], parts: int) -> Iterator[tuple[tuple[str, ...], int]]:
    for name, number in zip(row[::2], row[1::2], strict=True):
        try:
            labels = (*name.decode().split(":", parts - 1), *[""] * parts)[:parts]
            count = count_of(number)
        except UNREADABLE:
            continue
        yield labels, count


def by_provider() -> dict[str, tuple[str, float]]:
    """Each provider's latest symbol and its age in seconds; empty where the store does not answer."""
    try:
        now, *pairs = shared_scripts().evaluate(_PROVIDERS, (f"{PREFIX}providers",))
    except StoreUnavailableError:
        return {}
    found = {}
    for provider, text in zip(pairs[::2], pairs[1::2], strict=True):
        with contextlib.suppress(*UNREADABLE):
            micros, symbol = text.decode().split(" ", 1)
            found[provider.decode()] = (symbol, max(0.0, (now - count_of(micros)) / MICROSECONDS))
    return found


# KEYS  1 the value  2 each provider's latest  3 when each gave one of each dataset
#       4, 5 where it may stand that there is no such symbol
# ARGV  1 provider  2 value  3 as_of  4 seconds to keep it  5 symbol  6 dataset     out  fetched_at (us)
_REMEMBER = f"""{not_found.NOW}
local at = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'provider', ARGV[1], 'value', ARGV[2], 'as_of', ARGV[3], 'fetched_at', at)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[2], ARGV[1], at .. ' ' .. ARGV[5])
redis.call('HSET', KEYS[3], ARGV[6] .. ':' .. ARGV[1], at)
redis.call('DEL', KEYS[4], KEYS[5])
return at
"""

# KEYS  1 the value     out  {now (us), provider, value, as_of, fetched_at (us)}
_RECALL = f"""{not_found.NOW}
local row = redis.call('HMGET', KEYS[1], 'provider', 'value', 'as_of', 'fetched_at')
return {{ now, row[1], row[2], row[3], row[4] }}
"""

# KEYS  1 each provider's latest     out  {now (us), provider, text, ...}
_PROVIDERS = f"""{not_found.NOW}
local out = {{ now }}
for _, item in ipairs(redis.call('HGETALL', KEYS[1])) do
  out[#out + 1] = item
end
return out
"""

# KEYS  1 how often a stale value was read     ARGV  1 dataset:provider
_NOTE_STALE = """
return redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
"""

# KEYS  1 how many rows were of no use     ARGV  dataset:provider:why, how many, ...
_NOTE_LEFT_OUT = """
for place = 1, #ARGV, 2 do
  redis.call('HINCRBY', KEYS[1], ARGV[place], ARGV[place + 1])
end
return 0
"""

# KEYS  1 when each provider gave one of each dataset  2 how often a stale value was read
#       3 how many rows were of no use
# out   {now (us), {dataset:provider, fetched_at (us), ...}, {dataset:provider, count, ...},
#       {dataset:provider:why, count, ...}}
_FIGURES = f"""{not_found.NOW}
local out = {{ now }}
for _, key in ipairs(KEYS) do
  out[#out + 1] = redis.call('HGETALL', key)
end
return out
"""
