"""One simulated provider: its port, its mode, its counts, and its answers."""

import asyncio
import json
import random
import re
import socket
import struct
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from http.client import responses as reasons
from itertools import chain, repeat
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
from workers.simulator.oddities import Oddities, Spoiler
from workers.simulator.quotas import Quotas
from workers.simulator.replies import REPLIES, Reply
from workers.simulator.replies.refusals import Refusal, refusal_of

# How a symbol starts, a CIK, or a currency, that no provider knows.
_UNKNOWN = ("UNKNOWN", "ZZZ", "0009999", "XPF")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends a reset
_BLANK = b" " * 1024 * 1024  # of no meaning after a JSON document
_BLANKS = 24  # of these is a huge body: more than any row takes, and an end for who takes it all


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
        rows: How many rows a success had, where some may be odd; 0 elsewhere.
        odd: How many of them were.
    """

    at: float
    service: str
    path: str
    symbol: str
    mode: Mode
    status: int | None = None
    rows: int = 0
    odd: int = 0


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
        faster: See `enforce_quotas`.

    Raises:
        OSError: The port is taken.
    """

    def __init__(
        self, provider: Provider, host: str, port: int, log: deque[Call], faster: float | None = None
    ) -> None:
        self.provider, self.host, self._log, self._faster = provider, host, log, faster
        self._application = Application([(r".*", _Handler, {"station": self})], log_function=_silent)
        self._server = _Server(self._application)
        self._walks: dict[tuple[str, str], tuple[random.Random, Decimal]] = {}
        self._chance = random.Random(provider.service)  # noqa: S311 - no secret
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
        self.oddities = Oddities()
        self.enforce_quotas(self._faster)

    def enforce_quotas(self, faster: float | None) -> None:
        """Keep callers to the documented quotas from the next request on, with nothing counted so far.

        Args:
            faster: By how much windows of an hour and more are shorter than documented; None: no quotas.
        """
        self._faster = faster
        self._quotas = None if faster is None else Quotas(REPLIES[self.provider.service], faster)

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
            **(self._quotas.state() if self._quotas else {"refusals": 0, "above": 0, "quotas": []}),
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

    def reply(self, request: HTTPServerRequest, call: Call) -> Reply:
        """What the provider says to a request, in its present mode.

        Args:
            request: What is asked.
            call: Where it is written down how many rows there are, and odd ones.
        """
        replies = REPLIES[self.provider.service]
        documented = {
            Mode.SERVER_ERROR: replies.server_error,
            Mode.THROTTLE: replies.throttle,
            Mode.QUOTA: replies.quota,
            Mode.BAD_KEY: replies.bad_key,
            **{Mode(kind): refusal_of(self.provider.service, kind) for kind in Refusal},
        }
        if self.mode in documented:
            return documented[self.mode]
        refusal = self._refusal(request)
        if refusal:
            return refusal
        if not any(self._has_path(endpoint, request) for endpoint in self.provider.endpoints.values()):
            return replies.no_path
        dataset, symbol = self._asked(request)
        if not symbol:
            return replies.bad_call or replies.no_path
        answers = replies.endpoints[dataset]
        if symbol.startswith(_UNKNOWN) or self.oddities.is_delisted(symbol):
            return answers.unknown_symbol
        body = answers.live(answers.sample, symbol, self._price(dataset, symbol), datetime.now(UTC))
        if self.oddities.rows:
            spoiler = Spoiler(self.oddities.rows, self._chance)
            body = spoiler.spoil(body)
            call.rows, call.odd = spoiler.rows, spoiler.odd
        return self._told_wrong(Reply(200, body, kind=answers.kind), request)

    def _told_wrong(self, reply: Reply, request: HTTPServerRequest) -> Reply:
        """A success, under the head that the mode gives it."""
        if self.mode is Mode.REDIRECT:
            # This machine by another name: who follows is heard here a second time.
            elsewhere = f"http://localhost:{self.port}{request.path}"
            return replace(reply, status=302, headers={**reply.headers, "Location": elsewhere})
        return replace(reply, kind="text/html") if self.mode is Mode.WRONG_TYPE else reply

    def key_of(self, request: HTTPServerRequest) -> str:
        """The key a request carries, empty where it carries none, or not as it should."""
        auth, headers = self.provider.auth, request.headers
        if auth is None:
            return ""
        found = headers.get(auth.name, "")
        if auth.style == "query":
            return _query(request).get(auth.name, "")
        if auth.style == "pair":
            secret = headers.get(auth.second, "")
            return f"{found}:{secret}" if found and secret else ""
        prefix = "Basic " if auth.style == "basic" else auth.prefix
        return found.removeprefix(prefix) if found.startswith(prefix) else ""

    def symbol_of(self, request: HTTPServerRequest) -> str:
        """What a request asks about, in its own spelling but for the case; empty where it does not say.

        Where the query has the exchange apart, it is behind a colon.
        """
        return self._asked(request)[1]

    def _refusal(self, request: HTTPServerRequest) -> Reply | None:
        """What the provider says to a caller it does not let in; None to any other."""
        if not self._is_declared(request):
            return REPLIES[self.provider.service].bad_key
        return self._quotas.refusal(time.time()) if self._quotas else None

    def _is_declared(self, request: HTTPServerRequest) -> bool:
        """Whether the request carries the key, and the contact, that the provider wants."""
        if self.provider.contact_required and "@" not in request.headers.get("User-Agent", ""):
            return False
        return bool(self.key_of(request)) or not self.provider.key_required

    def _asked(self, request: HTTPServerRequest) -> tuple[str, str]:
        """Which dataset a request asks for, and about what; empty where it is no endpoint's."""
        for dataset, endpoint in self.provider.endpoints.items():
            if self._has_path(endpoint, request):
                symbol = _symbol(self.provider, endpoint, request)
                if symbol:
                    return dataset, symbol
        return "", ""

    def _has_path(self, endpoint: Endpoint, request: HTTPServerRequest) -> bool:
        return (
            request.method == endpoint.method
            and _path_pattern(self.provider, endpoint).fullmatch(request.path) is not None
        )

    def _price(self, dataset: str, symbol: str) -> Decimal:
        """The next step of a symbol's walk: the same in every run, from the sample's price on."""
        start = REPLIES[self.provider.service].endpoints[dataset].start
        walk, price = self._walks.get((dataset, symbol)) or (random.Random(symbol), start)  # noqa: S311 (no secret)
        step = Decimal(walk.randint(-20, 20)) / 10_000
        price_then = max((price * (1 + step)).quantize(Decimal("0.01")), Decimal("0.01"))
        self._walks[dataset, symbol] = (walk, price_then)
        return price


class _Handler(RequestHandler):
    def initialize(self, station: Station) -> None:
        self._station, self._gone = station, asyncio.Event()

    def on_connection_close(self) -> None:
        self._gone.set()

    async def post(self) -> None:
        await self.get()

    async def get(self) -> None:
        station, request = self._station, self.request
        symbol = station.symbol_of(request)
        with station.counted(request.path, symbol) as call, suppress(StreamClosedError):
            if station.mode is Mode.HANG:
                await self._gone.wait()
            else:
                await self._answer(call, station.reply(request, call))

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
        for name, value in reply.headers_at(time.time()).items():
            self.set_header(name, value)
        if call.mode is Mode.GZIP_BOMB:
            self.set_header("Content-Encoding", "gzip")
        elif call.mode is not Mode.HUGE:
            self.set_header("Content-Length", str(len(body)))
        for piece in _pieces(body, call.mode):
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


def _pieces(body: bytes, mode: Mode) -> Iterable[bytes]:
    """What is sent one after the other; each is made in its turn, and none once the caller is gone."""
    if mode is Mode.DRIP:
        return (body[place : place + 1] for place in range(len(body)))
    if mode in (Mode.HUGE, Mode.GZIP_BOMB):
        huge = chain([body], repeat(_BLANK, _BLANKS))
        return _zipped(huge) if mode is Mode.GZIP_BOMB else huge
    return [body]


def _zipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Each piece in gzip's form, as soon as it is there."""
    packer = zlib.compressobj(wbits=31)
    for piece in pieces:
        yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


def _path_pattern(provider: Provider, endpoint: Endpoint) -> re.Pattern[str]:
    """The endpoint's path, with or without the path of the real base URL before it."""
    prefix = re.escape(urlsplit(provider.base_url).path)
    return re.compile(f"(?:{prefix})?{_pattern(endpoint.path)}")


def _pattern(template: str) -> str:
    """What a template's placeholders may be filled with, the symbol as a group."""
    parts = re.split(r"(\{[a-z_]+\})", template)
    return "".join(_stands_for(part) if part.startswith("{") else re.escape(part) for part in parts)


def _stands_for(placeholder: str) -> str:
    if placeholder == "{venue}":
        return "[A-Z]*"
    return "(?P<symbol>.+)" if placeholder in ("{symbol}", "{symbol_lower}") else "[0-9-]+"


def _symbol(provider: Provider, endpoint: Endpoint, request: HTTPServerRequest) -> str:
    """The symbol in a request that is made as the endpoint wants it, empty in any other."""
    path = _path_pattern(provider, endpoint).fullmatch(request.path)
    if path is None:
        return ""
    found, query = [path], _query(request)
    pairs = [(value, query.get(name, "")) for name, value in endpoint.params.items()]
    if endpoint.body is not None:
        pairs += _texts(endpoint.body, _document(request.body))
    for template, text in pairs:
        filled = re.fullmatch(_pattern(template), text)
        if filled is None:
            return ""
        found.append(filled)
    symbols = [match["symbol"] for match in found if "symbol" in match.re.groupindex]
    if not symbols:
        return ""
    venue = next((query.get(name, "") for name, value in endpoint.params.items() if value == "{venue}"), "")
    return unquote(symbols[0]).upper() + (f":{venue}" if venue else "")


def _document(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _texts(template: object, document: object) -> list[tuple[str, str]]:
    """Each text of a body's template, beside what a request's body has in its place."""
    if isinstance(template, str):
        return [(template, document if isinstance(document, str) else "")]
    if isinstance(template, Mapping):
        members = document if isinstance(document, dict) else {}
        return [pair for name, part in template.items() for pair in _texts(part, members.get(name))]
    if isinstance(template, list | tuple):
        elements = document if isinstance(document, list) else []
        padded = [*elements, *[None] * len(template)]
        return [
            pair for part, element in zip(template, padded, strict=False) for pair in _texts(part, element)
        ]
    return []


def _query(request: HTTPServerRequest) -> dict[str, str]:
    return {name: values[-1].decode(errors="replace") for name, values in request.query_arguments.items()}


def _silent(_handler: RequestHandler) -> None:
    """No access log: tornado's would hold the keys, and `/calls` says the same without them."""
