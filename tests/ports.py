"""Ports for servers of a test's own: anywhere, so that test runs side by side do not meet."""

from __future__ import annotations

import contextlib
import socket


def free_port(count: int = 1) -> int:
    """The first of so many free ports in a row."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            for place in range(1, count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + place))
            return port
