import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.errors import (
    InputError,
    InvalidSymbolError,
    MissingKeyError,
    SettingsError,
    UnknownDatasetError,
    UnknownServiceError,
)
from tasks.providers.symbols import clean_symbol
from tasks.records import DATASETS, Quote

AT = datetime(2026, 11, 23, 21, 30, tzinfo=UTC)
FIELDS = {"provider": "finnhub", "symbol": "AAPL", "last_price": Decimal("261.74"), "last_timestamp": AT}


def test_a_quote_survives_json_to_the_last_digit() -> None:
    quote = Quote(**FIELDS, change_percent=Decimal("0.00882600"), volume=Decimal("1E+3"), last_size=100)
    wire = json.loads(json.dumps(quote.model_dump(mode="json")))
    again = Quote.model_validate(wire)
    assert again == quote
    assert str(again.change_percent) == "0.00882600"
    assert wire["last_price"] == "261.74"
    assert Quote.model_validate_json(quote.model_dump_json()) == quote
    assert pickle.loads(pickle.dumps(quote)) == quote  # noqa: S301 (our own bytes)


@given(
    price=st.decimals(min_value="1e-9", max_value="1e14", places=9),
    moment=st.datetimes(timezones=st.just(UTC)),
)
def test_any_price_and_time_survive_json(price: Decimal, moment: datetime) -> None:
    quote = Quote(**{**FIELDS, "last_price": price, "last_timestamp": moment})
    assert Quote.model_validate(json.loads(json.dumps(quote.model_dump(mode="json")))) == quote


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("last_price", 261.74),  # a float has already lost the printed digits
        ("last_price", True),
        ("last_price", Decimal("NaN")),
        ("last_price", Decimal("Infinity")),
        ("last_price", Decimal(0)),
        ("last_price", Decimal(-1)),
        ("last_timestamp", AT.replace(tzinfo=None)),
        ("last_timestamp", 1582641000),
        ("last_size", 1.0),
        ("last_size", True),
        ("last_size", -1),
        ("is_delayed", 1),
        ("volume", Decimal(-1)),
        ("symbol", ""),
        ("fetched_at", AT),  # the cache's, not the record's
        ("lastprice", Decimal(1)),
    ],
)
def test_a_quote_takes_nothing_inexact_or_unknown(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Quote(**{**FIELDS, field: value})


def test_times_are_utc_and_symbols_upper_case() -> None:
    local = AT.astimezone(timezone(timedelta(hours=-5)))
    quote = Quote(**{**FIELDS, "symbol": "brk.b", "last_timestamp": local})
    assert (quote.symbol, quote.last_timestamp, quote.last_timestamp.tzinfo) == ("BRK.B", AT, UTC)


def test_a_quote_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Quote(**FIELDS).symbol = "MSFT"


def test_the_datasets_are_the_five_of_the_contract() -> None:
    assert list(DATASETS) == ["quote", "bars", "news", "filings", "observations"]
    assert DATASETS["quote"] is Quote


@pytest.mark.parametrize(
    "symbol", ["AAPL", "brk.b", "^GSPC", "EURUSD=X", "BINANCE:BTCUSDT", "RDS-A", "7203.T"]
)
def test_symbols_of_the_field_are_taken(symbol: str) -> None:
    assert clean_symbol(symbol) == symbol.upper()


@pytest.mark.parametrize(
    "symbol",
    ["", ".", "..", "a/b", "a b", "A\r\nX: 1", "A&b=c", "A?b", "A%2e", "Å", "A" * 33, "A\n", None, 7],
)
def test_what_could_break_out_of_a_url_is_no_symbol(symbol: object) -> None:
    with pytest.raises(InvalidSymbolError, match="invalid symbol"):
        clean_symbol(symbol)


@pytest.mark.parametrize(
    "error",
    [
        UnknownServiceError("yahu", ["finnhub"]),
        UnknownDatasetError("quotes", ["quote"]),
        UnknownDatasetError("bars", ["quote"], "finnhub"),
        InvalidSymbolError("a/b"),
        MissingKeyError("FINNHUB_API_KEY"),
        SettingsError("FINNHUB_BASE_URL", "bad", "write it well"),
    ],
)
def test_an_error_survives_pickling_and_being_rebuilt_from_its_args(error: InputError) -> None:
    for again in (
        pickle.loads(pickle.dumps(error)),  # noqa: S301 (our own bytes)
        type(error)(*json.loads(json.dumps(error.args))),
    ):
        assert (type(again), str(again)) == (type(error), str(error))
    assert isinstance(error, InputError)
    assert isinstance(error, ValueError)
    assert len(str(type(error)(*["x" * 1_000, *error.args[1:]]))) < 2_000
