"""Connections to one server: at most so many, and nobody waits for more than the budget of one command.

A connection is made by a thread of its own, whatever that takes: the sentinels' word, the name's addresses,
TLS, the password. Who needs one waits until the budget of the command is over, and then goes without; the
connection is there for the next. So no resolver, no slow network and no server that sends a byte now and then
keeps a caller; and a store that is slow to connect to is used as soon as a connection stands.

The server's own answer to one command is a ``ReplyError``, a value like other answers. That the server does
nothing at all is a ``LostError``; which is which is said here and nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import ssl
import threading
import time
from collections import deque
from selectors import EVENT_WRITE, DefaultSelector
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from resilience.stores.resp import NOTHING, ProtocolError, packer, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Command = Sequence[str | bytes | float]

# To connect may take so long; nobody waits for that but the thread that does it.
CONNECT_SECONDS = 5.0
# A connection that was used a moment ago is taken as it is. An older one may have been forgotten on the way,
# by a firewall or a load balancer, and none of its ends knows; so it is tried first, with what has no effect.
IDLE_SECONDS = 0.8
# So many are made at a time; who waits is mostly served sooner by one that is given back.
MAKING_MOST = 4
# What a burst has left is closed when it was not needed for so long.
SPARE_SECONDS = 60.0
# An address that does not answer at once is not waited for before the next one is tried as well.
STAGGER_SECONDS = 0.03
# So long a name that has been resolved before is asked for again, before its last answer is taken.
RESOLVE_SECONDS = 0.05
# However late a process with many threads comes to ask, the server has so long to answer.
FAIR_SECONDS = 0.05
# Data that is there is read, though the time is over.
LEAST_SECONDS = 0.001
BUFFER_BYTES = 32768
# A firewall forgets what was silent for minutes; and who is dead is found out while nobody waits.
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
# What a server says that does nothing for anybody: it is loading, a replica, without its password, cannot
# write to its disk, has no replicas, its cluster is down, it runs somebody's endless script.
LOST = frozenset(
    (
        *("LOADING", "READONLY", "MASTERDOWN", "NOAUTH", "WRONGPASS", "DENIED"),
        *("MISCONF", "NOREPLICAS", "CLUSTERDOWN", "BUSY"),
    )
)
TOO_MANY_CLIENTS = "max number of clients"
# Before Redis 7 the error of a command within a script is told inside another one.
_CODE = re.compile(r"(?:^|: )-?([A-Z]{3,})(?= )")
# What becomes of a connection; it is of no use afterwards.
BROKEN = (OSError, ProtocolError)


_pack = packer()


def packed(command: Command) -> bytes:
    """A command as it is sent."""
    return _pack(tuple(command))


PING = packed(("PING",))


class LostError(Exception):
    """The server is away, or does nothing for anybody."""


class BusyError(Exception):
    """All connections this process may have are in use, and the server is well."""


class ReplyError(Exception):
    """A server's own answer to one command."""

    @property
    def code(self) -> str:
        """Its kind, as ``WRONGTYPE``."""
        found = _CODE.findall(str(self))
        return found[-1] if found else "ERR"

    @property
    def lost(self) -> bool:
        """Whether the server says that of every command."""
        return self.code in LOST or TOO_MANY_CLIENTS in str(self)


class _Socket(socket.socket):
    """Closed with the line that has it, also where a cycle of objects is collected in any order."""

    def __del__(self) -> None:
        self.close()


class _TlsSocket(ssl.SSLSocket):
    """The same."""

    def __del__(self) -> None:
        self.close()


class Line:
    """One connection; one caller's at a time.

    Args:
        connected: Its socket.
    """

    __slots__ = ("__weakref__", "_buffer", "_reader", "_socket", "era", "given", "round_trip", "used")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = bytearray(BUFFER_BYTES)
        self._reader = reader(ReplyError)
        self.used = time.monotonic()
        #: The shortest that an answer has taken.
        self.round_trip = CONNECT_SECONDS
        self.given = 0.0
        self.era = 0

    def ask(self, asked: bytes, count: int, ends: float) -> list[Any]:
        """Send commands and read so many answers, until a time on the monotonic clock.

        Raises:
            OSError: It is broken, or the time is over; it is of no use any more.
            ProtocolError: The answer is no server's.
        """
        connected, replies = self._socket, self._reader
        now = time.monotonic()
        self.given = ends - now
        ends = max(ends, now + FAIR_SECONDS)
        connected.settimeout(ends - now)
        connected.sendall(asked)
        answers: list[Any] = []
        while True:
            size = connected.recv_into(self._buffer)
            if not size:
                raise ConnectionResetError(next(map(str, answers), "the server closed the connection"))
            replies.feed(self._buffer, 0, size)
            while (answer := replies.gets()) is not NOTHING:
                answers.append(answer)
                if len(answers) == count:
                    self.used = time.monotonic()
                    self.round_trip = min(self.round_trip, self.used - now)
                    return answers
            left = ends - time.monotonic()
            if left < -FAIR_SECONDS:  # a byte now and then
                raise TimeoutError("timed out")
            connected.settimeout(max(left, LEAST_SECONDS))

    def close(self) -> None:
        """For good; without a word to the server, which in a forked child would end the parent's."""
        try:  # noqa: SIM105 - where the interpreter ends, contextlib is gone before this is
            self._socket.close()
        except OSError:
            pass

    __del__ = close


class _Turn:
    """One who waits for a connection."""

    __slots__ = ("done", "line", "why")

    def __init__(self) -> None:
        self.line: Line | None = None
        #: Why there is none.
        self.why = ""
        self.done = threading.Lock()
        self.done.acquire()


class Lines:
    """The connections of one process to one server.

    Args:
        connect: Makes one, until a time on the monotonic clock.
        seconds: How long one command may wait, for a connection and for the answer.
        most: Connections at most.
    """

    def __init__(self, connect: Callable[[float], Line], seconds: float, most: int) -> None:
        self.seconds = seconds
        #: The digests of scripts that this server has been given.
        self.loaded: set[str] = set()
        self._connect = connect
        self._most = most
        self._idle: deque[Line] = deque()
        #: All there are. One whose caller was broken off is gone with him.
        self._live: WeakSet[Line] = WeakSet()
        self._lock = threading.Lock()
        #: Who waits for one, the first comer first.
        self._queue: deque[_Turn] = deque()
        self._making = 0
        self._era = 0
        self._closed = False

    def ask(self, *command: str | bytes | float, ends: float = 0) -> Any:
        """One command, one answer, which may be a ``ReplyError``; nothing is repeated.

        Args:
            command: Its words.
            ends: Until when, on the monotonic clock; 0: for as long as one command may wait.

        Raises:
            LostError: The server is away, or does nothing for anybody.
            BusyError: There was no connection free in time.
        """
        return self._send(packed(command), 1, ends)[0]

    def ask_all(self, commands: Iterable[Command], ends: float = 0) -> list[Any]:
        """Several commands in one round trip, and the answer of each; see ``ask``."""
        asked = [packed(command) for command in commands]
        return self._send(b"".join(asked), len(asked), ends) if asked else []

    def _send(self, asked: bytes, count: int, ends: float) -> list[Any]:
        now = time.monotonic()
        ends = ends or now + self.seconds
        line = self._take(now, ends)
        # Of one that has just been made, or waited for.
        if line.used > now and FAIR_SECONDS < line.round_trip > ends - time.monotonic():
            self._give(line, line.used)  # for the next, who has time for an answer
            raise BusyError("a connection stood too late")
        try:
            answers = line.ask(asked, count, ends)
        except BROKEN as error:
            self._drop(line)
            if isinstance(error, TimeoutError) and line.given < self.seconds / 2:
                raise BusyError("a connection was free too late") from error
            raise LostError(told(error)) from error
        except BaseException:  # broken off, as by a time limit: its answer is not for the next command
            self._drop(line)
            raise
        self._give(line, now)
        for answer in answers:
            if isinstance(answer, ReplyError) and answer.lost:
                raise LostError(str(answer))
        return answers

    def wait_for_one(self, seconds: float) -> None:
        """Until there is a connection, however long that takes.

        Raises:
            LostError: There is none in that time.
        """
        now = time.monotonic()
        self._give(self._take(now, now + seconds), now)

    def forget(self) -> None:
        """No connection that is there now is used again: the server was lost."""
        self._era += 1

    def close(self) -> None:
        """Let go of the connections, and make no more."""
        self._closed = True
        self.forget()
        self._drop_idle()
        with self._lock:
            self._send_away("it is closed")

    def _take(self, now: float, ends: float) -> Line:
        while True:
            try:
                line = self._wait(ends) if self._queue else self._idle.pop()
            except IndexError:
                line = self._wait(ends)
            if line.era == self._era and (now - line.used < IDLE_SECONDS or self._lives(line, ends)):
                return line
            self._drop(line)

    def _lives(self, line: Line, ends: float) -> bool:
        """Whether an idle connection still leads anywhere; where it does not, older ones do not either."""
        left = ends - time.monotonic()
        if line.round_trip > left / 4:  # no time for both a trial and the command
            return True
        try:  # most of the time is for a new connection
            [answer] = line.ask(PING, 1, time.monotonic() + max(left / 4, line.round_trip * 2))
        except BROKEN:
            self._drop_idle()
            return False
        return answer == b"PONG" or isinstance(answer, ReplyError)

    def _give(self, line: Line, now: float) -> None:
        self._idle.append(line)
        if self._queue:
            with self._lock:
                self._hand_out()
        with contextlib.suppress(IndexError):
            if now - self._idle[0].used > SPARE_SECONDS:
                self._drop(self._idle.popleft())

    def _drop_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._drop(self._idle.pop())

    def _drop(self, line: Line) -> None:
        self._live.discard(line)
        line.close()

    def _wait(self, ends: float) -> Line:
        """For one that is given back or made, in turn."""
        turn = _Turn()
        with self._lock:
            self._queue.append(turn)
            self._hand_out()
            inline = turn.line is None and not self._make_more()
        if inline:  # no thread can be started now: better to wait than to have no connection
            self._make(ends)
        try:
            turn.done.acquire(timeout=max(ends - time.monotonic(), 0))
        finally:
            with self._lock, contextlib.suppress(ValueError):  # it was its turn
                self._queue.remove(turn)
        if turn.line is not None:
            return turn.line
        if self._live:
            raise BusyError(f"none of this process's {self._most} connections was free in time")
        raise LostError(turn.why or f"no connection within {self.seconds:g} s")

    def _hand_out(self) -> None:
        """What is idle, to those who wait; the lock is held."""
        while self._queue and self._idle:
            with contextlib.suppress(IndexError):
                line = self._idle.pop()
                turn = self._queue.popleft()
                turn.line = line
                turn.done.release()

    def _make_more(self) -> bool:
        """One for each that waits, up to the most; false where no thread can be started. The lock is held."""
        wanted = min(len(self._queue), MAKING_MOST, self._most - len(self._live))
        if self._closed or self._making >= wanted:
            return True
        until = time.monotonic() + CONNECT_SECONDS
        maker = threading.Thread(target=self._make, args=(until,), name="breaker-store-connect", daemon=True)
        self._making += 1
        try:
            maker.start()
        except RuntimeError:
            return False
        return True

    def _make(self, ends: float) -> None:
        line, why = None, ""
        try:
            line = self._connect(ends)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits is told
            why = told(error)
        with self._lock:
            self._making -= 1
            if line is not None and not self._closed:
                line.era = self._era
                self._live.add(line)
                self._idle.append(line)
                self._hand_out()
            if self._queue and line is not None:
                self._make_more()
            elif not (self._live or self._making):
                self._send_away(why)

    def _send_away(self, why: str) -> None:
        """Nobody comes back with a connection for those who wait; the lock is held."""
        while self._queue:
            turn = self._queue.popleft()
            turn.why = why
            turn.done.release()


def connect(
    host: str, port: int, greeting: Iterable[Command], context: ssl.SSLContext | None, ends: float
) -> Line:
    """A connection to a server that has been greeted.

    Args:
        host: Its name or address.
        port: Its port.
        greeting: What is said first, in one round trip: AUTH, SELECT.
        context: How TLS is spoken, if it is.
        ends: Until when, on the monotonic clock.

    Raises:
        OSError: It cannot be reached in time.
        LostError: It does not take the greeting.
    """
    connected = _open(_addresses(host, port, ends), ends)
    try:
        if context is not None:
            connected.settimeout(max(ends - time.monotonic(), LEAST_SECONDS))
            context.sslsocket_class = _TlsSocket
            connected = context.wrap_socket(connected, server_hostname=host.partition("%")[0])
        line = Line(connected)
        commands = list(greeting)
        answers = line.ask(b"".join(map(packed, commands)), len(commands), ends)
    except BaseException:
        connected.close()
        raise
    for command, answer in zip(commands, answers, strict=True):
        # A user may lack the right to give the connection a name.
        if isinstance(answer, ReplyError) and (answer.lost or command[0] != "CLIENT"):
            line.close()
            raise LostError(str(answer))
    return line


def told(error: Exception) -> str:
    """What went wrong with a connection, in words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


#: What names resolved to: the last good answers, or why there is none.
_resolved: dict[tuple[str, int], list[Any] | OSError] = {}
#: Who asks for them; in a forked child none of them is alive.
_resolving: dict[tuple[str, int], threading.Thread] = {}


def _addresses(host: str, port: int, ends: float) -> list[Any]:
    """Where a name leads; its last good answer, where there is none at once.

    Raises:
        OSError: It leads nowhere, or nobody says so in time.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    known = isinstance(_resolved.get((host, port)), list)
    asking = _resolving.get((host, port))
    if asking is None or not asking.is_alive():
        asking = threading.Thread(
            target=_resolve, args=(host, port), name="breaker-store-resolve", daemon=True
        )
        try:
            asking.start()
        except RuntimeError:  # no thread can be started now
            if not known:
                _resolve(host, port)
        else:
            _resolving[host, port] = asking
    if asking.is_alive():
        asking.join(RESOLVE_SECONDS if known else max(ends - time.monotonic(), 0))
    found = _resolved.get((host, port), TimeoutError("the name was not resolved in time"))
    if isinstance(found, OSError):
        raise found
    return found


def _resolve(host: str, port: int) -> None:
    try:
        _resolved[host, port] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        if not isinstance(_resolved.get((host, port)), list):
            _resolved[host, port] = error


def _open(addresses: Sequence[Any], ends: float) -> socket.socket:
    """A connection to the first address that takes one; the next is tried while one is silent.

    Raises:
        OSError: None did in time; what the last one said.
    """
    left, error = deque(addresses), OSError("the name has no address")
    trying: set[socket.socket] = set()
    with DefaultSelector() as selector:
        try:
            while left or trying:
                if left:
                    try:
                        opened = _begin(left.popleft())
                    except OSError as refused:
                        error = refused
                        continue
                    trying.add(opened)
                    selector.register(opened, EVENT_WRITE)
                patience = max(ends - time.monotonic(), 0)
                if not patience:
                    raise TimeoutError("timed out")
                for key, _ in selector.select(min(patience, STAGGER_SECONDS) if left else patience):
                    found: Any = key.fileobj
                    selector.unregister(found)
                    trying.discard(found)
                    failure = found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not failure:
                        return found  # type: ignore[no-any-return]  # what was registered
                    found.close()
                    error = OSError(failure, os.strerror(failure))
        finally:
            for opened in trying:
                opened.close()
    raise error


def _begin(address: Any) -> socket.socket:
    """A socket that is about to be connected."""
    family, kind, protocol, _, place = address
    opened = _Socket(family, kind, protocol)
    try:
        opened.setblocking(False)  # noqa: FBT003 - the socket's own
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        code = opened.connect_ex(place)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))  # noqa: TRY301 - the socket is closed with it
    except BaseException:
        opened.close()
        raise
    return opened
