"""What tests of a circuit speak in: names of their own, a clock moved by hand, and a few verbs."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from resilience import Verdict

if TYPE_CHECKING:
    from resilience import CircuitBreaker, CircuitState, Permit

names = (f"service-{n}" for n in itertools.count())


class Clock:
    """Microseconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_987_654  # no whole second: what is cut off shows

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += round(seconds * 1_000_000)

    def time(self, after: float = 0) -> datetime:
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self.now, seconds=after)


def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.report(granted(breaker), Verdict.FAILURE)


def granted(breaker: CircuitBreaker) -> Permit:
    permit = breaker.acquire()
    assert permit, permit
    return permit


def state(breaker: CircuitBreaker) -> CircuitState:
    return breaker.read().state
