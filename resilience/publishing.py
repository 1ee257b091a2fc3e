"""The publishing job: a beat task that puts all breaker states where monitors find them.

One snapshot in the store, with its time, one Celery event, and what has changed since the last run, as
events and to the listeners. Running it twice at once is harmless: each change goes to one of the two.

Beat sends it every few seconds, but not while one that was sent has not run: where nobody takes it, it is
sent ever more rarely, so a queue that nobody consumes holds a handful of them and not thousands.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery import Task
from kombu.utils.uuid import uuid

from resilience.breaker import describe, iso
from resilience.circuit import CircuitState
from resilience.errors import UNREADABLE, StoreFullError, StoreUnavailableError
from resilience.registry import CIRCUIT_BREAKERS
from resilience.stores import PREFIX, default_store, shared_scripts
from resilience.stores.failover import FailoverStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery
    from celery.result import AsyncResult

    from resilience.circuit import Transition

logger = logging.getLogger(__name__)

TASK_NAME = "resilience.publish"
EVERY_SECONDS = 5.0
SNAPSHOT_KEY = f"{PREFIX}published"
# Of the message that has been sent and has not run: its id, when it was sent, how many were before it.
SENT_KEY = f"{PREFIX}publishing"
# The next is sent after so long, and after twice as long each time, up to a day.
PATIENCE_SECONDS, PATIENCE_CAP_SECONDS = 10, 86_400
# A listener may take so long for one change. One that takes longer hears of no other before it has returned.
LISTENER_SECONDS = 10.0
# What a run has not told by then another will: slow listeners do not keep one pool process after another.
RUN_SECONDS = 30.0
# How many changes of state one circuit's JSON tells.
DETAIL_TRANSITIONS = 50

_listeners: list[_Listener] = []

_SEND = """
local now = tonumber(redis.call('TIME')[1])
local told = redis.call('HMGET', KEYS[1], 'id', 'at', 'before')
local before = tonumber(told[3] or -1)
local patience = math.min(ARGV[2] * 2 ^ math.max(before, 0), ARGV[3])
if told[1] and now >= tonumber(told[2]) and now < told[2] + patience then
  return told[1]
end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'at', now, 'before', math.min(before + 1, 30))
return ''
"""


class PublishingTask(Task):
    """The job's message, of which one at a time is enough."""

    abstract = True

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: str | None = None, **options: Any
    ) -> AsyncResult:
        """Send it, unless one that was sent a moment ago has not run yet.

        Returns:
            The result of what was sent, now or then.
        """
        task_id = task_id or uuid()
        try:
            patience = (PATIENCE_SECONDS, PATIENCE_CAP_SECONDS)
            waiting = shared_scripts().evaluate(_SEND, (SENT_KEY,), task_id, *patience)
        except StoreUnavailableError:  # nobody can tell: then it goes out of date by itself
            return super().apply_async(args, kwargs, task_id, **{"expires": EVERY_SECONDS * 2, **options})
        if waiting:
            return self.AsyncResult(waiting.decode())
        # It is not out of date before it has run; expired ones would be taken for none that ran.
        return super().apply_async(args, kwargs, task_id, **(options | {"expires": None}))


def may_send_again(**_: object) -> None:
    """The job runs, or a worker has started: what was sent before is no reason to wait for it."""
    with contextlib.suppress(StoreUnavailableError):
        shared_scripts().evaluate("return redis.call('DEL', KEYS[1])", (SENT_KEY,))


def on_transition(listener: Callable[[Transition], None]) -> Callable[[Transition], None]:
    """Have a function called with every change of every circuit's state, once in the whole fleet.

    It runs in the publishing job, within seconds of the change, in whichever worker that runs, in a thread
    of its own; so register it where every worker imports it. Changes of one service come in order. What it
    raises is logged. If its process is killed while it runs, the change comes again. One that takes more than
    ten seconds hears of no other change in that process before it has returned; that is logged.

    Returns:
        The listener, so that this can be used as a decorator.
    """
    _listeners.append(_Listener(listener))
    return listener


class _Listener:
    """Somebody else's code: whatever it does, the others hear of a change, and the job goes on."""

    def __init__(self, call: Callable[[Transition], None]) -> None:
        self._call = call
        self._busy = threading.Lock()
        self._missed: int | None = None  # of one that has not returned in time: how many since

    def tell(self, change: Transition) -> None:
        """Have it hear of a change, for so long as it may take."""
        late = self._missed is not None
        if not self._busy.acquire(timeout=0 if late else LISTENER_SECONDS):
            self._missed = (self._missed or 0) + 1
            return
        if late:
            logger.warning("listener %r has returned; it has missed %d changes", self._call, self._missed)
            self._missed = None
        thread = threading.Thread(target=self._run, args=(change,), name="circuit-listener", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had
            self._busy.release()
            logger.exception("listener %r does not hear of %s", self._call, change)
            return
        thread.join(LISTENER_SECONDS)
        if thread.is_alive():
            self._missed = self._missed or 0
            logger.error(
                "listener %r has not returned within %g s of %s; it hears of no other change before it does",
                *(self._call, LISTENER_SECONDS, change),
            )

    def _run(self, change: Transition) -> None:
        try:
            self._call(change)
        except BaseException:  # in a thread of its own nobody else would tell
            logger.exception("listener %r failed for %s", self._call, change)
        finally:
            self._busy.release()


def states() -> list[dict[str, Any]]:
    """Every registered circuit's ``get_state()``, in the order of the registry; one round trip."""
    store = default_store()
    if store is None:
        return [breaker.get_state() for breaker in CIRCUIT_BREAKERS.values()]
    breakers = list(CIRCUIT_BREAKERS.items())
    circuits = store.read([name for name, _ in breakers])
    return [describe(circuits[name], breaker.policy) for name, breaker in breakers]


def report() -> dict[str, Any]:
    """The JSON of ``GET /circuit-breakers``: live states, and when the beat job last published."""
    rows = states()
    return {
        "circuit_breakers": rows,
        "total": len(rows),
        "open": sum(row["state"] in (CircuitState.OPEN, CircuitState.FORCED_OPEN) for row in rows),
        "half_open": sum(row["state"] == CircuitState.HALF_OPEN for row in rows),
        "published_at": published_at(),
    }


def detail(service: str) -> dict[str, Any] | None:
    """The JSON of ``GET /circuit-breakers/{service}``: its state, and what it has been through.

    Returns:
        ``get_state()`` with ``transitions``, the latest first, and ``outcomes`` of the calls of the last
        hour, about a minute each, the earliest first; None where there is no such circuit.
    """
    if service not in CIRCUIT_BREAKERS:
        return None
    breaker = CIRCUIT_BREAKERS[service]
    state = breaker.get_state()
    history = breaker.store.history([service], DETAIL_TRANSITIONS)[service]
    return state | {
        "transitions": [as_event(change) for change in history.transitions],
        "outcomes": [
            asdict(stretch) | {"since": iso(stretch.since), "until": iso(stretch.until)}
            for stretch in history.outcomes()
        ],
    }


def published_at() -> str | None:
    """When the beat job last ran (ISO 8601); None: never, or nobody can tell."""
    store = default_store()
    if not isinstance(store, FailoverStore) or not store.up:
        return None
    text = store.shared.scripts.get(SNAPSHOT_KEY)
    try:
        told = json.loads(text)["published_at"] if text else None
        return told if told and datetime.fromisoformat(told).tzinfo else None
    except UNREADABLE:  # written by somebody else
        return None


def publish(app: Celery) -> dict[str, Any]:
    """Write the snapshot, send the event ``breaker-states``."""
    may_send_again()
    snapshot = report() | {"published_at": iso(datetime.now(UTC))}
    store = default_store()
    if isinstance(store, FailoverStore) and store.up:
        try:
            store.shared.scripts.set(SNAPSHOT_KEY, json.dumps(snapshot))
        except StoreFullError as error:  # the changes are told all the same
            logger.warning("states not published: %s", error)
    states = {row["service"]: row["state"] for row in snapshot["circuit_breakers"]}
    with app.events.default_dispatcher() as dispatcher:
        events = Events(dispatcher)
        events.send("breaker-states", states=states)
        announce(events, list(states))
    return snapshot


class Events:
    """Sends events while it can: a broker that takes none keeps no listener from hearing of a change."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        self._fails = False

    def send(self, kind: str, **fields: Any) -> None:
        """One event; none after one that failed, because each may have taken a time-out."""
        if self._fails:
            return
        try:
            self._dispatcher.send(kind, **fields)
        except Exception:  # whatever a transport raises
            self._fails = True
            logger.exception("the event %s cannot be sent; no other is in this run", kind)


def announce(events: Events, services: list[str]) -> None:
    """What has changed and nobody has heard of: to the listeners, and as ``circuit-transition`` events."""
    store = default_store()
    news = store.transitions(services) if store else []
    ends = time.monotonic() + RUN_SECONDS
    for change in sorted(news, key=lambda change: change.at):
        if time.monotonic() > ends:
            return
        _log(change)
        for listener in _listeners:
            listener.tell(change)
        lost = {"lost": change.lost} if change.lost else {}
        events.send("circuit-transition", **as_event(change), **lost)
        if store:
            store.heard([change])


def _log(change: Transition) -> None:
    """One line in the whole fleet, whoever publishes; a warning, because that is Celery's own level."""
    if change.lost:
        logger.warning(
            "circuit of %s: %d changes before this one were lost: nobody has published for so long",
            *(change.service, change.lost),
        )
    told = as_event(change)
    why = told["reason"] or "no reason"
    by = f" by {change.actor}: {change.note}" if change.actor else ""
    logger.warning(
        *("circuit of %s: %s to %s, %s%s", change.service, told["from"], told["to"], why, by),
        extra=told | asdict(change.evidence),
    )


def as_event(change: Transition) -> dict[str, Any]:
    """A change of state as the plain JSON of its event."""
    return {
        "service": change.service,
        "from": change.before.value,
        "to": change.after.value,
        "reason": change.reason.value if change.reason else None,
        "evidence": asdict(change.evidence),
        "at": iso(change.at),
        "retry_at": iso(change.retry_at),
        "actor": change.actor,
        "note": change.note,
    }
