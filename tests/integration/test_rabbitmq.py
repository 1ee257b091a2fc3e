"""What RabbitMQ does that Redis does not: confirms, returns, closes; and what it keeps in a crash."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection

from resilience import outlet as outlet_module
from resilience.outlet import BROKER_SECONDS, Outlet
from resilience.parking import Stored
from resilience.states import PARKED
from tests.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fleet import Fleet
    from tests.servers import Rabbit

    MakeFleet = Callable[..., Fleet]

WHEN = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
PROPERTIES = {
    "correlation_id": "seven",
    "reply_to": "nobody",
    "priority": 4,
    "delivery_mode": 2,
    "message_id": "m",
    "type": "t",
    "app_id": "a",
    "timestamp": int(WHEN.timestamp()),
}
HEADERS = {
    "id": "seven",
    "task": "fleet.fetch",
    "when": WHEN,
    "price": Decimal("1.25"),
    "nested": {"list": [1, 2.5, None, True, "ü"]},
}


@pytest.fixture
def broker() -> str:
    return "rabbitmq"


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    """No worker; its queue is there."""
    made = make_fleet()
    with made.app.app.connection_for_write() as connection:
        made.app.app.amqp.queues["work"](connection.channel()).declare()
    return made


@pytest.fixture
def outlet(fleet: Fleet) -> Iterator[Outlet]:
    """A releaser's connection."""
    made = Outlet(fleet.app.app)
    assert made.open()
    yield made
    made.close()


def stored(ident: str = "seven", exchange: str = "fleet", routing_key: str = "work") -> Stored:
    headers = {**HEADERS, "id": ident}
    properties = {**PROPERTIES, "correlation_id": ident}
    return Stored(
        ident, b"[[1], {}, {}]", "application/json", "utf-8", headers, properties, exchange, routing_key
    )


def fetched(fleet: Fleet, count: int) -> list[Any]:
    """So many messages out of the queue."""
    taken: list[Any] = []
    with Connection(fleet.environment["FLEET_BROKER"]) as connection:
        queue = fleet.app.app.amqp.queues["work"](connection.channel())

        def take() -> bool:
            message = queue.get(no_ack=True)
            taken.extend([message] if message else [])
            return len(taken) == count

        wait_for(take, 10, f"{count} messages")
        assert queue.get() is None
    return taken


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_message_comes_back_as_it_came(fleet: Fleet, outlet: Outlet, compression: str | None) -> None:
    body = bytes(range(256)) * 10
    with fleet.app.app.connection_for_write() as connection:
        connection.Producer().publish(
            body,
            exchange="fleet",
            routing_key="work",
            content_type="application/octet-stream",
            content_encoding="binary",
            compression=compression,
            headers=dict(HEADERS),  # kombu adds to it
            **PROPERTIES,
        )
    [came] = fetched(fleet, 1)
    kept = Stored.load(Stored.of(came).dump())
    assert outlet.send([kept]) == [kept]
    [back] = fetched(fleet, 1)
    assert bytes(back.body) == bytes(came.body) == body
    assert back.headers == {name: value for name, value in came.headers.items() if name != "compression"}
    assert back.headers["nested"] == HEADERS["nested"]
    given = set(came.properties) - {"application_headers"}
    assert given >= set(PROPERTIES)
    assert {name: back.properties[name] for name in given} == {name: came.properties[name] for name in given}
    assert back.delivery_info["exchange"] == "fleet"


def test_a_batch_is_certain_once_it_is_confirmed(fleet: Fleet, outlet: Outlet) -> None:
    batch = [stored(str(number)) for number in range(20)]
    for _ in range(3):  # one connection, a channel each
        assert sorted(sent.id for sent in outlet.send(batch)) == sorted(sent.id for sent in batch)
    assert Counter(message.headers["id"] for message in fetched(fleet, 60)) == {
        message.id: 3 for message in batch
    }


@pytest.mark.parametrize("gone", [{"routing_key": "gone"}, {"exchange": "gone"}])
def test_what_has_no_queue_any_more_stays_and_takes_nothing_along(
    fleet: Fleet, outlet: Outlet, gone: dict[str, str]
) -> None:
    batch = [stored("first"), stored("lost", **gone), stored("last")]
    assert {message.id for message in outlet.send(batch)} == {"first", "last"}
    with Connection(fleet.environment["FLEET_BROKER"]) as connection:
        queue = fleet.app.app.amqp.queues["work"](connection.channel())
        arrived = {message.headers["id"] for message in iter(lambda: queue.get(no_ack=True), None)}
    assert arrived == {"first", "last"}
    assert outlet.send([stored("next")]) == [stored("next")]


def test_a_broker_that_answers_nothing_holds_the_loop_for_a_second_and_then_has_its_rest(
    fleet: Fleet, outlet: Outlet, rabbitmq: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet_module, "REST", 1)
    fresh = Outlet(fleet.app.app)
    rabbitmq.freeze()
    try:
        for act, found in ((lambda: outlet.send([stored()]), []), (fresh.open, False)):
            started = time.monotonic()
            assert act() == found
            assert time.monotonic() - started < BROKER_SECONDS + 0.5
            assert (outlet if found == [] else fresh).rests
    finally:
        rabbitmq.thaw()
    for each in (outlet, fresh):
        wait_for(each.open, 5, "it has had its rest")
        assert each.send([stored("later")])
    fresh.close()


def test_a_broker_without_memory_gets_a_batch_once(
    fleet: Fleet, outlet: Outlet, rabbitmq: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet_module, "REST", 0)
    first = outlet.connection
    rabbitmq.control("set_vm_memory_high_watermark", "0.00000001")
    try:
        assert outlet.send([stored()]) == []
        for _ in range(20):
            assert not outlet.open()
    finally:
        rabbitmq.control("set_vm_memory_high_watermark", "0.4")
    wait_for(outlet.open, 10, "it is told")
    assert outlet.connection is first
    assert outlet.send([stored("later")])
    assert [message.headers["id"] for message in fetched(fleet, 2)] == ["seven", "later"]


def test_a_broker_that_refuses_is_asked_again_at_the_next_look(fleet: Fleet) -> None:
    outlet = Outlet(fleet.app.app)
    address = fleet.app.app.conf.broker_write_url
    fleet.app.app.conf.broker_write_url = "amqp://127.0.0.1:1//"
    try:
        assert not outlet.open()
        wait_for(lambda: not outlet.rests, 1, "it cost nothing")
        # A cluster's first node is gone: the next one is tried.
        fleet.app.app.conf.broker_write_url = f"amqp://127.0.0.1:1//;{fleet.environment['FLEET_BROKER']}"
        assert outlet.open()
        assert outlet.send([stored()])
    finally:
        fleet.app.app.conf.broker_write_url = address
        outlet.close()


def test_a_connection_that_was_closed_while_idle_costs_no_batch(
    fleet: Fleet, outlet: Outlet, rabbitmq: Rabbit
) -> None:
    assert outlet.connection.connection.heartbeat == 0  # nobody would answer them
    first = outlet.connection
    rabbitmq.disconnect(fleet.vhost)
    wait_for(lambda: outlet.open() and outlet.connection is not first, 10, "it is noticed")
    assert outlet.send([stored()]) == [stored()]


SEND = """
from workers.celery import app
with app.producer_pool.acquire() as producer:
    producer.publish({}, exchange="tasks", routing_key="default", declare=[app.amqp.queues["default"]])
print("sent")
"""


def test_the_systems_own_app_takes_no_message_for_sent_that_the_broker_does_not_have(
    fleet: Fleet, rabbitmq: Rabbit
) -> None:
    addresses = {"CELERY_BROKER_URL": fleet.environment["FLEET_BROKER"], "RESILIENCE_STORE_URL": "memory://"}
    rabbitmq.control("set_vm_memory_high_watermark", "0.00000001")  # it reads no message
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", SEND],
            env=fleet.environment | addresses,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for(lambda: "blocked" in rabbitmq.connections(fleet.vhost), 30, "it has sent")
    finally:
        rabbitmq.kill()
        rabbitmq.start()
    output, errors = process.communicate(timeout=30)
    assert "sent" not in output
    assert "Error" in errors
    assert process.returncode != 0


def test_a_delayed_task_that_met_an_open_circuit_is_not_delayed_again(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=1)
    fleet.worker().ready()
    fleet.mode("down")
    fleet.app.fetch.delay(0)
    wait_for(lambda: fleet.circuit()["parked"] == 1, 20, "open")
    delayed = fleet.app.fetch.apply_async((1,), countdown=5)
    wait_for(lambda: fleet.circuit()["parked"] == 2, 20, "it came when it was due")
    assert delayed.state == PARKED
    fleet.mode("ok")
    started = time.monotonic()
    assert delayed.get(timeout=20) == 1
    assert time.monotonic() - started < 4.5


def test_a_broker_killed_in_an_outage_and_in_the_return_loses_nothing(
    make_fleet: MakeFleet, rabbitmq: Rabbit
) -> None:
    fleet = make_fleet(threshold=3, timeout=1)
    fleet.worker(concurrency=4).ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(300)]
    try:
        wait_for(lambda: fleet.circuit()["parked"] >= 20, 30, "some are parked, others still on their way")
        rabbitmq.kill()
        rabbitmq.start()
        wait_for(lambda: fleet.circuit()["parked"] == 300, 60, f"all are parked {fleet.circuit()}")
        fleet.mode("ok")
        wait_for(lambda: len(fleet.done()) >= 20, 60, f"they return {fleet.circuit()}")
        rabbitmq.kill()
    finally:
        rabbitmq.start()
    wait_for(lambda: all(result.state == "SUCCESS" for result in results), 90, f"all end {fleet.circuit()}")
    assert set(fleet.done()) == {result.id for result in results}
    assert fleet.circuit()["state"] == "closed"
