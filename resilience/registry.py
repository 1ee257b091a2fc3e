"""The circuits of this process, by name.

The ten market-data services and their settings are the ones operators know from the first day;
assigning to ``CIRCUIT_BREAKERS`` registers another, or replaces one.
"""

from __future__ import annotations

from resilience.breaker import CircuitBreaker

#: service: (failure_threshold, timeout_seconds)
_SERVICES = {
    "iex_cloud": (5, 60),
    "alpha_vantage": (5, 120),
    "finnhub": (3, 60),
    "polygon": (5, 60),
    "news_api": (5, 120),
    "benzinga": (5, 60),
    "quandl": (3, 180),
    "sec_edgar": (3, 120),
    "fred": (5, 120),
    "twelvedata": (5, 60),
}

CIRCUIT_BREAKERS: dict[str, CircuitBreaker] = {
    service: CircuitBreaker(service, failure_threshold=threshold, timeout_seconds=timeout)
    for service, (threshold, timeout) in _SERVICES.items()
}

# Those that were made because somebody asked for them.
_made: dict[str, CircuitBreaker] = {}


def get_circuit_breaker(service_name: str) -> CircuitBreaker:
    """The breaker of a service; an unknown one is made with the defaults and registered."""
    breaker = CIRCUIT_BREAKERS.get(service_name)
    if breaker is None:
        breaker = CIRCUIT_BREAKERS.setdefault(service_name, CircuitBreaker(service_name))
        _made[service_name] = breaker
    return breaker


def unregister(service_name: str) -> None:
    """Forget a breaker that was only made because somebody asked for it; one of the app's own stays."""
    made = _made.pop(service_name, None)
    if made is not None and CIRCUIT_BREAKERS.get(service_name) is made:
        del CIRCUIT_BREAKERS[service_name]
