"""Every documented reply over a real socket: what arrives is what was documented, and has its class."""

from __future__ import annotations

import http.server
import threading
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from tasks.providers import PROVIDERS, judge
from tasks.providers import http as edge
from tasks.settings import ProviderSettings
from tests.contract.replies import DOCUMENTED
from tests.simulator_fixture import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.replies import Documented

NOW = datetime(2026, 11, 23, 21, 30, 15, tzinfo=UTC)


class Clock(datetime):
    """Stands still: a hold until the next minute is then one number."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return NOW.astimezone(tz)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every request with the server's present reply; the connection stays open."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece: in two, the second waits for the first's acknowledgement

    def do_GET(self) -> None:
        reply = self.server.reply
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(reply.status, "Documented")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.encoded)))
        self.end_headers()
        self.wfile.write(reply.encoded)

    do_POST = do_GET  # noqa: N815 - http.server looks for this name

    def date_time_string(self, _: float | None = None) -> str:
        """The provider's clock stands still, too."""
        return formatdate(NOW.timestamp(), usegmt=True)

    def log_message(self, *_: object) -> None:
        """No access log."""


class Server(http.server.ThreadingHTTPServer):
    reply: Documented
    accepted = 0

    def process_request(self, *of_a_connection: object) -> None:
        self.accepted += 1
        super().process_request(*of_a_connection)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        edge.close()  # the server waits for its connections to end
        made.shutdown()
        thread.join()
        assert made.accepted == 1, "one connection, kept, served them all"


@pytest.fixture(scope="module")
def settings(server: Server) -> ProviderSettings:
    base_url = f"http://127.0.0.1:{server.server_address[1]}"
    return ProviderSettings(**KEYS, **{f"{service}_base_url": base_url for service in PROVIDERS})


@pytest.mark.parametrize(
    ("service", "reply"), DOCUMENTED, ids=lambda value: getattr(value, "verdict", str(value))
)
def test_a_documented_reply_has_its_class_hold_and_record_over_a_real_socket(
    service: str,
    reply: Documented,
    server: Server,
    settings: ProviderSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge, "datetime", Clock)
    server.reply = reply
    symbol = reply.symbol or PROVIDERS[service].endpoints[reply.dataset].example
    judgement = edge.call(service, reply.dataset, symbol, settings=settings)
    assert judgement.verdict == reply.verdict, judgement
    # A documented hold is that of no time of day, the whole window; on a clock it may end sooner.
    assert (judgement.hold_seconds is None) == (reply.hold is None)
    assert (judgement.hold_seconds or 0) <= (reply.hold or 0)
    assert judgement == judge(
        service, reply.dataset, reply.status, reply.headers, reply.encoded, now=NOW, symbol=symbol
    )
