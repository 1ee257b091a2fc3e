"""The store's primary is lost in the middle of an outage, while its replica lags behind."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from resilience import StoreUnavailableError, get_circuit_breaker
from resilience.parking import Lane, Stored, Waiting
from resilience.stores.redis import RedisStore
from tests.fleet import wait_for
from tests.pair import Pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fleet import Fleet

BEFORE, WHILE_IT_LAGS = 20, 100
# What the replica has not read lies in the kernel, some megabytes, and outlives the primary. This is more.
BALLAST = "x" * 300_000


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path / "pair")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def outage(make_fleet: Callable[..., Fleet], pair: Pair, url: str) -> tuple[Fleet, list[Any]]:
    """Some tasks parked before the replica began to lag, many more sent since."""
    fleet = make_fleet(threshold=3, timeout=600, store=url)
    fleet.worker().ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(BEFORE)]
    wait_for(lambda: fleet.circuit()["parked"] == BEFORE, 30, "parked")
    wait_for(lambda: pair.primary.ask("WAIT", 1, 1000) == 1, 30, "the replica has them")
    pair.replica.freeze()
    results += [fleet.app.fetch.delay(number, ballast=BALLAST) for number in range(WHILE_IT_LAGS)]
    return fleet, results


def recover(fleet: Fleet, pair: Pair) -> None:
    """The old primary comes back as a replica, the provider is well again."""
    pair.primary.start()
    pair.primary.ask("REPLICAOF", "127.0.0.1", pair.replica.port)
    pair.follows(pair.primary)
    fleet.mode("ok")
    wait_for(lambda: fleet.circuit()["shared"], 30, "the store is found again")
    get_circuit_breaker("dead").reset("it is well again")
    wait_for(lambda: not (fleet.queued() or fleet.circuit()["parked"]), 120, "all is worked off")


def test_nothing_is_lost_where_the_replica_was_waited_for(
    make_fleet: Callable[..., Fleet], pair: Pair
) -> None:
    fleet, results = outage(make_fleet, pair, f"{pair.url}?wait_replicas=1")
    wait_for(lambda: fleet.circuit()["parked"] > BEFORE, 30, "the primary has some")
    # On its way from the queue to a worker's hands a message is counted in neither.
    wait_for(
        lambda: fleet.queued() == WHILE_IT_LAGS, 10, "what the replica has not confirmed is not acknowledged"
    )
    pair.fail_over()
    recover(fleet, pair)
    assert {result.id for result in results} == set(fleet.done())
    assert {result.state for result in results} == {"SUCCESS"}


def test_without_that_no_more_is_lost_than_the_replica_lagged_behind(
    make_fleet: Callable[..., Fleet], pair: Pair
) -> None:
    fleet, results = outage(make_fleet, pair, pair.url)
    wait_for(lambda: fleet.circuit()["parked"] == BEFORE + WHILE_IT_LAGS, 60, "all are parked")
    pair.fail_over()
    recover(fleet, pair)
    lost = {result.id for result in results} - set(fleet.done())
    sys.stdout.write(f"replica {WHILE_IT_LAGS} messages behind: {len(lost)} of them lost\n")
    assert lost, "the fault struck"
    assert lost <= {result.id for result in results[BEFORE:]}


def test_it_says_how_many_replicas_are_missing(pair: Pair) -> None:
    store = RedisStore(f"redis://127.0.0.1:{pair.primary.port}/0?wait_replicas=2")
    with pytest.raises(StoreUnavailableError, match="1 of 2 replicas"):
        store.lot.park("p", [message("a")])
    assert store.lot.waiting("p", 10), "it is written all the same"
    store.scripts.close()


def message(ident: str) -> Waiting:
    stored = Stored(ident, "[]", "application/json", "utf-8", {"id": ident, "task": "t"}, {}, "", "work")
    return Waiting(stored, Lane.SCHEDULED)
