"""The circuits of this process, by name; assigning to ``CIRCUIT_BREAKERS`` registers one, or replaces it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from resilience.breaker import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Collection

CIRCUIT_BREAKERS: dict[str, CircuitBreaker] = {}

# Those that were made because somebody asked for them.
_made: dict[str, CircuitBreaker] = {}


def get_circuit_breaker(service_name: str) -> CircuitBreaker:
    """The breaker of a service; an unknown one is made with the defaults and registered."""
    breaker = CIRCUIT_BREAKERS.get(service_name)
    if breaker is None:
        breaker = CIRCUIT_BREAKERS.setdefault(service_name, CircuitBreaker(service_name))
        _made[service_name] = breaker
    return breaker


def unregistered(services: Collection[str]) -> list[str]:
    """Those of the services that nobody has registered, though some are: their breakers have the defaults."""
    own = [name for name, breaker in CIRCUIT_BREAKERS.items() if _made.get(name) is not breaker]
    return [service for service in services if service not in own] if own else []


def unknown(service: str, known: Collection[str]) -> str:
    """What is wrong with a name that is not among those known, and the nearest of them."""
    nearest = difflib.get_close_matches(service, known, 1)
    meant = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"unknown service {service!r}; {meant}known are {', '.join(known) or 'none'}"


def unregister(service_name: str) -> None:
    """Forget a breaker that was only made because somebody asked for it; one of the app's own stays."""
    made = _made.pop(service_name, None)
    if made is not None and CIRCUIT_BREAKERS.get(service_name) is made:
        del CIRCUIT_BREAKERS[service_name]
