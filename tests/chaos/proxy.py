"""A line between a process and a server, which can be cut, or made slow."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

CHUNK = 65_536


class Line:
    """Listens on a port of its own and passes everything on, from a thread of its own.

    Args:
        target: The server's port on this machine.

    Attributes:
        target: The same; another takes effect with the next connection.
        delay: Seconds each piece of data is late, either way.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        self._up = True
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Reset every connection; new ones are reset, too, until it is mended."""
        self._up = False
        self._loop.call_soon_threadsafe(self._reset)

    def mend(self) -> None:
        """As at first."""
        self._up, self.delay = True, 0.0

    def close(self) -> None:
        """For good."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    def _reset(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self._up:
                # Cancelled at the end of a run, which asyncio would tell of as an exception of a callback.
                with contextlib.suppress(OSError, asyncio.CancelledError):
                    there, back = await asyncio.open_connection("127.0.0.1", self.target)
                    self._open.add(back)
                    await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
                    self._open.discard(back)
        finally:
            writer.transport.abort()
            self._open.discard(writer)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                sink.write(data)
                await sink.drain()
        sink.transport.abort() if source.at_eof() else sink.close()
