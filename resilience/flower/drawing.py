"""Where the pictures of a circuit's last hour have their lines. Numbers only: the templates draw.

A state shows by its height as well as by its colour, and what became of calls by its side of the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from resilience.circuit import History, Outcomes

SPAN = timedelta(hours=1)
#: The pictures' own units: ten seconds to one of them.
WIDTH = 360.0
# What happened shows, however short it was.
NARROWEST = 2.0
#: Above the line, and below it.
RISE, FALL = 18.0, 12.0
LOWEST = 1.5
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A state and how long it lasted; '' where that is not on record."""

    state: str
    since: datetime
    until: datetime
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Bar:
    """What came of the calls of about a minute; lengths from the line, upwards and downwards."""

    outcomes: Outcomes
    x: float
    width: float
    succeeded: float
    failed: float
    refused: float


def strip(history: History) -> list[Stretch]:
    """The states of the last hour, the earliest first."""
    began, until, state = history.now - SPAN, history.now, history.state.value
    found = []
    for change in history.transitions:
        since = max(change.at, began)
        found.append(_stretch(state, since, until, began))
        state, until = change.before.value, since
        if since == began:
            break
    if until > began:
        found.append(_stretch(state if history.complete else "", began, until, began))
    return found[::-1]


def bars(history: History) -> list[Bar]:
    """What came of the calls of the last hour, the earliest first."""
    began = history.now - SPAN
    recent = [stretch for stretch in history.outcomes() if stretch.until > began]
    rates = [_rates(stretch) for stretch in recent]
    most_up = max((up for up, _, _ in rates), default=0)
    most_down = max((failed + refused for _, failed, refused in rates), default=0)
    found = []
    for stretch, (up, failed, refused) in zip(recent, rates, strict=True):
        x = _x(max(stretch.since, began), began)
        found.append(
            Bar(
                stretch,
                x,
                max(_x(stretch.until, began) - x - 1, 1),
                _length(up, most_up, RISE),
                _length(failed, most_down, FALL),
                _length(refused, most_down, FALL),
            )
        )
    return found


def total(outcomes: Iterable[Outcomes], what: str) -> int:
    """All of one kind."""
    return sum(getattr(stretch, what) for stretch in outcomes)


def _rates(stretch: Outcomes) -> tuple[float, float, float]:
    """A minute's share where nobody looked for longer; a shorter stretch is drawn as what it had."""
    minutes = max((stretch.until - stretch.since) / MINUTE, 1)
    return (
        stretch.succeeded / minutes,
        (stretch.failed + stretch.held) / minutes,
        stretch.blocked / minutes,
    )


def _length(rate: float, most: float, room: float) -> float:
    return max(rate / most * room, LOWEST) if rate else 0


def _x(when: datetime, began: datetime) -> float:
    return (when - began) / SPAN * WIDTH


def _stretch(state: str, since: datetime, until: datetime, began: datetime) -> Stretch:
    x = _x(since, began)
    return Stretch(state, since, until, min(x, WIDTH - NARROWEST), max(_x(until, began) - x, NARROWEST))
