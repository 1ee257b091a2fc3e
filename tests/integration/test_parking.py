"""A task whose provider is down, end to end: real broker, real workers, a provider broken for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

from resilience import CircuitBreakerOpenError, get_circuit_breaker
from resilience.parking import RESERVATION_SECONDS, Stored
from resilience.policy import LEASE_GRACE_SECONDS
from resilience.states import PARKED
from tests.fleet import wait_for
from tests.servers import Server, installed

if TYPE_CHECKING:
    from tests.fleet import Fleet

MakeFleet = "Callable[..., Fleet]"


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """Both, but for a test that says why not."""
    return request.param


# The rules of the store, the same whatever brought the message: once is enough.
rules_of_the_store = pytest.mark.parametrize("broker", ["redis"])
# No message is sent, or none comes to a worker.
without_a_broker = pytest.mark.parametrize("broker", ["redis"])


def parked(fleet: Fleet, count: int) -> None:
    wait_for(lambda: fleet.circuit()["parked"] == count, 30, f"{count} parked: {fleet.circuit()}")


def emptied(fleet: Fleet) -> None:
    wait_for(lambda: fleet.circuit()["parked"] == 0, 60, f"the lot empties: {fleet.circuit()}")


def final(results: list[Any]) -> Counter[str]:
    wait_for(lambda: all(result.ready() for result in results), 60, "every task ends")
    return Counter(result.state for result in results)


def outage(
    make_fleet: MakeFleet, count: int = 20, concurrency: int = 2, **settings: Any
) -> tuple[Fleet, list[Any]]:
    """A fleet with that many tasks parked."""
    fleet = make_fleet(**{"threshold": 3, "timeout": 2, **settings})
    fleet.worker(concurrency=concurrency).ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(count)]
    parked(fleet, count)
    return fleet, results


def test_an_outage_is_a_pause(make_fleet: MakeFleet) -> None:
    fleet, results = outage(make_fleet, 50)
    state = fleet.circuit()
    assert state["state"] == "open"
    assert state["reason"] == "failures"
    assert state["failures_total"] >= 3
    assert {result.state for result in results} == {PARKED}
    assert results[-1].info.keys() >= {"service", "reason", "retry_at", "since"}
    wait_for(lambda: fleet.queued() == 0, 10, "nothing waits at the broker")
    fleet.mode("ok")
    assert final(results) == {"SUCCESS": 50}
    assert [result.get() for result in results] == list(range(50))
    assert Counter(fleet.done()) == dict.fromkeys((result.id for result in results), 1)
    assert fleet.circuit()["state"] == "closed"
    leftover = {key.decode() for key in fleet.store.keys("circuit:1:{dead}:*")}
    assert leftover <= {"circuit:1:{dead}:transitions", "circuit:1:{dead}:samples"}


@rules_of_the_store
def test_a_dead_provider_hears_the_threshold_what_is_in_flight_and_then_the_probes(
    make_fleet: MakeFleet,
) -> None:
    fleet, _ = outage(make_fleet, 40, timeout=1, probes=1)
    first = len(fleet.calls())
    assert 3 <= first <= 4  # two processes: one call may be in flight
    wait_for(lambda: fleet.circuit()["trips_total"] == 3, 30, "two failed probes")
    assert len(fleet.calls()) - first <= 3  # the third open time may just have ended
    assert int(fleet.provider.get("peak:dead")) <= 2


@rules_of_the_store
def test_eight_processes_in_turn_make_exactly_the_threshold_of_calls(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=5, timeout=600)
    fleet.worker(concurrency=8).ready()
    fleet.mode("down")
    for number in range(20):
        fleet.app.fetch.delay(number)
        parked(fleet, number + 1)  # the next call starts when this one is over
    assert len(fleet.calls()) == 5


@rules_of_the_store
@pytest.mark.parametrize(("limit", "well"), [(1, 0), (3, 0), (3, 1)])
def test_probes_in_flight_and_killed_with_their_process(make_fleet: MakeFleet, limit: int, well: int) -> None:
    fleet, results = outage(make_fleet, 20, concurrency=8, timeout=1, threshold=1, probes=limit, call=1)
    fleet.provider.delete("calls:dead")
    fleet.mode("once" if well else "hang")
    # The first goes alone, the others when it has succeeded.
    hang = limit - well if well else 1
    wait_for(
        lambda: fleet.circuit()["half_open_in_flight"] == fleet.provider.llen("pids") == hang, 20, "probes"
    )
    assert len(fleet.calls()) == hang + well
    fleet.mode("ok")
    for pid in fleet.provider.lrange("pids", 0, -1):
        os.kill(int(pid), signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: len(fleet.calls()) > hang + well, 20, "another probe")
    assert time.monotonic() - killed < 1 + LEASE_GRACE_SECONDS + 2
    assert final(results) == {"SUCCESS": 20}


@rules_of_the_store
def test_a_failed_probe_goes_behind_all_others(make_fleet: MakeFleet) -> None:
    fleet, results = outage(make_fleet, 6, concurrency=1, timeout=0.5, probes=1, threshold=1)
    wait_for(lambda: len(fleet.calls()) >= 5, 30, "four probes")
    tried = fleet.calls()[:5]
    assert len(set(tried[1:])) == 4, "each probe is another task"
    fleet.mode("ok")
    assert final(results) == {"SUCCESS": 6}


def test_identity_survives(make_fleet: MakeFleet) -> None:
    fleet, _ = outage(make_fleet, 5)
    before = len(fleet.calls())
    sent = fleet.app.fetch.apply_async(
        (99,), headers={"trace": "abc"}, expires=600, priority=3, shadow="shown"
    )
    parked(fleet, 6)
    stored = Stored.load(fleet.store.hget("circuit:1:{dead}:lot:messages", sent.id)[1:])
    headers = stored.headers
    assert (
        headers["trace"],
        headers["shadow"],
        headers["retries"],
        headers["root_id"],
        headers["parent_id"],
    ) == (
        "abc",
        "shown",
        0,
        sent.id,
        None,
    )
    assert stored.properties["priority"] == 3
    assert stored.routing_key == "work"
    assert json.loads(stored.body)[0] == [99]
    assert headers["expires"]
    assert len(fleet.calls()) <= before + 3
    fleet.mode("ok")
    assert sent.get(timeout=30) == 99


def test_canvas_goes_through_the_lot(make_fleet: MakeFleet) -> None:
    fleet, _ = outage(make_fleet, 3)
    app = fleet.app
    total = app.app.signature("fleet.ask", args=(7,), immutable=True)
    in_chord = chord([app.fetch.s(1), app.fetch.s(2)], total).delay()
    in_chain = chain(app.fetch.si(3), app.ask.si(4)).delay()
    in_group = group(app.fetch.si(5), app.fetch.si(6)).delay()
    linked = app.fetch.apply_async((8,), link=app.ask.si(9))
    parked(fleet, 3 + 2 + 1 + 2 + 1)
    fleet.mode("ok")
    assert in_chord.get(timeout=60) == 7
    assert in_chain.get(timeout=60) == 4
    assert in_group.get(timeout=60) == [5, 6]
    assert linked.get(timeout=60) == 8
    emptied(fleet)


def test_what_expires_while_parked_is_revoked_without_a_call(make_fleet: MakeFleet) -> None:
    fleet, _ = outage(make_fleet, 3, timeout=600)
    calls = len(fleet.calls())
    short = fleet.app.fetch.apply_async((1,), expires=1)
    wait_for(short.ready, 30, "it expires")
    assert short.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        short.get()
    parked(fleet, 3)
    assert len(fleet.calls()) == calls


@rules_of_the_store
def test_attempts_are_bounded_while_the_circuit_is_closed(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1000)
    fleet.worker().ready()
    fleet.mode("down")
    result = fleet.app.fetch.apply_async((1,))
    wait_for(result.ready, 60, "the budget is spent")
    assert result.state == "FAILURE"
    assert "ConnectionError" in repr(result.result)
    assert len(fleet.calls()) == 5


def test_retry_in_the_body_waits_in_the_lot(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1000)
    worker = fleet.worker().ready()
    fleet.mode("down")
    result = fleet.app.flaky.delay(1)
    wait_for(result.ready, 60, "its retries are spent")
    assert result.state == "FAILURE"
    assert fleet.calls() == [result.id] * 3
    assert "ETA" not in worker.text()
    again = fleet.app.flaky.delay(2)
    wait_for(lambda: len(fleet.calls()) > 3, 30, "it is tried")
    fleet.mode("ok")
    assert again.get(timeout=30) == 2


@rules_of_the_store
def test_on_demand_leaves_the_lot_first(make_fleet: MakeFleet) -> None:
    fleet, results = outage(make_fleet, 10, timeout=4, probes=1)
    asked = fleet.app.ask.delay(1)
    parked(fleet, 11)
    fleet.mode("ok")
    assert final([*results, asked]) == {"SUCCESS": 11}
    assert fleet.done()[0] == asked.id


def test_another_service_is_not_disturbed(make_fleet: MakeFleet) -> None:
    fleet, _ = outage(make_fleet, 200, timeout=600)
    assert fleet.app.healthy.delay(0).get(timeout=10) == 0


def test_a_revoked_task_does_not_come_back(make_fleet: MakeFleet) -> None:
    fleet, results = outage(make_fleet, 5, timeout=3)
    results[2].revoke()
    fleet.mode("ok")
    assert final(results) == {"SUCCESS": 4, "REVOKED": 1}
    assert results[2].id not in fleet.done()


def test_a_revoked_task_ends_while_it_waits(make_fleet: MakeFleet) -> None:
    fleet, results = outage(make_fleet, 5, timeout=600)
    results[2].revoke()
    parked(fleet, 4)
    with pytest.raises(TaskRevokedError):
        results[2].get(timeout=10)
    wait_for(lambda: fleet.circuit()["dropped_total"] == {"revoked": 1}, 10, "counted, after its result")
    # Whoever heard of it is gone, and with it what it remembered.
    fleet.workers[0].kill()
    fleet.worker().ready()
    fleet.mode("ok")
    get_circuit_breaker("dead").reset("it is well again")
    assert final(results) == {"SUCCESS": 4, "REVOKED": 1}
    assert results[2].id not in fleet.done()


@rules_of_the_store
def test_a_task_revoked_while_it_runs_ends_when_it_is_parked(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=600)
    fleet.worker().ready()
    fleet.app  # noqa: B018 - registers the circuits
    get_circuit_breaker("other").force_open(600, "maintenance", "an operator")
    waits = fleet.app.either.delay(only="other")
    wait_for(lambda: fleet.circuit("other")["parked"] == 1, 30, "parked")
    fleet.mode("slow")
    runs = fleet.app.fetch.delay(1)
    wait_for(lambda: fleet.calls() == [runs.id], 30, "it runs")
    runs.revoke()
    waits.revoke()  # ends at a look that did not find the other one
    wait_for(lambda: waits.state == "REVOKED", 30, "the lots were looked at")
    fleet.mode("down")
    wait_for(lambda: runs.state == "REVOKED", 30, f"revoked: {fleet.circuit()}")
    wait_for(lambda: fleet.circuit()["dropped_total"] == {"revoked": 1}, 10, "counted, after its result")
    assert fleet.circuit()["parked_total"] == 1


@rules_of_the_store
def test_what_waits_on_demand_goes_to_another_service_that_recovers_first(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=600)
    fleet.worker().ready()
    fleet.app  # noqa: B018 - registers the circuits
    for service in ("dead", "other"):
        get_circuit_breaker(service).force_open(600, "maintenance", "an operator")
    wait_for(lambda: fleet.circuit("other")["state"] == "forced_open", 10)
    stays = [fleet.app.either.delay(only="dead") for _ in range(150)]  # more than are looked at at once
    waits = [fleet.app.either.delay() for _ in range(5)]
    wait_for(lambda: sum(fleet.circuit(name)["parked"] for name in ("dead", "other")) == 155, 30, "parked")
    get_circuit_breaker("other").reset("it is well again")
    assert [result.get(timeout=30) for result in waits] == ["other"] * 5
    assert {result.state for result in stays} == {PARKED}
    get_circuit_breaker("dead").reset("so is this one")
    assert final(stays) == {"SUCCESS": 150}
    assert len(fleet.done()) == len(set(fleet.done())) == 155


def test_a_result_sent_to_its_caller_shows_it_too(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=600, backend="rpc://")
    fleet.worker().ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(3)]
    parked(fleet, 3)
    results[1].revoke()
    parked(fleet, 2)
    told: list[dict[str, Any]] = []
    with pytest.raises(TaskRevokedError):
        results[1].get(timeout=30, on_message=told.append)
    fleet.mode("ok")
    get_circuit_breaker("dead").reset("it is well again")
    assert [result.get(timeout=30, on_message=told.append) for result in (results[0], results[2])] == [0, 2]
    assert {message["task_id"] for message in told if message["status"] == PARKED} == {r.id for r in results}


def test_a_result_backend_that_hangs_holds_up_nobody(make_fleet: MakeFleet, tmp_path: Any) -> None:
    backend = Server(installed("redis-server"), tmp_path / "backend")
    backend.start()
    try:
        fleet = make_fleet(threshold=3, timeout=600, backend=f"redis://127.0.0.1:{backend.port}")
        fleet.app  # noqa: B018 - registers the circuits
        get_circuit_breaker("dead").force_open(600, "maintenance", "an operator")
        started = [fleet.app.fetch.delay(number) for number in range(60)]
        backend.freeze()
        fleet.worker().ready()
        parked(fleet, 60)
        backend.thaw()
        later: list[Any] = []

        def written() -> bool:
            later.append(fleet.app.fetch.delay(60))
            parked(fleet, 60 + len(later))
            return bool(later[-1].state == PARKED)

        wait_for(written, 30, "states are written again")
        fleet.mode("ok")
        get_circuit_breaker("dead").reset("it is well again")
        assert final([*started, *later]) == {"SUCCESS": 60 + len(later)}
    finally:
        backend.thaw()
        backend.kill()


@rules_of_the_store
def test_revoked_tasks_hold_no_probes_place(make_fleet: MakeFleet) -> None:
    fleet, results = outage(make_fleet, 7, timeout=2, probes=1)
    for result in results[:5]:
        result.revoke()
    fleet.mode("ok")
    wait_for(lambda: all(result.ready() for result in results), RESERVATION_SECONDS - 2, "they end")
    assert final(results) == {"SUCCESS": 2, "REVOKED": 5}


def test_a_task_that_takes_its_process_down_ends(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1000)
    fleet.worker().ready()
    bad = fleet.app.poison.delay()
    wait_for(bad.ready, 60, "it ends")
    assert bad.state == "FAILURE"
    assert "3 processes were lost" in str(bad.result)
    assert fleet.calls() == [bad.id] * 3
    assert fleet.circuit()["failures_total"] == 3
    assert fleet.app.fetch.delay(1).get(timeout=30) == 1


@rules_of_the_store
def test_nor_does_it_keep_a_circuit_half_open(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=1, probes=1, call=30)
    fleet.worker().ready()
    bad = fleet.app.poison.delay()
    wait_for(lambda: fleet.circuit()["parked"] == 1, 20, "it waits")
    results = [fleet.app.fetch.delay(number) for number in range(4)]
    assert final(results) == {"SUCCESS": 4}
    wait_for(bad.ready, 60, "it ends")
    assert bad.state == "FAILURE"


@rules_of_the_store
def test_a_body_sees_which_attempt_it_is(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1000)
    fleet.worker().ready()
    assert fleet.app.growing.delay().get(timeout=30) == 2
    assert fleet.app.growing.apply().get() == 2  # eager: Celery's own way


@without_a_broker
def test_eager_mode_raises(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=3)
    fetch = fleet.app.fetch
    get_circuit_breaker("dead").force_open(60)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        fetch.apply((1,), throw=True)
    assert (caught.value.service, caught.value.reason) == ("dead", "forced")
    get_circuit_breaker("dead").reset()
    assert fetch.apply((1,)).get() == 1


def test_a_malformed_body_and_an_unknown_task_disturb_nobody(make_fleet: MakeFleet) -> None:
    fleet, results = outage(make_fleet, 5, timeout=2)
    with fleet.app.app.producer_pool.acquire() as producer:
        for name in ("fleet.fetch", "fleet.unknown"):
            producer.publish(
                "{broken",
                exchange="",
                routing_key="work",
                content_type="application/json",
                content_encoding="utf-8",
                headers={"task": name, "id": f"bad-{name}", "lang": "py"},
            )
    fleet.mode("ok")
    assert final(results) == {"SUCCESS": 5}
    emptied(fleet)
    wait_for(lambda: fleet.queued() == 0, 10, "the queue empties")
    assert fleet.app.fetch.delay(6).get(timeout=30) == 6


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_park_too(make_fleet: MakeFleet, pool: str) -> None:
    fleet = make_fleet(threshold=3, timeout=1)
    fleet.worker("-P", pool).ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(20)]
    parked(fleet, 20)
    fleet.mode("ok")
    assert final(results) == {"SUCCESS": 20}


@pytest.mark.parametrize("broker", ["redis"])  # RabbitMQ's properties are what it lets through
def test_a_message_that_cannot_be_published_holds_up_no_other(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=600)
    fleet.app  # noqa: B018 - registers the circuits
    get_circuit_breaker("dead").force_open(600, "maintenance", "an operator")
    odd, *others = [fleet.app.fetch.delay(number) for number in range(6)]
    raw = json.loads(fleet.broker.rpop("work"))
    raw["properties"]["compression"] = "unheard-of"
    fleet.broker.rpush("work", json.dumps(raw))
    worker = fleet.worker().ready()
    parked(fleet, 6)
    get_circuit_breaker("dead").reset("it is well again")
    assert final(others) == {"SUCCESS": 5}
    wait_for(lambda: f"{odd.id} is kept" in worker.text(), 30, "it is told")
    assert odd.state == PARKED


def test_two_workers_release_each_task_once(make_fleet: MakeFleet) -> None:
    fleet, results = outage(make_fleet, 300, timeout=2)
    fleet.worker().ready()
    fleet.mode("ok")
    assert final(results) == {"SUCCESS": 300}
    assert Counter(fleet.done()) == dict.fromkeys((result.id for result in results), 1)


@without_a_broker
def test_an_app_without_install_is_refused_by_the_worker(make_fleet: MakeFleet, tmp_path: Any) -> None:
    (tmp_path / "bare_app.py").write_text(
        "import os\n"
        "from celery import Celery\n"
        "from resilience import ResilientTask\n"
        "app = Celery('bare', broker=os.environ['FLEET_BROKER'])\n"
        "@app.task(base=ResilientTask, service='x')\n"
        "def nothing(): ...\n"
    )
    fleet = make_fleet()
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "bare_app", "worker", "-P", "solo"],
        env=fleet.environment,
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert "resilience.install(app)" in ended.stdout + ended.stderr
