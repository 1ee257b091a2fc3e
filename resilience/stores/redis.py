"""Circuits and parking lots in Redis or Valkey: each act is one script on the server's clock.

All keys of a service lie under one hash tag, so the same scripts run on a cluster. A command waits
``SOCKET_SECONDS`` at most and is never repeated by the client: what to do then is decided by
``failover.py``, not by a retry nobody sees.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import threading
import time
from functools import cache, partial
from importlib.resources import files
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, parse_url
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from resilience.circuit import (
    TOOK,
    Circuit,
    CircuitState,
    Evidence,
    Finding,
    History,
    Known,
    Permit,
    Reason,
    Report,
    Sample,
    Transition,
    count_of,
    from_micros,
    reason_of,
    time_of,
    to_micros,
    token_for,
)
from resilience.errors import UNREADABLE, StoreFullError, StoreUnavailableError, StoreUnreadableError
from resilience.parking import ParkingLot
from resilience.policy import DEFAULT, MICROSECONDS, Policy, changes_of, effective, micros_in
from resilience.stores import PREFIX
from resilience.stores.cluster import Cluster
from resilience.stores.views import VIEW_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from urllib.parse import SplitResult

logger = logging.getLogger(__name__)

# With what it takes to find that out, a lost store delays one call by no more than 250 ms.
SOCKET_SECONDS = 0.2
# So long replicas have to confirm a write, where they are waited for. A server may tell 100 ms later that it
# is over; together that must be less than the above.
WAIT_MILLISECONDS = 50
# A connection used a moment ago is not looked at before it is used again.
IDLE_SECONDS = 1.0
# Changes of state handed out at a time, and how long who took them may be silent before another does.
BATCH = 100
SILENCE_MILLISECONDS = 60_000
# Whatever a server says, full or forbidden or a replica: it does not do what is asked of it.
LOST = (RedisError, RedisClusterException, OSError)
# Where a script has the prelude put; what stands before it is for the calls that need none.
PRELUDE_MARK = "-- prelude\n"
# A server without memory left runs no script that takes any, unless it says that it may: what empties the
# lots and keeps the circuits must go on. Redis knows the word from 7.0 on, so it is said only when needed.
ALLOW_OOM = "#!lua flags=allow-oom\n"
# The one script for which there must be memory.
GROWING = "park"


SUFFIXES = (
    *("probes", "transitions", "samples", "window", "reporters", "calls", "counted"),
    *("lot:on_demand", "lot:scheduled", "lot:due", "lot:messages", "lot:leases", "lot:tokens"),
    *("lot:trail", "lot:returning", "lot:since", "lot:expires"),
    *("lot:grouped", "lot:leaders", "lot:followers", "lot:away", "lot:ended"),
)


@cache
def circuit_of(service: str) -> str:
    """The key of a service's circuit, from which the scripts derive the others."""
    return f"{PREFIX}{{{service}}}"


@cache
def keys_of(service: str) -> tuple[str, ...]:
    """All keys of a service, under one hash tag.

    A cluster's servers must be told what a script will touch, because they move keys one by one; elsewhere
    the circuit's is enough, and to name them all would cost more than the call itself.
    """
    circuit = circuit_of(service)
    return (circuit, *(f"{circuit}:{suffix}" for suffix in SUFFIXES))


@cache
def _source(name: str) -> str:
    folder = files("resilience") / "lua"
    prelude, script = ((folder / f"{file}.lua").read_text("utf-8") for file in ("prelude", name))
    before, mark, after = script.rpartition(PRELUDE_MARK)
    return before + prelude + after if mark else prelude + script


@cache
def _sha(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


def replicas_in(url: str) -> tuple[str, int]:
    """The URL without ``wait_replicas``, and how many replicas that says must have a parked message.

    Raises:
        ValueError: It is no number.
    """
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    rest = [(name, value) for name, value in query if name != "wait_replicas"]
    if len(rest) == len(query):
        return url, 0
    replicas = int(next(value for name, value in query if name == "wait_replicas"))
    if replicas < 0:
        raise ValueError("wait_replicas is a number of replicas")
    return parts._replace(query=urlencode(rest)).geturl(), replicas


def connect(url: str) -> redis.Redis | Cluster:
    """A client that waits SOCKET_SECONDS at most and repeats nothing.

    Args:
        url: ``redis://``, with TLS ``rediss://``,
            ``sentinel://:password@host:port,host:port/name/database``, whose password is the server's and the
            sentinels', with TLS ``rediss+sentinel://``, or
            ``cluster://user:password@host:port,host:port``, with TLS ``rediss+cluster://``. TLS is verified,
            certificate and host name, against ``?ssl_ca_certs=`` or the system's authorities.

    Raises:
        ValueError: A URL that cannot be read.
    """
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": SOCKET_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    parts = urlsplit(url)
    if "@" in parts.path + parts.query or parts.fragment:  # of a password not quoted, which would be shown
        raise ValueError("it has a password that is not percent-encoded")
    named = {"client_name": "resilience"}
    kind = parts.scheme.rpartition("+")[2]
    if kind not in ("cluster", "sentinel"):
        return redis.Redis.from_url(url, **options, **named)
    options |= {**_credentials(parts), **_tls(parts)}
    if kind == "cluster":
        if parts.path not in ("", "/", "/0"):
            raise ValueError("a cluster has no databases")
        return Cluster(_hosts(parts), SOCKET_SECONDS, **options, **named)
    name, _, database = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError("sentinel:// needs the name of the master")
    sentinel = Sentinel(_hosts(parts), sentinel_kwargs=options)
    client: redis.Redis = sentinel.master_for(name, db=int(database or 0), **options, **named)
    return client


def _tls(parts: SplitResult) -> dict[str, Any]:
    """Whether the servers are asked with it, and how."""
    asked = parse_url(f"redis://?{parts.query}")
    told = {name: value for name, value in asked.items() if name.startswith("ssl_")}
    if not parts.scheme.startswith("rediss+"):
        if told:
            raise ValueError("it says how to use TLS and not to use it")
        return {}
    return {"ssl": True, **told}


def _said(error: Exception) -> str:
    """What went wrong; without each sentinel's client and its settings, which redis-py tells besides."""
    return str(error).partition(" : <")[0] if isinstance(error, MasterNotFoundError) else str(error)


def _hosts(parts: SplitResult) -> list[tuple[str, int]]:
    found = [host.rpartition(":") for host in parts.netloc.rpartition("@")[2].split(",")]
    if not all(host and port.isdigit() for host, _, port in found):
        raise ValueError("hosts are written host:port,host:port")
    return [(host, int(port)) for host, _, port in found]


def _credentials(parts: SplitResult) -> dict[str, str | None]:
    username, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return {"username": unquote(username) or None, "password": unquote(password) or None}


class _Closing:
    """Closes a connection as soon as nobody has this: redis-py's own waits for gc."""

    def __init__(self, connection: AbstractConnection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # nobody could be told
            self.connection.disconnect()


class Line(threading.local):
    """A connection for each thread: a pool and its bookkeeping cost more than the script that is asked for.

    Args:
        pool: Whose connections it is like.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._connection = pool.connection_class(**pool.connection_kwargs)
        self._closing = _Closing(self._connection)  # with the thread, or when this line is left for another
        self._used = 0.0
        self._pending = False

    def ask(self, *command: str | bytes | float) -> Any:
        """One command, one answer; nothing is repeated.

        Raises:
            RedisError: The server's own, or what became of the connection.
        """
        connection = self._connection
        now = time.monotonic()
        # Broken off in the middle, as by a time limit, its answer would be taken for the next command's.
        idle = now - self._used > IDLE_SECONDS
        if connection.is_connected and (self._pending or (idle and self._is_stale())):
            connection.disconnect()
        if not connection.is_connected:
            connection.connect()  # by itself it would not ask the sentinels
        self._used = now
        self._pending = True
        connection.send_packed_command([pack_command(command)])  # type: ignore[arg-type]  # hiredis says a tuple of one
        try:
            answer = connection.read_response()
        except RedisError:
            self._pending = False  # an answer too, or there is no connection any more
            raise
        self._pending = False
        return answer

    def _is_stale(self) -> bool:
        """Whether an answer nobody waits for is there, or the server's end is closed."""
        try:
            return bool(self._connection.can_read())
        except RedisError:
            return True

    def close(self) -> None:
        """Let go of this thread's connection."""
        self._connection.disconnect()


class Scripts:
    """Runs the scripts of ``resilience/lua`` on the server that has the service's keys.

    Args:
        url: See ``connect``. With ``?wait_replicas=1`` a message is parked when so many replicas have it.
        clock: Microseconds since the epoch instead of the server's clock; for tests that move time.
    """

    def __init__(self, url: str, clock: Callable[[], int] | None = None) -> None:
        self._url, self._replicas = replicas_in(url)
        self._clock = clock
        #: Told of every failure to answer, whoever asked.
        self.on_lost: Callable[[StoreUnavailableError], None] = lambda _: None
        self._pid = 0

    @property
    def client(self) -> redis.Redis | Cluster:
        """This process's client: a connection never crosses a fork."""
        if self._pid != os.getpid():
            self._client = connect(self._url)
            if isinstance(self._client, redis.Redis):
                self._line = Line(self._client.connection_pool)
            self._pid = os.getpid()
        return self._client

    def close(self) -> None:
        """Let go of the connections; the next command makes new ones."""
        client, self._pid = self.client, 0
        client.close()
        if isinstance(client, redis.Redis):
            self._line.close()

    @property
    def address(self) -> str:
        """Where the URL points, without user or password."""
        parts = urlsplit(self._url)
        return f"{parts.netloc.rpartition('@')[2]}{parts.path}"

    def run(self, name: str, service: str, *arguments: str | bytes | float) -> Any:
        """One script, one round trip.

        Raises:
            StoreUnavailableError: When the server does not answer in time, or cannot write.
            StoreFullError: The same, for a script that takes more in, when the server has no memory left.
        """
        client, source = self.client, _source(name)
        now = str(self._clock()) if self._clock else ""
        if not isinstance(client, Cluster):
            try:
                return self._line.ask("EVALSHA", _sha(source), 1, circuit_of(service), now, *arguments)
            except (NoScriptError, OutOfMemoryError):
                pass  # nothing is written yet, and the longer way knows what to do
            except LOST as error:
                raise self._lost(error) from error
        return self.run_many(name, [(service, arguments)])[0]

    def run_confirmed(self, name: str, service: str, *arguments: str | bytes | float) -> Any:
        """One script, and the replicas' word that they have what it wrote; still one round trip.

        Raises:
            StoreUnavailableError: As ``run``; or it is written, but may be lost with its server.
        """
        if not self._replicas:
            return self.run(name, service, *arguments)
        return self.run_many(name, [(service, arguments)], self._replicas)[0]

    def run_many(
        self, name: str, calls: Iterable[tuple[str, Sequence[str | bytes | float]]], replicas: int = 0
    ) -> list[Any]:
        """One script for several services, still one round trip; on a cluster one for each server.

        While a cluster moves a service to another server it may run twice.

        Raises:
            StoreUnavailableError: When the server does not answer in time, or cannot write.
        """
        now = str(self._clock()) if self._clock else ""
        keys, urgent = len(SUFFIXES) + 1 if isinstance(self.client, Cluster) else 1, name != GROWING
        prepared = [(*keys_of(service)[:keys], now, *arguments) for service, arguments in calls]
        send = partial(_send, source=_source(name), keys=keys, replicas=replicas, urgent=urgent)
        return self._spread(prepared, send)

    def evaluate(self, source: str, keys: Sequence[str], *arguments: str | bytes | float) -> Any:
        """A script of the caller's own, on keys of its own.

        Raises:
            StoreUnavailableError: When the server does not answer in time, or cannot write.
        """
        return self._spread([(*keys, *arguments)], partial(_send, source=source, keys=len(keys)))[0]

    def _spread(
        self,
        prepared: list[tuple[Any, ...]],
        send: Callable[[redis.Redis, list[tuple[Any, ...]]], list[Any]],
    ) -> list[Any]:
        client = self.client
        try:
            return client.spread(prepared, send) if isinstance(client, Cluster) else send(client, prepared)
        except NotReplicatedError as error:  # it answers, so it is not lost
            raise StoreUnavailableError(self.address, str(error)) from error
        except LOST as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> StoreUnavailableError:
        if isinstance(error, OutOfMemoryError):
            return StoreFullError(self.address, str(error))
        lost = StoreUnavailableError(self.address, _said(error))
        client = self.client
        if isinstance(client, redis.Redis):  # every thread's connection, not this one's alone
            self._line = Line(client.connection_pool)
        self.on_lost(lost)
        return lost

    def setting(self, name: str) -> str:
        """A setting of the server, '' where it is not told: many a hosted one does not."""
        client = self.client
        if isinstance(client, Cluster):
            return ""
        try:
            told: dict[Any, Any] = client.config_get(name)
        except LOST:
            return ""
        value = next(iter(told.values()), "")
        return value.decode() if isinstance(value, bytes) else str(value)

    def memory(self) -> tuple[int, int] | None:
        """Bytes the server, or a cluster's fullest, uses and may use (0: no limit); None: it is not told."""
        client = self.client
        try:
            told: dict[str, Any] = client.memory() if isinstance(client, Cluster) else client.info("memory")
            return int(told["used_memory"]), int(told["maxmemory"])
        except (*LOST, KeyError):
            return None

    def get(self, key: str) -> bytes | None:
        """A plain value, None if there is none or the server does not answer."""
        try:
            value: bytes | None = self.client.get(key)  # type: ignore[assignment]  # nothing is decoded
        except LOST:
            return None
        return value

    def set(self, key: str, value: str) -> None:
        """A plain value.

        Raises:
            StoreUnavailableError: When the server does not answer in time.
        """
        try:
            self.client.set(key, value)
        except LOST as error:
            raise self._lost(error) from error

    def works(self) -> bool:
        """Whether the server answers and takes a write now; on a cluster, whether all do."""
        client, key = self.client, f"{PREFIX}check"
        try:
            return client.works(key) if isinstance(client, Cluster) else bool(client.set(key, "", px=1000))
        except OutOfMemoryError:
            return True  # what is there is served, and can leave
        except LOST:
            return False


class NotReplicatedError(Exception):
    """Fewer replicas than asked for have confirmed a write."""


def _send(
    server: redis.Redis,
    prepared: list[tuple[Any, ...]],
    source: str,
    keys: int,
    replicas: int = 0,
    *,
    urgent: bool = False,
) -> list[Any]:
    answers, confirmed = _evalsha(server, _sha(source), keys, prepared, replicas)
    unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:  # a new server, or one that restarted or flushed its scripts
        server.script_load(source)
        again, confirmed = _evalsha(
            server, _sha(source), keys, [prepared[place] for place in unknown], replicas
        )
        for place, answer in zip(unknown, again, strict=True):
            answers[place] = answer
    full = [place for place, answer in enumerate(answers) if isinstance(answer, OutOfMemoryError)]
    if full and urgent:  # it was stopped before its first write
        again = _send(server, [prepared[place] for place in full], ALLOW_OOM + source, keys)
        for place, answer in zip(full, again, strict=True):
            answers[place] = answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    if confirmed < replicas:
        raise NotReplicatedError(f"{confirmed} of {replicas} replicas have what was written")
    return answers


def _evalsha(
    server: redis.Redis, sha: str, keys: int, prepared: list[tuple[Any, ...]], replicas: int
) -> tuple[list[Any], int]:
    """The answers, and how many replicas have what was written, if that was asked."""
    pipeline = server.pipeline(transaction=False)
    for arguments in prepared:
        pipeline.evalsha(sha, keys, *arguments)
    if not replicas:
        return list(pipeline.execute(raise_on_error=False)), 0
    pipeline.wait(replicas, WAIT_MILLISECONDS)  # for what this very connection wrote
    *answers, confirmed = pipeline.execute(raise_on_error=False)
    if isinstance(confirmed, Exception):
        raise confirmed
    return answers, int(confirmed)


class RedisStore:
    """Circuits shared by everybody who uses this server.

    Args:
        url: See ``connect``.
        clock: See ``Scripts``.
    """

    def __init__(self, url: str, clock: Callable[[], int] | None = None) -> None:
        self.scripts = Scripts(url, clock)
        self.lot = ParkingLot(self.scripts)
        self._told: set[str] = set()

    def acquire(self, service: str, policy: Policy, owner: str = "", key: str = "") -> Permit:
        """See ``Store.acquire``."""
        token = token_for(owner)
        told = self.scripts.run("acquire", service, policy.wire, key, token, owner, int(policy.plain))
        try:
            granted, state, generation, probe, when, reason, attempts, now, override, wait = told
            return Permit(
                granted=bool(granted),
                service=service,
                state=_STATES[state],
                generation=generation,
                token=token if granted else "",
                probe=bool(probe),
                until=from_micros(when) if granted else None,
                retry_at=None if granted else from_micros(when),
                reason=_reason(reason),
                attempts=attempts,
                at_micros=now,
                policy=effective(policy, override.decode()) if override else policy,
                wait_seconds=wait / MICROSECONDS,
            )
        except UNREADABLE as error:
            raise self._unreadable(service, error) from error

    def report(self, permit: Permit, policy: Policy, finding: Finding) -> Report:
        """See ``Store.report``."""
        told = self.scripts.run(
            "report",
            permit.service,
            policy.wire,
            finding.key,
            permit.generation,
            permit.token,
            int(permit.probe),
            permit.at_micros,
            finding.verdict.value,
            micros_in(finding.hold_seconds),
            (finding.reason or Reason.RATE_LIMITED).value,
            finding.owner,
            finding.max_attempts,
            finding.host,
            random.random(),  # noqa: S311 - spreads load, guards nothing
            int(policy.plain and permit.policy.plain),
            micros_in(time.monotonic() - permit.viewed_at) if permit.viewed else "",
            finding.detail,
        )
        try:
            applied, state, attempts, losses, retry_at, why, generation, now, unseen = told
            _wait_unseen(unseen)
            return Report(
                applied=bool(applied),
                state=_STATES[state],
                attempts=attempts,
                losses=losses,
                retry_at=from_micros(retry_at),
                reason=_reason(why),
                generation=generation,
                at_micros=now,
            )
        except UNREADABLE as error:
            raise self._unreadable(permit.service, error) from error

    def forget(self, service: str, owner: str) -> None:
        """See ``Store.forget``."""
        self.scripts.run("forget", service, owner)

    def control(self, service: str, act: str, seconds: float, note: str, actor: str) -> None:
        """See ``Store.control``."""
        _, unseen = self.scripts.run("control", service, act, micros_in(seconds), note, actor)
        _wait_unseen(unseen)

    def override(self, service: str, text: str, seconds: float, note: str, actor: str) -> None:
        """See ``Store.override``."""
        _wait_unseen(self.scripts.run("override", service, text, micros_in(seconds), note, actor))

    def remind(self, service: str, known: Known) -> None:
        """See ``Store.remind``."""
        retry_at = to_micros(known.retry_at)
        self.scripts.run("remind", service, "", known.key, known.generation, retry_at, known.reason.value)

    def transitions(self, services: Sequence[str]) -> list[Transition]:
        """See ``Store.transitions``."""
        handed = self.scripts.run_many(
            "transitions", [(service, (BATCH, SILENCE_MILLISECONDS)) for service in services]
        )
        found = []
        for service, entries in zip(services, handed, strict=True):
            for ident, values in entries:
                change = _transition(service, ident, values)
                if change is None:  # or it would be handed out again and again
                    self.scripts.run("heard", service, ident)
                else:
                    found.append(change)
        return found

    def heard(self, transitions: Sequence[Transition]) -> None:
        """See ``Store.heard``."""
        for service, group in groupby(transitions, key=attrgetter("service")):
            self.scripts.run("heard", service, *(change.id for change in group))

    def read(self, services: Sequence[str]) -> dict[str, Circuit]:
        """See ``Store.read``."""
        rows = self.scripts.run_many("read", [(service, ()) for service in services]) if services else []
        found = {}
        for service, row in zip(services, rows, strict=True):
            try:
                found[service] = _circuit(service, row)
            except UNREADABLE as error:
                raise self._unreadable(service, error) from error
        return found

    def history(self, services: Sequence[str], most: int) -> dict[str, History]:
        """See ``Store.history``."""
        # One more than asked for tells whether there are earlier ones.
        rows = self.scripts.run_many("history", [(service, (most + 1,)) for service in services])
        found = {}
        for service, row in zip(services, rows, strict=True):
            try:
                found[service] = _history(service, row, most)
            except UNREADABLE as error:
                raise self._unreadable(service, error) from error
        return found

    def _unreadable(self, service: str, error: Exception) -> StoreUnreadableError:
        """It answers, so it is not lost; said once, since it will be found again and again."""
        told = StoreUnreadableError(
            self.scripts.address, f"{error!r}, in or beside {circuit_of(service)!r}: delete what is not ours"
        )
        if service not in self._told:
            self._told.add(service)
            logger.error("%s; the circuit is local to this process until it can", told)
        return told


def _wait_unseen(micros: int) -> None:
    """Until nobody goes by an older view (``views.py``): as long as one lasts, whatever the clock says."""
    if micros:
        time.sleep(min(micros / MICROSECONDS, VIEW_SECONDS))


def _circuit(service: str, row: list[Any]) -> Circuit:
    now, in_flight, parked, ready, oldest, away, stirs, *pairs = row
    fields = {k.decode(): v.decode() for k, v in zip(pairs[::2], pairs[1::2], strict=True)}
    counts = {name: count_of(fields.get(name, 0)) for name in _COUNTS}
    override = fields.get("override", "")
    if override and not (effective(DEFAULT, override) and isinstance(changes_of(override), dict)):
        raise ValueError("its override is none")
    forced = fields.get("forced", "") if count_of(fields.get("forced_until", 0)) > now else ""
    over = {"open": CircuitState.FORCED_OPEN, "disabled": CircuitState.DISABLED}.get(forced)
    reason = "forced" if forced == "open" else fields.get("reason", "")
    return Circuit(
        service=service,
        state=over or CircuitState(fields.get("state", "closed")),
        generation=counts["generation"],
        failures=counts["failures"],
        successes=counts["successes"],
        reopened=counts["reopened"],
        in_flight=in_flight,
        since=from_micros(fields.get("since")),
        recovering_since=from_micros(fields.get("since") if "ramp" in fields else None),
        retry_at=from_micros(fields.get("forced_until" if forced == "open" else "retry_at")),
        reason=reason_of(reason),
        last_failure=from_micros(fields.get("last_failure")),
        last_error=fields.get("last_error"),
        forced_until=from_micros(fields.get("forced_until")) if forced else None,
        actor=(fields.get("actor") or None) if forced else None,
        note=(fields.get("note") or None) if forced else None,
        refused_keys=frozenset(name[8:] for name in fields if name.startswith("refused:")),
        override=override,
        override_until=from_micros(fields.get("override_until")),
        override_actor=fields.get("override_actor") or None,
        override_note=fields.get("override_note") or None,
        allowed_total=counts["allowed"],
        blocked_total=counts["blocked"],
        would_block_total=counts["would_block"],
        failures_total=counts["verdict:failure"],
        trips_total=counts["trips"],
        moved_total=_after("moved:", fields),
        took=_after(TOOK, fields),
        parked=parked,
        parked_ready=ready,
        parked_since=from_micros(oldest),
        away=away,
        stirs_at=from_micros(stirs),
        used_until=from_micros(fields.get("tat")),
        parked_total=counts["parked"],
        coalesced_total=counts["coalesced"],
        released_total=counts["released"],
        dropped_total=_after("dropped:", fields),
        read_at=from_micros(now),
    )


def _after(prefix: str, fields: dict[str, str]) -> dict[str, int]:
    """The counters whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): count_of(n) for name, n in fields.items() if name.startswith(prefix)}


def _transition(service: str, ident: bytes, values: list[bytes]) -> Transition | None:
    """None for one that cannot be read."""
    try:
        told = [text.decode() for text in values]
        fields = dict(zip(told[::2], told[1::2], strict=True))
        return Transition(
            service=service,
            before=CircuitState(fields["from"]),
            after=CircuitState(fields["to"]),
            reason=reason_of(fields["reason"]),
            evidence=Evidence(*(count_of(fields.get(name, 0)) for name in _EVIDENCE)),
            at=time_of(fields["at"]),
            retry_at=from_micros(fields["retry_at"]),
            actor=fields["actor"] or None,
            note=fields["note"] or None,
            id=ident.decode(),
        )
    except UNREADABLE:
        return None


def _history(service: str, row: list[Any], most: int) -> History:
    (now, state), entries, samples = row
    return History(
        now=time_of(now),
        state=_STATES[state],
        transitions=tuple(filter(None, (_transition(service, *entry) for entry in entries[:most]))),
        complete=len(entries) <= most,
        samples=tuple(_sample(line) for line in reversed(samples)),
    )


def _sample(line: bytes) -> Sample:
    at, *counts = map(count_of, line.split())
    return Sample(time_of(at), *counts)


_EVIDENCE = ("failures", "calls", "failed", "slow")
_COUNTS = (
    "generation",
    "failures",
    "successes",
    "reopened",
    "allowed",
    "blocked",
    "would_block",
    "verdict:failure",
    "trips",
    "parked",
    "coalesced",
    "released",
)


_STATES = {state.value.encode(): state for state in CircuitState}


def _reason(text: bytes) -> Reason | None:
    return reason_of(text.decode())
