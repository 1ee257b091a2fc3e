"""Replies as the world has them, in ../replies/recorded: each is judged as what it is, whatever its provider.

A reply is a file, and needs no code. `REPLY` names its members.
"""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import InvalidSymbolError, UnknownDatasetError
from tasks.providers import PROVIDERS, Verdict, judge
from tasks.records import as_json

FILES = sorted((Path(__file__).parents[1] / "replies" / "recorded").glob("*.json"))
NOW = datetime(2026, 11, 29, 21, tzinfo=UTC)

REPLY = {
    "provider": "its service in the catalogue; the file's name starts with it",
    "dataset": "what was asked for",
    "symbol": "the symbol it was asked about; null where nobody says",
    "status": "its HTTP status",
    "headers": "those of its headers that matter",
    "verdict": "the class it must get",
    "why": "one line: what is odd or telling about it",
    "source": "the public source in which such a reply was seen",
    "proof": "how sure it is: recorded, documented, reported or constructed",
}
"""What every file has."""

MAYBE = {
    "json": "its document, or",
    "body": "its text, where it is no JSON or its exact text matters: a file has one of the two",
    "hold": "the seconds it must hold, at NOW",
    "left_out": "how many rows of it must be left out, by word",
    "values": "of a success: what must be in the record, by the path in its JSON; `len` is a list's length",
}
"""What some have beside it."""

PROOFS = {"recorded", "documented", "reported", "constructed"}


def faults(name: str, reply: Mapping[str, Any]) -> list[str]:
    """What is wrong with a file's form."""
    found = [f"{member!r} is missing: {REPLY[member]}" for member in REPLY if member not in reply]
    found += [f"{member!r} is no member of a reply" for member in reply if member not in REPLY | MAYBE]
    if ("json" in reply) == ("body" in reply):
        found.append("it needs one of 'json' and 'body'")
    if found:
        return found
    if reply["provider"] not in PROVIDERS:
        found.append(f"provider {reply['provider']!r} is not in the catalogue")
    if not name.startswith(reply["provider"].replace("_", "-") + "-"):
        found.append(f"its name does not start with {reply['provider'].replace('_', '-')}-")
    if reply["verdict"] not in set(Verdict) - {Verdict.DELAYED}:
        found.append(f"{reply['verdict']!r} is no class of a reply")
    if reply["proof"] not in PROOFS:
        found.append(f"proof {reply['proof']!r} is none of {', '.join(sorted(PROOFS))}")
    if ("values" in reply) != (reply["verdict"] == Verdict.SUCCESS):
        found.append("a success has 'values', and nothing else has")
    return found


def value_at(plain: Any, path: str) -> Any:
    """The value at a path in a record's JSON, or in a list of them."""
    for step in path.split("."):
        plain = len(plain) if step == "len" else plain[int(step) if isinstance(plain, list) else step]
    return plain


def differences(reply: Mapping[str, Any]) -> list[str]:
    """Where the judgement is not what the file says."""
    body = reply["body"] if "body" in reply else json.dumps(reply["json"])
    asked = (reply["provider"], reply["dataset"], reply["status"], reply["headers"], body.encode())
    try:
        judgement = judge(*asked, now=NOW, symbol=reply["symbol"])
    except (InvalidSymbolError, UnknownDatasetError) as error:
        return [str(error)]
    if judgement.verdict != reply["verdict"]:
        return [f"verdict: {judgement.verdict.value} ({judgement.detail}), not {reply['verdict']}"]
    found = []
    if "hold" in reply and judgement.hold_seconds != reply["hold"]:
        found.append(f"hold: {judgement.hold_seconds}, not {reply['hold']}")
    if "left_out" in reply and dict(judgement.left_out) != reply["left_out"]:
        found.append(f"left_out: {dict(judgement.left_out)}, not {reply['left_out']}")
    if "values" in reply:
        plain = None if judgement.record is None else as_json(judgement.record)
        for path, wanted in reply["values"].items():
            try:
                value = value_at(plain, path)
            except (LookupError, TypeError, ValueError):
                found.append(f"{path}: not there, not {wanted!r}")
                continue
            if value != wanted or type(value) is not type(wanted):
                found.append(f"{path}: {value!r}, not {wanted!r}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recorded_reply_is_what_its_file_says(path: Path) -> None:
    reply = json.loads(path.read_text("utf-8"))
    found = faults(path.stem, reply) or differences(reply)
    assert not found, "\n".join([f"{path.stem}: {reply.get('why', '')}", *found])


def test_the_recorded_replies_are_of_the_whole_catalogue() -> None:
    of = Counter(json.loads(path.read_text("utf-8"))["provider"] for path in FILES)
    few = {name: of[name] for name, row in PROVIDERS.items() if row.retired is None and of[name] < 5}
    assert len(FILES) >= 150
    assert not few, f"five of each provider, at least: {few}"
