"""The market-data domain: providers, fetch tasks, on-demand refresh, last good values, the schedule.

What belongs here: everything that knows a provider, a dataset or a symbol.
What does not: the breaker and parking (``resilience``), the running system (``workers``).

    latest("quote", "AAPL")             the last good value at once, with its honest age
    refresh("quote", "AAPL", wait=5)    ask a provider now; fresh, or honestly stale
"""

from resilience import extend
from tasks.circuits import MarketData, register
from tasks.reading import Reading, latest, refresh

__all__ = ["Reading", "latest", "refresh"]

register()
extend(MarketData())
