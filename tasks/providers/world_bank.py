"""World Bank Indicators. No key; errors are HTTP 200, and some of them XML. A series is a country's."""

import re
from datetime import date

from tasks.errors import InvalidSymbolError
from tasks.providers.documents import Fields, Node, Rows, SchemaDriftError
from tasks.providers.rows import Endpoint, Matcher, Provider, Verdict
from tasks.providers.symbols import Symbol

_SERIES = re.compile(r"(?!ALL:)[A-Z0-9]+:[A-Z0-9._]+")  # all is every country: many series in one
_OK = frozenset({200})
_PERIOD = re.compile(r"([0-9]{4})(Q[1-4]|M[01][0-9])?")


def observations(reply: Node) -> Rows:
    """Beside the paging, null where there is no row; a period is a year, a quarter or a month."""
    parts = reply.rows()
    if len(parts) != 2:  # noqa: PLR2004 - the paging and the rows
        raise SchemaDriftError("$ is not the paging and the rows")
    return parts[1].each(_observation)


def _observation(row: Node) -> Fields:
    return {
        "date": _first_day(row),
        "value": row.maybe(Node.amount, "value"),
        "units": row.maybe(Node.text, "unit"),
        "country": row.maybe(Node.text, "countryiso3code"),
    }


def _first_day(row: Node) -> date:
    period = _PERIOD.fullmatch(row.text("date"))
    if period is None:
        raise SchemaDriftError(f"{row.path}.date is no year, quarter (2023Q1) or month (2023M01)")
    year, part = period[1], period[2] or "M01"
    month = int(part[1:]) if part.startswith("M") else 3 * int(part[1:]) - 2
    return Node({"date": f"{year}-{month:02}-01"}, row.path).date("date")


def series(symbol: Symbol) -> str:
    """A country and an indicator, as they stand in the path.

    Raises:
        InvalidSymbolError: Not one country and an indicator.
    """
    if not _SERIES.fullmatch(symbol.text):
        raise InvalidSymbolError(
            symbol.text, "write one country's code and the indicator's, as in WB:USA:NY.GDP.MKTP.CD"
        )
    return symbol.text.replace(":", "/indicator/")


ROW = Provider(
    service="world_bank",
    name="World Bank",
    base_url="https://api.worldbank.org/v2",
    auth=None,
    endpoints={
        "observations": Endpoint(
            "/country/{symbol}",
            observations,
            params={"format": "json", "per_page": "1000"},  # the newest come first, XML without format
            spell=series,
            prefix="WB:",
            example="WB:USA:NY.GDP.MKTP.CD",
        )
    },
    matchers=(
        # Other messages (105: the service is unavailable) are no rows, so failures.
        Matcher(Verdict.NOT_FOUND, "no such country or indicator", (0, "message", 0, "id"), equals="120"),
        Matcher(
            Verdict.NOT_FOUND, "the indicator is deleted or archived", (0, "message", 0, "id"), equals="175"
        ),
        # The same in XML, whatever was asked for.
        Matcher(Verdict.NOT_FOUND, "no such country or indicator", contains='message id="120"', statuses=_OK),
        Matcher(
            Verdict.NOT_FOUND,
            "the indicator is deleted or archived",
            contains='message id="175"',
            statuses=_OK,
        ),
        # Its own errors are all 200.
        Matcher(Verdict.PROVIDER_FAILURE, "its gateway knows no such path", statuses=frozenset({404})),
    ),
    # It asks for reasonable usage, and tells no number.
    key_required=False,
)
