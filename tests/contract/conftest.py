"""Every store, on a clock the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore
from tests.circuits import Clock

if TYPE_CHECKING:
    from resilience.stores import Store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["valkey", "redis_server", "memory"], ids=["valkey", "redis", "memory"])
def store(request: pytest.FixtureRequest, clock: Clock) -> Store:
    if request.param == "memory":
        return MemoryStore(clock)
    return RedisStore(f"redis://127.0.0.1:{request.getfixturevalue(request.param).port}/5", clock)
