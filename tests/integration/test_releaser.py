"""The releaser itself, in this process: what it has published when a server goes away at that very moment.

The fleet's worker parks and is gone; broker, store and lot are real, and so is what strikes.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from resilience import get_circuit_breaker
from resilience.outlet import Outlet
from resilience.parking import Lane, Stored, Waiting
from resilience.release import TICK_BUDGET_SECONDS, Releaser
from resilience.request import gate_of
from resilience.states import PARKED
from tests.fleet import wait_for
from tests.servers import Server, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from celery.result import AsyncResult

    from resilience.gate import Gate
    from tests.fleet import Fleet

    MakeFleet = Callable[..., Fleet]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Server]:
    """A store beside the broker, so that one can go without the other."""
    server = Server(installed("redis-server"), tmp_path / "store")
    server.start()
    yield server
    server.thaw()
    server.kill()


def left_behind(fleet: Fleet, send: Callable[[int], AsyncResult], count: int) -> list[AsyncResult]:
    """So many tasks parked, one after the other, and no worker any more; their circuit closed again."""
    worker = fleet.worker().ready()
    fleet.app  # noqa: B018 - registers the circuits
    get_circuit_breaker("dead").force_open(600)
    results = []
    for number in range(count):
        results.append(send(number))
        parked(fleet, number + 1)
    worker.stop()
    get_circuit_breaker("dead").reset()
    return results


def parked(fleet: Fleet, count: int) -> None:
    wait_for(lambda: fleet.circuit()["parked"] == count, 30, f"{count} parked: {fleet.circuit()}")


def test_what_was_published_when_the_store_froze_is_forgotten_once_it_is_back(
    make_fleet: MakeFleet, store: Server
) -> None:
    fleet = make_fleet(store=f"redis://127.0.0.1:{store.port}/0")
    results = left_behind(fleet, fleet.app.fetch.delay, 5)
    gate = gate_of(fleet.app.app)

    class Struck(Outlet):
        """The store freezes the moment the broker has the batch."""

        def send(self, messages: list[Any], refused: list[Any] | None = None) -> list[Any]:
            sent = super().send(messages, refused)
            store.freeze()
            return sent

    releaser = Releaser(SimpleNamespace(app=fleet.app.app))
    releaser.outlet = Struck(fleet.app.app)
    releaser.tick(gate)
    assert not gate.store.up
    assert fleet.queued() == 5
    store.thaw()
    wait_for(lambda: gate.store.up, 20, "the store is back")
    assert fleet.circuit()["parked"] == 5, "under a lease that would lapse, and then all run twice"
    releaser.outlet = Outlet(fleet.app.app)
    releaser.tick(gate)
    assert fleet.circuit()["parked"] == 0
    assert fleet.queued() == 5
    fleet.worker().ready()
    assert sorted(result.get(timeout=30) for result in results) == list(range(5))
    assert sorted(fleet.done()) == sorted(result.id for result in results)
    releaser.outlet.close()


def test_a_leader_lost_by_its_broker_gives_up_its_place(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(call=1, patience=1)
    lost, *others = left_behind(fleet, lambda _: fleet.app.quote.delay("X"), 4)
    releaser = Releaser(SimpleNamespace(app=fleet.app.app))
    releaser.tick(gate_of(fleet.app.app))
    releaser.outlet.close()
    assert fleet.queued() == 1
    fleet.broker.flushdb()
    fleet.worker().ready()
    wait_for(lambda: all(result.ready() for result in others), 60, "those that followed end")
    assert [result.get() for result in others] == [["X", others[0].id]] * 3
    assert lost.state == PARKED
    assert fleet.done() == [others[0].id]


def park(gate: Gate, service: str, **headers: str) -> None:
    message = Stored(service, "[[], {}, {}]", "application/json", "utf-8", headers, {}, "", "work")
    assert gate.store.lot
    gate.store.lot.park(service, [Waiting(message, Lane.SCHEDULED)])


class Recording(Releaser):
    """Tells whose turn it was; the third in a row takes all the time there is."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(SimpleNamespace(app=fleet.app.app))
        self.looked_at: list[str] = []

    def release_batch(self, gate: Gate, service: str) -> int:
        self.looked_at.append(service)
        if len(self.looked_at) % 3 == 0:
            time.sleep(TICK_BUDGET_SECONDS)
        return super().release_batch(gate, service)


def test_each_look_goes_on_where_the_time_of_the_last_was_over(make_fleet: MakeFleet) -> None:
    """With many lots the last would else have their turn after as many looks as there are lots."""
    fleet = make_fleet(services=10)
    gate = gate_of(fleet.app.app)
    for name in fleet.app.MANY:
        park(gate, name)
    releaser = Recording(fleet)
    circuits = gate.refresh()
    for _ in range(8):
        releaser.release(gate, circuits)
    releaser.outlet.close()
    turns = [fleet.app.MANY.index(name) for name in releaser.looked_at]
    assert len(turns) > 10
    assert turns == [(turns[0] + turn) % 10 for turn in range(len(turns))]


def test_looks_between_two_ticks_leave_half_of_the_time_to_others(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(services=4)
    gate = gate_of(fleet.app.app)
    calls: list[tuple[float, list[str]]] = []
    timer = SimpleNamespace(call_after=lambda pause, _, args: calls.append((pause, args[1])))
    gate.consumer = SimpleNamespace(timer=timer)
    releaser = Recording(fleet)
    releaser.timer_entry = timer
    releaser.between(gate, fleet.app.MANY, 0.02, time.monotonic() + 60)
    releaser.outlet.close()
    [(pause, services)] = calls
    assert pause >= TICK_BUDGET_SECONDS
    assert services == [*fleet.app.MANY[3:], *fleet.app.MANY[:3]]


def test_a_lot_is_left_alone_while_its_circuit_is_open_and_nothing_in_it_comes_due(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet(services=3, policy=json.dumps({"max_parked_seconds": 1}))
    gate = gate_of(fleet.app.app)
    shut, soon, closed = fleet.app.MANY
    releaser = Recording(fleet)
    for name in (shut, soon):
        get_circuit_breaker(name).force_open(600)
    get_circuit_breaker(shut).override({"max_parked_seconds": 600}, 600)
    for name in (shut, soon, closed):
        park(gate, name)
    releaser.release(gate, gate.refresh())
    assert releaser.looked_at == [closed]
    assert gate.refresh()[closed].parked == 0
    wait_for(lambda: gate.refresh()[soon].parked_since < datetime.now(UTC) - timedelta(seconds=1.1), 10)
    releaser.release(gate, gate.refresh())
    assert releaser.looked_at == [closed, soon]
    releaser.outlet.close()
