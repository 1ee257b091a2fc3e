"""The providers, and the order in which a dataset's providers are asked.

Each has a module of its name beside this one, with its row and the readers of its replies. Their sources are
each provider's published API documentation and SDK.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from tasks.errors import InvalidSymbolError, UnknownDatasetError, UnknownServiceError
from tasks.providers.rows import Endpoint, Provider
from tasks.records import DATASETS

_MODULES = (
    "iex_cloud",
    "alpha_vantage",
    "finnhub",
    "sec_edgar",
    "fred",
    "twelvedata",
    "polygon",
    "tiingo",
    "alpaca",
    "tradier",
    "intrinio",
    "news_api",
    "benzinga",
    "quandl",
    "fmp",
    "eodhd",
    "marketstack",
    "coingecko",
    "world_bank",
    "us_treasury",
    "yahoo",
    "stooq",
)


def _row(module: str) -> Provider:
    row: Provider = import_module(f"tasks.providers.{module}").ROW
    return row


PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.service: row for row in map(_row, _MODULES)})
"""Service name → its row, in the order above."""

ORDER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "quote": (
            *("iex_cloud", "alpha_vantage", "finnhub"),
            *("alpaca", "tradier", "twelvedata", "tiingo", "polygon", "fmp", "intrinio", "benzinga", "eodhd"),
            *("yahoo", "coingecko"),
        ),
        "bars": (
            # Prices as they were traded first, by what the free plan allows,
            *("alpaca", "tiingo", "twelvedata", "polygon", "alpha_vantage", "eodhd", "marketstack"),
            "intrinio",
            # then those adjusted for splits, then for dividends, too.
            *("tradier", "fmp", "yahoo"),
            "stooq",
        ),
        "news": (
            *("finnhub", "alpaca", "polygon", "alpha_vantage", "tiingo"),
            *("benzinga", "fmp", "eodhd", "intrinio", "news_api"),
        ),
        "filings": ("sec_edgar", "finnhub"),
        "observations": ("fred", "quandl", "world_bank", "us_treasury"),
    }
)
"""Dataset → the services an on-demand refresh tries, first one first."""


def find_provider(service: str) -> Provider:
    """The row of a service.

    Raises:
        UnknownServiceError: The catalogue has none.
    """
    if service not in PROVIDERS:
        raise UnknownServiceError(service, tuple(PROVIDERS))
    return PROVIDERS[service]


def find_endpoint(provider: Provider, dataset: str) -> Endpoint:
    """The endpoint of a dataset.

    Raises:
        UnknownDatasetError: There is no such dataset, or the provider does not serve it.
    """
    if dataset not in DATASETS:
        raise UnknownDatasetError(dataset, tuple(DATASETS))
    if dataset not in provider.endpoints:
        raise UnknownDatasetError(dataset, tuple(provider.endpoints), provider.service)
    return provider.endpoints[dataset]


def providers_of(dataset: str, symbol: str | None = None) -> tuple[str, ...]:
    """The services that serve a dataset, in fail-over order; empty where none does yet.

    Args:
        dataset: What.
        symbol: Clean. Only those that can have such a symbol.

    Raises:
        UnknownDatasetError: There is no such dataset.
        InvalidSymbolError: None of them can have such a symbol.
    """
    if dataset not in DATASETS:
        raise UnknownDatasetError(dataset, tuple(DATASETS))
    services = ORDER.get(dataset, ())
    if symbol is None:
        return services
    endpoints = {service: PROVIDERS[service].endpoints[dataset] for service in services}
    owners = [name for name, row in endpoints.items() if row.prefix and symbol.startswith(row.prefix)]
    able, problem = [], None
    for service in owners or services:
        try:
            endpoints[service].spelling(symbol)
            able.append(service)
        except InvalidSymbolError as error:
            problem = problem or error
    if problem and not able:
        raise problem
    return tuple(able)
