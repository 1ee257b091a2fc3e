"""What is shipped for KEDA: documented fields, queues that there are, a query that counts the right tasks."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
import yaml

from resilience.parking import Lane
from tasks.fetch import queue_of
from tasks.providers import PROVIDERS
from tests.monitors import SCALED, query_of
from tests.servers import installed

# As KEDA documents them: reference/scaledobject-spec; scalers/prometheus, rabbitmq-queue and redis-lists.
SPEC = {
    *("scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount"),
    *("minReplicaCount", "maxReplicaCount", "fallback", "advanced", "triggers"),
}
TRIGGER = {"type", "name", "metadata", "metricType", "authenticationRef", "useCachedMetrics"}
# Of each scaler: what it must be told, and what it may be.
METADATA = {
    "prometheus": (
        {"serverAddress", "query", "threshold"},
        {
            "activationThreshold",
            "namespace",
            "customHeaders",
            "ignoreNullValues",
            "queryParameters",
            "unsafeSsl",
        }
        | {"timeout", "authModes"},
    ),
    "rabbitmq": (
        {"queueName", "mode", "value"},
        {
            "host",
            "hostFromEnv",
            "usernameFromEnv",
            "passwordFromEnv",
            "protocol",
            "vhostName",
            "activationValue",
        }
        | {"useRegex", "pageSize", "operation", "timeout", "excludeUnacknowledged", "unsafeSsl"},
    ),
    "redis": (
        {"listName"},
        {"address", "host", "port", "addressFromEnv", "hostFromEnv", "portFromEnv", "usernameFromEnv"}
        | {
            "passwordFromEnv",
            "listLength",
            "activationListLength",
            "databaseIndex",
            "enableTLS",
            "unsafeSsl",
        },
    ),
}
QUEUES = {queue_of(service, lane) for service in PROVIDERS for lane in Lane}
OBJECTS = {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in SCALED}


def triggers(kind: str) -> list[dict[str, str]]:
    return [
        trigger["metadata"]
        for scaled in OBJECTS.values()
        for trigger in scaled["spec"]["triggers"]
        if trigger["type"] == kind
    ]


@pytest.mark.parametrize("scaled", OBJECTS.values(), ids=OBJECTS)
def test_every_field_is_one_that_keda_documents(scaled):
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    spec = scaled["spec"]
    assert spec.keys() <= SPEC
    assert spec["scaleTargetRef"]["name"]
    assert spec["fallback"].keys() == {"failureThreshold", "replicas", "behavior"}
    assert spec["fallback"]["behavior"] in {"static", "currentReplicas", "currentReplicasIfHigher"}
    for trigger in spec["triggers"]:
        required, optional = METADATA[trigger["type"]]
        told = trigger["metadata"]
        assert trigger.keys() <= TRIGGER
        assert required <= told.keys() <= required | optional
        # A scaler is told strings; KEDA refuses a number or a truth value.
        assert {type(value) for value in told.values()} == {str}
        # Without it a trigger that cannot be asked has no fallback in older versions.
        assert trigger["metricType"] == "AverageValue"


@pytest.mark.parametrize("scaled", OBJECTS.values(), ids=OBJECTS)
def test_somebody_is_always_there_to_release_what_is_parked(scaled):
    assert 1 <= scaled["spec"]["minReplicaCount"] <= scaled["spec"]["fallback"]["replicas"]


def test_the_queues_it_counts_are_those_of_the_workers():
    [rabbit] = triggers("rabbitmq")
    assert {name for name in QUEUES if re.search(rabbit["queueName"], name)} == QUEUES
    assert not re.search(rabbit["queueName"], "standby.tasks.5s")
    assert len(QUEUES) <= int(rabbit["pageSize"])
    assert {told["listName"] for told in triggers("redis")} <= QUEUES


def test_both_ask_prometheus_the_same():
    asked = triggers("prometheus")
    assert len(asked) == len(OBJECTS)
    assert all(told == asked[0] for told in asked)


class Scrape(dict[str, dict[str, float]]):
    """What a page of metrics says, by metric and service."""

    def lines(self, instance: str = "flower:5555") -> list[dict[str, str]]:
        return [
            {
                "series": f'{metric}{{job="circuits", instance="{instance}"'
                + (f', service="{service}"}}' if service else "}"),
                "values": f"{value}x3",
            }
            for metric, told in self.items()
            for service, value in told.items()
        ]


UP = {"breaker_store_up": {"": 1.0}}
CASES: dict[str, tuple[list[dict[str, str]], float | None]] = {
    "closed, all may leave": (
        Scrape(UP, parked_tasks={"a": 700, "b": 30}, circuit_breaker_state={"a": 0, "b": 0}).lines(),
        730,
    ),
    "open and half-open, none may": (
        Scrape(UP, parked_tasks={"a": 100_000, "b": 900}, circuit_breaker_state={"a": 2, "b": 1}).lines(),
        0,
    ),
    "one of both": (
        Scrape(UP, parked_tasks={"a": 100_000, "b": 40}, circuit_breaker_state={"a": 2, "b": 0}).lines(),
        40,
    ),
    "a quota leaves fewer calls than tasks, or more": (
        Scrape(
            UP,
            parked_tasks={"a": 900, "b": 3, "c": 10},
            circuit_breaker_state={"a": 0, "b": 0, "c": 0},
            circuit_breaker_quota_left={"a": 5, "b": 60},
        ).lines(),
        5 + 3 + 10,
    ),
    "an open one with a quota": (
        Scrape(
            UP, parked_tasks={"a": 900}, circuit_breaker_state={"a": 2}, circuit_breaker_quota_left={"a": 5}
        ).lines(),
        0,
    ),
    "scraped at two places": (
        [
            line
            for place in ("flower:5555", "exporter:9464")
            for line in Scrape(UP, parked_tasks={"a": 7}, circuit_breaker_state={"a": 0}).lines(place)
        ],
        7,
    ),
    "a lost store": (Scrape(breaker_store_up={"": 0}).lines(), None),
    "a lost exporter": ([], None),
}


@pytest.mark.parametrize("case", CASES)
def test_it_counts_what_could_run_now(case, tmp_path):
    series, expected = CASES[case]
    samples = [] if expected is None else [{"labels": "{}", "value": expected}]
    tests = {
        "rule_files": [],
        "tests": [
            {
                "interval": "15s",
                "input_series": series,
                "promql_expr_test": [
                    {"expr": query_of(OBJECTS["workers"]), "eval_time": "30s", "exp_samples": samples}
                ],
            }
        ],
    }
    path = tmp_path / "tests.json"
    path.write_text(json.dumps(tests))
    done = subprocess.run(
        [installed("promtool"), "test", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
