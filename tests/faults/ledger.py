"""What a Redis broker has written down of every message, read from its own append-only file.

The file holds every write in order, whoever made it, and survives the server. kombu's transport takes a
message with a pop and notes it as unacknowledged in a command of its own: whoever is killed between the two
loses it, with or without a layer on top. So a message was lost *by the broker's transport* exactly if it was
put into its queue once more than it was noted; one that was noted last had reached a worker, and is the
worker's to answer for.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

UNACKED = b"unacked"
PUSHES = frozenset({b"LPUSH", b"RPUSH"})


class Ledger:
    """The file of one broker, read on from where it was read last.

    Args:
        folder: The server's own, where its file lies.
        queues: Whose messages.
    """

    def __init__(self, folder: Path, queues: Iterable[str] = ("work",)) -> None:
        self._queues = frozenset(queue.encode() for queue in queues)
        self._folder = folder / "appendonlydir"
        self._read = 0
        #: Messages put into the queue again by the transport itself, and how often.
        self.redelivered: Counter[str] = Counter()
        self._unnoted: Counter[str] = Counter()

    def popped_and_never_noted(self, ids: set[str]) -> set[str]:
        """Which of these, all gone from the queue, no worker can have got hold of."""
        self._read_on()
        return {ident for ident in ids if self._unnoted[ident] > 0}

    def _read_on(self) -> None:
        [file] = self._folder.glob("*.incr.aof")  # one, as nothing makes the server rewrite it
        with file.open("rb") as stream:
            stream.seek(self._read)
            data = stream.read()
        together: list[list[bytes]] | None = None
        for command, end in _commands(data):
            name = command[0].upper()
            if name == b"MULTI":
                together = []
            elif name == b"EXEC":
                self._enter(together or [])
                together = None
            elif together is None:
                self._enter([command])
            else:
                together.append(command)
            if together is None:
                done = end
        self._read += done if data else 0

    def _enter(self, transaction: list[list[bytes]]) -> None:
        if any(command[0].upper() == b"FLUSHALL" for command in transaction):
            self._unnoted.clear()  # what was in a queue went with the broker, by no fault of the transport
        restored = any(command[:2] == [b"HDEL", UNACKED] for command in transaction)
        for name, key, *values in (command for command in transaction if len(command) > 2):
            if name.upper() in PUSHES and key in self._queues:
                for value in values:
                    ident = json.loads(value)["headers"]["id"]
                    self._unnoted[ident] += 1
                    self.redelivered[ident] += restored
            elif name.upper() == b"HSET" and key == UNACKED:
                for value in values[1::2]:
                    self._unnoted[json.loads(value)[0]["headers"]["id"]] -= 1


def _commands(data: bytes) -> Iterator[tuple[list[bytes], int]]:
    """Each whole command and where it ends; what a killed server left half written is no command."""
    place = 0

    def line() -> bytes:
        nonlocal place
        end = data.index(b"\r\n", place)
        found, place = data[place:end], end + 2
        return found

    while place < len(data):
        try:
            words = []
            for _ in range(int(line()[1:])):
                size = int(line()[1:])
                words.append(data[place : place + size])
                place += size + 2
        except ValueError:
            return
        if place > len(data):
            return
        yield words, place
