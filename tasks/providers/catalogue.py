"""The providers, and the order in which a dataset's providers are asked.

Each has a module of its name beside this one, with its row and the readers of its replies. Their sources are
each provider's published API documentation and SDK.
"""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from tasks.errors import InvalidSymbolError, UnknownAdjustmentError, UnknownDatasetError, UnknownServiceError
from tasks.providers.rows import Endpoint, Provider
from tasks.providers.symbols import ELSEWHERE
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
    "openfigi",
    "coinbase",
    "kraken",
    "binance",
    "ecb",
)


def _row(module: str) -> Provider:
    row: Provider = import_module(f"tasks.providers.{module}").ROW
    return row


PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.service: row for row in map(_row, _MODULES)})
"""Service name → its row, in the order above."""

_ORDER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "quote": (
            *("iex_cloud", "alpha_vantage", "finnhub"),
            # Of coins, and of currencies: who trades in them.
            *("coinbase", "kraken", "binance"),
            *("alpaca", "tradier", "twelvedata", "tiingo", "polygon", "fmp", "intrinio", "benzinga", "eodhd"),
            *("marketstack", "yahoo", "coingecko", "ecb"),
        ),
        "bars": (
            # Prices as they were traded first, by what the free plan allows,
            *("coinbase", "kraken", "binance"),
            *("alpaca", "tiingo", "twelvedata", "polygon", "alpha_vantage", "eodhd", "marketstack"),
            "intrinio",
            # then those adjusted for splits, then for dividends, too.
            *("tradier", "fmp", "finnhub", "iex_cloud", "yahoo"),
            "stooq",
        ),
        **dict.fromkeys(
            ("bars_1m", "bars_5m", "bars_15m", "bars_30m", "bars_1h"),
            (
                *("alpaca", "tiingo", "twelvedata", "polygon", "tradier", "marketstack", "intrinio"),
                *("alpha_vantage", "finnhub", "eodhd"),
                # As traded until here, adjusted for splits from here on.
                *("fmp", "yahoo"),
            ),
        ),
        **dict.fromkeys(
            ("dividends", "splits"),
            (
                *("polygon", "alpaca", "fmp", "twelvedata", "tiingo", "alpha_vantage", "intrinio"),
                *("marketstack", "finnhub", "eodhd"),
                "yahoo",  # its amounts are adjusted for splits
            ),
        ),
        "news": (
            *("finnhub", "alpaca", "polygon", "alpha_vantage", "tiingo"),
            *("benzinga", "fmp", "eodhd", "intrinio", "iex_cloud", "news_api"),
        ),
        "filings": ("sec_edgar", "finnhub"),
        "observations": ("fred", "quandl", "world_bank", "us_treasury", "ecb"),
    }
)
"""Where the order is another than that of the modules above; those who serve it, where it is of several."""


def _serving(dataset: str) -> tuple[str, ...]:
    order = _ORDER.get(dataset, tuple(PROVIDERS))
    return tuple(service for service in order if dataset in PROVIDERS[service].endpoints)


ORDER: Mapping[str, tuple[str, ...]] = MappingProxyType({dataset: _serving(dataset) for dataset in DATASETS})
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


def providers_of(dataset: str, symbol: str | None = None, adjustment: str | None = None) -> tuple[str, ...]:
    """The services that serve a dataset, in fail-over order; empty where none does yet.

    Args:
        dataset: What.
        symbol: Clean. Only those that can have such a symbol and give values that can stand for one another:
            bars of one adjustment.
        adjustment: Which; None: what the first of them gives that is not retired. The circuits have no say
            in it, so it is always the same.

    Raises:
        UnknownDatasetError: There is no such dataset.
        InvalidSymbolError: None of them can have such a symbol.
        UnknownAdjustmentError: None of those that can gives such values.
    """
    if dataset not in DATASETS:
        raise UnknownDatasetError(dataset, tuple(DATASETS))
    services = ORDER.get(dataset, ())
    if symbol is None:
        return services
    endpoints = {service: PROVIDERS[service].endpoints[dataset] for service in services}
    owners = [name for name, row in endpoints.items() if row.prefix and symbol.startswith(row.prefix)]
    able, problems = [], []
    for service in owners or services:
        try:
            endpoints[service].spelling(symbol)
            able.append(service)
        except InvalidSymbolError as error:
            problems.append(error)
    if problems and not able:
        told = (error for error in problems if not error.remedy.endswith(ELSEWHERE))
        raise next(told, InvalidSymbolError(symbol, f"no provider of {dataset} has such a symbol"))
    return _equivalent(dataset, able, adjustment)


def adjustments_of(dataset: str) -> tuple[str, ...]:
    """What a dataset's values may be adjusted for, in fail-over order; nothing where they are not."""
    found = (PROVIDERS[service].endpoints[dataset].adjustment for service in ORDER.get(dataset, ()))
    return tuple(dict.fromkeys(adjustment for adjustment in found if adjustment))


def resolve_adjustment(
    dataset: str, symbol: str, service: str | None = None, adjustment: str | None = None
) -> str | None:
    """What the values asked for are adjusted for; None where they are not.

    Args:
        dataset: What.
        symbol: Of what; clean.
        service: The only one that may be asked; None: any in the dataset's order.
        adjustment: What they should be adjusted for; None: as the service gives them, see ``providers_of``.

    Raises:
        UnknownServiceError: The catalogue has none.
        UnknownDatasetError: There is no such dataset, or the service does not serve it.
        InvalidSymbolError: It cannot have such a symbol.
        UnknownAdjustmentError: It does not give such values.
    """
    service = service or providers_of(dataset, symbol, adjustment)[0]
    endpoint = find_endpoint(find_provider(service), dataset)
    endpoint.spelling(symbol)
    if adjustment not in (None, endpoint.adjustment):
        known = [endpoint.adjustment] if endpoint.adjustment else []
        raise UnknownAdjustmentError(adjustment, f"{service}'s {dataset}", known)
    return endpoint.adjustment


def _equivalent(dataset: str, services: list[str], adjustment: str | None) -> tuple[str, ...]:
    given = {name: PROVIDERS[name].endpoints[dataset].adjustment for name in services}
    wanted = adjustment or next((given[name] for name in services if not PROVIDERS[name].retired), None)
    found = tuple(name for name in services if given[name] == wanted)
    if adjustment and not found:
        raise UnknownAdjustmentError(adjustment, dataset, sorted(filter(None, set(given.values()))))
    return found
