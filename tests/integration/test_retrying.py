"""``self.retry()`` in a body, and a task called as a function: Celery's own, with real workers."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import Task, chunks, xmap, xstarmap

from resilience import ConfigurationError, ResilientTask, get_circuit_breaker
from tests.fleet import fleet as new_fleet
from tests.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.fleet import Fleet


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One worker for all: each test has notes of its own. The circuits never open."""
    with new_fleet(tmp_path_factory.mktemp("fleet"), None, threshold=100) as made:
        made.worker("-Q", "work,aside").ready()
        yield made


def end_of(result: Any) -> str:
    wait_for(result.ready, 30, "it ends")
    return str(result.state)


def notes(fleet: Fleet, name: str) -> list[str]:
    return fleet.provider.lrange(name, 0, -1)  # type: ignore[return-value]


def failures(service: str) -> int:
    return get_circuit_breaker(service).read().failures_total


def test_a_poll_says_nothing_of_the_service_and_spends_no_attempt(fleet: Fleet) -> None:
    before = failures("other")
    assert fleet.app.poll.delay(8).get(timeout=30) == 8
    assert notes(fleet, "polled") == [str(number) for number in range(9)]
    assert failures("other") == before


def test_the_lot_holds_the_changed_arguments(fleet: Fleet) -> None:
    assert fleet.app.pages.delay().get(timeout=30) == [2, 20, 2]


def test_the_lot_holds_the_changed_options(fleet: Fleet) -> None:
    sent = fleet.app.moved.apply_async(argsrepr="<hidden>")
    assert sent.get(timeout=30) == {
        "queue": "aside",
        "priority": 3,
        "colour": "red",
        "shadow": "moved aside",
        "limits": [90, 80],
        "expires": True,
        "parent": None,
        "args": "<hidden>",
    }


def test_spent_retries_are_told_to_the_body(fleet: Fleet) -> None:
    retries, told = fleet.app.gives_up.delay().get(timeout=30)
    assert retries == 2
    assert "Can't retry fleet.gives_up" in told


@pytest.mark.parametrize(
    ("how", "error", "counted"),
    [
        ("poll", "MaxRetriesExceededError", 0),
        ("own", "ValueError", 0),  # expected_exception is OSError
        ("service", "MaxRetriesExceededError", 3),  # the exception that is being handled
    ],
)
def test_a_retry_is_judged_by_its_exception_and_ends_with_max_retries(
    fleet: Fleet, how: str, error: str, counted: int
) -> None:
    before = failures("picky")
    result = fleet.app.in_vain.delay(how)
    assert end_of(result) == "FAILURE"
    assert type(result.result).__name__ == error
    assert notes(fleet, "in_vain").count(how) == 3
    assert failures("picky") - before == counted


def test_autoretry_is_judged_by_its_exception(fleet: Fleet) -> None:
    before = failures("picky")
    assert end_of(fleet.app.by_itself.delay()) == "FAILURE"
    assert len(notes(fleet, "by_itself")) == 3
    assert failures("picky") == before


def test_a_body_that_goes_on_after_retry_ends_as_it_ends(fleet: Fleet) -> None:
    before = failures("picky")
    assert fleet.app.goes_on.delay().get(timeout=30) == "done"
    wait_for(lambda: notes(fleet, "goes_on") == ["0", "1", "2"], 30, "its retries run")
    assert failures("picky") - before == 2


@pytest.mark.parametrize(
    ("how", "error"),
    [("arguments", "Reject"), ("pause", "ConfigurationError"), ("map", "ConfigurationError")],
)
def test_a_mistake_in_the_call_ends_the_task_and_says_nothing_of_the_service(
    fleet: Fleet, how: str, error: str
) -> None:
    before = failures("picky")
    result = fleet.app.mistaken.delay(how)
    assert end_of(result) == "FAILURE"
    assert type(result.result).__name__ == error
    assert notes(fleet, "mistaken").count(how) == 1
    assert failures("picky") == before


def test_in_eager_mode_it_is_celerys_own_way(fleet: Fleet) -> None:
    app, before = fleet.app, failures("picky")
    assert app.poll.apply((3,)).get() == 3
    assert app.pages.apply().get() == [2, 20, 2]
    assert app.gives_up.apply().get()[0] == 2
    assert app.goes_on.apply().get() == "done"
    assert app.by_itself.apply().state == "FAILURE"
    assert failures("picky") - before == 1  # as goes_on says


def test_hook_and_signal_of_a_retry_run(fleet: Fleet) -> None:
    result = fleet.app.told.delay(7)
    assert result.get(timeout=30) == 7
    [told] = notes(fleet, "retried")
    assert json.loads(told) == ["KeyError(7)", result.id, [7], {}, "Traceback"]
    assert f"{result.id} Retry in 0.05s: KeyError(7)" in notes(fleet, "signalled")


def test_a_task_that_calls_itself_is_one_call_with_requests_of_their_own(fleet: Fleet) -> None:
    breaker = get_circuit_breaker("other")
    breaker.override({"max_concurrent": 1}, 60)
    before = breaker.read().allowed_total
    told = fleet.app.down_to.delay(2).get(timeout=30)
    assert told == [[2], [1], [0]]
    assert breaker.read().allowed_total - before == 1
    breaker.end_override()


def test_a_retry_where_the_task_is_called_as_a_function_has_the_arguments_of_that_call(fleet: Fleet) -> None:
    assert fleet.app.within.delay(2).get(timeout=30) == [0, 1]


def test_a_header_cannot_lead_past_the_circuit(fleet: Fleet) -> None:
    before = get_circuit_breaker("other").read().allowed_total
    headers = {"permit": "x", "asked": "y", "service": "z"}
    assert fleet.app.poll.apply_async((1,), headers=headers).get(timeout=30) == 1
    assert get_circuit_breaker("other").read().allowed_total - before == 2


@pytest.mark.parametrize("how", ["chunks", "map", "starmap"])
def test_many_calls_in_one_message_are_refused(fleet: Fleet, how: str) -> None:
    task = fleet.app.fetch
    with pytest.raises(ConfigurationError, match="group"):
        getattr(task, how)([(1,)], *([1] if how == "chunks" else []))
    messages: dict[str, Callable[[], Any]] = {
        "chunks": lambda: chunks(task.s(), [(1,)], 1).group().apply_async().results[0],
        "map": lambda: xmap(task.s(), [1]).apply_async(),
        "starmap": lambda: xstarmap(task.s(), [(1,)]).apply_async(),
    }
    before = len(fleet.calls())
    result = messages[how]()  # another process has sent it
    assert end_of(result) == "FAILURE"
    assert "fleet.fetch" in str(result.result)
    assert len(fleet.calls()) == before


def test_a_call_of_the_apps_own_leads_through_the_circuit(fleet: Fleet) -> None:
    app = fleet.app.app

    def sized(items: list[int]) -> int:
        return len(items)

    class Past(ResilientTask):
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with contextlib.nullcontext():  # an application context
                return self.run(*args, **kwargs)

    class Through(ResilientTask):
        abstract = True

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            self.seen = args
            return super().__call__(*args, **kwargs)

    class Plain(Task):
        abstract = True
        __call__ = Past.__call__

    class Never(ResilientTask, Plain):
        abstract = True

    for base, problem in ((Past, "past the circuit"), (Never, "never called")):
        with pytest.raises(ConfigurationError, match=problem):
            type(base.__name__, (base,), {"name": "own", "service": "dead"}).on_bound(app)  # type: ignore[attr-defined]
    app.task(base=Through, service="dead", shared=False, name="own.Through")(sized)
    assert app.tasks["own.Through"].apply(((),)).get() == 0
    assert app.tasks["own.Through"].seen == ((),)


def test_an_outage_spends_no_retry(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(threshold=2, timeout=0.1, probes=1)
    fleet.worker(concurrency=1).ready()
    fleet.mode("down")
    others = [fleet.app.fetch.delay(number) for number in range(2)]
    wait_for(lambda: fleet.circuit()["trips_total"], 30, "the circuit opens")
    result = fleet.app.flaky.delay(5)  # it may be retried twice
    wait_for(lambda: fleet.calls().count(result.id) > 3, 60, "its probes fail")
    lot = get_circuit_breaker("dead").store.lot
    assert lot is not None

    def waiting() -> list[int]:
        return [
            one.message.headers["retries"] for one in lot.waiting("dead", 9) if one.message.id == result.id
        ]

    assert wait_for(waiting, 30, "it waits") == [0]
    fleet.mode("ok")
    assert [one.get(timeout=60) for one in (result, *others)] == [5, 0, 1]


def test_a_retry_without_a_lot_is_an_eta_of_the_changed_message(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet()
    fleet.worker(concurrency=1, store="memory://").ready()
    assert fleet.app.pages.delay(1).get(timeout=30) == [2, 10, 1]


@pytest.mark.parametrize("broker", ["rabbitmq"])
def test_the_changed_message_goes_to_its_queue_on_rabbitmq(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet()
    fleet.worker("-Q", "work,aside", concurrency=1).ready()
    assert fleet.app.moved.delay().get(timeout=30)["queue"] == "aside"
    assert fleet.app.pages.delay().get(timeout=30) == [2, 20, 2]
