"""``GET /circuit-breakers`` and ``/circuit-breakers/{service}`` for any WSGI or ASGI server.

    from resilience.contrib.http import asgi, wsgi

    gunicorn monitoring:wsgi
    uvicorn monitoring:asgi

Mounted in another app, the addresses are below the place where it is mounted. Nobody is asked for a login:
put it where only operators come.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from resilience import publishing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

ROOT = "/circuit-breakers"
REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed"}


def answer(method: str, path: str) -> tuple[int, bytes]:
    """What a request gets.

    Args:
        method: GET or HEAD.
        path: Decoded, below the place where this is mounted.

    Returns:
        The status, and JSON.
    """
    status, found = _look(method, path)
    return status, json.dumps(found).encode()


def _look(method: str, path: str) -> tuple[int, dict[str, Any]]:
    if method not in ("GET", "HEAD"):
        return 405, {"error": f"{method} is not allowed: GET"}
    if path in (ROOT, f"{ROOT}/"):
        return 200, publishing.report()
    if path.startswith(f"{ROOT}/"):
        service = path.removeprefix(f"{ROOT}/")
        found = publishing.detail(service)
        return (200, found) if found else (404, {"error": f"there is no circuit breaker {service!r}"})
    return 404, {"error": f"there is nothing at {path!r}: {ROOT}"}


def _headers(body: bytes) -> list[tuple[str, str]]:
    return [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """For a WSGI server."""
    method = environ["REQUEST_METHOD"]
    # WSGI hands the path over as Latin-1 (PEP 3333).
    path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
    status, body = answer(method, path)
    start_response(f"{status} {REASONS[status]}", _headers(body))
    return [b"" if method == "HEAD" else body]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """For an ASGI server. The store is asked in a thread: no other request waits for it."""
    if scope["type"] == "lifespan":
        while True:
            moment = (await receive())["type"]
            await send({"type": f"{moment}.complete"})
            if moment == "lifespan.shutdown":
                return
    if scope["type"] != "http":
        raise ValueError(f"{scope['type']!r} is not served here: http")
    method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
    status, body = await asyncio.to_thread(answer, method, path)
    headers = [(name.lower().encode(), value.encode()) for name, value in _headers(body)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
