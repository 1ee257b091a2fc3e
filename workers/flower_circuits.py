"""What Flower gets in addition: ``GET /circuit-breakers`` and the circuits' metrics on its ``/metrics``.

Nothing of Flower is changed: handlers go into the list it builds its routes from, before its catch-all.
The names used are module-level and no stable API, so Flower is pinned to its minor series.
"""

from __future__ import annotations

import json
from typing import Any

from flower.urls import handlers
from flower.views import BaseHandler
from prometheus_client import REGISTRY
from tornado import web
from tornado.ioloop import IOLoop

import workers.celery  # noqa: F401 - configures the store
from resilience import publishing
from resilience.metrics import CircuitCollector
from tasks.metrics import ReadingCollector


class CircuitBreakers(BaseHandler):
    """``GET /circuit-breakers``."""

    @web.authenticated
    async def get(self) -> None:
        """All states; read off the event loop, so a slow store does not stop Flower."""
        report: dict[str, Any] = await IOLoop.current().run_in_executor(None, publishing.report)
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(report))


def install() -> None:
    """Add them, once; ``flowerconfig.py`` calls this before Flower makes its application."""
    route = r"/circuit-breakers/?"
    if any(isinstance(entry, tuple) and entry[0] == route for entry in handlers):
        return
    handlers.insert(len(handlers) - 1, (route, CircuitBreakers))
    for collector in (CircuitCollector(), ReadingCollector()):
        REGISTRY.register(collector)
