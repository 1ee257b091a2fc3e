"""The providers, a row each, and the order in which a dataset's providers are asked.

Sources: each provider's published API documentation and SDK. A matcher repeats one documented reply; their
order matters where one reply's text contains another's.
"""

from collections.abc import Mapping
from datetime import date
from types import MappingProxyType

from tasks.errors import UnknownDatasetError, UnknownServiceError
from tasks.providers import quotes
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Verdict, Window
from tasks.records import DATASETS

_ROWS = (
    Provider(
        service="iex_cloud",
        name="IEX Cloud",
        base_url="https://cloud.iexapis.com/stable",
        auth=Auth("query", "token"),
        endpoints={"quote": Endpoint("/stock/{symbol}/quote", quotes.iex_cloud)},
        matchers=(  # plain text; 402 and 403 each stand for two things, told apart by the text
            Matcher(
                Verdict.AUTH,
                "the API key is not valid",
                contains="API key provided is not valid",
                statuses=frozenset({403}),
            ),
            Matcher(
                Verdict.ENTITLEMENT,
                "the data is not in this plan",
                contains="not available to your current tier",
                statuses=frozenset({402}),
            ),
            Matcher(
                Verdict.QUOTA,
                "the account's own spending limit is reached",
                contains="circuit breaker has been engaged",
                statuses=frozenset({403}),
            ),
        ),
        retired=date(2024, 8, 31),
        note="all products were retired on 2024-08-31; IEX prices are still served by Tiingo and Alpaca",
    ),
    Provider(
        service="alpha_vantage",
        name="Alpha Vantage",
        base_url="https://www.alphavantage.co",
        auth=Auth("query", "apikey"),
        endpoints={
            "quote": Endpoint(
                "/query", quotes.alpha_vantage, params={"function": "GLOBAL_QUOTE", "symbol": "{symbol}"}
            )
        },
        matchers=(  # every error is HTTP 200
            # The burst text also names the daily limit, so it is looked for first.
            Matcher(Verdict.RATE_LIMIT, "one request a second", ("Information",), "more sparingly", hold=2.0),
            Matcher(Verdict.QUOTA, "the day's requests are used up", ("Information",), "requests per day"),
            Matcher(Verdict.RATE_LIMIT, "too many requests a minute", ("Note",)),
            Matcher(
                Verdict.AUTH,
                "the API key is invalid or missing",
                ("Error Message",),
                "apikey is invalid or missing",
            ),
            Matcher(
                Verdict.NOT_FOUND,
                "no such symbol or function",
                ("Error Message",),
                "Invalid API call",
            ),
            Matcher(
                Verdict.ENTITLEMENT, "the endpoint is not in this plan", ("Information",), "premium endpoint"
            ),
        ),
    ),
    Provider(
        service="finnhub",
        name="Finnhub",
        base_url="https://finnhub.io/api/v1",
        auth=Auth("header", "X-Finnhub-Token"),
        endpoints={"quote": Endpoint("/quote", quotes.finnhub, params={"symbol": "{symbol}"})},
        matchers=(
            Matcher(
                Verdict.ENTITLEMENT,
                "the resource is not in this plan",
                ("error",),
                "have access to this resource",
                statuses=frozenset({403}),
            ),
            Matcher(Verdict.NOT_FOUND, "no data for the symbol", ("s",), equals="no_data"),
        ),
        rate_hold=Window.MINUTE,
        reset_header="X-Ratelimit-Reset",  # unverified, so only believed where it is plausible
    ),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({row.service: row for row in _ROWS})
"""Service name → its row, in the catalogue's order."""

ORDER: Mapping[str, tuple[str, ...]] = MappingProxyType({"quote": ("iex_cloud", "alpha_vantage", "finnhub")})
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


def providers_of(dataset: str) -> tuple[str, ...]:
    """The services that serve a dataset, in fail-over order; empty where none does yet.

    Raises:
        UnknownDatasetError: There is no such dataset.
    """
    if dataset not in DATASETS:
        raise UnknownDatasetError(dataset, tuple(DATASETS))
    return ORDER.get(dataset, ())
