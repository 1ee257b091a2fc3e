"""What Flower gets in addition: a Circuits page, ``GET /circuit-breakers``, the circuits' metrics.

Nothing of Flower is changed: handlers go into the list it builds its routes from, before its own, and its
templates are found through a loader that knows ours too. The names used are module-level and no stable API,
so Flower is pinned to its minor series; ``install`` refuses one it does not fit. Its ``/metrics`` is served
by a handler of ours: Flower's own would wait for the store on its event loop.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flower import urls
from prometheus_client import REGISTRY
from tornado import httputil
from tornado.web import url

from resilience.errors import ConfigurationError
from resilience.extension import collectors
from resilience.flower.handlers import (
    SHOWN_MOST,
    CircuitBreaker,
    CircuitBreakers,
    CircuitPage,
    CircuitsPage,
    Files,
    Metrics,
)
from resilience.flower.overlay import Templates
from resilience.metrics import CircuitCollector

HERE = Path(__file__).parent
# A service's name has no spaces and no braces, and is quoted where it stands in an address.
ROUTES = (
    url(r"/circuits", CircuitsPage, name="circuits"),
    url(r"/circuits/", CircuitsPage),
    url(r"/circuits/-/static/(.*)", Files, {"path": str(HERE / "static")}, name="circuits-static"),
    url(r"/circuits/([^/]+)", CircuitPage, name="circuit"),
    url(r"/circuit-breakers/?", CircuitBreakers),
    url(r"/circuit-breakers/([^/]+)", CircuitBreaker),
    url(r"/metrics", Metrics),
)
# A page shows so many tasks, all of which may be selected, and its form has fields besides.
MOST_FIELDS = SHOWN_MOST + 100
TURN_SECONDS = 0.0005
WITHOUT_LOGIN = ("nothing", "read", "control")


def install(without_login: str | None = None) -> None:
    """Add them, once; ``flowerconfig.py`` calls this before Flower makes its application.

    Args:
        without_login: What anybody may do who has not logged in: ``nothing``; ``read`` the circuits' JSON;
            ``control`` them, too, where Flower is called as localhost. None: CIRCUITS_WITHOUT_LOGIN, or
            ``nothing``.

    Raises:
        ConfigurationError: For another word; it names the remedy.
        RuntimeError: This Flower is not built as those this was written for.
    """
    allowed = without_login or os.environ.get("CIRCUITS_WITHOUT_LOGIN") or "nothing"
    if allowed not in WITHOUT_LOGIN:
        raise ConfigurationError(
            f"CIRCUITS_WITHOUT_LOGIN={allowed!r}: choose one of {', '.join(WITHOUT_LOGIN)}"
        )
    urls.settings["circuits_without_login"] = allowed
    if ROUTES[0] in urls.handlers:
        return
    urls.settings["template_loader"] = Templates(HERE / "templates", Path(urls.settings["template_path"]))
    urls.handlers[:0] = ROUTES
    # The loop's thread gets its turn so soon beside those that draw; Python's own 5 ms add up over a request.
    sys.setswitchinterval(TURN_SECONDS)
    if hasattr(httputil, "ParseUrlEncodedConfig"):  # Tornado takes any number before 6.5.8
        fields = httputil.ParseUrlEncodedConfig(max_arguments=MOST_FIELDS)
        httputil.set_parse_body_config(httputil.ParseBodyConfig(urlencoded=fields))
    for collector in (CircuitCollector(), *collectors()):
        REGISTRY.register(collector)
