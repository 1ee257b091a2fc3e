"""``make run``'s program: everything from one command, an outage lived through, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import redis

from resilience import CircuitBreaker
from resilience.stores.redis import RedisStore
from tasks.last_good import PREFIX
from tasks.providers import PROVIDERS
from tests.fleet import ROOT, wait_for
from tests.ports import free_port
from tests.system import FINAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Running:
    """One ``python -m workers.run`` on ports and in a folder of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.first = free_port(
            3 + len(PROVIDERS) + 1
        )  # Valkey, Flower, the simulator's control, the providers
        clean = {name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_URL"))}
        self.environment = clean | {
            "STATE_DIR": str(folder / "state"),
            "SCHEDULE_FILE": str(ROOT / "schedule.toml"),
            "REDIS_PORT": str(self.first),
            "FLOWER_PORT": str(self.first + 1),
            "SIMULATOR_PORT": str(self.first + 2),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            **environment,
        }
        self.log = folder / "run.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                self.command, env=self.environment, cwd=self.folder, stdout=out, stderr=subprocess.STDOUT
            )

    def fails(self, **environment: str) -> str:
        """Start where it cannot; returns the one line it says."""
        done = subprocess.run(
            self.command,
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr, done.stderr
        [line] = (done.stdout + done.stderr).strip().splitlines()
        return line

    command = (sys.executable, "-m", "workers.run")

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def celery(self, *arguments: str) -> dict[str, Any]:
        """A command from another terminal: it finds the run by itself."""
        known = {name: self.environment[name] for name in ("STATE_DIR", "PYTHONPATH", "PATH")}
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "workers", *arguments, "--json"],
            env=known,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def family(self) -> list[psutil.Process]:
        """Every process that was started in this run's state folder, wherever it has gone since."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("STATE_DIR") == self.environment["STATE_DIR"]:
                    found.append(process)
        return found

    def interrupt(self) -> None:
        """Ctrl-C, to the end."""
        assert self.process
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(40) == 0, self.text()

    def kill(self) -> None:
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                process.kill()
        if self.process:
            self.process.wait(10)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.kill()


@pytest.mark.timeout(300)
def test_quotes_flow_through_an_outage_and_a_restart(run):
    run.start()
    wait_for(lambda: run.celery("latest", "quote", "AAPL")["outcome"] == "fresh", 120, "quotes flow")
    wait_for(lambda: "simulated  alpha_vantage, finnhub" in run.text(), 60, "it says what is simulated")
    assert f"http://127.0.0.1:{run.first + 1}" in run.text()
    assert "simulate finnhub down" in run.text()
    assert run.celery("circuits", "show", "finnhub")["quota_calls"] is None, "a stand-in has no quota"
    assert "another run uses" in run.fails()

    with (
        contextlib.closing(redis.Redis(port=run.first, db=1)) as results,
        contextlib.closing(redis.Redis(port=run.first, db=2)) as store,
    ):
        shared = RedisStore(f"redis://127.0.0.1:{run.first}/2")
        breaker = CircuitBreaker("finnhub", 3, 60, store=shared)

        def moves() -> list[dict[bytes, bytes]]:
            rows: Any = store.xrange("circuit:1:{finnhub}:transitions")
            return [row for _, row in rows]

        # Down: three counted failures, then nothing but parked tasks and honest readings.
        assert run.celery("simulate", "finnhub", "down")["finnhub"] == "down"
        wait_for(lambda: breaker.get_state()["state"] == "open", 40, "the circuit opens")
        assert [(move[b"from"], move[b"to"], move[b"failures"]) for move in moves()] == [
            (b"closed", b"open", b"3")
        ]
        assert breaker.get_state()["failures_total"] in (3, 4), (
            "three, and what was in flight beside the third"
        )
        retry_at = datetime.fromisoformat(breaker.get_state()["retry_at"]).timestamp()
        wait_for(lambda: breaker.get_state()["parked"] >= 3, 30, "tasks park")
        reading = run.celery("latest", "quote", "AAPL")
        assert (reading["outcome"], reading["stale"], reading["provider"]) == ("stale", True, "finnhub")
        assert reading["age_seconds"] > 0

        # Well again: it comes back by itself.
        assert run.celery("simulate", "finnhub", "ok")["finnhub"] == "ok"
        assert breaker.get_state()["failures_total"] in (3, 4), "nobody asked meanwhile"
        wait_for(lambda: breaker.get_state()["state"] == "closed", 80, "it closes")
        [closed] = [int(move[b"at"]) / 1e6 for move in moves() if move[b"to"] == b"closed"]
        assert 0 <= closed - retry_at <= 2
        wait_for(lambda: breaker.get_state()["parked"] == 0, 20, "nothing remains parked")
        wait_for(lambda: run.celery("latest", "quote", "AAPL")["outcome"] == "fresh", 30)

        def kept() -> set[str]:
            names: Any = store.hkeys(f"{PREFIX}providers")
            return {name.decode() for name in names}

        living = {service for service, row in PROVIDERS.items() if not row.retired}
        wait_for(lambda: kept() == living, 90, "whom the schedule does not ask is seen at work, too")

        def states() -> list[str]:
            found: Any = [results.get(key) for key in results.scan_iter("celery-task-meta-*", 1000)]
            return [json.loads(meta)["status"] for meta in found if meta]

        wait_for(lambda: set(states()) <= FINAL, 20, "every task has its final state")
        assert set(states()) <= {"SUCCESS", "REVOKED"}
        shared.scripts.close()
        results.connection_pool.disconnect()

    started = run.family()
    assert len(started) >= 9, started
    run.interrupt()
    assert run.family() == []
    assert "Stopping" in run.text()
    assert "Traceback" not in run.text()

    # A second start finds what the first one knew.
    run.start()
    again = wait_for(lambda: (found := run.celery("latest", "quote", "AAPL"))["value"] and found, 30)
    assert again["age_seconds"] > 1
    wait_for(lambda: "provider" in run.text(), 40, "it runs")
    run.interrupt()
    assert run.family() == []


@pytest.mark.timeout(300)
def test_a_killed_server_is_named_and_the_next_run_has_what_waited(run):
    def waiting() -> int:
        return int(run.celery("circuits", "show", "finnhub")["parked"])

    run.start()
    wait_for(lambda: run.celery("latest", "quote", "AAPL")["outcome"] == "fresh", 120, "quotes flow")
    run.celery("simulate", "finnhub", "down")
    wait_for(lambda: waiting() >= 3, 60, "tasks park")
    parts = psutil.Process(run.process.pid).children()
    [server] = [part for part in parts if part.name().startswith("valkey")]
    server.kill()
    assert run.process.wait(20) == 1
    assert "valkey ended. The end of" in run.text()
    assert run.family() == []

    run.start()  # and its simulator knows of no outage
    wait_for(lambda: "provider" in run.text(), 40, "it runs")
    assert (run.folder / "state" / "valkey").is_dir()
    with contextlib.closing(redis.Redis(port=run.first, db=2)) as store:
        moves: Any = store.xrange("circuit:1:{finnhub}:transitions")
        assert [move[b"to"] for _, move in moves][:1] == [b"open"], "the first run's own"
    wait_for(lambda: waiting() == 0, 60, "what waited has left")
    run.interrupt()


def test_an_argument_is_refused_and_help_starts_nothing(run):
    for argument, code, told in (("--help", 0, "usage: make run"), ("finnhub", 2, "arguments: finnhub")):
        command = [*run.command, argument]
        done = subprocess.run(
            command, env=run.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == code
        assert told in done.stdout + done.stderr
    assert not (run.folder / "state").exists()


def test_a_taken_port_is_named(run):
    for place, variable in (
        (0, "REDIS_PORT"),
        (1, "FLOWER_PORT"),
        (2, "SIMULATOR_PORT"),
        (4, "SIMULATOR_PORT"),
    ):
        with socket.create_server(("127.0.0.1", run.first + place)):
            line = run.fails()
        assert f"port {run.first + place} is taken" in line
        assert f"set {variable} to another" in line


def test_an_unusable_state_folder_is_named(run):
    for where in ("file", "file/below"):
        (run.folder / "file").write_text("")
        line = run.fails(STATE_DIR=str(run.folder / where))
        assert str(run.folder / "file") in line
        assert "STATE_DIR" in line


def test_a_broken_schedule_is_named(run):
    bad = run.folder / "[bad].toml"
    assert "SCHEDULE_FILE" in run.fails(SCHEDULE_FILE=str(bad))
    bad.write_text('[[fetch]]\ndataset = "quote"\nsymbols = ["AAPL"]\nevery_seconds = 5\n')
    line = run.fails(SCHEDULE_FILE=str(bad))
    assert f"{bad}:1: provider is missing" in line
    bad.write_text("")
    assert "add a [[fetch]] table" in run.fails(SCHEDULE_FILE=str(bad))


@pytest.mark.parametrize(
    ("variable", "value"),
    [("REDIS_PORT", "http"), ("FLOWER_PORT", "70000"), ("FINNHUB_API_KEY", "two words")],
)
def test_a_wrong_setting_is_named(run, variable, value):
    assert variable in run.fails(**{variable: value})
