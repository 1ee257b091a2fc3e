"""Logs, as JSON or as text: whatever a record holds, nothing in it can pass for another record."""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime
from typing import Any

from resilience.operations.screen import lines

# What every record has; whatever else one has came with its ``extra``.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One object for each record: time, level, logger, process, message, and the record's ``extra``.

    Of the extra only plain values; of Celery's, which is a mapping, the task's id and name. A traceback is
    one more member, so that a record is always one line. What a filter has masked stays masked: filters see
    a record before this does.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.processName,
            "message": record.getMessage(),
        }
        entry |= _of_task(getattr(record, "data", None))
        entry |= {
            name: value
            for name, value in vars(record).items()
            if name not in _OWN and name not in entry and _is_plain(value)
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _of_task(data: object) -> dict[str, Any]:
    """What Celery says of a task beside its message."""
    if not isinstance(data, dict) or "id" not in data:
        return {}
    return {"task": str(data.get("name")), "task_id": str(data["id"])}


def _is_plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)  # JSON has no other
    return value is None or isinstance(value, (str, int))


class TextFormatter(logging.Formatter):
    """Another formatter's text, where each record begins a line and no other line does.

    Args:
        formatter: Celery's; it colours nothing any more, this does.
    """

    def __init__(self, formatter: Any) -> None:
        super().__init__()
        self._formatter = formatter
        self._colours = formatter.colors if getattr(formatter, "use_color", False) else {}
        formatter.use_color = False

    def format(self, record: logging.LogRecord) -> str:
        """The record, its further lines indented."""
        text = lines(self._formatter.format(record))
        colour = self._colours.get(record.levelname)
        return str(colour(text)) if colour else text
