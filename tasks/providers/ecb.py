"""European Central Bank, Data Portal. No key; CSV.

Its euro reference rates are one for each working day, published at about 16:00 in Frankfurt: what one euro is
worth, for information, not a price that anybody paid. So they are a quote as old as its day, and no bars. All
of its series are observations, by dataflow and key, as in ECB:EXR:D.USD.EUR.SP00.A. Source: "Data" in the
portal's help on its API (2026).
"""

import re
from datetime import date

from tasks.errors import InvalidSymbolError
from tasks.providers.documents import Fields, Node, Rows, SchemaDriftError
from tasks.providers.rows import Endpoint, Matcher, Provider, Verdict
from tasks.providers.symbols import Kind, Symbol

_PREFIX = "ECB:"
_SERIES = re.compile(r"[A-Z0-9_]+:[A-Z0-9_]+(\.[A-Z0-9_]+)*")  # a dimension left out is all of its series
_PERIOD = re.compile(r"([0-9]{4})(?:-(?:(W)([0-9]{2})|([SQ])([1-4])|([0-9]{2})(?:-([0-9]{2}))?))?")
_MONTHS = {"S": 6, "Q": 3}


def quote(reply: Node) -> Fields | None:
    """The newest rate."""
    rows = reply.rows()
    if not rows:
        return None
    newest = rows[-1]
    return {
        "symbol": f"{newest.text('CURRENCY_DENOM')}/{newest.text('CURRENCY')}",
        "last_price": newest.price_numeral("OBS_VALUE"),
        "last_timestamp": newest.day("TIME_PERIOD"),
        "currency": newest.text("CURRENCY"),
        "is_delayed": True,
    }


def observations(reply: Node) -> Rows:
    """A line for each period; a value that is missing is blank, or NaN."""
    return reply.each(_observation)


def _observation(row: Node) -> Fields:
    return {
        "series_id": _PREFIX + row.text("KEY").replace(".", ":", 1),
        "date": _first_day(row),
        "value": row.maybe(Node.numeral, "OBS_VALUE"),
        "frequency": row.maybe(Node.text, "FREQ"),
    }


def _first_day(row: Node) -> date:
    """Of a year, half (2026-S1), quarter (2026-Q1), month, week (2026-W05) or day."""
    found = _PERIOD.fullmatch(row.text("TIME_PERIOD"))
    if found is None:
        raise SchemaDriftError(f"{row.path}.TIME_PERIOD is no period of SDMX")
    year, week, number, part, place, month, day = found.groups()
    try:
        if week:
            return date.fromisocalendar(int(year), int(number), 1)
        start = _MONTHS[part] * (int(place) - 1) + 1 if part else int(month or 1)
        return date(int(year), start, int(day or 1))
    except ValueError:
        raise SchemaDriftError(f"{row.path}.TIME_PERIOD is no period there is") from None


def of_the_euro(symbol: Symbol) -> str:
    """USD for EUR/USD.

    Raises:
        InvalidSymbolError: Not what a euro is worth.
    """
    if symbol.kind is not Kind.FX or symbol.base != "EUR":
        raise InvalidSymbolError(symbol.text, "the ECB has what a euro is worth, as in EUR/USD")
    return symbol.quote_currency


def series(symbol: Symbol) -> str:
    """A dataflow and a key, as they stand in the path.

    Raises:
        InvalidSymbolError: Not one series.
    """
    if not _SERIES.fullmatch(symbol.text):
        raise InvalidSymbolError(
            symbol.text, "write a dataflow and one series' key, as in ECB:EXR:D.USD.EUR.SP00.A"
        )
    return symbol.text.replace(":", "/")


def _params(newest: int) -> dict[str, str]:
    return {"format": "csvdata", "detail": "dataonly", "lastNObservations": str(newest)}


ROW = Provider(
    service="ecb",
    name="European Central Bank",
    base_url="https://data-api.ecb.europa.eu/service",
    auth=None,
    endpoints={
        "quote": Endpoint(
            "/data/EXR/D.{symbol}.EUR.SP00.A",
            quote,
            params=_params(1),
            spell=of_the_euro,
            example="EUR/USD",
            reply="csv",
        ),
        "observations": Endpoint(
            "/data/{symbol}",
            observations,
            params=_params(1_000),
            spell=series,
            prefix=_PREFIX,
            example="ECB:EXR:D.USD.EUR.SP00.A",
            reply="csv",
        ),
    },
    # On a day without a rate it may send nothing at all.
    matchers=(Matcher(Verdict.EMPTY, "no rate in the window", equals="", statuses=frozenset({200})),),
    statuses=frozenset({400, 404, 406}),
    # It documents no number of calls.
    key_required=False,
)
