"""The records every provider's reply is turned into: exact decimals, UTC instants, fractions for percents.

A record holds what the provider said. When it was fetched is not among it: the cache that keeps the record
adds that. `model_dump(mode="json")` gives plain JSON with decimals as strings, and `model_validate` takes it
back.

A quote and an instrument stand alone. Of everything else a reply holds a list: what is news, with the newest
first, as a reader reads; bars, values and dates with the newest last, as a chart does.

`TABLE` is the one list of the datasets: what is decided by a dataset's name stands there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)


def _exact(value: object) -> object:
    """Refuse binary floats, which lost the printed digits, and booleans, which pydantic takes for 0 and 1."""
    if isinstance(value, float | bool):
        raise ValueError("a decimal, or its text, is needed; parse JSON with parse_float=Decimal")  # noqa: TRY004
    return value


def _spelled(value: object) -> object:
    """Refuse bare numbers as times: seconds and milliseconds cannot be told apart."""
    if isinstance(value, date | str):
        return value
    raise ValueError("a date or a datetime with a time zone, or its ISO 8601 text, is needed")


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


# With a provider's prefix; what else a symbol may be is said in tasks/providers/symbols.py.
LONGEST_SYMBOL = 128

Exact = Annotated[Decimal, BeforeValidator(_exact), Field(allow_inf_nan=False)]
Instant = Annotated[AwareDatetime, BeforeValidator(_spelled), AfterValidator(_utc)]
Day = Annotated[date, BeforeValidator(_spelled)]
Count = Annotated[int, Field(strict=True, ge=0)]
Flag = Annotated[bool, Field(strict=True)]
Symbol = Annotated[str, AfterValidator(str.upper), Field(min_length=1, max_length=LONGEST_SYMBOL)]
Text = Annotated[str, Field(min_length=1)]
# No vowels, so that none is a word; the last digit is a check digit (the FIGI standard, ANSI X9.145).
Figi = Annotated[str, Field(pattern=r"^[B-DF-HJ-NP-TV-Z]{2}G[B-DF-HJ-NP-TV-Z0-9]{8}[0-9]$")]
Adjustment = Literal["raw", "split", "all"]
Interval = Literal["1m", "5m", "15m", "30m", "1h", "1d", "1W", "1M"]


class Record(BaseModel):
    """Base of the records: frozen, and a field nobody declared is an error.

    Attributes:
        provider: The service's name in the catalogue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alone: ClassVar[bool] = False
    """Whether a reply holds one of them, not a list."""

    newest_first: ClassVar[bool] = False
    """The order of a list."""

    subjects: ClassVar[tuple[str, ...]] = ("symbol",)
    """The fields that say what it is about. What was asked for is in one of them; a reply that names nothing
    has it in the first."""

    time_fields: ClassVar[tuple[str, ...]]
    """The fields with its time; the first that is filled counts. None of what has no time."""

    provider: str

    @property
    def as_of(self) -> date | None:
        """The provider's own time of it: an instant in UTC, or a date; None where it has no time."""
        return next(filter(None, (getattr(self, name) for name in self.time_fields)), None)


class Quote(Record):
    """The last price of one symbol.

    Attributes:
        symbol: Upper case.
        last_price: In `currency`, above zero.
        last_size: Shares of the last trade; None where it was of a part of one.
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
        currency: As a bar's.
        is_delayed: Whether the provider says that the price is not live.
    """

    alone = True
    time_fields = ("last_timestamp",)

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


class Bar(Record):
    """The prices of one symbol in one stretch of time: a session, or minutes of it.

    Attributes:
        symbol: Upper case.
        interval: How long it spans, as OpenBB spells it: 1d is a day.
        timestamp: Its start, in UTC; of a daily bar the session's date at 00:00 exchange time.
        open: First price.
        high: Highest price.
        low: Lowest price.
        close: Last price.
        volume: Shares traded.
        vwap: Average price, weighted by volume.
        trade_count: Number of trades.
        adj_close: Close, adjusted for splits and dividends.
        adjustment: What the prices are adjusted for: raw (nothing), split, all (splits and dividends).
        dividend: Cash dividend of the day.
        split_ratio: New shares for an old one, on the day of a split.
        currency: ISO 4217, of a coin perhaps another coin's code; None where the provider does not tell it:
            prices are then as its exchange quotes them, in London mostly in pence.
    """

    time_fields = ("timestamp",)

    symbol: Symbol
    interval: Interval
    timestamp: Instant
    open: Exact
    high: Exact
    low: Exact
    close: Exact
    volume: Annotated[Exact, Field(ge=0)] | None = None
    vwap: Exact | None = None
    trade_count: Count | None = None
    adj_close: Exact | None = None
    adjustment: Adjustment
    dividend: Exact | None = None
    split_ratio: Exact | None = None
    currency: str | None = None


class NewsArticle(Record):
    """One article.

    Attributes:
        article_id: The provider's id of it, else the SHA-256 of its URL.
        published_at: When, in UTC.
        updated_at: Last changed.
        title: Its headline.
        author: Who wrote it.
        source: Who published it.
        url: Where it is.
        excerpt: Teaser, description or summary.
        body: Its text.
        image_url: Its picture.
        symbols: What it is about, upper case.
        tags: Its topics, in the provider's words.
        sentiment: The provider's label, or its score as text.
        language: ISO 639.
    """

    newest_first = True
    subjects = ()
    time_fields = ("published_at",)

    article_id: Text
    published_at: Instant
    updated_at: Instant | None = None
    title: Text
    author: Text | None = None
    source: Text | None = None
    url: Text
    excerpt: Text | None = None
    body: Text | None = None
    image_url: Text | None = None
    symbols: tuple[Symbol, ...] = ()
    tags: tuple[Text, ...] = ()
    sentiment: Text | None = None
    language: Text | None = None


class Filing(Record):
    """One document filed with the SEC.

    Attributes:
        cik: The company's number, ten digits.
        symbol: Upper case.
        company_name: As filed.
        accession_number: Its primary key, as in 0000320193-24-000123.
        form: 10-K, 8-K and so on.
        filing_date: The day it was filed.
        report_date: The end of the period it reports.
        accepted_at: When the SEC took it, in UTC.
        items: The items of an 8-K.
        primary_document: Its file's name.
        report_url: Where that file is.
        filing_url: Where its index page is.
        size: In bytes.
    """

    newest_first = True
    subjects = ("symbol", "cik")
    time_fields = ("accepted_at", "filing_date")

    cik: Annotated[str, Field(pattern=r"^[0-9]{10}$")]
    symbol: Symbol | None = None
    company_name: Text | None = None
    accession_number: Annotated[str, Field(pattern=r"^[0-9]{10}-[0-9]{2}-[0-9]{6}$")]
    form: Text
    filing_date: Day
    report_date: Day | None = None
    accepted_at: Instant | None = None
    items: tuple[Text, ...] = ()
    primary_document: Text | None = None
    report_url: Text | None = None
    filing_url: Text | None = None
    size: Count | None = None


class Observation(Record):
    """One value of a series.

    Attributes:
        series_id: The provider's name of the series, upper case.
        date: The period the value is for, by its first day.
        value: None where the provider says that it has none.
        realtime_start: First day on which this was the published value (its vintage).
        realtime_end: Last such day.
        units: In the provider's words.
        frequency: In the provider's words.
        seasonal_adjustment: In the provider's words.
        country: ISO 3166.
    """

    subjects = ("series_id",)
    time_fields = ("date",)

    series_id: Symbol
    date: Day
    value: Exact | None
    realtime_start: Day | None = None
    realtime_end: Day | None = None
    units: Text | None = None
    frequency: Text | None = None
    seasonal_adjustment: Text | None = None
    country: Text | None = None


class Fact(Record):
    """One number that a company has reported to the SEC, of one concept of its accounts.

    Attributes:
        series_id: The company and the concept, as they are asked for: AAPL:ASSETS or 0000320193:ASSETS.
        symbol: The company's, where it was asked for by that.
        cik: The company's number, ten digits.
        company_name: As filed.
        taxonomy: Whose concept it is, as in us-gaap.
        concept: As in Assets.
        unit: Of the value: USD, shares, USD/shares.
        value: As filed.
        start: The first day of the period it is for; None of what is true of a day.
        end: The last day, or that day.
        fiscal_year: Of the report it stands in, which may be a later one.
        fiscal_period: Of that report: FY, Q1 and so on.
        form: Of that report: 10-K, 10-Q.
        filed: The day that report was filed.
        accession_number: That report's number, as a filing's.
    """

    subjects = ("series_id",)
    time_fields = ("end",)

    series_id: Symbol
    symbol: Symbol | None = None
    cik: Annotated[str, Field(pattern=r"^[0-9]{10}$")]
    company_name: Text | None = None
    taxonomy: Text
    concept: Text
    unit: Text
    value: Exact
    start: Day | None = None
    end: Day
    fiscal_year: Count | None = None
    fiscal_period: Text | None = None
    form: Text
    filed: Day
    accession_number: Annotated[str, Field(pattern=r"^[0-9]{10}-[0-9]{2}-[0-9]{6}$")]

    @model_validator(mode="before")
    @classmethod
    def _asked_by_symbol(cls, told: Any) -> Any:
        """Of AAPL:ASSETS the symbol is AAPL."""
        company, colon, _ = str(told["series_id"]).partition(":") if "series_id" in told else ("", "", "")
        return {"symbol": company, **told} if colon and not company.isdigit() else told


class Company(Record):
    """Which company files with the SEC under which number. It has no time.

    Attributes:
        ticker: As the SEC writes it, with a hyphen before a class of shares: BRK-B.
        cik: The company's number, ten digits.
        name: As it files.
    """

    subjects = ()
    time_fields = ()

    ticker: Text
    cik: Annotated[str, Field(pattern=r"^[0-9]{10}$")]
    name: Text | None = None


class Instrument(Record):
    """What a symbol is: its identifiers and its kind. It has no time.

    Attributes:
        symbol: Upper case.
        figi: Its Financial Instrument Global Identifier, which no other instrument ever has.
        composite_figi: Of the same share on all exchanges of its country.
        share_class_figi: Of the same share in all countries.
        name: Of the company, or of the instrument.
        ticker: As Bloomberg spells it, as in BRK/B for BRK.B.
        exchange_code: Bloomberg's; US is all of the country's exchanges.
        security_type: Its kind, as in ADR.
        security_type2: A wider kind, as in Depositary Receipt.
        market_sector: As in Equity.
        security_description: Its name for traders.
    """

    alone = True
    time_fields = ()

    symbol: Symbol
    figi: Figi
    composite_figi: Figi | None = None
    share_class_figi: Figi | None = None
    name: Text | None = None
    ticker: Text
    exchange_code: Text | None = None
    security_type: Text | None = None
    security_type2: Text | None = None
    market_sector: Text | None = None
    security_description: Text | None = None


class Dividend(Record):
    """One distribution to who holds a share.

    Attributes:
        symbol: Upper case.
        ex_date: The first day on which a buyer does not get it.
        pay_date: When it is paid.
        record_date: Who is in the books on this day gets it.
        declared: When it was announced.
        amount: Of one share, in `currency`.
        currency: ISO 4217.
        kind: cash (as usual), special (once), or gain (of a fund's trades), where the provider says which.
        adjustment: What the amount is adjusted for: raw (as it was paid), or split (as of today's shares).
    """

    time_fields = ("ex_date",)

    symbol: Symbol
    ex_date: Day
    pay_date: Day | None = None
    record_date: Day | None = None
    declared: Day | None = None
    amount: Annotated[Exact, Field(gt=0)]
    currency: str | None = None
    kind: Literal["cash", "special", "gain"] | None = None
    adjustment: Adjustment


class Split(Record):
    """A share became several, or several one.

    Attributes:
        symbol: Upper case.
        date: The first day of trade in new shares.
        ratio: New shares for an old one: 4, or 0.1; rounded where it does not end.
        new: So many new shares,
        old: for so many old ones, where the provider says so.
    """

    time_fields = ("date",)

    symbol: Symbol
    date: Day
    ratio: Annotated[Exact, Field(gt=0)]
    new: Exact | None = None
    old: Exact | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """What the age of a dataset's value means.

    Attributes:
        fresh_seconds: Older than this is stale.
        max_seconds: Older than this is no value any more.
    """

    fresh_seconds: float
    max_seconds: float


@dataclass(frozen=True, slots=True)
class Dataset:
    """What can be asked for under one name.

    Attributes:
        record: What its values are made of.
        freshness: What the age of a value means, unless <DATASET>_FRESH_SECONDS or _MAX_SECONDS is set.
        about: What it is, in a few words for people.
    """

    record: type[Record]
    freshness: Freshness
    about: str


MINUTE, DAY = 60, 86_400

# A long weekend lies between the last trade and the next.
TABLE: Mapping[str, Dataset] = MappingProxyType(
    {
        "quote": Dataset(Quote, Freshness(MINUTE, 5 * DAY), "the last price"),
        "bars": Dataset(Bar, Freshness(DAY, 10 * DAY), "prices of each day"),
        "bars_1m": Dataset(Bar, Freshness(2 * MINUTE, 5 * DAY), "prices of each minute, the newest"),
        "bars_5m": Dataset(Bar, Freshness(10 * MINUTE, 5 * DAY), "of each five minutes"),
        "bars_15m": Dataset(Bar, Freshness(30 * MINUTE, 5 * DAY), "of each quarter of an hour"),
        "bars_30m": Dataset(Bar, Freshness(60 * MINUTE, 5 * DAY), "of each half hour"),
        "bars_1h": Dataset(Bar, Freshness(120 * MINUTE, 5 * DAY), "of each hour"),
        "news": Dataset(NewsArticle, Freshness(15 * MINUTE, 5 * DAY), "articles"),
        "dividends": Dataset(Dividend, Freshness(DAY, 30 * DAY), "what a share has paid, and will"),
        "splits": Dataset(Split, Freshness(DAY, 30 * DAY), "when a share became several"),
        "filings": Dataset(Filing, Freshness(DAY, 30 * DAY), "documents filed with the SEC"),
        "facts": Dataset(Fact, Freshness(DAY, 90 * DAY), "numbers of a company's accounts at the SEC"),
        "companies": Dataset(Company, Freshness(DAY, 30 * DAY), "tickers and their numbers at the SEC"),
        "observations": Dataset(Observation, Freshness(DAY, 90 * DAY), "values of an economic series"),
        # Identifiers stay, names change.
        "reference": Dataset(Instrument, Freshness(7 * DAY, 90 * DAY), "identifiers, and what kind it is"),
    }
)
"""Dataset name → what is decided by it. Who serves it, and in which order, is the catalogue's."""

DATASETS: Mapping[str, type[Record]] = MappingProxyType({name: row.record for name, row in TABLE.items()})
"""Dataset name → its record."""

Value = Record | tuple[Record, ...]
"""What a dataset gives: the record of one that stands alone, else its records in order."""


def in_order(records: Iterable[Record]) -> tuple[Record, ...]:
    """A dataset's records as its lists are ordered; of the same time, as they came."""
    found = list(records)
    return tuple(sorted(found, key=_instant, reverse=any(record.newest_first for record in found)))


def newest(value: Value) -> Record | None:
    """The newest record, None of an empty list."""
    if isinstance(value, Record):
        return value
    return None if not value else value[0 if value[0].newest_first else -1]


def as_json(value: Value) -> Any:
    """As plain JSON: an object, or a list of objects."""
    if isinstance(value, Record):
        return value.model_dump(mode="json")
    return [record.model_dump(mode="json") for record in value]


def as_of(value: Value) -> str | None:
    """The newest record's own time (ISO 8601; a date where it has no more), spelled as in its JSON.

    None where there is no record, or it has no time.
    """
    record = newest(value)
    if record is None:
        return None
    plain = record.model_dump(mode="json", include=set(record.time_fields))
    return next((str(plain[name]) for name in record.time_fields if plain[name] is not None), None)


def adjustment_of(value: Value) -> Adjustment | None:
    """What its prices are adjusted for, where they are: values of two adjustments are never mixed."""
    return getattr(newest(value), "adjustment", None)


def _instant(record: Record) -> datetime:
    when = record.as_of or date.min
    return when if isinstance(when, datetime) else datetime.combine(when, time(), UTC)
