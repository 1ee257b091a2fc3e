"""What a recorded reply keeps, and what it must not."""

import json
import re

import pytest

from tasks.providers import PROVIDERS, judge
from tasks.providers.http import RawReply
from tasks.providers.recording import JUDGED_AT, as_text, recorded
from tests.contract.replies import DOCUMENTED, MODULES, SUCCESSES, Documented, encoded

KEY = "fhTestKey+with/odd=chars"
SPELLED = [KEY, KEY.upper(), "fhTestKey%2Bwith%2Fodd%3Dchars", KEY.replace("/", "\\/")]
PRIVATE = {
    "an e-mail address": ("ann.smith@corp.example.org", "person@example.com"),
    "an address": ("203.0.113.77", "192.0.2.1"),
    "an address of six": ("2001:db8:85a3:8d3:1319:8a2e:370:7348", "2001:db8::1"),
    "an address of six, shortened": ("2001:db8:85a3::7348", "2001:db8::1"),
    "a token in parts": ("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2ln", "removed"),
    "a token": ("eyJhbGciOiJIUzI1NiJ9abcdef", "removed"),
    "an id of a request": ("8f14e45f-ceea-467f-a0e6-0123456789ab", "removed"),
    "a link": ("https://example.org/a?token=1", "https://example.com/x"),
}


def case_of(body: object, status: int = 200, rows: int = 3, **headers: str) -> dict[str, object]:
    reply = RawReply(status, headers, body if isinstance(body, bytes) else encoded(body))
    return recorded("finnhub", "quote", "AAPL", reply, keys={KEY}, rows=rows, day="2026-11-30")


@pytest.mark.parametrize("spelled", SPELLED)
def test_a_key_is_nowhere_in_a_file(spelled: str) -> None:
    echoes = {"error": f"no such key: {spelled}", spelled: 1, "url": f"/quote?token={spelled}&symbol=A"}
    for body in (echoes, [spelled], f"<html>{spelled}</html>", f"denied {spelled}"):
        text = as_text(case_of(body, 403, **{"X-RateLimit-Key": spelled, "Content-Type": spelled}))
        assert spelled not in text
        assert KEY.casefold() not in text.casefold()


@pytest.mark.parametrize(("private", "instead"), PRIVATE.values(), ids=PRIVATE)
def test_what_is_private_has_something_else_in_its_place(private: str, instead: str) -> None:
    for body in ({"error": f"from {private} today"}, f"from {private} today", {"a": [{"b": private}]}):
        text = as_text(case_of(body, 403))
        assert private not in text
        assert instead in text


@pytest.mark.parametrize(
    "told",
    [
        "Ray ID: <strong>8f0a1b2c3d4e5f60</strong>",
        "Reference ID: 0.1a2b3c4d.1764450000.5e6f7a8b",
        "Reference #18.1a2b3c4d.1764450000.5e6f7a8b",
        "Incident ID: 123000450678-901234",
    ],
)
def test_a_firewalls_page_keeps_no_id_of_the_request(told: str) -> None:
    text = as_text(
        case_of(f"<html><title>Request Rate Threshold Exceeded</title>{told}</html>".encode(), 403)
    )
    assert "removed" in text
    assert not re.search("1a2b|8f0a|0678|1764450000", text)
    assert "Request Rate Threshold Exceeded" in text


def test_ids_tokens_and_authors_go_by_their_names_and_keep_their_type() -> None:
    body = {
        "request_id": "abc",
        "apiKey": "abc",
        "next_page_token": "abc",
        "client_ip": "::1",
        "session": {"a": "abc"},
        "author": "Ann Smith",
        "authors": ["Ann Smith", "Bob"],
        "cookie": None,
        "symbol": "AAPL",
        "user_id": 7,
    }
    assert case_of(body, 403)["json"] == {
        **dict.fromkeys(("request_id", "apiKey", "next_page_token", "client_ip", "author"), "removed"),
        "session": {},
        "authors": ["removed"],
        "cookie": None,
        "symbol": "AAPL",
        "user_id": 7,
    }


def test_of_the_headers_those_stay_that_a_reply_is_judged_by() -> None:
    sent = {
        "Content-Type": "application/json",
        "Retry-After": "30",
        "Date": "Sun, 29 Nov 2026 20:59:00 GMT",
        "X-Ratelimit-Remaining": "0",
        "RateLimit-Reset": "12",
        "Set-Cookie": "id=1",
        "CF-Ray": "1",
        "X-Request-Id": "1",
        "Server": "nginx",
    }
    case = case_of({"error": "API limit reached"}, 429, **sent)
    assert list(case["headers"]) == [
        *("content-type", "retry-after", "date", "x-ratelimit-remaining", "ratelimit-reset"),
    ]
    assert (case["verdict"], case["hold"]) == ("rate_limit", 30)


def test_few_rows_and_few_words_are_kept_and_columns_stay_of_one_length() -> None:
    candles = {**MODULES["finnhub"].CANDLES, **{name: list(range(100, 150)) for name in "ohlcv"}}
    candles["t"] = [1569297600 + 86_400 * day for day in range(50)]
    reply = RawReply(200, {}, encoded(candles))
    case = recorded("finnhub", "bars", "AAPL", reply, keys=set(), rows=2, day="2026-11-30")
    assert {len(case["json"][name]) for name in "ohlcvt"} == {2}
    days = {f"2026-11-{day:02}": {"1. open": "5"} for day in range(1, 30)}
    assert len(case_of({"Time Series (Daily)": days})["json"]["Time Series (Daily)"]) == 3
    news = RawReply(200, {}, encoded([{**MODULES["finnhub"].NEWS[0], "summary": "word " * 100}]))
    case = recorded("finnhub", "news", "AAPL", news, keys=set(), rows=2, day="2026-11-30")
    summary = case["json"][0]["summary"]
    assert (len(summary) <= 80, summary.endswith(" ...")) == (True, True)
    table = case_of(("Date,Open\n" + "2026-11-27,1\n" * 50).encode(), rows=2)
    assert table["body"] == "Date,Open\n2026-11-27,1\n2026-11-27,1\n"


def test_numbers_are_kept_to_the_last_digit() -> None:
    exact = b'{"c": 231.41000000000000001, "t": 1582641000, "h": 1E-7, "pc": 2.50}'
    case = case_of(exact)
    assert json.loads(case["body"], parse_float=str) == {
        "c": "231.41000000000000001",
        "t": 1582641000,
        "h": "1E-7",
        "pc": "2.50",
    }
    assert case["values"]["last_price"] == "231.41000000000000001"
    assert case_of(b'{"c": 231.410, "t": 1582641000}')["json"] == {"c": 231.41, "t": 1582641000}


@pytest.mark.parametrize(
    "body", [b'{"c": NaN}', b"\xff\xfe", b"", b"[" * 5_000, b'{"c": 1', b'"\\u00001\\u0000"']
)
def test_what_is_no_document_is_kept_as_its_text(body: bytes) -> None:
    case = case_of(body)
    assert case["verdict"] == "provider_failure"
    assert json.loads(as_text(case)) == case


@pytest.mark.parametrize(("service", "reply"), DOCUMENTED, ids=lambda value: getattr(value, "verdict", value))
def test_a_file_is_judged_as_it_says(service: str, reply: Documented) -> None:
    symbol = reply.symbol or PROVIDERS[service].endpoints[reply.dataset].example
    came = RawReply(reply.status, dict(reply.headers), reply.encoded)
    case = recorded(service, reply.dataset, symbol, came, keys={KEY}, rows=3, day="2026-11-30")
    case = json.loads(as_text(case))
    body = case["body"] if "body" in case else json.dumps(case["json"])
    judged = judge(
        service, reply.dataset, case["status"], case["headers"], body.encode(), now=JUDGED_AT, symbol=symbol
    )
    assert judged.verdict == case["verdict"] == reply.verdict, case


def test_a_success_tells_the_values_that_come_of_it() -> None:
    case = case_of(MODULES["finnhub"].QUOTE)
    assert case["values"] == {
        "provider": "finnhub",
        "symbol": "AAPL",
        "last_price": "261.74",
        "last_timestamp": "2020-02-25T14:30:00Z",
        "open": "261.07",
        "high": "263.31",
        "low": "260.68",
        "prev_close": "259.45",
        "change": "2.29",
        "change_percent": "0.008826",
    }
    service, reply = next(
        (name, one) for name, one in SUCCESSES if (name, one.dataset) == ("fred", "observations")
    )
    came = RawReply(200, {}, reply.encoded)
    case = recorded(service, "observations", "UNRATE", came, keys=set(), rows=3, day="2026-11-30")
    assert {name: case["values"][name] for name in ("len", "0.value", "1.date")} == {
        "len": 2,
        "0.value": "4.0",
        "1.date": "2026-02-01",
    }
