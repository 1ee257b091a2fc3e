"""The providers' circuits, and what market data adds to what operators see; ``import tasks`` has both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilience import CIRCUIT_BREAKERS, CircuitBreaker, Extension, StoreUnavailableError
from resilience.breaker import span
from tasks import entitlement, last_good
from tasks.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

MEMORY = "memory://"
# The ten that operators know from the first day.
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


def register() -> None:
    """Register the catalogue's, but for those that are registered by now."""
    for service in (*_SERVICES, *PROVIDERS):
        if service not in CIRCUIT_BREAKERS:
            CIRCUIT_BREAKERS[service] = CircuitBreaker(service, *_SERVICES.get(service, ()))


class MarketData(Extension):
    """Plans and their gaps, last good values, and what readers get."""

    def reset(self, service: str) -> None:
        """What its plan lacks is asked again."""
        try:
            entitlement.forget(service)
        except StoreUnavailableError as error:
            if error.address != MEMORY:  # where nothing is noted
                raise

    def annotate(self, rows: Collection[dict[str, Any]]) -> None:
        """``not_in_plan`` and ``provider_note``."""
        entitlement.add_to(rows)

    def in_words(self, row: Mapping[str, Any]) -> Mapping[str, str]:
        """The same."""
        return {
            "not_in_plan": ", ".join(map(_missing, row.get("not_in_plan", ()))),
            "provider_note": row.get("provider_note", ""),
        }

    def columns(self) -> Mapping[str, Mapping[str, tuple[str, str]]]:
        """Each provider's last good value."""
        kept = last_good.by_provider()
        return {"Last good": {name: (symbol, f"{span(age)} old") for name, (symbol, age) in kept.items()}}

    def collectors(self) -> Iterable[Any]:
        """What readers get."""
        from tasks.metrics import ReadingCollector  # noqa: PLC0415 - a worker collects nothing, and starts without

        return (ReadingCollector(),)


def _missing(noted: Mapping[str, Any]) -> str:
    """One thing a plan lacks, in words."""
    symbol = f" of {noted['symbol']}" if noted["symbol"] else ""
    return f"{noted['dataset']}{symbol} until {noted['until']} (key {noted['key'] or 'none'})"
