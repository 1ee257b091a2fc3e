"""What an operator can do to a circuit from its page, and the doing of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilience import get_circuit_breaker
from resilience.breaker import EVER
from resilience.circuit import CircuitState
from resilience.errors import ResilienceError, StoreUnavailableError
from resilience.policy import MAX_SECONDS, MIN_SECONDS
from resilience.release import drop
from resilience.stores import default_store
from tasks import entitlement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery

    from resilience.parking import ParkingLot

# What it is called in a form, what its button says, and what it does.
ACTS = {
    "open": ("Open", "Refuse every call of the fleet."),
    "close": ("Close", "Let calls through; until the time limit, failures do not open it."),
    "disable": ("Disable", "Let every call pass, still measured."),
    "reset": ("Reset", "Closed, no failures, no hold, no operator's word."),
    "release": ("Release", "Try what is parked now: an open circuit is probed at once, pauses end."),
}
LIMITED = ("open", "close", "disable")
REASON_MOST = 300


class ActError(ResilienceError):
    """An order that cannot be carried out as it stands; the message says why, and the remedy."""


@dataclass(frozen=True, slots=True)
class Order:
    """One act.

    Attributes:
        act: One of ``ACTS``, or ``drop``.
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
            ActError: For what no form of ours sends.
        """
        if act not in ACTS and act != "drop":
            raise ActError(f"act={act!r}: choose one of {', '.join([*ACTS, 'drop'])}")
        if act == "drop" and bool(ids) == everything:
            raise ActError("Select the tasks to drop, or drop all of them.")
        if act != "drop" and (ids or everything):
            raise ActError(f"{ACTS[act][0]} is for the circuit: tasks cannot be selected for it.")
        if len(reason) > REASON_MOST:
            raise ActError(f"The reason has {len(reason)} characters: {REASON_MOST} are the most.")
        return cls(act, _limit(act, seconds.strip()), reason, tuple(ids))


def _limit(act: str, seconds: str) -> float | None:
    """A form's time limit; None where it has none.

    Raises:
        ActError: For one that cannot work, or that means nothing here.
    """
    if not seconds:
        return None
    if act not in LIMITED:
        raise ActError(f"seconds={seconds!r}: this act has no time limit; choose none")
    try:
        limit = float(seconds)
    except ValueError:
        limit = 0
    if not MIN_SECONDS <= limit <= MAX_SECONDS:  # nan is not either
        raise ActError(
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
    if order.act == "drop":
        return _drop(app, service, order, actor)
    if order.act == "release":
        return _release(service, order, actor)
    breaker = get_circuit_breaker(service)
    if order.act == "open":
        breaker.force_open(EVER if order.seconds is None else order.seconds, order.reason, actor)
    elif order.act == "close":
        breaker.force_close(0 if order.seconds is None else order.seconds, order.reason, actor)
    elif order.act == "disable":
        breaker.disable(EVER if order.seconds is None else order.seconds, order.reason, actor)
    else:
        breaker.reset(order.reason, actor)
        entitlement.forget(service)
    return f"{service} is {breaker.read().state.value.replace('_', ' ')} now."


def _release(service: str, order: Order, actor: str) -> str:
    state, ready = _lot().hurry(service, order.reason, actor)
    if state is CircuitState.FORCED_OPEN:
        raise ActError(f"{service} is forced open: reset it to end that.")
    return f"{service} is {state.value.replace('_', '-')}; {ready:,} of its parked tasks may go."


def _drop(app: Celery, service: str, order: Order, actor: str) -> str:
    _lot()
    text = f"dropped by {actor}" + (f": {order.reason}" if order.reason else "")
    gone = drop(app, service, order.ids, text)
    left = [ident for ident in order.ids if ident not in gone]
    if left:
        raise ActError(
            f"{len(gone)} dropped; not parked any more, or on the way back to their queue: {', '.join(left)}"
        )
    return f"{len(gone):,} parked tasks of {service} have ended as REVOKED."


def _lot() -> ParkingLot:
    store = default_store()
    if store is None or store.lot is None:
        raise StoreUnavailableError("the breaker store", "nothing is parked without it")
    return store.lot
