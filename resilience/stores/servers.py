"""One server: where the URL says, or where its sentinels say."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from resilience.stores.lines import (
    BROKEN,
    CONNECT_SECONDS,
    Line,
    Lines,
    LostError,
    ReplyError,
    connect,
    packed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience.stores.address import Address

# A sentinel that hangs is not waited for before the next one is asked; if all are slow, each is given longer.
PATIENCE_SECONDS = (0.05, 1.0)


class OneServer:
    """The server that has all keys.

    Args:
        address: Where it is.
        seconds: How long one command may wait.
    """

    def __init__(self, address: Address, seconds: float) -> None:
        if address.master:
            make = partial(_reach_master, address, list(address.hosts))
        else:
            make = partial(reach, address, address.hosts[0])
        self.lines = Lines(make, seconds, address.most)

    def spread(
        self,
        calls: list[tuple[Any, ...]],
        send: Callable[[Lines, list[tuple[Any, ...]], float], list[Any]],
    ) -> list[Any]:
        """Send all calls there, and tell until when that may take."""
        return send(self.lines, calls, time.monotonic() + self.lines.seconds)

    def primaries(self) -> list[Lines]:
        """Whoever takes writes."""
        return [self.lines]

    def checked(self, key: str) -> list[Any]:
        """What it answers to a write, once there is a connection."""
        self.lines.wait_for_one(CONNECT_SECONDS)
        return [self.lines.ask("SET", key, "", "PX", 1000)]

    def forget(self) -> None:
        """It was lost: no connection that is there now is used again."""
        self.lines.forget()

    def close(self) -> None:
        """Let go of the connections."""
        self.lines.close()


def reach(address: Address, place: tuple[str, int], ends: float, *, sentinel: bool = False) -> Line:
    """A connection to a server, or a sentinel, of this address."""
    said: list[tuple[str | int, ...]] = []
    if address.username:
        said.append(("AUTH", address.username, address.password))
    elif address.password:
        said.append(("AUTH", address.password))
    said.append(("CLIENT", "SETNAME", "resilience"))
    if address.database and not sentinel:
        said.append(("SELECT", address.database))
    return connect(*place, said, address.context(), ends)


def _reach_master(address: Address, sentinels: list[tuple[str, int]], ends: float) -> Line:
    return reach(address, _ask_sentinels(address, sentinels, ends), ends)


def _ask_sentinels(address: Address, sentinels: list[tuple[str, int]], ends: float) -> tuple[str, int]:
    """Who leads, says the first sentinel that answers; that one is asked first the next time.

    Raises:
        LostError: None knows.
    """
    why = ""
    for patience in PATIENCE_SECONDS:
        for place in list(sentinels):
            now = time.monotonic()
            until = min(ends, now + patience)
            if until <= now:
                break
            try:
                line = reach(address, place, until, sentinel=True)
                try:
                    question = packed(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.master))
                    [answer] = line.ask(question, 1, until)
                finally:
                    line.close()
            except BROKEN:
                continue
            except LostError as error:  # it answers, and not to us
                why = str(error)
                continue
            if isinstance(answer, list) and len(answer) == 2:  # noqa: PLR2004 - host and port
                sentinels.remove(place)
                sentinels.insert(0, place)
                return answer[0].decode(), int(answer[1])
            if isinstance(answer, ReplyError):
                why = str(answer)
    raise LostError(f"No master found for {address.master!r}" + (f": {why}" if why else ""))
