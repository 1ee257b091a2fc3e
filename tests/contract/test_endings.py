"""How a task ends where the main process ends it: its attempts, its hooks, and whom a signal is blamed on."""

from __future__ import annotations

import itertools
import signal
import sys
import threading
import time
import types

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celery.worker import state as worker_state
from kombu.exceptions import EncodeError

from resilience import Policy, ResilientTask, get_circuit_breaker, install, set_default_store
from resilience.background import HANGS_SECONDS, Background
from resilience.circuit import LOST, STOPPED, CircuitState, Permit, Verdict
from resilience.ending import end
from resilience.outlet import Outlet
from resilience.parking import Lane, Stored, Waiting
from resilience.registry import CIRCUIT_BREAKERS
from resilience.request import TRIES, ResilientRequest, gate_of
from resilience.task import SOFT_LIMIT
from resilience.unwritten import BEGAN, HARD_LIMIT, Unwritten, Written

# Celery's backend says it the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

names = (f"ends-{n}" for n in itertools.count())


class Hooked(ResilientTask):
    """Keeps what its hooks are told."""

    abstract = True
    told: list[tuple[str, str, str]]
    raises = False

    def _tell(self, what: str, task_id: str) -> None:
        self.told.append((what, task_id, self.request.id))
        if self.raises:
            raise RuntimeError(what)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        self._tell(f"on_failure {type(exc).__name__} {einfo.type.__name__} {args} {kwargs}", task_id)

    def after_return(self, status, _retval, task_id, *_):
        self._tell(f"after_return {status}", task_id)


class World:
    """An app outside any worker, and messages of its one task."""

    def __init__(self, port: int) -> None:
        self.service = next(names)
        self.app = Celery(
            self.service, broker="memory://", backend=f"redis://127.0.0.1:{port}/14", set_as_current=False
        )
        install(self.app, f"redis://127.0.0.1:{port}/14")
        self.breaker = get_circuit_breaker(self.service)
        self.task = self.app.task(base=Hooked, service=self.service, name=self.service, max_attempts=3)(ask)
        self.app.finalize()
        self.task.told = []
        self.gate = gate_of(self.app)

    def stored(self, ident: str) -> Stored:
        headers = {"task": self.service, "id": ident, "root_id": ident, "parent_id": None, "group": None}
        return Stored(ident, '[[1], {"a": 2}, {}]', "application/json", "utf-8", headers, {}, "", "work")

    def request(self, ident: str) -> ResilientRequest:
        return ResilientRequest.of(self.gate, self.stored(ident))

    def state(self, ident: str) -> str:
        return self.app.AsyncResult(ident).state

    @property
    def parked(self) -> list[str]:
        return [entry.message.id for entry in self.gate.store.lot.waiting(self.service, 99)]

    def end(self, reason, *idents: str) -> list[str]:
        """As a look at the lot does."""
        lot = self.gate.store.lot
        lot.park(self.service, [Waiting(self.stored(ident), Lane.SCHEDULED) for ident in idents])
        token, messages = lot.pick(self.service, 99, idents)
        why = "overdue" if isinstance(reason, Exception) else reason
        return end(self.gate, lot, self.service, token, messages, reason, why, Outlet(self.app))


def ask(*_args, **_kwargs):
    """Never runs here."""


@pytest.fixture
def world(valkey):
    made = World(valkey.port)
    yield made
    set_default_store(None)
    CIRCUIT_BREAKERS.pop(made.service, None)
    worker_state.revoked.clear()


def test_hooks_are_called_as_celery_does_and_what_one_raises_is_nobody_elses(world):
    world.task.raises = True
    heard = []

    def hear(task_id, exception, sender, **_):
        heard.append((task_id, str(exception), sender.request.id))

    signals.task_failure.connect(hear)
    assert world.end(ValueError("late"), "a", "b") == ["a", "b"]
    failed = "on_failure ValueError ValueError [1] {'a': 2}"
    assert world.task.told == [
        (what, ident, ident) for ident in "ab" for what in (failed, "after_return FAILURE")
    ]
    assert heard == [("a", "late", "a"), ("b", "late", "b")]
    assert (world.state("a"), world.state("b")) == ("FAILURE", "FAILURE")
    assert world.parked == []


def test_what_expires_in_the_lot_is_revoked_and_its_signal_sent(world):
    heard = []

    def hear(request, expired, **_):
        heard.append((request.id, expired))

    signals.task_revoked.connect(hear)
    assert world.end("expired", "gone") == ["gone"]
    assert heard == [("gone", True)]
    assert world.task.told == []  # as in Celery


def test_one_that_cannot_be_ended_keeps_no_other_and_is_not_released(world, monkeypatch):
    write = type(world.app.backend)._store_result

    def store(self, task_id, *rest, **options):
        if task_id == "bad":
            raise OSError("no room left on the device")
        return write(self, task_id, *rest, **options)

    monkeypatch.setattr(type(world.app.backend), "_store_result", store)
    assert world.end(ValueError("late"), "bad", "good") == ["good"]
    assert world.parked == ["bad"]
    assert world.gate.store.lot.take(world.service, world.breaker.policy, 9)[1] == []  # it is leased


@pytest.mark.parametrize("refuses", ["everything for a while", "this result"])
def test_only_a_backend_that_takes_something_else_ends_a_success_as_a_failure(world, monkeypatch, refuses):
    write, ends, asked = type(world.app.backend)._store_result, [], []

    def store(self, task_id, result, state, *rest, **options):
        asked.append(state)
        # It is back the moment after the last try.
        if len(asked) <= TRIES + 1 if refuses != "this result" else state == "SUCCESS":
            raise OSError("no room left on the device")
        return write(self, task_id, result, state, *rest, **options)

    monkeypatch.setattr(type(world.app.backend), "_store_result", store)
    monkeypatch.setattr(world.gate, "finish", lambda _request, end, _then: ends.append(end))
    world.request(refuses)._write_again(Unwritten("SUCCESS", "7", None, [], publish=True, problem="gone"))
    for _ in range(TRIES if refuses == "this result" else TRIES + 1):
        with pytest.raises(OSError, match="no room"):
            ends[0]()
    ends[0]()
    assert world.state(refuses) == ("FAILURE" if refuses == "this result" else "SUCCESS")


def test_a_hard_time_limit_spends_an_attempt_and_counts_once_however_often_it_is_told(world):
    limit = TimeLimitExceeded(1)
    for attempt in (1, 2):
        request = world.request("slow")
        try:
            raise limit
        except TimeLimitExceeded:
            request.on_failure(ExceptionInfo())
        request.on_timeout(soft=False, timeout=1)
        assert world.state("slow") == "PARKED"
        assert world.breaker.read().failures_total == attempt
    world.request("slow").on_timeout(soft=False, timeout=1)
    assert world.state("slow") == "FAILURE"
    assert isinstance(world.app.AsyncResult("slow").result, TimeLimitExceeded)
    assert [what.split()[:2] for what, *_ in world.task.told] == [
        ["on_failure", "TimeLimitExceeded"],
        ["after_return", "FAILURE"],
    ]


def test_while_the_circuit_is_shut_time_limits_end_nothing(world):
    world.breaker.policy = Policy(failure_threshold=1)
    # Of others too: what fails for one alone is its own trouble.
    world.breaker.report(world.breaker.acquire(), Verdict.FAILURE, subject="another")
    for _ in range(5):
        world.request("waits").on_timeout(soft=False, timeout=1)
    assert world.state("waits") == "PARKED"
    assert world.parked == ["waits"]


@pytest.mark.parametrize("store", ["shared", "memory"])
def test_a_call_that_was_stopped_is_an_attempt_and_no_lost_process(world, store):
    if store == "memory":
        set_default_store("memory://")
        CIRCUIT_BREAKERS.pop(world.service)
    breaker = get_circuit_breaker(world.service)

    def report(how: int, verdict: Verdict) -> tuple[int, int]:
        gone = Permit(granted=True, service=world.service, state=CircuitState.CLOSED, generation=how)
        told = breaker.report(gone, verdict, owner="task", max_attempts=9)
        return told.attempts, told.losses

    assert report(STOPPED, Verdict.FAILURE) == (1, 0)
    assert report(LOST, Verdict.FAILURE) == (2, 1)
    # Which service it called is not known: an attempt it was all the same.
    assert report(STOPPED, Verdict.IGNORED) == (3, 1)


def test_an_operators_end_frees_the_place_and_blames_nobody(world):
    world.breaker.policy = Policy(max_concurrent=1, failure_threshold=1)
    assert world.breaker.acquire(owner="ended")
    assert not world.breaker.acquire(owner="next")
    request = world.request("ended")
    request._announce_revoked("terminated", terminated=True, signum=15, expired=False)
    assert world.state("ended") == "REVOKED"
    assert world.breaker.read().failures_total == 0
    assert world.breaker.acquire(owner="next")


@pytest.mark.parametrize(
    ("limit", "ago", "stopped"),
    [(None, 5, True), (10, 5, True), (10, 10, False), (10, 9.5, False), (0.5, 0.4, False)],
)
def test_a_soft_time_limit_is_told_from_an_operators_signal_by_its_time(world, limit, ago, stopped):
    began = time.monotonic() - ago
    error = ConnectionError("the client has put it into words of its own")
    error.__context__ = SoftTimeLimitExceeded()
    world.task.push_request(**{SOFT_LIMIT: limit, BEGAN: began, "service": world.service})
    try:
        assert world.task.was_stopped(error) is stopped
        assert world.task.judged(error).verdict is (Verdict.IGNORED if stopped else Verdict.FAILURE)
        assert not world.task.was_stopped(ConnectionError("of the service"))
    finally:
        world.task.pop_request()


class Loop:
    """As much of a consumer as a background thread has to do with."""

    hub = object()

    def __init__(self) -> None:
        self.called = threading.Event()

    def call_soon(self, act):
        self.act = act
        self.called.set()


def test_a_job_that_hangs_is_noticed_and_those_behind_it_can_be_skipped():
    background, loop, told, go = Background("test"), Loop(), [], threading.Event()
    background.attach(loop)
    background.do(go.wait, lambda error: told.append(("first", error)))
    background.do(lambda: told.append("ran"), lambda error: told.append(("second", error)))
    ends = time.monotonic() + 10
    while not background.hangs:
        assert time.monotonic() < ends
        time.sleep(HANGS_SECONDS / 10)
    background.skip()
    assert told == [("second", None)]
    go.set()
    assert loop.called.wait(10)
    background.collect()
    assert told == [("second", None), ("first", None)]
    assert background.idle


def test_whoever_gave_a_job_is_told_what_it_raised_and_one_that_raises_after_it_is_alone():
    background, told = Background("test"), []
    background.attach(Loop())

    def fail(error):
        told.append(repr(error))
        raise RuntimeError

    background.do(lambda: 1 / 0, fail)
    background.do(lambda: None, lambda error: told.append(repr(error)))
    background.detach()  # as a worker that stops: it waits
    assert told == ["ZeroDivisionError('division by zero')", "None"]


def test_a_task_with_a_backend_of_its_own_keeps_what_that_cannot_write_too(world):
    own = world.app.backend.__class__(app=world.app, url="redis://127.0.0.1:1/0")
    task = world.app.task(
        base=ResilientTask, service=world.service, name=f"{world.service}-own", backend=own
    )(ask)
    world.app.finalize()
    assert task.backend is own
    told = []
    task.__trace__ = lambda *_: told.append(task.backend)
    task.__trace__("id", (), {}, {})
    assert isinstance(told[0], Written)
    assert told[0].url == own.url


def test_a_write_that_hangs_ends_before_its_process_is_killed_for_it(world, monkeypatch):
    hangs, alarm = [30.0, 0.0], signal.getsignal(signal.SIGALRM)
    monkeypatch.setattr(type(world.app.backend), "_store_result", lambda *_, **__: time.sleep(hangs.pop()))
    backend, request = Written(world.app.backend), world.request("slow")._context
    request.update({HARD_LIMIT: 0.4, BEGAN: time.monotonic()})
    backend.mark_as_done("slow", 7, request)
    with pytest.raises(Unwritten, match="HangsError") as told:
        backend.mark_as_done("slow", 7, request)
    assert told.value.succeeded
    assert time.monotonic() - request.get(BEGAN) < 5
    assert signal.getsignal(signal.SIGALRM) == alarm


@pytest.mark.filterwarnings("ignore:Exception raised outside body:RuntimeWarning")
def test_what_comes_again_is_called_though_its_state_cannot_be_read(world, monkeypatch):
    called = []
    world.app.conf.worker_deduplicate_successful_tasks = True

    @world.app.task(base=ResilientTask, service=world.service, name=f"{world.service}-again")
    def task(number):
        called.append(number)

    world.app.finalize()

    def get(_self, _key):
        raise ConnectionError("refused")

    monkeypatch.setattr(type(world.app.backend), "get", get)
    task.__trace__ = build_tracer(task.name, task, app=world.app)
    request = {"id": "again", "delivery_info": {"redelivered": True}}
    told = task.__trace__("again", (7,), {}, request).info.retval
    assert called == [7]
    assert isinstance(told, Unwritten)
    assert told.succeeded


def test_a_state_that_the_body_cannot_write_is_no_failure_of_its_service(world, monkeypatch):
    def store(_self, _task_id, meta, *_rest, **_options):
        raise meta

    monkeypatch.setattr(type(world.app.backend), "_store_result", store)
    world.task.update_state("id", "PROGRESS", OSError("no room left on the device"))
    for own in (EncodeError("no JSON"), SoftTimeLimitExceeded()):
        with pytest.raises(type(own)):
            world.task.update_state("id", "PROGRESS", own)


def test_a_database_connection_that_was_dropped_is_closed_before_the_next_job(monkeypatch):
    """Django keeps one for each thread, and opens none by itself while it has one."""
    done = []
    closes = types.SimpleNamespace(close_old_connections=lambda: done.append("closed"))
    monkeypatch.setitem(sys.modules, "django.db", closes)
    Background("test").do(lambda: done.append("job"))
    assert done == ["closed", "job", "closed"]
