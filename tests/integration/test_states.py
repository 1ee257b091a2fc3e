"""The state PARKED in a real result backend, where a copy of the task ends at the same moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from resilience.parking import Stored
from resilience.states import ParkedStates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# Celery's own backend writes with it.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")


@pytest.fixture(params=["valkey", "redis_server"])
def app(request: pytest.FixtureRequest) -> Iterator[Celery]:
    url = f"redis://127.0.0.1:{request.getfixturevalue(request.param).port}/12"
    app = Celery("states", broker=url, backend=url, set_as_current=False)
    app.backend.client.flushdb()
    yield app
    app.close()


def between(states: ParkedStates, backend: Any, *acts: Callable[[], object]) -> None:
    """Let others act after what is present was read, and before anything is written."""
    quick, left = states._quick_one(backend), list(acts)
    mget = quick.mget

    def interrupted(keys: list[Any]) -> Any:
        present = mget(keys)
        if left:
            left.pop(0)()
        return present

    quick.mget = interrupted


def messages(*ids: str) -> list[tuple[Stored, dict[str, Any]]]:
    return [(Stored(i, "[]", "application/json", "utf-8", {}, {}, "", "q"), {"service": "a"}) for i in ids]


def test_a_task_that_ends_while_a_copy_of_it_is_parked_keeps_its_result(app: Celery) -> None:
    states, backend = ParkedStates(), app.backend
    batch = messages("ends", "waits")
    states.write(backend, batch)
    between(states, backend, lambda: backend.store_result("ends", 7, "SUCCESS"))
    states.write(backend, batch)
    assert (app.AsyncResult("ends").state, app.AsyncResult("ends").result) == ("SUCCESS", 7)
    assert app.AsyncResult("waits").state == "PARKED"
    assert backend.client.ttl(backend.get_key_for_task("waits")) > backend.expires - 60


def test_what_another_copy_waits_for_is_read_again_and_written_over(app: Celery) -> None:
    states, backend = ParkedStates(), app.backend
    heard = backend.client.pubsub()
    heard.psubscribe("*")
    between(
        states,
        backend,
        lambda: backend.store_result("new", None, "STARTED"),
        lambda: backend.store_result("new", None, "RETRY"),
    )
    states.write(backend, messages("new"))
    assert app.AsyncResult("new").state == "PARKED"
    told = [message for _ in range(8) if (message := heard.get_message(timeout=0.2))]
    assert sum(b"PARKED" in message["data"] for message in told if message["type"] == "pmessage") == 1


def test_a_state_that_always_changes_is_left_to_the_others(app: Celery, caplog: Any) -> None:
    states, backend = ParkedStates(), app.backend
    acts = [lambda n=n: backend.store_result("busy", n, "STARTED") for n in range(9)]
    between(states, backend, *acts)
    states.write(backend, messages("busy"))
    assert app.AsyncResult("busy").state == "STARTED"
    assert caplog.records == []


def test_a_backend_that_is_gone_is_left_alone_and_no_other(app: Celery) -> None:
    states, backend = ParkedStates(), app.backend
    gone = type(backend)(app=app, url="redis://127.0.0.1:1/0")
    assert states.final(gone, ["a"]) is None
    states._leave_alone(gone, time.monotonic() - 1)  # as if it had hung
    assert states.rests(type(backend)(app=app, url="redis://127.0.0.1:1/0"))  # another thread's
    backend.store_result("a", 1, "SUCCESS")
    found = states.final(backend, ["a"])
    assert found is not None
    assert found["a"]["result"] == 1
