"""A result backend that hangs, raises or is gone, while real workers park, end and run tasks."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from resilience import get_circuit_breaker
from resilience.states import PARKED
from tests.fleet import parked, shut, wait_for
from tests.servers import Server, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fleet import Fleet

    MakeFleet = Callable[..., Fleet]

SLOW = "slow_backend:SlowBackend"


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Server]:
    """A Redis for results alone, which a test may freeze or kill."""
    server = Server(installed("redis-server"), tmp_path / "results")
    server.start()
    yield server
    server.thaw()
    server.kill()


def healthy(fleet: Fleet, count: int) -> None:
    """So many tasks that need no result run, at full speed."""
    before = fleet.provider.llen("healthy")
    for _ in range(count):
        fleet.app.healthy.apply_async((0,), ignore_result=True)
    wait_for(lambda: fleet.provider.llen("healthy") == before + count, 5, "healthy tasks run meanwhile")


def ended(tasks: list[Any]) -> Counter[str]:
    wait_for(lambda: all(task.ready() for task in tasks), 30, "every task ends")
    return Counter(task.state for task in tasks)


def hooks(fleet: Fleet) -> dict[str, list[str]]:
    """What was called for whom, in order."""
    told: dict[str, list[str]] = {}
    for line in fleet.provider.lrange("hooks", 0, -1):
        ident, what = line.split(" ", 1)
        told.setdefault(ident, []).append(what)
    return told


FAILED = ["on_failure ParkingLotError", "after_return FAILURE"]
SUCCEEDED = ["on_success", "after_return SUCCESS"]


def test_a_backend_that_hangs_holds_up_neither_healthy_tasks_nor_parking(
    make_fleet: MakeFleet, results: Server
) -> None:
    fleet = shut(make_fleet, backend=f"redis://127.0.0.1:{results.port}/0")
    expiring = [fleet.app.fetch.apply_async((n,), expires=3) for n in range(20)]
    parked(fleet, 20)
    results.freeze()
    wait_for(lambda: fleet.circuit()["dropped_total"] == {}, 5)
    with contextlib.closing(fleet.app.app.connection_for_write()) as line:
        for n in range(20):
            fleet.app.fetch.apply_async((n,), ignore_result=True, connection=line)
            fleet.app.app.send_task("fleet.fetch", (n,), task_id=f"late-{n}", connection=line)
    for _ in range(8):
        healthy(fleet, 10)
    wait_for(lambda: fleet.circuit()["parked"] >= 60 - 20, 10, "they are parked without a state")
    results.thaw()
    assert ended(expiring) == {"REVOKED": 20}


def test_a_message_whose_state_is_being_written_cannot_run_before(make_fleet: MakeFleet) -> None:
    fleet = shut(make_fleet, backend=SLOW)
    fleet.provider.set("backend", "hangs")
    first = fleet.app.fetch.delay(0)
    wait_for(lambda: fleet.provider.llen("hanging") == 1, 10, "its state is being written")
    others = [fleet.app.fetch.delay(number) for number in range(1, 31)]
    parked(fleet, 30)
    get_circuit_breaker("dead").reset()
    wait_for(lambda: len(fleet.calls()) == 30, 20, "the others are let through")
    healthy(fleet, 5)
    assert first.id not in fleet.calls()
    get_circuit_breaker("dead").force_open(600)
    fleet.provider.delete("backend")
    assert ended(others) == {"SUCCESS": 30}
    wait_for(lambda: first.state == PARKED, 10, "it is parked after all")
    get_circuit_breaker("dead").reset()
    assert ended([first]) == {"SUCCESS": 1}
    assert Counter(fleet.done()) == dict.fromkeys([first.id, *(task.id for task in others)], 1)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_result_that_could_not_be_written_is_written_later_and_its_task_not_run_again(
    make_fleet: MakeFleet, pool: str
) -> None:
    fleet = shut(make_fleet, "-P", pool, backend=SLOW, threshold=100)
    good = [fleet.app.hooked.delay(number) for number in range(10)]
    bad = [fleet.app.hooked.delay(number) for number in range(-10, 0)]
    parked(fleet, 20)
    fleet.provider.set("backend", "raises")
    get_circuit_breaker("dead").reset()
    wait_for(lambda: len(fleet.calls()) == 20, 20, "all run")
    wait_for(lambda: fleet.workers[0].text().count("is not written yet") == 20, 10, "none is written")
    assert fleet.queued() == 20
    healthy(fleet, 5)
    fleet.provider.delete("backend")
    assert ended(good + bad) == {"SUCCESS": 10, "FAILURE": 10}
    assert good[3].get() == [3, good[3].id]
    assert repr(bad[3].result) == "ValueError(-7)"
    wait_for(lambda: fleet.queued() == 0, 10, "all are acknowledged")
    assert Counter(fleet.calls()) == dict.fromkeys((task.id for task in good + bad), 1)
    failed = ["on_failure ValueError", "after_return FAILURE"]
    assert hooks(fleet) == {**{t.id: SUCCEEDED for t in good}, **{t.id: failed for t in bad}}


def test_a_backend_gone_for_a_while_costs_no_result(make_fleet: MakeFleet, results: Server) -> None:
    fleet = shut(make_fleet, backend=f"redis://127.0.0.1:{results.port}/0")
    # Ids alone: a result object talks to the backend when it is collected, and that may be gone by then.
    ids = [fleet.app.fetch.delay(number).id for number in range(20)]
    parked(fleet, 20)
    results.kill()
    get_circuit_breaker("dead").reset()
    wait_for(lambda: len(fleet.done()) == 20, 30, "all run")
    results.start()
    backend = fleet.app.app.backend
    wait_for(lambda: backend.get_state(ids[-1]) == "SUCCESS", 30, "the last is written")
    wait_for(lambda: {backend.get_state(ident) for ident in ids} == {"SUCCESS"}, 10, "so are the others")
    assert Counter(fleet.done()) == dict.fromkeys(ids, 1)


def test_what_cannot_be_ended_stays_in_its_lot_until_it_can(make_fleet: MakeFleet) -> None:
    fleet = shut(make_fleet, backend=SLOW, policy='{"max_parked_seconds": 5}')
    tasks = [fleet.app.fetch.delay(number) for number in range(3)]
    parked(fleet, 3)
    fleet.provider.set("backend", "raises")
    wait_for(lambda: "tasks of dead now" in fleet.workers[0].text(), 20, "it is tried")
    assert fleet.circuit()["parked"] == 3
    assert fleet.circuit()["parked_total"] == 3
    assert fleet.calls() == []
    fleet.provider.delete("backend")
    assert ended(tasks) == {"FAILURE": 3}


def test_hooks_are_called_for_what_ends_in_the_lot_however_slow_they_are(make_fleet: MakeFleet) -> None:
    fleet = shut(make_fleet, policy='{"max_parked_seconds": 2, "max_parked": 3}')
    tasks = [fleet.app.hooked.delay(number) for number in range(3)]
    parked(fleet, 3)
    full = fleet.app.hooked.delay(9)
    fleet.provider.set("hooks:slow", 1)
    wait_for(lambda: fleet.provider.llen("hooks"), 10, "a hook is called")
    healthy(fleet, 20)
    fleet.provider.set("hooks:raise", 1)
    fleet.provider.delete("hooks:slow")
    assert ended([*tasks, full]) == {"FAILURE": 4}
    wait_for(lambda: fleet.provider.llen("hooks") >= 8, 10, "all hooks are called")
    assert hooks(fleet) == dict.fromkeys((task.id for task in [*tasks, full]), FAILED)
    assert fleet.circuit()["dropped_total"] == {"full": 1, "overdue": 3}


def test_hooks_are_called_for_each_of_those_that_end_as_their_leader_has(make_fleet: MakeFleet) -> None:
    fleet = shut(make_fleet)
    tasks = [fleet.app.hooked.delay(1) for _ in range(5)]
    parked(fleet, 5)
    get_circuit_breaker("dead").reset()
    assert ended(tasks) == {"SUCCESS": 5}
    wait_for(lambda: fleet.provider.llen("hooks") >= 10, 10, "all hooks are called")
    assert hooks(fleet) == dict.fromkeys((task.id for task in tasks), SUCCEEDED)
    assert len(fleet.calls()) == 1


def test_a_hard_time_limit_is_a_failed_attempt_and_waits(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=2, timeout=1, probes=1)
    fleet.worker().ready()
    fleet.mode("hang")
    tasks = [fleet.app.limited.delay() for _ in range(4)]
    wait_for(lambda: fleet.circuit()["trips_total"] >= 3, 30, "it opens, and probes are stopped")
    assert not any(task.ready() for task in tasks)
    fleet.mode("ok")
    assert ended(tasks) == {"SUCCESS": 4}


def test_it_is_one_of_a_service_that_only_the_arguments_name(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.worker().ready()
    fleet.mode("hang", "tenant")
    tasks = [fleet.app.either.apply_async(["tenant"], time_limit=1)]
    tasks.append(fleet.app.either.apply_async(kwargs={"only": "tenant"}, time_limit=1))
    tenant = get_circuit_breaker("tenant")
    wait_for(lambda: tenant.read().failures_total >= 2 and tenant.read().parked == 2, 30, "both are stopped")
    fleet.mode("ok", "tenant")
    assert ended(tasks) == {"SUCCESS": 2}
    assert fleet.circuit("dead")["parked_total"] == 0


def test_a_call_that_an_operator_ends_says_nothing_of_the_service(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, policy='{"max_concurrent": 1}')
    fleet.worker().ready()
    for number, name in enumerate(("SIGUSR1", "SIGTERM", "SIGKILL", "SIGINT"), 1):
        fleet.mode("hang")
        task = fleet.app.fetch.delay(number)
        wait_for(lambda n=number: len(fleet.provider.lrange("pids", 0, -1)) == n, 20, "it is called")
        task.revoke(terminate=True, signal=name)
        assert sum(ended([task]).values()) == 1
        fleet.mode("ok")  # its place is free
        assert ended([fleet.app.fetch.delay(0)]) == {"SUCCESS": 1}
    assert fleet.circuit()["failures_total"] == 0
    assert fleet.circuit()["trips_total"] == 0
