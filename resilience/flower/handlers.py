"""The pages, the JSON, the metrics and the controls.

Flower's loop serves everybody, so what waits for a store, and what takes long where there are many circuits,
runs in its executor: asking, acting, drawing a page, writing JSON and metrics.
"""

from __future__ import annotations

import base64
import inspect
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flower.utils import template
from flower.views import BaseHandler
from prometheus_client import generate_latest
from tornado import web
from tornado.ioloop import IOLoop

from resilience import CIRCUIT_BREAKERS, ConfigurationError, StoreUnavailableError
from resilience.contrib import http
from resilience.errors import ResilienceError
from resilience.flower import view
from resilience.flower.forms import BUTTONS, FormError, Order, carry_out
from resilience.operations.acts import ActError

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# Who looks again within this time sees what the last one saw: a hundred open pages are one question a second.
SHARED_SECONDS = 1.0
# Parked tasks that a service's page shows at first, and at most.
SHOWN, SHOWN_MOST = 50, 1000
# A page of ours loads what this Flower serves and stands in no other site's frame.
POLICY = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
frame-ancestors 'none'"


class Look:
    """One look at all circuits for everybody who asks within a second. Flower's loop is one thread."""

    def __init__(self) -> None:
        self._at = -SHARED_SECONDS
        self._found: Future[view.Board] | None = None

    async def ask(self) -> view.Board:
        """What was seen a moment ago, or is seen now."""
        if self._found is None or time.monotonic() - self._at >= SHARED_SECONDS:
            self._at = time.monotonic()
            self._found = IOLoop.current().run_in_executor(None, view.board)
        return await self._found

    def forget(self) -> None:
        """Something was done: whoever asks next sees it."""
        self._found = None


look = Look()


class CircuitHandler(BaseHandler):
    """What they have in common."""

    def set_default_headers(self) -> None:
        """Nothing here is worth keeping: a second later it is old."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    async def off_loop(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Run what may wait for a store where nobody waits for it."""
        return await IOLoop.current().run_in_executor(None, call, *arguments)

    @property
    def has_login(self) -> bool:
        """Whether this Flower asks for one."""
        options = self.application.options
        return bool(options.basic_auth or options.auth)

    @property
    def without_login(self) -> str:
        """What anybody may do who has not logged in: nothing, read or control."""
        return str(self.application.settings["circuits_without_login"])

    @property
    def is_local(self) -> bool:
        """Whether it is addressed as this machine: no other site's name can lead a browser here."""
        return urlsplit(f"//{self.request.host}").hostname in ("127.0.0.1", "::1", "localhost")

    @property
    def forbidden(self) -> str:
        """Why nobody may act here; '' where whoever may read may."""
        if self.application.options.read_only:
            return "This Flower is read-only."
        if self.has_login or (self.without_login == "control" and self.is_local):
            return ""
        return (
            "Controls need a login: start Flower with --basic-auth or --auth, "
            "or set CIRCUITS_WITHOUT_LOGIN=control for a Flower that is called as localhost."
        )

    @property
    def actor(self) -> str:
        """Who acts, for the record: Flower's user."""
        if isinstance(self.current_user, str):
            return self.current_user
        if self.application.options.basic_auth:  # checked before; the password goes no further
            _, credentials = self.request.headers["Authorization"].split()
            return base64.b64decode(credentials).decode().partition(":")[0]
        return f"anonymous@{self.request.remote_ip}"

    def known(self, service: str) -> str:
        """The service, if there is such a circuit."""
        if service not in CIRCUIT_BREAKERS:
            raise web.HTTPError(404, f"Unknown circuit '{service}'")
        return service

    async def show(self, page: str, part: str, **values: Any) -> None:
        """A page, or, asked for by the page itself, the part of it that changes."""
        self.set_header("Content-Security-Policy", POLICY)
        whole = self.get_query_argument("part", "") != "live"
        _ = self.xsrf_token  # its cookie is set here, not in the executor
        values |= dict(inspect.getmembers(template, inspect.isfunction))
        values |= {
            "view": view,
            "forbidden": self.forbidden,
            "url_prefix": self.application.options.url_prefix,
        }
        self.finish(await self.off_loop(partial(self.render_string, page if whole else part, **values)))


class CircuitsPage(CircuitHandler):
    """``/circuits``: all of them."""

    @web.authenticated
    async def get(self) -> None:
        """The page."""
        await self.show("circuits.html", "circuits_live.html", board=await look.ask())


class CircuitPage(CircuitHandler):
    """``/circuits/{service}``: one of them, and the controls."""

    def check_xsrf_cookie(self) -> None:
        """Without a login Flower checks nothing, and with basic auth no token: here both are needed always.

        Raises:
            HTTPError: 403 for a request that another site has made.
        """
        site, origin = (self.request.headers.get(name) for name in ("Sec-Fetch-Site", "Origin"))
        if (site or "same-origin") != "same-origin":
            raise web.HTTPError(403, "Cross-site request forbidden")
        if origin and urlsplit(origin).netloc != self.request.host:
            raise web.HTTPError(403, "Cross-origin request forbidden")
        web.RequestHandler.check_xsrf_cookie(self)

    @web.authenticated
    async def get(self, service: str) -> None:
        """The page."""
        try:
            most = min(max(int(self.get_query_argument("most", str(SHOWN))), 1), SHOWN_MOST)
        except ValueError:
            most = SHOWN
        found = await self.off_loop(self._detail, self.known(service), most)
        await self.show(
            "circuit.html", "circuit_live.html", found=found, most=most, shown_most=SHOWN_MOST, acts=BUTTONS
        )

    def _detail(self, service: str, most: int) -> view.Detail:
        try:
            return view.detail(service, most)
        except StoreUnavailableError:  # known from now on: the second look goes by what there is
            return view.detail(service, most)

    @web.authenticated
    async def post(self, service: str) -> None:
        """One act; answered with JSON where that is asked for, else with the page again."""
        self.known(service)
        if self.forbidden:
            self._tell(403, error=self.forbidden)
            return
        try:
            order = Order.of(
                self.get_body_argument("act", ""),
                self.get_body_argument("seconds", ""),
                self.get_body_argument("reason", ""),
                self.get_body_arguments("id"),
                everything=self.get_body_argument("all", "") == "1",
            )
            done = await self.off_loop(carry_out, self.capp, service, order, self.actor)
        except (ActError, FormError, ConfigurationError) as error:
            self._tell(400, error=str(error))
        except ResilienceError as error:
            self._tell(503, error=str(error))
        else:
            logger.info("%r: %s of %s, reason %r: %s", self.actor, order.act, service, order.reason, done)
            self._tell(200, done=done)

    def _tell(self, status: int, **told: str) -> None:
        look.forget()
        if status == 200 and "application/json" not in self.request.headers.get("Accept", ""):  # noqa: PLR2004
            self.redirect(self.request.path, status=303)
            return
        self.set_status(status)
        self.write(told)


class JsonHandler(CircuitHandler):
    """Readable without a login where that is configured."""

    def get_current_user(self) -> Any:
        """Anybody, where that is configured."""
        return self.without_login in ("read", "control") or super().get_current_user()

    async def reply(self, path: str) -> None:
        """As any other server of it does."""
        status, body = await self.off_loop(http.answer, "GET", path)
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.write(body)


class CircuitBreakers(JsonHandler):
    """``GET /circuit-breakers``."""

    @web.authenticated
    async def get(self) -> None:
        """All states."""
        await self.reply(http.ROOT)


class CircuitBreaker(JsonHandler):
    """``GET /circuit-breakers/{service}``."""

    @web.authenticated
    async def get(self, service: str) -> None:
        """One state, and what the circuit has been through."""
        await self.reply(f"{http.ROOT}/{service}")


class Metrics(CircuitHandler):
    """``GET /metrics``, Flower's own and ours; as Flower's handler, but for where they are collected."""

    async def get(self) -> None:
        """All of them."""
        self.application.purge_offline_worker_metrics()
        self.set_header("Content-Type", "text/plain")
        self.write(await self.off_loop(generate_latest))


class Files(web.StaticFileHandler):
    """Our style and script."""

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - Tornado's signature
        """A new release's are asked for at once; unchanged, they are not sent again."""
        self.set_header("Cache-Control", "no-cache")
