"""Messages and results of somebody who may write to the broker: nothing of them is code, no worker ends."""

from __future__ import annotations

import json
import os
import pickle
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from celery import Celery
from celery.exceptions import SecurityError
from kombu.exceptions import DecodeError

from resilience import get_circuit_breaker
from resilience.states import ParkedStates
from tests.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fleet import Fleet

# A module that can be imported where the worker runs, and leaves a trace.
CANARY = """\
import pathlib
pathlib.Path("imported").touch()
def act(*_, **__):
    pathlib.Path("ran").touch()
"""
SIGNATURE = {
    "task": "canary.act",
    "args": [],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
    "immutable": True,
}


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    return request.param


class Touch:
    """What makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.file}",)


def embed(**callbacks: Any) -> str:
    return json.dumps([[7], {}, callbacks])


def hostile(trace: Path) -> list[tuple[str, dict[str, Any], str | bytes, str]]:
    """Task, headers, body, content type."""
    kind, good = "application/json", embed()
    pickled = pickle.dumps(Touch(trace))
    return [
        ("fleet.fetch", {}, pickled, "application/x-python-serialize"),
        ("fleet.bare", {}, pickled, "application/x-python-serialize"),
        ("fleet.bare", {}, b"\x80", "application/data"),
        ("fleet.bare", {}, "{}", kind),
        ("fleet.fetch", {}, embed(callbacks=[SIGNATURE], errbacks=[SIGNATURE]), kind),
        ("fleet.fetch", {}, embed(chain=[SIGNATURE], chord=SIGNATURE), kind),
        ("fleet.fetch", {}, embed(callbacks=[SIGNATURE | {"subtask_type": "canary"}]), kind),
        ("canary.act", {}, good, kind),
        ("canary", {}, good, kind),
        ("canary.act", {"id": None}, good, kind),
        ("fleet.fetch", {"task": ["canary.act"]}, good, kind),
        ("fleet.fetch", {"task": {"canary": "act"}}, good, kind),
        ("fleet.fetch", {"timelimit": [1]}, good, kind),
        ("fleet.fetch", {"retries": "many"}, good, kind),
        ("fleet.fetch", {"stamps": [1], "stamped_headers": "canary"}, good, kind),
        ("fleet.fetch", {"stamps": {}, "stamped_headers": [{"canary": "act"}]}, good, kind),
        ("fleet.bare", {"stamped_headers": [["canary"]]}, good, kind),
        ("fleet.fetch", {"id": "\ud800"}, good, kind),
        ("canary.act", {"id": "\ud800"}, good, kind),
        ("fleet.fetch", {"shadow": {"canary": "act"}}, good, kind),
        ("fleet.bare", {"group": ["canary.act"], "root_id": 5}, good, kind),
    ]


def test_nothing_of_a_message_is_code_and_no_worker_ends(
    make_fleet: Callable[..., Fleet], broker: str
) -> None:
    fleet = make_fleet(threshold=1, timeout=600)
    (fleet.folder / "canary.py").write_text(CANARY)
    fleet.app  # noqa: B018 - registers the circuits
    worker = fleet.worker().ready()
    family = {worker.process.pid, *(child.pid for child in worker.children())}
    for word in ("refused", "run"):
        breaker = get_circuit_breaker("dead")
        breaker.force_open(600, word) if word == "refused" else breaker.reset(word)
        with fleet.app.app.producer_pool.acquire() as producer:
            messages = hostile(fleet.folder / "unpickled")
            if (
                broker == "rabbitmq"
            ):  # kombu's transport for Redis ends with the worker, by what is no message
                odd = {"odd": {"__type__": "canary", "__value__": 1}}
                messages.append(("fleet.fetch", odd, embed(), "application/json"))
            for place, (task, headers, body, kind) in enumerate(messages):
                told = {"task": task, "id": f"{word}-{place}", "lang": "py"} | headers
                producer.publish(
                    body,
                    exchange="",
                    routing_key="work",
                    content_type=kind,
                    content_encoding="utf-8",
                    headers={name: value for name, value in told.items() if value is not None},
                )
        good = fleet.app.fetch.delay(8)
        expected = "PARKED" if word == "refused" else "SUCCESS"
        wait_for(lambda good=good, expected=expected: good.state == expected, 60, f"the next is {word}")
    wait_for(lambda: fleet.circuit()["parked"] == 0, 60, "what was parked leaves")
    wait_for(lambda: fleet.queued() == 0, 60, "the queue empties")
    assert {worker.process.pid, *(child.pid for child in worker.children())} == family
    assert psutil.pid_exists(worker.process.pid)
    assert fleet.app.fetch.delay(9).get(timeout=30) == 9
    traces = [name for name in ("imported", "ran", "unpickled") if (fleet.folder / name).exists()]
    assert traces == []


@pytest.fixture
def reader(valkey: Any) -> Celery:
    """An app that reads results, as the system's does."""
    url = f"redis://127.0.0.1:{valkey.port}/12"
    app = Celery("reader", broker=url, backend=url, set_as_current=False)
    app.conf.accept_content = ["json"]
    yield app
    app.backend.client.connection_pool.disconnect()
    app.close()


def test_nothing_of_a_result_is_code_and_one_that_cannot_be_read_keeps_no_other_back(
    reader: Celery, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    commanded = {"exc_type": "system", "exc_module": "os", "exc_message": [f"touch {trace}"]}
    written = {
        "pickled": pickle.dumps(Touch(trace)),
        "commanded": json.dumps({"status": "FAILURE", "result": commanded, "task_id": "commanded"}),
        "odd": json.dumps(["odd"]),
        "stateless": json.dumps({"result": 1}),
        "good": json.dumps({"status": "SUCCESS", "result": 1, "task_id": "good"}),
    }
    for ident, text in written.items():
        reader.backend.client.set(reader.backend.get_key_for_task(ident), text, ex=60)
    with pytest.raises((DecodeError, UnicodeDecodeError)):
        _ = reader.AsyncResult("pickled").state
    with pytest.raises(SecurityError):
        _ = reader.AsyncResult("commanded").state
    found = ParkedStates().final(reader.backend, list(written))
    assert {ident: meta["status"] for ident, meta in (found or {}).items()} == {
        **dict.fromkeys(("pickled", "commanded", "odd", "stateless"), "FAILURE"),
        "good": "SUCCESS",
    }
    assert not trace.exists()
