"""What a message must look like before Celery may see it.

Celery takes these for granted, of every task's message: one of another shape ends its worker with an error,
the message goes back to the queue, and the next worker ends the same way.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

logger = get_logger(__name__)

BODY = ("args", "kwargs", "embed")
LIMITS = ("hard", "soft")
TEXT, NUMBER, NONE = (str,), (int, float), (type(None),)
# What Celery reads of the headers, and what it may be; any may be missing but the first two.
HEADERS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("task", "id"), TEXT),
    **dict.fromkeys(
        ("root_id", "parent_id", "group", "shadow", "origin", "argsrepr", "kwargsrepr"), TEXT + NONE
    ),
    **dict.fromkeys(("eta", "expires"), TEXT + NONE),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), NUMBER + NONE),
    "timelimit": (list, tuple, *NONE),
    "stamps": (dict, *NONE),
    "stamped_headers": (list, tuple, *NONE),
}


class Strategies(dict[Any, Any]):
    """A consumer's strategies by the names of tasks; each looks at its message before Celery does.

    Args:
        app: Whose tasks they are.
        known: The consumer's own.
    """

    def __init__(self, app: Celery, known: dict[str, Any]) -> None:
        super().__init__(known)
        self._app = app

    def __getitem__(self, name: Any) -> Callable[..., Any]:
        """The strategy of a task; KeyError for what is no task's name."""
        if not isinstance(name, str):
            raise KeyError(name)
        strategy, task = super().__getitem__(name), self._app.tasks[name]

        def on_message(message: Any, body: Any, *rest: Any, **options: Any) -> Any:
            check(task, message)
            return strategy(message, body, *rest, **options)

        return on_message


def guard(consumer: Any) -> None:
    """Have a consumer refuse what would end its worker; to be done before it takes the first message."""
    if isinstance(consumer.strategies, Strategies):
        return
    consumer.strategies = Strategies(consumer.app, consumer.strategies)
    unknown = consumer.on_unknown_task

    def on_unknown_task(body: Any, message: Any, error: Exception) -> Any:
        """Celery's needs an id to say who has failed."""
        told = message.headers if "task" in message.headers else body
        if isinstance(told, dict) and _is_name(told.get("id")) and _is_name(told.get("task")):
            return unknown(body, message, error)
        return consumer.on_unknown_message(body, message)

    consumer.on_unknown_task = on_unknown_task


def fields_of(message: Any) -> dict[str, Any]:
    """What Celery goes by: the headers; in the protocol before the present one the body, or both.

    Raises:
        kombu's DecodeError, ContentDisallowed: Its body cannot be read at all.
    """
    headers: dict[str, Any] = message.headers
    payload = message.payload
    if isinstance(payload, dict) and "args" in payload:  # on its way from one protocol to the other
        return payload | headers
    return payload if isinstance(payload, dict) and "task" not in headers else headers


def id_of(message: Any) -> str:
    """The task's id by which Celery goes; the body is read only where the headers do not have it.

    Raises:
        KeyError, and as ``fields_of``: What ``check`` refuses.
    """
    headers = message.headers
    found: str = headers["id"] if "task" in headers and "id" in headers else fields_of(message)["id"]
    return found


def check(task: Any, message: Any) -> None:
    """Refuse a malformed message; its sender is told, where it can be.

    Args:
        task: Whose it is.
        message: kombu's.

    Raises:
        InvalidTaskError: What is wrong with it. Celery logs that and drops the message.
        kombu's DecodeError, ContentDisallowed: Its body cannot be read at all; Celery does the same.
    """
    headers, payload = fields_of(message), message.payload
    old = headers is not message.headers
    problem = _wrong_headers(headers) or (_wrong_old_body(payload) if old else _wrong_body(payload))
    if not problem:
        return
    error = InvalidTaskError(f"malformed message for {task.name}: {problem}; send it with apply_async()")
    ident = headers.get("id")
    if _is_name(ident):
        try:
            task.backend.mark_as_failure(ident, error)
        except Exception as lost:  # noqa: BLE001 - any backend's; the log has it all the same
            logger.warning("failure of %s not written: %r", ident, lost)
    raise error


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and _can_be_written(value)


def _can_be_written(text: str) -> bool:
    """Half of a surrogate pair, which JSON can hold, is no character of any encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong_headers(headers: dict[str, Any]) -> str | None:
    if not _is_name(headers.get("id")):
        return f"its header id is {reprlib.repr(headers.get('id'))}, not a task's id"
    for name, kinds in HEADERS.items():
        value = headers.get(name)
        fits = isinstance(value, kinds) and (not isinstance(value, str) or _can_be_written(value))
        if name in headers and not fits:
            return f"its header {name} is {reprlib.repr(value)}"
    limits = headers.get("timelimit")
    if limits and not (len(limits) == len(LIMITS) and all(isinstance(one, NUMBER + NONE) for one in limits)):
        return f"its header timelimit is {reprlib.repr(limits)}, not a pair"
    stamps = headers.get("stamped_headers") or ()
    if not all(isinstance(name, str) for name in stamps):
        return f"its header stamped_headers is {reprlib.repr(stamps)}, not names"
    return None


def _wrong_body(payload: Any) -> str | None:
    if not isinstance(payload, (list, tuple)) or len(payload) != len(BODY):
        return f"its body is {reprlib.repr(payload)}, not [args, kwargs, embed]"
    args, kwargs, embed = payload
    fits = (
        isinstance(args, (list, tuple)) and isinstance(kwargs, dict) and isinstance(embed, (dict, type(None)))
    )
    return None if fits else f"its body is {reprlib.repr(payload)}, not [a list, a mapping, a mapping]"


def _wrong_old_body(body: Any) -> str | None:
    """Of the protocol before the present one."""
    args, kwargs = body.get("args", ()), body.get("kwargs", {})
    fits = isinstance(args, (list, tuple)) and isinstance(kwargs, dict)
    return (
        None
        if fits
        else f"its body is {reprlib.repr(body)}, not one with args, a list, and kwargs, a mapping"
    )
