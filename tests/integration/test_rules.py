"""A policy's other rules, end to end: real workers, a provider with a quota, a key, a limit, an operator."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from celery import chord, group
from celery.exceptions import TaskRevokedError

from resilience import get_circuit_breaker
from resilience.states import PARKED
from tests.fleet import wait_for

if TYPE_CHECKING:
    from tests.fleet import Fleet

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


def test_a_fast_quota_is_used_up(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(policy=json.dumps({"quota_calls": 20, "quota_seconds": 1}))
    fleet.worker().ready()
    results = group(fleet.app.fetch.s(number) for number in range(60)).apply_async()
    wait_for(lambda: fleet.circuit()["parked"] > 20, 30, "they wait")
    started, begun = time.monotonic(), fleet.circuit()["allowed_total"]
    assert sorted(results.get(timeout=60)) == list(range(60))
    took = time.monotonic() - started
    assert (60 - begun) / took <= 25
    # Two looks a second would let two a second go.
    assert (60 - begun) / took >= 4
    assert fleet.publications() <= 2 * 60


def test_after_an_outage_it_is_called_gently_at_first(make_fleet: MakeFleet) -> None:
    policy = {"ramp_calls": 4, "half_open_successes": 1}
    fleet = make_fleet(threshold=1, timeout=2, probes=1, policy=json.dumps(policy))
    fleet.worker(concurrency=2).ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(100)]
    wait_for(lambda: fleet.circuit()["parked"] == 100, 30, "all wait")
    breaker = get_circuit_breaker("dead")
    fleet.mode("ok")
    wait_for(lambda: fleet.circuit()["state"] == "closed", 30, "closed")
    fresh = [fleet.app.fetch.delay(number) for number in range(100, 110)]  # no way round those that wait
    looks = 0
    while not all(result.ready() for result in (*results, *fresh)):
        circuit = breaker.read()
        if circuit.recovering_since and circuit.read_at:
            seconds = int((circuit.read_at - circuit.recovering_since).total_seconds())
            # 4 in the first second, 8 in the next, and so on; half a second's worth at once; two probes.
            bound = 4 * (2 ** (seconds + 1) - 1) + 2 * 2**seconds + 2
            assert circuit.allowed_total - circuit.failures_total <= bound
            looks += 1
    assert looks
    assert Counter(fleet.done()) == dict.fromkeys((result.id for result in (*results, *fresh)), 1)


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


def operator(fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the commands, against this fleet."""
    addresses = {
        "CELERY_BROKER_URL": fleet.environment["FLEET_BROKER"],
        "CELERY_RESULT_BACKEND": fleet.environment["FLEET_BACKEND"],
        "RESILIENCE_STORE_URL": fleet.environment["FLEET_STORE"],
    }
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "fleet_app", "circuits", *arguments],
        env=fleet.environment | addresses,
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_operator_lists_drops_and_releases(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=600)
    fleet.worker(concurrency=1).ready()
    fleet.mode("down")
    header = group(fleet.app.fetch.s(number) for number in range(3))
    joined = chord(header)(fleet.app.healthy.si(0))
    results = [fleet.app.fetch.delay(number) for number in range(10, 14)]
    wait_for(lambda: fleet.circuit()["parked"] == 7, 30, "all wait")

    listed = json.loads(operator(fleet, "parked", "dead", "--json").stdout)
    assert {row["id"] for row in listed} == {result.id for result in (*joined.parent, *results)}
    assert {row["task"] for row in listed} == {"fleet.fetch"}
    assert results[0].id in operator(fleet, "parked", "dead").stdout

    # One of a chord, which fails once the others are through and does not hang, and two nobody needs.
    dropped = operator(
        *(fleet, "drop", "dead", joined.parent[1].id, results[0].id, results[1].id),
        *("--reason", "delisted", "--actor", "ann"),
    )
    assert dropped.returncode == 0, dropped
    wait_for(lambda: results[0].state == results[1].state == "REVOKED", 10, "revoked")
    with pytest.raises(TaskRevokedError, match="dropped by ann: delisted"):
        results[0].get(timeout=10)
    again = operator(fleet, "drop", "dead", results[0].id)
    assert (again.returncode, "not parked at dead" in again.stderr) == (1, True)

    fleet.mode("ok")
    tried = operator(fleet, "release", "dead", "--reason", "they are back", "--actor", "ann", "--json")
    assert json.loads(tried.stdout)["state"] == "half_open"
    wait_for(lambda: all(result.ready() for result in results), 30, "the others run")
    assert [result.get() for result in results[2:]] == [12, 13]
    wait_for(joined.ready, 30, "the chord knows")
    assert joined.state == "FAILURE"
    circuit = fleet.circuit()
    assert (circuit["state"], circuit["dropped_total"]) == ("closed", {"operator": 3})
    for ready in (*joined.parent, joined):
        ready.forget()


def test_all_that_wait_can_be_dropped(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=600)
    fleet.worker(concurrency=1).ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(250)]
    wait_for(lambda: fleet.circuit()["parked"] == 250, 60, "all wait")
    refused = operator(fleet, "remove", "dead")
    assert (refused.returncode, "250 tasks are parked there" in refused.stderr) == (1, True)
    done = json.loads(operator(fleet, "drop", "dead", "--all", "--json").stdout)
    assert done == {"service": "dead", "dropped": 250}
    assert {result.state for result in results} == {"REVOKED"}
    assert fleet.circuit()["parked"] == 0
    removed = operator(fleet, "remove", "dead", "--json")
    assert json.loads(removed.stdout) == {"service": "dead", "removed": True}
    circuit = fleet.circuit()
    assert (circuit["state"], circuit["trips_total"], circuit["parked_total"]) == ("closed", 0, 0)
    unknown = operator(fleet, "remove", "nobody")
    assert (unknown.returncode, "knows nothing of 'nobody'" in unknown.stderr) == (1, True)


def test_bounds_end_in_failure_and_say_so(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=600, policy=json.dumps({"max_parked": 5}))
    fleet.worker(concurrency=1).ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(8)]
    wait_for(lambda: sum(result.state == "FAILURE" for result in results) == 3, 30, "three are turned away")
    failed = next(result for result in results if result.state == "FAILURE")
    assert "its parking lot is full (5 tasks" in str(failed.result)
    wait_for(lambda: fleet.circuit()["parked"] == 5, 30, "the others wait")
    get_circuit_breaker("dead").override({"max_parked_seconds": 1}, 60)
    wait_for(lambda: all(result.ready() for result in results), 30, "they have waited too long")
    assert Counter(result.state for result in results) == {"FAILURE": 8}
    # A result is written first, so that none is lost with who writes it; then it is counted.
    wait_for(lambda: fleet.circuit()["dropped_total"] == {"full": 3, "overdue": 5}, 10, "each is counted")
    for result in results:
        result.forget()


def test_a_worker_refuses_settings_under_which_a_parked_task_could_vanish(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(expires=60)
    worker = fleet.worker()
    assert worker.process.wait(60) != 0
    assert "result_expires=60 s is less than the 86400 s" in worker.text()
    other = make_fleet()
    other.store.config_set("maxmemory-policy", "allkeys-lru")
    worker = other.worker()
    assert worker.process.wait(60) != 0
    assert "maxmemory-policy is allkeys-lru" in worker.text()
