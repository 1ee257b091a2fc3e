"""One simulated provider: its port, its mode, its counts, and its answers."""

import asyncio
import random
import re
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from http.client import responses as reasons
from secrets import token_bytes
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakSet

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.iostream import IOStream, StreamClosedError
from tornado.web import Application, RequestHandler

from tasks.providers.rows import Endpoint, Provider
from workers.simulator.modes import DEFAULT_SECONDS, Mode
from workers.simulator.replies import REPLIES, Reply

_UNKNOWN = ("UNKNOWN", "ZZZ")  # how a symbol starts that no provider knows
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends a reset


@dataclass(slots=True)
class Call:
    """One request that reached a provider.

    Attributes:
        at: When, as Unix time in seconds.
        service: Whom.
        path: Without the query, where a key may be.
        symbol: About what; empty where the request names none.
        mode: The provider's mode then.
        status: The HTTP status sent; None while, or because, none was.
    """

    at: float
    service: str
    path: str
    symbol: str
    mode: Mode
    status: int | None = None


class _Server(HTTPServer):
    """Knows its live connections, so that they can be reset."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        self.streams: WeakSet[IOStream] = WeakSet()
        self.accepted = 0

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        self.streams.add(stream)
        self.accepted += 1
        super().handle_stream(stream, address)

    def reset_connections(self) -> None:
        for stream in list(self.streams):
            if not stream.closed():
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                stream.close()


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address, not listening: connections are refused, and nobody else can have it.

    Raises:
        OSError: The port is taken, or the host is none of this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)  # noqa: FBT003 (its only argument)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


class Station:
    """One provider.

    Args:
        provider: Its row in the catalogue.
        host: Where to listen.
        port: Where to listen; 0 for a free one.
        log: Where its calls are written down.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, provider: Provider, host: str, port: int, log: deque[Call]) -> None:
        self.provider, self.host, self._log = provider, host, log
        self._application = Application([(r".*", _Handler, {"station": self})], log_function=_silent)
        self._server = _Server(self._application)
        self._walks: dict[str, tuple[random.Random, Decimal]] = {}
        self._socket: socket.socket | None = bound_socket(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.mode, self.seconds = Mode.DOWN, 0.0
        self.in_flight = 0
        self.clear()
        self.set_mode(Mode.OK)  # listens even where the default is down: a port in use shows now, not later
        self.set_mode(self.default_mode)

    @property
    def default_mode(self) -> Mode:
        """A retired provider is down."""
        return Mode.DOWN if self.provider.retired else Mode.OK

    @property
    def base_url(self) -> str:
        """What to set <SERVICE>_BASE_URL to; ends as the real one does."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}{urlsplit(self.provider.base_url).path}"

    def clear(self) -> None:
        """Forget the counts and the prices."""
        self.calls_by_mode: Counter[str] = Counter()
        self.max_in_flight = self.in_flight
        self._server.accepted = 0
        self._walks.clear()

    def set_mode(self, mode: Mode, seconds: float | None = None) -> None:
        """Behave like this from the next request on; `down` also ends the requests there are.

        Args:
            mode: How.
            seconds: The delay of slow, the time between two bytes of drip; the mode's own default where None.
        """
        self.seconds = DEFAULT_SECONDS.get(mode, 0.0) if seconds is None else seconds
        self.mode = mode
        if mode is Mode.DOWN:
            self._go_down()
        elif self._socket is not None:
            self._go_up(self._socket)

    def close(self) -> None:
        """Give up the port and reset the connections."""
        self._server.stop()
        self._server.reset_connections()
        if self._socket is not None:
            self._socket.close()

    def state(self) -> dict[str, object]:
        """What the control API shows of it."""
        return {
            "mode": self.mode,
            "seconds": self.seconds,
            "base_url": self.base_url,
            "port": self.port,
            "calls": self.calls_by_mode.total(),
            "calls_by_mode": dict(self.calls_by_mode),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "connections": self._server.accepted,
        }

    def _go_up(self, bound: socket.socket) -> None:
        bound.listen(1024)
        accepted = self._server.accepted
        self._server = _Server(self._application)  # tornado's stop() works once
        self._server.accepted = accepted
        self._server.add_socket(bound)
        self._socket = None

    def _go_down(self) -> None:
        if self._socket is None:
            self._server.stop()
            self._server.reset_connections()
            self._socket = bound_socket(self.host, self.port)

    @contextmanager
    def counted(self, path: str, symbol: str) -> Iterator[Call]:
        """Write a call down, and count it while it is answered."""
        call = Call(time.time(), self.provider.service, path, symbol, self.mode)
        self._log.append(call)
        self.calls_by_mode[self.mode] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield call
        finally:
            self.in_flight -= 1

    def reply(self, request: HTTPServerRequest, symbol: str) -> Reply:
        """What the provider says to a request, in its present mode."""
        replies, endpoint = REPLIES[self.provider.service], self.provider.endpoints["quote"]
        documented = {
            Mode.SERVER_ERROR: replies.server_error,
            Mode.THROTTLE: replies.throttle,
            Mode.QUOTA: replies.quota,
            Mode.BAD_KEY: replies.bad_key,
        }
        if self.mode in documented:
            return documented[self.mode]
        if not self.key_of(request):
            return replies.bad_key
        if not _path_pattern(self.provider, endpoint).fullmatch(request.path):
            return replies.no_path
        if not symbol or not _fixed_params(endpoint).items() <= _query(request).items():
            return replies.bad_call or replies.no_path
        if symbol.startswith(_UNKNOWN):
            return replies.unknown_symbol
        return Reply(200, replies.live(replies.sample, symbol, self._price(symbol), datetime.now(UTC)))

    def key_of(self, request: HTTPServerRequest) -> str:
        """The key a request carries, empty where it carries none."""
        auth = self.provider.auth
        return (
            request.headers.get(auth.name, "")
            if auth.style == "header"
            else _query(request).get(auth.name, "")
        )

    def symbol_of(self, request: HTTPServerRequest) -> str:
        """What a request asks about, empty where it does not say."""
        endpoint = self.provider.endpoints["quote"]
        found = _path_pattern(self.provider, endpoint).fullmatch(request.path)
        if found and "symbol" in found.groupdict():
            return unquote(found["symbol"]).upper()
        names = [name for name, value in endpoint.params.items() if value == "{symbol}"]
        return next((_query(request).get(name, "") for name in names), "").upper()

    def _price(self, symbol: str) -> Decimal:
        """The next step of a symbol's walk: the same in every run, from the sample's price on."""
        start = REPLIES[self.provider.service].start
        walk, price = self._walks.get(symbol) or (random.Random(symbol), start)  # noqa: S311 (no secret)
        step = Decimal(walk.randint(-20, 20)) / 10_000
        self._walks[symbol] = (walk, max((price * (1 + step)).quantize(Decimal("0.01")), Decimal("0.01")))
        return price


class _Handler(RequestHandler):
    def initialize(self, station: Station) -> None:
        self._station, self._gone = station, asyncio.Event()

    def on_connection_close(self) -> None:
        self._gone.set()

    async def get(self) -> None:
        station, request = self._station, self.request
        symbol = station.symbol_of(request)
        with station.counted(request.path, symbol) as call, suppress(StreamClosedError):
            if station.mode is Mode.HANG:
                await self._gone.wait()
            else:
                await self._answer(call, station.reply(request, symbol))

    async def _answer(self, call: Call, reply: Reply) -> None:
        # Alpha Vantage tells the caller's key back, where its documentation has REDACTED.
        body = reply.encoded().replace(b"REDACTED", self._station.key_of(self.request).encode() or b"")
        if call.mode is Mode.GARBAGE:
            body = b"\xff" + token_bytes(255)
        if call.mode is Mode.SLOW:
            await self._pause()
        call.status = reply.status
        if call.mode is Mode.HALF:
            await self._send_half(reply, body)
            return
        self.set_status(reply.status, reasons.get(reply.status, ""))
        self.set_header("Content-Type", reply.content_type)
        self.set_header("Content-Length", str(len(body)))
        next_minute = int(time.time() // 60 + 1) * 60
        for name, value in reply.headers.items():
            self.set_header(name, value.format(next_minute=next_minute))
        for piece in _pieces(body) if call.mode is Mode.DRIP else [body]:
            self.write(piece)
            await self.flush()
            if call.mode is Mode.DRIP:
                await self._pause()

    async def _send_half(self, reply: Reply, body: bytes) -> None:
        head = f"HTTP/1.1 {reply.status} {reasons[reply.status]}\r\nContent-Type: {reply.content_type}\r\n"
        stream = self.detach()
        await stream.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
        stream.close()

    async def _pause(self) -> None:
        """Wait the mode's seconds, less where the caller goes away."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), self._station.seconds)


def _pieces(body: bytes) -> Iterator[bytes]:
    return (body[place : place + 1] for place in range(len(body)))


def _path_pattern(provider: Provider, endpoint: Endpoint) -> re.Pattern[str]:
    """The endpoint's path, with or without the path of the real base URL before it."""
    prefix = re.escape(urlsplit(provider.base_url).path)
    path = re.escape(endpoint.path).replace(re.escape("{symbol}"), "(?P<symbol>[^/]+)")
    return re.compile(f"(?:{prefix})?{path}")


def _fixed_params(endpoint: Endpoint) -> Mapping[str, str]:
    return {name: value for name, value in endpoint.params.items() if value != "{symbol}"}


def _query(request: HTTPServerRequest) -> dict[str, str]:
    return {name: values[-1].decode(errors="replace") for name, values in request.query_arguments.items()}


def _silent(_handler: RequestHandler) -> None:
    """No access log: tornado's would hold the keys, and `/calls` says the same without them."""
