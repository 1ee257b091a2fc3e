"""An app that uses what every version of the layer has, for workers of two versions beside each other.

Its provider is the list ``calls`` with the version and task of every call, ``done`` with the ids that
succeeded, and ``mode``, which is ok or down.
"""

import os
from pathlib import Path

import redis
from celery import Celery

import resilience
from resilience import CIRCUIT_BREAKERS, CircuitBreaker, ResilientTask, install

URL = os.environ["UPGRADE_URL"]
VERSION = os.environ["UPGRADE_VERSION"]
print(f"{VERSION} runs {Path(resilience.__file__).parent}", flush=True)  # noqa: T201 - for its log

provider = redis.Redis.from_url(f"{URL}/3", decode_responses=True)
app = Celery("upgrade", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.worker_prefetch_multiplier = 1  # the other version is to have its share
install(app, store=f"{URL}/2")
CIRCUIT_BREAKERS["dead"] = CircuitBreaker("dead", failure_threshold=3, timeout_seconds=1)


def call(task_id: str) -> None:
    """One call to the provider."""
    provider.rpush("calls", f"{VERSION} {task_id}")
    if provider.get("mode") == "down":
        raise ConnectionError("dead is down")
    provider.rpush("done", task_id)


@app.task(bind=True, base=ResilientTask, service="dead", name="upgrade.fetch", backoff_seconds=0.5)
def fetch(self: ResilientTask, number: int) -> int:
    """A scheduled call."""
    call(self.request.id)
    return number


@app.task(bind=True, base=ResilientTask, service="dead", name="upgrade.ask", lane="on_demand")
def ask(self: ResilientTask, number: int) -> int:
    """One that somebody waits for."""
    call(self.request.id)
    return number


@app.task(bind=True, base=ResilientTask, service="dead", name="upgrade.quote", coalesce=True)
def quote(self: ResilientTask, symbol: str) -> str:
    """One whose answer is good for all who ask the same."""
    call(self.request.id)
    return symbol


@app.task(name="upgrade.total")
def total(numbers: list[int]) -> int:
    """The body of a chord."""
    return sum(numbers)
