"""What a task's failure says of its service, and what it does not: real workers, a real store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from resilience import get_circuit_breaker
from resilience.states import PARKED
from tests.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fleet import Fleet

    MakeFleet = Callable[..., Fleet]


def test_a_lone_task_with_a_bug_ends_with_its_own_error_and_opens_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=3, timeout=60)
    fleet.worker().ready()
    bad = fleet.app.buggy.delay()
    with pytest.raises(NameError):
        bad.get(timeout=30)
    assert fleet.calls() == [bad.id] * 5
    circuit = fleet.circuit()
    assert (circuit["state"], circuit["trips_total"], circuit["failures_total"]) == ("closed", 0, 5)


def test_a_lone_task_with_a_bug_ends_though_its_first_attempt_opens_the_circuit(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet(threshold=1, timeout=0.4, probes=1)
    fleet.worker().ready()
    bad = fleet.app.buggy.delay()
    with pytest.raises(NameError):
        bad.get(timeout=60)
    assert fleet.calls() == [bad.id] * 5
    assert fleet.app.fetch.delay(1).get(timeout=30) == 1


def test_as_many_as_open_it_wait_out_an_outage_of_any_length_though_they_ask_the_same(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet(threshold=3, timeout=0.4, probes=1)
    fleet.mode("down")
    fleet.worker().ready()
    results = [fleet.app.fetch.delay(7) for _ in range(3)]
    wait_for(lambda: len(fleet.calls()) >= 3 * 6, 60, "each has failed more often than it may")
    assert {result.state for result in results} == {PARKED}
    fleet.mode("ok")
    assert [result.get(timeout=60) for result in results] == [7] * 3


def test_many_that_ask_the_same_open_it_at_the_threshold_and_none_fails_for_it(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=5, timeout=1, probes=1)
    fleet.mode("down")
    fleet.worker(concurrency=1).ready()
    results = [fleet.app.fetch.delay(7) for _ in range(20)]
    wait_for(lambda: fleet.circuit()["parked"] == 20, 30, "all wait")
    assert len(set(fleet.calls()[:5])) == 5
    assert fleet.circuit()["trips_total"] >= 1
    wait_for(lambda: len(fleet.calls()) >= 9, 30, "probes have failed")
    fleet.mode("ok")
    assert [result.get(timeout=60) for result in results] == [7] * 20


def test_a_task_that_meets_another_circuits_refusal_waits_for_that(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, policy=json.dumps({"max_concurrent": 1}))
    fleet.worker().ready()
    through, other = fleet.app.through, get_circuit_breaker("other")  # the app's, once it is there
    other.force_open(60, "test", "test")
    result = through.delay(1)
    wait_for(lambda: len(fleet.calls()) >= 2, 30, "it has asked again")
    assert result.state == PARKED
    assert "other" in json.dumps(result.info)
    circuit = fleet.circuit()
    assert (circuit["state"], circuit["failures_total"]) == ("closed", 0)
    assert fleet.calls("other") == []
    other.reset("test", "test")
    assert result.get(timeout=30) == 1
    assert fleet.calls("other") == [result.id]
