"""A provider's reply as a file of the corpus: what it says, without what is nobody else's business.

Kept is the structure: members, types, order, odd values and exact numbers, of as few rows as tell. Taken away
are keys, ids of requests, tokens, addresses of computers and of people, cookies, links, and most of the words
of an article. What a text says of a person, only a person sees: whoever hands in a file looks through it.
"""

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn

from tasks.providers.http import RawReply
from tasks.providers.redaction import redact
from tasks.providers.rows import Verdict
from tasks.providers.verdicts import judge
from tasks.records import as_json

JUDGED_AT = datetime(2026, 11, 29, 21, tzinfo=UTC)
"""The time at which every file of the corpus is judged."""

MASK = "removed"

_HEADERS = re.compile(r"content-type|retry-after|date|.*rate-?limit.*")
_SECRET = re.compile(
    r".*(token|secret|session|cookie|crumb|password|signature|credential|e-?mail|api[ _-]?key)"
    r"|(.*[ _-])?(request|trace|ray|correlation|client|user|account)[ _-]?(id|ip|name)?"
    r"|next_(url|page)|uuid|ip",
    re.IGNORECASE,
)
_PERSON = re.compile(r"authors?|by_?line|creators?", re.IGNORECASE)
# A firewall's page tells its request's: "Ray ID: 8f0a...", "Reference #18.2d3...", with tags between, too.
_TOLD_ID = re.compile(
    r"(?P<before>\b(ray|reference|request|incident|trace)( ?(id|no|number|#))*[ :.#]*(<[^>]*> *)*)"
    r"(?=[\w.-]*[0-9])[\w.-]{8,}",
    re.IGNORECASE,
)
_MASKED = (
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "person@example.com"),
    (re.compile(r"https?://[^\s\"'<>]+", re.IGNORECASE), "https://example.com/x"),
    (re.compile(r"\b(\d{1,3}\.){3}\d{1,3}\b"), "192.0.2.1"),
    (re.compile(r"(?<![\w:])([0-9a-f]{1,4}:){4,7}[0-9a-f]{1,4}(?![\w:])", re.IGNORECASE), "2001:db8::1"),
    (re.compile(r"(?<![\w:])(?=[0-9a-f:]*::)[0-9a-f:]{3,39}(?![\w:])", re.IGNORECASE), "2001:db8::1"),
    (re.compile(r"\beyJ[\w-]+(\.[\w-]*)+"), MASK),  # a token, in parts (JWT)
    (_TOLD_ID, rf"\g<before>{MASK}"),
    (re.compile(r"(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[\w-]{20,}"), MASK),  # like a key, or an id made by dice
)
_MOST_TEXT = 2_000  # of a reply that is no document
_MOST_WORDS = 400  # characters of an error's text
_PROSE = 80  # characters of a text in a success: enough to see what it is
_TABLE = 8  # an object with more members than this that are all objects, or lists, is a list by another name
_QUOTED_NUMBER = re.compile(r'"\\u0000([^"\\]*)\\u0000"')


def recorded(
    service: str,
    dataset: str,
    symbol: str,
    reply: RawReply,
    *,
    keys: Collection[str],
    rows: int,
    day: str,
) -> dict[str, Any]:
    """A reply as the corpus has it, with the verdict and the values that come of it here.

    Args:
        service: Whose.
        dataset: What was asked for.
        symbol: About what.
        reply: As it came.
        keys: All that may show up of the caller's keys.
        rows: At most so many are kept of each list.
        day: When it came, YYYY-MM-DD.
    """
    lowered = {name.lower(): value for name, value in reply.headers.items()}
    headers = {name: _clean(value, keys) for name, value in lowered.items() if _HEADERS.fullmatch(name)}
    case: dict[str, Any] = {"provider": service, "dataset": dataset, "symbol": symbol}
    case |= {"status": reply.status, "headers": headers}
    whole = judge(service, dataset, reply.status, headers, reply.body, now=JUDGED_AT, symbol=symbol)
    text = reply.body.decode("utf-8", "replace")
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        body = case["body"] = _reduced_text(text, keys, rows)
    else:
        document = _reduced(document, keys, rows, _PROSE if whole.verdict is Verdict.SUCCESS else _MOST_WORDS)
        body = _dumped(document)
        case |= {"json": json.loads(body)} if _is_plain(document) else {"body": body}
    judged = judge(service, dataset, reply.status, headers, body.encode(), now=JUDGED_AT, symbol=symbol)
    case["verdict"] = judged.verdict.value
    if judged.hold_seconds is not None:
        case["hold"] = round(judged.hold_seconds, 3)
    if judged.left_out:
        case["left_out"] = dict(judged.left_out)
    if judged.record is not None:
        case["values"] = _values(as_json(judged.record))
    lost = f"; WHOLE IT WAS {whole.verdict}: keep more rows" if whole.verdict is not judged.verdict else ""
    return case | {
        "why": f"FILL IN: what is odd about it, or tells{lost}",
        "source": f"recorded with celery -A workers replies record on {day}",
        "proof": "recorded",
    }


def as_text(case: Mapping[str, Any]) -> str:
    """A case as its file has it."""
    return json.dumps(case, indent=2, ensure_ascii=False) + "\n"


def _values(plain: Any) -> dict[str, Any]:
    """A record's members; of a list its length, and the members of its first and last."""
    if isinstance(plain, dict):
        return {name: value for name, value in plain.items() if value not in (None, [], "")}
    told: dict[str, Any] = {"len": len(plain)}
    for place in dict.fromkeys((0, len(plain) - 1) if plain else ()):
        told |= {f"{place}.{name}": value for name, value in _values(plain[place]).items()}
    return told


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _reduced(value: Any, keys: Collection[str], rows: int, prose: int) -> Any:
    if isinstance(value, str):
        return _shortened(_clean(value, keys), prose)
    if isinstance(value, list):
        return [
            # An array in an array is a row of cells, and all of them are needed.
            _reduced(element, keys, len(element) if isinstance(element, list) else rows, prose)
            for element in value[:rows]
        ]
    if not isinstance(value, dict):
        return value
    members = list(value.items())
    if len(members) > _TABLE and all(isinstance(member, dict) for _, member in members):
        members = members[:rows]
    return {
        _clean(name, keys): _masked(member)
        if _SECRET.fullmatch(name) or _PERSON.fullmatch(name)
        else _reduced(member, keys, rows, prose)
        for name, member in members
    }


def _masked(value: Any) -> Any:
    """Of what is to be taken away, its type."""
    if isinstance(value, dict):
        return {}
    if isinstance(value, list):
        return [_masked(element) for element in value[:1]]
    return MASK if isinstance(value, str) and value else value


def _reduced_text(text: str, keys: Collection[str], rows: int) -> str:
    """A page's beginning, or a table's first lines."""
    lines = text.splitlines()
    if not text.lstrip().startswith("<") and len(lines) > rows + 1:
        text = "\n".join(lines[: rows + 1]) + "\n"
    return _clean(text, keys)[:_MOST_TEXT]


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most or " " not in text else f"{text[: most - 4].rstrip()} ..."


def _clean(text: str, keys: Collection[str]) -> str:
    """The text without keys, and without what is like one, or tells of a person."""
    text = redact(text.replace("\0", ""), {*keys, *map(str.upper, keys), *map(str.lower, keys)})
    text = text.replace("[redacted]", MASK)
    for pattern, instead in _MASKED:
        text = pattern.sub(instead, text)
    return text


def _is_plain(value: Any) -> bool:
    """Whether a file's numbers read the same as those of the reply."""
    if isinstance(value, Decimal):
        return value.is_finite() and Decimal(repr(float(value))) == value
    if isinstance(value, dict | list):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return True


def _dumped(value: Any) -> str:
    """As JSON, its numbers as they came."""
    text = json.dumps(value, ensure_ascii=False, default=lambda number: f"\0{number}\0")
    return _QUOTED_NUMBER.sub(r"\1", text)
