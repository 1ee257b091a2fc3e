"""Parked tasks that ask the same become one: real workers, real servers, a provider broken for real."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, chain, chord, states

from resilience import ResilientTask, coalescing, get_circuit_breaker
from resilience.coalescing import Outlook, outlook
from resilience.parking import Lane, Leader, Stored, Waiting
from resilience.request import gate_of
from resilience.states import PARKED
from tests.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery.result import AsyncResult

    from tests.fleet import Fleet

    MakeFleet = Callable[..., Fleet]

MESSAGE = Stored("", '[["X"], {}, {}]', "application/json", "utf-8", {"task": "fleet.quote"}, {}, "", "work")


def parked(fleet: Fleet, count: int) -> None:
    wait_for(lambda: fleet.circuit()["parked"] == count, 30, f"{count} parked: {fleet.circuit()}")


def parked_in_order(fleet: Fleet, count: int) -> list[AsyncResult]:
    """So many tasks that ask the same, each parked before the next is sent: the first is the leader."""
    results = []
    for number in range(count):
        results.append(fleet.app.quote.delay("X"))
        parked(fleet, number + 1)
    return results


def final(results: list[AsyncResult]) -> Counter[str]:
    wait_for(lambda: all(result.ready() for result in results), 60, "every task ends")
    return Counter(result.state for result in results)


def shut_fleet(make_fleet: MakeFleet, **settings: Any) -> Fleet:
    """A fleet whose provider nobody may call until an operator says so."""
    fleet = make_fleet(**settings)
    fleet.worker().ready()
    fleet.app  # noqa: B018 - registers the circuits
    get_circuit_breaker("dead").force_open(600)
    return fleet


def let_go() -> None:
    get_circuit_breaker("dead").reset()


@contextlib.contextmanager
def events(fleet: Fleet, kind: str) -> Iterator[list[str]]:
    """The ids of the tasks that events of this kind tell of."""
    told: list[str] = []
    with fleet.app.app.connection_for_read() as connection:
        receiver = fleet.app.app.events.Receiver(connection, {kind: lambda event: told.append(event["uuid"])})
        listening = threading.Event()
        receiver.on_consume_ready = lambda *_, **__: listening.set()
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "wakeup": False})
        thread.start()
        assert listening.wait(10)
        try:
            yield told
        finally:
            receiver.should_stop = True
            thread.join()


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_thirty_that_ask_the_same_are_one_call_and_thirty_answers(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=3, timeout=1)
    fleet.worker().ready()
    fleet.worker().ready()
    fleet.mode("down")
    results = [fleet.app.quote.delay("X") for _ in range(30)]
    other = fleet.app.quote.delay("Y")
    parked(fleet, 31)
    assert {result.state for result in results} == {PARKED}
    assert fleet.circuit()["coalesced_total"] == 29
    with events(fleet, "task-succeeded") as told:
        fleet.mode("ok")
        assert final([*results, other]) == {"SUCCESS": 31}
        wait_for(lambda: len(told) >= 31, 30, "Flower is told of each")
    parked(fleet, 0)
    [answer] = {tuple(result.get(timeout=10)) for result in results}
    assert answer[0] == "X"
    assert sorted(fleet.done()) == sorted([answer[1], other.id]), "one of thirty was called"
    assert Counter(told) == dict.fromkeys([result.id for result in (*results, other)], 1)
    leftover = {key.decode() for key in fleet.store.keys("circuit:1:{dead}:*")}
    circuits_own = ("transitions", "samples", "failing")  # two successes of three have not closed it yet
    assert leftover <= {f"circuit:1:{{dead}}:{name}" for name in circuits_own}


def test_a_failure_is_everybodys(make_fleet: MakeFleet) -> None:
    fleet = shut_fleet(make_fleet)
    fleet.provider.sadd("unknown", "X")
    results = [fleet.app.quote.delay("X") for _ in range(5)]
    parked(fleet, 5)
    let_go()
    assert final(results) == {"FAILURE": 5}
    assert len(fleet.calls()) == 1
    for result in results:
        with pytest.raises(fleet.app.UnknownSymbolError) as caught:
            result.get(timeout=10)
        assert caught.value.args == ("X", 404)


def test_a_revoked_leader_is_nobody_elses_end(make_fleet: MakeFleet) -> None:
    fleet = shut_fleet(make_fleet)
    results = parked_in_order(fleet, 5)
    results[0].revoke()
    let_go()
    assert final(results) == {"REVOKED": 1, "SUCCESS": 4}
    assert results[0].state == "REVOKED"
    assert fleet.calls() == [results[1].id]


def test_nor_is_one_that_expires(make_fleet: MakeFleet) -> None:
    fleet = shut_fleet(make_fleet)
    short = fleet.app.quote.apply_async(("X",), expires=2)
    parked(fleet, 1)
    results = [fleet.app.quote.delay("X") for _ in range(4)]
    assert final([short]) == {"REVOKED": 1}
    parked(fleet, 4)
    let_go()
    assert final(results) == {"SUCCESS": 4}
    assert len(fleet.calls()) == 1


def test_a_revoked_task_gets_no_answer(make_fleet: MakeFleet) -> None:
    fleet = shut_fleet(make_fleet)
    results = parked_in_order(fleet, 5)
    results[3].revoke()
    let_go()
    assert final(results) == {"REVOKED": 1, "SUCCESS": 4}
    assert results[3].state == "REVOKED"
    assert fleet.calls() == [results[0].id]


def test_a_worker_killed_before_it_passes_an_answer_on_leaves_that_to_the_next(make_fleet: MakeFleet) -> None:
    fleet = shut_fleet(make_fleet)
    results = parked_in_order(fleet, 20)
    worker = fleet.workers[0]
    fleet.provider.set("mode:dead", "slow")
    let_go()
    wait_for(fleet.calls, 20, "the leader's call")
    os.kill(worker.process.pid, signal.SIGSTOP)  # its pool goes on
    fleet.mode("ok")
    wait_for(results[0].ready, 20, "the leader's answer")
    assert Counter(result.state for result in results) == {"SUCCESS": 1, PARKED: 19}
    worker.kill()
    fleet.worker().ready()
    assert final(results) == {"SUCCESS": 20}
    assert {tuple(result.get()) for result in results} == {("X", results[0].id)}
    assert len(fleet.calls()) == 1


def test_a_chord_and_a_chain_are_left_alone(make_fleet: MakeFleet) -> None:
    fleet = shut_fleet(make_fleet)
    app = fleet.app
    plain = [app.quote.delay("X") for _ in range(2)]
    total = app.app.signature("fleet.ask", args=(7,), immutable=True)
    in_chord = chord([app.quote.s("X"), app.quote.s("X")], total).delay()
    in_chain = chain(app.quote.si("X"), app.quote.si("Y")).delay()
    linked = app.quote.apply_async(("X",), link=app.ask.si(9), link_error=app.ask.si(8))
    parked(fleet, 2 + 2 + 1 + 1)
    assert fleet.circuit()["coalesced_total"] == 1
    let_go()
    assert in_chord.get(timeout=60) == 7
    assert in_chain.get(timeout=60)[0] == "Y"
    assert final([*plain, linked]) == {"SUCCESS": 3}
    assert linked.get()[1] == linked.id


def test_what_has_not_asked_for_it_is_left_alone(make_fleet: MakeFleet) -> None:
    fleet = shut_fleet(make_fleet)
    results = [fleet.app.fetch.delay(1) for _ in range(5)]
    parked(fleet, 5)
    assert fleet.circuit()["coalesced_total"] == 0
    let_go()
    assert final(results) == {"SUCCESS": 5}
    assert len(fleet.calls()) == 5


def test_tasks_without_a_result_are_one_call_too(make_fleet: MakeFleet) -> None:
    fleet = shut_fleet(make_fleet)
    results = [fleet.app.quote.apply_async(("X",), ignore_result=True) for _ in range(5)]
    parked(fleet, 5)
    let_go()
    parked(fleet, 0)
    assert len(fleet.calls()) == 1
    assert {result.backend.get_state(result.id) for result in results} == {"PENDING"}, "none was written"


def test_an_answer_of_another_service_is_everybodys(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(threshold=1, timeout=2)
    fleet.worker().ready()
    fleet.mode("down")
    fleet.app.ask.delay(0)  # opens the circuit, and waits
    parked(fleet, 1)
    get_circuit_breaker("other").force_open(600)
    results = [fleet.app.quote_of_any.delay("X") for _ in range(5)]
    parked(fleet, 6)
    get_circuit_breaker("other").reset()
    assert final(results) == {"SUCCESS": 5}
    assert {tuple(result.get()) for result in results} == {("X", "other")}
    assert len(fleet.calls("other")) == 1


def message(ident: str, task: str = "fleet.quote") -> Stored:
    return replace(MESSAGE, id=ident, headers={"task": task, "id": ident})


def followed(fleet: Fleet, *ids: str) -> None:
    """The first of these has left the lot; the others wait for its answer."""
    lot = gate_of(fleet.app.app).store.lot
    lot.park("dead", [Waiting(message(ident), Lane.SCHEDULED, group="g") for ident in ids])
    token, [leader] = lot.take("dead", get_circuit_breaker("dead").policy, 10)
    lot.settle("dead", token, [leader.id])


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's own
def test_what_has_ended_already_is_not_overwritten(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    gate, backend = gate_of(fleet.app.app), fleet.app.app.backend
    followed(fleet, "a", "failed", "revoked", "answered", "waits")
    assert coalescing.answer_followers(gate, "dead") == 0
    backend.mark_as_done("a", ["X", "a"])
    backend.mark_as_failure("failed", ValueError("before"))
    backend.mark_as_revoked("revoked")
    backend.mark_as_done("answered", ["X", "a"])  # by a releaser killed before it could say so
    written = backend.get_task_meta("answered")["date_done"]
    assert coalescing.answer_followers(gate, "dead") == 4
    found = {ident: backend.get_task_meta(ident) for ident in ("failed", "revoked", "answered", "waits")}
    assert {ident: meta["status"] for ident, meta in found.items()} == {
        "failed": states.FAILURE,
        "revoked": states.REVOKED,
        "answered": states.SUCCESS,
        "waits": states.SUCCESS,
    }
    assert str(found["failed"]["result"]) == "before"
    assert found["answered"]["date_done"] == written
    assert found["waits"]["result"] == ["X", "a"]
    assert fleet.circuit()["parked"] == 0


def test_a_task_of_another_app_is_left_to_its_workers(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    gate = gate_of(fleet.app.app)
    theirs = [Waiting(message(ident, task="theirs"), Lane.SCHEDULED, group="g") for ident in "ab"]
    gate.store.lot.park("dead", theirs)
    token, _ = gate.store.lot.take("dead", get_circuit_breaker("dead").policy, 10)
    gate.store.lot.settle("dead", token, ["a"])
    get_circuit_breaker("dead").forget("a")
    assert coalescing.answer_followers(gate, "dead") == 0
    assert fleet.circuit()["parked"] == 1
    assert get_circuit_breaker("dead").read().parked_ready == 0


@pytest.mark.parametrize(
    ("verdict", "ended", "late", "status", "keeps_state", "hope"),
    [
        ("", False, False, None, True, Outlook.LATER),
        ("success", True, False, None, True, Outlook.LATER),
        ("success", True, True, None, True, Outlook.SILENCE),
        ("", False, True, None, True, Outlook.SILENCE),
        ("", False, True, states.SUCCESS, True, Outlook.ANSWER),
        ("success", True, False, states.FAILURE, True, Outlook.ANSWER),
        ("", True, False, states.REVOKED, True, Outlook.NONE),
        ("", False, False, None, False, Outlook.LATER),
        ("", False, True, None, False, Outlook.SILENCE),
        ("success", True, False, None, False, Outlook.ANSWER),
        ("", True, False, None, False, Outlook.NONE),
    ],
)
def test_what_those_that_follow_can_hope_for(
    *, verdict: str, ended: bool, late: bool, status: str | None, keeps_state: bool, hope: Outlook
) -> None:
    leader = Leader("a", verdict, ended, late, MESSAGE)
    assert outlook(leader, {"status": status} if status else None, keeps_state=keeps_state) is hope


@pytest.mark.parametrize(
    ("body", "headers", "same"),
    [
        ('[["X"],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]', {}, True),
        ('[["X"], {"a": 1, "b": 2}, {}]', {}, False),
        ('[["Y"], {}, {}]', {}, False),
        ('[["X"], {}, {}]', {"task": "another"}, False),
        ('[["X"], {}, {}]', {"ignore_result": True}, False),
    ],
)
def test_the_same_question_is_the_same_task_and_arguments(
    *, body: str, headers: dict[str, Any], same: bool
) -> None:
    asked = replace(MESSAGE, body=body, headers={**MESSAGE.headers, **headers})
    assert (asked.question() == MESSAGE.question()) is same


def test_the_order_of_keywords_and_the_kind_of_body_make_no_other_question() -> None:
    one, other = '[[], {"a": 1, "b": 2}, {}]', '[[], {"b": 2, "a": 1}, {}]'
    bodies = (one, other, other.encode(), memoryview(one.encode()))
    assert len({replace(MESSAGE, body=body).question() for body in bodies}) == 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ('[["X"], {}, {"chord": {"task": "t"}}]', {}),
        ('[["X"], {}, {"chain": [{"task": "t"}]}]', {}),
        ('[["X"], {}, {"callbacks": [{"task": "t"}]}]', {}),
        ('[["X"], {}, {"errbacks": [{"task": "t"}]}]', {}),
        ('[["X"], {}, {}]', {"group": "some"}),
        ('{"args": ["X"], "kwargs": {}, "id": "a"}', {}),
        ("{broken", {}),
    ],
)
def test_a_part_of_a_canvas_asks_nothing_of_its_own(body: str, headers: dict[str, Any]) -> None:
    assert replace(MESSAGE, body=body, headers={**MESSAGE.headers, **headers}).question() == ""


@pytest.mark.parametrize(
    ("backend", "options", "asks"),
    [
        ("cache+memory://", {"coalesce": True}, True),
        ("cache+memory://", {}, False),
        ("cache+memory://", {"coalesce": True, "ignore_result": True}, True),
        # Its state would tell of an error, and never of a success.
        (
            "cache+memory://",
            {"coalesce": True, "ignore_result": True, "store_errors_even_if_ignored": True},
            False,
        ),
        ("rpc://", {"coalesce": True}, False),  # nobody here could read its answer
    ],
)
def test_only_what_asked_for_it_and_whose_end_can_be_known_is_coalesced(
    *, backend: str, options: dict[str, Any], asks: bool
) -> None:
    with Celery("alone", broker="memory://", backend=backend) as app:

        @app.task(base=ResilientTask, service="alone", shared=False, name="alone", **options)
        def alone() -> None: ...

        assert bool(alone.group_of(MESSAGE)) is asks
