"""No key is written anywhere: every provider, a real worker, and replies that echo the whole request."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tasks.providers import PROVIDERS
from tests.fleet import wait_for
from tests.system import FINAL, KEYS, System
from tests.wire import response, server_saying

if TYPE_CHECKING:
    from pathlib import Path

KEYED = [service for service in PROVIDERS if f"{service.upper()}_API_KEY" in KEYS]


def echo(status: str) -> object:
    def reply(request: bytes) -> bytes:
        said = " ".join(request.decode().partition("\r\n\r\n")[0].split("\r\n"))
        body = f'{{"error": "denied: {said}", "{said}": 1}}'.replace("\\", "").encode()
        return response(body, f"Location: /{said}", f"X-Echo: {said}", f"Retry-After: {said}", status=status)

    return reply


def broken(request: bytes) -> bytes:
    """No HTTP: a header without an end, and the request in it."""
    return b"HTTP/1.1 200 OK\r\nX " + request.replace(b"\r\n", b" ") + b"\r\n\r\n"


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "400 Bad Request", ""])
def test_a_key_that_is_echoed_is_written_nowhere(tmp_path: Path, status: str) -> None:
    with server_saying(echo(status) if status else broken) as (settings, heard):
        system = System(tmp_path)
        try:
            for service in KEYED:
                system.environment[f"{service.upper()}_BASE_URL"] = settings.base_url(service)
            system.worker()
            with system.overheard() as events:
                tasks = [
                    system.app.send_task(f"tasks.{service}.fetch", (dataset, endpoint.example))
                    for service in KEYED
                    for dataset, endpoint in PROVIDERS[service].endpoints.items()
                ]
                wait_for(lambda: all(task.state in {*FINAL, "PARKED"} for task in tasks), 40, "all settle")
            texts = [*system.everything(), *events]
            sent = b"\n".join(heard)
            for service in KEYED:
                spellings = PROVIDERS[service].auth.spellings(KEYS[f"{service.upper()}_API_KEY"])
                spelled = {text for spelling in spellings for text in (spelling, quote(spelling, safe=""))}
                assert any(text.encode() in sent for text in spelled), f"{service}'s key was sent and echoed"
                for key in spelled:
                    assert not [text[:200] for text in texts if key in text], service
            assert any("PARKED" in text or "FAILURE" in text for text in texts)
        finally:
            system.close()
