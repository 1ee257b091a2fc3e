"""A message that was delivered twice: one copy ends the task while the other is being parked.

Found by ``make model``, as the shortest way to a task that is PARKED for ever and nowhere:
    the broker delivers it to a second worker too; both looked whether it has ended, and it had not
    one: its end is written
    the other: PARKED is written over it, and it is parked
    one: what is kept of it is dropped, its place in the lot included
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from celery import Celery, signals
from celery.exceptions import WorkerLostError
from celery.worker import state as worker_state

from resilience import ResilientTask, install, set_default_store
from resilience.gate import Refusal
from resilience.parking import Stored, Taken
from resilience.registry import CIRCUIT_BREAKERS
from resilience.request import ResilientRequest, gate_of
from resilience.task import Parked

# Celery's backend says it the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

names = (f"twice-{n}" for n in itertools.count())
WAIT = datetime(2030, 1, 1, tzinfo=UTC)


class Workers:
    """Two copies of one message, and what their worker has."""

    def __init__(self, port: int) -> None:
        self.service = next(names)
        self.id = f"{self.service}-task"
        app = Celery(
            self.service, broker="memory://", backend=f"redis://127.0.0.1:{port}/14", set_as_current=False
        )
        install(app, f"redis://127.0.0.1:{port}/14")
        limits = {"max_losses": 1, "max_attempts": 1}
        self.task = app.task(base=ResilientTask, service=self.service, name=self.service, **limits)(ask)
        app.finalize()
        headers = {"task": self.service, "id": self.id, "root_id": self.id, "parent_id": None, "group": None}
        self.stored = Stored(self.id, "[[], {}, {}]", "application/json", "utf-8", headers, {}, "", "work")
        self.gate = gate_of(app)

    @property
    def request(self) -> ResilientRequest:
        return ResilientRequest.of(self.gate, self.stored)

    def park(self, **_) -> None:
        message = self.stored.restore(["json"])
        wait = Parked(self.service, "failures", WAIT)
        told: list[Taken] = []
        assert self.gate.park(self.task, message, wait, told.append, gate=False)
        assert told == [Taken.PARKED]

    @property
    def parked(self) -> list[str]:
        return [entry.message.id for entry in self.gate.store.lot.waiting(self.service, 9)]


def ask() -> None:
    """Never runs here."""


@contextmanager
def as_it_ends(signal, act):
    """Celery sends it right after the final state is written."""
    signal.connect(act, weak=False)
    try:
        yield
    finally:
        signal.disconnect(act)


@pytest.fixture
def workers(valkey):
    made = Workers(valkey.port)
    yield made
    set_default_store(None)
    CIRCUIT_BREAKERS.pop(made.service, None)
    worker_state.revoked.discard(made.id)


def test_parked_while_the_other_is_given_up_it_stays(workers):
    with as_it_ends(signals.task_failure, workers.park):
        workers.request._on_lost(WorkerLostError("killed"))
    assert workers.task.AsyncResult(workers.id).state == "FAILURE"
    assert workers.parked == [workers.id]


def test_parked_while_the_other_is_stopped_by_its_time_limit_it_stays(workers):
    with as_it_ends(signals.task_failure, workers.park):
        workers.request.on_timeout(soft=False, timeout=1)
    assert workers.task.AsyncResult(workers.id).state == "FAILURE"
    assert workers.parked == [workers.id]


def test_parked_while_the_other_is_revoked_it_stays(workers):
    worker_state.revoked.add(workers.id)
    with as_it_ends(signals.task_revoked, workers.park):
        assert workers.request.revoked()
    assert workers.task.AsyncResult(workers.id).state == "REVOKED"
    assert workers.parked == [workers.id]


def test_parked_while_the_other_is_turned_away_it_stays(workers):
    with as_it_ends(signals.task_failure, workers.park):
        told: list[Taken] = []
        message = workers.stored.restore(["json"])
        wait = Parked(workers.service, "failures", WAIT)
        refusal = Refusal.of(workers.task, message, wait, told.append, gate=True)
        assert refusal is not None
        workers.gate._turn_away(refusal, "its parking lot is full")
        assert told == [Taken.PARKED]
    assert workers.parked == [workers.id]


def test_what_is_left_of_one_that_was_parked_before_is_dropped(workers):
    workers.park()
    workers.request._on_lost(WorkerLostError("killed"))
    assert workers.parked == []
