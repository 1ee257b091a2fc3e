"""Circuits and parking lots in Redis or Valkey: each act is one script on the server's clock.

All keys of a service lie under one hash tag, so the same scripts run on a cluster. A command waits
``SOCKET_SECONDS`` at most and is never repeated by the client: what to do then is decided by
``failover.py``, not by a retry nobody sees.
"""

from __future__ import annotations

import os
import random
import uuid
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from resilience.circuit import (
    Circuit,
    CircuitState,
    Finding,
    Permit,
    Policy,
    Reason,
    Report,
    from_micros,
    micros_in,
    wire,
)
from resilience.errors import StoreUnavailableError
from resilience.parking import ParkingLot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SOCKET_SECONDS = 0.25
# The layout's version: a worker that lays keys out differently uses another.
PREFIX = "circuit:1:"
SUFFIXES = (
    "",
    ":probes",
    ":transitions",
    ":lot:on_demand",
    ":lot:scheduled",
    ":lot:due",
    ":lot:messages",
    ":lot:leases",
    ":lot:tokens",
    ":lot:trail",
    ":lot:returning",
    ":lot:since",
    ":lot:expires",
)


@cache
def keys_of(service: str) -> tuple[str, ...]:
    """The thirteen keys of a service, in the order the scripts expect."""
    return tuple(f"{PREFIX}{{{service}}}{suffix}" for suffix in SUFFIXES)


@cache
def _source(name: str) -> str:
    folder = files("resilience") / "lua"
    return (folder / "prelude.lua").read_text("utf-8") + (folder / f"{name}.lua").read_text("utf-8")


def connect(url: str) -> redis.Redis:
    """A client that waits SOCKET_SECONDS at most and repeats nothing.

    Args:
        url: ``redis://``, ``rediss://``, or ``sentinel://:password@host:port,host:port/name/database``,
            whose password is the server's and the sentinels'.

    Raises:
        ValueError: A URL that cannot be read.
    """
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_SECONDS,
        "socket_connect_timeout": SOCKET_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    parts = urlsplit(url)
    if parts.scheme != "sentinel":
        return redis.Redis.from_url(url, client_name="resilience", **options)
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, database = parts.path.strip("/").partition("/")
    addresses = [host.rpartition(":") for host in hosts.split(",")]
    if not name or not all(host and port.isdigit() for host, _, port in addresses):
        raise ValueError("sentinel:// needs host:port,... and the name of the master")
    if user:
        username, _, password = user.partition(":")
        options |= {"username": unquote(username) or None, "password": unquote(password) or None}
    sentinel = Sentinel([(host, int(port)) for host, _, port in addresses], sentinel_kwargs=options)
    client: redis.Redis = sentinel.master_for(
        name, db=int(database or 0), client_name="resilience", **options
    )
    return client


class Scripts:
    """Runs the scripts of ``resilience/lua`` on one server.

    Args:
        url: See ``connect``.
        clock: Microseconds since the epoch instead of the server's clock; for tests that move time.
    """

    def __init__(self, url: str, clock: Callable[[], int] | None = None) -> None:
        self._url = url
        self._clock = clock
        #: Told of every failure to answer, whoever asked.
        self.on_lost: Callable[[StoreUnavailableError], None] = lambda _: None
        self._pid = 0
        self._shas: dict[str, str] = {}

    @property
    def client(self) -> redis.Redis:
        """This process's client: a connection never crosses a fork."""
        if self._pid != os.getpid():
            self._client = connect(self._url)
            self._pid = os.getpid()
        return self._client

    @property
    def address(self) -> str:
        """Where the URL points, without user or password."""
        parts = urlsplit(self._url)
        return f"{parts.netloc.rpartition('@')[2]}{parts.path}"

    def run(self, name: str, service: str, *arguments: str | bytes | float) -> Any:
        """One script, one round trip.

        Raises:
            StoreUnavailableError: When the server does not answer in time, or cannot write.
        """
        return self.run_many(name, [(service, arguments)])[0]

    def run_many(self, name: str, calls: Iterable[tuple[str, Sequence[str | bytes | float]]]) -> list[Any]:
        """One script for several services, still one round trip.

        Raises:
            StoreUnavailableError: When the server does not answer in time, or cannot write.
        """
        now = str(self._clock()) if self._clock else ""
        prepared = [(*keys_of(service), now, *arguments) for service, arguments in calls]
        return self._evaluate(_source(name), len(SUFFIXES), prepared)

    def evaluate(self, source: str, keys: Sequence[str], *arguments: str | bytes | float) -> Any:
        """A script of the caller's own, on keys of its own.

        Raises:
            StoreUnavailableError: When the server does not answer in time, or cannot write.
        """
        return self._evaluate(source, len(keys), [(*keys, *arguments)])[0]

    def _evaluate(self, source: str, keys: int, prepared: list[tuple[Any, ...]]) -> list[Any]:
        try:
            try:
                return self._send(source, keys, prepared)
            except NoScriptError:
                self._shas.pop(source, None)  # the server restarted, or flushed its scripts
                return self._send(source, keys, prepared)
        except (RedisError, OSError) as error:
            # Whatever it says, full or forbidden or a replica: it does not do what is asked of it.
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> StoreUnavailableError:
        lost = StoreUnavailableError(self.address, str(error))
        self.on_lost(lost)
        return lost

    def _send(self, source: str, keys: int, prepared: list[tuple[Any, ...]]) -> list[Any]:
        sha = self._shas.get(source)
        if sha is None:
            sha = self._shas[source] = str(self.client.script_load(source))
        if len(prepared) == 1:
            return [self.client.evalsha(sha, keys, *prepared[0])]
        pipeline = self.client.pipeline(transaction=False)
        for arguments in prepared:
            pipeline.evalsha(sha, keys, *arguments)
        return list(pipeline.execute())

    def get(self, key: str) -> bytes | None:
        """A plain value, None if there is none or the server does not answer."""
        try:
            value: bytes | None = self.client.get(key)  # type: ignore[assignment]  # sync client
        except (RedisError, OSError):
            return None
        return value

    def set(self, key: str, value: str) -> None:
        """A plain value.

        Raises:
            StoreUnavailableError: When the server does not answer in time.
        """
        try:
            self.client.set(key, value)
        except (RedisError, OSError) as error:
            raise self._lost(error) from error

    def works(self) -> bool:
        """Whether the server answers and takes a write now."""
        try:
            return bool(self.client.set(f"{PREFIX}check", "", px=1000))
        except (RedisError, OSError):
            return False


class RedisStore:
    """Circuits shared by everybody who uses this server.

    Args:
        url: See ``connect``.
        clock: See ``Scripts``.
    """

    def __init__(self, url: str, clock: Callable[[], int] | None = None) -> None:
        self.scripts = Scripts(url, clock)
        self.lot = ParkingLot(self.scripts)

    def acquire(self, service: str, policy: Policy, owner: str = "") -> Permit:
        """See ``Store.acquire``."""
        # Named after its owner, so that the permit of a lost process can be found.
        token = f"{owner}:{uuid.uuid4().hex}"
        granted, state, generation, probe, when, reason, attempts = self.scripts.run(
            "acquire", service, wire(policy), token, owner
        )
        return Permit(
            granted=bool(granted),
            service=service,
            state=CircuitState(state.decode()),
            generation=generation,
            token=token if granted else "",
            probe=bool(probe),
            until=from_micros(when) if granted else None,
            retry_at=None if granted else from_micros(when),
            reason=_reason(reason),
            attempts=attempts,
        )

    def report(self, permit: Permit, policy: Policy, finding: Finding) -> Report:
        """See ``Store.report``."""
        applied, state, attempts, losses, retry_at, why = self.scripts.run(
            "report",
            permit.service,
            wire(policy),
            permit.generation,
            permit.token,
            int(permit.probe),
            finding.verdict.value,
            micros_in(finding.hold_seconds),
            (finding.reason or Reason.RATE_LIMITED).value,
            finding.owner,
            finding.max_attempts,
            random.random(),  # noqa: S311 - spreads load, guards nothing
        )
        return Report(
            applied=bool(applied),
            state=CircuitState(state.decode()),
            attempts=attempts,
            losses=losses,
            retry_at=from_micros(retry_at),
            reason=_reason(why),
        )

    def forget(self, service: str, owner: str) -> None:
        """See ``Store.forget``."""
        self.scripts.run("forget", service, owner)

    def control(self, service: str, act: str, seconds: float, note: str, actor: str) -> None:
        """See ``Store.control``."""
        self.scripts.run("control", service, act, micros_in(seconds), note, actor)

    def read(self, services: Sequence[str]) -> dict[str, Circuit]:
        """See ``Store.read``."""
        rows = self.scripts.run_many("read", [(service, ()) for service in services]) if services else []
        return {service: _circuit(service, row) for service, row in zip(services, rows, strict=True)}


def _circuit(service: str, row: list[Any]) -> Circuit:
    now, in_flight, parked, ready, oldest, *pairs = row
    fields = {k.decode(): v.decode() for k, v in zip(pairs[::2], pairs[1::2], strict=True)}
    counts = {name: int(fields.get(name, 0)) for name in _COUNTS}
    forced = fields.get("forced", "") if int(fields.get("forced_until", 0)) > now else ""
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
        retry_at=from_micros(fields.get("forced_until" if forced == "open" else "retry_at")),
        reason=Reason(reason) if reason else None,
        last_failure=from_micros(fields.get("last_failure")),
        forced_until=from_micros(fields.get("forced_until")) if forced else None,
        actor=(fields.get("actor") or None) if forced else None,
        note=(fields.get("note") or None) if forced else None,
        allowed_total=counts["allowed"],
        blocked_total=counts["blocked"],
        failures_total=counts["verdict:failure"],
        trips_total=counts["trips"],
        parked=parked,
        parked_ready=ready,
        parked_since=from_micros(oldest),
        parked_total=counts["parked"],
        released_total=counts["released"],
        read_at=from_micros(now),
    )


_COUNTS = (
    "generation",
    "failures",
    "successes",
    "reopened",
    "allowed",
    "blocked",
    "verdict:failure",
    "trips",
    "parked",
    "released",
)


def _reason(text: bytes) -> Reason | None:
    return Reason(text.decode()) if text else None
