"""``circuits list``, once and again and again, on terminals of two widths and without one."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from resilience import CircuitBreaker, set_default_store, stores
from resilience.stores import open_store
from tests.fleet import wait_for
from tests.servers import Server, installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A store of its own, which a test may kill."""
    (tmp_path / "server").mkdir()
    made = Server(installed("redis-server"), tmp_path / "server")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def environment(server: Server, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A circuit is open in it, and one disabled."""
    url = f"redis://127.0.0.1:{server.port}/0"
    set_default_store(open_store(url))
    for service in ("alpha_vantage", "finnhub"):
        breaker = CircuitBreaker(service, failure_threshold=1, timeout_seconds=7200)
        breaker.report(breaker.acquire(), "failure")
    CircuitBreaker("polygon").disable(3600, "drill", "ann")
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith(("_KEY", "_URL", "_PORT")) and name not in ("NO_COLOR", "FORCE_COLOR", "TERM")
    }
    yield clean | {
        "CELERY_BROKER_URL": url,
        "CELERY_RESULT_BACKEND": url,
        "RESILIENCE_STORE_URL": url,
        "STATE_DIR": str(tmp_path),
        "COLUMNS": "200",
        "TERM": "xterm",
    }
    set_default_store(None)
    stores._opened.pop(url).close()


COMMAND = (sys.executable, "-m", "celery", "-A", "workers", "circuits", "list")


def listed(environment: dict[str, str], **more: str) -> str:
    done = subprocess.run(
        COMMAND, env=environment | more, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_at_80_columns_the_least_important_column_is_left_out_and_no_line_is_broken(environment):
    head, *rows = listed(environment, COLUMNS="80").splitlines()
    assert head.split("  ")[0] == "service"
    assert head.split() == [*("service", "circuit", "since", "why", "next", "try", "parked", "oldest")]
    assert max(map(len, [head, *rows])) <= 80
    [row] = [row for row in rows if row.startswith("alpha_vantage")]
    assert re.fullmatch(r"alpha_vantage +open +\d+s +failures +in 1h 59m *|.* in 2h *", row)
    assert all(re.match(r"[a-z]", row) for row in rows if row.strip()), "one line for each"


def test_at_200_columns_nothing_is_left_out(environment):
    head, *rows = listed(environment).splitlines()
    assert re.split(r"  +", head.strip()) == [
        *("service", "circuit", "since", "why", "next try", "failures", "parked", "oldest parked")
    ]
    [row] = [row for row in rows if row.startswith("polygon")]
    assert re.split(r"  +", row.strip())[:2] == ["polygon", "disabled"]


@contextlib.contextmanager
def watching(environment: dict[str, str], *options: str, terminal: bool = False) -> Iterator[Any]:
    """A running ``list --watch``, and what it has written so far."""
    read, write = pty.openpty() if terminal else os.pipe()
    os.set_blocking(read, False)
    process = subprocess.Popen(
        [*COMMAND, "--watch", "0.2", *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    seen = bytearray()

    def text() -> str:
        with contextlib.suppress(BlockingIOError, OSError):  # a terminal whose program is gone is an error
            while chunk := os.read(read, 65536):
                seen.extend(chunk)
        return seen.decode("utf-8", "replace")

    try:
        yield process, text
    finally:
        process.kill()
        process.communicate()
        os.close(read)


def interrupted(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert b"Traceback" not in error
    return process.returncode


def test_without_a_terminal_the_table_comes_again_and_ctrl_c_ends_it_well(environment):
    with watching(environment) as (process, text):
        wait_for(lambda: text().count("service ") >= 3, 30, "three tables")
        assert interrupted(process) == 0
        assert "\x1b" not in text()


def test_a_lost_store_is_said_and_waited_for(environment, server):
    with watching(environment) as (process, text):
        wait_for(lambda: "alpha_vantage" in text(), 30, "a table")
        server.kill()
        wait_for(lambda: "does not answer: start it" in text(), 30, "it says so")
        seen = text().count("service ")
        server.start()
        wait_for(lambda: text().count("service ") > seen, 30, "it goes on")
        assert process.poll() is None
        assert interrupted(process) == 0


def test_as_json_each_line_is_an_object_and_so_is_a_lost_store(environment, server):
    with watching(environment, "--json") as (process, text):
        wait_for(lambda: text().count("\n") >= 2, 30, "two lines")
        server.kill()
        wait_for(lambda: '"error"' in text(), 30, "it says so")
        assert interrupted(process) == 0
        objects = [json.loads(line) for line in text().splitlines()]
    first, last = objects[0], objects[-1]
    rows = {row["service"]: row for row in first["circuit_breakers"]}
    assert (rows["finnhub"]["state"], rows["finnhub"]["not_in_plan"]) == ("open", [])
    assert "does not answer" in last["error"]


def test_on_a_terminal_the_table_stays_in_its_place_in_colour(environment):
    with watching(environment, terminal=True) as (process, text):
        wait_for(lambda: text().count("alpha_vantage") >= 3, 30, "it is drawn again")
        assert COLOUR.search(text())
        assert "\x1b[1A" in text(), "over what was there"
        assert interrupted(process) == 0
        assert text().endswith("\x1b[?25h"), "the cursor is back"


def test_without_colour_where_that_is_asked_for(environment):
    with watching(environment | {"NO_COLOR": "1"}, terminal=True) as (process, text):
        wait_for(lambda: text().count("alpha_vantage") >= 2, 30, "it is drawn again")
        assert interrupted(process) == 0
        assert not COLOUR.search(text())


def test_one_list_has_no_colour_without_a_terminal(environment):
    assert "\x1b" not in listed(environment)
