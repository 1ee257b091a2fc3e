"""A circuit breaker shared by a whole Celery fleet, and a parking lot for what it refuses.

What belongs here: the breaker, its stores, parking, release, publishing and metrics.
What does not: any provider, any URL, any record. This package knows Redis, time and
Celery's Task, and works in any Celery app:

    from celery import Celery
    from resilience import ResilientTask, install

    app = Celery("shop", broker="redis://localhost/0", backend="redis://localhost/1")
    install(app, store="redis://localhost/2")

    @app.task(base=ResilientTask, service="payments")
    def charge(order_id): ...

The life of one task is one function: ``ResilientTask.__call__`` in ``resilience/task.py``.
"""

from resilience.breaker import CircuitBreaker
from resilience.circuit import CircuitState, Permit, Reason, Transition, Verdict
from resilience.configure import configure
from resilience.errors import (
    CircuitBreakerOpenError,
    ConfigurationError,
    ResilienceError,
    StoreUnavailableError,
)
from resilience.extension import Extension, extend
from resilience.install import install
from resilience.policy import Policy
from resilience.publishing import on_transition
from resilience.registry import CIRCUIT_BREAKERS, get_circuit_breaker
from resilience.stores import set_default_store
from resilience.task import ResilientTask

__all__ = [
    "CIRCUIT_BREAKERS",
    "CircuitBreaker",
    "CircuitBreakerOpenError",
    "CircuitState",
    "ConfigurationError",
    "Extension",
    "Permit",
    "Policy",
    "Reason",
    "ResilienceError",
    "ResilientTask",
    "StoreUnavailableError",
    "Transition",
    "Verdict",
    "configure",
    "extend",
    "get_circuit_breaker",
    "install",
    "on_transition",
    "set_default_store",
]
