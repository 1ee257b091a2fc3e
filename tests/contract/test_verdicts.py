"""Every documented reply gets its documented class; no reply at all gets an exception."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

import pytest

from tasks.errors import InvalidSymbolError, UnknownDatasetError, UnknownServiceError
from tasks.providers import (
    PROVIDERS,
    Provider,
    Reset,
    Until,
    Verdict,
    Window,
    clean_symbol,
    judge,
    providers_of,
    verdicts,
)
from tasks.providers.documents import Node, SchemaDriftError, UnreadableError, parse_csv
from tasks.providers.holds import hold_seconds
from tasks.providers.rows import Hold
from tasks.records import DATASETS, as_json, as_of
from tests.contract.replies import DOCUMENTED, MODULES, SERVED, SUCCESSES, Documented, encoded

NOW = datetime(2026, 11, 23, 21, 30, 15, tzinfo=UTC)
DATASET = {service: next(iter(row.endpoints)) for service, row in PROVIDERS.items()}
"""Each provider's first dataset, for what does not depend on it."""


def quote_reply(service: str, **changed: object) -> bytes:
    """The documented quote of a service, changed; a change to ... removes the key."""
    quote = {key: value for key, value in {**MODULES[service].QUOTE, **changed}.items() if value is not ...}
    return encoded({"Global Quote": quote} if service == "alpha_vantage" else quote)


def about(service: str, reply: Documented) -> str:
    return reply.symbol or PROVIDERS[service].endpoints[reply.dataset].example


@pytest.mark.parametrize(
    ("service", "reply"), DOCUMENTED, ids=lambda value: getattr(value, "verdict", str(value))
)
def test_a_documented_reply_has_its_documented_class_and_hold(service: str, reply: Documented) -> None:
    judgement = judge(
        service, reply.dataset, reply.status, reply.headers, reply.encoded, symbol=about(service, reply)
    )
    assert (judgement.verdict, judgement.hold_seconds) == (reply.verdict, reply.hold), judgement
    assert judgement.documented or reply.status in range(200, 300), "the log would say that nobody knew it"
    assert len(judgement.detail) <= 300
    assert (judgement.record is not None) == (
        reply.verdict == "success" or (reply.verdict == "empty" and not DATASETS[reply.dataset].alone)
    )


def test_every_endpoint_of_the_catalogue_has_a_documented_success() -> None:
    assert {(service, reply.dataset) for service, reply in SUCCESSES} == set(SERVED)


@pytest.mark.parametrize(
    ("service", "reply"), SUCCESSES, ids=lambda value: getattr(value, "dataset", str(value))
)
def test_a_success_is_a_record_or_a_list_in_its_order_and_survives_json(
    service: str, reply: Documented
) -> None:
    record = judge(
        service, reply.dataset, 200, reply.headers, reply.encoded, symbol=about(service, reply)
    ).record
    kind = DATASETS[reply.dataset]
    assert isinstance(record, kind if kind.alone else tuple)
    rows = [record] if kind.alone else list(record)
    times = [row.as_of for row in rows]
    assert not kind.time_fields or times == sorted(times, reverse=kind.newest_first)
    plain = json.loads(json.dumps(as_json(record)))
    assert [kind.model_validate(row) for row in ([plain] if kind.alone else plain)] == rows
    assert {row.provider for row in rows} == {service}
    newest = plain if kind.alone else plain[0 if kind.newest_first else -1]
    assert as_of(record) in ([newest[name] for name in kind.time_fields] or [None])


@pytest.mark.parametrize("service", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (401, "", "auth"),
        (403, "", "auth"),
        (403, '{"error": "go away"}', "auth"),
        (403, '{"message": "your plan does not include this"}', "entitlement"),
        (403, "<html>blocked</html>", "provider_failure"),
        (402, "", "quota"),
        (404, "", "not_found"),
        (410, "", "not_found"),
        (400, "", "caller_error"),
        (413, "", "caller_error"),
        (422, "", "caller_error"),
        (426, "", "entitlement"),
        (451, "", "entitlement"),
        (408, "", "provider_failure"),
        (499, "", "provider_failure"),
        (429, "<html>", "rate_limit"),
        (400, "<html>Bad Request</html>", "provider_failure"),
        (401, "<html>blocked</html>", "provider_failure"),
        (403, "Forbidden", "provider_failure"),
        (407, "", "provider_failure"),
        (301, "", "provider_failure"),
        (304, "", "provider_failure"),
        (100, "", "provider_failure"),
        (0, "", "provider_failure"),
        (-1, "", "provider_failure"),
        (503, "", "provider_failure"),
        (520, "", "provider_failure"),
        (999, "", "provider_failure"),
        (204, "", "provider_failure"),
        (200, "", "provider_failure"),
        (200, "<html>maintenance</html>", "provider_failure"),
    ],
)
def test_an_undocumented_reply_goes_by_its_status(service: str, status: int, body: str, verdict: str) -> None:
    module = MODULES[service]
    wanted = getattr(module, "BY_STATUS", {}).get(status, verdict)
    if status == 200:  # whose body decides
        wanted = getattr(module, "BY_BODY", {}).get(body.encode(), wanted)
    assert judge(service, DATASET[service], status, {}, body.encode()).verdict == wanted


@pytest.mark.parametrize(
    ("headers", "hold"),
    [
        ({}, 60),
        ({"Retry-After": "30"}, 30),
        ({"RETRY-AFTER": " 30 "}, 30),
        ({"retry-after": "0"}, 1),
        ({"Retry-After": "0000000000000000005"}, 5),
        ({"Retry-After": "86400"}, 3_600),
        ({"Retry-After": "9" * 5_000}, 3_600),
        ({"Retry-After": "Mon, 23 Nov 2026 21:31:00 GMT"}, 45),
        ({"Retry-After": "Mon, 23 Nov 2026 21:00:00 GMT"}, 1),
        ({"Retry-After": "Tue, 24 Nov 2026 21:00:00 GMT"}, 3_600),
        ({"Retry-After": "Mon, 99 Nov 2026 21:00:00 GMT"}, 60),
        ({"Retry-After": "-5"}, 60),
        ({"Retry-After": "٣٠"}, 60),
        ({"Retry-After": "soon"}, 60),
    ],
)
def test_retry_after_is_believed_within_a_second_and_an_hour(headers: dict[str, str], hold: float) -> None:
    assert judge("iex_cloud", "quote", 429, headers, b"", now=NOW).hold_seconds == hold


def test_a_reply_tells_the_time_itself_where_the_caller_does_not() -> None:
    headers = {"Retry-After": "Mon, 23 Nov 2026 21:31:00 GMT", "date": "Mon, 23 Nov 2026 21:30:40 GMT"}
    assert judge("iex_cloud", "quote", 429, headers, b"").hold_seconds == 20
    assert judge("finnhub", "quote", 429, {"Date": headers["date"]}, b"").hold_seconds == 20
    assert judge("finnhub", "quote", 429, headers, b"", now=NOW).hold_seconds == 45
    assert judge("finnhub", "quote", 429, {"Date": "today"}, b"").hold_seconds == 60


def test_a_date_cannot_be_counted_without_the_time_of_day() -> None:
    headers = {"Retry-After": "Mon, 23 Nov 2026 21:31:00 GMT"}
    judgement = judge("iex_cloud", "quote", 503, headers, b"")
    assert (judgement.verdict, judgement.hold_seconds) == ("rate_limit", 60)


@pytest.mark.parametrize(("value", "verdict"), [("5", "rate_limit"), ("soon", "provider_failure")])
def test_a_503_is_a_rate_limit_only_where_it_says_when_to_come_back(value: str, verdict: str) -> None:
    assert judge("finnhub", "quote", 503, {"Retry-After": value}, b"").verdict == verdict


@pytest.mark.parametrize(
    ("reset", "hold"),
    [
        (NOW + timedelta(seconds=20), 20),
        (NOW + timedelta(days=2), 45),  # implausible: the next minute instead
        (NOW - timedelta(seconds=1), 45),
        ("<unix seconds>", 45),
        ("9" * 5_000, 45),
    ],
)
def test_finnhub_is_held_until_its_reset_or_the_next_minute(reset: datetime | str, hold: float) -> None:
    value = str(int(reset.timestamp())) if isinstance(reset, datetime) else reset
    headers = {"X-Ratelimit-Limit": "60", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": value}
    judgement = judge("finnhub", "quote", 429, headers, encoded(MODULES["finnhub"].LIMIT), now=NOW)
    assert judgement.hold_seconds == hold


def test_a_days_quota_holds_until_the_next_day_in_utc() -> None:
    body = encoded({"Information": MODULES["alpha_vantage"].DAILY.format(key="x")})
    hold = judge("alpha_vantage", "quote", 200, {"Retry-After": "1"}, body, now=NOW).hold_seconds
    assert NOW + timedelta(seconds=hold) == datetime(2026, 11, 24, tzinfo=UTC)
    naive = NOW.replace(tzinfo=None)
    assert judge("alpha_vantage", "quote", 200, {}, body, now=naive).hold_seconds == hold


def test_a_hold_is_never_shorter_than_a_second() -> None:
    late = datetime(2026, 11, 23, 23, 59, 59, 999_000, tzinfo=UTC)
    assert judge("finnhub", "quote", 429, {}, b"", now=late).hold_seconds == 1


@pytest.mark.parametrize(
    "status", [200, 401, 402, 403, 404, 429, 500, 503], ids=lambda status: f"status {status}"
)
@pytest.mark.parametrize("service", PROVIDERS)
@pytest.mark.parametrize("key", ["AVKEY0123456789", "demo", "secretsecretsecretsecret"])
def test_an_echoed_key_is_not_in_the_detail(service: str, key: str, status: int) -> None:
    for body in (
        encoded({"Information": MODULES["alpha_vantage"].DAILY.format(key=key)}),
        encoded({"error": f"Invalid API key: {key}"}),
        f"no such page: /quote?symbol=A&token={key}".encode(),
        f"denied, apikey={key}\x00\x1b[31m".encode(),
    ):
        assert key not in judge(service, DATASET[service], status, {}, body).detail


def test_a_detail_is_one_short_printable_line() -> None:
    body = ("\x1b[2J\r\n\ud800\u202e" + "so sorry " * 1_000).encode("utf-8", "surrogatepass")
    detail = judge("finnhub", "quote", 500, {}, body).detail
    assert "so sorry" in detail
    assert detail.isprintable()
    assert len(detail) <= 220


def test_the_documented_quotes_become_exact_records() -> None:
    quote = judge("finnhub", "quote", 200, {}, quote_reply("finnhub"), symbol="aapl").record
    assert quote.model_dump(exclude_none=True) == {
        "provider": "finnhub",
        "symbol": "AAPL",
        "last_price": Decimal("261.74"),
        "last_timestamp": datetime(2020, 2, 25, 14, 30, tzinfo=UTC),
        "open": Decimal("261.07"),
        "high": Decimal("263.31"),
        "low": Decimal("260.68"),
        "prev_close": Decimal("259.45"),
        "change": Decimal("2.29"),
        "change_percent": Decimal("0.008826"),
    }
    quote = judge("alpha_vantage", "quote", 200, {}, quote_reply("alpha_vantage")).record
    assert quote.model_dump(exclude_none=True) == {
        "provider": "alpha_vantage",
        "symbol": "MSFT",
        "last_price": Decimal("112.1300"),
        "last_timestamp": datetime(2018, 10, 5, tzinfo=UTC),
        "open": Decimal("112.6300"),
        "high": Decimal("113.1700"),
        "low": Decimal("110.6400"),
        "prev_close": Decimal("112.7900"),
        "change": Decimal("-0.6600"),
        "change_percent": Decimal("-0.005852"),
        "volume": Decimal(29062853),
    }
    quote = judge("iex_cloud", "quote", 200, {}, quote_reply("iex_cloud")).record
    assert quote.last_timestamp == datetime(2017, 11, 17, 18, 18, 58, 831_000, tzinfo=UTC)
    assert (quote.last_price, quote.change_percent) == (Decimal("170.39"), Decimal("-0.00415"))
    assert (quote.bid, quote.ask_size, quote.exchange) == (Decimal("166.18"), 315, "Nasdaq Global Select")


def test_a_record_that_nobody_names_has_no_symbol_that_could_be_asked_for() -> None:
    record = judge("finnhub", "quote", 200, {}, quote_reply("finnhub")).record
    assert record.symbol == verdicts.UNNAMED
    with pytest.raises(InvalidSymbolError):
        clean_symbol(record.symbol)


def test_a_record_of_another_symbol_is_a_failure() -> None:
    judgement = judge("alpha_vantage", "quote", 200, {}, quote_reply("alpha_vantage"), symbol="AAPL")
    assert judgement.verdict == "provider_failure"
    assert "MSFT, not AAPL" in judgement.detail


@pytest.mark.parametrize(
    ("service", "key", "value", "path"),
    [
        ("finnhub", "c", ..., "$.c is missing"),
        ("finnhub", "c", "261.74", "$.c is a string"),
        ("finnhub", "c", True, "$.c is a boolean"),
        ("finnhub", "c", -1, "$.c is not above zero"),
        ("finnhub", "c", 10**16, "$.c is an absurd number"),
        ("finnhub", "c", 10**4_000, "$.c is an absurd number"),
        ("finnhub", "t", ..., "$.t is missing"),
        ("finnhub", "t", 1582641000000, "$.t is not a time"),
        ("finnhub", "h", [1], "$.h is an array"),
        ("alpha_vantage", "05. price", ..., "$['Global Quote']['05. price'] is missing"),
        ("alpha_vantage", "05. price", 112.13, "$['Global Quote']['05. price'] is a number"),
        ("alpha_vantage", "05. price", "1_000", "['05. price'] is no decimal number"),
        ("alpha_vantage", "05. price", "\N{ARABIC-INDIC DIGIT ONE}", "['05. price'] is no decimal number"),
        ("alpha_vantage", "07. latest trading day", "2018-13-05", "is no date"),
        ("alpha_vantage", "07. latest trading day", "20181005", "is no date"),
        ("alpha_vantage", "10. change percent", "a%", "is no percentage"),
        ("alpha_vantage", "01. symbol", "../x", "is no symbol"),
        ("iex_cloud", "latestPrice", ..., "$.latestPrice is missing"),
        ("iex_cloud", "latestUpdate", 1510942738, "$.latestUpdate is not a time"),
        ("iex_cloud", "iexBidSize", 1.5, "$.iexBidSize is no count"),
        ("iex_cloud", "latestVolume", -1, "volume"),
        ("iex_cloud", "primaryExchange", "\ud800", "$.primaryExchange is too long or not printable"),
    ],
)
def test_schema_drift_is_a_failure_that_names_the_place(
    service: str, key: str, value: object, path: str
) -> None:
    judgement = judge(service, "quote", 200, {}, quote_reply(service, **{key: value}))
    assert judgement.verdict == "provider_failure"
    assert path in judgement.detail


@pytest.mark.parametrize("optional", ["d", "dp", "h", "l", "o", "pc"])
@pytest.mark.parametrize("value", [None, ...])
def test_what_no_quote_needs_may_be_absent(optional: str, value: object) -> None:
    body = quote_reply("finnhub", **{optional: value})
    assert judge("finnhub", "quote", 200, {}, body).verdict == "success"


@pytest.mark.parametrize(
    "body",
    [
        b'{"c": 1e999999999999999999999, "t": 1582641000}',
        b'{"c": 1e999999, "t": 1582641000}',
        b'{"c": 0.' + b"1" * 10_000 + b', "t": 1582641000}',
        b'{"c": ' + b"1" * 10_000 + b', "t": 1582641000}',
        b'{"c": 261.74, "c": 1.0, "t": 1582641000}',
        b'{"c": 261.74, "t": 15826',
        b"[" * 200_000,
        b'{"c":' * 100_000 + b"1" + b"}" * 100_000,
        '{"c": 261.74, "t": 1582641000}'.encode("utf-16"),
        b'{"c": 261.74, "t": 1582641000, "x": "\xff"}',
        b"null",
        b"1",
        b'"ok"',
        b"[[]]",
        b"{}",
        b'{"Global Quote": 1}',
        b'{"Information": ["requests per day"]}',
        b'{"Information": null}',
    ],
)
@pytest.mark.parametrize("service", PROVIDERS)
def test_a_body_that_cannot_be_trusted_is_a_failure(service: str, body: bytes) -> None:
    documented = {  # an object by symbol is empty where the provider knows none of them
        reply.encoded: reply.verdict
        for name, reply in DOCUMENTED
        if (name, reply.dataset, reply.status) == (service, DATASET[service], 200)
    }
    documented |= getattr(MODULES[service], "BY_BODY", {})
    wanted = documented.get(body, "provider_failure")
    assert judge(service, DATASET[service], 200, {}, body).verdict == wanted


@pytest.mark.parametrize(
    ("content_type", "verdict"),
    [
        ("application/json; charset=utf-8", "success"),
        ("application/vnd.api+json", "success"),
        ("text/plain", "success"),
        ("text/html; charset=utf-8", "provider_failure"),
        ("text/csv", "provider_failure"),
    ],
)
def test_json_under_a_wrong_content_type_is_a_failure(content_type: str, verdict: str) -> None:
    headers = {"CONTENT-TYPE": content_type}
    assert judge("finnhub", "quote", 200, headers, quote_reply("finnhub")).verdict == verdict


def test_unknown_names_are_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownServiceError, match="unknown service 'yahu'; known are iex_cloud"):
        judge("yahu", "quote", 200, {}, b"")
    with pytest.raises(UnknownDatasetError, match="unknown dataset 'quotes'; known are quote, bars"):
        judge("finnhub", "quotes", 200, {}, b"")
    with pytest.raises(UnknownDatasetError, match="finnhub does not serve the dataset 'observations'"):
        judge("finnhub", "observations", 200, {}, b"")
    with pytest.raises(InvalidSymbolError, match="use 1 to 32 letters"):
        judge("finnhub", "quote", 200, {}, b"", symbol="a/b")


def row_with(**changed: object) -> Provider:
    return replace(PROVIDERS["finnhub"], reset=None, **changed)


@pytest.mark.parametrize(
    ("rule", "now", "until"),
    [
        (Window.MONTH, NOW, datetime(2026, 12, 1, tzinfo=UTC)),
        (Window.MONTH, datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (Until(Window.DAY, "America/New_York"), NOW, datetime(2026, 11, 24, 5, tzinfo=UTC)),
        (
            Until(Window.DAY, "America/New_York"),
            datetime(2026, 7, 1, 4, 30, tzinfo=UTC),
            datetime(2026, 7, 2, 4, tzinfo=UTC),
        ),
        (
            # The clock goes back an hour in between: the day has 25.
            Until(Window.DAY, "America/New_York"),
            datetime(2026, 11, 1, 4, 0, 1, tzinfo=UTC),
            datetime(2026, 11, 2, 5, tzinfo=UTC),
        ),
        (Until(Window.DAY, hour=22), NOW, datetime(2026, 11, 23, 22, tzinfo=UTC)),
        (Until(Window.DAY, hour=21), NOW, datetime(2026, 11, 24, 21, tzinfo=UTC)),
        (Until(Window.MONTH, "America/New_York"), NOW, datetime(2026, 12, 1, 5, tzinfo=UTC)),
    ],
)
def test_a_hold_ends_with_its_window_on_the_providers_clock(
    rule: Hold, now: datetime, until: datetime
) -> None:
    held = hold_seconds(row_with(quota_hold=rule), Verdict.QUOTA, None, {}, now)
    assert now + timedelta(seconds=held) == until


@pytest.mark.parametrize(
    ("rule", "seconds"), [(Window.MONTH, 31 * 86_400), (Until(Window.DAY, "America/New_York"), 86_400)]
)
def test_without_the_time_a_hold_is_the_whole_window(rule: Hold, seconds: float) -> None:
    assert hold_seconds(row_with(quota_hold=rule), Verdict.QUOTA, None, {}, None) == seconds
    for end in (datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)):
        assert 1 <= hold_seconds(row_with(quota_hold=rule), Verdict.QUOTA, None, {}, end) <= seconds


@pytest.mark.parametrize(
    ("unit", "value", "hold"),
    [
        ("unix_seconds", str(int(NOW.timestamp()) + 20), 20),
        ("unix_milliseconds", str(int(NOW.timestamp() * 1_000) + 20_500), 20.5),
        ("seconds", "20", 20),
        ("seconds", "0", 60),
        ("seconds", "99999", 60),
        ("unix_seconds", str(int(NOW.timestamp() * 1_000) + 20_000), 60),  # the wrong unit
        ("unix_milliseconds", str(int(NOW.timestamp()) + 20), 60),
        ("seconds", "soon", 60),
    ],
)
def test_a_reset_header_is_read_in_its_unit_and_believed_where_it_is_plausible(
    unit: str, value: str, hold: float
) -> None:
    row = replace(PROVIDERS["finnhub"], reset=Reset("X-Reset", unit), rate_hold=60.0)
    assert hold_seconds(row, Verdict.RATE_LIMIT, None, {"x-reset": value}, NOW) == pytest.approx(hold)


def test_alpha_vantages_days_start_at_midnight_in_new_york_and_the_newest_is_last() -> None:
    body = encoded(MODULES["alpha_vantage"].BARS)
    bars = judge("alpha_vantage", "bars", 200, {}, body, symbol="IBM").record
    assert [bar.timestamp for bar in bars] == [
        datetime(2024, 11, 1, 4, tzinfo=UTC),  # summer time ends in between
        datetime(2024, 11, 4, 5, tzinfo=UTC),
    ]
    assert bars[0].model_dump(exclude_none=True) == {
        "provider": "alpha_vantage",
        "symbol": "IBM",
        "interval": "1d",
        "timestamp": datetime(2024, 11, 1, 4, tzinfo=UTC),
        "open": Decimal("206.9900"),
        "high": Decimal("208.4700"),
        "low": Decimal("206.2500"),
        "close": Decimal("208.2500"),
        "volume": Decimal(3416107),
        "adjustment": "raw",
    }


@pytest.mark.parametrize(
    ("service", "symbol", "timestamp", "close", "adjustment"),
    [
        ("twelvedata", "AAPL", datetime(2021, 9, 16, 4, tzinfo=UTC), "148.85001", "raw"),
        ("polygon", "AAPL", datetime(2020, 1, 3, 5, tzinfo=UTC), "74.3575", "raw"),
        ("tiingo", "AAPL", datetime(2023, 1, 3, 5, tzinfo=UTC), "125.07", "raw"),
        ("alpaca", "AAPL", datetime(2022, 2, 1, 5, tzinfo=UTC), "174.61", "raw"),
        ("tradier", "AAPL", datetime(2024, 2, 1, 5, tzinfo=UTC), "186.86", "split"),
        ("intrinio", "AAPL", datetime(2023, 11, 16, 5, tzinfo=UTC), "189.71", "raw"),
        ("finnhub", "AAPL", datetime(2019, 9, 26, 4, tzinfo=UTC), "219.89", "split"),
        ("iex_cloud", "AAPL", datetime(2018, 2, 1, 5, tzinfo=UTC), "167.78", "split"),
    ],
)
def test_the_documented_bars_are_days_of_the_exchange_and_say_what_they_are_adjusted_for(
    service: str, symbol: str, timestamp: datetime, close: str, adjustment: str
) -> None:
    reply = next(r for name, r in SUCCESSES if (name, r.dataset) == (service, "bars"))
    newest = judge(service, "bars", 200, {}, reply.encoded, symbol=symbol).record[-1]
    assert (newest.symbol, newest.timestamp, newest.close, newest.adjustment) == (
        *(symbol, timestamp, Decimal(close), adjustment),
    )


@pytest.mark.parametrize(
    ("service", "symbol", "timestamp", "price"),
    [
        ("twelvedata", "AAPL", datetime(2021, 9, 16, 6, tzinfo=UTC), "148.85001"),
        ("polygon", "AAPL", datetime(2020, 11, 12, 15, 45, 18, 306_274, UTC), "120.47"),
        ("tiingo", "IBM", datetime(2024, 6, 24, 14, 28, 57, 53_159, UTC), "177.97"),
        ("alpaca", "AAPL", datetime(2022, 3, 18, 14, 33, 58, 448_432, UTC), "161.1998"),
        ("tradier", "SPY", datetime(2024, 6, 28, 15, 51, 0, 990_000, UTC), "547.94"),
        ("intrinio", "AAPL", datetime(2023, 11, 17, 15, 23, 47, 252_000, UTC), "189.38"),
        ("marketstack", "AAPL", datetime(2026, 10, 25, 15, 59, 59, tzinfo=UTC), "231.41"),
    ],
)
def test_the_documented_quotes_have_the_providers_own_price_and_time(
    service: str, symbol: str, timestamp: datetime, price: str
) -> None:
    reply = next(r for name, r in SUCCESSES if (name, r.dataset) == (service, "quote"))
    quote = judge(service, "quote", 200, {}, reply.encoded, symbol=symbol).record
    assert (quote.symbol, quote.last_timestamp, quote.last_price) == (symbol, timestamp, Decimal(price))


def test_a_snapshot_without_trades_has_the_minutes_price_and_time() -> None:
    body = encoded({**MODULES["polygon"].QUOTE, "ticker": MODULES["polygon"].NO_TRADES})
    quote = judge("polygon", "quote", 200, {}, body, symbol="AAPL").record
    assert (quote.last_price, quote.bid, quote.change_percent) == (
        *(Decimal("120.4201"), None, Decimal("0.0082")),
    )
    assert quote.last_timestamp == datetime(2023, 5, 18, 16, 52, tzinfo=UTC)


def test_a_delayed_price_says_so() -> None:
    snapshot, quote = MODULES["polygon"].QUOTE, MODULES["alpha_vantage"].QUOTE
    late = "Global Quote - DATA DELAYED BY 15 MINUTES"
    for service, live, delayed in (
        ("polygon", snapshot, {**snapshot, "status": "DELAYED"}),
        ("alpha_vantage", {"Global Quote": quote}, {late: quote}),
    ):
        assert judge(service, "quote", 200, {}, encoded(live)).record.is_delayed is None
        assert judge(service, "quote", 200, {}, encoded(delayed)).record.is_delayed is True


@pytest.mark.parametrize("symbol", ["BRK.B", "BRK-B"])
def test_a_reply_in_the_providers_spelling_is_about_the_symbol_that_was_asked(symbol: str) -> None:
    body = encoded([{**MODULES["tiingo"].QUOTE, "ticker": "BRK-B"}])
    assert judge("tiingo", "quote", 200, {}, body, symbol=symbol).record.symbol == "BRK.B"


@pytest.mark.parametrize(
    ("service", "header", "value", "hold"),
    [
        ("alpaca", "X-RateLimit-Reset", int(NOW.timestamp()) + 20, 20),
        ("alpaca", "X-RateLimit-Reset", 1674044551, 45),
        ("tradier", "X-Ratelimit-Expiry", int(NOW.timestamp() * 1_000) + 20_000, 20),
        ("tradier", "X-Ratelimit-Expiry", 1719590820000, 60),
        ("polygon", "X-None", 0, 45),
        ("twelvedata", "X-None", 0, 45),
        ("tiingo", "X-None", 0, 1_785),
    ],
)
def test_a_limit_holds_as_long_as_its_provider_says(
    service: str, header: str, value: int, hold: float
) -> None:
    judgement = judge(service, "quote", 429, {header: str(value)}, b"", now=NOW)
    assert (judgement.verdict, judgement.hold_seconds) == ("rate_limit", hold)


@pytest.mark.parametrize(
    ("service", "symbol", "quote"),
    [
        (
            "coinbase",
            "BTC-USD",
            ("92005.01", datetime(2026, 11, 20, 21, 0, 0, 124_567, tzinfo=UTC), "92005.01", "7483.10932112"),
        ),
        (
            "kraken",
            "BTC-EUR",
            ("79243.40000", datetime(2025, 11, 20, 20, 59, 57, 827_736, tzinfo=UTC), None, None),
        ),
        (
            "binance",
            "BTC-USDT",
            ("92005.00000200", datetime(2025, 11, 20, 21, tzinfo=UTC), "92004.99", "8913.30000000"),
        ),
    ],
)
def test_a_coins_last_trade_has_its_own_time(
    service: str, symbol: str, quote: tuple[str, datetime, str | None, str | None]
) -> None:
    price, when, bid, volume = quote
    found = judge(service, "quote", 200, {}, encoded(MODULES[service].QUOTE), symbol=symbol).record
    assert (found.symbol, found.last_price, found.last_timestamp) == (symbol, Decimal(price), when)
    assert (found.bid, found.volume) == (bid and Decimal(bid), volume and Decimal(volume))


@pytest.mark.parametrize(
    ("service", "symbol", "prices", "trades"),
    [
        ("coinbase", "BTC-USD", "91500.01 93000 90500.75 92005.01 7483.10932112", None),
        ("kraken", "BTC-EUR", "78800.1 80100.0 78250.0 79243.4 1483.10932112", 20_321),
        ("binance", "BTC-USDT", "91500.01 93000 90500.758 92005.000002 14897.06", 308_000),
    ],
)
def test_a_coins_day_is_utcs_and_each_price_is_in_its_place(
    service: str, symbol: str, prices: str, trades: int | None
) -> None:
    told = MODULES[service]
    body = encoded(getattr(told, "KLINES", None) or getattr(told, "CANDLES", None) or told.BARS)
    (bar,) = judge(service, "bars", 200, {}, body, symbol=symbol).record
    assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == tuple(map(Decimal, prices.split()))
    assert (bar.timestamp, bar.trade_count) == (datetime(2025, 11, 20, tzinfo=UTC), trades)
    assert (bar.interval, bar.adjustment) == ("1d", "raw")


def test_the_ecbs_rate_is_of_its_day_and_a_holiday_has_none() -> None:
    told = MODULES["ecb"]
    rate = judge("ecb", "quote", 200, told.CSV, told.RATES.encode(), symbol="EUR/USD").record
    assert rate.model_dump(exclude_none=True) == {
        "provider": "ecb",
        "symbol": "EUR/USD",
        "last_price": Decimal("1.152"),
        "last_timestamp": datetime(2026, 11, 20, tzinfo=UTC),
        "currency": "USD",
        "is_delayed": True,
    }
    series = "ECB:EXR:D.USD.EUR.SP00.A"
    found = judge("ecb", "observations", 200, told.CSV, told.HOLIDAY.encode(), symbol=series).record
    assert [(row.series_id, row.date, row.value, row.frequency) for row in found] == [
        (series, date(2026, 4, 2), Decimal("1.15"), "D"),
        (series, date(2026, 4, 3), None, "D"),
    ]


@pytest.mark.parametrize(
    ("period", "first"),
    [
        ("2026", date(2026, 1, 1)),
        ("2026-S2", date(2026, 7, 1)),
        ("2026-Q4", date(2026, 10, 1)),
        ("2026-02", date(2026, 2, 1)),
        ("2026-W05", date(2026, 1, 26)),
        ("2026-11-20", date(2026, 11, 20)),
        ("2026-S3", None),
        ("2026-W54", None),
        ("2026-13", None),
        ("2026-02-30", None),
        ("20261120", None),
    ],
)
def test_a_period_of_the_ecbs_begins_on_its_first_day(period: str, first: date | None) -> None:
    told = MODULES["ecb"]
    body = told.lines(told.rate(period, "1.152"), told.rate("2026-11-19", "1.1")).encode()
    found = judge("ecb", "observations", 200, told.CSV, body)
    assert len(found.record) == (1 if first is None else 2)
    assert first is None or first in [row.date for row in found.record]


def test_what_a_person_can_mend_is_told_with_the_remedy() -> None:
    told = MODULES["coingecko"]
    for code, text, plan in ((10010, told.PRO_KEY, "pro"), (10011, told.DEMO_KEY, "demo")):
        refused = judge("coingecko", "quote", 400, {}, encoded(told.error(code, text)))
        assert (refused.verdict, f"set COINGECKO_PLAN={plan}" in refused.detail) == ("auth", True)
    page = judge("stooq", "bars", 200, {}, encoded(MODULES["stooq"].PROOF_OF_WORK))
    assert page.detail == "Stooq: it wants a browser's proof of work"
    gone = judge("quandl", "observations", 410, {}, b"", symbol="LBMA:GOLD")
    assert (gone.verdict, gone.hold_seconds) == ("retired", None), "its other series are asked for"


def test_tradiers_used_up_minute_is_a_reply_it_documents() -> None:
    used_up = next(reply for name, reply in DOCUMENTED if name == "tradier" and reply.status == 429)
    headers = {**used_up.headers, "X-Ratelimit-Expiry": str(int(NOW.timestamp() * 1_000) + 20_000)}
    judgement = judge("tradier", "bars", 429, headers, used_up.encoded, now=NOW)
    assert (judgement.verdict, judgement.hold_seconds, judgement.documented) == ("rate_limit", 20, True)
    assert not judge("tradier", "bars", 429, {}, b"Slow down").documented


def test_tiingos_windows_end_on_its_own_clock() -> None:
    told = MODULES["tiingo"]
    for text, until in (
        (told.HOURLY, datetime(2026, 11, 23, 22, tzinfo=UTC)),
        (told.DAILY, datetime(2026, 11, 24, 5, tzinfo=UTC)),
        (told.MONTHLY, datetime(2026, 12, 1, tzinfo=UTC)),
    ):
        hold = judge("tiingo", "quote", 429, {}, encoded({"detail": text}), now=NOW).hold_seconds
        assert NOW + timedelta(seconds=hold) == until


@pytest.mark.parametrize(
    ("service", "prices"),
    [
        ("eodhd", ("177.83", "182.88", "177.71", "182.01", "104487900")),
        ("polygon", ("74.06", "75.15", "73.7975", "75.0875", "135647456")),
    ],
)
def test_a_documented_bar_has_each_price_and_the_volume_in_its_place(
    service: str, prices: tuple[str, ...]
) -> None:
    body = getattr(MODULES[service], "AS_TRADED", MODULES[service].BARS)
    first = judge(service, "bars", 200, {}, encoded(body), symbol="AAPL").record[0]
    assert (first.open, first.high, first.low, first.close, first.volume) == tuple(map(Decimal, prices))


def test_bars_adjusted_for_something_else_than_asked_for_are_a_failure_that_names_both() -> None:
    body = encoded(MODULES["polygon"].BARS)
    asked = judge("polygon", "bars", 200, {}, body, symbol="AAPL")
    assert (asked.verdict, asked.record) == ("provider_failure", None)
    assert "prices are split, asked for raw" in asked.detail
    unasked = judge("polygon", "bars", 200, {}, body).record
    assert {bar.adjustment for bar in unasked} == {"split"}


def test_bars_of_a_minute_are_read_as_such_and_a_failure_where_days_were_asked_for() -> None:
    body = encoded(MODULES["twelvedata"].MINUTES)
    (minute,) = judge("twelvedata", "bars", 200, {}, body).record
    assert (minute.interval, minute.timestamp) == ("1m", datetime(2021, 9, 16, 19, 59, tzinfo=UTC))
    asked = judge("twelvedata", "bars", 200, {}, body, symbol="AAPL")
    assert asked.verdict == "provider_failure"
    assert "prices are 1m, asked for 1d" in asked.detail


def test_yahoos_days_are_the_exchanges_and_what_is_null_or_live_again_is_no_day() -> None:
    bars = judge("yahoo", "bars", 200, {}, encoded(MODULES["yahoo"].DAYS), symbol="AAPL").record
    assert [(bar.timestamp, bar.close, bar.adj_close) for bar in bars] == [
        (datetime(2024, 11, 1, 4, tzinfo=UTC), Decimal("231.41"), Decimal("230.5")),
        (datetime(2024, 11, 5, 5, tzinfo=UTC), Decimal(240), Decimal(240)),
    ]
    assert {bar.adjustment for bar in bars} == {"split"}
    for name in ("Mars/Phobos", "America", "/etc", "../x", "\ud800"):
        chart = json.loads(json.dumps(MODULES["yahoo"].CHART))
        chart["chart"]["result"][0]["meta"]["exchangeTimezoneName"] = name
        judgement = judge("yahoo", "bars", 200, {}, encoded(chart), symbol="AAPL")
        assert judgement.verdict == "provider_failure"
        assert "exchangeTimezoneName" in judgement.detail


def test_the_documented_news_become_articles() -> None:
    (article,) = judge("finnhub", "news", 200, {}, encoded(MODULES["finnhub"].NEWS)).record
    assert (article.article_id, article.symbols, article.tags) == ("25286", ("AAPL",), ("company news",))
    assert article.published_at == datetime(2019, 9, 27, 2, 12, 40, tzinfo=UTC)
    (article,) = judge("alpha_vantage", "news", 200, {}, encoded(MODULES["alpha_vantage"].FEED)).record
    assert article.article_id == sha256(b"https://example.com/ibm-ai").hexdigest()
    assert (article.author, article.sentiment, article.image_url) == ("Jane Doe", "Bullish", None)
    assert article.published_at == datetime(2025, 1, 20, 10, tzinfo=UTC)


def news_linked(*urls: str, **more: str) -> bytes:
    """Finnhub's documented article, once with each URL."""
    (article,) = MODULES["finnhub"].NEWS
    return encoded([{**article, "id": n, "url": url, **more} for n, url in enumerate(urls)])


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://example.com/a-b_c~d/?q=1&r=%41,(2)#s", "https://example.com/a-b_c~d/?q=1&r=%41,(2)#s"),
        ("https://example.com/größe", "https://example.com/gr%C3%B6%C3%9Fe"),
        ("https://example.com/a b?q=日本#é", "https://example.com/a%20b?q=%E6%97%A5%E6%9C%AC#%C3%A9"),
        ("https://bücher.example:8443/x", "https://xn--bcher-kva.example:8443/x"),
        (' https://example.com/"<x>|{y}^`\\ ', "https://example.com/%22%3Cx%3E%7C%7By%7D%5E%60%5C"),
        ("HTTP://example.com/x", "http://example.com/x"),
        ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]:80/x"),
        ("https://example.com/\x00", "https://example.com/%00"),
    ],
)
def test_an_iri_is_stored_as_the_uri_it_stands_for(url: str, stored: str) -> None:
    (article,) = judge("finnhub", "news", 200, {}, news_linked(url)).record
    assert article.url == stored


NO_URLS = [
    *("", "/relative", "//example.com/x", "example.com", "ftp://example.com/x", "javascript:alert(1)"),
    *("https://", "https:///path", "https://exa mple.com/", "http://[::1", f"https://{'ü' * 64}.com/"),
    *("https://example.com:port/", "https://example.com/\ud800", "https://example.com/" + "x" * 8_000),
]


@pytest.mark.parametrize("url", NO_URLS)
def test_an_article_whose_link_is_none_is_left_out_and_the_others_live(url: str) -> None:
    body = news_linked("https://example.com/1", url, "https://example.com/2")
    judgement = judge("finnhub", "news", 200, {}, body)
    assert judgement.verdict == "success"
    assert [article.article_id for article in judgement.record] == ["0", "2"]
    assert judgement.left_out == {"no_url": 1}
    assert "of 3 rows left out: 1 no_url" in judgement.detail


@pytest.mark.parametrize("url", NO_URLS)
def test_a_picture_whose_link_is_none_is_no_picture(url: str) -> None:
    (article,) = judge("finnhub", "news", 200, {}, news_linked("https://example.com/1", image=url)).record
    assert article.image_url is None


def test_a_reply_without_any_link_is_drift() -> None:
    for body in (news_linked("nope", "neither"), news_linked(5)):  # a blank one, or none, is no drift
        assert judge("finnhub", "news", 200, {}, body).verdict == "provider_failure"


def test_alpacas_articles_without_a_link_are_documented_and_an_odd_link_is_told() -> None:
    told = MODULES["alpaca"]
    assert (
        judge("alpaca", "news", 200, {}, encoded(told.news({**told.ARTICLE, "url": ""}))).verdict == "empty"
    )
    odd = encoded(told.news(told.ARTICLE, {**told.ARTICLE, "url": "nope"}))
    judgement = judge("alpaca", "news", 200, {}, odd)
    assert (len(judgement.record), judgement.left_out) == (1, {"no_url": 1})


def test_the_documented_filings_become_records_the_newest_first() -> None:
    body = encoded(MODULES["sec_edgar"].SUBMISSIONS)
    first, second = judge("sec_edgar", "filings", 200, {}, body, symbol="0000320193").record
    assert first.model_dump(exclude_none=True) == {
        "provider": "sec_edgar",
        "cik": "0000320193",
        "symbol": "AAPL",
        "company_name": "Apple Inc.",
        "accession_number": "0001193125-20-050884",
        "form": "8-K",
        "filing_date": date(2020, 2, 27),
        "report_date": date(2020, 2, 26),
        "accepted_at": datetime(2020, 2, 27, 6, 14, 21, tzinfo=UTC),
        "items": ("5.07",),
        "primary_document": "d865740d8k.htm",
        "report_url": "https://www.sec.gov/Archives/edgar/data/320193/000119312520050884/d865740d8k.htm",
        "filing_url": "https://www.sec.gov/Archives/edgar/data/320193/000119312520050884/"
        "0001193125-20-050884-index.htm",
        "size": 201321,
    }
    assert second.items == ("2.02", "9.01")
    wrong = judge("sec_edgar", "filings", 200, {}, body, symbol="0000789019")
    assert (wrong.verdict, "AAPL, not 0000789019" in wrong.detail) == ("provider_failure", True)
    (filing,) = judge("finnhub", "filings", 200, {}, encoded(MODULES["finnhub"].FILINGS)).record
    assert (filing.cik, filing.filing_date) == ("0000320193", date(2020, 2, 27))
    short = {**MODULES["sec_edgar"].RECENT, "form": ["8-K"]}
    drifted = {**MODULES["sec_edgar"].SUBMISSIONS, "filings": {"recent": short, "files": []}}
    detail = judge("sec_edgar", "filings", 200, {}, encoded(drifted)).detail
    assert "columns of different lengths" in detail


def test_the_documented_observations_become_records_and_a_dot_is_no_value() -> None:
    body = encoded(MODULES["fred"].OBSERVATIONS)
    found = judge("fred", "observations", 200, {}, body, symbol="UNRATE").record
    assert [(row.series_id, row.date, row.value) for row in found] == [
        ("UNRATE", date(2026, 1, 1), Decimal("4.0")),
        ("UNRATE", date(2026, 2, 1), None),
    ]
    assert as_of(found) == "2026-02-01"
    unnamed = judge("fred", "observations", 200, {}, body).record
    assert {row.series_id for row in unnamed} == {verdicts.UNNAMED}, "nobody says which series it is"


def test_an_instrument_is_the_composite_of_its_listings_or_the_first_and_has_no_time() -> None:
    apple, nasdaq = MODULES["openfigi"].APPLE, MODULES["openfigi"].AT_NASDAQ
    for listings, figi in (([apple], apple), ([nasdaq, apple], apple), ([nasdaq, nasdaq], nasdaq)):
        body = encoded([{"data": listings}])
        found = judge("openfigi", "reference", 200, {}, body, symbol="AAPL").record
        assert (found.figi, found.composite_figi) == (figi["figi"], "BBG000B9XRY4")
        assert (found.name, found.market_sector, as_of(found)) == ("APPLE INC", "Equity", None)
    body = encoded([{"data": [{**apple, "ticker": "BRK/B"}]}])
    found = judge("openfigi", "reference", 200, {}, body, symbol="BRK.B").record
    assert (found.symbol, found.ticker) == ("BRK.B", "BRK/B")
    for figi in ("AAPL", "BBG000B9XRY", "BBG000B9XRYA", "bbg000b9xry4"):
        body = encoded([{"data": [{**apple, "figi": figi}]}])
        assert "figi" in (wrong := judge("openfigi", "reference", 200, {}, body, symbol="AAPL")).detail
        assert wrong.verdict == "provider_failure"


@pytest.mark.parametrize(
    ("symbol", "services", "spelled"),
    [
        ("CHRIS:CME_CL1", ("quandl",), "CHRIS/CME_CL1"),
        ("WB:USA:PER_SI_ALLSI.COV_POP_TOT", ("world_bank",), "USA/indicator/PER_SI_ALLSI.COV_POP_TOT"),
        ("A_SERIES", ("fred",), "A_SERIES"),
    ],
)
def test_a_series_name_may_have_an_underscore(symbol: str, services: tuple[str, ...], spelled: str) -> None:
    assert providers_of("observations", symbol) == services
    assert PROVIDERS[services[0]].endpoints["observations"].spelling(symbol) == spelled


def test_of_a_long_list_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    row = PROVIDERS["finnhub"]
    short = replace(row, endpoints={**row.endpoints, "news": replace(row.endpoints["news"], max_rows=2)})
    monkeypatch.setattr(verdicts, "find_provider", lambda _: short)
    (article,) = MODULES["finnhub"].NEWS
    many = [{**article, "id": n, "datetime": article["datetime"] + n} for n in range(5)]
    kept = judge("finnhub", "news", 200, {}, encoded(many)).record
    assert [row.article_id for row in kept] == ["4", "3"]


CSV = b"Date,Open,High,Low,Close,Volume\r\n2024-06-26,211.5,214.86,210.64,213.25,66213186\r\n"


def test_csv_is_a_list_of_objects_by_its_header() -> None:
    (row,) = parse_csv(CSV)
    assert row == {
        "Date": "2024-06-26",
        "Open": "211.5",
        "High": "214.86",
        "Low": "210.64",
        "Close": "213.25",
        "Volume": "66213186",
    }
    assert parse_csv(b"\xef\xbb\xbfa,b\n\n") == []


@pytest.mark.parametrize(
    "body",
    [b"", b"No data", b"a,a\n1,2", b"\xff,\xfe\n", b'a,b\n"1"2,3', b'a,b\n"1,2'],
)
def test_what_is_no_csv_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        parse_csv(body)


@pytest.mark.parametrize(
    ("read", "value", "instant"),
    [
        (Node.instant, "2024-11-07T09:16:41Z", datetime(2024, 11, 7, 9, 16, 41, tzinfo=UTC)),
        (Node.instant, "2022-03-18T14:02:43.651613184Z", datetime(2022, 3, 18, 14, 2, 43, 651_613, UTC)),
        (Node.instant, "2024-06-24T15:59:59.5-04:00", datetime(2024, 6, 24, 19, 59, 59, 500000, tzinfo=UTC)),
        (Node.instant, "2024-06-24 15:59:59+0000", datetime(2024, 6, 24, 15, 59, 59, tzinfo=UTC)),
        (Node.instant, "2024-06-24T15:59:59", None),
        (Node.instant, "2024-06-31T15:59:59Z", None),
        (Node.instant, "2024-06-24", None),
        (Node.compact_instant, "20250120T100000", datetime(2025, 1, 20, 10, tzinfo=UTC)),
        (Node.compact_instant, "20250120T1000", datetime(2025, 1, 20, 10, tzinfo=UTC)),
        (Node.compact_instant, "20251320T100000", None),
        (Node.mail_date, "Thu, 07 Nov 2024 09:16:41 -0500", datetime(2024, 11, 7, 14, 16, 41, tzinfo=UTC)),
        (Node.mail_date, "yesterday", None),
        (Node.nanoseconds, 1_719_589_860_990_000_000, datetime(2024, 6, 28, 15, 51, 0, 990_000, tzinfo=UTC)),
        (Node.nanoseconds, 10**30, None),
        (Node.seconds, 10**30, None),
    ],
)
def test_times_in_every_spelling_are_instants_in_utc_or_drift(
    read: Callable[[Node, str], datetime], value: object, instant: datetime | None
) -> None:
    node = Node({"t": value})
    if instant is None:
        with pytest.raises(SchemaDriftError, match=r"^\$\.t "):
            read(node, "t")
    else:
        assert read(node, "t") == instant
