"""Whose trouble is it? What one task alone has met says nothing of its service; on every store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from resilience import CircuitBreaker, CircuitState, Permit, Policy
from resilience.circuit import LOST
from tests.circuits import fail, granted, names, state

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience import Policy as _Policy
    from resilience.circuit import Report
    from resilience.stores import Store
    from tests.circuits import Clock

THRESHOLD = 3
BUDGET = 5


@pytest.fixture
def make(store: Store) -> Callable[..., CircuitBreaker]:
    def breaker(**rules: Any) -> CircuitBreaker:
        own = {"failure_threshold": THRESHOLD, "timeout_seconds": 10, "half_open_max_calls": 1} | rules
        policy: _Policy = Policy(**own)
        return CircuitBreaker(next(names), store=store, policy=policy)

    return breaker


def attempt(
    breaker: CircuitBreaker,
    task: str,
    subject: str = "this",
    verdict: str = "failure",
    *,
    guessed: bool = True,
) -> Report:
    permit = breaker.acquire(task)
    assert permit, permit
    return breaker.report(permit, verdict, owner=task, max_attempts=BUDGET, subject=subject, guessed=guessed)


Make = "Callable[..., CircuitBreaker]"


def test_one_task_alone_opens_no_circuit_and_spends_its_attempts(make: Make) -> None:
    breaker = make()
    for spent in range(1, BUDGET + 1):
        report = attempt(breaker, "lone")
        assert (report.attempts, report.state, report.own) == (spent, CircuitState.CLOSED, True)
    assert breaker.read().failures == BUDGET


def test_nor_does_one_that_takes_its_processes_down(make: Make) -> None:
    breaker = make()
    for losses in range(1, 5):
        granted(breaker)
        lost = Permit(granted=True, service=breaker.service_name, state=CircuitState.CLOSED, generation=LOST)
        report = breaker.report(
            lost, "failure", owner="lone", max_attempts=BUDGET, subject="this", guessed=True
        )
        assert (report.losses, report.state) == (losses, CircuitState.CLOSED)


def test_nor_one_whose_arguments_change_from_one_attempt_to_the_next(make: Make) -> None:
    breaker = make()
    for number in range(BUDGET):
        assert attempt(breaker, "lone", f"page {number}").state is CircuitState.CLOSED


def test_two_tasks_about_the_same_open_none_either_while_they_are_fewer_than_the_threshold(
    make: Make,
) -> None:
    breaker = make()
    for _ in range(BUDGET):
        for task in ("one", "two"):
            assert attempt(breaker, task).state is CircuitState.CLOSED


@pytest.mark.parametrize("subjects", [["this"] * THRESHOLD, ["this", "that", "more"], [""] * THRESHOLD])
def test_different_tasks_open_it_at_exactly_the_threshold(make: Make, subjects: list[str]) -> None:
    breaker = make()
    reports = [attempt(breaker, f"task {place}", subject) for place, subject in enumerate(subjects)]
    assert [report.state.value for report in reports] == ["closed", "closed", "open"]


def test_callers_without_a_task_open_it_as_ever(make: Make) -> None:
    breaker = make()
    fail(breaker, THRESHOLD)
    assert state(breaker) is CircuitState.OPEN


@pytest.mark.parametrize("other", ["that", "", None])
def test_anothers_failure_confirms_it(make: Make, other: str | None) -> None:
    breaker = make()
    for _ in range(BUDGET - 1):
        attempt(breaker, "lone")
    if other is None:
        fail(breaker)
        report = None
    else:
        report = attempt(breaker, "another", other)
    assert state(breaker) is CircuitState.OPEN
    assert report is None or not report.own


def test_a_success_in_between_starts_the_evidence_again(make: Make) -> None:
    breaker = make()
    for _ in range(3):
        for task, subject in (("one", "this"), ("two", "that")):
            attempt(breaker, task, subject)
        attempt(breaker, "well", "more", "success")
    for _ in range(BUDGET):
        attempt(breaker, "lone")
    assert state(breaker) is CircuitState.CLOSED


@pytest.mark.parametrize("act", ["reset", "force_close"])
def test_an_operator_starts_the_evidence_again(make: Make, act: str) -> None:
    breaker = make()
    attempt(breaker, "one", "this")
    attempt(breaker, "two", "that")
    getattr(breaker, act)()
    for _ in range(BUDGET):
        attempt(breaker, "lone")
    assert state(breaker) is CircuitState.CLOSED


def test_a_failed_probe_spends_an_attempt_of_a_task_that_alone_has_failed(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=1)
    attempt(breaker, "one")
    for spent in range(2, BUDGET + 1):
        clock.forward(10)
        report = attempt(breaker, "one")
        assert (report.attempts, report.own, report.state) == (spent, True, CircuitState.OPEN)
    clock.forward(10)
    assert attempt(breaker, "one").attempts == 1, "it had ended with the last"


@pytest.mark.parametrize("rules", [{"failure_threshold": 1}, {"failure_threshold": 2}, {}])
def test_a_failed_probe_spends_none_where_as_many_tasks_about_the_same_have_failed(
    make: Make, clock: Clock, rules: dict[str, int]
) -> None:
    breaker = make(**rules)
    for task in ("one", "two", "three"):
        attempt(breaker, task)
        clock.forward(10)
    for _ in range(2 * BUDGET):
        report = attempt(breaker, "three")
        assert (report.attempts, report.own) == (1 if rules == {} else 0, False)
        clock.forward(10)


def test_nor_where_a_rate_has_opened_it(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=1000, failure_rate=0.5, minimum_calls=2, window_seconds=100)
    for task in ("one", "two"):
        report = attempt(breaker, task)
    assert (report.own, report.state) == (False, CircuitState.OPEN)
    for _ in range(2 * BUDGET):
        clock.forward(10)
        assert attempt(breaker, "one").attempts == 1


def test_a_failed_probe_spends_none_where_something_else_has_failed_too(make: Make, clock: Clock) -> None:
    breaker = make()
    for task, subject in (("one", "this"), ("two", "that"), ("three", "this")):
        attempt(breaker, task, subject)
    for _ in range(2 * BUDGET):
        clock.forward(10)
        report = attempt(breaker, "one")
        assert (report.attempts, report.own) == (1, False)


def test_the_first_probe_of_something_else_is_evidence_against_the_service(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=1)
    attempt(breaker, "one")
    clock.forward(10)
    attempt(breaker, "two", "that")
    clock.forward(10)
    assert not attempt(breaker, "one").own


@pytest.mark.parametrize(
    "rule", [{"failure_rate": 0.5}, {"slow_call_rate": 0.5, "slow_call_seconds": 1}], ids=["failed", "slow"]
)
def test_a_rate_needs_more_than_one_task_too(make: Make, clock: Clock, rule: dict[str, Any]) -> None:
    breaker = make(failure_threshold=1000, minimum_calls=4, window_seconds=100, **rule)

    def trouble(task: str) -> None:
        permit = breaker.acquire(task)
        clock.forward(2)
        breaker.report(permit, "failure", owner=task, max_attempts=BUDGET, subject="this", guessed=True)

    for _ in range(8):
        trouble("lone")
        attempt(breaker, "well", "that", "success")
    assert state(breaker) is CircuitState.CLOSED
    trouble("another")
    assert state(breaker) is CircuitState.OPEN


def test_the_window_forgets_whose_trouble_it_was(make: Make, clock: Clock) -> None:
    breaker = make(failure_threshold=1000, failure_rate=0.5, minimum_calls=4, window_seconds=10)
    attempt(breaker, "another", "that")
    clock.forward(11)
    for _ in range(8):
        attempt(breaker, "lone")
    assert state(breaker) is CircuitState.CLOSED


# What is known to be about its subject


def drift(breaker: CircuitBreaker, task: str, subject: str) -> Report:
    return attempt(breaker, task, subject, guessed=False)


def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    """A service that was down, and may be tried again."""
    fail(breaker, breaker.policy.failure_threshold)
    assert state(breaker) is CircuitState.OPEN
    return breaker


def test_one_subject_opens_nothing_however_many_tasks_meet_it(make: Make) -> None:
    breaker = make()
    for place in range(4 * THRESHOLD):
        report = drift(breaker, f"task {place}", "this")
        assert (report.state, report.attempts, report.own) == (CircuitState.CLOSED, 1, True)
    assert breaker.read().failures_total == 4 * THRESHOLD


def test_each_subject_counts_once_and_as_many_as_may_fail_open_it(make: Make) -> None:
    breaker = make()
    for subject in ("this", "that"):
        for place in range(THRESHOLD):
            assert drift(breaker, f"{subject} {place}", subject).state is CircuitState.CLOSED
    assert drift(breaker, "one more", "more").state is CircuitState.OPEN


def test_one_failure_of_the_service_does_not_open_it_beside_one_subjects_many(make: Make) -> None:
    breaker = make()
    for _ in range(BUDGET - 1):
        drift(breaker, "one", "this")
    fail(breaker)
    assert state(breaker) is CircuitState.CLOSED
    fail(breaker)
    assert state(breaker) is CircuitState.OPEN


def test_what_is_tried_again_is_no_news_however_many_do_so_while_all_is_quiet(make: Make) -> None:
    breaker = make()
    for place in range(2 * THRESHOLD):
        drift(breaker, f"task {place}", f"subject {place}")
        attempt(breaker, "well", "more", "success")
    for _ in range(BUDGET - 1):
        for place in range(2 * THRESHOLD):
            assert drift(breaker, f"task {place}", f"subject {place}").state is CircuitState.CLOSED


def test_a_success_in_between_starts_the_subjects_again(make: Make) -> None:
    breaker = make()
    for _ in range(3):
        for subject in ("this", "that"):
            drift(breaker, f"about {subject}", subject)
        attempt(breaker, "well", "more", "success")
    assert state(breaker) is CircuitState.CLOSED


def test_a_rate_needs_more_than_one_subject_too(make: Make) -> None:
    breaker = make(failure_threshold=1000, failure_rate=0.5, minimum_calls=4, window_seconds=100)
    for place in range(8):
        drift(breaker, f"task {place}", "this")
    assert state(breaker) is CircuitState.CLOSED
    drift(breaker, "another", "that")
    assert state(breaker) is CircuitState.OPEN


def test_a_probe_about_one_subject_leaves_the_circuit_to_another(make: Make, clock: Clock) -> None:
    breaker = opened(make())
    clock.forward(10)
    for spent in (1, 2):
        report = drift(breaker, "bad", "this")
        assert (report.state, report.attempts, report.own) == (CircuitState.HALF_OPEN, spent, True)
    drift(breaker, "bad too", "that")
    attempt(breaker, "well", "more", "success")
    assert state(breaker) is CircuitState.CLOSED


@pytest.mark.parametrize(("threshold", "subjects"), [(1, 5), (3, 5), (7, 7)])
def test_probes_of_many_subjects_open_it_again(
    make: Make, clock: Clock, threshold: int, subjects: int
) -> None:
    breaker = opened(make(failure_threshold=threshold))
    for era in range(2):
        clock.forward(10)
        found = [drift(breaker, f"{era}/{place}", f"subject {place}").state for place in range(subjects)]
        assert found == [*[CircuitState.HALF_OPEN] * (subjects - 1), CircuitState.OPEN]


def test_a_probes_success_starts_the_subjects_again(make: Make, clock: Clock) -> None:
    breaker = opened(make(half_open_max_calls=4, half_open_successes=3))
    clock.forward(10)
    for _ in range(2):
        for subject in ("this", "that"):
            drift(breaker, f"about {subject}", subject)
        attempt(breaker, "well", "more", "success")
    assert state(breaker) is CircuitState.HALF_OPEN


def test_it_slows_no_recovery_down(make: Make, clock: Clock) -> None:
    breaker = opened(make(ramp_calls=1))
    clock.forward(10)
    attempt(breaker, "well", "more", "success")
    clock.forward(1)
    drift(breaker, "bad", "this")
    clock.forward(0.5)
    assert breaker.acquire("well")


def test_its_task_ends_though_the_circuit_is_open_for_the_service(make: Make, clock: Clock) -> None:
    breaker = opened(make())
    for spent in range(1, BUDGET + 1):
        clock.forward(10)
        assert drift(breaker, "bad", "this").attempts == spent
        fail(breaker)
    clock.forward(10)
    assert drift(breaker, "bad", "this").attempts == 1, "it had ended with the last"


def test_a_lone_task_keeps_no_more_than_its_circuit(make: Make, store: Store) -> None:
    if not hasattr(store, "scripts"):
        return
    breaker = make()
    for _ in range(BUDGET):
        attempt(breaker, "lone")
    ask = store.scripts._lines.ask
    key = f"circuit:1:{{{breaker.service_name}}}:failing"
    assert ask("HLEN", key) == 1
    attempt(breaker, "lone", verdict="success")
    assert ask("EXISTS", key) == 0
