"""A trace is not broken by an outage: what is parked and released runs under its publisher's trace."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.fleet import ROOT, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fleet import Fleet

CALL, SENT = "run/fleet.fetch", "apply_async/fleet.fetch"


def spans(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text().rpartition("\n")[0].splitlines() if file.exists() else []
    return [json.loads(line) for line in lines]


def test_a_task_runs_under_its_publishers_trace_after_it_was_parked(
    make_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    traces = tmp_path / "traces"
    fleet = make_fleet(threshold=1, timeout=0.5, probes=1)
    fleet.environment["TRACES"] = str(traces)
    fleet.mode("down")
    fleet.worker("-I", "tracing").ready()
    sent = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "tracing.py")],
        env=fleet.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    results = [fleet.app.app.AsyncResult(ident) for ident in sent.stdout.split()]
    assert len(results) == 3
    wait_for(lambda: {result.state for result in results} == {"PARKED"}, 30, "all wait")
    wait_for(lambda: fleet.circuit()["parked"] == 3, 30, "their states were written first")
    fleet.mode("ok")
    wait_for(lambda: {result.state for result in results} == {"SUCCESS"}, 40, "all run")

    def ended() -> dict[str, list[dict[str, Any]]]:
        """The spans of calls by their task's id."""
        found: dict[str, list[dict[str, Any]]] = {}
        for span in spans(traces):
            if span["name"] == CALL:
                found.setdefault(span["attributes"]["messaging.message.id"], []).append(span)
        return found

    def succeeded() -> Counter[str]:
        states = (span["attributes"].get("celery.state") for runs in ended().values() for span in runs)
        return Counter(states)

    wait_for(lambda: succeeded()["SUCCESS"] == 3, 10, "their spans have ended")
    publishers = {
        span["attributes"]["messaging.message.id"]: span for span in spans(traces) if span["name"] == SENT
    }
    assert len({span["context"]["trace_id"] for span in publishers.values()}) == 3
    for result in results:
        publisher = publishers[result.id]
        for span in ended()[result.id]:
            assert span["context"]["trace_id"] == publisher["context"]["trace_id"]
            assert span["parent_id"] == publisher["context"]["span_id"]
