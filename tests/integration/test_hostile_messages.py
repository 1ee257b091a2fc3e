"""Messages and results of somebody who may write to the broker: nothing of them is code, no worker ends."""

from __future__ import annotations

import json
import os
import pickle
import sys
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
    from collections.abc import Callable, Iterator
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


def nested(levels: int, leaf: Any = 1) -> Any:
    value = leaf
    for _ in range(levels):
        value = [value]
    return value


def malformed(broker: str) -> list[tuple[str, dict[str, Any], dict[str, Any], str]]:
    """Header, property and body of messages each of which ended a worker, or made a spin of its own."""
    huge = 10**400 if broker == "redis" else 2**62
    numbers = [huge, -1, True, [1]] + ([float("nan"), float("inf")] if broker == "redis" else [])
    headers: list[dict[str, Any]] = [
        *({name: odd} for name in ("retries", "group_index", "replaced_task_nesting") for odd in numbers),
        *({"timelimit": pair} for odd in numbers for pair in ([odd, None], [None, odd])),
        {"deep": nested(800)},
        {"stamps": {"deep": nested(800)}},
        *({"eta": text} for text in ("9999-12-31T23:59:59", "0001-01-01T00:00:00+14:00", "", "never")),
        *({"expires": text} for text in ("2026-01-01T00:00:00+99:99", "", "\u0663")),
        {"stamped_headers": ["x", 5], "stamps": {"x": 1}},
        *({"compression": name} for name in ("application/x-gzip", "application/x-unknown")),
    ]
    properties: list[dict[str, Any]] = []
    if broker == "redis":  # AMQP has a type for each
        odd = (5, ["x"], {"x": 1})
        properties = [{name: value} for name in ("reply_to", "correlation_id") for value in odd]
        properties += [{"priority": value} for value in ("high", huge, [1])]
        properties += [{"deep": nested(800)}]
    signature = {"task": "fleet.bare"}
    embedded = [
        *({"errbacks": odd} for odd in (5, "x", signature, ["x"], [{}])),
        *({"callbacks": odd} for odd in (5, [signature, None])),
        *({"chain": 5}, {"chord": 5}, {"chord": [signature]}, {"chain": nested(800)}),
    ]
    bodies = [
        *(json.dumps([[1], {}, one]) for one in embedded),
        f"[{json.dumps([nested(800)])}, {{}}, null]",
        f'[[], {{"a": {json.dumps(nested(800))}}}, null]',
        f"[[{'[' * 5000}{']' * 5000}], {{}}, null]",
        f"[[1{'0' * 5000}], {{}}, null]",
    ]
    return (
        [("fleet.bare", header, {}, embed()) for header in headers]
        + [("fleet.fetch", {}, one, embed()) for one in properties]
        + [("fleet.fetch", {}, {}, body) for body in bodies]
    )


@pytest.fixture
def deep() -> Iterator[None]:
    """The sender writes what is nested deeper than others read."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("deep")
def test_what_would_end_a_worker_is_refused_and_its_sender_told(
    make_fleet: Callable[..., Fleet], broker: str
) -> None:
    fleet = make_fleet(threshold=1, timeout=600)
    fleet.app  # noqa: B018 - registers the circuits
    worker = fleet.worker(concurrency=1).ready()
    family = {worker.process.pid, *(child.pid for child in worker.children())}
    messages = malformed(broker)
    with fleet.app.app.producer_pool.acquire() as producer:
        for place, (task, headers, properties, body) in enumerate(messages):
            producer.publish(
                body,
                exchange="",
                routing_key="work",
                content_type="application/json",
                content_encoding="utf-8",
                headers={"task": task, "id": f"odd-{place}", "lang": "py"} | headers,
                **properties,
            )
    assert fleet.app.fetch.delay(8).get(timeout=60) == 8
    wait_for(lambda: fleet.queued() == 0, 30, "the queue empties")
    told = {place: fleet.app.app.AsyncResult(f"odd-{place}").state for place in range(len(messages))}
    assert {place: messages[place] for place, state in told.items() if state != "FAILURE"} == {}
    assert {worker.process.pid, *(child.pid for child in worker.children())} == family


@pytest.mark.usefixtures("deep")
def test_what_cannot_even_be_read_is_dropped_and_keeps_no_other_back(
    make_fleet: Callable[..., Fleet], broker: str
) -> None:
    """The broker's own client would end its worker by it; on Redis anybody's text may lie in a queue."""
    fleet = make_fleet()
    worker = fleet.worker(concurrency=1).ready()
    headers = {"task": "fleet.fetch", "id": "deep", "lang": "py", "deep": nested(3000)}
    with fleet.app.app.producer_pool.acquire() as producer:
        producer.publish(embed(), exchange="", routing_key="work", serializer="json", headers=headers)
    if broker == "rabbitmq":
        with fleet.app.app.producer_pool.acquire() as producer:
            told = {"task": "fleet.fetch", "id": "no text", "lang": "py", "odd": b"\x8d"}
            producer.publish(embed(), exchange="", routing_key="work", serializer="json", headers=told)
    if broker == "redis":
        tag, place = '"1"', '{"exchange": "", "routing_key": "work"}'
        good = f'"properties": {{"delivery_tag": {tag}, "delivery_info": {place}'
        lines = ["", "no JSON", "5", "[]", "{}", '{"properties": []}', f'{{"x": 1{"0" * 5000}}}', b"\xff"]
        lines += [f'{{"body": "x", "headers": [1], {good}}}}}']
        lines += [f'{{"body": "x", {good}, "body_encoding": "rot13"}}}}']
        lines += [f'{{"body": "x", {good.replace(tag, odd)}}}}}' for odd in ("null", "[]", '{"x": 1}')]
        fleet.broker.lpush("work", *lines)
    assert fleet.app.fetch.delay(8).get(timeout=60) == 8
    assert worker.process.poll() is None
    wait_for(lambda: fleet.queued() == 0, 30, "the queue empties")


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
