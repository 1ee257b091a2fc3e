"""An outage with the worker, the broker and the store in containers of their own, and the worker killed."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_celery import RedisTestBroker

from resilience import get_circuit_breaker
from resilience.release import BATCH
from tests.fleet import wait_for

if TYPE_CHECKING:
    from types import ModuleType

    from pytest_celery import CeleryTestBroker, CeleryTestSetup

BEFORE, MEANWHILE = 1500, 50
PREFETCHED = 8  # two processes, four each


def circuit() -> dict[str, Any]:
    return get_circuit_breaker("dead").get_state()


def may_be_killed(broker: CeleryTestBroker) -> bool:
    """In the middle of parking; on Redis when all is parked and no probe is near.

    There, Celery's own transport loses what it has popped and not yet noted when it is killed.
    """
    if not isinstance(broker, RedisTestBroker):
        return circuit()["parked"] >= BEFORE // 10
    queues, now = broker.container.client, circuit()
    if now["parked"] < BEFORE or queues.llen("work") or queues.hlen("unacked"):
        return False
    if now["state"] != "open":
        return False
    return (datetime.fromisoformat(now["retry_at"]) - datetime.now(UTC)).total_seconds() > 2


def test_a_worker_killed_in_an_outage_takes_no_task_with_it(
    celery_setup: CeleryTestSetup, fleet_app: ModuleType
) -> None:
    worker, broker = celery_setup.worker, celery_setup.broker
    fleet_app.provider.set("mode:dead", "down")
    worker.container._container.pause()
    results = [fleet_app.fetch.delay(number) for number in range(BEFORE)]
    worker.container._container.unpause()
    wait_for(lambda: may_be_killed(broker), 60, f"they park: {circuit()}")
    worker.kill()
    assert worker.container.status == "exited"
    parked = circuit()["parked"]

    results += [fleet_app.fetch.delay(number) for number in range(BEFORE, BEFORE + MEANWHILE)]
    assert not {result.state for result in results} & {"FAILURE", "SUCCESS", "REVOKED"}
    assert circuit()["parked"] == parked  # the lot is in the store, and nobody else is there

    worker.restart()
    wait_for(lambda: circuit()["parked"] == len(results), 60, f"all park: {circuit()}")
    assert {result.state for result in results} == {"PARKED"}

    fleet_app.provider.set("mode:dead", "ok")
    wait_for(lambda: {result.state for result in results} == {"SUCCESS"}, 90, f"all end: {circuit()}")
    assert [result.get() for result in results] == list(range(len(results)))
    wait_for(lambda: circuit()["state"] == "closed", 10, "it closes")
    runs = Counter(run.decode() for run in fleet_app.provider.lrange("done", 0, -1))
    again = runs.total() - len(runs)
    sys.stdout.write(f"{parked} parked at the kill; {len(runs)} ran, {again} of them again\n")
    assert set(runs) == {result.id for result in results}
    assert again <= (0 if isinstance(broker, RedisTestBroker) else PREFETCHED + BATCH)
    assert circuit()["parked"] == 0
