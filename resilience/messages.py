"""What a message must look like before Celery may see it.

Celery takes these for granted: a body of another shape ends its worker with an error, the message goes
back to the queue, and the next worker ends the same way.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger

if TYPE_CHECKING:
    from resilience.task import ResilientTask

logger = get_logger(__name__)

BODY = ("args", "kwargs", "embed")
LIMITS = ("hard", "soft")


def check(task: ResilientTask, message: Any) -> None:
    """Refuse a malformed message; its sender is told, where it can be.

    Raises:
        InvalidTaskError: What is wrong with it. Celery logs that and drops the message.
        kombu's DecodeError, ContentDisallowed: Its body cannot be read at all; Celery does the same.
    """
    problem = _wrong_headers(message.headers) or _wrong_body(message.payload)
    if not problem:
        return
    error = InvalidTaskError(f"malformed message for {task.name}: {problem}; send it with apply_async()")
    ident = message.headers.get("id")
    if isinstance(ident, str) and ident:
        try:
            task.backend.mark_as_failure(ident, error)
        except Exception as lost:  # noqa: BLE001 - any backend's; the log has it all the same
            logger.warning("failure of %s not written: %r", ident, lost)
    raise error


def _wrong_headers(headers: dict[str, Any]) -> str | None:
    ident, limits = headers.get("id"), headers.get("timelimit")
    if not isinstance(ident, str) or not ident:
        return f"its header id is {reprlib.repr(ident)}, not a task's id"
    if limits and not (isinstance(limits, (list, tuple)) and len(limits) == len(LIMITS)):
        return f"its header timelimit is {reprlib.repr(limits)}, not a pair"
    return None


def _wrong_body(payload: Any) -> str | None:
    if isinstance(payload, dict) and "args" in payload:
        return None  # the protocol before the present one under present headers: Celery converts it
    if not isinstance(payload, (list, tuple)) or len(payload) != len(BODY):
        return f"its body is {reprlib.repr(payload)}, not [args, kwargs, embed]"
    args, kwargs, embed = payload
    fits = (
        isinstance(args, (list, tuple)) and isinstance(kwargs, dict) and isinstance(embed, (dict, type(None)))
    )
    return None if fits else f"its body is {reprlib.repr(payload)}, not [a list, a mapping, a mapping]"
