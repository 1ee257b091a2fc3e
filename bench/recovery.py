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

from bench.findings import Findings, Promise, Table
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
# What it can bear is known and given; is not known, and felt for; or nobody cares.
BEARABLE = {"quota_calls": 45, "quota_seconds": 1, "quota_burst": 4}
NO_POLICY = "neither quota nor ramp"
POLICIES: dict[str, dict[str, float]] = {
    "a quota of 45 a second, burst 4": BEARABLE,
    "the same with `ramp_calls=5`": {**BEARABLE, **RAMP},
    "`ramp_calls=5` alone": RAMP,
    NO_POLICY: {},
}
# What is promised.
SOON_SECONDS = 2
PACE_LEAST = 0.9
NOTES = (
    (
        "A released task takes some hundredths of a second to its call. So it may take its turn a tenth of "
        "a second ahead, and waits for it in its process."
    ),
    (
        "A ramp alone finds out what a provider bears: at a failure it stops for a second, goes on at half "
        "the pace and doubles more rarely. A quota, where it is known, is better. What has waited goes "
        "first, so fresh tasks wait for their turn."
    ),
)


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


def promises(waited: list[float], paces: list[Pace], returns: dict[str, Return]) -> list[Promise]:
    """What is promised of a return."""
    windows = [
        (most / allowed, f"{most} in {length:.0f} s ({allowed:.0f})")
        for seen in paces
        for length, (most, allowed) in seen.windows.items()
    ]
    fullest, told = max(windows)
    slowest = min(seen.reached for seen in paces)
    careless = returns[NO_POLICY]
    trips = {name: seen.trips for name, seen in returns.items() if name != NO_POLICY}
    return [
        Promise(
            "First success after a provider's return",
            f"≤ the open time and {SOON_SECONDS} s",
            f"{max(waited):.2f} s",
            max(waited) <= OPEN_SECONDS + SOON_SECONDS,
            f"the open time alone: {OPEN_SECONDS} s",
        ),
        Promise(
            "Of the allowed rate, a lot drains at",
            f"≥ {PACE_LEAST:.0%}",
            f"{slowest:.0%}, the least of {len(paces)} quotas",
            slowest >= PACE_LEAST,
        ),
        Promise(
            "Most calls in a window, at the provider",
            "≤ rate x window + burst",
            f"{told}, the fullest of {len(windows)}",
            fullest <= 1,
            f"with {NO_POLICY}, where {LIMIT} in 1 s are borne: {careless.most}",
        ),
        Promise(
            f"A provider that collapses above {LIMIT} calls a second, with a full lot, is tripped again",
            "0 times",
            ", ".join(f"{count} ({name})" for name, count in trips.items()),
            not any(trips.values()),
            f"with {NO_POLICY}: {careless.trips} times",
        ),
    ]


def main(tasks: int = TASKS) -> Findings:
    """The three scenes."""
    waited = sorted(soon())
    paces = [pace(*quota) for quota in QUOTAS]
    returns = {name: fragile(tasks, policy) for name, policy in POLICIES.items()}
    drained = [
        [
            f"{calls} in {seconds} s, burst {burst}",
            f"{seen.reached:.0%}",
            ", ".join(
                f"{most} in {length:.0f} s ({allowed:.0f})"
                for length, (most, allowed) in seen.windows.items()
            ),
        ]
        for (calls, seconds, burst), seen in zip(QUOTAS, paces, strict=True)
    ]
    returned = [
        [
            name,
            *map(str, (seen.trips, seen.collapses, seen.most, seen.median)),
            *(f"{seen.done:,}", f"{seen.fresh_done}/{seen.fresh}", str(seen.failed)),
        ]
        for name, seen in returns.items()
    ]
    return Findings(
        "How a provider comes back",
        f"Open for {OPEN_SECONDS} s, the provider well again at {RETURNS} moments, the first right after a "
        f"failed probe: the first success came at most {waited[-1]:.2f} s later, half of them within "
        f"{waited[len(waited) // 2]:.2f} s.",
        [
            Table(
                ["quota", "of the allowed rate", "most calls in a window (rate x window + burst)"],
                drained,
                "A lot drains under a quota, as the provider saw it",
            ),
            Table(
                [
                    *("policy", "tripped again", "collapses", "most in 1 s", "median a second"),
                    *("done", "fresh done", "lost"),
                ],
                returned,
                f"The first {FRAGILE_SECONDS} s of a provider that collapses for a second whenever it gets "
                f"more than {LIMIT} calls in one, with {tasks:,} parked and {FRESH_A_SECOND} fresh a second",
            ),
        ],
        promises(waited, paces, returns),
        list(NOTES),
    )
