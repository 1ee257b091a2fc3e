"""Quandl, now Nasdaq Data Link. What an error means is in its code; 400 may be a bad key.

Served are its time series, by database and dataset: LBMA:GOLD is LBMA/GOLD there. Its tables have columns of
their own each, and no kind of record in common. Most of the free series are gone: they answer 410 since 2024
(OpenBB#6773, data-link-python#48).
"""

from tasks.errors import InvalidSymbolError
from tasks.providers.documents import Fields, Node, Rows, SchemaDriftError
from tasks.providers.rows import Auth, Endpoint, Matcher, Provider, Quota, Verdict
from tasks.providers.symbols import Symbol

_CODE = ("quandl_error", "code")


def observations(reply: Node) -> Rows:
    """Rows of two: the day a value is for, and the value."""
    found = reply.child("dataset_data")
    names = [name.value for name in found.child("column_names").rows()]
    frequency = found.maybe(Node.text, "frequency")
    if len(names) != 2 or "Date" not in str(names[0]):  # noqa: PLR2004 - Date, or Trade Date, and the value
        raise SchemaDriftError("$.dataset_data.column_names is not Date and one more")
    return found.child("data").each(_observation, {"frequency": frequency})


def _observation(row: Node) -> Fields:
    cells = [cell.value for cell in row.rows()]
    if len(cells) != 2:  # noqa: PLR2004 - as many as there are columns
        raise SchemaDriftError(f"{row.path} has not as many values as there are columns")
    named = Node(dict(zip(("date", "value"), cells, strict=True)), row.path)
    return {"date": named.date("date"), "value": named.maybe(Node.number, "value")}


# Prefixes of others: a series of theirs is not to be looked for here.
_OTHERS = ("WB", "UST", "ECB")


def dataset(symbol: Symbol) -> str:
    """A time series' path. The one colon tells it from a series of FRED's, which has none.

    Raises:
        InvalidSymbolError: Not a database and a dataset with a colon between them.
    """
    database, _, code = symbol.text.partition(":")
    if not database or not code or ":" in code or database in _OTHERS:
        raise InvalidSymbolError(symbol.text, "Quandl's are database:dataset, as in LBMA:GOLD")
    return f"{database}/{code}"


ROW = Provider(
    service="quandl",
    name="Quandl",
    base_url="https://data.nasdaq.com/api/v3",
    auth=Auth("header", "X-Api-Token"),
    endpoints={
        "observations": Endpoint(
            "/datasets/{symbol}/data.json",
            observations,
            # Of a series with several columns, the first beside the date.
            params={"column_index": "1", "order": "desc", "limit": "1000"},
            spell=dataset,
            example="LBMA:GOLD",
        )
        # Bars were WIKI's, which ended in 2018; those there are now are sold table by table.
    },
    matchers=(
        Matcher(Verdict.RATE_LIMIT, "too many requests in ten minutes", _CODE, equals="QELx04", hold=600.0),
        Matcher(Verdict.RATE_LIMIT, "too many requests in ten minutes", _CODE, equals="QELx05", hold=600.0),
        Matcher(Verdict.QUOTA, "the day's anonymous requests are used up", _CODE, equals="QELx01"),
        Matcher(Verdict.QUOTA, "the day's requests are used up", _CODE, equals="QELx02"),
        Matcher(Verdict.QUOTA, "the day's requests are used up", _CODE, equals="QELx03"),
        Matcher(Verdict.QUOTA, "the day's requests are used up", _CODE, equals="QEAx06"),
        Matcher(Verdict.RATE_LIMIT, "too many requests at the same time", _CODE, equals="QEAx07", hold=30.0),
        Matcher(Verdict.AUTH, "the API key is not valid", _CODE, "QEAx"),
        Matcher(Verdict.AUTH, "the API key is missing or not valid", _CODE, equals="QEPx01"),
        # The same code as for a subscription.
        Matcher(
            Verdict.AUTH,
            "the API key is missing or not valid",
            ("quandl_error", "message"),
            "valid API key is required",
        ),
        Matcher(Verdict.ENTITLEMENT, "the series is not in this subscription", _CODE, "QEPx"),
        Matcher(Verdict.RETIRED, "the series is retired", _CODE, equals="QECx06", of_one_symbol=True),
        Matcher(Verdict.RETIRED, "the series is retired", statuses=frozenset({410}), of_one_symbol=True),
    ),
    statuses=frozenset({404, 413, 414, 422}),
    plan_lists_symbols=True,
    quota=Quota(50_000, 86_400, burst=50),  # stays within 300 in ten seconds and 2 000 in ten minutes
    max_concurrent=1,
    note="most of its free series are gone since 2024, and what is left is sold; FRED, the World Bank and "
    "the ECB have many of them",
)
