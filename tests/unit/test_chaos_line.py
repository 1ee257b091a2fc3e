"""The line that a chaos run cuts and slows."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.chaos.proxy import Line

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo(socketserver.BaseRequestHandler):
    """Says its server's name before what it hears."""

    def handle(self) -> None:
        while data := self.request.recv(100):
            self.request.sendall(self.server.name + data)  # type: ignore[attr-defined]  # set below


@pytest.fixture
def servers() -> Iterator[list[int]]:
    made = [socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) for _ in range(2)]
    for name, server in zip((b"a", b"b"), made, strict=True):
        server.name = name  # type: ignore[attr-defined]  # of ours
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [server.server_address[1] for server in made]
    for server in made:
        server.shutdown()
        server.server_close()


def said(line: Line, word: bytes = b"?") -> bytes:
    """What is answered through it; empty where the line is cut."""
    try:
        with socket.create_connection(("127.0.0.1", line.port), 5) as connection:
            connection.sendall(word)
            return connection.recv(100)
    except ConnectionError:
        return b""


def test_a_line_is_led_elsewhere_cut_held_slowed_and_mended(servers):
    first, second = servers
    line = Line(first)
    try:
        assert said(line) == b"a?"
        with socket.create_connection(("127.0.0.1", line.port), 5) as connection:
            connection.sendall(b"1")
            assert connection.recv(100) == b"a1"
            line.target = second
            assert line.target == second
            connection.sendall(b"2")
            assert connection.recv(100) == b"a2", "the next connection goes elsewhere"
            assert said(line) == b"b?"
            line.cut()
            with contextlib.suppress(ConnectionError):  # reset, or just ended
                assert connection.recv(100) == b""
        assert said(line) == b""
        line.mend()
        assert said(line) == b"b?"
        with socket.create_connection(("127.0.0.1", line.port), 5) as connection:
            line.hold()
            connection.sendall(b"3")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(100)
            line.mend()
            connection.settimeout(5)
            assert connection.recv(100) == b"b3", "what was held arrives"
        line.slow(0.1)
        started = time.monotonic()
        assert said(line) == b"b?"
        assert time.monotonic() - started >= 0.2
    finally:
        line.close()
    assert said(line) == b""
