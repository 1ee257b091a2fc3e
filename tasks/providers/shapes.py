"""What may be told of a reply that nobody documented: its shape, and nothing that was in it.

Providers echo keys anywhere, so a text of theirs is shown only where it is the plain name of a JSON member.
"""

import logging
import re
import threading
from collections.abc import Collection, Iterable, Mapping

from resilience.forks import hold
from tasks.providers.documents import UnreadableError, parse

logger = logging.getLogger(__name__)

_KINDS = ("json", "html", "xml", "csv", "text")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z_ -]{0,14}")  # no digit, and shorter than any key
_MEMBERS = 20
_LEVELS = 2
_MOST = 256  # shapes told in one process; a provider that sends random ones tells no more after that

_told: set[str] = set()
_lock = hold(threading.Lock())


def shape_of(status: int, headers: Mapping[str, str], body: bytes, keys: Collection[str]) -> str:
    """Status, kind, size class, and of JSON the members' names and types, two levels deep.

    Args:
        status: HTTP status.
        headers: Response headers, names in lower case.
        body: The body, decompressed.
        keys: What must not show in any case, part of a name included.
    """
    told = headers.get("content-type", "").lower()
    kind = next((kind for kind in _KINDS if kind in told), "another type" if told else "no type")
    size = "empty" if not body else f"less than {10 ** len(str(len(body)))} bytes"
    try:
        found = _types(parse(body), [key.casefold() for key in keys], _LEVELS)
    except UnreadableError:
        found = "no JSON"
    return f"status {status}, {kind}, {size}, {found}"


def tell_once(service: str, dataset: str, verdict: str, shape: str) -> None:
    """Log a shape the first time this process sees it."""
    if _is_new(f"{service} {dataset} {verdict} {shape}"):
        logger.warning(
            "%s answered %s with what nobody documented (%s), taken for %s: if it means another thing, "
            "it needs a Matcher in tasks/providers/%s.py",
            *(service, dataset, shape, verdict, service),
        )


def tell_left_out(service: str, dataset: str, shapes: Iterable[str]) -> None:
    """Log why rows of a reply were left out, each kind the first time this process sees it."""
    for shape in shapes:
        if _is_new(f"{service} {dataset} row {shape}"):
            logger.warning(
                "%s sent %s with rows that are left out (%s): if they are good ones, their reader in "
                "tasks/providers/%s.py is wrong",
                *(service, dataset, shape, service),
            )


def _is_new(line: str) -> bool:
    with _lock:
        if line in _told or len(_told) >= _MOST:
            return False
        _told.add(line)
    return True


def _types(value: object, keys: list[str], levels: int) -> str:
    if isinstance(value, dict):
        if not levels:
            return "{…}"
        named = sorted(
            {f"{_name(name, keys)}: {_types(part, keys, levels - 1)}" for name, part in value.items()}
        )
        return "{" + ", ".join(named[:_MEMBERS]) + (", …" if len(named) > _MEMBERS else "") + "}"
    if isinstance(value, list):
        return "[" + (_types(value[0], keys, levels - 1) if value and levels else "…" if value else "") + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return "string" if isinstance(value, str) else "number"


def _name(name: str, keys: list[str]) -> str:
    folded = name.casefold()
    plain = _PLAIN_NAME.fullmatch(name) and not any(key in folded or folded in key for key in keys)
    return name if plain else "(a name)"
