"""What a worker logs of an outage, as JSON: a line for the fleet, one for each call, none for a refusal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from resilience import get_circuit_breaker
from tests.fleet import wait_for
from tests.system import System

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fleet import Worker


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Worker]]:
    made = System(tmp_path_factory.mktemp("logs"))
    try:
        options = ("-l", "INFO", "-c", "2", "-n", "json@test", "--without-mingle", "--without-gossip")
        yield made, made.celery("json", "worker", *options, LOG_FORMAT="json").ready()
    finally:
        made.close()


def records(worker: Worker) -> list[dict[str, Any]]:
    """Every line after the banner, which Celery prints; each must be an object."""
    lines = worker.text().rpartition("\n")[0].splitlines()  # the last may be half written
    first = next(number for number, line in enumerate(lines) if line.startswith("{"))
    return [json.loads(line) for line in lines[first:]]


def test_an_outage_with_fifty_refusals_is_one_line(running):
    system, worker = running
    system.fetch("AAPL").get(timeout=20)
    system.break_open("5xx")
    refused = [system.fetch(f"S{number}") for number in range(50)]
    wait_for(lambda: {task.state for task in refused} == {"PARKED"}, 30, "all wait")

    def told(what: str) -> list[dict[str, Any]]:
        return [row for row in records(worker) if what in row["message"]]

    for times in (1, 2):
        system.app.send_task("resilience.publish", queue="default")
        wait_for(lambda times=times: len(told("resilience.publish[")) >= 2 * times, 20, "it is published")
    changes = [row for row in records(worker) if row.get("to") and row.get("service") == "finnhub"]
    [change] = changes
    assert (change["level"], change["logger"]) == ("WARNING", "resilience.publishing")
    assert (change["from"], change["to"], change["reason"]) == ("closed", "open", "failures")
    assert (change["failures"], change["actor"]) == (3, None)
    ids = {task.id for task in refused}
    theirs = [row["message"] for row in records(worker) if any(ident in json.dumps(row) for ident in ids)]
    assert [message for message in theirs if not message.endswith(" received")] == []


def test_what_a_pool_process_refuses_is_counted_and_not_logged(running):
    system, worker = running
    breaker = get_circuit_breaker("tiingo")
    breaker.override({"max_concurrent": 1, "quota_calls": 1, "quota_seconds": 3600}, 600)
    before = system.circuit("tiingo")["blocked_total"]
    tasks = [system.fetch(f"T{number}", "tiingo") for number in range(8)]
    wait_for(lambda: sorted({task.state for task in tasks}) == ["PARKED", "SUCCESS"], 30, "all but one wait")
    assert system.circuit("tiingo")["blocked_total"] > before
    received = {row["task_id"] for row in records(worker) if row["message"].endswith(" received")}
    waiting = {task.id for task in tasks if task.state == "PARKED"}
    assert received & waiting, "some were refused by a pool process"
    assert [row for row in records(worker) if "ignored" in row["message"] or "Parked" in row["message"]] == []


def test_the_end_of_each_call_has_its_fields(running):
    system, worker = running
    task = system.fetch("FIELDS", "twelvedata")
    task.get(timeout=20)
    system.simulator.set_mode("alpha_vantage", "throttle")
    held = system.fetch("HELD", "alpha_vantage")
    wait_for(lambda: held.state == "PARKED", 20, "it waits")

    def ends(ident: str) -> list[dict[str, Any]]:
        return [row for row in records(worker) if row.get("task_id") == ident and "permit" in row]

    [end] = wait_for(lambda: ends(task.id), 10, "it is logged")
    assert (end["task"], end["service"]) == ("tasks.twelvedata.fetch", "twelvedata")
    assert (end["verdict"], end["label"], end["probe"]) == ("success", None, False)
    assert end["permit"].endswith(f":{task.id}")
    assert 0 < end["duration_seconds"] < 30
    [hold] = wait_for(lambda: ends(held.id), 10, "it is logged")
    assert (hold["verdict"], hold["label"]) == ("hold", "rate_limit")
    system.simulator.set_mode("alpaca", "garbage")
    failed = system.fetch("FAILED", "alpaca")
    [failure] = wait_for(lambda: ends(failed.id)[:1], 20, "it is logged")
    assert failure["detail"].startswith("Alpaca: the body is not ")
    assert failure["message"].endswith(failure["detail"])
    assert end["detail"] == ""


def test_a_process_that_dies_is_a_line_of_json_too(running):
    _, worker = running
    child = worker.children()[0]
    child.kill()
    died = wait_for(
        lambda: [row for row in records(worker) if "exited with" in row["message"]], 20, "it is missed"
    )
    assert "SIGKILL" in died[0]["message"]


def test_no_key_is_in_the_log(running):
    _, worker = running
    assert "SECRETKEY" not in worker.text()
