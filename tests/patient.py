"""The system's app for tests of what it decides, not of how soon it misses its store.

celery -A tests.patient worker

A busy machine keeps a worker from its store for longer than the fifth of a second it waits. Its circuits
would then be its own until the store is there again.
"""

import resilience.stores.redis

resilience.stores.redis.SOCKET_SECONDS = 10.0

from workers.celery import app  # noqa: E402 - it opens its store with this

__all__ = ["app"]
