"""A provider's word that it knows no such symbol, kept for a short time in place of asking again.

To be told so once more costs a call, quota and, of a circuit that recovers, a probe. It is kept by
provider: what one does not know another may. Once all who could know have said so, that is kept as well, as
the answer to the question, for those who ask without a provider's name; it stands as long as each one's word.

That a provider has nothing now is true for a moment: it is kept for one task, which has been told so and
waits for another provider. An empty list is a valid answer, and ``caller_error`` is about how we ask, which
is mended here: neither is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resilience.errors import UNREADABLE, StoreUnavailableError
from resilience.policy import MICROSECONDS
from resilience.stores import shared_scripts
from tasks.settings import provider_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# What a script here and beside the last good values starts with: the store's time, in microseconds.
NOW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
"""
# One hash tag with the last good values: the script that keeps one drops what is disproved by it.
PREFIX = "not_found:1:{all}:"


@dataclass(frozen=True, slots=True)
class Told:
    """What a provider has said.

    Attributes:
        service: The provider; of an answer of all, the first of them.
        detail: In its words, without any key; of an answer of all, who they are.
        age_seconds: How long ago, on the store's clock.
    """

    service: str
    detail: str
    age_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.detail} (said {self.age_seconds:.0f} s ago; for NOT_FOUND_SECONDS="
            f"{provider_settings().not_found_seconds:g} it is not asked again)"
        )


def key_of(dataset: str, symbol: str, service: str | None, adjustment: str | None = None) -> str:
    """Where the answer to a question is kept.

    Args:
        dataset: What was asked for.
        symbol: Of what.
        service: The only provider that might be asked; None: any in the dataset's order.
        adjustment: Of any: those whose prices are adjusted for this.
    """
    asked = service or f":{adjustment or ''}"
    return f"{PREFIX}{dataset}:{symbol}:{asked}"


def key_of_task(task_id: str, service: str) -> str:
    """Where it is kept that a provider has told a task that it has nothing now."""
    return f"{PREFIX}now:{task_id}:{service}"


def remember(keys: Iterable[str], service: str, detail: str, seconds: float | None = None) -> None:
    """Keep a provider's word.

    Args:
        keys: Where.
        service: The provider.
        detail: What it has said.
        seconds: For how long at most; None: as long as any word is kept.

    Raises:
        StoreUnavailableError: The store does not answer; it is not kept.
    """
    longest = provider_settings().not_found_seconds
    if longest:
        keep = min(longest, longest if seconds is None else seconds)
        shared_scripts().evaluate(_REMEMBER, tuple(keys), service, detail, round(keep * 1000))


def conclude(question: str, words: Iterable[str], service: str, detail: str) -> None:
    """All who could know have said that they do not: keep that until the first of their words lapses.

    Args:
        question: Where.
        words: Where their words are; if one is not kept, nor is this.
        service: The first of them.
        detail: Who they are; '' for what the only one has said.

    Raises:
        StoreUnavailableError: The store does not answer; it is not kept.
    """
    longest = round(provider_settings().not_found_seconds * 1000)
    shared_scripts().evaluate(_CONCLUDE, (question, *words), service, detail, longest)


def recall(key: str) -> Told | None:
    """What is kept there, None where there is nothing or the store does not answer."""
    return recall_all([key])[0]


def recall_all(keys: Sequence[str]) -> list[Told | None]:
    """What is kept under each key, as ``recall``."""
    limit = provider_settings().not_found_seconds
    try:
        now, *rows = shared_scripts().evaluate(_RECALL, tuple(keys)) if limit else (0,)
    except StoreUnavailableError:
        rows = []
    return [_told(row, now, limit) for row in rows] or [None] * len(keys)


def _told(row: list[Any], now: int, limit: float) -> Told | None:
    try:
        service, detail, told_at = row
        age = max(0.0, (now - int(told_at or 0)) / MICROSECONDS)
        return Told(service.decode(), detail.decode(), age) if service and age < limit else None
    except UNREADABLE:  # the provider is asked instead
        return None


# KEYS  where     ARGV  1 service  2 detail  3 milliseconds to keep it
_REMEMBER = f"""{NOW}
for _, key in ipairs(KEYS) do
  redis.call('HSET', key, 'service', ARGV[1], 'detail', ARGV[2], 'told_at', string.format('%.0f', now))
  redis.call('PEXPIRE', key, ARGV[3])
end
"""

# KEYS  1 the question  2.. the words     ARGV  1 service  2 detail  3 milliseconds a word is kept
# does  keeps it as told when the first of them was, for as long as that one has left
_CONCLUDE = f"""{NOW}
local told_at = now
for place = 2, #KEYS do
  told_at = math.min(told_at, tonumber(redis.call('HGET', KEYS[place], 'told_at') or nil) or 0)
end
local left = math.floor((told_at - now) / 1000) + ARGV[3]
if left > 0 then
  told_at = string.format('%.0f', told_at)
  local detail = ARGV[2] ~= '' and ARGV[2] or redis.call('HGET', KEYS[2], 'detail')
  redis.call('HSET', KEYS[1], 'service', ARGV[1], 'detail', detail, 'told_at', told_at)
  redis.call('PEXPIRE', KEYS[1], left)
end
return 0
"""

# KEYS  where     out  {now (us), {service, detail, told_at (us)} for each}
# does  forgets what was told at a time to come: the clock was set back, and it would count for too long
_RECALL = f"""{NOW}
local out = {{ now }}
for place, key in ipairs(KEYS) do
  local row = redis.call('HMGET', key, 'service', 'detail', 'told_at')
  if (tonumber(row[3]) or 0) > now + 1000000 then
    redis.call('DEL', key)
    row = {{ false, false, false }}
  end
  out[place + 1] = row
end
return out
"""
