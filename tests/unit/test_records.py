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
    MissingContactError,
    MissingKeyError,
    SettingsError,
    UnknownDatasetError,
    UnknownServiceError,
)
from tasks.providers.symbols import clean_symbol
from tasks.records import (
    DATASETS,
    Bar,
    Filing,
    Instrument,
    NewsArticle,
    Observation,
    Quote,
    Record,
    as_json,
    as_of,
    in_order,
)

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


def test_the_datasets_of_the_contract_have_their_records() -> None:
    contract = {
        "quote": Quote,
        "bars": Bar,
        "news": NewsArticle,
        "filings": Filing,
        "observations": Observation,
        "reference": Instrument,
    }
    assert {**DATASETS, **contract} == DATASETS
    assert [name for name, record in DATASETS.items() if record.alone] == ["quote", "reference"]


PRICES = dict.fromkeys(("open", "high", "low", "close"), Decimal("1.50"))
DAY = AT.date()
RECORDS = [
    Bar(provider="p", symbol="a", interval="1d", adjustment="raw", timestamp=AT, **PRICES),
    NewsArticle(
        provider="p", article_id="1", published_at=AT, title="t", url="https://x/1", symbols=("a", "B")
    ),
    Filing(
        provider="p",
        cik="0000320193",
        accession_number="0000320193-24-000123",
        form="10-K",
        filing_date=DAY,
        items=("5.07",),
    ),
    Observation(provider="p", series_id="UNRATE", date=DAY, value=None),
    Instrument(provider="p", symbol="brk.b", figi="BBG000DWG505", ticker="BRK/B"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_every_record_survives_json_and_cannot_be_changed(record: Record) -> None:
    wire = json.loads(json.dumps(as_json((record,))))
    assert [type(record).model_validate(row) for row in wire] == [record]
    assert as_of((record,)) == next((wire[0][name] for name in record.time_fields if wire[0][name]), None)
    with pytest.raises(ValidationError, match="frozen"):
        record.provider = "q"
    with pytest.raises(ValidationError, match="fetched_at"):
        type(record)(**dict(record), fetched_at=AT)


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        (RECORDS[0], "adjustment", "guessed"),
        (RECORDS[0], "interval", "1day"),
        (RECORDS[0], "close", 1.5),
        (RECORDS[0], "volume", Decimal(-1)),
        (RECORDS[1], "url", ""),
        (RECORDS[1], "published_at", AT.replace(tzinfo=None)),
        (RECORDS[2], "cik", "320193"),
        (RECORDS[2], "accession_number", "000032019324000123"),
        (RECORDS[2], "filing_date", 1582641000),
        (RECORDS[3], "value", 4.0),
        (RECORDS[3], "date", 20240601),
        (RECORDS[3], "date", AT),  # a date is no instant
    ],
)
def test_no_record_takes_anything_inexact(record: Record, field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        type(record)(**{**dict(record), field: value})


def test_lists_have_the_newest_where_it_belongs() -> None:
    bar, article, filing, observation, instrument = RECORDS
    earlier = AT - timedelta(days=1)
    old = bar.model_copy(update={"timestamp": earlier})
    assert in_order([bar, old]) == (old, bar)
    assert as_of((old, bar)) == as_json(bar)["timestamp"]
    past = article.model_copy(update={"published_at": earlier})
    same = article.model_copy(update={"article_id": "2"})
    assert in_order([past, article, same]) == (article, same, past)
    assert as_of((article, same, past)) == as_json(article)["published_at"]
    accepted = filing.model_copy(update={"accepted_at": AT})
    assert in_order([filing, accepted]) == (accepted, filing)
    assert (as_of((filing,)), as_of((accepted, filing))) == ("2026-11-23", as_json(accepted)["accepted_at"])
    month = observation.model_copy(update={"date": DAY - timedelta(days=31)})
    assert in_order([observation, month]) == (month, observation)
    assert as_of(in_order([])) is None
    assert in_order([instrument, instrument]) == (instrument, instrument), "it has no time: as they came"


@pytest.mark.parametrize(
    "symbol",
    [
        *(
            "AAPL",
            "brk.b",
            "^GSPC",
            "EUR/USD",
            "BTC-USD",
            "BINANCE:BTCUSDT",
            "RDS.A",
            "7203.T",
            "CHRIS:CME_CL1",
        ),
        *("A" * 32, f"{'A' * 32}:{'B' * 95}"),
    ],
)
def test_symbols_of_the_field_are_taken(symbol: str) -> None:
    assert clean_symbol(symbol) == symbol.upper()


@pytest.mark.parametrize(
    "symbol",
    [
        *("", ".", "..", "a/b", "a b", "A\r\nX: 1", "A&b=c", "A?b", "A%2e", "Å", "A\n", None, 7),
        *("A" * 33, "A:" + "B" * 127, f"A:{'B' * 40}/C", f"A:{'B' * 40}{{C}}", ":", ":" * 40),
    ],
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
        InvalidSymbolError("AAPL", "write a CIK"),
        MissingKeyError("FINNHUB_API_KEY"),
        MissingContactError("SEC_EDGAR_CONTACT"),
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
