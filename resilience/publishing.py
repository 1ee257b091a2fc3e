"""The publishing job: a beat task that puts all breaker states where monitors find them.

One snapshot in the store, with its time, and one Celery event. Running it twice at once is harmless.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from resilience.breaker import describe, iso
from resilience.circuit import CircuitState
from resilience.registry import CIRCUIT_BREAKERS
from resilience.stores import default_store
from resilience.stores.failover import FailoverStore

if TYPE_CHECKING:
    from celery import Celery

TASK_NAME = "resilience.publish"
EVERY_SECONDS = 5.0
SNAPSHOT_KEY = "circuit:1:published"


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


def published_at() -> str | None:
    """When the beat job last ran (ISO 8601), None if never or if the store is lost."""
    store = default_store()
    if not isinstance(store, FailoverStore) or not store.up:
        return None
    text = store.shared.scripts.get(SNAPSHOT_KEY)
    return json.loads(text)["published_at"] if text else None


def publish(app: Celery) -> dict[str, Any]:
    """Write the snapshot, send the event ``breaker-states``."""
    snapshot = report() | {"published_at": iso(datetime.now(UTC))}
    store = default_store()
    if isinstance(store, FailoverStore) and store.up:
        store.shared.scripts.set(SNAPSHOT_KEY, json.dumps(snapshot))
    with app.events.default_dispatcher() as dispatcher:
        dispatcher.send(
            "breaker-states", states={row["service"]: row["state"] for row in snapshot["circuit_breakers"]}
        )
    return snapshot
