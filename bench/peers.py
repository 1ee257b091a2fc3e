"""One thin adapter per library, so that all are driven alike, each through its public API.

Every library is asked for the same circuit: so many consecutive failures open it. Where one trips on
a rate, a rate of 1.0 over as many calls says the same. What a library does not offer stays at its
default. The peers get the client their documentation shows, redis-py's default one; where a lost
server is measured also one that gives up after as long as ours does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import interlock
import nopanic
import pybreaker
import redis
from interlock.integrations.redis import RedisStorage
from nopanic_redis import redis_circuit_breaker
from redis.backoff import NoBackoff
from redis.retry import Retry

from resilience import CircuitBreaker, CircuitBreakerOpenError, Policy
from resilience.stores.failover import FailoverStore
from resilience.stores.memory import MemoryStore
from resilience.stores.redis import SOCKET_SECONDS, RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience.stores import Store

HOST = "127.0.0.1"
#: How long our own client waits for the server, once and no more.
IMPATIENT_SECONDS = SOCKET_SECONDS


class DependencyDownError(Exception):
    """The dependency's own failure: what a breaker is there to count."""


@dataclass(frozen=True)
class Circuit:
    """The circuit a scene wants, whichever library makes it.

    Attributes:
        port: The server's, on this machine.
        name: Shared by every process that opens it.
        threshold: Consecutive failures that open it.
        open_seconds: From opening to the first probe.
        probes: Allowed at once while half-open.
        call_seconds: The longest a call may take, for a library that asks.
        patient: Redis-py's default client for the peers; else one as impatient as ours.
    """

    port: int
    name: str
    threshold: int = 5
    open_seconds: float = 60
    probes: int = 1
    call_seconds: float = 30
    patient: bool = True

    def client(self) -> redis.Redis:
        """A peer's own connection to the server."""
        if self.patient:
            return redis.Redis(host=HOST, port=self.port)
        return redis.Redis(
            host=HOST,
            port=self.port,
            socket_timeout=IMPATIENT_SECONDS,
            socket_connect_timeout=IMPATIENT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )


class Library(Protocol):
    """A circuit as one process holds it."""

    #: What it raises instead of making the call.
    refusals: tuple[type[Exception], ...]

    def __init__(self, circuit: Circuit) -> None: ...

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        """``work`` behind the breaker; a DependencyDownError of it is a failure."""

    def failures(self) -> int | None:
        """The fleet's failures so far; None where no such count is kept."""


class Ours:
    """This project."""

    refusals = (CircuitBreakerOpenError,)

    def __init__(self, circuit: Circuit) -> None:
        policy = Policy(
            failure_threshold=circuit.threshold,
            timeout_seconds=circuit.open_seconds,
            half_open_max_calls=circuit.probes,
            call_seconds=circuit.call_seconds,
        )
        self.breaker = CircuitBreaker(circuit.name, store=self.store(circuit), policy=policy)

    def store(self, circuit: Circuit) -> Store | str:
        """Where its circuits live."""
        return f"redis://{HOST}:{circuit.port}/0"

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Library.guard``."""
        breaker = self.breaker

        def guarded() -> None:
            permit = breaker.acquire()
            if not permit:
                raise CircuitBreakerOpenError(permit.service, permit.retry_at, permit.reason)
            try:
                work()
            except DependencyDownError:
                breaker.report(permit, "failure")
                raise
            breaker.report(permit, "success")

        return guarded

    def failures(self) -> int | None:
        """See ``Library.failures``."""
        return int(self.breaker.get_state()["failure_count"])


class OursAsking(Ours):
    """This project, as it is for a process that calls seldom: the store is asked each time."""

    def __init__(self, circuit: Circuit) -> None:
        super().__init__(replace(circuit, name=f"{circuit.name}:asking"))

    def store(self, circuit: Circuit) -> Store:
        """One of its own, without views."""
        store = FailoverStore(RedisStore(f"redis://{HOST}:{circuit.port}/0"), MemoryStore())
        store.views.asked = lambda *_: None  # type: ignore[method-assign]  # there is no setting for it
        return store


class Pybreaker:
    """pybreaker with its Redis storage. It has no setting for the number of probes."""

    refusals = (pybreaker.CircuitBreakerError,)

    def __init__(self, circuit: Circuit) -> None:
        storage = pybreaker.CircuitRedisStorage(
            pybreaker.STATE_CLOSED, circuit.client(), namespace=circuit.name
        )
        self.breaker = pybreaker.CircuitBreaker(
            fail_max=circuit.threshold,
            reset_timeout=circuit.open_seconds,
            state_storage=storage,
        )

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Library.guard``."""
        return self.breaker(work)

    def failures(self) -> int | None:
        """See ``Library.failures``."""
        return self.breaker.fail_counter


class Nopanic:
    """nopanic with its Redis breaker: a failure rate over a window of a minute."""

    refusals = (nopanic.CircuitOpen,)

    def __init__(self, circuit: Circuit) -> None:
        self.client = circuit.client()
        self.breaker = redis_circuit_breaker(
            self.client,
            name=circuit.name,
            failure_threshold=1.0,
            min_calls=circuit.threshold,
            window=60,
            reset_timeout=circuit.open_seconds,
            half_open_max_calls=circuit.probes,
        )

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Library.guard``."""
        return self.breaker(work)

    def failures(self) -> int | None:
        """It shows no count; this is what its buckets of failures add up to."""
        window = self.client.hgetall(f"nopanic:breaker:{{{self.breaker.name}}}:window")
        return sum(int(count) for field, count in window.items() if field.endswith(b":f"))


class Interlock:
    """interlock-cb with its Redis storage: failures are counted by each process for itself."""

    refusals = (interlock.CircuitOpenError,)

    def __init__(self, circuit: Circuit) -> None:
        config = interlock.Config(
            failure_rate_threshold=1.0,
            minimum_number_of_calls=circuit.threshold,
            window_size=circuit.threshold,
            wait_duration_in_open=circuit.open_seconds,
            permitted_calls_in_half_open=circuit.probes,
            max_concurrent_probes=circuit.probes,
        )
        self.breaker = interlock.CircuitBreaker(
            name=circuit.name, config=config, storage=RedisStorage(circuit.client())
        )

    def guard(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Library.guard``."""
        return self.breaker(work)

    def failures(self) -> int | None:
        """See ``Library.failures``."""
        return None


OURS = "ours"
OURS_ASKING = "ours, asking"
#: By the name each is installed under.
LIBRARIES: dict[str, type[Library]] = {
    OURS: Ours,
    OURS_ASKING: OursAsking,
    "pybreaker": Pybreaker,
    "nopanic-redis": Nopanic,
    "interlock-cb": Interlock,
}
#: Libraries that cannot be told how many probes they may let in at once.
ONE_PROBE_ONLY = (Pybreaker,)
