"""A provider's word that it knows no such symbol, kept for a short time in place of asking again.

To be told so once more costs a call, quota and, of a circuit that recovers, a probe. It is kept for what was
asked: one provider by name, or the dataset's order, where the first to say so has said it for all. Nothing
but ``not_found`` is: an empty list is a valid answer and may have grown by the next call, and
``caller_error`` is about how we ask, which is mended here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilience.errors import UNREADABLE, StoreUnavailableError
from resilience.policy import MICROSECONDS
from resilience.stores import shared_scripts
from tasks.settings import provider_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        service: The provider.
        detail: In its words, without any key.
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


def remember(keys: Iterable[str], service: str, detail: str) -> None:
    """Keep a provider's word, as the answer to these questions.

    Raises:
        StoreUnavailableError: The store does not answer; it is not kept.
    """
    seconds = provider_settings().not_found_seconds
    if seconds:
        shared_scripts().evaluate(_REMEMBER, tuple(keys), service, detail, round(seconds * 1000))


def recall(key: str) -> Told | None:
    """The answer to a question, None where there is none or the store does not answer."""
    limit = provider_settings().not_found_seconds
    if not limit:
        return None
    try:
        now, *told = shared_scripts().evaluate(_RECALL, (key,))
    except StoreUnavailableError:
        return None
    if not told:
        return None
    service, detail, told_at = told
    try:
        age = max(0.0, (now - int(told_at or 0)) / MICROSECONDS)
        return Told(service.decode(), detail.decode(), age) if service and age < limit else None
    except UNREADABLE:  # the provider is asked instead
        return None


# KEYS  the questions     ARGV  1 service  2 detail  3 milliseconds to keep it
_REMEMBER = f"""{NOW}
for _, key in ipairs(KEYS) do
  redis.call('HSET', key, 'service', ARGV[1], 'detail', ARGV[2], 'told_at', string.format('%.0f', now))
  redis.call('PEXPIRE', key, ARGV[3])
end
"""

# KEYS  1 the question     out  {now (us), service, detail, told_at (us)}
# does  forgets what was told at a time to come: the clock was set back, and it would count for too long
_RECALL = f"""{NOW}
local row = redis.call('HMGET', KEYS[1], 'service', 'detail', 'told_at')
if (tonumber(row[3]) or 0) > now + 1000000 then
  redis.call('DEL', KEYS[1])
  return {{ now }}
end
return {{ now, row[1], row[2], row[3] }}
"""
