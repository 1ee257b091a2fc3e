"""Market-data providers: the catalogue, and the judge of their replies.

`tasks.providers.http` makes the calls. It is not imported here, so that judging needs no HTTP client and the
settings can read the catalogue.
"""

from tasks.providers.catalogue import (
    ORDER,
    PROVIDERS,
    adjustments_of,
    find_endpoint,
    find_provider,
    providers_of,
    resolve_adjustment,
)
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Reset, Until, Verdict, Window
from tasks.providers.symbols import clean_symbol
from tasks.providers.verdicts import Judgement, judge

__all__ = [
    "ORDER",
    "PROVIDERS",
    "Auth",
    "Endpoint",
    "Judgement",
    "Matcher",
    "Provider",
    "Quota",
    "Reset",
    "Until",
    "Verdict",
    "Window",
    "adjustments_of",
    "clean_symbol",
    "find_endpoint",
    "find_provider",
    "judge",
    "providers_of",
    "resolve_adjustment",
]
