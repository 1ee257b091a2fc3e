"""The publishing job by real beats: the snapshot, the events, and no harm done by a second beat."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from resilience import publishing
from resilience.metrics import CircuitCollector
from tests.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fleet import Fleet


@contextlib.contextmanager
def heard(fleet: Fleet) -> Iterator[list[dict[str, Any]]]:
    """The job's events as any monitor receives them."""
    events: list[dict[str, Any]] = []
    listening = threading.Event()
    app = fleet.app.app
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(
            connection, handlers={"breaker-states": events.append, "circuit-transition": events.append}
        )

        def listen() -> None:
            with receiver.consumer_context() as (own, _, _):
                listening.set()
                while not receiver.should_stop:
                    with contextlib.suppress(TimeoutError):
                        own.drain_events(timeout=0.2)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            assert listening.wait(10)
            yield events
        finally:
            receiver.should_stop = True
            thread.join(10)


@contextlib.contextmanager
def beats(fleet: Fleet, count: int) -> Iterator[None]:
    running = []
    try:
        for number in range(count):
            command = [sys.executable, "-m", "celery", "-A", "fleet_app", "beat", "--pidfile=", "-l", "INFO"]
            with (fleet.folder / f"beat{number}.log").open("wb") as log:
                running.append(
                    subprocess.Popen(
                        [*command, "-s", str(fleet.folder / f"beat{number}")],
                        env=fleet.environment,
                        cwd=fleet.folder,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def snapshot(fleet: Fleet) -> dict[str, Any]:
    text: Any = fleet.store.get(publishing.SNAPSHOT_KEY)
    found: dict[str, Any] = json.loads(text) if text else {"published_at": ""}
    return found


def metric(name: str) -> float:
    [family] = [family for family in CircuitCollector().collect() if family.name == name]
    return float(family.samples[0].value)


def test_two_beats_publish_the_states_again_and_again_and_each_change_once(
    make_fleet: Callable[..., Fleet],
) -> None:
    fleet = make_fleet(threshold=1, timeout=600)
    fleet.worker(concurrency=2).ready()
    assert fleet.circuit()["state"] == "closed"
    assert metric("breaker_states_published_timestamp_seconds") == 0, "never"
    fleet.mode("down")
    result = fleet.app.fetch.delay(1)
    wait_for(lambda: fleet.circuit()["parked"] == 1, 30, "it opens")
    with heard(fleet) as events, beats(fleet, 2):
        wait_for(lambda: sum(event["type"] == "breaker-states" for event in events) >= 2, 60, "published")
        first = snapshot(fleet)
        fleet.app.CIRCUIT_BREAKERS["other"].force_open(600, "drill", "ann")
        wait_for(
            lambda: [event for event in events if event.get("service") == "other"], 30, "the next run tells"
        )
        second = wait_for(
            lambda: (
                (now := snapshot(fleet))["published_at"] > first["published_at"] and now["open"] == 2 and now
            ),
            30,
            "published again, with what changed",
        )
    states = {row["service"]: row["state"] for row in second["circuit_breakers"]}
    assert (states["dead"], states["other"]) == ("open", "forced_open")
    assert datetime.fromisoformat(second["published_at"]).tzinfo is not None
    whole = [event["states"] for event in events if event["type"] == "breaker-states"]
    assert whole[0]["dead"] == "open"
    assert whole[-1]["other"] == "forced_open"
    changes = Counter(
        (event["service"], event["from"], event["to"])
        for event in events
        if event["type"] == "circuit-transition"
    )
    assert changes == {("dead", "closed", "open"): 1, ("other", "closed", "forced_open"): 1}
    # Who is silent is seen to be: the time of the last run is on record, and no scrape moves it.
    stamp = datetime.fromisoformat(publishing.published_at() or "").timestamp()
    assert metric("breaker_states_published_timestamp_seconds") == stamp
    assert result.state == "PARKED"
