"""What a scrape takes: the metrics of 25 circuits, and of ten times as many, read from a store of their own.

Each circuit has been called; every second one is open, with messages in its lot. Nothing is asserted: it is
measured, and printed beside as many bare PINGs as there are circuits.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import redis
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console
from rich.table import Table

from bench.crew import server
from resilience import CIRCUIT_BREAKERS, CircuitBreaker, set_default_store
from resilience.metrics import CircuitCollector
from resilience.parking import Lane, Stored, Waiting
from resilience.stores import default_store

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICES = (25, 250)
PARKED = 100
SCRAPES = 100


def main() -> None:
    """Print a table: circuits, how long a scrape takes, and how many bare round trips that is."""
    table = Table(
        "circuits", "median ms", "95 of 100 ms", "longest ms", "x a PING for each", "bytes", title="A scrape"
    )
    for services in SERVICES:
        table.add_row(str(services), *_measured(services))
    Console().print(table)


def _measured(services: int) -> list[str]:
    with server() as port:
        url = f"redis://127.0.0.1:{port}/0"
        set_default_store(url)
        CIRCUIT_BREAKERS.clear()
        try:
            for number in range(services):
                _lived(f"service{number}", opened=number % 2 == 1)
            registry = CollectorRegistry()
            registry.register(CircuitCollector())
            shown = len(generate_latest(registry))
            took = timed(lambda: generate_latest(registry))
            with redis.Redis.from_url(url) as bare:
                pings = timed(lambda: [bare.ping() for _ in range(services)])
        finally:
            CIRCUIT_BREAKERS.clear()
            set_default_store(None)
    median = statistics.median(took)
    ratio = median / statistics.median(pings)
    most = statistics.quantiles(took, n=20)[-1]
    times = [f"{seconds * 1000:.1f}" for seconds in (median, most, max(took))]
    return [*times, f"{ratio:.2f}", f"{shown:,}"]


def _lived(service: str, *, opened: bool) -> None:
    """A circuit with a past."""
    breaker = CIRCUIT_BREAKERS[service] = CircuitBreaker(service, failure_threshold=3)
    for _ in range(3):
        breaker.report(breaker.acquire(), "failure" if opened else "success")
    store = default_store()
    if opened and store and store.lot:
        store.lot.park(service, [_message(f"{service}-{number}", service) for number in range(PARKED)])


def _message(ident: str, service: str) -> Waiting:
    headers = {"id": ident, "task": f"tasks.{service}.fetch"}
    stored = Stored(ident, "[[], {}, {}]", "application/json", "utf-8", headers, {}, "tasks", service)
    return Waiting(stored, Lane.SCHEDULED)


def timed(call: Callable[[], object], times: int = SCRAPES) -> list[float]:
    """Seconds of each call."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return took
