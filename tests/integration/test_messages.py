"""Messages unlike most: of the older protocol, stamped, renamed, with odd ids, or spoilt while they wait."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from resilience import get_circuit_breaker
from resilience.errors import ResilienceError
from resilience.parking import Lane, Stored, Waiting
from resilience.release import drop
from tests.fleet import parked, shut, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fleet import Fleet

    MakeFleet = Callable[..., Fleet]


# Celery's own backend writes with it.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")
MESSAGES = "circuit:1:{dead}:lot:messages"


@pytest.fixture(params=["redis"])
def broker(request: pytest.FixtureRequest) -> str:
    """The rules of the lot, the same whatever brought the message: once is enough."""
    return request.param


def test_what_speaks_the_older_protocol_waits_and_ends_like_any_other(make_fleet: MakeFleet) -> None:
    fleet = shut(make_fleet, policy='{"max_parked_seconds": 6}')
    fleet.app.app.conf.task_protocol = 1
    fetch = fleet.app.fetch
    overdue, revoked, dropped = (fetch.apply_async((n,), task_id=f"old-{n}") for n in range(3))
    expires = fetch.apply_async((3,), expires=1)
    wait_for(lambda: expires.state == "REVOKED", 20, f"it expires: {expires.state}")
    parked(fleet, 3)
    revoked.revoke()
    assert drop(fleet.app.app, "dead", [dropped.id]) == [dropped.id]
    wait_for(lambda: fleet.circuit()["parked"] == 0, 30, "they end")
    assert [result.state for result in (overdue, revoked, dropped)] == ["FAILURE", "REVOKED", "REVOKED"]
    counts = {"expired": 1, "operator": 1, "overdue": 1, "revoked": 1}
    wait_for(lambda: fleet.circuit()["dropped_total"] == counts, 10, f"counted: {fleet.circuit()}")
    comes = fetch.delay(5)
    parked(fleet, 1)
    assert fleet.circuit()["parked_total"] == 5, "none was published and parked again"
    get_circuit_breaker("dead").reset()
    assert comes.get(timeout=30) == 5


def test_what_is_to_follow_a_task_may_be_odd_and_it_ends_all_the_same(make_fleet: MakeFleet) -> None:
    fleet = shut(make_fleet, policy='{"max_parked_seconds": 2}')
    broken = {"task": "fleet.bare", "args": 5, "kwargs": [], "options": "x"}
    headers = {"task": "fleet.fetch", "id": "odd", "lang": "py"}
    with fleet.app.app.producer_pool.acquire() as producer:
        producer.publish(
            json.dumps([[1], {}, {"errbacks": [broken], "chord": broken}]),
            exchange="",
            routing_key="work",
            content_type="application/json",
            content_encoding="utf-8",
            headers=headers,
        )
    wait_for(lambda: fleet.app.app.AsyncResult("odd").state == "FAILURE", 20, "it ends")
    wait_for(lambda: fleet.circuit()["parked"] == 0, 10, "and is gone")
    assert fleet.circuit()["parked_total"] == 1


def test_a_parked_task_goes_by_its_shadow_and_its_result_says_what_celerys_own_do(
    make_fleet: MakeFleet,
) -> None:
    fleet = shut(make_fleet, "-E", extended="1")
    names: dict[str, set[str]] = {}

    def note(event: dict[str, Any]) -> None:
        if event.get("name"):
            names.setdefault(event["uuid"], set()).add(event["name"])

    with fleet.app.app.connection_for_read() as connection:
        receiver = fleet.app.app.events.Receiver(connection, handlers={"*": note})
        listening = threading.Event()
        receiver.on_consume_ready = lambda *_, **__: listening.set()
        listener = threading.Thread(target=receiver.capture, kwargs={"limit": None, "wakeup": False})
        listener.start()
        assert listening.wait(10)
        try:
            ask_for_reports(fleet, names)
        finally:
            receiver.should_stop = True
            listener.join()


def ask_for_reports(fleet: Fleet, names: dict[str, set[str]]) -> None:
    fleet.app.app.conf.result_extended = True
    for protocol in (2, 1):
        fleet.app.app.conf.task_protocol = protocol
        task = fleet.app.fetch.apply_async((7,), {"seconds": 0}, shadow="monthly report")
        wait_for(lambda task=task: task.state == "PARKED", 20, "it is parked")
        meta = fleet.app.app.backend.get_task_meta(task.id)
        told = {name: meta.get(name) for name in ("name", "args", "kwargs", "worker", "retries", "queue")}
        assert told == {
            "name": "fleet.fetch",
            "args": [7],
            "kwargs": {"seconds": 0},
            "worker": "w0@test",
            "retries": 0,
            "queue": "work",
        }
        assert meta["result"]["service"] == "dead"
        if protocol == 2:  # the older one has no shadow
            wait_for(lambda task=task: names.get(task.id), 20, "an event of it is heard")
            assert names[task.id] == {"monthly report"}


def stamped(fleet: Fleet, number: int, **stamps: Any) -> Any:
    signature = fleet.app.fetch.s(number)
    signature.stamp(**stamps)
    return signature.apply_async()


def test_what_bears_a_revoked_stamp_ends_while_it_waits_and_when_it_comes(make_fleet: MakeFleet) -> None:
    fleet = shut(make_fleet)
    control = fleet.app.app.control
    acme = [stamped(fleet, number, customer="acme") for number in range(130)]
    others = [
        stamped(fleet, 200, customer="acme & co"),
        stamped(fleet, 201, note="acme"),
        fleet.app.fetch.delay(2),
    ]
    listed = stamped(fleet, 202, customer=["x", "acme"])
    parked(fleet, 134)
    control.revoke_by_stamped_headers({"customer": ["acme"]}, reply=True)
    wait_for(lambda: fleet.circuit()["parked"] == 3, 30, f"they end: {fleet.circuit()}")
    assert {result.state for result in [*acme, listed]} == {"REVOKED"}
    assert {result.state for result in others} == {"PARKED"}
    later = stamped(fleet, 3, customer="acme")
    wait_for(lambda: later.state == "REVOKED", 30, "it ends when it comes")
    control.revoke_by_stamped_headers({"note": "acme"}, reply=True)
    wait_for(lambda: others[1].state == "REVOKED", 30, "so does one of a stamp revoked later")
    get_circuit_breaker("dead").reset()
    wait_for(lambda: others[0].state == others[2].state == "SUCCESS", 30, "the others run")
    assert sorted(fleet.done()) == sorted([others[0].id, others[2].id])


def damage(fleet: Fleet, ident: str, text: bytes | None) -> None:
    """As a bad restore would; None: its message is gone."""
    if text is None:
        fleet.store.hdel(MESSAGES, ident)
    else:
        fleet.store.hset(MESSAGES, ident, text)


@pytest.mark.parametrize("text", [b"s{not json", None], ids=["unreadable", "gone"])
def test_all_are_dropped_though_some_cannot_be_read(make_fleet: MakeFleet, text: bytes | None) -> None:
    fleet = shut(make_fleet)
    tasks = [fleet.app.fetch.delay(number) for number in range(230)]
    parked(fleet, 230)
    for place in (5, 6, 150):
        damage(fleet, tasks[place].id, text)
    command = [sys.executable, "-m", "celery", "-A", "fleet_app", "circuits", "drop", "dead", "--all"]
    told = {"env": fleet.environment, "cwd": fleet.folder, "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, **told)
    assert (done.returncode, fleet.circuit()["parked"]) == (0, 0), done.stderr
    assert [tasks[place].state for place in (4, 5, 150)] == ["REVOKED", "FAILURE", "FAILURE"]
    assert fleet.circuit()["dropped_total"] == {"operator": 227, "unreadable": 3}
    assert fleet.store.keys("circuit:1:{dead}:lot:*") == []


def test_what_cannot_be_dropped_is_named(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.app  # noqa: B018 - registers the circuits
    lot = get_circuit_breaker("dead").store.lot
    headers = {"task": "another.app", "id": "theirs"}
    message = Stored("theirs", "[[], {}, {}]", "application/json", "utf-8", headers, {}, "nowhere", "nowhere")
    lot.park("dead", [Waiting(message, Lane.SCHEDULED)])
    lot.pick("dead", 1, ["theirs"])  # somebody has it
    with pytest.raises(ResilienceError, match=r"1 or more are left, .*: theirs"):
        drop(fleet.app.app, "dead")


@pytest.mark.parametrize("text", [b"s{not json", None], ids=["unreadable", "gone"])
def test_one_that_cannot_be_read_is_no_lost_store_and_keeps_nobody_back(
    make_fleet: MakeFleet, text: bytes | None
) -> None:
    """It was to be the probe, and the first that follows."""
    fleet = shut(make_fleet)
    first = fleet.app.fetch.delay(0)
    parked(fleet, 1)
    asked = [fleet.app.quote.delay("X")]
    parked(fleet, 2)
    for number in range(3):
        asked.append(fleet.app.quote.delay("X"))
        parked(fleet, 3 + number)
    damage(fleet, first.id, text)
    damage(fleet, asked[1].id, text)
    assert fleet.circuit()["coalesced_total"] == 3
    get_circuit_breaker("dead").reset()
    wait_for(lambda: all(task.ready() for task in [first, *asked]), 30, "all end")
    assert [task.state for task in [first, *asked]] == ["FAILURE", "SUCCESS", "FAILURE", "SUCCESS", "SUCCESS"]
    log = fleet.workers[0].text()
    assert "does not answer" not in log
    for task in (first, asked[1]):
        assert log.count(f"what waits for dead as '{task.id}' cannot be read") == 1


IDS = (
    "a",
    "a:b",
    "a:b:c",
    "reserved",
    "reserved:a",
    "a b",
    "{a}",
    "a\nb",
    "\t",
    "a'\"\\",
    "日本",
    "x" * 1024,
)


def test_an_id_may_be_any_text(make_fleet: MakeFleet) -> None:
    fleet = shut(make_fleet)
    tasks = [fleet.app.fetch.apply_async((n,), task_id=ident) for n, ident in enumerate(IDS)]
    parked(fleet, len(IDS))
    too_long = fleet.app.fetch.apply_async((1,), task_id="x" * 1025)
    assert {entry.message.id for entry in get_circuit_breaker("dead").store.lot.waiting("dead", 50)} == set(
        IDS
    )
    tasks[1].revoke()
    wait_for(lambda: tasks[1].state == "REVOKED", 20, "it alone is revoked")
    parked(fleet, len(IDS) - 1)
    get_circuit_breaker("dead").reset()
    wait_for(lambda: all(task.ready() for task in tasks), 30, "they end")
    assert sorted(fleet.done()) == sorted(ident for ident in IDS if ident != "a:b")
    assert too_long.state == "FAILURE"
