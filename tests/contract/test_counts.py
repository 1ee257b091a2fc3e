"""What every store counts of calls and changes of state, for whoever reads it."""

from __future__ import annotations

import pytest

from resilience import CircuitBreaker, CircuitState, Policy, Verdict
from resilience.circuit import DURATION_BOUNDS
from tests.circuits import Clock, fail, granted, names


@pytest.fixture
def breaker(store):
    return CircuitBreaker(
        next(names), failure_threshold=2, timeout_seconds=10, half_open_max_calls=1, store=store
    )


@pytest.mark.parametrize("over", [0, 1], ids=["as long as a bound", "a microsecond longer"])
def test_a_call_is_counted_up_to_the_first_bound_it_does_not_exceed(breaker, clock: Clock, over):
    for micros in DURATION_BOUNDS:
        permit = granted(breaker)
        clock.now += micros + over
        breaker.report(permit, Verdict.SUCCESS)
    sections = [str(bound) for bound in DURATION_BOUNDS[over:]] + ["inf"] * over
    assert breaker.read().took == {
        **{f"success:{bound}": 1 for bound in sections},
        "success:sum": sum(DURATION_BOUNDS) + over * len(DURATION_BOUNDS),
    }


@pytest.mark.parametrize(
    "policy", [Policy(), Policy(max_concurrent=5), Policy(quota_calls=10_000, quota_seconds=1, quota_burst=9)]
)
def test_each_verdict_has_durations_of_its_own_whatever_the_policy(store, clock: Clock, policy):
    breaker = CircuitBreaker(next(names), store=store, policy=policy)
    for seconds, verdict in enumerate(Verdict, start=1):
        permit = granted(breaker)
        clock.forward(seconds)
        breaker.report(permit, verdict, hold_seconds=1)
        clock.forward(1)
    took = breaker.read().took
    sums = {verdict.value: took[f"{verdict.value}:sum"] for verdict in Verdict}
    assert sums == {verdict.value: seconds * 1_000_000 for seconds, verdict in enumerate(Verdict, start=1)}


def test_a_clock_set_back_meanwhile_makes_a_call_short_and_not_negative(breaker, clock: Clock):
    permit = granted(breaker)
    clock.forward(-5)
    breaker.report(permit, Verdict.SUCCESS)
    assert breaker.read().took == {f"success:{DURATION_BOUNDS[0]}": 1, "success:sum": 0}


def test_every_change_of_state_is_counted_an_operators_too(breaker, clock: Clock):
    assert breaker.read().moved_total == {}
    fail(breaker, 2)
    clock.forward(10)
    fail(breaker)
    clock.forward(10)
    breaker.report(granted(breaker), Verdict.SUCCESS)
    breaker.force_open(5)
    clock.forward(5)
    breaker.reset()
    assert breaker.read().moved_total == {
        "closed:open": 1,
        "open:half_open": 2,
        "half_open:open": 1,
        "half_open:closed": 1,
        "closed:forced_open": 1,
        "forced_open:closed": 1,
    }


@pytest.mark.parametrize("lived", ["not at all", "well", "through an outage", "under a rate", "under orders"])
def test_a_second_look_in_a_minute_tells_what_the_first_did(store, clock: Clock, lived):
    """The second goes a shorter way where nothing is wrong."""
    rate = {"quota_calls": 60, "quota_seconds": 60} if lived == "under a rate" else {}
    policy = Policy(failure_threshold=2, timeout_seconds=10, half_open_max_calls=1, **rate)
    breaker = CircuitBreaker(next(names), store=store, policy=policy)
    if lived != "not at all":
        breaker.report(granted(breaker), Verdict.SUCCESS)
    if lived == "through an outage":
        fail(breaker, 2)
        clock.forward(10)
        breaker.report(granted(breaker), Verdict.SUCCESS)
    if lived == "under orders":
        breaker.disable(30)
    first = breaker.read()
    assert breaker.read() == first
    clock.forward(1)
    breaker.report(granted(breaker), Verdict.IGNORED)
    assert breaker.read().allowed_total == first.allowed_total + 1
    clock.forward(60)
    last = breaker.read()
    assert breaker.read() == last
    assert last.state is CircuitState.CLOSED
