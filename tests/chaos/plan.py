"""Which fault strikes when: drawn from a seed before anything starts, so that it can be played again."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Of the provider: the simulator's modes.
MODES = ("down", "5xx", "throttle", "slow", "garbage", "half", "hang", "drip")
#: Of the store's clock: so many seconds off, back or forward.
STEPS = ("-3600", "-600", "+3600", "+86400")
#: Of an operator, with a time limit where the act takes one.
ACTS = ("open", "close", "disable", "reset", "set", "release", "drop")
#: The faults that can strike in several ways.
WAYS = {"provider": MODES, "step_clock": STEPS, "operator": ACTS}
#: Fault → how often, beside the others; seconds it lasts, at least and at most; and what it strikes. Two
#: faults of the same part never overlap: a part is mended before it is struck again.
FAULTS: dict[str, tuple[int, float, float, str]] = {
    "provider": (10, 5, 30, ""),
    "kill_worker": (4, 0, 0, "worker"),
    "kill_child": (4, 0, 0, "worker"),
    "stop_worker": (2, 3, 12, "worker"),
    "kill_beat": (2, 0, 5, "beat"),
    "kill_store": (2, 3, 8, "store"),
    "stop_store": (2, 1, 6, "store"),
    "full_store": (2, 3, 8, "store"),
    "kill_broker": (2, 0, 5, "broker"),
    "stop_broker": (2, 1, 5, "broker"),
    "cut_lines": (3, 0, 3, "lines"),
    "slow_lines": (3, 3, 10, "lines"),
    "step_clock": (2, 3, 10, "store"),
    "hang_results": (2, 3, 15, "results"),
    "cut_results": (2, 2, 15, "results"),
    "empty_broker": (1, 0, 3, "broker"),
    "hostile": (3, 0, 0, ""),
    "operator": (4, 2, 10, "operator"),
}
QUIET_SECONDS = 10.0
MEAN_PAUSE_SECONDS = 6.0
#: After a part was mended, its next fault waits so long: a fail-over has its time.
APART_SECONDS = 10.0


@dataclass(frozen=True)
class Strike:
    """One fault.

    Attributes:
        at: Seconds after the load began.
        lasts: Seconds until it is mended; 0: at once.
        fault: Which, a key of FAULTS.
        choice: Of several it could strike, which: from 0 to less than 1.
        mode: How, where there are several ways: of a provider, the simulator's mode.
    """

    at: float
    lasts: float
    fault: str
    choice: float
    mode: str = ""

    def of(self, several: Sequence[str]) -> str:
        """The one it strikes."""
        return several[int(self.choice * len(several))]

    def __str__(self) -> str:
        how = f" {self.mode}" if self.mode else ""
        return f"{self.at:6.1f} s  {self.fault}{how}, {self.lasts:.1f} s, choice {self.choice:.3f}"


def plan(seed: str, seconds: float, faults: Sequence[str] = tuple(FAULTS)) -> list[Strike]:
    """What strikes in a run of that length, in order; all of it is mended before the end.

    Args:
        seed: The same gives the same.
        seconds: The load's length.
        faults: Those there can be.

    Raises:
        ValueError: One of them is unknown.
    """
    unknown = set(faults) - set(FAULTS)
    if unknown:
        raise ValueError(f"unknown faults {', '.join(sorted(unknown))}; known are {', '.join(FAULTS)}")
    return list(_draw(random.Random(seed), seconds, list(faults)))  # noqa: S311 - a seed that can be given again


def _draw(chance: random.Random, seconds: float, faults: list[str]) -> Iterator[Strike]:
    at = QUIET_SECONDS
    free: dict[str, float] = {}
    while (at := at + chance.expovariate(1 / MEAN_PAUSE_SECONDS)) < seconds - QUIET_SECONDS:
        [fault] = chance.choices(faults, [FAULTS[name][0] for name in faults])
        _, shortest, longest, part = FAULTS[fault]
        lasts = min(chance.uniform(shortest, longest), seconds - QUIET_SECONDS - at)
        choice = int(chance.random() * 1000) / 1000  # never 1, which no number of victims has
        mode = chance.choice(WAYS[fault]) if fault in WAYS else ""
        if part and at < free.get(part, 0):
            continue
        free[part] = at + lasts + APART_SECONDS
        yield Strike(round(at, 1), round(lasts, 1), fault, choice, mode)
