"""What an operator can do to a circuit: the one place, for the command line, the page and Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resilience.breaker import CircuitBreaker, whoami
from resilience.circuit import CircuitState
from resilience.errors import ResilienceError
from resilience.registry import get_circuit_breaker
from resilience.release import drop, lot_of
from resilience.stores import default_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery import Celery


class Act(NamedTuple):
    """One act on a circuit.

    Attributes:
        method: The breaker's.
        label: What a button says.
        about: What it does.
        limited: Whether it takes a time limit.
    """

    method: str
    label: str
    about: str
    limited: bool = True


ACTS = {
    "open": Act("force_open", "Open", "Refuse every call of the fleet."),
    "close": Act("force_close", "Close", "Let calls through; until the time limit, failures do not open it."),
    "disable": Act("disable", "Disable", "Let every call pass, still measured."),
    "reset": Act("reset", "Reset", "Closed, no failures, no hold, no operator's word.", limited=False),
}
RELEASE = ("Release", "Try what is parked now: an open circuit is probed at once, pauses end.")


class ActError(ResilienceError):
    """An act that cannot be carried out as things stand; the message says why, and the remedy."""


class Released(NamedTuple):
    """What a release has found.

    Attributes:
        state: The circuit's, from now on.
        ready: How many parked tasks may go.
    """

    state: CircuitState
    ready: int


class Operator:
    """Who acts on an app's circuits, for the whole fleet.

    Args:
        app: Whose circuits and tasks they are.
        actor: Who, for the record; None: this user on this machine.
    """

    def __init__(self, app: Celery, actor: str | None = None) -> None:
        self.app = app
        self.actor = actor or whoami()

    def control(
        self, act: str, service: str, reason: str = "", seconds: float | None = None
    ) -> CircuitBreaker:
        """Open, close, disable or reset a circuit.

        Args:
            act: One of ``ACTS``.
            service: The circuit.
            reason: Why, on the record.
            seconds: The time limit; None: the act's own, or none.

        Returns:
            Its breaker.

        Raises:
            StoreUnavailableError: The shared store does not answer.
            ConfigurationError: For a time limit that cannot work.
        """
        breaker = get_circuit_breaker(service)
        limit = {} if seconds is None else {"seconds": seconds}
        getattr(breaker, ACTS[act].method)(reason=reason, actor=self.actor, **limit)
        return breaker

    def release(self, service: str, reason: str = "") -> Released:
        """Try what is parked now: an open circuit is probed at once, pauses end.

        Raises:
            StoreUnavailableError: The shared store does not answer, or there is none.
            ActError: An operator has forced the circuit open.
        """
        found = Released(*lot_of(default_store()).hurry(service, reason, self.actor))
        if found.state is CircuitState.FORCED_OPEN:
            raise ActError(
                f"{service} is forced open: Reset on its page ends that, or circuits reset {service}"
            )
        return found

    def drop(self, service: str, ids: Sequence[str] = (), reason: str = "") -> int:
        """End parked tasks as REVOKED: these, or all.

        Returns:
            How many.

        Raises:
            StoreUnavailableError: The shared store does not answer, or there is none.
            ActError: Some are not parked any more; it names them.
            ResilienceError: All were meant, and some are left; it names them.
        """
        text = f"dropped by {self.actor}" + (f": {reason}" if reason else "")
        gone = drop(self.app, service, ids, text)
        left = [ident for ident in ids if ident not in gone]
        if left:
            raise ActError(
                f"not parked at {service}, or on their way back to their queue: {', '.join(left)} "
                f"({len(gone)} dropped)"
            )
        return len(gone)
