"""Prometheus: how old the values are that readers get, read from the store at scrape time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from resilience.errors import StoreUnavailableError
from tasks import last_good
from tasks.records import DATASETS
from tasks.settings import provider_settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client.core import Metric


class ReadingCollector(Collector):
    """What readers get. A lost store gives nothing, and no exception: ``breaker_store_up`` tells of it."""

    def __init__(self) -> None:
        # At once, so that a setting that cannot be used is told when a program starts.
        freshness = provider_settings().freshness
        self._targets = {dataset: freshness(dataset).fresh_seconds for dataset in DATASETS}

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: registering must not need the store."""
        return []

    def collect(self) -> Iterable[Metric]:
        """One round trip."""
        target = GaugeMetricFamily(
            "freshness_target_seconds", "An older value of the dataset is stale", labels=["dataset"]
        )
        for dataset, seconds in self._targets.items():
            target.add_metric([dataset], seconds)
        yield target
        try:
            ages, stale = last_good.figures()
        except StoreUnavailableError:
            return
        labels = ["dataset", "provider"]
        age = GaugeMetricFamily(
            "last_good_age_seconds",
            "How long ago the provider last gave one",
            labels=labels,
        )
        for names, seconds in ages.items():
            age.add_metric(names, seconds)
        reads = CounterMetricFamily(
            "stale_reads", "Values that were known not to be current when they were read", labels=labels
        )
        for names in ages.keys() | stale.keys():  # the first is no increase over nothing
            reads.add_metric(names, stale.get(names, 0))
        yield from (age, reads)
