"""What Flower gets in addition: a Circuits page, ``GET /circuit-breakers``, the circuits' metrics.

Nothing of Flower is changed: handlers go into the list it builds its routes from, before its catch-all, and
its templates are found through a loader that knows ours too. The names used are module-level and no stable
API, so Flower is pinned to its minor series; ``install`` refuses one it does not fit.
"""

from __future__ import annotations

from pathlib import Path

from flower import urls
from prometheus_client import REGISTRY
from tornado.web import url

from resilience.metrics import CircuitCollector
from tasks.metrics import ReadingCollector
from workers.flower.handlers import CircuitBreaker, CircuitBreakers, CircuitPage, CircuitsPage, Files
from workers.flower.overlay import Templates

HERE = Path(__file__).parent
# A service's name has no spaces and no braces, and is quoted where it stands in an address.
ROUTES = (
    url(r"/circuits", CircuitsPage, name="circuits"),
    url(r"/circuits/", CircuitsPage),
    url(r"/circuits/-/static/(.*)", Files, {"path": str(HERE / "static")}, name="circuits-static"),
    url(r"/circuits/([^/]+)", CircuitPage, name="circuit"),
    url(r"/circuit-breakers/?", CircuitBreakers),
    url(r"/circuit-breakers/([^/]+)", CircuitBreaker),
)


def install() -> None:
    """Add them, once; ``flowerconfig.py`` calls this before Flower makes its application.

    Raises:
        RuntimeError: This Flower is not built as those this was written for.
    """
    import workers.celery  # noqa: F401, PLC0415 - configures the store, for who started Flower for another app

    if ROUTES[0] in urls.handlers:
        return
    urls.settings["template_loader"] = Templates(HERE / "templates", Path(urls.settings["template_path"]))
    urls.handlers[-1:-1] = ROUTES
    for collector in (CircuitCollector(), ReadingCollector()):
        REGISTRY.register(collector)
