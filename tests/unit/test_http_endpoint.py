"""The circuits' states as JSON, for any WSGI or ASGI server."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from asgiref.testing import ApplicationCommunicator

from resilience import CIRCUIT_BREAKERS, CircuitBreaker
from resilience.contrib import http

NAME = "zahlungen-größer"


@pytest.fixture(autouse=True)
def circuit():
    CIRCUIT_BREAKERS[NAME] = CircuitBreaker(NAME, store="memory://")
    yield
    del CIRCUIT_BREAKERS[NAME]


def over_wsgi(method: str, path: str, mounted: str = "") -> tuple[int, bytes]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "QUERY_STRING": "",
        "SCRIPT_NAME": mounted,
        "PATH_INFO": path.encode().decode("latin-1"),
    }
    setup_testing_defaults(environ)
    told: list[str] = []
    reply = validator(http.wsgi)(environ, lambda status, _headers, _error=None: told.append(status))
    body = b"".join(reply)
    reply.close()
    return int(told[0].split()[0]), body


def over_asgi(method: str, path: str, mounted: str = "") -> tuple[int, bytes]:
    async def ask() -> tuple[int, bytes]:
        scope = {"type": "http", "method": method, "path": mounted + path, "root_path": mounted}
        server = ApplicationCommunicator(http.asgi, scope)
        await server.send_input({"type": "http.request"})
        started, sent = await server.receive_output(), await server.receive_output()
        await server.wait()
        assert dict(started["headers"])[b"content-length"]
        return started["status"], sent["body"]

    return asyncio.run(ask())


both = pytest.mark.parametrize("ask", [over_wsgi, over_asgi])


@both
@pytest.mark.parametrize("mounted", ["", "/monitoring"])
def test_all_states_and_one_are_shown(ask, mounted):
    status, body = ask("GET", "/circuit-breakers", mounted)
    assert status == 200
    found = json.loads(body)
    assert NAME in [row["service"] for row in found["circuit_breakers"]]
    assert {"total", "open", "half_open", "published_at"} <= set(found)
    status, body = ask("GET", f"/circuit-breakers/{NAME}", mounted)
    assert (status, json.loads(body)["service"]) == (200, NAME)


@both
@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/circuit-breakers/nobody", 404, "'nobody'"),
        ("GET", "/", 404, "/circuit-breakers"),
        ("POST", "/circuit-breakers", 405, "POST is not allowed"),
    ],
)
def test_what_is_not_there_is_said(ask, method, path, status, said):
    told, body = ask(method, path)
    assert told == status
    assert said in json.loads(body)["error"]


@both
def test_a_head_has_no_body(ask):
    assert ask("HEAD", "/circuit-breakers") == (200, b"")


def test_an_asgi_server_is_told_that_it_may_start_and_stop():
    async def live() -> list[str]:
        server = ApplicationCommunicator(http.asgi, {"type": "lifespan"})
        told = []
        for moment in ("startup", "shutdown"):
            await server.send_input({"type": f"lifespan.{moment}"})
            told.append((await server.receive_output())["type"])
        await server.wait()
        return told

    assert asyncio.run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
