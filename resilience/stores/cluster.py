"""The servers of one cluster: which of them has a key, and what is sent there.

A command waits for one server. The map of the slots is read at first use and by ``checked``, which nobody
waits for: a server that hangs costs its own callers one time-out, and nobody else any.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.crc import key_slot

from resilience.stores.lines import CONNECT_SECONDS, BusyError, Lines, LostError, ReplyError
from resilience.stores.servers import reach

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resilience.stores.address import Address

    Place = tuple[str, int]

# Between two looks at a slot that is on its way from one server to another.
PAUSE_SECONDS = 0.01
# What a server says of a key that is another's, or on its way there.
MOVES = frozenset(("MOVED", "ASK", "TRYAGAIN"))
SLOTS = 16384


class Cluster:
    """Servers that share the keys between them. Nothing is sent before it is used.

    Args:
        address: Some of them.
        seconds: How long one command may wait, also for a slot on its way from one server to another.
    """

    def __init__(self, address: Address, seconds: float) -> None:
        self._address = address
        self._seconds = seconds
        self._lines: dict[Place, Lines] = {}
        self._slots: list[Place | None] = []

    def spread(
        self,
        calls: Sequence[tuple[Any, ...]],
        send: Callable[[Lines, list[tuple[Any, ...]], float], list[Any]],
    ) -> list[Any]:
        """Send each call, in one go with its neighbours, to the server that has its first item as a key.

        All together may take as long as one command.

        Returns:
            The answers, in the order of the calls.

        Raises:
            LostError: A server does not answer, or none has the key.
        """
        ends = time.monotonic() + self._seconds
        if not self._slots:
            self._look(ends)
        answers: dict[int, Any] = {}
        waiting = list(range(len(calls)))
        while waiting:
            homes = [self._home(calls[place][0]) for place in waiting]
            places = [place for place, home in zip(waiting, homes, strict=True) if home == homes[0]]
            try:
                got = send(self._lines_to(homes[0]), [calls[place] for place in places], ends)
            except ReplyError as error:
                if time.monotonic() > ends:
                    raise LostError(str(error)) from error
                if error.code == "MOVED":
                    self._moved(str(error), homes[0])
                # A script needs all its keys in one place, so to ask where some are already is no use.
                time.sleep(PAUSE_SECONDS)
            else:
                answers.update(zip(places, got, strict=True))
                waiting = [place for place in waiting if place not in answers]
        return [answers[place] for place in range(len(calls))]

    def checked(self, key: str) -> list[Any]:
        """What each server answers to a write, after a new look at who they are.

        All, not one: else a store that one server has left would be lost and found again by turns.
        """
        self._look(time.monotonic() + CONNECT_SECONDS)
        keys: dict[Place, str] = {}
        homes = {*filter(None, self._slots)}
        for number in range(SLOTS):
            if len(keys) == len(homes):
                break
            keys.setdefault(self._home(f"{key}{number}"), f"{key}{number}")
        answers = []
        for home, asked in keys.items():
            self._lines_to(home).wait_for_one(CONNECT_SECONDS)
            answers.append(self._lines_to(home).ask("SET", asked, "", "PX", 1000))
        return answers

    def primaries(self) -> list[Lines]:
        """Whoever takes writes."""
        if not self._slots:
            self._look(time.monotonic() + self._seconds)
        return [self._lines_to(home) for home in {*filter(None, self._slots)}]

    def forget(self) -> None:
        """A server was lost: no connection that is there now is used again."""
        for lines in list(self._lines.values()):
            lines.forget()

    def close(self) -> None:
        """Let go of the connections."""
        while self._lines:
            self._lines.popitem()[1].close()

    def _home(self, key: str) -> Place:
        home = self._slots[key_slot(key.encode())]
        if home is None:
            raise LostError(f"no server of the cluster has the slot of {key!r}")
        return home

    def _lines_to(self, home: Place) -> Lines:
        lines = self._lines.get(home)
        if lines is None:
            made = Lines(partial(reach, self._address, home), self._seconds, self._address.most)
            lines = self._lines.setdefault(home, made)
        return lines

    def _look(self, ends: float) -> None:
        """Who has which slots, says the first that answers: of the URL's, then of those that were there.

        One that hangs is waited for no longer than leaves as much for each of the others.
        """
        why: Exception = LostError("the cluster has no servers")
        places = list(dict.fromkeys((*self._address.hosts, *self._lines)))
        for asked, place in enumerate(places):
            lines, now = self._lines_to(place), time.monotonic()
            share = max(ends - now, 0) / (len(places) - asked)
            try:
                lines.wait_for_one(share)
                told = lines.ask("CLUSTER", "SLOTS", ends=now + share)
            except (LostError, BusyError) as error:
                why = error
                continue
            if isinstance(told, ReplyError):
                why = LostError(f"cluster mode is not enabled at {place[0]}:{place[1]}: {told}")
                continue
            slots: list[Place | None] = [None] * SLOTS
            for first, last, primary, *_ in told:
                host = (primary[0] or b"").decode()
                home = (host if host not in ("", "?") else place[0], int(primary[1]))
                slots[first : last + 1] = [home] * (last + 1 - first)
            if any(slots):
                self._slots = slots
                return
            why = LostError("no server of the cluster has any slots")
        raise why

    def _moved(self, told: str, asked: Place) -> None:
        """``MOVED slot host:port``; without a host it is the one that was asked."""
        _, slot, where = told.split(" ")[:3]
        host, _, port = where.rpartition(":")
        self._slots[int(slot)] = (host or asked[0], int(port))
