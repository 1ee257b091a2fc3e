"""How a provider comes back: how soon it is called, at what pace, and whether it bears it.

Real workers, and a provider that keeps its own record of when it was called. Three scenes:
    soon      the provider is well again at some moment of an open period, or right after a failed probe
    pace      a lot drains under a quota
    fragile   a provider that collapses above 50 calls a second, with a full lot and fresh tasks on top
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.fleet import Fleet, fleet, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

TASKS = 20_000
OPEN_SECONDS = 3
RETURNS = 10
RETURNING = 200
# Calls, seconds, burst.
QUOTAS = ((20, 1, 1), (40, 1, 5), (100, 1, 10), (300, 60, 5))
PACED_SECONDS = 30
LIMIT = 50
FRAGILE_SECONDS = 60
FRESH_A_SECOND = 10
RAMP = {"ramp_calls": 5}
MICROSECONDS = 1_000_000
PATIENCE_SECONDS = 300


def times(run: Fleet) -> list[float]:
    """When the provider was called, in seconds on its own clock."""
    return [int(micros) / MICROSECONDS for micros in run.provider.lrange("times:dead", 0, -1)]


def most_within(seen: Sequence[float], seconds: float) -> int:
    """The most calls in any window of that length."""
    return max(place - bisect_right(seen, at - seconds) for place, at in enumerate(seen, 1))


def park(run: Fleet, tasks: int) -> None:
    """An outage with that many tasks in the lot; what was called is forgotten."""
    run.mode("down")
    with run.app.app.producer_or_acquire() as producer:
        for number in range(tasks):
            run.app.fetch.apply_async((number,), producer=producer)
    wait_for(lambda: run.circuit()["parked"] >= tasks, PATIENCE_SECONDS, "all are parked")


def soon() -> list[float]:
    """Seconds from the provider's return to its first success, at different moments."""
    chance = random.Random(4)  # noqa: S311 - spreads moments over an open period
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        fleet(Path(folder), threshold=5, timeout=OPEN_SECONDS) as run,
    ):
        run.worker().ready()
        for number in range(RETURNS):
            park(run, RETURNING)
            trips = run.circuit()["trips_total"]
            wait_for(lambda trips=trips: run.circuit()["trips_total"] > trips, 30, "a failed probe")
            if number:  # the first time right then: that is the longest there is to wait
                moment = time.monotonic() + chance.random() * OPEN_SECONDS
                wait_for(lambda moment=moment: time.monotonic() >= moment, 30, "the moment")
            before = run.provider.llen("done")
            run.mode("ok")
            mended = time.monotonic()
            wait_for(lambda before=before: run.provider.llen("done") > before, 30, "a success")
            found.append(time.monotonic() - mended)
            wait_for(lambda: run.circuit()["parked"] == 0 and run.queued() == 0, 60, "the lot empties")
    return found


@dataclass
class Pace:
    """What a provider with a quota saw while a lot drained."""

    reached: float
    windows: dict[float, tuple[int, float]]


def pace(calls: int, seconds: float, burst: int) -> Pace:
    """Drain a lot under a quota."""
    allowed = calls / seconds
    tasks = round(allowed * PACED_SECONDS)
    policy = {"quota_calls": calls, "quota_seconds": seconds, "quota_burst": burst}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        fleet(Path(folder), threshold=3, timeout=OPEN_SECONDS, policy=json.dumps(policy)) as run,
    ):
        run.worker().ready()
        park(run, tasks)
        run.mode("ok")
        begun = len(times(run))
        wait_for(lambda: len(set(run.done())) == tasks, PATIENCE_SECONDS, "the lot drains")
        seen = times(run)
        drained = seen[begun:]
        reached = (len(drained) - 1) / (drained[-1] - drained[0]) / allowed
        lengths = sorted({1.0, 5.0, float(seconds)})
        windows = {length: (most_within(seen, length), allowed * length + burst) for length in lengths}
    return Pace(reached, windows)


@dataclass
class Return:
    """What a fragile provider went through."""

    trips: int
    collapses: int
    most: int
    median: float
    done: int
    failed: int
    fresh: int
    fresh_done: int


def fragile(tasks: int, policy: dict[str, float]) -> Return:
    """Watch the first minute of a return."""
    policy = {"max_parked": max(tasks * 2, 1000), **policy}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        fleet(Path(folder), threshold=5, timeout=OPEN_SECONDS, policy=json.dumps(policy)) as run,
    ):
        run.worker().ready()
        park(run, tasks)
        run.provider.set("limit:dead", LIMIT)
        run.mode("ok")
        wait_for(run.done, 30, "the provider is back")
        trips, begun = run.circuit()["trips_total"], len(times(run))
        started = time.monotonic()
        fresh = []
        while (now := time.monotonic() - started) < FRAGILE_SECONDS:
            if len(fresh) < now * FRESH_A_SECOND:
                fresh.append(run.app.fetch.delay(0).id)
            time.sleep(0.01)
        seen = times(run)[begun:]
        by_second = Counter(int(at - seen[0]) for at in seen)
        done = set(run.done())
        circuit = run.circuit()
        return Return(
            trips=circuit["trips_total"] - trips,
            collapses=int(run.provider.get("collapses:dead") or 0),
            most=most_within(seen, 1),
            median=sorted(by_second.values())[len(by_second) // 2],
            done=len(done),
            failed=tasks + len(fresh) - len(done) - circuit["parked"] - run.queued(),
            fresh=len(fresh),
            fresh_done=len(done & set(fresh)),
        )


def main(tasks: int = TASKS) -> None:
    """Run and print."""
    console = Console(width=110)
    found = sorted(soon())
    console.print(
        f"First success after the provider's return, open for {OPEN_SECONDS} s, {RETURNS} times: at most "
        f"{found[-1]:.2f} s, median {found[len(found) // 2]:.2f} s",
        highlight=False,
    )
    table = Table(title="A lot drains under a quota, at the provider")
    for column in ("quota", "of the allowed rate", "most calls in a window (rate x window + burst)"):
        table.add_column(column, justify="right")
    for quota in QUOTAS:
        seen = pace(*quota)
        told = ", ".join(
            f"{most} in {length:.0f} s ({allowed:.0f})" for length, (most, allowed) in seen.windows.items()
        )
        calls, seconds, burst = quota
        table.add_row(f"{calls} in {seconds} s, burst {burst}", f"{seen.reached:.0%}", told)
    console.print(table)
    table = Table(
        title=f"The first {FRAGILE_SECONDS} s with a provider that collapses above {LIMIT} calls a second, "
        f"{tasks} parked, {FRESH_A_SECOND} fresh a second"
    )
    for column in (
        "policy",
        "trips",
        "collapses",
        "most in 1 s",
        "median a second",
        "done",
        "fresh done",
        "lost",
    ):
        table.add_column(column, justify="left" if column == "policy" else "right")
    # What it can bear is known and given; is not known, and felt for; or nobody cares.
    policies = {
        "quota of 45 a second, burst 4": {"quota_calls": 45, "quota_seconds": 1, "quota_burst": 4},
        "and ramp_calls=5": {"quota_calls": 45, "quota_seconds": 1, "quota_burst": 4, **RAMP},
        "ramp_calls=5 alone": RAMP,
        "none": {},
    }
    for name, policy in policies.items():
        seen = fragile(tasks, policy)
        cells = (
            seen.trips,
            seen.collapses,
            seen.most,
            seen.median,
            seen.done,
            f"{seen.fresh_done}/{seen.fresh}",
            seen.failed,
        )
        table.add_row(name, *(str(cell) for cell in cells))
    console.print(table)
