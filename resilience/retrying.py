"""What a task's body asks for with ``self.retry()``.

Celery decides: it counts the retries, raises when they are spent, and writes the message of the next attempt.
Only the sending is changed. The message waits in the parking lot, and not in a worker's memory as an ETA.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry
from celery.utils.time import maybe_iso8601, maybe_make_aware
from kombu.connection import Connection
from kombu.message import Message
from kombu.messaging import Producer

from resilience.errors import ConfigurationError
from resilience.parking import Stored

if TYPE_CHECKING:
    from celery.app.task import Context

#: Why a message waits whose task asked for it: no circuit's reason.
ASKED_FOR = "retry"
#: What a body says to Celery, and not of the service.
PREDICATES = (Ignore, Reject, Retry)


class Draft(Producer):
    """Takes down the message that Celery would publish. Nothing is sent, and no connection is made."""

    def __init__(self) -> None:
        super().__init__(Connection("memory://"))
        self.stored: Stored | None = None

    def _publish(  # noqa: PLR0913, PLR0917 - kombu's signature
        self,
        body: str | bytes,
        priority: int,
        content_type: str,
        content_encoding: str,
        headers: dict[str, Any],
        properties: dict[str, Any],
        routing_key: str,
        mandatory: bool,  # noqa: ARG002, FBT001
        immediate: bool,  # noqa: ARG002, FBT001
        exchange: str,
        *_: Any,
    ) -> None:
        if self.stored is None:  # an event about it may follow
            message = Message(
                body,
                content_type=content_type,
                content_encoding=content_encoding,
                headers=headers,
                properties=properties | {"priority": priority},
                delivery_info={"exchange": exchange, "routing_key": routing_key},
            )
            self.stored = Stored.of(message)


@dataclass(slots=True)
class Asked:
    """One call of ``retry()`` in a task's body.

    Attributes:
        about: What the attempt failed with; None: nothing is said of the service.
        answer: Celery's ``Retry``, or what was raised instead of it.
        pause: Seconds to wait.
        retries: What ``request.retries`` will be.
        message: The message for the next attempt, where the body changes it; '': the one that came.
    """

    about: Exception | None
    answer: Exception | None = None
    pause: float = 0
    retries: int = 0
    message: str = ""

    @classmethod
    def because_of(cls, exc: Any) -> Asked:
        """Of the exception that was given, or else of the one that is being handled."""
        about = exc if isinstance(exc, Exception) else sys.exc_info()[1]
        if isinstance(about, Exception) and not isinstance(about, (*PREDICATES, MaxRetriesExceededError)):
            return cls(about)
        return cls(None)

    @property
    def granted(self) -> bool:
        """Whether there is another attempt."""
        return isinstance(self.answer, Retry)

    @property
    def mistaken(self) -> bool:
        """Whether it was refused for another reason than that the retries are spent."""
        spent = self.answer is self.about or isinstance(self.answer, MaxRetriesExceededError)
        return not self.granted and not spent

    def take_down(self, draft: Stored | None, request: Context, *, same_arguments: bool) -> None:
        """Keep a changed message, but for what Celery changes besides.

        Raises:
            ConfigurationError: There is none.
            TypeError: What is in it is no JSON.
        """
        if draft is None:
            raise ConfigurationError(
                "retry(): this task's own apply_async() published nothing; have it publish at once"
            )
        headers = draft.headers | {"parent_id": request.parent_id}
        if same_arguments:  # whoever sent them may have hidden them
            kept = ("argsrepr", "kwargsrepr")
            headers |= {name: request.get(name) for name in kept if request.get(name) is not None}
        self.message = replace(draft, headers=headers).dump()

    def publish(self, retries: int) -> None:
        """By Celery itself, with an ETA: its task has gone on, and its answer was not raised."""
        signature = self.answer.sig  # type: ignore[union-attr]  # a Retry's
        signature.options.pop("producer")
        signature.set(countdown=self.pause, retries=retries).apply_async()


def pause_of(eta: Any, countdown: float | None, default: float, longest: float) -> float:
    """Seconds to wait, as Celery reads these.

    Raises:
        ConfigurationError: For longer than a message may be parked.
        TypeError, ValueError: For what is no time.
    """
    if eta and not countdown:
        seconds = (maybe_make_aware(maybe_iso8601(eta)) - datetime.now(UTC)).total_seconds()
    else:
        seconds = default if countdown is None else countdown
    if not seconds <= longest:
        raise ConfigurationError(
            f"retry(): countdown={seconds} is longer than the {longest:.0f} s a task may be parked: "
            "give less, raise the policy's max_parked_seconds, or send a new task with apply_async()"
        )
    return timedelta(seconds=max(seconds, 0)).total_seconds()
