"""What a message must look like before Celery may see it.

Celery takes these for granted, of every task's message: one of another shape ends its worker with an error,
the message goes back to the queue, and the next worker ends the same way. So each is looked at first
(``check``); and whatever an odd one still raises, on its way to the pool, ends that message and no worker
(``guard``).
"""

from __future__ import annotations

import reprlib
import sys
import time
from functools import wraps
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

import amqp
from celery.exceptions import InvalidTaskError
from celery.utils.log import get_logger
from celery.utils.time import maybe_iso8601, maybe_make_aware
from celery.worker import state as worker_state
from kombu.exceptions import ContentDisallowed, DecodeError, EncodeError
from redis.exceptions import DataError

from resilience.errors import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

logger = get_logger(__name__)

BODY = ("args", "kwargs", "embed")
LIMITS = ("hard", "soft")
# What data raises that is of another type, shape or size than the code takes for granted. A lost connection
# is none of these, and says nothing of the message.
ODD = (*UNREADABLE, PicklingError, EncodeError)
# More than anything that is counted, and 68 years of seconds: timers and C hold it.
LARGEST = 2**31 - 1
LONGEST_ID = 1024
# Where what was read cannot be written again: pickled for the pool, whose limit is half of this, or copied.
DEEPEST = 0.25  # of the interpreter's own recursion limit
JSON = "application/json"


def _can_be_written(text: str) -> bool:
    """Half of a surrogate pair, which JSON can hold, is no character of any encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and _can_be_written(value))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and _can_be_written(value)


def _is_number(value: object) -> bool:
    """NaN is not, and neither is True."""
    right = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (right and 0 <= value <= LARGEST)  # type: ignore[operator]  # a number by now


def _is_pair(value: object) -> bool:
    if not value:
        return value is None or isinstance(value, (list, tuple))
    return isinstance(value, (list, tuple)) and len(value) == len(LIMITS) and all(map(_is_number, value))


def _are_names(value: object) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and all(map(_is_name, value)))


def _is_mapping(value: object) -> bool:
    return value is None or isinstance(value, dict)


def _is_signature(value: object) -> bool:
    return isinstance(value, dict) and _is_name(value.get("task"))


def _are_signatures(value: object) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and all(map(_is_signature, value)))


# What Celery reads, and what it may be; any may be missing but the first two.
HEADERS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("task", "id"), _is_name),
    **dict.fromkeys(
        ("root_id", "parent_id", "group", "shadow", "origin", "argsrepr", "kwargsrepr", "eta", "expires"),
        _is_text,
    ),
    **dict.fromkeys(("retries", "group_index", "replaced_task_nesting"), _is_number),
    "timelimit": _is_pair,
    "stamps": _is_mapping,
    "stamped_headers": _are_names,
}
PROPERTIES: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("reply_to", "correlation_id"), _is_text),
    "priority": _is_number,
}
EMBEDDED: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("callbacks", "errbacks", "chain"), _are_signatures),
    "chord": lambda value: value is None or _is_signature(value),
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
            try:
                check(task, message)
                return strategy(message, body, *rest, **options)
            except (InvalidTaskError, ContentDisallowed, DecodeError) as error:
                tell(task, _ident_of(message), error)
                raise  # Celery logs it and drops the message
            except ODD as error:
                refusal = InvalidTaskError(f"malformed message for {task.name}: {error!r}")
                tell(task, _ident_of(message), refusal)
                raise refusal from error

        return on_message


def guard(consumer: Any) -> None:
    """Have a consumer refuse what would end its worker; to be done before it takes the first message."""
    _guard_redis(consumer.task_consumer.channel)
    _guard_amqp()
    consumer.task_consumer.on_decode_error = _telling(consumer)
    if isinstance(consumer.strategies, Strategies):
        return
    consumer.strategies = Strategies(consumer.app, consumer.strategies)
    consumer.on_unknown_task = _unknown(consumer, consumer.on_unknown_task)
    # Where a message has waited for its turn or its time, nobody else would hear what is raised here.
    controller = consumer.controller
    controller._process_task = _handing_over(consumer, controller._process_task)  # noqa: SLF001 - Celery has no public one


def _guard_redis(channel: Any) -> None:
    """The transport for Redis reads messages itself, and ends with its worker by one that is none.

    It is out of its queue by then, and of nobody's making whom one could tell.
    """
    readers = getattr(channel, "handlers", {})
    read = readers.get("BRPOP")
    if read is None:
        return

    def carefully(**options: Any) -> Any:
        try:
            return read(**options)
        except (*ODD, DataError) as error:
            connection = channel.client.connection
            if not (connection and connection.is_connected):
                raise  # it is no message's fault
            logger.critical("dropped: what a queue held is no message: %r", error)
            return True

    readers["BRPOP"] = carefully


def _guard_amqp() -> None:
    """The client for AMQP reads headers by calling itself for each level of them, and ends with its worker.

    Without any, the message is none that Celery knows, and is dropped.
    """
    load = amqp.Message._load_properties  # noqa: SLF001 - it has no public one
    if hasattr(load, "__wrapped__"):
        return

    @wraps(load)
    def carefully(message: Any, class_id: int, buffer: Any, offset: int) -> int:
        try:
            return int(load(message, class_id, buffer, offset))
        except ODD as error:
            logger.critical("the headers of a message cannot be read: %r", error)
            message.properties = {}
            return offset

    amqp.Message._load_properties = carefully  # noqa: SLF001 - as above


def _telling(consumer: Any) -> Callable[[Any, Exception], Any]:
    """What cannot be decompressed, say, no strategy sees: Celery only logs it."""

    def on_decode_error(message: Any, error: Exception) -> Any:
        tell(consumer.app, _ident_of(message), InvalidTaskError(f"malformed message: {error!r}"))
        return consumer.on_decode_error(message, error)

    return on_decode_error


def _unknown(consumer: Any, unknown: Callable[..., Any]) -> Callable[..., Any]:
    """Celery's needs an id to say who has failed."""

    def on_unknown_task(body: Any, message: Any, error: Exception) -> Any:
        told = message.headers if "task" in message.headers else body
        if not (isinstance(told, dict) and _is_name(told.get("id")) and _is_name(told.get("task"))):
            return consumer.on_unknown_message(body, message)
        try:
            return unknown(body, message, error)
        except ODD as odd:  # it is rejected by now
            logger.error("malformed message for an unknown task: %r", odd)  # noqa: TRY400 - it says it all
            return None

    return on_unknown_task


def _handing_over(consumer: Any, hand_over: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What the pool cannot take ends as malformed, and its slot is free again."""

    @wraps(hand_over)
    def process(request: Any) -> Any:
        try:
            return hand_over(request)
        except ODD as odd:
            error = InvalidTaskError(f"malformed message for {request.task.name}: {odd!r}")
            logger.exception("%s[%s]: %s", request.name, request.id, error)
        worker_state.task_ready(request)
        jobs = getattr(getattr(consumer.pool, "_pool", None), "_cache", {})
        for job in [job for job in jobs.values() if getattr(job, "correlation_id", None) == request.id]:
            if not job.ready() and job._write_to is None:  # noqa: SLF001 - it never left
                job.discard()
        if release := getattr(consumer.controller, "_quick_release", None):
            release()
        tell(request.task, request.id, error)
        request.reject(requeue=False)
        return None

    return process


def tell(owner: Any, ident: object, error: Exception) -> None:
    """Whoever waits for the result of a message that is refused: its task's, or the app's."""

    def told(problem: Exception | None) -> None:
        if problem is not None:
            logger.warning("failure of %s not written: %r", ident, problem)

    if _is_name(ident):
        gate = getattr(owner, "app", owner).resilience_gate
        gate.ending.do(lambda: owner.backend.mark_as_failure(ident, error), told)


def fields_of(message: Any) -> dict[str, Any]:
    """What Celery goes by: the headers; in the protocol before the present one the body, or both.

    Raises:
        kombu's DecodeError, ContentDisallowed: Its body cannot be read at all.
    """
    headers: dict[str, Any] = message.headers
    if "task" in headers and _begins(message.body) == "[":
        return headers  # nearly always; and a list has no fields
    payload = message.payload
    if isinstance(payload, dict) and "args" in payload:  # on its way from one protocol to the other
        return payload | headers
    return payload if isinstance(payload, dict) and "task" not in headers else headers


def _begins(body: Any) -> str:
    """Its first character; RabbitMQ hands out memoryviews."""
    first = body[:1] if body else ""
    return first if isinstance(first, str) else bytes(first).decode("latin-1")


def id_of(message: Any) -> str:
    """The task's id by which Celery goes; the body is read only where the headers do not have it.

    Raises:
        KeyError, and as ``fields_of``: What ``check`` refuses.
    """
    headers = message.headers
    found: str = headers["id"] if "task" in headers and "id" in headers else fields_of(message)["id"]
    return found


def _ident_of(message: Any) -> object:
    """Of a message that may be of any shape; None where there is none."""
    try:
        return id_of(message)
    except (DecodeError, ContentDisallowed, *ODD):
        return None


def _is_ident(value: object) -> bool:
    return _is_name(value) and len(str(value)) <= LONGEST_ID


def check(task: Any, message: Any) -> None:
    """Refuse a malformed message.

    Args:
        task: Whose it is.
        message: kombu's.

    Raises:
        InvalidTaskError: What is wrong with it.
        kombu's DecodeError, ContentDisallowed: Its body cannot be read at all.
    """
    headers, payload = fields_of(message), message.payload
    old = headers is not message.headers
    problem = (
        _too_deep(message)
        or _wrong_headers(headers)
        or _wrong_times(headers, task.app.timezone)
        or _wrong_delivery(message)
        or (_wrong_old_body(payload) if old else _wrong_body(payload))
    )
    if problem:
        raise InvalidTaskError(f"malformed message for {task.name}: {problem}; send it with apply_async()")


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # a number of more digits than Python writes
        return f"a number of {type(value).__name__}"


def _too_deep(message: Any) -> str | None:
    """Level by level: whatever called itself for each would be the next to overflow."""
    most = int(sys.getrecursionlimit() * DEEPEST)
    level: list[Any] = [message.headers, message.properties]
    body = (
        message.body.encode("utf-8", "surrogatepass")
        if isinstance(message.body, str)
        else bytes(message.body or b"")
    )
    if message.content_type != JSON or body.count(b"[") + body.count(b"{") > most:
        level.append(message.payload)
    for _ in range(most):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list, tuple))
        ]
        if not level:
            return None
    return f"it is nested more than {most} deep"


def _wrong_headers(headers: dict[str, Any]) -> str | None:
    if not _is_ident(headers.get("id")):
        shown = _shown(headers.get("id"))
        return f"its header id is {shown}, not a task's id of {LONGEST_ID} characters at most"
    for name, is_right in HEADERS.items():
        if name in headers and not is_right(headers[name]):
            return f"its header {name} is {_shown(headers[name])}"
    return None


def _wrong_times(headers: dict[str, Any], zone: Any) -> str | None:
    for name in ("eta", "expires"):
        text = headers.get(name)
        if text is None:
            continue
        try:
            ahead = maybe_make_aware(maybe_iso8601(text), zone).timestamp() - time.time()
        except ODD:
            return f"its header {name} is {_shown(text)}, not a time"
        if name == "eta" and ahead > LARGEST:
            return f"its header {name} is {_shown(text)}, further than a timer goes"
    return None


def _wrong_delivery(message: Any) -> str | None:
    properties, delivery = message.properties or {}, message.delivery_info or {}
    for name, is_right in PROPERTIES.items():
        if not is_right(properties.get(name)):
            return f"its property {name} is {_shown(properties[name])}"
    for name in ("exchange", "routing_key"):
        if not _is_text(delivery.get(name)):
            return f"its {name} is {_shown(delivery[name])}"
    return None


def _wrong_body(payload: Any) -> str | None:
    if not isinstance(payload, (list, tuple)) or len(payload) != len(BODY):
        return f"its body is {_shown(payload)}, not [args, kwargs, embed]"
    args, kwargs, embed = payload
    if not (isinstance(args, (list, tuple)) and isinstance(kwargs, dict) and _is_mapping(embed)):
        return f"its body is {_shown(payload)}, not [a list, a mapping, a mapping]"
    return _wrong_embedded(embed or {})


def _wrong_old_body(body: Any) -> str | None:
    """Of the protocol before the present one."""
    args, kwargs = body.get("args", ()), body.get("kwargs", {})
    if not (isinstance(args, (list, tuple)) and isinstance(kwargs, dict)):
        return f"its body is {_shown(body)}, not one with args, a list, and kwargs, a mapping"
    return _wrong_embedded(body)


def _wrong_embedded(embedded: dict[str, Any]) -> str | None:
    for name, is_right in EMBEDDED.items():
        if not is_right(embedded.get(name)):
            return f"its {name} is {_shown(embedded[name])}, not what is sent with a task"
    return None
