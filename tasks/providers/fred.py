"""FRED. Whatever the caller did wrong is 400, the key included; its message tells which.

Its 120 calls a minute are counted by the second since 2026 (OpenBB#7527): two in each.
"""

import re

from tasks.errors import InvalidSymbolError
from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict
from tasks.providers.symbols import Symbol

_WRONG = frozenset({400})
_SERIES = re.compile(r"[A-Z0-9_]+")


def observations(reply: Node) -> Rows:
    """Values are strings; a dot is a value that is missing."""
    return reply.child("observations").each(_observation)


def _observation(row: Node) -> Fields:
    return {
        "date": row.date("date"),
        "value": row.maybe(Node.numeral, "value", "."),
        "realtime_start": row.date("realtime_start"),
        "realtime_end": row.date("realtime_end"),
    }


def series(symbol: Symbol) -> str:
    """A series' name.

    Raises:
        InvalidSymbolError: It has more than letters and digits, as another provider's do, and symbols.
    """
    if not _SERIES.fullmatch(symbol.text):
        raise InvalidSymbolError(symbol.text, "FRED's names are of letters and digits, as in UNRATE")
    return symbol.text


ROW = Provider(
    service="fred",
    name="FRED",
    base_url="https://api.stlouisfed.org/fred",
    auth=Auth("query", "api_key"),
    endpoints={
        "observations": Endpoint(
            "/series/observations",
            observations,
            params={
                "series_id": "{symbol}",
                "file_type": "json",  # it sends XML otherwise
                "sort_order": "desc",
                "limit": "1000",
            },
            spell=series,
            example="UNRATE",
        )
    },
    matchers=(
        Matcher(Verdict.RATE_LIMIT, "too many requests a minute", ("error_code",), equals="429"),
        # As text: it may answer in XML.
        Matcher(Verdict.AUTH, "the API key is not valid", contains="variable api_key", statuses=_WRONG),
        Matcher(Verdict.NOT_FOUND, "no such series", contains="series does not exist", statuses=_WRONG),
        Matcher(Verdict.PROVIDER_FAILURE, "locked", statuses=frozenset({423})),
    ),
    statuses=_WRONG,
    quota=Quota(2, 1),
    rate_hold=60.0,
)
