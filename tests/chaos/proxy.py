"""A line between a process and a server, which can be cut, made slow, or held."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
from typing import Any

from tests.fleet import ROOT

CHUNK = 65_536


class Line:
    """Listens on a port of its own and passes everything on.

    From a process of its own: in one that sends, reads and counts at the same time, it would now and then be
    late by more than the store may be.

    Args:
        target: The server's port on this machine.
    """

    def __init__(self, target: int) -> None:
        self._lock = threading.Lock()
        self._wanted: dict[str, Any] = {"target": target, "delay": 0.0, "up": True, "held": False}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.proxy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self.port = self._tell()

    @property
    def target(self) -> int:
        """The server's port; another takes effect with the next connection."""
        port: int = self._wanted["target"]
        return port

    @target.setter
    def target(self, port: int) -> None:
        self._tell(target=port)

    def slow(self, delay: float) -> None:
        """Each piece of data is late by so many seconds, either way."""
        self._tell(delay=delay)

    def hold(self) -> None:
        """No byte more passes, either way, until it is mended; connections stand, and new ones are taken."""
        self._tell(held=True)

    def cut(self) -> None:
        """End every connection; new ones are ended, too, until it is mended."""
        self._tell(up=False)

    def mend(self) -> None:
        """As at first."""
        self._tell(up=True, delay=0.0, held=False)

    def close(self) -> None:
        """For good."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, **wanted: Any) -> int:
        """Have it so from now on; returns its port."""
        with self._lock:
            self._wanted |= wanted
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(self._wanted) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


class Proxy:
    """The other process's part of it."""

    def __init__(self) -> None:
        self.wanted: dict[str, Any] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()

    async def serve(self) -> None:
        """Until nobody tells it anything any more."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
        )
        while order := await orders.readline():
            self.wanted = json.loads(order)
            self._flows.clear() if self.wanted["held"] else self._flows.set()
            if not self.wanted["up"]:
                for writer in list(self._open):
                    writer.transport.abort()
            print(port, flush=True)  # noqa: T201 - its answer

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.wanted["up"]:
                with contextlib.suppress(OSError):
                    there, back = await asyncio.open_connection("127.0.0.1", self.wanted["target"])
                    self._open.add(back)
                    await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
                    self._open.discard(back)
        finally:
            writer.transport.abort()
            self._open.discard(writer)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if self.wanted["delay"]:
                    await asyncio.sleep(self.wanted["delay"])
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        sink.transport.abort() if source.at_eof() else sink.close()


if __name__ == "__main__":
    asyncio.run(Proxy().serve())
