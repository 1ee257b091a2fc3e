"""What a message must look like, and what becomes of one that passes for good and is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.worker.request import Request
from kombu.message import Message

from resilience import install
from resilience.messages import LARGEST, fields_of, guard
from resilience.parking import Stored
from tests.fleet import wait_for


@pytest.fixture
def app() -> Celery:
    app = Celery("unit", backend="cache+memory://", set_as_current=False)

    @app.task(name="unit.task", shared=False)
    def task() -> None:
        """Does nothing."""

    install(app, store="memory://")
    app.finalize()
    at_once = SimpleNamespace(do=lambda act, then: then(act()))  # in a worker beside its loop
    app.resilience_gate = SimpleNamespace(ending=at_once)
    return app


def message(headers: dict[str, Any], body: str = "[[], {}, {}]", **more: Any) -> Message:
    told = {"content_type": "application/json", "content_encoding": "utf-8", "accept": {"application/json"}}
    return Message(body=body, headers=headers, **(told | more))


class Worker:
    """What of a worker a message meets on its way to the pool; the pool takes nothing."""

    def __init__(self, app: Celery, error: Exception) -> None:
        self.error, self.free = error, 0
        self.left: list[str] = []
        self.pool = SimpleNamespace(_pool=SimpleNamespace(_cache={1: self}))
        self.controller = SimpleNamespace(_process_task=self.hand_over, _quick_release=self.release)
        self.app, self.strategies = app, {}
        self.task_consumer = SimpleNamespace(channel=None)
        self.on_unknown_task = self.on_unknown_message = None
        self.correlation_id, self._write_to = "a", None

    def hand_over(self, _: object) -> None:
        raise self.error

    def release(self) -> None:
        self.free += 1

    def ready(self) -> bool:
        return False

    def discard(self) -> None:
        self.pool._pool._cache.clear()

    def rejects(self, _logger: object, _errors: object, requeue: bool) -> None:  # noqa: FBT001 - Celery's signature
        self.left.append("requeued" if requeue else "rejected")


@pytest.mark.parametrize("error", [RecursionError(), OverflowError("int too large"), TypeError("odd")])
def test_what_the_pool_cannot_take_ends_alone_and_leaves_its_place_to_the_next(
    app: Celery, error: Exception
) -> None:
    worker = Worker(app, error)
    guard(worker)
    request = Request(
        message({"task": "unit.task", "id": "a"}),
        app=app,
        on_reject=worker.rejects,
        task=app.tasks["unit.task"],
    )
    worker.controller._process_task(request)
    assert (worker.free, worker.left, worker.pool._pool._cache) == (1, ["rejected"], {})
    wait_for(lambda: app.backend.get_state("a") == "FAILURE", 5, "its sender is told")


def test_a_lost_connection_is_no_fault_of_the_message(app: Celery) -> None:
    worker = Worker(app, ConnectionError("gone"))
    guard(worker)
    with pytest.raises(ConnectionError):
        worker.controller._process_task(None)
    assert worker.left == []


def test_what_fits_is_let_through(app: Celery) -> None:
    """Every shape that Celery's own senders write, and what other languages' do."""
    worker = Worker(app, ValueError())
    seen: list[Any] = []
    worker.strategies = {"unit.task": lambda message, *_: seen.append(message)}
    guard(worker)
    fitting: list[tuple[dict[str, Any], str]] = [
        ({"retries": None, "timelimit": [None, None], "group_index": 0}, "[[], {}, null]"),
        ({"retries": 1.0, "timelimit": [LARGEST, 0.5]}, '[[1], {"a": null}, {"callbacks": null}]'),
        ({"timelimit": []}, '[[], {}, {"chain": [{"task": "x", "args": []}], "chord": {"task": "x"}}]'),
        ({"eta": "2026-11-29T12:00:00Z", "expires": "9999-12-31T23:59:59.999999+00:00"}, "[[], {}, {}]"),
        ({"expires": "2026-11-29T12:00:00"}, f"[[{'[' * 200}{']' * 200}], {{}}, {{}}]"),
        ({"stamped_headers": ["x"], "stamps": {"x": ["1", 2]}}, "[[], {}, {}]"),
    ]
    for headers, body in fitting:
        told = message({"task": "unit.task", "id": "a:b"} | headers, body, properties={"priority": 3})
        worker.strategies["unit.task"](told, None)
    assert len(seen) == len(fitting)


def test_only_a_brokers_own_headers_are_left_behind() -> None:
    deaths = [
        f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")
    ]
    own = dict.fromkeys(["compression", "x-death", *deaths], "x")
    theirs = dict.fromkeys(["compression-level", "x-death-notes", "x-first-death-wish", "x-last-death-"], "x")
    kept = {"task": "t", "id": "a"} | theirs
    assert Stored.of(message(kept | own | {"compression": None})).headers == kept


@pytest.mark.parametrize(
    ("headers", "body", "fields"),
    [
        ({"task": "t", "id": "a"}, "[[], {}, {}]", {"task": "t", "id": "a"}),
        ({}, '{"task": "t", "id": "a", "args": []}', {"task": "t", "id": "a", "args": []}),
        ({"task": "t", "x": 1}, ' {"id": "a", "args": []}', {"task": "t", "id": "a", "args": [], "x": 1}),
        ({"task": "t", "id": "a"}, '{"id": "b"}', {"task": "t", "id": "a"}),
    ],
)
def test_fields_are_where_the_protocol_has_them(
    headers: dict[str, Any], body: str, fields: dict[str, Any]
) -> None:
    assert fields_of(message(headers, body)) == fields
    stored = Stored("a", body, "application/json", "utf-8", headers, {}, "", "q")
    assert stored.fields == fields
    assert Stored.read(b"a", stored.dump().encode()).fields == fields
