"""Prometheus: one collector that reads the store at scrape time. No process keeps a counter of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from resilience import publishing
from resilience.circuit import CircuitState
from resilience.stores import default_store
from resilience.stores.failover import FailoverStore
from resilience.watermark import Watermark

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric

STATE_VALUES = {
    CircuitState.CLOSED: 0,
    CircuitState.DISABLED: 0,
    CircuitState.HALF_OPEN: 1,
    CircuitState.OPEN: 2,
    CircuitState.FORCED_OPEN: 2,
}


class CircuitCollector(Collector):
    """The circuits and lots of the store. A lost store gives ``breaker_store_up 0`` and no exception."""

    def __init__(self) -> None:
        # As the workers: suspended above one mark, until below another.
        self._watermark = Watermark()

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: registering must not need the store."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Read the store once."""
        rows = publishing.states()
        store = default_store()
        up = store.up if isinstance(store, FailoverStore) else False
        yield GaugeMetricFamily("breaker_store_up", "Whether the shared breaker store answers", int(up))
        if not up:
            return
        memory = store.lot.memory() if store and store.lot else None
        if memory is not None:
            self._watermark.see(*memory)
            yield GaugeMetricFamily(
                "parking_suspended",
                "Whether nothing new is parked, because the store's memory is nearly used up",
                int(self._watermark.reached),
            )
        state = GaugeMetricFamily(
            "circuit_breaker_state",
            "Circuit breaker state (0=closed, 1=half_open, 2=open)",
            labels=["service"],
        )
        failures = CounterMetricFamily("circuit_breaker_failures", "Failures recorded", labels=["service"])
        requests = CounterMetricFamily(
            "circuit_breaker_requests", "Requests through the circuit breaker", labels=["service", "result"]
        )
        trips = CounterMetricFamily(
            "circuit_breaker_trips", "Times failures opened the circuit", labels=["service"]
        )
        parked = GaugeMetricFamily("parked_tasks", "Tasks waiting in the parking lot", labels=["service"])
        oldest = GaugeMetricFamily(
            "parked_oldest_age_seconds", "Age of the longest parked task, 0 for none", labels=["service"]
        )
        parked_total = CounterMetricFamily("parked", "Times a task was parked", labels=["service"])
        coalesced = CounterMetricFamily(
            "coalesced", "Times a parked task was left to another's answer", labels=["service"]
        )
        released = CounterMetricFamily("released", "Times a task left the lot", labels=["service"])
        dropped = CounterMetricFamily(
            "parked_dropped", "Tasks that ended in the lot", labels=["service", "reason"]
        )
        for row in rows:
            name = [row["service"]]
            state.add_metric(name, STATE_VALUES[CircuitState(row["state"])])
            failures.add_metric(name, row["failures_total"])
            requests.add_metric([*name, "allowed"], row["allowed_total"])
            requests.add_metric([*name, "blocked"], row["blocked_total"])
            trips.add_metric(name, row["trips_total"])
            parked.add_metric(name, row["parked"])
            oldest.add_metric(name, _age(row["parked_since"]))
            parked_total.add_metric(name, row["parked_total"])
            coalesced.add_metric(name, row["coalesced_total"])
            released.add_metric(name, row["released_total"])
            for reason, count in row["dropped_total"].items():
                dropped.add_metric([*name, reason], count)
        yield from (state, failures, requests, trips, parked, oldest)
        yield from (parked_total, coalesced, released, dropped)
        published = publishing.published_at()
        yield GaugeMetricFamily(
            "breaker_states_published_timestamp_seconds",
            "When the beat job last published the breaker states, 0 for never",
            datetime.fromisoformat(published).timestamp() if published else 0,
        )


def _age(since: str | None) -> float:
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()) if since else 0
