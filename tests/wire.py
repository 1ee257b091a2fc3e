"""A provider on the wire: a real server that says what a test wants."""

import re
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks.providers import PROVIDERS
from tasks.settings import ProviderSettings
from tests.simulator_fixture import KEYS


def request_of(connection: socket.socket) -> bytes:
    """A request's head, and its body, which may come after it."""
    heard = connection.recv(65_536)
    head, _, body = heard.partition(b"\r\n\r\n")
    told = re.search(rb"(?i)\r\nContent-Length: ([0-9]+)", head)
    missing = int(told[1]) - len(body) if told else 0
    while missing > 0 and (more := connection.recv(missing)):
        heard, missing = heard + more, missing - len(more)
    return heard


@contextmanager
def server_saying(
    reply: bytes | Callable[[bytes], bytes], *, reset: bool = False, context: ssl.SSLContext | None = None
) -> Iterator[tuple[ProviderSettings, list[bytes]]]:
    """A server that answers each connection with these bytes; yields settings and what it heard."""
    heard = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if context is not None:
                try:
                    self.request = context.wrap_socket(self.request, server_side=True)
                except OSError:
                    return
            heard.append(request_of(self.request))
            if reset:
                linger = struct.pack("ii", 1, 0)
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            try:
                self.request.sendall(reply(heard[-1]) if callable(reply) else reply)
            except OSError:
                pass  # the client has heard enough
            finally:
                self.request.close()

    class Server(socketserver.ThreadingTCPServer):
        block_on_close = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        scheme = "http" if context is None else "https"
        base_url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        try:
            yield (
                ProviderSettings(**KEYS, **{f"{service}_base_url": base_url for service in PROVIDERS}),
                heard,
            )
        finally:
            server.shutdown()
            thread.join()


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    # Said, or a client's next call could go out on the connection that is just being closed.
    length, closed = f"Content-Length: {len(body)}", "Connection: close"
    head = [f"HTTP/1.1 {status}", length, closed, "Content-Type: application/json", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body
