"""Search every world, take out every guard; exit code 1 if an invariant does not hold, or misses no guard."""

from __future__ import annotations

import argparse
import sys

from tests.model.invariants import NAMES
from tests.model.mutants import mutants
from tests.model.search import explore
from tests.model.worlds import WORLDS


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - its output


def search(names: list[str], seconds: float) -> bool:
    """A row for each world; True if every invariant held."""
    held = True
    say(f"{'world':<12}{'states':>10}{'transitions':>13}{'depth':>7}{'seconds':>9}")
    for name in names:
        found = explore(WORLDS[name](), seconds=seconds)
        row = f"{name:<12}{found.states:>10}{found.transitions:>13}{found.depth:>7}{found.seconds:>9.0f}"
        say(f"{row}  {'all there is' if found.complete else ''}".rstrip())
        if found.violation:
            held = False
            say(str(found))
    return held


def take_out() -> bool:
    """A row for each mutant; True if each was missed by its invariant, and every invariant misses one."""
    missed, all_right = set(), True
    rows = mutants()
    say(f"\n{'invariant':<42}{'states':>7}  without its guard")
    for mutant in rows:
        found = mutant.explore()
        by = found.violation.invariant if found.violation else "NOT MISSED"
        missed.add(by)
        all_right &= by == mutant.invariant
        wrong = "" if by == mutant.invariant else f"  EXPECTED {mutant.invariant}"
        say(f"{by:<42}{found.states:>7}  {mutant.trap}{wrong}")
    unguarded = set(NAMES) - missed
    if unguarded:
        say(f"nothing misses: {', '.join(sorted(unguarded))}")
    return all_right and not unguarded


def main() -> None:
    """The tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument(
        "worlds", nargs="*", metavar="WORLD", help=f"of {', '.join(WORLDS)}; all if none is named"
    )
    parser.add_argument("--seconds", type=float, default=60, help="for each world; 60 if it is not said")
    asked = parser.parse_args()
    unknown = set(asked.worlds) - set(WORLDS)
    if unknown:
        parser.error(f"no world is called {', '.join(sorted(unknown))}: use {', '.join(WORLDS)}")
    held = search(asked.worlds or list(WORLDS), asked.seconds)
    guarded = take_out() if not asked.worlds else True
    if not held:
        say("an invariant does not hold: see above")
    sys.exit(not (held and guarded))


if __name__ == "__main__":
    main()
