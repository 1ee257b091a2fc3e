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
            figures = last_good.figures()
        except StoreUnavailableError:
            return
        labels = ["dataset", "provider"]
        age = GaugeMetricFamily(
            "last_good_age_seconds",
            "How long ago the provider last gave one",
            labels=labels,
        )
        for names, seconds in figures.ages.items():
            age.add_metric(names, seconds)
        reads = CounterMetricFamily(
            "stale_reads", "Values that were known not to be current when they were read", labels=labels
        )
        # With a zero from the beginning: the first one is no increase over nothing.
        for names in figures.ages.keys() | figures.stale_reads.keys():
            reads.add_metric(names, figures.stale_reads.get(names, 0))
        rejected = CounterMetricFamily(
            "rejected_rows", "Rows of replies that were left out, by why", labels=[*labels, "why"]
        )
        for names, count in figures.left_out.items():
            rejected.add_metric(names, count)
        yield from (age, reads, rejected)
