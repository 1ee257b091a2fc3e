"""Every documented reply gets its documented class; no reply at all gets an exception."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.errors import InvalidSymbolError, UnknownDatasetError, UnknownServiceError
from tasks.providers import PROVIDERS, Verdict, judge

NOW = datetime(2026, 11, 23, 21, 30, 15, tzinfo=UTC)
BAD_GATEWAY = (
    "<html><head><title>502 Bad Gateway</title></head>"
    "<body><center><h1>502 Bad Gateway</h1></center></body></html>"
)
AV_BURST = (
    "Thank you for using Alpha Vantage! Please consider spreading out your free API requests more "
    "sparingly (1 request per second). You may subscribe to any of the premium plans at "
    "https://www.alphavantage.co/premium/ to lift the free key rate limit (25 requests per day) and "
    "instantly remove all daily rate limits."
)
AV_DAILY = (
    "We have detected your API key as {key} and our standard API rate limit is 25 requests per day. Please "
    "subscribe to any of the premium plans at https://www.alphavantage.co/premium/ to instantly remove all "
    "daily rate limits."
)
AV_NOTE = (
    "Thank you for using Alpha Vantage! Our standard API call frequency is 5 calls per minute and 500 calls "
    "per day. Please visit https://www.alphavantage.co/premium/ if you would like to target a higher API "
    "call frequency."
)
AV_KEY = (
    "the parameter apikey is invalid or missing. Please claim your free API key on "
    "(https://www.alphavantage.co/support/#api-key). It should take less than 20 seconds."
)
AV_CALL = (
    "Invalid API call. Please retry or visit the documentation (https://www.alphavantage.co/documentation/) "
    "for TIME_SERIES_DAILY."
)
AV_PREMIUM = (
    "Thank you for using Alpha Vantage! This is a premium endpoint. You may subscribe to any of the premium "
    "plans at https://www.alphavantage.co/premium/ to instantly unlock all premium endpoints"
)
AV_QUOTE = {
    "01. symbol": "MSFT",
    "02. open": "112.6300",
    "03. high": "113.1700",
    "04. low": "110.6400",
    "05. price": "112.1300",
    "06. volume": "29062853",
    "07. latest trading day": "2018-10-05",
    "08. previous close": "112.7900",
    "09. change": "-0.6600",
    "10. change percent": "-0.5852%",
}
IEX_QUOTE = {
    "symbol": "AAPL",
    "companyName": "Apple Inc.",
    "primaryExchange": "Nasdaq Global Select",
    "open": 170.89,
    "high": 170.78,
    "low": 169.71,
    "latestPrice": 170.39,
    "latestUpdate": 1510942738831,
    "latestVolume": 13529933,
    "iexRealtimeSize": 200,
    "previousClose": 171.1,
    "change": -0.71,
    "changePercent": -0.00415,
    "iexBidPrice": 166.18,
    "iexBidSize": 100,
    "iexAskPrice": 172,
    "iexAskSize": 315,
}
FINNHUB_QUOTE = {
    "c": 261.74,
    "d": 2.29,
    "dp": 0.8826,
    "h": 263.31,
    "l": 260.68,
    "o": 261.07,
    "pc": 259.45,
    "t": 1582641000,
}
FINNHUB_LIMIT = {"error": "API limit reached. Please try again later. Remaining Limit: 0"}

DOCUMENTED = [
    ("iex_cloud", 200, IEX_QUOTE, "success", None),
    ("iex_cloud", 429, "Too many requests", "rate_limit", 60),
    ("iex_cloud", 403, "The API key provided is not valid.", "auth", 300),
    (
        "iex_cloud",
        402,
        "You have exceeded your allotted message quota. Please enable pay-as-you-go to regain access",
        "quota",
        86_400,
    ),
    ("iex_cloud", 402, "The requested data is not available to your current tier.", "entitlement", 3_600),
    (
        "iex_cloud",
        403,
        "Your pay-as-you-go circuit breaker has been engaged and further requests are not allowed.",
        "quota",
        86_400,
    ),
    (
        "iex_cloud",
        451,
        "The requested data requires additional permission to access.",
        "entitlement",
        3_600,
    ),
    ("iex_cloud", 500, "System Error", "provider_failure", None),
    ("alpha_vantage", 200, {"Global Quote": AV_QUOTE}, "success", None),
    (
        "alpha_vantage",
        200,
        {"Global Quote - DATA DELAYED BY 15 MINUTES": AV_QUOTE},
        "success",
        None,
    ),
    ("alpha_vantage", 200, {"Information": AV_BURST}, "rate_limit", 2),
    ("alpha_vantage", 200, {"Information": AV_DAILY.format(key="REDACTED")}, "quota", 86_400),
    ("alpha_vantage", 200, {"Note": AV_NOTE}, "rate_limit", 60),
    ("alpha_vantage", 200, {"Error Message": AV_KEY}, "auth", 300),
    ("alpha_vantage", 200, {"Error Message": AV_CALL}, "not_found", None),
    ("alpha_vantage", 200, {"Global Quote": {}}, "not_found", None),
    ("alpha_vantage", 200, {"Information": AV_PREMIUM}, "entitlement", 3_600),
    ("alpha_vantage", 502, BAD_GATEWAY, "provider_failure", None),
    ("finnhub", 200, FINNHUB_QUOTE, "success", None),
    ("finnhub", 429, FINNHUB_LIMIT, "rate_limit", 60),
    ("finnhub", 403, {"error": "You don't have access to this resource."}, "entitlement", 3_600),
    (
        "finnhub",
        200,
        {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0},
        "not_found",
        None,
    ),
    ("finnhub", 200, {"s": "no_data"}, "not_found", None),
    ("finnhub", 200, [], "not_found", None),
    ("finnhub", 502, BAD_GATEWAY, "provider_failure", None),
]


def encoded(body: object) -> bytes:
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def quote_reply(service: str, **changed: object) -> bytes:
    """The documented quote of a service, changed; a change to ... removes the key."""
    sample = {"iex_cloud": IEX_QUOTE, "alpha_vantage": AV_QUOTE, "finnhub": FINNHUB_QUOTE}[service]
    quote = {key: value for key, value in {**sample, **changed}.items() if value is not ...}
    return encoded({"Global Quote": quote} if service == "alpha_vantage" else quote)


@pytest.mark.parametrize(("service", "status", "body", "verdict", "hold"), DOCUMENTED)
def test_a_documented_reply_has_its_documented_class_and_hold(
    service: str, status: int, body: object, verdict: str, hold: float | None
) -> None:
    judgement = judge(service, "quote", status, {}, encoded(body))
    assert (judgement.verdict, judgement.hold_seconds) == (verdict, hold)
    assert len(judgement.detail) <= 300


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
    assert judge(service, "quote", status, {}, body.encode()).verdict == verdict


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
    judgement = judge("finnhub", "quote", 429, headers, encoded(FINNHUB_LIMIT), now=NOW)
    assert judgement.hold_seconds == hold


def test_a_days_quota_holds_until_the_next_day_in_utc() -> None:
    body = encoded({"Information": AV_DAILY.format(key="x")})
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
        encoded({"Information": AV_DAILY.format(key=key)}),
        encoded({"error": f"Invalid API key: {key}"}),
        f"no such page: /quote?symbol=A&token={key}".encode(),
        f"denied, apikey={key}\x00\x1b[31m".encode(),
    ):
        assert key not in judge(service, "quote", status, {}, body).detail


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


def test_finnhub_names_no_symbol_so_without_one_there_is_no_record() -> None:
    judgement = judge("finnhub", "quote", 200, {}, quote_reply("finnhub"))
    assert (judgement.verdict, judgement.record) == (Verdict.SUCCESS, None)


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
        ("finnhub", "c", None, "$.c is null"),
        ("finnhub", "c", -1, "$.c is not above zero"),
        ("finnhub", "c", 0, "$.c is not above zero"),
        ("finnhub", "c", 10**16, "$.c is an absurd number"),
        ("finnhub", "c", 10**4_000, "$.c is an absurd number"),
        ("finnhub", "t", ..., "$.t is missing"),
        ("finnhub", "t", 1582641000000, "$.t is not a time"),
        ("finnhub", "t", 0, "$.t is not a time"),
        ("finnhub", "h", [1], "$.h is an array"),
        ("alpha_vantage", "05. price", ..., "$['Global Quote']['05. price'] is missing"),
        ("alpha_vantage", "05. price", 112.13, "$['Global Quote']['05. price'] is a number"),
        ("alpha_vantage", "05. price", "NaN", "['05. price'] is no decimal number"),
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
        ("iex_cloud", "primaryExchange", "\ud800", "$.primaryExchange is empty, too long or not printable"),
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
        b'{"c": NaN, "t": 1582641000}',
        b'{"c": Infinity, "t": 1582641000}',
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
    assert judge(service, "quote", 200, {}, body).verdict == "provider_failure"


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


numbers = st.one_of(st.integers(), st.floats(), st.integers(-5, 5))
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=8,
)
drifted = st.sampled_from(list(PROVIDERS)).flatmap(
    lambda service: st.builds(
        lambda key, value: quote_reply(service, **{key: value}),
        st.sampled_from([*IEX_QUOTE, *AV_QUOTE, *FINNHUB_QUOTE]),
        documents,
    )
)
bodies = st.one_of(st.binary(), documents.map(lambda document: json.dumps(document).encode()), drifted)
header_names = st.one_of(
    st.text(max_size=12), st.sampled_from(["Retry-After", "X-Ratelimit-Reset", "content-type"])
)


@settings(max_examples=500, deadline=None)
@given(
    service=st.sampled_from(list(PROVIDERS)),
    status=st.one_of(st.integers(), st.sampled_from([200, 403, 429, 503])),
    headers=st.dictionaries(header_names, st.text(), max_size=3),
    body=bodies,
    now=st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    symbol=st.none() | st.just("AAPL"),
)
@example("finnhub", 200, {}, b'{"c": 1e999999999, "t": 1}', None, None)
@example("finnhub", 429, {"Retry-After": "Mon, 23 Nov 0000 21:31:00 GMT"}, b"", None, None)
def test_no_reply_raises(
    service: str, status: int, headers: dict[str, str], body: bytes, now: datetime | None, symbol: str | None
) -> None:
    judgement = judge(service, "quote", status, headers, body, now=now, symbol=symbol)
    assert isinstance(judgement.verdict, Verdict)
    assert judgement.detail.isprintable()
    assert len(judgement.detail) <= 300
    assert (judgement.record is None) or judgement.verdict is Verdict.SUCCESS
    assert judgement.hold_seconds is None or judgement.hold_seconds >= 1
