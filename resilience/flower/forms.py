"""What a circuit's page sends, and the doing of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilience.errors import ResilienceError
from resilience.operations.acts import ACTS, RELEASE, Operator
from resilience.policy import MAX_SECONDS, MIN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

#: What an act is called in a form: what its button says, and what it does.
BUTTONS = {name: (act.label, act.about) for name, act in ACTS.items()} | {"release": RELEASE}
REASON_MOST = 300


class FormError(ResilienceError):
    """No form of ours sends this; the message says what is wrong, and the remedy."""


@dataclass(frozen=True, slots=True)
class Order:
    """One act.

    Attributes:
        act: One of ``BUTTONS``, or ``drop``.
        seconds: The time limit; None for none.
        reason: Why, on the record.
        ids: With ``drop``: the parked tasks; empty: all.
    """

    act: str
    seconds: float | None
    reason: str
    ids: tuple[str, ...]

    @classmethod
    def of(cls, act: str, seconds: str, reason: str, ids: Sequence[str], *, everything: bool) -> Order:
        """From what a form sends.

        Raises:
            FormError: For what no form of ours sends.
        """
        if act not in BUTTONS and act != "drop":
            raise FormError(f"act={act!r}: choose one of {', '.join([*BUTTONS, 'drop'])}")
        if act == "drop" and bool(ids) == everything:
            raise FormError("Select the tasks to drop, or drop all of them.")
        if act != "drop" and (ids or everything):
            raise FormError(f"{BUTTONS[act][0]} is for the circuit: tasks cannot be selected for it.")
        if len(reason) > REASON_MOST:
            raise FormError(f"The reason has {len(reason)} characters: {REASON_MOST} are the most.")
        return cls(act, _limit(act, seconds.strip()), reason, tuple(ids))


def _limit(act: str, seconds: str) -> float | None:
    """A form's time limit; None where it has none.

    Raises:
        FormError: For one that cannot work, or that means nothing here.
    """
    if not seconds:
        return None
    if act not in ACTS or not ACTS[act].limited:
        raise FormError(f"seconds={seconds!r}: this act has no time limit; choose none")
    try:
        limit = float(seconds)
    except ValueError:
        limit = 0
    if not MIN_SECONDS <= limit <= MAX_SECONDS:  # nan is not either
        raise FormError(
            f"seconds={seconds!r}: give seconds from {MIN_SECONDS} to {MAX_SECONDS:.0f}, or choose none"
        )
    return limit


def carry_out(app: Celery, service: str, order: Order, actor: str) -> str:
    """Do it, for the whole fleet.

    Returns:
        What has been done, in words.

    Raises:
        StoreUnavailableError: The shared store does not answer.
        ConfigurationError: For a time limit that cannot work.
        ActError: There is nothing it could be done to.
    """
    operator = Operator(app, actor)
    if order.act == "drop":
        gone = operator.drop(service, order.ids, order.reason)
        return f"{gone:,} parked tasks of {service} have ended as REVOKED."
    if order.act == "release":
        state, ready = operator.release(service, order.reason)
        return f"{service} is {state.value.replace('_', '-')}; {ready:,} of its parked tasks may go."
    breaker = operator.control(order.act, service, order.reason, order.seconds)
    return f"{service} is {breaker.read().state.value.replace('_', ' ')} now."
