"""US Treasury, Fiscal Data: the average interest rates of its securities. No key; every value is a string."""

from tasks.providers.documents import Fields, Node, Rows
from tasks.providers.rows import Endpoint, Provider, Verdict
from tasks.providers.symbols import Symbol

_PREFIX = "UST:"
# The others are the words of their names, with hyphens; these are no words with a capital each, or too long.
_NAMES = {
    "GAS-INFLATION-SECURITIES": "Government Account Series Inflation Securities",
    "SAVINGS-SECURITIES": "United States Savings Securities",
    "TREASURY-FRN": "Treasury Floating Rate Notes (FRN)",
    "TREASURY-TIPS": "Treasury Inflation-Protected Securities (TIPS)",
    "SLGS": "State and Local Government Series",
    "TOTAL-NON-MARKETABLE": "Total Non-marketable",
    "TOTAL-INTEREST-BEARING-DEBT": "Total Interest-bearing Debt",
}
_SYMBOLS = {name: symbol for symbol, name in _NAMES.items()}


def observations(reply: Node) -> Rows:
    """A month's rate is of its last day; the string "null" is a value that is missing."""
    units = reply.child("meta").child("dataTypes").text("avg_interest_rate_amt")
    return reply.child("data").each(_observation, {"units": units})


def _observation(row: Node) -> Fields:
    return {
        "series_id": _series(row.text("security_desc")),
        "date": row.date("record_date"),
        "value": row.maybe(Node.numeral, "avg_interest_rate_amt"),
    }


def _series(name: str) -> str:
    return _PREFIX + (_SYMBOLS.get(name) or name.replace(" ", "-").upper())


def security(symbol: Symbol) -> str:
    """A security's name, of its words with hyphens between them."""
    return _NAMES.get(symbol.text) or symbol.text.replace("-", " ").title()


ROW = Provider(
    service="us_treasury",
    name="US Treasury",
    base_url="https://api.fiscaldata.treasury.gov/services/api/fiscal_service",
    auth=None,
    endpoints={
        "observations": Endpoint(
            "/v2/accounting/od/avg_interest_rates",
            observations,
            params={
                "fields": "record_date,security_desc,avg_interest_rate_amt",
                "filter": "security_desc:eq:{symbol}",
                "sort": "-record_date",
                "page[size]": "1000",
            },
            spell=security,
            prefix=_PREFIX,
            example="UST:TREASURY-BILLS",
            no_rows=Verdict.NOT_FOUND,  # it is asked for all there are
        )
    },
    statuses=frozenset({400, 403, 429}),
    # It documents status 429, and no number of calls.
    key_required=False,
)
