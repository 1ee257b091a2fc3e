"""The publishing job: a beat task that puts all breaker states where monitors find them.

One snapshot in the store, with its time, one Celery event, and what has changed since the last run, as
events and to the listeners. Running it twice at once is harmless: each change goes to one of the two.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from resilience.breaker import describe, iso
from resilience.circuit import CircuitState
from resilience.errors import UNREADABLE, StoreFullError
from resilience.registry import CIRCUIT_BREAKERS
from resilience.stores import PREFIX, default_store
from resilience.stores.failover import FailoverStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from resilience.circuit import Transition

logger = logging.getLogger(__name__)

TASK_NAME = "resilience.publish"
EVERY_SECONDS = 5.0
SNAPSHOT_KEY = f"{PREFIX}published"
# How many changes of state one circuit's JSON tells.
DETAIL_TRANSITIONS = 50

_listeners: list[Callable[[Transition], None]] = []


def on_transition(listener: Callable[[Transition], None]) -> Callable[[Transition], None]:
    """Have a function called with every change of every circuit's state, once in the whole fleet.

    It runs in the publishing job, within seconds of the change, in whichever worker that runs; so register
    it where every worker imports it. Changes of one service come in order. What it raises is logged. If
    its process is killed while it runs, or it takes more than a minute, the change comes again.

    Returns:
        The listener, so that this can be used as a decorator.
    """
    _listeners.append(listener)
    return listener


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
    snapshot = report() | {"published_at": iso(datetime.now(UTC))}
    store = default_store()
    if isinstance(store, FailoverStore) and store.up:
        try:
            store.shared.scripts.set(SNAPSHOT_KEY, json.dumps(snapshot))
        except StoreFullError as error:  # the changes are told all the same
            logger.warning("states not published: %s", error)
    with app.events.default_dispatcher() as dispatcher:
        dispatcher.send(
            "breaker-states", states={row["service"]: row["state"] for row in snapshot["circuit_breakers"]}
        )
        announce(dispatcher, [row["service"] for row in snapshot["circuit_breakers"]])
    return snapshot


def announce(dispatcher: Any, services: list[str]) -> None:
    """What has changed and nobody has heard of: to the listeners, and as ``circuit-transition`` events."""
    store = default_store()
    news = store.transitions(services) if store else []
    for change in sorted(news, key=lambda change: change.at):
        _log(change)
        for listener in _listeners:
            try:
                listener(change)
            except Exception:  # somebody else's code; the next one hears it all the same
                logger.exception("listener %r failed for %s", listener, change)
        dispatcher.send("circuit-transition", **as_event(change))
        if store:
            store.heard([change])


def _log(change: Transition) -> None:
    """One line in the whole fleet, whoever publishes; a warning, because that is Celery's own level."""
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
