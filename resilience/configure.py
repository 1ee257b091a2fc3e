"""Policies from a settings file, a table for each circuit. A bad one is refused with its line and the remedy.

[finnhub]
failure_threshold = 3
quota_calls = 60
quota_seconds = 60
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

from resilience.errors import ConfigurationError
from resilience.policy import DEFAULT
from resilience.registry import CIRCUIT_BREAKERS, get_circuit_breaker

# More than a file that somebody writes will ever hold; what is no file may have no end.
MOST_BYTES = 4 * 2**20
# tomllib takes a time that grows with the square of a dotted key's parts: with twenty thousand, seconds.
_ENDLESS_KEY = re.compile(r"""(?<!["'\w-])(?:["'\w-]++[ \t]*+\.[ \t]*+){64}""")

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from resilience.policy import Policy


def configure(file: Path, known: Collection[str] | None = None) -> None:
    """Change the registered breakers' policies by a file: all of it, or, if anything is wrong, nothing.

    Args:
        file: TOML: a table for each circuit, its keys the fields of ``Policy``.
        known: The circuits there are; None: any name, an unknown one is registered.

    Raises:
        ConfigurationError: It names the file, the line, the value and the remedy.
    """
    try:
        text = read_text(file)
        document = parse(text)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}; name another file") from None
    except (ValueError, RecursionError) as error:  # endless digits and brackets are no TOMLDecodeError
        raise ConfigurationError(f"{file} is no TOML, see toml.io: {error}") from None
    policies: dict[str, Policy] = {}
    for service, fields in document.items():
        if not isinstance(fields, dict):
            raise ConfigurationError(
                f"{file}:{_line_of(text, '', service)}: {service!r} stands in no table: "
                "write the circuit above it, as in [finnhub]"
            )
        if known is not None and service not in known:
            raise ConfigurationError(
                f"{file}:{_line_of(text, service)}: there is no circuit {service!r}; "
                f"known are {', '.join(known)}"
            )
        policies[service] = _changed(file, text, service, fields)
    for service, policy in policies.items():  # all are fine: now, and not before
        get_circuit_breaker(service).policy = policy


def read_text(file: Path) -> str:
    """What somebody has written, without the mark an editor may put before it.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no UTF-8, or has more than MOST_BYTES.
    """
    with file.open("rb") as stream:
        raw = stream.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    return raw.decode("utf-8-sig")


def parse(text: str) -> dict[str, Any]:
    """TOML as a mapping.

    Raises:
        ValueError: It is none.
        RecursionError: Its brackets have no end.
    """
    endless = _ENDLESS_KEY.search(text)
    if endless:
        line = text.count("\n", 0, endless.start()) + 1
        raise ValueError(f"a key of 64 parts or more (at line {line})")
    return tomllib.loads(text)


def _changed(file: Path, text: str, service: str, fields: dict[str, Any]) -> Policy:
    try:
        breaker = CIRCUIT_BREAKERS.get(service)
        return (breaker.policy if breaker else DEFAULT).changed(fields)
    except ConfigurationError as error:
        name = next((name for name in fields if re.search(rf"\b{re.escape(name)}\b", str(error))), "")
        raise ConfigurationError(f"{file}:{_line_of(text, service, name)}: {service}: {error}") from None


def _line_of(text: str, table: str, key: str = "") -> int:
    """The line (from 1) of a key in a table, of the table where it is not found, of 1 without either."""
    found, within = 1, not table
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"""\s*\[\s*["']?([^"'\]]*?)["']?\s*\]""", line)
        if header:
            within = header[1] == table
            found = number if within else found
        elif within and key and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*=""", line):
            return number
    return found
