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
        text = file.read_text("utf-8-sig")
        document = tomllib.loads(text)
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
