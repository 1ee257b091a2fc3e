"""Workers killed with SIGKILL while they park and while they release: every id is counted."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from resilience.release import BATCH
from tests.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fleet import Fleet

COUNT = 400
PREFETCHED = 8
KILLS = (3, 80, 200)
ALL_KILLS = 2 * len(KILLS) + 1


def settled(fleet: Fleet) -> bool:
    """Nothing queued, nothing unacknowledged, nothing parked."""
    return not (fleet.queued() or fleet.circuit()["parked"])


def kill_at(fleet: Fleet, count: Callable[[], int], moments: tuple[int, ...]) -> None:
    """A worker that is killed each time the count has come that far, and its successor."""
    for moment in moments:
        worker = fleet.worker().ready()
        wait_for(lambda: count() >= moment, 60, f"{moment} ({count()})")  # noqa: B023 - called before the next
        worker.kill()


def accounts(fleet: Fleet, results: list[Any]) -> tuple[set[str], Counter[str]]:
    """Which ids never succeeded, and how often each of the others ran."""
    runs = Counter(fleet.done())
    return {result.id for result in results} - set(runs), runs


@pytest.fixture
def bare_losses(make_fleet: Callable[..., Fleet]) -> int:
    """What Redis as a broker loses in the same test without the layer; RabbitMQ has no such window."""
    fleet = make_fleet(visibility=3)
    results = [fleet.app.bare.delay(number, 0.002) for number in range(COUNT)]
    kill_at(fleet, lambda: len(fleet.done()), (3, 60, 120, 180, 240, 300))
    fleet.worker().ready()
    wait_for(lambda: settled(fleet), 60, "the queue is worked off")
    return len(accounts(fleet, results)[0])


def all_parked(fleet: Fleet, worked_off: Callable[[], bool]) -> list[Any]:
    """A dead provider's tasks, in the lot through a series of kills; no worker is left."""
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(COUNT)]
    kill_at(fleet, lambda: fleet.circuit()["parked"], KILLS)
    fleet.worker().ready()
    wait_for(worked_off, 60, f"everything is parked ({fleet.circuit()['parked']}, {fleet.queued()})")
    for worker in fleet.workers:
        worker.kill()
    return results


def released(fleet: Fleet, worked_off: Callable[[], bool]) -> None:
    """And out of it, through another series."""
    fleet.mode("ok")
    kill_at(fleet, lambda: len(set(fleet.done())), KILLS)
    fleet.worker().ready()
    wait_for(worked_off, 90, "the lot and the queue are worked off")


def test_nothing_is_lost_beyond_the_bare_brokers_own_window(
    make_fleet: Callable[..., Fleet], bare_losses: int, record_property: Callable[[str, object], None]
) -> None:
    fleet = make_fleet(threshold=3, timeout=1, visibility=3)
    results = all_parked(fleet, lambda: fleet.queued() == 0)
    unseen = {result.id for result in results if result.state == "PENDING"}
    # The layer has lost nothing it ever saw: what is missing, Celery never handed to it.
    assert fleet.circuit()["parked"] == COUNT - len(unseen)
    released(fleet, lambda: settled(fleet))
    lost, runs = accounts(fleet, results)
    again = sum(count - 1 for count in runs.values())
    record_property(
        "lost", f"{len(lost)} of {COUNT} in {ALL_KILLS} kills; the bare broker {bare_losses} in 6"
    )
    figures = f"lost {len(lost)}, {len(unseen)} before the layer saw them (bare broker {bare_losses})"
    sys.stdout.write(f"{figures}, ran again {again}\n")
    # kombu's Redis transport pops a message before it notes it: one for each killed worker at most.
    assert len(lost) <= ALL_KILLS
    assert again <= ALL_KILLS * (PREFETCHED + BATCH)
    assert {result.state for result in results if result.id not in lost} == {"SUCCESS"}


@pytest.mark.parametrize("broker", ["rabbitmq"])
def test_on_rabbitmq_nothing_is_lost_at_all(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(threshold=3, timeout=1)
    results = all_parked(fleet, lambda: fleet.circuit()["parked"] == COUNT)
    released(fleet, lambda: len(set(fleet.done())) == COUNT and settled(fleet))
    lost, runs = accounts(fleet, results)
    again = sum(count - 1 for count in runs.values())
    sys.stdout.write(f"lost {len(lost)}, ran again {again}\n")
    assert not lost
    assert again <= ALL_KILLS * (PREFETCHED + BATCH)
    # What a worker had when it was killed comes again, and may still be on its way.
    wait_for(lambda: {result.state for result in results} == {"SUCCESS"}, 30, "all have ended well")
