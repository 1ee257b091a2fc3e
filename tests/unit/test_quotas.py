"""The simulated providers' quotas, on a clock of the tests' own, and the pace that keeps to them."""

from __future__ import annotations

import tomllib
from collections import deque
from typing import TYPE_CHECKING

import pytest

from resilience import CircuitBreaker, Policy, Verdict
from resilience.stores.memory import MemoryStore
from tasks.fetch import pace
from tasks.providers import PROVIDERS
from workers.simulator.quotas import Quotas, circuits
from workers.simulator.replies import REPLIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from resilience import Permit

FULL_MINUTE = 1_800_000_000.0  # and hour


def answers(
    service: str, times: Iterable[float], faster: float = 1
) -> tuple[list[int | None], dict[str, object]]:
    """The status of each refusal, None for a call let through, and what was counted."""
    quotas = Quotas(REPLIES[service], faster)
    found = [quotas.refusal(FULL_MINUTE + at) for at in times]
    return [reply and reply.status for reply in found], quotas.state()


def test_a_window_on_the_clock_starts_again_at_the_full_minute() -> None:
    found, state = answers("polygon", [55, 56, 57, 58, 59, 59.5, 60])
    assert found == [None] * 5 + [429, None]
    assert (state["refusals"], state["above"]) == (1, 2)  # of any minute's length, the last is above, too


def test_a_window_from_the_first_call_on_starts_again_when_it_is_over() -> None:
    quotas = Quotas(REPLIES["tradier"], 1)
    assert [quotas.refusal(FULL_MINUTE + 30 + n / 10) for n in range(120)] == [None] * 120
    refusal = quotas.refusal(FULL_MINUTE + 80)
    assert refusal
    assert refusal.headers["X-Ratelimit-Expiry"] == f"{FULL_MINUTE + 90:.0f}000"
    assert quotas.refusal(FULL_MINUTE + 90) is None


def test_where_no_start_is_documented_no_stretch_of_the_window_may_hold_more() -> None:
    found, state = answers("coingecko", [0] * 50 + [59] * 50 + [59.9, 60] + [61] * 50)
    assert found == [None] * 100 + [429] + [None] * 50 + [429]
    assert state["above"] == 3  # the refused calls came, too


def test_sec_lets_nobody_in_again_before_ten_minutes_below_its_limit() -> None:
    found, _ = answers("sec_edgar", [n / 20 for n in range(11)] + [300, 600.4, 600.5])
    assert found == [None] * 10 + [403] * 3 + [None]


def test_a_days_quota_has_a_reply_of_its_own_and_a_factor_makes_the_day_shorter() -> None:
    found, state = answers("twelvedata", [n * 8 for n in range(76)], faster=144)
    assert found.count(None) == 76
    assert state["quotas"] == [{"calls": 8, "seconds": 60}, {"calls": 800, "seconds": 600}]
    quotas = Quotas(REPLIES["eodhd"], 144)
    refusals = [quotas.refusal(FULL_MINUTE + n) for n in (*range(21), 600)]
    assert [reply and reply.status for reply in refusals] == [None] * 20 + [402, None]


def test_a_provider_that_documents_no_quota_refuses_nobody() -> None:
    assert answers("yahoo", [0] * 1_000) == ([None] * 1_000, {"refusals": 0, "above": 0, "quotas": []})


def arrivals(fields: Mapping[str, Any], takes: float) -> list[float]:
    """When calls reach a provider whose circuit is asked all the time: of three windows, or one and 500 more.

    Each is reported when it has taken so long. Every other one arrives at the last moment before that, the
    others at once.
    """
    now = 0

    def clock() -> int:
        return round((FULL_MINUTE + now) * 1_000_000)

    breaker = CircuitBreaker("asked", store=MemoryStore(clock), policy=Policy(**fields))
    calls = fields["quota_calls"]
    several = min(3 * calls, calls + 500, 20_000) + fields.get("quota_burst", 1)
    out: deque[tuple[float, Permit]] = deque()
    found: list[float] = []
    while len(found) < several:
        while out and out[0][0] <= now:
            breaker.report(out.popleft()[1], Verdict.SUCCESS)
        permit = breaker.acquire()
        if permit:
            found.append(now + (takes - 0.000_01) * (len(found) % 2 == 0))
            out.append((now + takes, permit))
        else:
            assert permit.retry_at
            then = permit.retry_at.timestamp() - FULL_MINUTE
            now = min(then, out[0][0]) if out else then
    return sorted(found)


@pytest.mark.parametrize("service", [service for service, row in PROVIDERS.items() if row.quota])
def test_the_pace_of_a_row_never_brings_a_call_above_its_providers_quotas(service: str) -> None:
    row = PROVIDERS[service]
    assert row.quota
    for takes in (0.001, 0.9):
        came = arrivals(pace(row.quota), takes)
        for offset in (0, 17.3, 59.9):
            found, state = answers(service, [at + offset for at in came])
            assert (set(found), state["refusals"], state["above"]) == ({None}, 0, 0)


@pytest.mark.parametrize("service", [service for service, row in PROVIDERS.items() if row.quota])
def test_the_pace_of_a_row_leaves_little_of_its_quota_unused(service: str) -> None:
    row = PROVIDERS[service]
    assert row.quota
    came = arrivals(pace(row.quota), 0.02)
    assert (len(came) - 1) / (came[-1] - came[0]) > 0.97 * row.quota.calls / row.quota.seconds


@pytest.mark.parametrize(("faster", "takes"), [(1, 0.9), (144, 0.9), (28_800, 0.001)])
def test_a_client_of_the_simulator_is_told_a_pace_that_keeps_to_the_quotas_in_force(
    faster: float, takes: float
) -> None:
    tables = tomllib.loads(circuits(faster))
    assert tables.keys() == {service for service, replies in REPLIES.items() if replies.limits}
    for service, fields in tables.items():
        fields.pop("max_concurrent", None)
        _, state = answers(service, arrivals(fields, takes), faster)
        assert (service, state["refusals"], state["above"]) == (service, 0, 0)
