"""The publishing job by real beats: the snapshot, the events, and no harm done by a second beat."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from resilience import CircuitBreaker, on_transition, publishing, set_default_store
from resilience.metrics import CircuitCollector
from resilience.stores.memory import MemoryStore
from tests.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilience import Transition
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


def test_a_queue_that_nobody_consumes_holds_a_handful_of_messages(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet()
    publish = fleet.app.app.tasks[publishing.TASK_NAME]

    def waiting() -> int:
        return int(cast("int", fleet.broker.llen("work")))

    def later(seconds: int) -> None:
        fleet.store.hincrby(publishing.SENT_KEY, "at", -seconds)

    first = publish.delay()
    assert {publish.delay().id for _ in range(20)} == {first.id}
    assert waiting() == 1
    for patience in (10, 20, 40):
        later(patience - 5)
        publish.delay()
        later(10)
        sent = waiting()
        assert publish.delay().id != first.id
        assert waiting() == sent + 1
    assert waiting() == 4
    fleet.worker(concurrency=1).ready()
    wait_for(lambda: not waiting() and snapshot(fleet)["published_at"], 30, "they run, however late")
    wait_for(lambda: not fleet.store.exists(publishing.SENT_KEY), 10, "the next is sent at once")
    assert publish.delay().id != first.id


@pytest.fixture
def listeners(monkeypatch: pytest.MonkeyPatch) -> Iterator[CircuitBreaker]:
    """No listeners but a test's, on a store of its own."""
    monkeypatch.setattr(publishing, "_listeners", [])
    monkeypatch.setattr(publishing, "LISTENER_SECONDS", 0.3)
    store = MemoryStore()
    set_default_store(store)
    yield CircuitBreaker("x", store=store)
    set_default_store(None)


class Sink:
    """Where events go that no test looks at."""

    def send(self, *_: object, **__: object) -> None:
        """Nobody hears of it."""


def test_a_listener_that_hangs_holds_up_nobody_else(
    listeners: CircuitBreaker, caplog: pytest.LogCaptureFixture
) -> None:
    release, heard, hung = threading.Event(), [], []

    @on_transition
    def hangs(change: Transition) -> None:
        hung.append(change.after.value)
        release.wait(30)

    @on_transition
    def raises(change: Transition) -> None:
        raise SystemExit(str(change.number))

    on_transition(lambda change: heard.append(change.after.value))
    for _ in range(3):
        listeners.force_open(60)
        publishing.announce(Sink(), ["x"])
        listeners.reset()
        publishing.announce(Sink(), ["x"])
    assert heard == ["forced_open", "closed"] * 3
    assert hung == ["forced_open"]
    assert caplog.text.count("has not returned within 0.3 s") == 1
    assert caplog.text.count("raises at") >= 6
    release.set()
    wait_for(lambda: not publishing._listeners[0]._busy.locked(), 10, "it returns")
    listeners.force_open(60)
    publishing.announce(Sink(), ["x"])
    assert hung == ["forced_open"] * 2
    assert "has returned; it has missed 5 changes" in caplog.text


def test_events_that_cannot_be_sent_keep_no_listener_from_hearing(
    listeners: CircuitBreaker, caplog: pytest.LogCaptureFixture
) -> None:
    heard, tried = [], []

    class Refuses(Sink):
        def send(self, kind: str, **_: object) -> None:
            tried.append(kind)
            raise PermissionError("celeryev")

    on_transition(lambda change: heard.append(change.after.value))
    listeners.force_open(60)
    listeners.reset()
    publishing.announce(publishing.Events(Refuses()), ["x"])
    assert heard == ["forced_open", "closed"]
    assert tried == ["circuit-transition"]
    assert caplog.text.count("cannot be sent") == 1
    publishing.announce(publishing.Events(Refuses()), ["x"])
    assert len(heard) == 2, "each was heard of once"


def test_a_gap_is_said_and_sent(listeners: CircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[dict[str, Any]] = []

    class Events(Sink):
        def send(self, *_: object, **fields: object) -> None:
            sent.append(fields)

    for _ in range(300):
        listeners.force_open(60)
        listeners.reset()
    publishing.announce(Events(), ["x"])
    assert (len(sent), sent[0]["lost"]) == (500, 100)
    assert not any("lost" in event for event in sent[1:])
    assert caplog.text.count("100 changes before this one were lost") == 1


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
