"""The rules of a policy beyond consecutive failures, on both stores: rates, limits, reporters, observing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from resilience import CircuitBreaker, CircuitState, ConfigurationError, Policy, Reason, Verdict
from resilience.circuit import REEXAMINE_SECONDS, Evidence, Finding
from resilience.policy import LEASE_GRACE_SECONDS
from resilience.stores.redis import RedisStore
from tests.circuits import fail, granted, names, state

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience import Permit
    from resilience.circuit import Report
    from resilience.stores import Store
    from tests.circuits import Clock

Make = "Callable[..., CircuitBreaker]"


@pytest.fixture
def make(store: Store) -> Callable[..., CircuitBreaker]:
    """A breaker of a policy whose other rules stay out of the way."""

    def breaker(key: str = "", service: str | None = None, **rules: Any) -> CircuitBreaker:
        policy = Policy(**{"failure_threshold": 1000, "call_seconds": 10} | rules)
        return CircuitBreaker(service or next(names), store=store, policy=policy, key=key)

    return breaker


def call(
    breaker: CircuitBreaker, verdict: str = "success", clock: Clock | None = None, takes: float = 0
) -> None:
    permit = granted(breaker)
    if clock:
        clock.forward(takes)
    breaker.report(permit, verdict)


def fails_on(breaker: CircuitBreaker, host: str) -> None:
    breaker.store.report(granted(breaker), breaker.policy, Finding(Verdict.FAILURE, host=host))


# failure rate


def test_a_rate_opens_it_where_failures_never_come_in_a_row(make: Make) -> None:
    breaker = make(failure_rate=0.5, minimum_calls=10)
    for _ in range(4):
        call(breaker, "success")
        call(breaker, "failure")
    call(breaker, "success")
    assert state(breaker) is CircuitState.CLOSED
    call(breaker, "failure")
    assert state(breaker) is CircuitState.OPEN
    assert breaker.read().reason is Reason.FAILURES
    [change] = breaker.store.transitions([breaker.service_name])
    assert change.evidence == Evidence(failures=1, calls=10, failed=5, slow=0)


def test_a_rate_means_nothing_below_its_minimum_of_calls(make: Make) -> None:
    breaker = make(failure_rate=0.1, minimum_calls=10)
    fail(breaker, 9)
    assert state(breaker) is CircuitState.CLOSED
    fail(breaker)
    assert state(breaker) is CircuitState.OPEN


def test_calls_older_than_the_window_do_not_count(make: Make, clock: Clock) -> None:
    breaker = make(failure_rate=0.5, minimum_calls=4, window_seconds=10)
    fail(breaker, 3)
    clock.forward(11)
    fail(breaker, 3)
    assert state(breaker) is CircuitState.CLOSED
    clock.forward(5)
    fail(breaker)
    assert state(breaker) is CircuitState.OPEN


def test_ignored_calls_and_holds_are_no_part_of_a_rate(make: Make) -> None:
    breaker = make(failure_rate=0.5, minimum_calls=4)
    for _ in range(4):
        call(breaker, "ignored")
    fail(breaker, 3)
    assert state(breaker) is CircuitState.CLOSED


def test_a_window_begins_anew_after_recovery(make: Make, clock: Clock) -> None:
    breaker = make(failure_rate=0.5, minimum_calls=4, timeout_seconds=1, half_open_max_calls=1)
    fail(breaker, 4)
    clock.forward(1)
    call(breaker)
    fail(breaker, 3)
    assert state(breaker) is CircuitState.CLOSED


# slow calls


def test_slow_calls_open_it_though_they_succeed(make: Make, clock: Clock) -> None:
    breaker = make(slow_call_seconds=2, slow_call_rate=0.5, minimum_calls=4)
    for takes in (0.1, 3, 2):  # exactly the limit is not slow
        call(breaker, "success", clock, takes)
    assert state(breaker) is CircuitState.CLOSED
    call(breaker, "success", clock, 2.000001)
    circuit = breaker.read()
    assert (circuit.state, circuit.reason, circuit.trips_total) == (CircuitState.OPEN, Reason.SLOW_CALLS, 1)
    [change] = breaker.store.transitions([breaker.service_name])
    assert change.evidence == Evidence(failures=0, calls=4, failed=0, slow=2)


def test_a_slow_probe_has_not_recovered(make: Make, clock: Clock) -> None:
    breaker = make(slow_call_seconds=2, slow_call_rate=1, minimum_calls=1, timeout_seconds=5)
    call(breaker, "success", clock, 3)
    clock.forward(5)
    call(breaker, "success", clock, 3)
    circuit = breaker.read()
    assert (circuit.state, circuit.reason, circuit.reopened) == (CircuitState.OPEN, Reason.SLOW_CALLS, 1)


# how long it stays open


def test_each_failed_recovery_doubles_the_open_time_less_some_jitter_up_to_the_cap(
    make: Make, clock: Clock
) -> None:
    rules = {"failure_threshold": 1, "timeout_seconds": 10, "timeout_cap_seconds": 50, "jitter": 0.5}
    breaker = make(half_open_max_calls=1, **rules)
    fail(breaker)
    for shortest, longest in ((10, 10), (15, 20), (25, 40), (30, 50), (30, 50)):
        seconds = (breaker.acquire().retry_at - clock.time(0)).total_seconds()
        assert shortest <= seconds <= longest
        clock.forward(seconds)
        fail(breaker)
    clock.forward(50)
    call(breaker)
    fail(breaker)
    assert breaker.acquire().retry_at == clock.time(10), "after a recovery it begins anew, exactly"


def test_a_cap_below_the_open_time_takes_nothing_off_it(make: Make, clock: Clock) -> None:
    rules = {"failure_threshold": 1, "timeout_seconds": 10, "timeout_cap_seconds": 5, "jitter": 1}
    breaker = make(half_open_max_calls=1, **rules)
    for _ in range(3):
        fail(breaker)
        assert breaker.acquire().retry_at == clock.time(10)
        clock.forward(10)


# a probe's own deadline


def test_a_probe_has_a_deadline_and_a_lease_of_its_own(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=1, timeout_seconds=5, probe_seconds=1, half_open_max_calls=1)
    assert granted(breaker).call_seconds == 10
    fail(breaker)
    clock.forward(5)
    probe = granted(breaker)
    assert probe.call_seconds == 1
    assert probe.until == clock.time(1 + LEASE_GRACE_SECONDS)
    clock.forward(1 + LEASE_GRACE_SECONDS)
    assert granted(breaker).probe


# quota


def test_a_quota_lets_its_burst_through_and_then_its_rate(make: Make, clock: Clock) -> None:
    breaker = make(quota_calls=5, quota_seconds=60, quota_burst=3)
    for _ in range(3):
        call(breaker)
    refusal = breaker.acquire()
    assert (bool(refusal), refusal.reason, refusal.state) == (False, Reason.QUOTA, CircuitState.CLOSED)
    assert refusal.retry_at == clock.time(12)
    assert refusal.retry_in == 12
    clock.forward(11.999999)
    assert not breaker.acquire()
    clock.forward(0.000001)
    call(breaker)
    assert not breaker.acquire()


def test_a_quota_is_never_exceeded_by_more_than_its_burst(make: Make, clock: Clock) -> None:
    breaker = make(quota_calls=5, quota_seconds=60, quota_burst=2)
    passed = 0
    for _ in range(600):
        passed += bool(breaker.acquire())
        clock.forward(0.5)
    assert passed == 5 * 5 + 1  # five minutes, and the one of the burst that did not wait


def test_a_strict_quota_is_never_exceeded_its_burst_included(make: Make, clock: Clock) -> None:
    breaker = make(quota_calls=5, quota_seconds=60, quota_burst=3, quota_strict=True)
    passed: list[float] = []
    for number in range(1_200):
        permit = breaker.acquire()
        if permit:
            breaker.report(permit, Verdict.SUCCESS)
            passed.append(number * 0.5)
        clock.forward(0.5)
    assert len(passed) == 10 * 5
    assert all(later - earlier >= 60 for earlier, later in zip(passed, passed[5:], strict=False))


def test_a_call_counts_in_a_strict_quota_until_its_window_after_its_report(make: Make, clock: Clock) -> None:
    breaker = make(quota_calls=2, quota_seconds=60, quota_burst=2, quota_strict=True)
    slow, quick = granted(breaker), granted(breaker)
    breaker.report(quick, Verdict.SUCCESS)
    clock.forward(9)
    breaker.report(slow, Verdict.FAILURE)
    clock.forward(51)
    call(breaker)  # the quick one's window is over
    refusal = breaker.acquire()
    assert (refusal.reason, refusal.retry_in) == (Reason.QUOTA, 9)
    clock.forward(9)
    call(breaker)


def test_a_strict_quota_lets_nobody_in_for_a_slow_call_before_its_window_is_over(
    make: Make, clock: Clock
) -> None:
    breaker = make(quota_calls=1, quota_seconds=60, quota_strict=True)
    slow = granted(breaker)
    clock.forward(9)
    breaker.report(slow, Verdict.SUCCESS)
    clock.forward(59.999999)
    refusal = breaker.acquire()
    assert (bool(refusal), refusal.reason, refusal.retry_at) == (False, Reason.QUOTA, clock.time(0.000001))
    clock.forward(0.000001)
    call(breaker)


def test_a_call_nobody_reports_counts_in_a_strict_quota_as_if_it_had_taken_all_its_time(
    make: Make, clock: Clock
) -> None:
    breaker = make(quota_calls=1, quota_seconds=60, quota_strict=True)
    granted(breaker)
    lease = 10 + LEASE_GRACE_SECONDS
    clock.forward(60 + lease - 0.000001)
    assert not breaker.acquire()
    clock.forward(0.000001)
    call(breaker)


def test_a_strict_quota_set_too_tight_is_mended_within_its_own_window(make: Make, clock: Clock) -> None:
    breaker = make(quota_calls=1, quota_seconds=60, quota_strict=True)
    breaker.override({"quota_calls": 1, "quota_seconds": 86_400}, 600)
    call(breaker)
    breaker.end_override()
    assert not breaker.acquire()
    clock.forward(60 + 10 + LEASE_GRACE_SECONDS + 0.1)
    call(breaker)


def test_a_reset_forgets_no_call_of_a_strict_quota(make: Make) -> None:
    breaker = make(quota_calls=1, quota_seconds=60, quota_strict=True)
    call(breaker)
    breaker.reset()
    assert not breaker.acquire()


def test_a_quota_refusal_is_no_failure_and_counts_as_blocked(make: Make) -> None:
    breaker = make(quota_calls=1, quota_seconds=60)
    call(breaker)
    assert not breaker.acquire()
    circuit = breaker.read()
    assert (circuit.state, circuit.failures_total, circuit.blocked_total) == (CircuitState.CLOSED, 0, 1)


def test_a_quota_is_the_fleets(make: Make) -> None:
    first = make(quota_calls=1, quota_seconds=60)
    second = make(service=first.service_name, quota_calls=1, quota_seconds=60)
    call(first)
    assert not second.acquire()


def test_the_state_tells_what_is_left_of_the_quota_and_when_more_comes(make: Make, clock: Clock) -> None:
    breaker = make(quota_calls=5, quota_seconds=60, quota_burst=3)

    def told() -> list[Any]:
        shown = breaker.get_state()
        return [shown[f"quota_{name}"] for name in ("calls", "seconds", "left", "next_at", "full_at")]

    def after(seconds: float) -> str:
        return clock.time(seconds).isoformat()

    assert told() == [5, 60, 3, None, None]
    call(breaker)
    assert told() == [5, 60, 2, None, after(12)]
    call(breaker)
    call(breaker)
    assert told() == [5, 60, 0, after(12), after(36)]
    refusal = breaker.acquire()
    assert refusal.retry_at.isoformat() == told()[3], "what is shown is what is kept to"
    clock.forward(18)
    assert told() == [5, 60, 1, None, after(18)]
    clock.forward(18)
    assert told() == [5, 60, 3, None, None]
    breaker.override({"quota_calls": 1, "quota_burst": 1}, 60)
    call(breaker)
    assert told() == [1, 60, 0, after(60), after(60)]


def test_without_a_quota_nothing_is_told_of_one(make: Make) -> None:
    shown = make().get_state()
    assert {shown[f"quota_{name}"] for name in ("calls", "seconds", "left", "next_at", "full_at")} == {None}


@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.QUOTA])
def test_the_state_tells_when_a_hold_the_service_asked_for_ends(
    make: Make, clock: Clock, reason: Reason
) -> None:
    breaker = make()
    assert breaker.get_state()["hold_until"] is None
    breaker.report(granted(breaker), Verdict.HOLD, hold_seconds=90, reason=reason)
    assert breaker.get_state()["hold_until"] == clock.time(90).isoformat()
    breaker.force_open(600)
    assert breaker.get_state()["hold_until"] is None, "an operator's word is no hold"


def test_an_open_time_is_no_hold_the_service_asked_for(make: Make) -> None:
    breaker = make(failure_threshold=1)
    fail(breaker)
    assert breaker.get_state()["hold_until"] is None


def test_probes_keep_to_the_quota(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=1, timeout_seconds=1, quota_calls=1, quota_seconds=60)
    fail(breaker)
    clock.forward(1)
    refusal = breaker.acquire()
    assert (refusal.reason, refusal.retry_at) == (Reason.QUOTA, clock.time(59))
    clock.forward(59)
    assert granted(breaker).probe


def test_a_refused_call_uses_no_quota(make: Make, clock: Clock) -> None:
    breaker = make(quota_calls=1, quota_seconds=60)
    call(breaker)
    for _ in range(50):
        assert not breaker.acquire()
    clock.forward(60)
    call(breaker)


# recovery


def test_a_failure_in_a_recovery_stops_calls_for_a_second_and_then_halves_their_pace(
    make: Make, clock: Clock
) -> None:
    rules = {"failure_threshold": 2, "timeout_seconds": 1, "half_open_max_calls": 1, "half_open_successes": 1}
    breaker = make(ramp_calls=8, **rules)
    fail(breaker, 2)
    clock.forward(1)
    call(breaker)
    clock.forward(1)  # sixteen a second now, half of them at once
    fail(breaker)
    refusal = breaker.acquire()
    assert (bool(refusal), refusal.reason, refusal.state) == (False, Reason.RECOVERING, CircuitState.CLOSED)
    assert refusal.retry_at == clock.time(1)
    clock.forward(0.999999)
    assert not breaker.acquire()
    clock.forward(0.000001)
    for _ in range(4):
        call(breaker)
    refusal = breaker.acquire()
    assert (bool(refusal), refusal.reason) == (False, Reason.RECOVERING)
    assert refusal.retry_at == clock.time(1 / 8)


def recovered(make: Make, clock: Clock, **rules: Any) -> CircuitBreaker:
    """A circuit that has just closed after an outage."""
    once = {"timeout_seconds": 1, "half_open_max_calls": 1, "half_open_successes": 1}
    breaker = make(**once, **rules)
    fail(breaker, breaker.policy.failure_threshold)
    clock.forward(1)
    call(breaker)
    return breaker


def let_at_once(breaker: CircuitBreaker) -> int:
    return len([permit for _ in range(2000) if (permit := breaker.acquire())])


def test_a_recovery_ends_however_many_calls_fail(make: Make, clock: Clock) -> None:
    breaker = recovered(make, clock, ramp_calls=1, failure_threshold=5)
    for number in range(32 * 10):
        if permit := breaker.acquire():
            breaker.report(permit, "failure" if number % 2 else "success")
        clock.forward(1)
        if number == 32 * 6:
            assert let_at_once(breaker) == 2**6 / 2, "it comes back gently where much fails"
    assert let_at_once(breaker) == 2000
    assert breaker.read().recovering_since is None


@pytest.mark.parametrize("act", ["reset", "force_close"])
def test_an_operator_ends_a_recovery_at_once(make: Make, clock: Clock, act: str) -> None:
    breaker = recovered(make, clock, ramp_calls=1, failure_threshold=5)
    assert breaker.read().recovering_since
    getattr(breaker, act)()
    assert breaker.read().recovering_since is None
    assert len([permit for _ in range(50) if (permit := breaker.acquire())]) == 50


# concurrency


def test_no_more_calls_at_once_than_allowed(make: Make, clock: Clock) -> None:
    breaker = make(max_concurrent=2)
    first, _ = granted(breaker), granted(breaker)
    clock.forward(1)
    refusal = breaker.acquire()
    assert (refusal.reason, refusal.retry_at) == (Reason.CONCURRENCY, clock.time(9 + LEASE_GRACE_SECONDS))
    breaker.report(first, "failure")
    granted(breaker)
    assert not breaker.acquire()


def test_a_killed_callers_place_is_free_after_its_lease(make: Make, clock: Clock) -> None:
    breaker = make(max_concurrent=1)
    granted(breaker)
    clock.forward(10 + LEASE_GRACE_SECONDS - 0.000001)
    assert not breaker.acquire()
    clock.forward(0.000001)
    granted(breaker)


def test_a_place_is_given_back_also_by_a_report_that_comes_too_late(make: Make) -> None:
    breaker = make(max_concurrent=2, failure_threshold=1)
    early = granted(breaker)
    fail(breaker)
    breaker.reset()
    granted(breaker)
    assert not breaker.acquire()
    assert not breaker.report(early, "success").applied
    granted(breaker)


# reporters


def test_one_host_cannot_cut_off_the_others(make: Make) -> None:
    breaker = make(failure_threshold=3, min_reporters=2)
    for _ in range(10):
        fails_on(breaker, "broken")
    assert state(breaker) is CircuitState.CLOSED
    fails_on(breaker, "another")
    assert state(breaker) is CircuitState.OPEN


def test_a_host_that_reported_long_ago_no_longer_counts(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=3, min_reporters=2, window_seconds=30)
    fails_on(breaker, "one")
    clock.forward(30)
    for _ in range(5):
        fails_on(breaker, "two")
    assert state(breaker) is CircuitState.CLOSED


def test_a_failed_probe_needs_no_second_witness(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=1, min_reporters=2, timeout_seconds=5)
    fails_on(breaker, "one")
    fails_on(breaker, "two")
    clock.forward(5)
    fails_on(breaker, "one")
    assert state(breaker) is CircuitState.OPEN


# observing


def test_observing_decides_and_refuses_nothing(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=3, timeout_seconds=60, observe_only=True)
    fail(breaker, 3)
    assert state(breaker) is CircuitState.OPEN
    for _ in range(5):
        fail(breaker)
    circuit = breaker.read()
    assert (circuit.would_block_total, circuit.blocked_total, circuit.allowed_total) == (5, 0, 8)
    assert circuit.retry_at == clock.time(60)
    clock.forward(60)
    permits = [granted(breaker) for _ in range(5)]
    assert [permit.probe for permit in permits] == [True, True, True, False, False]
    for permit in permits:
        breaker.report(permit, "success")
    assert state(breaker) is CircuitState.CLOSED


def test_observing_keeps_no_limit_but_counts(make: Make) -> None:
    breaker = make(quota_calls=1, quota_seconds=60, observe_only=True)
    call(breaker)
    call(breaker)
    assert breaker.read().would_block_total == 1


def test_an_operator_is_obeyed_also_while_observing(make: Make) -> None:
    breaker = make(observe_only=True)
    breaker.force_open(10)
    assert not breaker.acquire()


# keys


def refused(breaker: CircuitBreaker) -> Permit:
    breaker.report(granted(breaker), "hold", hold_seconds=60, reason="auth")
    permit = breaker.acquire()
    assert not permit
    return permit


def test_a_refused_key_is_not_tried_again_and_again(make: Make, clock: Clock) -> None:
    breaker = make(key="a")
    assert refused(breaker).retry_at == clock.time(60)
    for _ in range(50):
        clock.forward(601)
        permit = breaker.acquire()
        assert (bool(permit), permit.reason) == (False, Reason.AUTH)
        assert permit.retry_at == clock.time(REEXAMINE_SECONDS)
    circuit = breaker.read()
    assert (circuit.state, circuit.reason, circuit.refused_keys) == (
        CircuitState.OPEN,
        Reason.AUTH,
        frozenset({"a"}),
    )


def test_a_new_key_is_tried_at_once_and_gently(make: Make) -> None:
    old = make(key="a", half_open_max_calls=1)
    refused(old)
    new = make(key="b", service=old.service_name, half_open_max_calls=1)
    probe = granted(new)
    assert probe.probe
    assert not new.acquire()
    new.report(probe, "success")
    assert state(new) is CircuitState.CLOSED
    permit = old.acquire()
    assert (bool(permit), permit.reason) == (False, Reason.AUTH)
    granted(new)


def test_a_stale_key_does_not_cut_off_those_whose_key_works(make: Make) -> None:
    good = make(key="good")
    call(good)
    stale = make(key="stale", service=good.service_name)
    assert refused(stale).state is CircuitState.CLOSED
    assert state(good) is CircuitState.CLOSED
    call(good)


def test_a_key_that_worked_and_is_refused_now_opens_the_circuit(make: Make) -> None:
    breaker = make(key="a")
    call(breaker)
    refused(breaker)
    assert breaker.read().reason is Reason.AUTH


def test_a_reset_lets_a_refused_key_try_again(make: Make) -> None:
    breaker = make(key="a")
    refused(breaker)
    breaker.reset()
    assert breaker.read().refused_keys == frozenset()
    granted(breaker)


def test_what_is_retired_is_not_probed_until_somebody_resets_it(make: Make, clock: Clock) -> None:
    breaker = make()
    breaker.report(granted(breaker), "hold", hold_seconds=60, reason="retired")
    for _ in range(3):
        clock.forward(100_000)
        permit = breaker.acquire()
        assert (bool(permit), permit.reason) == (False, Reason.RETIRED)
        assert permit.retry_at == clock.time(REEXAMINE_SECONDS)
    breaker.reset()
    granted(breaker)


@pytest.mark.parametrize("reason", ["auth", "retired"])
def test_what_nobody_probes_still_shows_a_time_to_come(make: Make, clock: Clock, reason: str) -> None:
    breaker = make()
    breaker.report(granted(breaker), "hold", hold_seconds=60, reason=reason)
    clock.forward(1000)
    assert breaker.read().retry_at == clock.time(REEXAMINE_SECONDS)


@pytest.mark.parametrize(("verdict", "reason"), [("failure", None), ("hold", "rate_limited")])
def test_a_refused_key_does_not_move_the_time_of_the_others(
    make: Make, clock: Clock, verdict: str, reason: str | None
) -> None:
    good = make(key="good", failure_threshold=1, timeout_seconds=60)
    call(good)
    stale = make(key="stale", service=good.service_name, failure_threshold=1, timeout_seconds=60)
    refused(stale)
    good.report(granted(good), verdict, hold_seconds=60, reason=reason)
    clock.forward(60)
    assert stale.acquire().reason is Reason.AUTH
    assert granted(good).probe


def turned_away(breaker: CircuitBreaker) -> Report:
    """A refusal that does not say that it is the key."""
    return breaker.report(granted(breaker), "hold", hold_seconds=60, reason="turned_away")


def test_an_unexplained_refusal_is_a_hold_and_the_keys_only_where_it_is_met_again(
    make: Make, clock: Clock
) -> None:
    breaker = make(key="a")
    call(breaker)
    assert turned_away(breaker).reason is Reason.TURNED_AWAY
    permit = breaker.acquire()
    assert (permit.reason, permit.retry_at) == (Reason.TURNED_AWAY, clock.time(60))
    clock.forward(60)
    assert turned_away(breaker).reason is Reason.AUTH
    clock.forward(100_000)
    assert breaker.acquire().reason is Reason.AUTH
    assert breaker.read().refused_keys == frozenset({"a"})


def test_unexplained_refusals_among_successes_shut_it_for_nobody_who_must_come(
    make: Make, clock: Clock
) -> None:
    breaker = make(key="a", half_open_max_calls=1)
    for _ in range(5):
        assert turned_away(breaker).reason is Reason.TURNED_AWAY
        clock.forward(60)
        call(breaker)
        assert state(breaker) is CircuitState.CLOSED
    assert breaker.read().refused_keys == frozenset()


def test_an_operator_may_have_it_tried_before_its_time(make: Make) -> None:
    breaker = make(key="a")
    turned_away(breaker)
    breaker.reset()
    assert turned_away(breaker).reason is Reason.TURNED_AWAY, "the first again"


def test_an_unexplained_refusal_of_a_key_holds_nobody_whose_key_is_accepted(make: Make, clock: Clock) -> None:
    good = make(key="good")
    call(good)
    other = make(key="other", service=good.service_name)
    assert turned_away(other).state is CircuitState.CLOSED
    permit = other.acquire()
    assert (bool(permit), permit.reason, permit.retry_at) == (False, Reason.TURNED_AWAY, clock.time(60))
    call(good)
    clock.forward(60)
    assert turned_away(other).state is CircuitState.CLOSED
    assert other.acquire().reason is Reason.AUTH
    call(good)


# changes at run time


def test_a_wider_window_is_a_new_one(make: Make, clock: Clock) -> None:
    breaker = make(failure_rate=0.5, minimum_calls=4, window_seconds=10)
    for _ in range(100):
        call(breaker)
    breaker.override({"window_seconds": 60}, 600)
    clock.forward(300)
    fail(breaker, 4)
    assert state(breaker) is CircuitState.OPEN


def test_a_quota_set_too_tight_is_mended_at_once(make: Make) -> None:
    breaker = make(quota_calls=60, quota_seconds=60)
    breaker.override({"quota_calls": 1, "quota_seconds": 86_400}, 600)
    call(breaker)
    assert not breaker.acquire()
    breaker.end_override()
    # A call's time at this pace, and what a released task may be ahead of its turn.
    assert breaker.acquire().retry_in <= 1 + 0.1


@pytest.mark.parametrize("seconds", [0, -5, float("nan"), float("inf"), 1e12])
def test_a_time_limit_that_cannot_be_is_refused(make: Make, seconds: float) -> None:
    breaker = make()
    for act in (breaker.force_open, breaker.disable, lambda limit: breaker.override({}, limit)):
        with pytest.raises(ConfigurationError, match="seconds="):
            act(seconds)
    assert state(breaker) is CircuitState.CLOSED


def test_a_provider_that_wants_to_be_left_alone_for_ever_is_for_a_year(make: Make, clock: Clock) -> None:
    breaker = make()
    breaker.report(granted(breaker), "hold", hold_seconds=1e12)
    assert breaker.read().retry_at == clock.time(366 * 86_400)


def test_a_changed_policy_is_every_callers_at_once(make: Make) -> None:
    breaker = make(failure_threshold=5)
    other = make(service=breaker.service_name, failure_threshold=5)
    breaker.override({"failure_threshold": 2}, 60, "they are flaky", "anna")
    fail(other, 2)
    assert state(other) is CircuitState.OPEN
    shown = other.get_state()
    assert shown["failure_threshold"] == 2
    assert shown["policy_changes"] == {"failure_threshold": 2}
    assert (shown["policy_changed_by"], shown["policy_changed_note"]) == ("anna", "they are flaky")


def test_a_change_ends_by_itself(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=5)
    breaker.override({"failure_threshold": 2}, 60)
    clock.forward(60)
    fail(breaker, 4)
    assert state(breaker) is CircuitState.CLOSED
    assert breaker.get_state()["policy_changes"] == {}


def test_a_second_change_keeps_the_first(make: Make) -> None:
    breaker = make(failure_threshold=5)
    breaker.override({"failure_threshold": 2}, 60)
    breaker.override({"half_open_max_calls": 1, "quota_calls": 1, "quota_seconds": 1}, 60)
    assert breaker.acquire().policy == breaker.policy.changed(
        {"failure_threshold": 2, "half_open_max_calls": 1, "quota_calls": 1, "quota_seconds": 1}
    )
    breaker.end_override()
    assert breaker.acquire().policy == breaker.policy


@pytest.mark.parametrize("order", [1, -1], ids=["the longer first", "the shorter first"])
def test_each_change_has_its_own_time_limit(make: Make, clock: Clock, order: int) -> None:
    breaker = make(failure_threshold=5)
    for field, value, seconds, who in [
        ("failure_threshold", 2, 7200, "ann"),
        ("timeout_seconds", 1, 60, "bob"),
    ][::order]:
        breaker.override({field: value}, seconds, f"why {field}", who)
    told = breaker.get_state()["policy_changes_by_field"]
    assert told["failure_threshold"] == {
        "value": 2,
        "until": clock.time(7200).isoformat(),
        "actor": "ann",
        "note": "why failure_threshold",
    }
    assert (told["timeout_seconds"]["actor"], told["timeout_seconds"]["value"]) == ("bob", 1)
    assert breaker.get_state()["policy_changed_until"] == clock.time(7200).isoformat()
    both = breaker.policy.changed({"failure_threshold": 2, "timeout_seconds": 1})
    assert breaker.acquire().policy == both
    clock.forward(60)
    assert breaker.get_state()["policy_changes"] == {"failure_threshold": 2}
    assert breaker.acquire().policy == breaker.policy.changed({"failure_threshold": 2})
    fail(breaker, 2)
    assert state(breaker) is CircuitState.OPEN
    clock.forward(7140)
    assert breaker.get_state()["policy_changes"] == {}
    assert breaker.acquire().policy == breaker.policy


def test_a_later_change_of_the_same_field_has_its_own_time_limit(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=5)
    breaker.override({"failure_threshold": 2, "timeout_seconds": 9}, 7200)
    breaker.override({"failure_threshold": 3}, 60)
    clock.forward(60)
    assert breaker.get_state()["policy_changes"] == {"timeout_seconds": 9}


def test_of_operators_who_change_a_policy_at_once_none_is_lost(make: Make) -> None:
    breaker = make()
    changes = [
        {"failure_threshold": 2},
        {"timeout_seconds": 7},
        {"half_open_max_calls": 2},
        {"call_seconds": 9},
        {"jitter": 0.5},
        {"window_seconds": 30},
    ]
    start = threading.Barrier(len(changes))

    def change(wanted: dict[str, Any]) -> None:
        start.wait()
        breaker.override(wanted, 600)

    with ThreadPoolExecutor(len(changes)) as pool:
        list(pool.map(change, changes))
    assert breaker.get_state()["policy_changes"] == {
        name: value for wanted in changes for name, value in wanted.items()
    }


def test_one_change_is_taken_back_and_the_others_stay(make: Make) -> None:
    breaker = make(failure_threshold=5)
    breaker.override({"failure_threshold": 2, "timeout_seconds": 9}, 600)
    breaker.end_override("over", "bob", ["timeout_seconds"])
    assert breaker.get_state()["policy_changes"] == {"failure_threshold": 2}
    assert breaker.get_state()["policy_changed_by"] == "bob"
    with pytest.raises(
        ConfigurationError, match="'timeout_seconds' is not changed; changed are failure_thre"
    ):
        breaker.end_override("over", "bob", ["timeout_seconds"])


def test_changes_that_cannot_work_once_another_has_ended_are_refused(make: Make) -> None:
    breaker = make()
    breaker.override({"quota_calls": 5, "quota_seconds": 60}, 600)
    with pytest.raises(
        ConfigurationError, match="once the time limit of quota_seconds is reached, quota_call"
    ):
        breaker.override({"quota_seconds": 30}, 60)
    assert breaker.get_state()["policy_changes"] == {"quota_calls": 5, "quota_seconds": 60}


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e-9, 10**400, None, "60"])
def test_a_time_limit_that_is_none_is_refused_and_never_another(make: Make, seconds: Any) -> None:
    breaker = make()
    acts = [breaker.force_open, breaker.disable, lambda limit: breaker.override({"jitter": 0.5}, limit)]
    if seconds != 0:  # which means: close, and no more
        acts.append(breaker.force_close)
    for act in acts:
        with pytest.raises(ConfigurationError, match="give a time limit"):
            act(seconds)
    read = breaker.read()
    assert (read.order, read.override) == (None, "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"failure_treshold": 2}, "'failure_treshold' is no field of a policy"),
        ({"failure_threshold": 0}, "failure_threshold=0: give a whole number"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds=nan: give seconds"),
        ({"quota_calls": 5}, "without quota_seconds"),
    ],
)
def test_a_change_that_cannot_work_changes_nothing(make: Make, changes: dict[str, Any], said: str) -> None:
    breaker = make()
    breaker.override({"failure_threshold": 2}, 60)
    with pytest.raises(ConfigurationError, match=said):
        breaker.override(changes, 60)
    assert breaker.get_state()["policy_changes"] == {"failure_threshold": 2}


# the record


def test_changes_that_nobody_heard_of_are_told_to_be_lost(make: Make) -> None:
    breaker = make()
    store, name, changes = breaker.store, breaker.service_name, 1400
    for _ in range(changes // 2):
        breaker.force_open(60)
        breaker.reset()
    told = []
    while news := store.transitions([name]):
        told += news
        store.heard(news)
    assert told[0].lost == changes - len(told) > 0
    assert not any(change.lost for change in told[1:])
    assert [change.number for change in told] == list(range(changes - len(told) + 1, changes + 1))
    assert not store.history([name], changes)[name].complete
    # What was heard of may go without a word.
    breaker.force_open(60)
    [change] = store.transitions([name])
    assert change.lost == 0


def test_a_gap_is_told_again_to_who_takes_over(make: Make) -> None:
    breaker = make()
    for _ in range(700):
        breaker.force_open(60)
        breaker.reset()
    first = breaker.store.transitions([breaker.service_name])[0]
    if isinstance(breaker.store, RedisStore):
        breaker.store.scripts.run("transitions", breaker.service_name, 1, 0)  # of one who was killed
        number, _ = breaker.store.scripts.run("transitions", breaker.service_name, 1, 0)
        assert number == 0, "nobody has passed it on"
    assert first.lost == first.number - 1


def test_every_change_is_on_record_once_with_who_and_why(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=1, timeout_seconds=5, half_open_max_calls=1)
    fail(breaker)
    clock.forward(5)
    call(breaker)
    breaker.force_open(10, "they are moving", "anna")
    breaker.force_open(20, "longer", "anna")  # says it again: no change
    clock.forward(20)
    call(breaker)
    told = breaker.store.transitions([breaker.service_name])
    assert [(change.before.value, change.after.value) for change in told] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
        ("closed", "forced_open"),
        ("forced_open", "closed"),
    ]
    opened, _, _, forced, ended = told
    assert (opened.reason, opened.at, opened.retry_at) == (Reason.FAILURES, clock.time(-25), clock.time(-20))
    assert opened.evidence == Evidence(failures=1)
    assert (forced.actor, forced.note, forced.reason) == ("anna", "they are moving", Reason.FORCED)
    assert ended.note == "time limit reached"
    assert breaker.store.transitions([breaker.service_name]) == []
