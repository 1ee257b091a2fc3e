"""What a scrape takes: the metrics of 25 circuits, and of ten times as many, read from a store of their own.

Each circuit has been called; every second one is open, with messages in its lot. Nothing is asserted: it is
measured, beside as many bare PINGs as there are circuits.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis
from prometheus_client import CollectorRegistry, generate_latest

from bench.crew import server
from bench.findings import Findings, Promise, Table
from resilience import CIRCUIT_BREAKERS, CircuitBreaker, set_default_store
from resilience.metrics import CircuitCollector
from resilience.parking import Lane, Stored, Waiting
from resilience.stores import default_store

if TYPE_CHECKING:
    from collections.abc import Callable

SERVICES = (25, 250)
PARKED = 100
SCRAPES = 100
# What is promised of the fewest.
LIMIT_MS = 20


@dataclass(frozen=True)
class Scraped:
    """Seconds of each scrape, and of a PING for each circuit; and the bytes of one."""

    took: list[float]
    pings: list[float]
    shown: int

    @property
    def ninety_five(self) -> float:
        """What 95 of 100 scrapes kept within."""
        return statistics.quantiles(self.took, n=20)[-1]

    @property
    def ratio(self) -> float:
        """How many bare round trips for each circuit it is."""
        return statistics.median(self.took) / statistics.median(self.pings)


def promises(scraped: Scraped) -> list[Promise]:
    """What is promised of the fewest circuits."""
    most = scraped.ninety_five * 1000
    return [
        Promise(
            f"A scrape with {SERVICES[0]} circuits, 95 of {SCRAPES}",
            f"≤ {LIMIT_MS} ms",
            f"{most:.1f} ms; the longest, {max(scraped.took) * 1000:.1f} ms",
            most <= LIMIT_MS,
            f"a bare PING for each circuit: {statistics.median(scraped.pings) * 1000:.1f} ms",
        )
    ]


def main() -> Findings:
    """Few circuits, and many."""
    scraped = {services: _measured(services) for services in SERVICES}
    rows = [
        [
            str(services),
            *(f"{time * 1000:.1f}" for time in (statistics.median(one.took), one.ninety_five, max(one.took))),
            f"{one.ratio:.1f}",
            f"{one.shown:,}",
        ]
        for services, one in scraped.items()
    ]
    return Findings(
        "What Prometheus takes",
        f"Every circuit has been called, every second one is open with {PARKED} messages in its lot.",
        [
            Table(
                [
                    *("circuits", "median", "95 of 100", "longest"),
                    *("x one bare PING for each circuit", "bytes"),
                ],
                rows,
                f"{SCRAPES} scrapes, milliseconds",
            )
        ],
        promises(scraped[SERVICES[0]]),
    )


def _measured(services: int) -> Scraped:
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
    return Scraped(took, pings, shown)


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
