"""A proxy in front of the server that counts round trips, whatever client or protocol is used.

One round trip is: the client speaks, then the server. However many commands or packets a pipeline
has, it is one.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Self


class CountingProxy:
    """Listens on a port of its own and passes everything on.

    Args:
        port: The server's, on this machine.
    """

    def __init__(self, port: int) -> None:
        self.trips = 0
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # ends a blocked accept, which close alone does not
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        answered = True
        with client, server, selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    data = key.fileobj.recv(65536)
                    if not data:
                        return
                    # Counted before it is passed on: whoever has the answer finds its trip counted.
                    if key.fileobj is server:
                        answered = True
                    elif answered:
                        self.trips += 1
                        answered = False
                    key.data.sendall(data)
