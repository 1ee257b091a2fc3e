"""The network's edge: one call to one provider, bounded in time and size, every failure turned into a value.

The calls are made on one event loop in a thread of its own, a loop per process:

* One `asyncio.timeout` bounds the whole call, name look-up to last byte. Per-read time-outs cannot do that.
* Celery's soft time limit raises out of a signal handler, in the main thread, at any line. So it interrupts
  a plain wait. Inside a running loop it could be swallowed by a callback, or leave the loop in pieces.
* Names are looked up in threads that nobody waits for: a call ends in time though its look-up does not, and
  one provider's slow names delay no other provider, nor the end of the process.
* Connections are kept and shared by all threads of the process, and by no other: a forked child starts anew.
* The loop only moves bytes, and gives every other call its turn after a few milliseconds. A body is unpacked
  and read in the thread that asked for it, one layer of compression at most: what that costs, this call pays.
* A loop that stood still all the same, as on a machine that slept, is no evidence against a provider:
  a call that ran out of time meanwhile is `delayed`, says nothing of the provider and is made again.

Environment proxies are not used: a circuit is about a provider, not about what stands in between.
"""

import asyncio
import atexit
import json
import logging
import math
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import aclosing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx2

from tasks.errors import MissingSettingError
from tasks.providers.catalogue import find_endpoint
from tasks.providers.holds import AUTH_HOLD, RETIRED_HOLD, sent_at
from tasks.providers.redaction import KeyFilter, redact
from tasks.providers.rows import Endpoint, Provider, Verdict
from tasks.providers.shapes import shape_of, tell_left_out, tell_once
from tasks.providers.symbols import clean_symbol
from tasks.providers.verdicts import Judgement, judge
from tasks.settings import ProviderSettings, provider_settings, require_contact, require_key

_T = TypeVar("_T")
_HEADERS = {
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "market-data-resilience",
}
_ACCEPT = {"json": "application/json", "csv": "text/csv, text/plain;q=0.5"}
_WORDS: dict[type[BaseException], str] = {
    socket.gaierror: "the name does not resolve",
    ConnectionRefusedError: "connection refused",
    ssl.SSLCertVerificationError: "its TLS certificate cannot be verified",
    ssl.SSLError: "the TLS handshake failed",
    ConnectionResetError: "connection reset",
    httpx2.RemoteProtocolError: "the connection was cut off, or the reply is no HTTP",
    httpx2.ReadError: "the connection was cut off",
    httpx2.ConnectError: "cannot connect",
}
_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30)
# What did not happen in time, by the last thing that was begun.
_STAGES = {
    "connection.connect_tcp.started": (_NO_CONNECTION := "no connection"),
    "connection.start_tls.started": (_NO_HANDSHAKE := "no TLS handshake"),
    "http11.send_request_headers.started": "no answer",
    "http11.receive_response_body.started": "no complete body",
}
_STREAMS = ("connection.connect_tcp.complete", "connection.start_tls.complete")
_GRACE = 1.0  # seconds the loop's thread has to report a deadline that passed
# How long one call may keep the loop to itself while bytes of its body are there; and how many bytes it may
# take at once: what comes before the body, interim replies by the hundred, the library reads without a pause.
_TURN_SECONDS, _TURN_BYTES = 0.005, 2048
# The loop's pulse while calls are under way. A beat that is later than the second number tells that the loop
# stood still.
_BEAT_SECONDS, _STILL_SECONDS = 0.1, 0.25
# A call that lost more than this part of its time so was delayed by us.
_DELAYED_PART = 0.25
# What a server may do that was kept waiting.
_CUT_OFF = (httpx2.TimeoutException, httpx2.ReadError, httpx2.WriteError, httpx2.RemoteProtocolError)
# How to unpack what was asked for (zlib's wbits); and what was not, and is known to be no plain text either.
_PACKED = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_UNASKED = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})

_key_filter = KeyFilter()
for _name in ("httpx2", "httpcore2.connection", "httpcore2.http11", "httpcore2.http2", "asyncio"):
    logging.getLogger(_name).addFilter(
        _key_filter
    )  # a filter works on its own logger only, not on the children


class TransportError(Exception):
    """No usable reply came; the message says why, without URL query and key."""


class DelayedError(TransportError):
    """The same, and it was this process that lost the time: nobody knows what the provider had said."""


@dataclass(frozen=True, slots=True)
class RawReply:
    """A reply as it came.

    Attributes:
        status: HTTP status.
        headers: Their names in any case; of several by one name the last.
        body: Decompressed.
    """

    status: int
    headers: dict[str, str]
    body: bytes


_heard: ContextVar[list[RawReply] | None] = ContextVar("heard", default=None)


@contextmanager
def overheard() -> Iterator[list[RawReply]]:
    """The replies to the calls that this thread makes meanwhile: they hold whatever a provider says."""
    replies: list[RawReply] = []
    token = _heard.set(replies)
    try:
        yield replies
    finally:
        _heard.reset(token)


def call(
    service: str,
    dataset: str,
    symbol: str,
    *,
    settings: ProviderSettings | None = None,
    deadline_seconds: float | None = None,
    now: datetime | None = None,
    idents: Mapping[str, str] = MappingProxyType({}),
) -> Judgement:
    """Ask a provider once. No retry: how often it may be asked is the breaker's to say.

    Args:
        service: The provider's name in the catalogue.
        dataset: What to ask for.
        symbol: About what.
        settings: Keys and addresses; the process's own where None.
        deadline_seconds: Wall-clock bound of the whole call; the row's own where None.
        now: The time asked at, for endpoints that want dates; the clock's where None.
        idents: The endpoint's directory: ticker → the provider's id. Not used where the symbol is an id.

    Returns:
        The judgement. A missing key or contact is `auth`, a retired provider without a base URL set by hand
        `retired`, all without a call; no usable reply is `provider_failure`, or `delayed`, where this process
        stood still for a good part of the call.

    Raises:
        InputError: An unknown service or dataset, or an impossible symbol (see `tasks.errors`).
    """
    settings = settings or provider_settings()
    provider = settings.row(service)
    endpoint = find_endpoint(provider, dataset)
    symbol = clean_symbol(symbol)
    if provider.retired and settings.base_url_override(service) is None:
        return Judgement(Verdict.RETIRED, RETIRED_HOLD, f"{provider.name}: {provider.note}")
    try:
        key, contact = require_key(service, settings), require_contact(service, settings)
    except MissingSettingError as error:
        return Judgement(Verdict.AUTH, AUTH_HOLD, str(error))
    _key_filter.keys |= settings.keys()
    ticker = endpoint.ticker(symbol)
    if ticker and ticker not in idents:
        return Judgement(Verdict.NOT_FOUND, detail=f"{provider.name} lists no {ticker}")
    base_url = settings.base_url_override(service) or endpoint.host or settings.base_url(service)
    words = endpoint.words(symbol, now or datetime.now(UTC), idents.get(ticker, ""))
    request = _request(provider, endpoint, words, base_url, key, contact)
    try:
        reply = _edge().fetch(request, deadline_seconds or provider.deadline_seconds, provider.max_body_bytes)
    except TransportError as error:
        verdict = Verdict.DELAYED if isinstance(error, DelayedError) else Verdict.PROVIDER_FAILURE
        judgement = Judgement(verdict, detail=f"{provider.name} at {urlsplit(base_url).netloc}: {error}")
    else:
        listener = _heard.get()
        if listener is not None:
            listener.append(reply)
        # Until when it is to be left alone, it says by its own clock.
        asked = sent_at(reply.headers) or datetime.now(UTC)
        judgement = judge(
            service,
            dataset,
            reply.status,
            reply.headers,
            reply.body,
            now=asked,
            symbol=symbol,
            spelled=words["symbol"],
        )
        if not judgement.documented:
            shape = shape_of(reply.status, reply.headers, reply.body, settings.keys())
            tell_once(service, dataset, judgement.verdict.value, shape)
        tell_left_out(service, dataset, judgement.shapes)
    return replace(judgement, detail=redact(judgement.detail, settings.keys()))


def _request(
    provider: Provider,
    endpoint: Endpoint,
    words: Mapping[str, str],
    base_url: str,
    key: str | None,
    contact: str | None,
) -> httpx2.Request:
    filled = {name: value.format_map(words) for name, value in endpoint.params.items()}
    params = {name: value for name, value in filled.items() if value}
    headers = {**_HEADERS, "Accept": _ACCEPT[endpoint.reply], **provider.headers}
    if contact is not None:
        headers["User-Agent"] = contact
    if key is not None and provider.auth is not None:
        params |= provider.auth.params(key)
        headers |= provider.auth.headers(key)
    content = None
    if endpoint.body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(_filled(endpoint.body, words)).encode()
    # The slashes of a spelling are the row's own; a symbol has none.
    path = endpoint.path.format_map({name: quote(word, safe="/") for name, word in words.items()})
    limits = {
        "connect": provider.connect_seconds,
        "read": provider.read_seconds,
        "write": provider.read_seconds,
    }
    return httpx2.Request(
        endpoint.method,
        base_url + path,
        params=params,
        headers=headers,
        content=content,
        extensions={"timeout": limits},
    )


def _filled(template: object, words: Mapping[str, str]) -> object:
    """A body's template with its placeholders filled."""
    if isinstance(template, str):
        return template.format_map(words)
    if isinstance(template, Mapping):
        return {name: _filled(value, words) for name, value in template.items()}
    if isinstance(template, list | tuple):
        return [_filled(value, words) for value in template]
    return template


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in threads of its own: each question once at a time, whoever waits for the answer.

    asyncio's own threads are few, so names that are slow would hold up all others; and a process does not end
    before they do. And it notes how long it stood still while calls were under way.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lookups: dict[tuple[Any, ...], asyncio.Future[Any]] = {}
        self._calls = 0
        self._stood, self._beat_at = 0.0, math.inf

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call is under way."""
        self._calls += 1
        if self._calls == 1:
            self._next_beat()
        try:
            yield
        finally:
            self._calls -= 1

    @property
    def stood(self) -> float:
        """Seconds it has stood still so far."""
        late = self.time() - self._beat_at
        return self._stood + (late if late > _STILL_SECONDS else 0)

    def _next_beat(self) -> None:
        self._beat_at = self.time() + _BEAT_SECONDS
        self.call_at(self._beat_at, self._beat, self._beat_at)

    def _beat(self, due: float) -> None:
        if due != self._beat_at:  # of calls that have ended since
            return
        self._stood = self.stood
        if self._calls:
            self._next_beat()
        else:
            self._beat_at = math.inf

    def looks_up(self, host: bytes) -> bool:
        """Whether a name is being looked up."""
        return any(place[0] == host for place, _ in self._lookups)

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Any:
        """As `socket.getaddrinfo`; a caller that waits no more leaves the look-up to the others."""
        question = ((host, port), tuple(sorted(options.items())))
        lookup = self._lookups.get(question)
        if lookup is None:
            lookup = self._lookups[question] = self.create_future()
            thread = threading.Thread(
                target=self._look_up, args=(question, lookup), name="provider-name", daemon=True
            )
            thread.start()
        return await asyncio.shield(lookup)

    def _look_up(self, question: tuple[Any, ...], lookup: asyncio.Future[Any]) -> None:
        found, error = None, None
        try:
            found = socket.getaddrinfo(*question[0], **dict(question[1]))
        except Exception as raised:  # noqa: BLE001 - whoever waits is to have it
            error = raised
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self.call_soon_threadsafe(self._answer, question, lookup, found, error)

    def _answer(
        self, question: tuple[Any, ...], lookup: asyncio.Future[Any], found: Any, error: Exception | None
    ) -> None:
        del self._lookups[question]
        if error is None:
            lookup.set_result(found)
        else:
            lookup.set_exception(error)
            lookup.exception()  # seen, even if nobody waits any more


class _Progress:
    """How far a request has come, as the HTTP library tells it."""

    def __init__(self) -> None:
        self.missing = "no answer"
        self._stream: Any = None

    async def note(self, event: str, told: Mapping[str, Any]) -> None:
        """Told of everything that begins and ends."""
        self.missing = _STAGES.get(event, self.missing)
        if event in _STREAMS:
            stream = told["return_value"]
            stream.read = partial(self._read, stream.read)
            if event == _STREAMS[0]:
                self._stream = stream

    @staticmethod
    def _read(read: Callable[..., Awaitable[bytes]], most: int, **limit: float | None) -> Awaitable[bytes]:
        return read(min(most, _TURN_BYTES), **limit)

    async def leave(self) -> None:
        """Close the connection of a handshake that was cancelled: the library leaves it open."""
        if self._stream is not None and self.missing == _NO_HANDSHAKE:
            await self._stream.aclose()


class _Edge:
    """One process's connections, and the thread that works on them."""

    def __init__(self) -> None:
        # The bare transport: a client would add cookies, redirects, .netrc and a log line with the whole URL.
        self._transport = httpx2.AsyncHTTPTransport(
            verify=httpx2.create_ssl_context(), trust_env=False, limits=_LIMITS
        )
        self._loop = _Loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="provider-http", daemon=True)
        self._thread.start()

    def fetch(self, request: httpx2.Request, deadline: float, max_bytes: int) -> RawReply:
        """Send, and take the whole reply.

        Raises:
            TransportError: No whole reply of at most `max_bytes` came within `deadline` seconds.
            DelayedError: The same, because this process was busy with something else.
        """
        packed, encodings = self._wait(self._fetch(request, deadline, max_bytes), deadline + _GRACE)
        return replace(packed, body=_unpacked(packed.body, encodings, max_bytes))

    def close(self) -> None:
        """Close every connection and end the thread."""
        self._wait(self._shut(), _GRACE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_GRACE)
        if not self._thread.is_alive():
            self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, _T], seconds: float) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            raise DelayedError("this process was too busy to make the call") from None
        except CancelledError:
            raise TransportError("the connections were closed meanwhile") from None
        finally:
            future.cancel()  # of use only where a signal's exception, or the time-out, ended the wait

    async def _fetch(
        self, request: httpx2.Request, deadline: float, max_bytes: int
    ) -> tuple[RawReply, list[str]]:
        """The reply with its body as it came, and how that is packed."""
        body, progress = bytearray(), _Progress()
        request.extensions["trace"] = progress.note
        began, stood = self._loop.time(), self._loop.stood
        try:
            with self._loop.call():
                async with asyncio.timeout(deadline):
                    response = await self._transport.handle_async_request(request)
                    async with aclosing(response), aclosing(response.aiter_raw()) as chunks:
                        turn_ends = time.monotonic() + _TURN_SECONDS
                        async for chunk in chunks:
                            body += chunk
                            if len(body) > max_bytes:
                                raise TransportError(f"the body is larger than {max_bytes} bytes")
                            if time.monotonic() > turn_ends:  # of a body in crumbs: others want to go on
                                await asyncio.sleep(0)
                                turn_ends = time.monotonic() + _TURN_SECONDS
        except (TimeoutError, httpx2.HTTPError, OSError, UnicodeError) as error:
            stood = self._loop.stood - stood
            if isinstance(error, (TimeoutError, *_CUT_OFF)) and stood > _DELAYED_PART * (
                self._loop.time() - began
            ):
                raise DelayedError(f"this process stood still for {stood:.1f} s of the call") from None
            raise TransportError(self._words(error, request, deadline, progress, len(body))) from None
        finally:
            await progress.leave()
        encodings = response.headers.get_list("content-encoding", split_commas=True)
        return RawReply(response.status_code, dict(response.headers), bytes(body)), encodings

    def _words(
        self, error: Exception, request: httpx2.Request, deadline: float, progress: _Progress, came: int
    ) -> str:
        """What went wrong with a call."""
        if not isinstance(error, (TimeoutError, httpx2.TimeoutException)):
            return _words(error)
        missing = progress.missing
        if missing == _NO_CONNECTION and self._loop.looks_up(request.url.raw_host):
            missing = "no address for its name"
        limits, within = request.extensions["timeout"], f"within {deadline:g} s"
        if isinstance(error, httpx2.ConnectTimeout):
            within = f"within {limits['connect']:g} s"
        elif isinstance(error, httpx2.TimeoutException):
            within = f"in {limits['read']:g} s of silence"
        return f"{missing} {within} ({came} bytes came)"

    async def _shut(self) -> None:
        ours = asyncio.current_task()
        for task in asyncio.all_tasks() - {ours}:
            task.cancel()
        await self._transport.aclose()


def _unpacked(body: bytes, encodings: Iterable[str], max_bytes: int) -> bytes:
    """A body as it was before it was packed: at most once, so that its size bounds what unpacking takes.

    Raises:
        TransportError: It was packed twice, otherwise than was asked for, or is broken or too large.
    """
    names = [word.strip().lower() for word in encodings]
    codings = [name for name in names if name in _PACKED or name in _UNASKED]
    if not codings or not body:
        return body
    if len(codings) > 1:
        raise TransportError(f"the body is packed {len(codings)} times, as no sound provider does")
    if codings[0] in _UNASKED:
        raise TransportError(f"the body is packed with {codings[0]}, which was not asked for")
    for wbits in dict.fromkeys((_PACKED[codings[0]], -15 if codings[0] == "deflate" else 31)):
        unpacker = zlib.decompressobj(wbits)
        with suppress(zlib.error):  # of deflate there are two kinds, and a server may mean either
            plain = unpacker.decompress(body, max_bytes + 1)
            if len(plain) > max_bytes:
                raise TransportError(f"the body is larger than {max_bytes} bytes")
            if unpacker.eof:
                return plain
    raise TransportError("the body's compression is broken")


def _words(error: BaseException) -> str:
    """What went wrong, by its root cause; the libraries' own messages may show the URL."""
    causes = list(_causes(error))
    for kind, words in _WORDS.items():
        if any(isinstance(cause, kind) for cause in causes):
            return words
    return f"the connection failed ({type(error).__name__})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    if error is None:
        return
    yield error
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _causes(part)
    yield from _causes(error.__cause__ or error.__context__)


class _Process:
    """The edge of this process, made at its first call."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.edge: _Edge | None = None
        self.inherited: list[_Edge] = []

    def forget(self) -> None:
        """After a fork, leave the parent's edge alone.

        Its thread is not here, its sockets and its epoll are shared: to close or even to drop the loop would
        take from the parent what it still uses.
        """
        self.lock = threading.Lock()
        if self.edge is not None:
            self.inherited.append(self.edge)
            self.edge = None

    def close(self) -> None:
        with self.lock:
            edge, self.edge = self.edge, None
        if edge is not None:
            edge.close()


_process = _Process()
os.register_at_fork(after_in_child=_process.forget)
atexit.register(_process.close)


def _edge() -> _Edge:
    with _process.lock:
        if _process.edge is None:
            _process.edge = _Edge()
        return _process.edge


def close() -> None:
    """Close this process's connections; the next call opens new ones. Done by itself at exit."""
    _process.close()
