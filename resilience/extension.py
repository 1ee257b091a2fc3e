"""What an app adds to what operators see and do.

    class Plans(Extension):
        def reset(self, service):
            forget_what_its_plan_lacks(service)

    extend(Plans())

What shows something may fail: that is logged, and the rest is shown.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

logger = logging.getLogger(__name__)


class Extension:
    """Hooks. Each does nothing unless it is overridden."""

    def reset(self, service: str) -> None:
        """An operator has reset a circuit: take back what is kept beside it.

        Raises:
            ResilienceError: It is not taken back. The operator is told.
        """

    def annotate(self, rows: Collection[dict[str, Any]]) -> None:
        """Add fields to circuits' plain JSON, each with its ``service``."""

    def in_words(self, row: Mapping[str, Any]) -> Mapping[str, str]:  # noqa: ARG002 - a hook's signature
        """Words for fields of a row that ``annotate`` added; '' where there is nothing to tell."""
        return {}

    def columns(self) -> Mapping[str, Mapping[str, tuple[str, str]]]:
        """Columns of the Circuits page: by title, and by service: words, and smaller words below."""
        return {}

    def collectors(self) -> Iterable[Any]:
        """Collectors for prometheus-client, beside the circuits'."""
        return ()


_extensions: list[Extension] = []


def extend(extension: Extension) -> None:
    """Add an extension to this process."""
    _extensions.append(extension)


def extensions() -> tuple[Extension, ...]:
    """Those of this process, in the order they were added."""
    return tuple(_extensions)


def annotate(rows: Collection[dict[str, Any]]) -> None:
    """Add every extension's fields."""
    for one in _extensions:
        try:
            one.annotate(rows)
        except Exception:
            logger.exception("%r adds nothing to the circuits", one)


def in_words(row: Mapping[str, Any]) -> dict[str, str]:
    """Every extension's words for a row."""
    found: dict[str, str] = {}
    for one in _extensions:
        try:
            found |= one.in_words(row)
        except Exception:
            logger.exception("%r tells nothing of %s", one, row.get("service"))
    return found


def collectors() -> list[Any]:
    """Every extension's collectors."""
    return [collector for one in _extensions for collector in one.collectors()]


def columns() -> dict[str, Mapping[str, tuple[str, str]]]:
    """Every extension's columns."""
    found: dict[str, Mapping[str, tuple[str, str]]] = {}
    for one in _extensions:
        try:
            found |= one.columns()
        except Exception:
            logger.exception("%r has no columns", one)
    return found
