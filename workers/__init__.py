"""The running system: Celery app, settings, queues, beat, monitoring processes, the one-command local run.

What belongs here: how processes are started and wired. What does not: what a circuit or a provider is.

    celery -A workers worker | beat | flower | circuits | refresh | latest | replies | schedule | simulate
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.celery import app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    """The app, made when it is asked for: a program that only starts others needs none."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from resilience import ConfigurationError  # noqa: PLC0415 - see above

    try:
        from workers.celery import app  # noqa: PLC0415 - see above
    except ConfigurationError as error:
        raise SystemExit(f"workers does not start: {error}") from None
    return app
