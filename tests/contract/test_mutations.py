"""No reply raises: random ones, and each provider's documented ones with anything changed.

``make mutations`` does the same with 10 000 replies for each provider.
"""

import gzip
import json
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.providers import PROVIDERS, Judgement, Verdict, judge
from tasks.providers.documents import UnreadableError, parse
from tasks.providers.shapes import shape_of
from tests.contract.replies import DOCUMENTED, MODULES, SERVED, SUCCESSES, Documented

NOW = datetime(2026, 11, 23, 21, 30, 15, tzinfo=UTC)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
"""Mutated replies for each provider."""

BOUND = 5.0
"""Seconds of processor time that no reply of a few kilobytes may take: a loop without an end, not speed."""

KEYS = {
    "hex": "6f1d2c9b8a7e4f50b3c2d1e0f9a8b7c6",
    "capitals": "PKTESTQWERTZUIOPASDF",
    "lower case": "c0ffeebabesandboxtokenxyz",
    "dotted": "683a1b2c3d4e5f.12345678",
    "odd characters": "fhSample+with/odd=chars",
    "signed": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl-_",
}
"""What providers' keys look like."""

FRAGMENT = 16
"""So many characters of a key in a row are told nowhere, even where nobody knows the key."""

numbers = st.one_of(st.integers(), st.floats(), st.integers(-5, 5))
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=8,
)
bodies = st.one_of(st.binary(), documents.map(lambda document: json.dumps(document).encode()))
header_names = st.one_of(
    st.text(max_size=12), st.sampled_from(["Retry-After", "X-Ratelimit-Reset", "content-type"])
)


def check_no_harm(judgement: Judgement) -> None:
    assert isinstance(judgement.verdict, Verdict)
    assert judgement.detail.isprintable()
    assert len(judgement.detail) <= 300
    assert judgement.record is None or judgement.verdict in (Verdict.SUCCESS, Verdict.EMPTY)
    assert bool(judgement.record) <= (judgement.verdict is Verdict.SUCCESS)
    assert judgement.hold_seconds is None or judgement.hold_seconds >= 1
    assert not judgement.drifted or judgement.verdict is Verdict.PROVIDER_FAILURE
    assert not judgement.left_out or judgement.verdict in (Verdict.SUCCESS, Verdict.EMPTY)
    assert bool(judgement.left_out) == bool(judgement.shapes)
    assert set(judgement.left_out) <= {"blank", "malformed", "no_trade", "no_url", "withdrawn"}


@settings(max_examples=500, deadline=None)
@given(
    endpoint=st.sampled_from(SERVED),
    status=st.one_of(st.integers(), st.sampled_from([200, 403, 429, 503])),
    headers=st.dictionaries(header_names, st.text(), max_size=3),
    body=bodies,
    now=st.none() | st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    symbol=st.none() | st.just("AAPL"),
)
@example(("finnhub", "quote"), 200, {}, b'{"c": 1e999999999, "t": 1}', None, None)
@example(("finnhub", "quote"), 429, {"Retry-After": "Mon, 23 Nov 0000 21:31:00 GMT"}, b"", None, None)
def test_no_reply_raises(
    endpoint: tuple[str, str],
    status: int,
    headers: dict[str, str],
    body: bytes,
    now: datetime | None,
    symbol: str | None,
) -> None:
    check_no_harm(judge(*endpoint, status, headers, body, now=now, symbol=symbol))


def numeral(digits: str) -> str:
    """Stands in a document for a number that JSON is to say in exactly these digits."""
    return f"#number {digits}#"


def places(document: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """The path of every value in a document."""
    found = [path]
    members = document.items() if isinstance(document, dict) else ()
    members = enumerate(document) if isinstance(document, list) else members
    for key, value in members:
        found += places(value, (*path, key))
    return found


def changed(document: object, path: tuple[object, ...], change: Callable[[object], object]) -> object:
    """The document with the value at a path changed; a change to ... takes it away."""
    if not path:
        value = change(document)
        return None if value is ... else value
    here = dict(document) if isinstance(document, dict) else list(document)
    if len(path) > 1:
        here[path[0]] = changed(here[path[0]], path[1:], change)
    elif (value := change(here[path[0]])) is ...:
        del here[path[0]]
    else:
        here[path[0]] = value
    return here


def retyped(value: object) -> object:
    """The same, as another type of JSON would say it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return numeral(value) if value.replace(".", "", 1).isdigit() else [value]
    if isinstance(value, dict):
        return list(value.values())
    return dict(zip(map(str, range(len(value))), value, strict=True))


def repeated(value: object) -> object:
    """What is in a container, twice; anything else as a list of two."""
    if isinstance(value, dict):
        return {**value, **{f"{key} ": member for key, member in value.items()}}
    return [*value, *value] if isinstance(value, list) else [value, value]


def renamed(value: object) -> object:
    """An object with its keys in another case."""
    return {key.swapcase(): member for key, member in value.items()} if isinstance(value, dict) else value


def telling(key: str) -> list[object]:
    """How a reply may echo a key."""
    return [
        key,
        f"denied: {key}",
        f"{'so sorry ' * 16}{key}",
        f"/quote?symbol=A&x={key}&y=1",
        {key: 1},
        {key: {key: key}},
    ]


ODD = [
    *("", " ", ".", "0", "-1", "null", "None", "NaN", "\x00", "\ud800", "\udfff\ud800", "\u202e", "é" * 300),
    *("9999-12-31", "0000-00-00", "2024-02-30", "2024-02-29T23:59:60Z", "1e5", "١٢٣", "../x", "A" * 5_000),
    *("2024-01-01T00:00:00+99:99", "Mon, 99 Foo 2026 25:61:61 GMT", "20241332T256161", "-0", "1,5", "0x10"),
    *("America/Nowhere", "/etc/passwd", "https://[::1", "javascript:alert(1)", "%00", "<b>x</b>"),
    *(0, -1, 10**30, -(10**30), 2**63, 1e308, 5e-324, True, None, [], {}, [[]], [None], {"": None}),
    *(float("nan"), float("inf"), -float("inf")),
    *map(numeral, ("1e400", "-1e-400", "1e99999999999999999999", "0." + "1" * 500, "1" * 5_000, "-0.0")),
]
ODD_TEXTS = [text for text in ODD if isinstance(text, str)]


@st.composite
def changes(draw: st.DrawFn, key: str) -> Callable[[object], object]:
    """Something that happens to one value of a document."""
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return lambda _: ...
    if kind == 1:
        return draw(st.sampled_from([retyped, repeated, renamed]))
    if kind == 2:
        return draw(st.sampled_from([lambda value: [value], lambda value: {"data": value}]))
    value = draw({3: documents, 4: st.sampled_from(telling(key))}.get(kind, st.sampled_from(ODD)))
    if kind == 5:  # beside what is there
        return lambda old: {**old, "new": value} if isinstance(old, dict) else [old, value]
    return lambda _: value


def written(document: object, *, ascii_only: bool) -> str:
    """As JSON."""
    text = json.dumps(document, ensure_ascii=ascii_only)
    return re.sub('"#number ([^"#]*)#"', r"\1", text)


def twice(text: str, key: str) -> str:
    """The first object has a key twice."""
    return text.replace("{", f'{{"{key}": 1, "{key}": 2, ', 1)


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "utf-7"]
WRAPPED: list[Callable[[bytes], bytes]] = [
    lambda body: body,
    lambda body: body + body,
    lambda body: b")]}',\n" + body,
    lambda body: b"callback(" + body + b");",
    lambda body: b"<html><body>" + body + b"</body></html>",
    lambda body: b"\n \t" + body + b"\x00",
    gzip.compress,
    bytes.swapcase,
]


@st.composite
def mutated(draw: st.DrawFn, reply: Documented, key: str) -> bytes:
    """A documented body with up to four things of it changed, then written, encoded, wrapped and cut."""
    document = reply.body
    if isinstance(document, str):
        start = draw(st.integers(0, len(document)))
        inserted = draw(st.text(max_size=8) | st.sampled_from([key, *ODD_TEXTS]))
        text = document[:start] + inserted + document[start + draw(st.integers(0, 40)) :]
    else:
        for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 2, 4]))):
            path = draw(st.sampled_from(places(document)))
            document = changed(document, path, draw(changes(key)))
        text = written(document, ascii_only=draw(st.booleans()))
    style = draw(st.integers(0, 19))  # from 9 on: as it is
    if style == 0:
        text = twice(text, key)
    elif style == 1:
        depth = draw(st.sampled_from([2, 900, 100_000]))
        text = "[" * depth + text + "]" * depth
    elif style == 2:
        text = text.replace("/", "\\/")  # as PHP writes it
    encoding = draw(st.sampled_from(ENCODINGS)) if style == 3 else "utf-8"
    body = text.encode(encoding, "replace" if encoding != "utf-8" else "surrogatepass")
    if style in (4, 5):
        body = draw(st.sampled_from(WRAPPED))(body)
    if style in (6, 7):
        body = body[: draw(st.integers(0, len(body)))]
    if style == 8:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(min_size=1, max_size=6)) + body[at + draw(st.integers(0, 6)) :]
    return body


STATUSES = [200, 201, 204, 301, 400, 401, 402, 403, 404, 408, 418, 429, 451, 500, 503, 599, 999, 0, -1]
CONTENT_TYPES = ["text/html", "text/csv", "application/xml", "image/png", "application/pdf", "text/json; x=y"]
DATES = ["Mon, 23 Nov 2026 25:61:61 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"]
TIMES = ["0", "-1", "1e9", "9" * 400, "soon", *DATES]


@st.composite
def headed(draw: st.DrawFn, service: str, reply: Documented, key: str) -> dict[str, str]:
    """The documented headers, with others among them now and then."""
    reset = PROVIDERS[service].reset
    times = ["Retry-After", *([reset.header] if reset else [])]
    odd_times = st.dictionaries(st.sampled_from(times), st.sampled_from([*TIMES, key]), max_size=2)
    kind = draw(st.sampled_from([""] * 20 + [*CONTENT_TYPES, f"text/html {key}"]))
    return {**reply.headers, **draw(odd_times), **({"Content-Type": kind} if kind else {})}


def told_of(key: str, text: str) -> str:
    """The part of a key that a text tells, in whatever case; empty where it tells none."""
    text = text.casefold()
    parts = (key[start : start + FRAGMENT] for start in range(len(key) - FRAGMENT + 1))
    return next((part for part in parts if part.casefold() in text), "")


@pytest.mark.parametrize("service", PROVIDERS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_documented_reply_with_anything_changed_is_judged_and_tells_no_key(
    service: str, data: st.DataObject
) -> None:
    documented, successes = (
        st.sampled_from([reply for name, reply in replies if name == service])
        for replies in (DOCUMENTED, SUCCESSES)
    )
    reply = data.draw(documented | successes)  # of a success every part is read, so half of all are
    key = data.draw(st.sampled_from(list(KEYS.values())))
    status = data.draw(st.sampled_from([reply.status] * 40 + STATUSES))
    headers = data.draw(headed(service, reply, key))
    symbol = reply.symbol or PROVIDERS[service].endpoints[reply.dataset].example
    body = data.draw(mutated(reply, key))
    asked = data.draw(st.sampled_from([symbol, None]))
    began = time.thread_time()
    judgement = judge(service, reply.dataset, status, headers, body, now=NOW, symbol=asked)
    assert time.thread_time() - began < BOUND
    check_no_harm(judgement)
    for text in (judgement.detail, *judgement.shapes):
        assert not told_of(key, text), judgement
        assert text.isprintable()


def other(value: object) -> object:
    """The same, with every text and every number in it another one."""
    if isinstance(value, dict):
        return {name: other(part) for name, part in value.items()}
    if isinstance(value, list):
        return [other(part) for part in value]
    if isinstance(value, bool) or value is None:
        return value
    return f"other than {len(value)}" if isinstance(value, str) else 4711


@pytest.mark.parametrize("service", PROVIDERS)
@settings(max_examples=EXAMPLES // 4 or 1, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_shape_of_a_reply_is_the_same_whatever_its_values_and_tells_no_key(
    service: str, data: st.DataObject
) -> None:
    reply = data.draw(st.sampled_from([reply for name, reply in DOCUMENTED if name == service]))
    key = data.draw(st.sampled_from(list(KEYS.values())))
    headers = {name.lower(): value for name, value in data.draw(headed(service, reply, key)).items()}
    body = data.draw(mutated(reply, key))
    known = data.draw(st.sampled_from([[key], []]))
    shape = shape_of(reply.status, headers, body, known)
    assert shape.isprintable()
    assert not told_of(key, shape), shape
    assert not known or key.casefold() not in shape.casefold()
    status, kind, size, types = shape.split(", ", 3)
    assert status == f"status {reply.status}"
    assert kind in ("json", "html", "xml", "csv", "text", "another type", "no type")
    assert re.fullmatch("empty|less than 10+ bytes", size)
    try:
        document = parse(body)
    except UnreadableError:
        assert types == "no JSON"
    else:
        same = json.dumps(other(document)).encode()
        assert types == shape_of(reply.status, headers, same, known).split(", ", 3)[3]


QUOTE = json.dumps([{**MODULES["tiingo"].QUOTE, "ticker": "{key}"}])


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize(
    ("service", "dataset", "status", "kind", "body"),
    [
        ("finnhub", "quote", 200, "text/html {key}", "{}"),
        ("alpha_vantage", "bars", 200, "", '{"Meta Data": {"2. Symbol": "IBM", "5. Time Zone": "{key}"}}'),
        ("alpaca", "quote", 200, "", '{"{key}": 1}'),
        ("alpaca", "bars", 200, "", '{"bars": {"{key}": 1}}'),
        ("tiingo", "quote", 200, "", QUOTE),
        ("polygon", "quote", 500, "", "no such page: {key}"),
    ],
    ids=["content type", "time zone", "first key", "key", "symbol", "status"],
)
def test_a_key_told_back_where_mutations_found_it_is_in_no_detail(
    service: str, dataset: str, status: int, kind: str, body: str, key: str
) -> None:
    headers = {"Content-Type": kind.replace("{key}", key)}
    told = body.replace("{key}", key).encode()
    judgement = judge(service, dataset, status, headers, told, now=NOW, symbol="AAPL")
    assert judgement.verdict == "provider_failure"
    assert not told_of(key, judgement.detail), judgement


def test_half_a_key_at_the_end_of_what_is_looked_at_is_in_no_detail() -> None:
    body = "so sorry " + "<br>" * 315 + " " + KEYS["capitals"]
    assert "so sorry" in (detail := judge("polygon", "quote", 500, {}, body.encode()).detail)
    assert KEYS["capitals"][:8] not in detail
