"""``install``: what it refuses, and that it may come before the app's configuration."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from resilience import CIRCUIT_BREAKERS, CircuitBreaker, ResilientTask, install
from resilience.errors import ConfigurationError
from resilience.gate import gate_of
from resilience.install import _use_own_store
from resilience.publishing import EVERY_SECONDS, TASK_NAME
from resilience.stores import MemoryStore, default_store, set_default_store
from resilience.supported import SUPPORTED


@pytest.fixture(autouse=True)
def _default_store() -> Any:
    before = default_store()
    yield
    set_default_store(before)


def app(broker: str | None = None, **conf: Any) -> Celery:
    made = Celery("install", broker=broker, set_as_current=False)
    made.conf.update(conf)
    return made


BAD = [
    {"accept_content": ["json", "pickle"]},
    {"accept_content": ["application/x-python-serialize", "application/json"]},
    {"accept_content": "pickle"},
    {"task_serializer": "pickle"},
    {"task_serializer": "yaml"},
]


@pytest.mark.parametrize("bad", BAD)
def test_what_is_no_json_is_refused_where_the_app_is_made(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="JSON only"):
        install(app(**bad), store="memory://")


@pytest.mark.parametrize("bad", BAD)
def test_or_before_its_worker_takes_a_message(bad: dict[str, Any]) -> None:
    """The configuration may be read after ``install``."""
    for configure in (lambda made: made.conf.update(bad), lambda made: made.config_from_object(bad)):
        made = install(app(), store="memory://")
        configure(made)
        with pytest.raises(ConfigurationError, match="JSON only"):
            gate_of(made).check()


def test_install_reads_no_configuration() -> None:
    made = install(app(), store="memory://")
    assert not made.configured
    made.conf.task_default_queue = "mine"
    made.config_from_object({"worker_prefetch_multiplier": 7})
    assert (made.conf.task_default_queue, made.conf.worker_prefetch_multiplier) == ("mine", 7)


def called() -> None:
    """A task's body."""


MINE = {"mine": {"task": "x", "schedule": 5}}


@pytest.mark.parametrize(
    "configure",
    [
        lambda made: made.conf.update(beat_schedule=dict(MINE)),
        lambda made: made.config_from_object({"beat_schedule": dict(MINE)}),
        lambda made: (made.conf.timezone, made.config_from_object({"beat_schedule": dict(MINE)})),
        lambda made: (made.conf.timezone, made.conf.update(beat_schedule=dict(MINE))),
        lambda made: made.add_periodic_task(5, made.signature("x"), name="mine"),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_the_publishing_job_is_on_the_schedule_whenever_that_is_set(configure: Any, before: bool) -> None:  # noqa: FBT001 - a parameter
    made = app()
    if before:
        install(made, store="memory://")
    configure(made)
    if not before:
        install(made, store="memory://")
    made.finalize()
    assert set(made.conf.beat_schedule) == {"mine", TASK_NAME}


def test_an_entry_of_the_users_own_for_it_is_kept() -> None:
    made = install(app(beat_schedule={TASK_NAME: {"task": TASK_NAME, "schedule": 60}}), store="memory://")
    made.finalize()
    assert made.conf.beat_schedule[TASK_NAME]["schedule"] == 60


def test_the_publishing_job_expires_whoever_sends_it() -> None:
    """django-celery-beat keeps no ``expires`` of an entry's options."""
    made = install(app("memory://"), store="memory://")
    made.finalize()
    made.conf.task_default_queue = "publishing"
    made.tasks[TASK_NAME].apply_async()
    with made.connection_for_read() as connection:
        [message] = iter(lambda: made.amqp.queues["publishing"](connection.channel()).get(no_ack=True), None)
    left = datetime.fromisoformat(message.headers["expires"]) - datetime.now(UTC)
    assert timedelta() < left <= timedelta(seconds=EVERY_SECONDS * 2)


@pytest.mark.parametrize("url", [*(f"{name}://host" for name in SUPPORTED), "redis+socket:///tmp/r"])
def test_a_supported_transport_is_taken_without_a_word(url: str, caplog: pytest.LogCaptureFixture) -> None:
    install(app(url), store="memory://")
    assert [record for record in caplog.records if "transport" in record.getMessage()] == []


@pytest.mark.parametrize("url", ["nosuch://user:secret@host", "redis://a;nosuch://user:secret@b"])
def test_an_unknown_transport_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigurationError, match="transport 'nosuch' is unknown") as refused:
        install(app(url), store="memory://")
    assert "secret" not in str(refused.value)
    made = install(app(), store="memory://")
    made.config_from_object({"broker_url": url})
    with pytest.raises(ConfigurationError, match="'nosuch'"):
        gate_of(made).check()


def test_one_that_cannot_tell_what_has_arrived_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'qpid' cannot be used"):
        install(app("qpid://host"), store="memory://")


def test_an_untested_one_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        install(app("mongodb://host/db"), store="memory://")
    [line] = [record for record in caplog.records if "untested" in record.getMessage()]
    assert "'mongodb'" in line.getMessage()
    assert line.levelno == logging.WARNING


def test_a_circuit_with_a_store_of_its_own_is_none_of_a_task() -> None:
    """The task would be let go by the one and refused by the other, for ever."""
    made = install(app(), store="memory://")
    CIRCUIT_BREAKERS["elsewhere"] = CircuitBreaker("elsewhere", store=MemoryStore())
    try:
        made.task(base=ResilientTask, service="elsewhere", shared=False, name="of_elsewhere")(called)
        with pytest.raises(ConfigurationError, match="'elsewhere' has another store"):
            gate_of(made).check()
        CIRCUIT_BREAKERS["elsewhere"] = CircuitBreaker("elsewhere", store=gate_of(made).store)
        gate_of(made).check()
    finally:
        del CIRCUIT_BREAKERS["elsewhere"]


def test_the_name_of_one_service_stands_for_it_alone() -> None:
    """As a tuple of one is easily written; its letters are no services."""
    made = install(app(), store="memory://")
    made.task(base=ResilientTask, services="zx", shared=False, name="of_one_service")(called)
    made.finalize()
    assert made.tasks["of_one_service"].services == ("zx",)
    assert not {"z", "x"} & CIRCUIT_BREAKERS.keys()


def test_each_apps_tasks_have_their_own_apps_store() -> None:
    first = install(app(task_always_eager=True), store=MemoryStore())
    second = install(app(task_always_eager=True), store=MemoryStore())

    def trip() -> None:
        raise ConnectionError

    for made in (first, second):
        made.task(base=ResilientTask, service="dead", shared=False, name="of_two_stores")(trip)
        made.finalize()
    first.tasks["of_two_stores"].apply()
    breaker = CIRCUIT_BREAKERS["dead"]
    failures = [gate_of(made).store.read(["dead"])["dead"].failures_total for made in (first, second)]
    assert failures == [1, 0]
    assert breaker.read().failures_total == 0, "outside of a task: the last that was installed"
    _use_own_store(SimpleNamespace(app=first))
    assert breaker.read().failures_total == 1, "in a worker: its app's"
