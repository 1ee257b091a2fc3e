"""A real run scraped by a real Prometheus: every rule and every panel finds what it asks for."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from resilience.circuit import CircuitState, Reason, Verdict
from resilience.parking import DROPS
from tasks import last_good, latest
from tasks.providers import PROVIDERS
from tasks.records import DATASETS
from tests.fleet import wait_for
from tests.monitors import ALERTMANAGER, DASHBOARDS, PROMETHEUS, RULES, SCALED, Monitor, changed, query_of
from tests.ports import free_port
from tests.servers import installed
from tests.system import System, get, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "finnhub"
SCHEDULE = """
[[fetch]]
dataset = "quote"
provider = "polygon"
symbols = ["IBM"]
every_seconds = 3600
"""
VALUES = {
    "reason": {*Reason, *DROPS},
    "from": {*CircuitState},
    "to": {*CircuitState},
    "result": {"allowed", "blocked"},
    "verdict": {*Verdict},
    "job": {"circuits"},
    "why": {"blank", "malformed", "no_trade", "no_url", "withdrawn"},
}
WORDS = {"and", "or", "unless", "by", "on", "group_left"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """In an outage: some tasks have run, some wait, one was dropped, a reader got a stale value."""
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(running_system(tmp_path_factory.mktemp("monitoring")))
        made.calm()
        made.store.config_set("maxmemory", "1gb")
        made.exporter = start_exporter(made, QUOTE_FRESH_SECONDS="1")
        made.prometheus = start_prometheus(made)
        stack.callback(made.prometheus.close)
        made.json("circuits", "set", SERVICE, "quota_calls=6000", "quota_seconds=60", "quota_burst=10")
        done = [made.fetch(f"S{number}") for number in range(3)]
        wait_for(lambda: {result.state for result in done} == {"SUCCESS"}, 30, "some run")
        wait_for(lambda: found(made, "stale_reads_total"), 20, "Prometheus has seen that none was read")
        schedule = made.folder / "polygon.toml"
        schedule.write_text(SCHEDULE)
        beat = ("beat", "--pidfile=", "-s", str(made.folder / "beat"))
        made.celery("beat", *beat, SCHEDULE_FILE=str(schedule))
        made.break_open()
        dropped = made.fetch("DROPPED")
        made.fetch("WAITS")
        wait_for(lambda: made.circuit()["parked"] == 3, 10, "they wait")
        gone = made.cli("circuits", "drop", SERVICE, dropped.id)
        assert gone.returncode == 0, gone.stderr
        assert latest("quote", "S0").stale
        last_good.note_left_out("bars", SERVICE, {"no_trade": 2, "malformed": 1})
        last_good.note_left_out("bars", SERVICE, {"no_trade": 1})
        yield made


def start_exporter(system: System, **environment: str) -> str:
    """Start the exporter; its address."""
    exporter = system.celery("exporter", "circuits", "exporter", "--port", "0", **environment)

    def told() -> re.Match[str] | None:
        assert exporter.process.poll() is None, exporter.text()
        return re.search(r"http://(127\.0\.0\.1:\d+)/metrics", exporter.text())

    found: re.Match[str] = wait_for(told, 20, "the exporter serves")
    return found[1]


def start_prometheus(system: System) -> Monitor:
    config = changed(
        PROMETHEUS,
        ("flower:5555", system.exporter),
        ("/etc/prometheus/alerts.yml", str(RULES)),
        ("alertmanager:9093", f"127.0.0.1:{free_port()}"),
        ("interval: 15s", "interval: 1s"),
    )
    return Monitor("prometheus", system.folder / "prometheus", config, "--storage.tsdb.path=data")


def found(system: System, query: str) -> list[dict[str, Any]]:
    """What Prometheus finds now."""
    result: list[dict[str, Any]] = system.prometheus.ask("/api/v1/query", query=query)["data"]["result"]
    return result


def exposition(system: System) -> tuple[str, dict[str, set[str]]]:
    """The page, and the labels of each sample's name."""
    status, page = get(f"http://{system.exporter}/metrics")
    assert status == 200, page
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return page, labels


def queries() -> list[tuple[str, str]]:
    """Where it stands, and what it asks."""
    found = []
    for path in DASHBOARDS:
        board = json.loads(path.read_text("utf-8"))
        for panel in board["panels"]:
            found += [(f"{path.stem}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found


def rules(system: System) -> dict[str, dict[str, Any]]:
    groups = system.prometheus.ask("/api/v1/rules")["data"]["groups"]
    return {rule["name"]: rule for group in groups for rule in group["rules"]}


def used(query: str) -> tuple[dict[str, set[str]], set[str], list[tuple[str, str]]]:
    """Its metrics, each with the labels it is selected by; what it groups by; the values it asks for."""
    selected = re.findall(r"([a-z_]+)\{([^}]*)\}", query)
    matches = [re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', inner) for _, inner in selected]
    by = {
        name.strip() for names in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query) for name in names.split(",")
    }
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(?:by|on|group_left)\s*\([^)]*\)', " ", query)
    names = set(re.findall(r"\b[a-z_]+\b(?!\s*\()", bare)) - WORDS
    metrics: dict[str, set[str]] = {name: set() for name in names}
    for (name, _), found in zip(selected, matches, strict=True):
        metrics[name] |= {label for label, _ in found}
    values = [(label, text) for found in matches for label, texts in found for text in texts.split("|")]
    return metrics, by, values


def test_a_query_is_taken_apart():
    assert used(
        'sum by (a, le) (rate(x_total{b="1|2", c!="3"}[5m])) > on (d) group_left () y unless z{b=~"4"}'
    ) == (
        {"x_total": {"b", "c"}, "y": set(), "z": {"b"}},
        {"a", "le", "d"},
        [("b", "1"), ("b", "2"), ("c", "3"), ("b", "4")],
    )


def test_every_metric_of_the_contract_is_there_and_promtool_finds_no_fault(system):
    page, labels = exposition(system)
    done = subprocess.run(
        [installed("promtool"), "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {name: labels.get(name) for name in CONTRACT} == CONTRACT


CONTRACT = {
    "circuit_breaker_state": {"service"},
    "circuit_breaker_failures_total": {"service"},
    "circuit_breaker_requests_total": {"service", "result"},
    "circuit_breaker_trips_total": {"service"},
    "circuit_breaker_transitions_total": {"service", "from", "to"},
    "circuit_breaker_open_reason": {"service", "reason"},
    "circuit_breaker_retry_at_timestamp_seconds": {"service"},
    "circuit_breaker_call_duration_seconds_bucket": {"service", "verdict", "le"},
    "circuit_breaker_call_duration_seconds_sum": {"service", "verdict"},
    "parked_tasks": {"service"},
    "parked_oldest_age_seconds": {"service"},
    "parked_total": {"service"},
    "released_total": {"service"},
    "coalesced_total": {"service"},
    "unroutable_total": {"service"},
    "parked_dropped_total": {"service", "reason"},
    "stale_reads_total": {"dataset", "provider"},
    "rejected_rows_total": {"dataset", "provider", "why"},
    "last_good_age_seconds": {"dataset", "provider"},
    "breaker_store_up": set(),
    "breaker_states_published_timestamp_seconds": set(),
}


def test_the_figures_are_those_of_the_run(system):
    told = {}
    for family in text_string_to_metric_families(exposition(system)[0]):
        for sample in family.samples:
            told[(sample.name, *(sample.labels[name] for name in sorted(sample.labels)))] = sample.value
    assert told[("circuit_breaker_state", SERVICE)] == 2
    assert told[("circuit_breaker_open_reason", "failures", SERVICE)] == 1
    assert told[("circuit_breaker_transitions_total", "closed", SERVICE, "open")] == 1
    assert told[("circuit_breaker_call_duration_seconds_count", SERVICE, "success")] == 3
    assert told[("circuit_breaker_call_duration_seconds_count", SERVICE, "failure")] == 3
    assert 0 < told[("circuit_breaker_call_duration_seconds_sum", SERVICE, "success")] < 30
    assert told[("parked_dropped_total", "operator", SERVICE)] == 1
    assert told[("stale_reads_total", "quote", SERVICE)] == 1
    assert told[("rejected_rows_total", "bars", SERVICE, "no_trade")] == 3
    assert told[("rejected_rows_total", "bars", SERVICE, "malformed")] == 1
    assert told[("last_good_age_seconds", "quote", SERVICE)] > 0
    left = told[("circuit_breaker_retry_at_timestamp_seconds", SERVICE)] - time.time()
    assert 0 < left <= 60
    assert told[("parked_tasks", SERVICE)] == 2


def test_labels_hold_nothing_but_names_that_are_known_beforehand(system):
    known = VALUES | {"service": {*SERVICES}, "provider": {*PROVIDERS}, "dataset": {*DATASETS}}
    for family in text_string_to_metric_families(exposition(system)[0]):
        for sample in family.samples:
            for label, value in sample.labels.items():
                assert label == "le" or value in known[label], (sample.name, label, value)


SERVICES = ["iex_cloud", "news_api", *PROVIDERS]


def test_every_rule_and_every_panel_asks_for_what_there_is(system):
    labels = exposition(system)[1] | {"up": set()}
    everywhere = {name for names in labels.values() for name in names} | {"job", "instance"}
    asked = [(name, rule["query"]) for name, rule in rules(system).items()] + queries()
    asked += [(path.stem, query_of(yaml.safe_load(path.read_text("utf-8")))) for path in SCALED]
    assert len(asked) > 50
    for place, query in asked:
        metrics, by, values = used(query.replace("$service", SERVICE).replace("$__rate_interval", "1m"))
        assert metrics, (place, query)
        for metric, selected in metrics.items():
            assert metric in labels, (place, metric)
            assert selected <= labels[metric] | {"job", "instance"}, (place, metric)
        assert by <= everywhere, (place, by)
        for label, value in values:
            assert value in VALUES.get(label, {SERVICE}), (place, label, value)


def test_what_is_scaled_by_is_one_number(system):
    """And with everything open that waits, it is 0."""
    for path in SCALED:
        [row] = found(system, query_of(yaml.safe_load(path.read_text("utf-8"))))
        assert row["value"][1] == "0"


def test_every_panel_shows_something_of_the_run(system):
    empty: dict[str, str] = {}

    def all_shown() -> bool:
        empty.clear()
        for place, query in queries():
            filled = query.replace("$service", SERVICE).replace("$__rate_interval", "1m")
            if not found(system, filled):
                empty[place] = query
        return not empty

    try:
        wait_for(all_shown, 60)
    except AssertionError:
        pytest.fail(f"nothing is found for {empty}")


def test_prometheus_evaluates_every_rule_without_an_error(system):
    wait_for(lambda: all(rule["health"] == "ok" for rule in rules(system).values()), 20, str(rules(system)))
    waiting = wait_for(lambda: rules(system)["CircuitOpenTooLong"]["alerts"], 20, "the outage is seen")
    assert [(alert["labels"]["service"], alert["state"]) for alert in waiting] == [(SERVICE, "pending")]
    assert {name for name, rule in rules(system).items() if rule["state"] == "firing"} == set()


def test_a_scrape_of_all_services_is_measured(system):
    took = []
    for _ in range(20):
        began = time.perf_counter()
        exposition(system)
        took.append((time.perf_counter() - began) * 1000)
    services = len(
        {row for row in exposition(system)[0].splitlines() if row.startswith("circuit_breaker_state{")}
    )
    sys.stdout.write(
        f"a scrape of {services} services: median {sorted(took)[10]:.1f} ms, most {max(took):.1f} ms\n"
    )


def test_an_exporter_that_cannot_listen_says_so(system):
    port = system.exporter.rpartition(":")[2]
    done = system.cli("circuits", "exporter", "--port", port)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): name another" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lost_store_is_one_metric_and_no_exception(system):
    process = system.server._process
    process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: "breaker_store_up 0.0" in exposition(system)[0], 20, "it is seen to be lost")
        assert exposition(system)[1].keys() == {"breaker_store_up", "freshness_target_seconds"}
    finally:
        process.send_signal(signal.SIGCONT)
    wait_for(lambda: "breaker_store_up 1.0" in exposition(system)[0], 20, "it is back")


def test_what_follows_from_another_alert_is_not_told_beside_it(tmp_path):
    manager = Monitor(
        "prometheus-alertmanager",
        tmp_path / "alertmanager",
        ALERTMANAGER.read_text("utf-8"),
        "--storage.path=data",
        "--cluster.listen-address=",
    )
    try:

        def raised(*alerts: tuple[str, str]) -> dict[tuple[str, str], bool]:
            """Which of these are told, and which are kept back."""
            given = [
                {"alertname": name} | ({"service": service} if service else {}) for name, service in alerts
            ]
            manager.tell("/api/v2/alerts", [{"labels": labels} for labels in given])
            told = manager.ask("/api/v2/alerts")
            ended = [{"labels": labels, "endsAt": "2020-01-01T00:00:00Z"} for labels in given]
            manager.tell("/api/v2/alerts", ended)
            return {
                (alert["labels"]["alertname"], alert["labels"].get("service", "")): alert["status"]["state"]
                == "active"
                for alert in told
            }

        down, aged = ("CircuitOpenTooLong", "finnhub"), ("ParkedPastFreshness", "finnhub")
        other, store = ("ParkedPastFreshness", "fred"), ("StoreDown", "")
        assert raised(down, aged, other) == {down: True, aged: False, other: True}
        assert raised(aged) == {aged: True}
        assert raised(store, down, aged) == {store: True, down: False, aged: False}
        many = ("ManyCircuitsOpen", "")
        assert raised(many, down, other) == {many: True, down: False, other: False}
    finally:
        manager.close()
