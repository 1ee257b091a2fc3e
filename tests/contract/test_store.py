"""One suite for every store: the Lua on a real server and the Python machine behave the same.

Time is the test's: both stores take it from a clock the test moves.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import resilience.stores.redis
from resilience import CircuitBreaker, CircuitState, Permit, Policy, Reason, Verdict
from resilience.circuit import LOST
from resilience.policy import LEASE_GRACE_SECONDS
from tests.circuits import fail, granted, names, state

if TYPE_CHECKING:
    from resilience.circuit import Transition
    from resilience.stores import Store
    from tests.circuits import Clock


@pytest.fixture
def breaker(store: Store) -> CircuitBreaker:
    policy = Policy(failure_threshold=3, timeout_seconds=60, half_open_max_calls=3, call_seconds=10)
    return CircuitBreaker(next(names), store=store, policy=policy)


def half_open(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, breaker.failure_threshold)
    clock.forward(breaker.timeout_seconds)


def test_a_fresh_circuit_is_closed(breaker: CircuitBreaker) -> None:
    expected = {
        "state": "closed",
        "failure_count": 0,
        "last_failure_time": None,
        "retry_at": None,
        "reason": None,
    }
    shown = breaker.get_state()
    assert {name: shown[name] for name in expected} == expected


def test_it_opens_at_exactly_the_threshold(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 2)
    assert state(breaker) is CircuitState.CLOSED
    fail(breaker)
    circuit = breaker.read()
    assert (circuit.state, circuit.reason, circuit.failures) == (CircuitState.OPEN, Reason.FAILURES, 3)
    assert circuit.retry_at == clock.time(60)
    assert circuit.last_failure == clock.time()


def test_what_was_wrong_last_is_kept_until_something_else_is(breaker: CircuitBreaker) -> None:
    assert breaker.get_state()["last_error"] is None
    breaker.report(granted(breaker), Verdict.FAILURE, detail="it answered 503")
    breaker.report(granted(breaker), Verdict.SUCCESS, detail="of no use")
    breaker.report(granted(breaker), Verdict.FAILURE)
    assert breaker.get_state()["last_error"] == "it answered 503", "who says nothing takes nothing back"
    breaker.report(granted(breaker), Verdict.HOLD, hold_seconds=9, detail="it\nanswered\x1b[31m " + "é" * 400)
    said = breaker.get_state()["last_error"]
    assert said.startswith("it answered [31m é"), "one line, whatever it says"
    assert len(said) == 300


def test_a_decorated_call_tells_what_it_raised_and_no_text_that_could_hold_a_key(
    breaker: CircuitBreaker,
) -> None:
    @breaker.call
    def fetch() -> None:
        raise TimeoutError("https://example.com/?apikey=secret")

    with pytest.raises(TimeoutError):
        fetch()
    assert breaker.get_state()["last_error"] == "TimeoutError"


def test_a_success_in_between_starts_the_count_again(breaker: CircuitBreaker) -> None:
    for _ in range(5):
        fail(breaker, 2)
        breaker.report(granted(breaker), Verdict.SUCCESS)
    assert state(breaker) is CircuitState.CLOSED


def test_an_ignored_call_neither_counts_nor_resets(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.report(granted(breaker), Verdict.IGNORED)
    assert breaker.read().failures == 2
    fail(breaker)
    assert state(breaker) is CircuitState.OPEN


def test_a_refusal_says_why_and_when_and_is_counted(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.forward(59.999999)
    permit = breaker.acquire()
    assert not permit
    assert (permit.reason, permit.retry_at) == (Reason.FAILURES, clock.time(0.000001))
    assert breaker.read().blocked_total == 1


def test_it_is_tried_again_exactly_when_the_open_time_ends(breaker: CircuitBreaker, clock: Clock) -> None:
    half_open(breaker, clock)
    permit = granted(breaker)
    assert permit.probe
    assert permit.until == clock.time(10 + LEASE_GRACE_SECONDS)
    assert state(breaker) is CircuitState.HALF_OPEN


@pytest.mark.parametrize("limit", [1, 3])
def test_half_open_lets_in_exactly_its_limit(store: Store, clock: Clock, limit: int) -> None:
    policy = Policy(failure_threshold=1, half_open_max_calls=limit, call_seconds=10)
    breaker = CircuitBreaker(next(names), store=store, policy=policy)
    half_open(breaker, clock)
    permits = [breaker.acquire() for _ in range(10)]
    assert sum(map(bool, permits)) == limit
    refusal = permits[-1]
    assert refusal.retry_at == clock.time(10 + LEASE_GRACE_SECONDS)


def test_successes_and_calls_in_flight_together_never_exceed_the_limit(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    half_open(breaker, clock)
    first, second = granted(breaker), granted(breaker)
    breaker.report(first, Verdict.SUCCESS)
    third = granted(breaker)
    assert not breaker.acquire()
    breaker.report(second, Verdict.SUCCESS)
    breaker.report(third, Verdict.SUCCESS)
    circuit = breaker.read()
    assert (circuit.state, circuit.failures, circuit.retry_at) == (CircuitState.CLOSED, 0, None)


def test_a_limit_lowered_while_half_open_does_not_leave_it_there(store: Store, clock: Clock) -> None:
    before = Policy(failure_threshold=1, half_open_max_calls=3)
    breaker = CircuitBreaker(next(names), store=store, policy=before)
    half_open(breaker, clock)
    breaker.report(granted(breaker), Verdict.SUCCESS)
    breaker.policy = Policy(failure_threshold=1, half_open_max_calls=1)
    assert not granted(breaker).probe
    assert state(breaker) is CircuitState.CLOSED


def test_one_failed_probe_opens_it_again_for_the_whole_time(breaker: CircuitBreaker, clock: Clock) -> None:
    half_open(breaker, clock)
    breaker.report(granted(breaker), Verdict.SUCCESS)
    breaker.report(granted(breaker), Verdict.FAILURE)
    assert state(breaker) is CircuitState.OPEN
    assert breaker.read().retry_at == clock.time(60)


def test_an_ignored_probe_gives_its_place_back(breaker: CircuitBreaker, clock: Clock) -> None:
    half_open(breaker, clock)
    permits = [granted(breaker) for _ in range(3)]
    breaker.report(permits[0], Verdict.IGNORED)
    granted(breaker)
    assert not breaker.acquire()


def test_a_killed_prober_frees_its_place_when_its_lease_ends(breaker: CircuitBreaker, clock: Clock) -> None:
    half_open(breaker, clock)
    [granted(breaker) for _ in range(3)]
    clock.forward(10 + LEASE_GRACE_SECONDS - 0.000001)
    assert not breaker.acquire()
    clock.forward(0.000001)
    granted(breaker)


def test_a_report_after_its_lease_changes_nothing(breaker: CircuitBreaker, clock: Clock) -> None:
    half_open(breaker, clock)
    late = granted(breaker)
    clock.forward(30)
    assert not breaker.report(late, Verdict.FAILURE).applied
    assert state(breaker) is CircuitState.HALF_OPEN


@pytest.mark.parametrize("verdict", [Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED])
def test_a_late_report_only_counts(breaker: CircuitBreaker, clock: Clock, verdict: Verdict) -> None:
    early = granted(breaker)
    fail(breaker, 3)
    clock.forward(10)
    before = breaker.read()
    assert not breaker.report(early, verdict).applied
    after = breaker.read()
    assert (after.state, after.retry_at, after.generation) == (
        before.state,
        before.retry_at,
        before.generation,
    )
    assert after.failures_total == before.failures_total + (verdict is Verdict.FAILURE)


def test_a_probe_of_an_earlier_era_frees_nothing_of_the_new_one(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    half_open(breaker, clock)
    old = granted(breaker)
    breaker.report(granted(breaker), Verdict.FAILURE)
    clock.forward(60)
    [granted(breaker) for _ in range(3)]
    breaker.report(old, Verdict.SUCCESS)
    assert not breaker.acquire()
    assert breaker.read().successes == 0


def test_a_hold_shuts_it_until_its_end_and_is_no_failure(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.report(granted(breaker), Verdict.HOLD, hold_seconds=7, reason=Reason.QUOTA)
    circuit = breaker.read()
    assert (circuit.state, circuit.reason, circuit.failures_total) == (CircuitState.OPEN, Reason.QUOTA, 0)
    assert circuit.trips_total == 0
    assert breaker.acquire().retry_at == clock.time(7)
    clock.forward(7)
    assert granted(breaker).probe


def test_forced_open_refuses_and_ends_by_itself(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.force_open(30, "provider called", "anna")
    permit = breaker.acquire()
    assert (permit.state, permit.reason) == (CircuitState.FORCED_OPEN, Reason.FORCED)
    assert permit.retry_at == clock.time(30)
    shown = breaker.get_state()
    assert (shown["actor"], shown["note"]) == ("anna", "provider called")
    clock.forward(30)
    granted(breaker)
    assert state(breaker) is CircuitState.CLOSED


def test_forced_open_leaves_the_machine_beneath_as_it_was(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    breaker.force_open(10)
    clock.forward(10)
    assert state(breaker) is CircuitState.OPEN
    assert breaker.read().reason is Reason.FAILURES


def test_disabled_lets_everything_pass_and_still_counts(breaker: CircuitBreaker) -> None:
    fail(breaker, 3)
    breaker.disable(30)
    fail(breaker, 10)
    circuit = breaker.read()
    assert (circuit.state, circuit.failures_total) == (CircuitState.DISABLED, 13)


def test_closed_by_force_does_not_open_before_its_limit(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    breaker.force_close(30)
    fail(breaker, 10)
    assert state(breaker) is CircuitState.CLOSED
    clock.forward(30)
    fail(breaker, 3)
    assert state(breaker) is CircuitState.OPEN


def test_reset_takes_failures_holds_and_operators_words_away(breaker: CircuitBreaker) -> None:
    fail(breaker, 3)
    breaker.force_open(30)
    breaker.reset()
    circuit = breaker.read()
    assert (circuit.state, circuit.failures, circuit.retry_at, circuit.actor) == (
        CircuitState.CLOSED,
        0,
        None,
        None,
    )


def test_a_task_spends_attempts_on_failures_but_not_on_probes_and_holds(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    def attempts(verdict: Verdict, **more: Any) -> int:
        permit = breaker.acquire("task-1")
        assert permit
        return breaker.report(permit, verdict, owner="task-1", max_attempts=5, **more).attempts

    assert attempts(Verdict.FAILURE) == 1
    assert attempts(Verdict.HOLD, hold_seconds=5) == 1
    clock.forward(5)
    assert attempts(Verdict.FAILURE) == 1  # a probe
    breaker.reset()
    assert attempts(Verdict.FAILURE) == 2
    assert attempts(Verdict.SUCCESS) == 2
    assert attempts(Verdict.FAILURE) == 1  # it ended in between


def test_a_task_whose_last_attempt_finds_the_circuit_open_goes_on_waiting(breaker: CircuitBreaker) -> None:
    for spent in (1, 2, 3):
        permit = breaker.acquire("task-2")
        report = breaker.report(permit, Verdict.FAILURE, owner="task-2", max_attempts=3)
        assert (report.attempts, report.state.shut) == (spent, spent == 3)
    breaker.reset()
    permit = breaker.acquire("task-2")
    assert breaker.report(permit, Verdict.FAILURE, owner="task-2", max_attempts=3).attempts == 4


def test_every_one_of_4000_concurrent_failures_is_counted(store: Store) -> None:
    policy = Policy(failure_threshold=10_000)
    breaker = CircuitBreaker(next(names), store=store, policy=policy)
    threads = [threading.Thread(target=fail, args=(breaker, 500)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    circuit = breaker.read()
    assert (circuit.failures, circuit.failures_total, circuit.allowed_total) == (4000, 4000, 4000)


def test_a_race_for_probes_has_exactly_the_limit_of_winners(breaker: CircuitBreaker, clock: Clock) -> None:
    half_open(breaker, clock)
    winners: list[Permit] = []
    barrier = threading.Barrier(16)

    def race() -> None:
        barrier.wait()
        permit = breaker.acquire()
        if permit:
            winners.append(permit)

    threads = [threading.Thread(target=race) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 3


def test_a_refused_permit_cannot_be_reported(breaker: CircuitBreaker) -> None:
    fail(breaker, 3)
    with pytest.raises(ValueError, match="was refused"):
        breaker.report(breaker.acquire(), Verdict.SUCCESS)


def test_a_hold_needs_its_seconds(breaker: CircuitBreaker) -> None:
    with pytest.raises(ValueError, match="hold_seconds=0"):
        breaker.report(granted(breaker), Verdict.HOLD)


def test_nothing_is_locked_while_the_service_is_called(breaker: CircuitBreaker) -> None:
    both_inside = threading.Barrier(2, timeout=10)
    call = breaker.call(both_inside.wait)
    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both_inside.broken


def test_two_breakers_of_one_name_share_one_circuit(breaker: CircuitBreaker, store: Store) -> None:
    fail(CircuitBreaker(breaker.service_name, store=store, policy=breaker.policy), 3)
    assert not breaker.acquire()


def test_history_tells_the_latest_changes_and_who_made_them(
    breaker: CircuitBreaker, store: Store, clock: Clock
) -> None:
    fail(breaker, 3)
    opened = clock.time()
    clock.forward(60)
    fail(breaker)
    breaker.force_open(30, "they are moving", "anna")
    found = store.history([breaker.service_name], 3)[breaker.service_name]
    assert found.now == clock.time()
    assert found.state is CircuitState.FORCED_OPEN
    assert [(change.before.value, change.after.value) for change in found.transitions] == [
        ("open", "forced_open"),
        ("half_open", "open"),
        ("open", "half_open"),
    ]
    assert (found.transitions[0].actor, found.transitions[0].note) == ("anna", "they are moving")
    assert not found.complete
    everything = store.history([breaker.service_name], 4)[breaker.service_name]
    assert everything.complete
    assert (everything.transitions[-1].at, everything.transitions[-1].evidence.failures) == (opened, 3)


def test_changes_that_have_been_handed_out_stay_in_the_history(breaker: CircuitBreaker, store: Store) -> None:
    fail(breaker, 3)
    news = store.transitions([breaker.service_name])
    store.heard(news)
    [kept] = store.history([breaker.service_name], 5)[breaker.service_name].transitions
    assert (kept.at, kept.after) == (news[0].at, CircuitState.OPEN)


def test_history_tells_what_came_of_the_calls_in_each_minute_that_somebody_looked(
    breaker: CircuitBreaker, store: Store, clock: Clock
) -> None:
    breaker.read()
    began = clock.time()
    breaker.report(granted(breaker), Verdict.SUCCESS)
    breaker.read()  # the same minute: one sample is enough
    clock.forward(60)
    breaker.read()
    fail(breaker, 3)
    assert not breaker.acquire()
    clock.forward(180)
    breaker.read()
    breaker.report(granted(breaker), Verdict.HOLD, hold_seconds=5)
    found = store.history([breaker.service_name], 1)[breaker.service_name].outcomes()
    assert [(row.succeeded, row.failed, row.held, row.blocked) for row in found] == [
        (1, 0, 0, 0),
        (0, 3, 0, 1),
        (0, 0, 1, 0),
    ]
    assert [row.since for row in found] == [began, clock.time(-180), clock.time()]
    assert found[-1].until == clock.time()


def test_history_of_outcomes_is_an_hour_long(breaker: CircuitBreaker, store: Store, clock: Clock) -> None:
    for _ in range(100):
        breaker.report(granted(breaker), Verdict.SUCCESS)
        breaker.read()
        clock.forward(60)
    found = store.history([breaker.service_name], 1)[breaker.service_name].outcomes()
    assert found[0].since == clock.time(-61 * 60)
    assert [row.succeeded for row in found] == [1] * 60 + [0]


def test_a_circuit_nobody_has_called_has_an_empty_history(breaker: CircuitBreaker, store: Store) -> None:
    found = store.history([breaker.service_name], 5)[breaker.service_name]
    assert (found.state, found.transitions, found.complete) == (CircuitState.CLOSED, (), True)
    assert found.outcomes() == []


def test_changes_that_have_gone_while_somebody_had_them_keep_none_back(
    breaker: CircuitBreaker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a publisher that was killed, when more has happened since than the history keeps."""
    monkeypatch.setattr(resilience.stores.redis, "SILENCE_MILLISECONDS", 0)
    fail(breaker, 3)
    assert store.transitions([breaker.service_name])
    for _ in range(400):
        breaker.force_open(60)
        breaker.reset()
    told = [change for _ in range(20) for change in heard(breaker, store)]
    assert len(told) >= 500
    assert told[-1].after is CircuitState.CLOSED
    assert store.transitions([breaker.service_name]) == []


def heard(breaker: CircuitBreaker, store: Store) -> list[Transition]:
    """The next ones, passed on."""
    news = store.transitions([breaker.service_name])
    store.heard(news)
    return news


@pytest.mark.parametrize("other", ["a:b", "reserved:a", "b:a", "a:", ":a"])
def test_of_a_lost_process_only_its_own_call_ends_whatever_ids_begin_with(
    store: Store, clock: Clock, other: str
) -> None:
    """Two calls at once; that of the task named otherwise goes on, and holds its place."""
    policy = Policy(failure_threshold=1, timeout_seconds=10, half_open_max_calls=2, half_open_successes=3)
    breaker = CircuitBreaker(next(names), store=store, policy=policy)
    breaker.report(breaker.acquire(), Verdict.FAILURE)
    clock.forward(10)
    permit = breaker.acquire(other)
    assert permit.probe
    about = {
        "granted": True,
        "service": breaker.service_name,
        "state": CircuitState.HALF_OPEN,
        "generation": LOST,
    }
    breaker.report(Permit(**about), Verdict.FAILURE, owner="a", max_attempts=9)
    assert breaker.read().state is CircuitState.HALF_OPEN, "it had no call under way"
    assert breaker.read().in_flight == 1
    breaker.report(Permit(**about), Verdict.FAILURE, owner=other, max_attempts=9)
    assert breaker.read().state is CircuitState.OPEN
