"""The records every provider's reply is turned into: exact decimals, UTC instants, fractions for percents.

A record holds what the provider said. When it was fetched is not among it: the cache that keeps the record
adds that. `model_dump(mode="json")` gives plain JSON with decimals as strings, and `model_validate` takes it
back.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field


def _exact(value: object) -> object:
    """Refuse binary floats, which lost the printed digits, and booleans, which pydantic takes for 0 and 1."""
    if isinstance(value, float | bool):
        raise ValueError("a decimal, or its text, is needed; parse JSON with parse_float=Decimal")  # noqa: TRY004
    return value


def _spelled(value: object) -> object:
    """Refuse bare numbers as times: seconds and milliseconds cannot be told apart."""
    if isinstance(value, datetime | str):
        return value
    raise ValueError("a datetime with a time zone, or its ISO 8601 text, is needed")


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


Exact = Annotated[Decimal, BeforeValidator(_exact), Field(allow_inf_nan=False)]
Instant = Annotated[AwareDatetime, BeforeValidator(_spelled), AfterValidator(_utc)]
Count = Annotated[int, Field(strict=True, ge=0)]
Flag = Annotated[bool, Field(strict=True)]
Symbol = Annotated[str, AfterValidator(str.upper), Field(min_length=1, max_length=32)]


class Record(BaseModel):
    """Base of the records: frozen, and a field nobody declared is an error.

    Attributes:
        provider: The service's name in the catalogue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str


class Quote(Record):
    """The last price of one symbol.

    Attributes:
        symbol: Upper case.
        last_price: In `currency`, above zero.
        last_size: Shares of the last trade.
        last_timestamp: The provider's time of that price, in UTC; midnight where it tells only the day.
        bid: Best bid.
        bid_size: Its size: round lots on SIP feeds, shares elsewhere.
        ask: Best ask.
        ask_size: Its size, as `bid_size`.
        open: First price of the session.
        high: Highest price of the session.
        low: Lowest price of the session.
        prev_close: Close of the session before.
        change: `last_price - prev_close`, as the provider rounds it.
        change_percent: The same as a fraction: 0.0021 is 0.21 %.
        volume: Shares traded in the session.
        exchange: MIC where known, else the provider's name of the exchange.
        currency: ISO 4217.
        is_delayed: Whether the provider says that the price is not live.
    """

    symbol: Symbol
    last_price: Annotated[Exact, Field(gt=0)]
    last_size: Count | None = None
    last_timestamp: Instant
    bid: Exact | None = None
    bid_size: Count | None = None
    ask: Exact | None = None
    ask_size: Count | None = None
    open: Exact | None = None
    high: Exact | None = None
    low: Exact | None = None
    prev_close: Exact | None = None
    change: Exact | None = None
    change_percent: Exact | None = None
    volume: Annotated[Exact, Field(ge=0)] | None = None
    exchange: str | None = None
    currency: str | None = None
    is_delayed: Flag | None = None


DATASETS: Mapping[str, type[Record] | None] = MappingProxyType(
    {"quote": Quote, "bars": None, "news": None, "filings": None, "observations": None}
)
"""Dataset name → its record; None where no provider serves it yet."""
