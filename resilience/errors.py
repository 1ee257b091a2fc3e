"""What can go wrong, in one tree.

    ResilienceError
    ├── CircuitBreakerOpenError   refused: carries service, retry_at, reason
    ├── ParkingLotError           a task could not go on waiting: carries service and why
    ├── ConfigurationError        a setting that cannot work: names it and the remedy (also a ValueError)
    └── StoreUnavailableError     the shared store did not answer in time: carries its address
        ├── StoreFullError        it answered that it has no memory left
        └── StoreUnreadableError  it answers, and cannot serve one circuit: what it keeps there is not
                                  this layer's, or may not be touched

Every constructor takes exactly the arguments it hands to ``Exception``, so an error survives
Celery's JSON result and a process boundary.
"""

from __future__ import annotations

from datetime import UTC, datetime

#: What reading something raises that this layer has not written.
UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


class ResilienceError(Exception):
    """Base of everything this package raises on purpose."""


class CircuitBreakerOpenError(ResilienceError):
    """The circuit refused the call.

    Args:
        service: The circuit's name.
        retry_at: When the next attempt may be let through (UTC); never in the past when raised.
        reason: Why, one of ``resilience.Reason``.
    """

    def __init__(
        self, service: str, retry_at: datetime | str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(service, retry_at, reason)
        self.service = service
        self.retry_at = retry_at
        self.reason = reason

    @property
    def retry_in(self) -> float:
        """Seconds from now to ``retry_at`` by this machine's clock; 0 where it is over or nobody knows."""
        when = datetime.fromisoformat(self.retry_at) if isinstance(self.retry_at, str) else self.retry_at
        return max((when - datetime.now(UTC)).total_seconds(), 0) if when else 0

    def __str__(self) -> str:
        when = self.retry_at.isoformat() if isinstance(self.retry_at, datetime) else self.retry_at
        why = f" ({self.reason})" if self.reason else ""
        return f"the circuit of {self.service} is open{why}" + (f", next try at {when}" if when else "")


def refusal_in(error: BaseException) -> CircuitBreakerOpenError | None:
    """The refusal an error is, or was raised from; of a group of nothing but such, the longest."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, CircuitBreakerOpenError):
            return cause
        if isinstance(cause, BaseExceptionGroup):
            found = [refusal_in(member) for member in cause.exceptions]
            return None if None in found else max(filter(None, found), key=lambda refusal: refusal.retry_in)
        seen.append(cause)
        cause = cause.__cause__  # not __context__: what fails while a refusal is handled is news of its own
    return None


class ConfigurationError(ResilienceError, ValueError):
    """A setting that cannot work; the message names it and the remedy."""


class ParkingLotError(ResilienceError):
    """A task could not be parked, or has waited too long.

    Args:
        service: The circuit it waited for.
        problem: Why, and the remedy.
    """

    def __init__(self, service: str, problem: str) -> None:
        super().__init__(service, problem)
        self.service = service
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.service} is not to be called, and {self.problem}"


class StoreUnavailableError(ResilienceError):
    """The shared store did not answer in time.

    Args:
        address: The store's address without user or password.
        cause: What the client said, in words.
    """

    def __init__(self, address: str, cause: str = "") -> None:
        super().__init__(address, cause)
        self.address = address
        self.cause = cause

    def __str__(self) -> str:
        return f"the breaker store at {self.address} does not answer: {self.cause}"


class StoreFullError(StoreUnavailableError):
    """The shared store has no memory left for what it was to keep; the rest of it works."""

    def __str__(self) -> str:
        return f"the breaker store at {self.address} is full: {self.cause}"


class StoreUnreadableError(StoreUnavailableError):
    """The shared store answers, and cannot serve one circuit.

    What it keeps there is not what this layer keeps, since somebody wrote to it; or the user may not use it.
    """

    def __str__(self) -> str:
        return f"what the breaker store at {self.address} keeps cannot be read: {self.cause}"
