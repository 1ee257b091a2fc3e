"""A result backend as a user would write one, which hangs or raises while a test wants it to.

It keeps what it is told in the provider's Redis (FLEET_PROVIDER) under ``result:*``. While ``backend`` is
``hangs`` there, writing PARKED waits; while it is ``raises``, all writing raises. It replaces whatever is
there, as most do.
"""

import os
import time

import redis
from celery.backends.base import KeyValueStoreBackend


class SlowBackend(KeyValueStoreBackend):
    """Results in Redis, by the plainest means."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.client = redis.Redis.from_url(os.environ["FLEET_PROVIDER"])

    def get(self, key: bytes) -> bytes | None:
        """As Celery calls it."""
        return self.client.get(b"result:" + key)

    def mget(self, keys: list[bytes]) -> list[bytes | None]:
        """As Celery calls it."""
        return self.client.mget([b"result:" + key for key in keys])

    def set(self, key: bytes, value: bytes) -> None:
        """As Celery calls it; tells when it hangs, and with whose state."""
        parks = "PARKED" in str(value)
        if parks and self.client.get("backend") == b"hangs":
            self.client.rpush("hanging", key)
        while (mode := self.client.get("backend")) == b"hangs" and parks:
            time.sleep(0.02)
        if mode == b"raises":
            raise OSError("no room left on the device")
        self.client.set(b"result:" + key, value)
