"""A simulated provider's quotas: who is refused, with which reply, and what came above them.

Off unless asked for. Windows of an hour and more can be made shorter by a factor, so that a day's quota is
seen at work within minutes, and a month is then as long as a day; what they allow stays as it is, and so do
the shorter windows.
"""

import json
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from tasks.fetch import pace
from tasks.providers import PROVIDERS, Quota
from workers.simulator.replies import REPLIES, Limit, Replies, Reply
from workers.simulator.replies.reply import DAY

SHORTENED_FROM = 3_600.0
"""Seconds of the shortest window that the factor shortens."""


def in_force(limits: Iterable[Limit], faster: float) -> tuple[Limit, ...]:
    """A provider's limits where long windows pass so many times faster, and a month in a day's time."""
    if faster == 1:
        return tuple(limits)
    return tuple(
        replace(limit, seconds=min(limit.seconds, DAY) / faster) if limit.seconds >= SHORTENED_FROM else limit
        for limit in limits
    )


def circuits(faster: float) -> str:
    """What a client has to keep to, as circuits.toml: its rows' own quotas, in windows so much shorter.

    A row has one quota, and in shorter windows another of the documented ones may be slower.
    """
    tables = []
    for service, row in PROVIDERS.items():
        rows = [Limit(row.quota.calls, row.quota.seconds)] if row.quota else []
        limits = in_force([*rows, *REPLIES[service].limits], faster)
        if limits:
            slowest = min(limits, key=lambda limit: limit.calls / limit.seconds)
            burst = row.quota.burst if row.quota else 1
            fields = pace(Quota(slowest.calls, slowest.seconds, min(burst, slowest.calls)))
            # What the pace leaves of each other limit; the slowest is kept to whatever the burst.
            rate = slowest.calls / slowest.seconds
            left = [limit.calls - limit.seconds * rate for limit in limits if limit != slowest]
            fields["quota_burst"] = max(1, math.floor(min([fields["quota_burst"], *filter(None, left)])))
            if row.max_concurrent:
                fields["max_concurrent"] = row.max_concurrent
            tables += [
                f"[{service}]",
                *(f"{name} = {json.dumps(value)}" for name, value in fields.items()),
                "",
            ]
    return "\n".join(tables)


class Quotas:
    """What one provider has counted under its limits.

    Args:
        replies: Its replies, and its limits.
        faster: By how much its long windows are shorter.
    """

    def __init__(self, replies: Replies, faster: float) -> None:
        self._replies = replies
        self._counts = [_Count(limit) for limit in in_force(replies.limits, faster)]
        self._quiet_until = 0.0
        self.refusals = self.above = 0

    def refusal(self, now: float) -> Reply | None:
        """Count a call; the reply where a limit refuses it, None where it may pass.

        Args:
            now: Unix time in seconds.
        """
        above = [count for count in self._counts if count.is_above(now)]
        self.above += bool(above)
        self._quiet_until = max([self._quiet_until, *(now + count.limit.quiet_seconds for count in above)])
        full = [count for count in self._counts if count.is_full(now)]
        if not full and now >= self._quiet_until:
            for count in self._counts:
                count.take(now)
            return None
        self.refusals += 1
        longest = max(full, key=lambda count: count.limit.seconds) if full else None
        reply = self._replies.quota if longest and longest.limit.says == "quota" else self._replies.throttle
        ends = max(self._quiet_until, longest.ends(now) if longest else 0)
        return replace(reply, headers=reply.headers_at(now, ends))

    def state(self) -> dict[str, object]:
        """What the control API shows."""
        return {
            "refusals": self.refusals,
            "above": self.above,
            "quotas": [
                {"calls": count.limit.calls, "seconds": count.limit.seconds} for count in self._counts
            ],
        }


class _Count:
    """The calls within one limit's window."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._taken: deque[float] = deque()
        self._came: deque[float] = deque(maxlen=limit.calls)

    def is_above(self, now: float) -> bool:
        """Whether more than allowed, refused ones included, came in a stretch of the window's length."""
        above = len(self._came) == self.limit.calls and now - self._came[0] < self.limit.seconds
        self._came.append(now)
        return above

    def is_full(self, now: float) -> bool:
        """Whether the window holds all it allows."""
        begun = self._begun(now)
        while self._taken and self._taken[0] < begun:
            self._taken.popleft()
        return len(self._taken) >= self.limit.calls

    def take(self, now: float) -> None:
        """One more."""
        self._taken.append(now)

    def ends(self, now: float) -> float:
        """When a full window has room again."""
        return self.limit.seconds + (self._taken[0] if self.limit.window == "sliding" else self._begun(now))

    def _begun(self, now: float) -> float:
        if self.limit.window == "sliding":
            return math.nextafter(now - self.limit.seconds, math.inf)
        if self.limit.window == "clock":
            return now - now % self.limit.seconds
        first = self._taken[0] if self._taken else now
        return first if now - first < self.limit.seconds else now
