"""A circuit in words and colours, as the command line and the pages have it."""

from __future__ import annotations

from resilience.breaker import seconds_until, span

# What a list has for a circuit of which the store keeps what it cannot be.
UNREADABLE = "unreadable"
COLOURS = {
    UNREADABLE: "red",
    "closed": "green",
    "half_open": "yellow",
    "open": "red",
    "forced_open": "bold red",
    "disabled": "magenta",
}

# What is not tried again by itself, and when it is.
UNPROBED = {"auth": "with a new key", "retired": "after a reset"}


def next_try(retry_at: str | None, reason: str | None = None) -> str:
    """When a circuit is tried next; nothing where nothing is due."""
    if reason in UNPROBED:
        return UNPROBED[reason]
    if not retry_at:
        return ""
    left = seconds_until(retry_at)
    return f"in {span(left)}" if left > 0 else "now"


def ago(when: str | None) -> str:
    """How long ago a time in ISO 8601 was; nothing for never."""
    return span(-seconds_until(when)) if when else ""
