"""A policy's other rules, end to end: real workers, a provider with a quota, a key, a limit, an operator."""

from __future__ import annotations

import json
import time
from collections import Counter
from itertools import pairwise

from celery import group

from resilience import get_circuit_breaker
from resilience.gate import PARKED
from tests.fleet import wait_for

MakeFleet = "Callable[..., Fleet]"


def test_a_quota_spreads_tasks_over_time_and_loses_none(make_fleet: MakeFleet) -> None:
    policy = {"quota_calls": 4, "quota_seconds": 1, "quota_burst": 2}
    fleet = make_fleet(policy=json.dumps(policy))
    fleet.worker().ready()
    started = time.monotonic()
    results = group(fleet.app.fetch.s(number) for number in range(20)).apply_async()
    assert sorted(results.get(timeout=60)) == list(range(20))
    # Two at once, the other eighteen at four a second: a quota that is not kept is over in no time.
    assert time.monotonic() - started >= 18 / 4
    circuit = fleet.circuit()
    assert (circuit["state"], circuit["failures_total"], circuit["allowed_total"]) == ("closed", 0, 20)
    assert Counter(fleet.done()) == dict.fromkeys((result.id for result in results), 1)
    assert fleet.publications() <= 2 * 20


def test_no_more_at_once_than_the_provider_bears(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(policy=json.dumps({"max_concurrent": 1}))
    fleet.worker(concurrency=4).ready()
    results = group(fleet.app.fetch.s(number, 0.2) for number in range(12)).apply_async()
    assert sorted(results.get(timeout=60)) == list(range(12))
    assert int(fleet.provider.get("peak:dead")) == 1
    assert fleet.circuit()["failures_total"] == 0


def test_a_refused_key_waits_for_a_new_one_and_nobody_is_asked_meanwhile(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(timeout=0.2)
    fleet.provider.sadd("refused", "stale")
    old = fleet.worker(name="old", concurrency=1, key="stale").ready()
    results = [fleet.app.keyed.delay(number) for number in range(10)]
    wait_for(lambda: fleet.circuit()["parked"] == 10, 30, "all wait")
    circuit = fleet.circuit()
    assert (circuit["state"], circuit["reason"], circuit["refused_keys"]) == ("open", "auth", ["stale"])
    assert {result.state for result in results} == {PARKED}
    assert results[0].info["reason"] == "auth"
    old.stop()
    assert fleet.provider.lrange("keys", 0, -1) == ["stale"]
    fleet.worker(name="new", concurrency=1, key="fresh").ready()
    wait_for(lambda: all(result.ready() for result in results), 60, "all run")
    assert {result.state for result in results} == {"SUCCESS"}
    assert fleet.circuit()["state"] == "closed"


def test_a_worker_with_a_stale_key_does_not_cut_off_the_others(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.provider.sadd("refused", "stale")
    fleet.worker(name="good", concurrency=1, key="fresh").ready()
    first = fleet.app.keyed.delay(0)
    assert first.get(timeout=30) == 0
    fleet.worker(name="bad", concurrency=1, key="stale").ready()
    results = [fleet.app.keyed.delay(number) for number in range(60)]
    wait_for(lambda: all(result.ready() for result in results), 90, f"all run {fleet.circuit()}")
    assert {result.state for result in results} == {"SUCCESS"}
    assert Counter(fleet.provider.lrange("keys", 0, -1))["stale"] <= 1
    assert fleet.circuit()["state"] == "closed"


def test_a_policy_that_only_observes_parks_nothing(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=2, timeout=60, policy=json.dumps({"observe_only": True}))
    fleet.worker().ready()
    fleet.mode("down")
    for _ in range(2):
        fleet.app.flaky.delay(0)
    wait_for(lambda: fleet.circuit()["state"] == "open", 30, "it would be open")
    fleet.mode("ok")
    results = [fleet.app.fetch.delay(number) for number in range(20)]
    assert [result.get(timeout=30) for result in results] == list(range(20))
    assert fleet.circuit()["would_block_total"] >= 20
    assert fleet.circuit()["state"] == "open"


def test_a_changed_policy_rules_running_workers_at_once(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=50, timeout=60)
    fleet.worker(concurrency=1).ready()
    fleet.mode("down")
    assert fleet.circuit()["failure_threshold"] == 50
    get_circuit_breaker("dead").override({"failure_threshold": 2}, 60, "drill", "ann")
    results = [fleet.app.fetch.delay(number) for number in range(10)]
    wait_for(lambda: fleet.circuit()["parked"] == 10, 30, "all wait")
    assert len(fleet.calls()) == 2
    assert {result.state for result in results} == {PARKED}


def test_every_change_is_heard_once_whoever_publishes(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=2, timeout=0.3, probes=1)
    workers = [fleet.worker(name=name).ready() for name in ("a", "b", "c")]
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(5)]
    publish = fleet.app.app.tasks["resilience.publish"]
    wait_for(lambda: publish.delay() and fleet.circuit()["trips_total"] >= 5, 60, "it fails again and again")
    fleet.mode("ok")
    wait_for(lambda: all(result.ready() for result in results), 60, "all run")
    wait_for(lambda: fleet.circuit()["state"] == "closed", 30, "closed")
    stream = fleet.store.xrange("circuit:1:{dead}:transitions")
    wait_for(
        lambda: publish.delay() and fleet.provider.llen("heard") >= len(stream), 30, "all has been heard"
    )
    for worker in workers:
        worker.stop()
    heard = fleet.provider.lrange("heard", 0, -1)
    assert len(heard) == len(set(heard)) == len(stream)
    told = sorted(heard, key=lambda line: line.split()[3])
    steps = [tuple(line.split()[1:3]) for line in told]
    assert steps[0] == ("closed", "open")
    assert steps[-1] == ("half_open", "closed")
    assert all(before[1] == after[0] for before, after in pairwise(steps))
    assert fleet.store.xpending("circuit:1:{dead}:transitions", "listeners")["pending"] == 0
