"""A target: what is made up, what must hold of it, and where; run by number or by the clock."""

from __future__ import annotations

import faulthandler
import random
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, seed, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

# An example that takes longer has hung: where it stands is printed, and the process ends.
HANG_SECONDS = 120.0
# By the clock seed follows seed, each with as many examples as take about so long.
ROUND_SECONDS = 3.0


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        name: Its word in FUZZ_TARGETS.
        examples: What comes from outside.
        check: Given the place and an example, raises where something does not hold.
        place: Where it happens: servers, a worker; entered once for all examples.
        found: Examples that once were a finding, tried first.
        quick: Examples in ``make test``.
    """

    name: str
    examples: SearchStrategy[Any]
    check: Callable[[Any, Any], None]
    place: Callable[[], AbstractContextManager[Any]] = nullcontext
    found: tuple[Any, ...] = field(default=())
    quick: int = 100


@dataclass
class Run:
    """What came of it."""

    examples: int = 0
    seconds: float = 0


def run(target: Target, seconds: float | None = None) -> Run:
    """Try a target: its quick number of examples, or as many as there are in so many seconds.

    Raises:
        Exception: What does not hold; its notes have the example, as small as could be found.
    """
    done, began = Run(), time.monotonic()
    with target.place() as place:

        def check(example: Any) -> None:
            done.examples += 1
            done.seconds = time.monotonic() - began
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=sys.__stderr__)
            try:
                target.check(place, example)
            finally:
                faulthandler.cancel_dump_traceback_later()

        for example in target.found:
            check(example)
        try:
            while seconds is None or time.monotonic() - began < seconds:
                rate = done.examples / max(time.monotonic() - began, 1.0)
                most = target.quick if seconds is None else max(round(rate * ROUND_SECONDS), 10)
                _drawn(target.examples, check, most, shrinks=seconds is not None)
                if seconds is None:
                    break
        finally:
            done.seconds = time.monotonic() - began
    return done


def _drawn(examples: SearchStrategy[Any], check: Callable[[Any], None], most: int, *, shrinks: bool) -> None:
    # In make test the same examples each time; what a longer look has found is an example of its own.
    phases = [Phase.generate, *([Phase.shrink] if shrinks else [])]
    rules = settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=phases,
        derandomize=not shrinks,
        suppress_health_check=list(HealthCheck),
    )

    def one(example: Any) -> None:
        check(example)

    test = rules(given(examples)(one))
    if shrinks:
        test = seed(random.randrange(2**64))(test)  # noqa: S311 - draws examples, guards nothing
    test()
