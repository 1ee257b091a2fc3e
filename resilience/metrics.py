"""Prometheus: one collector that reads the store at scrape time. No process keeps a counter of its own.

What a metric tells is what the scripts have counted where they decide, so it is the fleet's and outlives
every process. Labels hold names of registered services and of enumerations, nothing a provider says.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from resilience import publishing
from resilience.breaker import quota
from resilience.circuit import DURATION_BOUNDS, CircuitState, Verdict
from resilience.parking import DROPS
from resilience.policy import MICROSECONDS, effective
from resilience.registry import CIRCUIT_BREAKERS
from resilience.stores import default_store
from resilience.stores.failover import FailoverStore
from resilience.watermark import Watermark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from resilience.circuit import Circuit

STATE_VALUES = {
    CircuitState.CLOSED: 0,
    CircuitState.DISABLED: 0,
    CircuitState.HALF_OPEN: 1,
    CircuitState.OPEN: 2,
    CircuitState.FORCED_OPEN: 2,
}
# Shown from the beginning, with 0: the first of something is no increase over nothing.
ALWAYS_SHOWN = ("closed:open", "half_open:closed", "half_open:open", "open:half_open")
BOUNDS = (*map(str, DURATION_BOUNDS), "inf")
LE = (*(str(bound / MICROSECONDS) for bound in DURATION_BOUNDS), "+Inf")


class CircuitCollector(Collector):
    """The circuits and lots of the store. A lost store gives ``breaker_store_up 0`` and no exception."""

    def __init__(self) -> None:
        # As the workers: suspended above one mark, until below another.
        self._watermark = Watermark()

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: registering must not need the store."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Three round trips: all circuits, the store's memory, the last publishing."""
        store = default_store()
        circuits = store.read(list(CIRCUIT_BREAKERS)) if store else {}
        up = isinstance(store, FailoverStore) and all(circuit.shared for circuit in circuits.values())
        yield GaugeMetricFamily("breaker_store_up", "Whether the shared breaker store answers", int(up))
        if not isinstance(store, FailoverStore) or not up:
            return
        yield from self._memory(store)
        yield from _states(circuits)
        yield from _calls(circuits)
        yield from _lots(circuits)
        published = publishing.published_at()
        yield GaugeMetricFamily(
            "breaker_states_published_timestamp_seconds",
            "When the beat job last published the breaker states, 0 for never",
            datetime.fromisoformat(published).timestamp() if published else 0,
        )

    def _memory(self, store: FailoverStore) -> Iterator[Metric]:
        memory = store.lot.memory() if store.lot else None
        if memory is None:
            return
        used, most = memory
        self._watermark.see(used, most)
        yield GaugeMetricFamily(
            "parking_suspended",
            "Whether nothing new is parked, because the store's memory is nearly used up",
            int(self._watermark.reached),
        )
        yield GaugeMetricFamily("breaker_store_memory_used_bytes", "Memory the breaker store uses", used)
        yield GaugeMetricFamily(
            "breaker_store_memory_max_bytes", "Memory the breaker store may use, 0 for no limit", most
        )


def _states(circuits: Mapping[str, Circuit]) -> Iterator[Metric]:
    state = _gauge("circuit_breaker_state", "Circuit breaker state (0=closed, 1=half_open, 2=open)")
    reason = _gauge("circuit_breaker_open_reason", "1 for why the circuit is not closed", "reason")
    retry_at = _gauge(
        "circuit_breaker_retry_at_timestamp_seconds", "When the service is tried again, where it is shut off"
    )
    keys = _gauge("circuit_breaker_refused_keys", "Keys of the service that are refused")
    moved = _counter("circuit_breaker_transitions", "Changes of state, operators' included", "from", "to")
    for name, circuit in circuits.items():
        state.add_metric([name], STATE_VALUES[circuit.state])
        if circuit.state.shut and circuit.reason:
            reason.add_metric([name, circuit.reason.value], 1)
        if circuit.state.shut and circuit.retry_at:
            retry_at.add_metric([name], circuit.retry_at.timestamp())
        keys.add_metric([name], len(circuit.refused_keys))
        for change, count in (dict.fromkeys(ALWAYS_SHOWN, 0) | dict(circuit.moved_total)).items():
            before, _, after = change.partition(":")
            moved.add_metric([name, before, after], count)
    return iter((state, reason, retry_at, keys, moved))


def _calls(circuits: Mapping[str, Circuit]) -> Iterator[Metric]:
    failures = _counter("circuit_breaker_failures", "Failures recorded")
    requests = _counter("circuit_breaker_requests", "Requests through the circuit breaker", "result")
    trips = _counter("circuit_breaker_trips", "Times failures opened the circuit")
    took = HistogramMetricFamily(
        "circuit_breaker_call_duration_seconds",
        "How long calls took, from their permit to their verdict",
        labels=["service", "verdict"],
    )
    left = _gauge("circuit_breaker_quota_left", "Calls of the service's quota that may go at once")
    limit = _gauge("circuit_breaker_quota_limit", "Calls of the service's quota that may ever go at once")
    for name, circuit in circuits.items():
        failures.add_metric([name], circuit.failures_total)
        requests.add_metric([name, "allowed"], circuit.allowed_total)
        requests.add_metric([name, "blocked"], circuit.blocked_total)
        trips.add_metric([name], circuit.trips_total)
        for verdict in Verdict:
            if f"{verdict.value}:sum" in circuit.took:
                took.add_metric([name, verdict.value], *_histogram(circuit.took, verdict))
        policy = effective(CIRCUIT_BREAKERS[name].policy, circuit.override)
        calls_left = quota(circuit, policy)["quota_left"]
        if calls_left is not None:
            left.add_metric([name], calls_left)
            limit.add_metric([name], policy.quota_burst)
    return iter((failures, requests, trips, took, left, limit))


def _lots(circuits: Mapping[str, Circuit]) -> Iterator[Metric]:
    parked = _gauge("parked_tasks", "Tasks waiting in the parking lot")
    oldest = _gauge("parked_oldest_age_seconds", "Age of the longest parked task, 0 for none")
    parked_total = _counter("parked", "Times a task was parked")
    coalesced = _counter("coalesced", "Times a parked task was left to another's answer")
    released = _counter("released", "Times a task left the lot for a queue that has it")
    unroutable = _counter("unroutable", "Times a task stayed in the lot because no queue took it")
    dropped = _counter("parked_dropped", "Tasks that ended in the lot", "reason")
    for name, circuit in circuits.items():
        parked.add_metric([name], circuit.parked)
        oldest.add_metric([name], _age(circuit))
        parked_total.add_metric([name], circuit.parked_total)
        coalesced.add_metric([name], circuit.coalesced_total)
        released.add_metric([name], circuit.released_total)
        unroutable.add_metric([name], circuit.unroutable_total)
        for why, count in (dict.fromkeys(DROPS, 0) | dict(circuit.dropped_total)).items():
            dropped.add_metric([name, why], count)
    return iter((parked, oldest, parked_total, coalesced, released, unroutable, dropped))


def _histogram(took: Mapping[str, int], verdict: Verdict) -> tuple[list[tuple[str, float]], float]:
    """The buckets of one verdict, each with those below it, and the sum in seconds."""
    counts = itertools.accumulate(took.get(f"{verdict.value}:{bound}", 0) for bound in BOUNDS)
    return list(zip(LE, map(float, counts), strict=True)), took[f"{verdict.value}:sum"] / MICROSECONDS


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["service", *labels])


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=["service", *labels])


def _age(circuit: Circuit) -> float:
    """On the store's clock, which also noted the beginning."""
    since, now = circuit.parked_since, circuit.read_at or datetime.now(UTC)
    return max(0.0, (now - since).total_seconds()) if since else 0
