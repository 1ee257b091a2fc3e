"""Every store, on a clock the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import resilience.stores.redis
from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore
from tests.circuits import Clock
from tests.store_user import url_of

if TYPE_CHECKING:
    from resilience.stores import Store


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a store decides is tested here, not how soon: a busy machine is slower than a worker waits for."""
    monkeypatch.setattr(resilience.stores.redis, "SOCKET_SECONDS", 10.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(
    params=["valkey", "redis_server", "oldest_redis", "memory"], ids=["valkey", "redis", "redis6", "memory"]
)
def store(request: pytest.FixtureRequest, clock: Clock) -> Store:
    if request.param == "memory":
        return MemoryStore(clock)
    return RedisStore(url_of(request.getfixturevalue(request.param).port, 5), clock)
