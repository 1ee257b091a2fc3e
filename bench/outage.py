"""An outage of three open periods: 20 000 tasks for a dead provider, others of 50 ms each for a healthy one.

One worker with two processes. The healthy tasks alone, beside this layer, beside Celery's own
``retry(countdown)``, which is told how long the outage will last; then, with dead tasks only, how fast each
way sets them aside. All on the same machine in the same run, with result states and events on; counted at
the broker and at the provider, outside what is measured.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.findings import Findings, Promise, Table
from tests.fleet import Fleet, Worker, fleet, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

TASKS = 20_000
HEALTHY = 1000
HEALTHY_SECONDS = 0.05
PERIODS = 3
OPEN_SECONDS = 50
OUTAGE_SECONDS = PERIODS * OPEN_SECONDS
# How fast they are set aside is measured with fewer, and more than once.
RATE_PART = 4
RATE_RUNS = 3
PATIENCE_SECONDS = 900
MIB = 2**20
THRESHOLD = 5
# Another call can be under way in the other process of the pool when the last failure opens the circuit.
IN_FLIGHT = 1
# What is promised.
HEALTHY_LIMIT = 1.05
GROWTH_LIMIT_MB = 5
RATE_LEAST = 2
RATE_GOAL = 5


@dataclass
class Figures:
    """What one run showed."""

    healthy_seconds: float = 0
    cleared_seconds: float = 0
    grown_mib: float = 0
    pool_grown_mib: float = 0
    unacked: int = 0
    publications: float = 0
    beyond_two: int = 0
    calls_while_down: int = 0
    probes: int | None = None
    ran: int = 0
    runs: int = 0
    drained_seconds: float = 0


class Peaks:
    """The most seen of a worker, looked at again and again.

    Args:
        run: Its fleet.
        worker: The worker, ready.
    """

    def __init__(self, run: Fleet, worker: Worker) -> None:
        self.run, self.worker = run, worker
        self.main_at_first, self.pool_at_first = worker.rss(), worker.pool_rss()
        self.main = self.pool = self.unacked = 0

    def look(self) -> None:
        """Once."""
        self.main = max(self.main, self.worker.rss())
        self.pool = max(self.pool, self.worker.pool_rss())
        self.unacked = max(self.unacked, unacked(self.run))

    def until(self, ends: float, condition: Callable[[], bool] = lambda: False) -> None:
        """Until a condition holds, or it is that late on the monotonic clock."""
        while time.monotonic() < ends and not condition():
            self.look()
            time.sleep(0.1)


def unacked(run: Fleet) -> int:
    """Messages the worker holds in memory, unacknowledged."""
    return int(run.broker.hlen("unacked"))


def set_aside(run: Fleet, dead: str) -> int:
    """Dead tasks that wait where this way lets them wait: in the lot, or published again for later."""
    if dead == "fleet.fetch":
        return int(run.circuit()["parked"])
    return int(run.provider.llen("published"))


def send(run: Fleet, dead: str, tasks: int) -> None:
    """So many tasks for a provider that is down."""
    run.mode("down")
    arguments = (OUTAGE_SECONDS,) if dead == "fleet.naive" else ()
    with run.app.app.producer_or_acquire() as producer:
        for number in range(tasks):
            run.app.app.tasks[dead].apply_async((number, *arguments), queue="work", producer=producer)


def send_healthy(run: Fleet) -> None:
    """The tasks whose provider is well."""
    for _ in range(HEALTHY):
        run.app.app.tasks["fleet.healthy"].apply_async((HEALTHY_SECONDS,), queue="healthy")


def healthy_done(run: Fleet) -> bool:
    """Whether all of them are."""
    return bool(run.provider.llen("healthy") == HEALTHY)


def alone() -> float:
    """Seconds the healthy tasks take by themselves."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, fleet(Path(folder)) as run:
        send_healthy(run)
        run.worker("-Q", "work,healthy").ready()
        started = time.monotonic()
        wait_for(lambda: healthy_done(run), PATIENCE_SECONDS, "the healthy tasks are done")
        return time.monotonic() - started


def measure(dead: str, tasks: int) -> Figures:
    """One outage, and the return from it; ``dead`` names the task sent to the dead provider."""
    figures = Figures()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        fleet(Path(folder), threshold=THRESHOLD, timeout=OPEN_SECONDS) as run,
    ):
        send(run, dead, tasks)
        send_healthy(run)
        before = run.publications()
        worker = run.worker("-Q", "work,healthy").ready()
        peaks = Peaks(run, worker)
        started = time.monotonic()
        ends = started + OUTAGE_SECONDS
        peaks.until(started + PATIENCE_SECONDS, lambda: healthy_done(run))
        figures.healthy_seconds = time.monotonic() - started
        peaks.until(started + PATIENCE_SECONDS, lambda: set_aside(run, dead) >= tasks - THRESHOLD)
        figures.cleared_seconds = time.monotonic() - started
        first = len(run.calls())  # before the first probe, unless they took an open period to set aside
        peaks.until(ends)
        figures.grown_mib = (peaks.main - peaks.main_at_first) / MIB
        figures.pool_grown_mib = (peaks.pool - peaks.pool_at_first) / MIB
        figures.unacked = peaks.unacked
        figures.calls_while_down = len(run.calls()) or int(run.provider.llen("published"))
        if dead == "fleet.fetch" and figures.cleared_seconds < OPEN_SECONDS:
            figures.probes = len(run.calls()) - first
        run.mode("ok")
        mended = time.monotonic()
        wait_for(lambda: len(set(run.done())) == tasks, PATIENCE_SECONDS, "the backlog drains")
        figures.drained_seconds = time.monotonic() - mended
        published = tasks + run.publications() - before
        figures.publications = published / tasks
        figures.beyond_two = max(0, published - 2 * tasks)
        figures.runs, figures.ran = len(run.done()), len(set(run.done()))
    return figures


def rate(dead: str, tasks: int) -> float:
    """Dead tasks set aside a second, from when the worker is ready, nothing else to do."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        fleet(Path(folder), threshold=THRESHOLD, timeout=PATIENCE_SECONDS) as run,
    ):
        send(run, dead, tasks)
        run.worker().ready()
        first, started = set_aside(run, dead), time.monotonic()
        wait_for(lambda: set_aside(run, dead) == tasks, PATIENCE_SECONDS, "all are set aside")
        return (tasks - first) / (time.monotonic() - started)


def promises(
    tasks: int, base: float, ours: Figures, naive: Figures, rates: list[tuple[float, float]]
) -> list[Promise]:
    """What is promised of an outage; ``rates`` are ours and Celery's, set aside a second, of each run."""
    by_retry = "`retry(countdown)`: {}".format
    slower, naive_slower = ours.healthy_seconds / base, naive.healthy_seconds / base
    grown, pool_grown, naive_grown, naive_pool = (
        mib * MIB / 1e6
        for mib in (ours.grown_mib, ours.pool_grown_mib, naive.grown_mib, naive.pool_grown_mib)
    )
    times = median(a / b for a, b in rates)
    our_rate, naive_rate = (median(one) for one in zip(*rates, strict=True))
    faster = f"{times:.1f} x: {our_rate:.0f} a second"
    slowly = by_retry(f"{naive_rate:.0f} a second")
    probes = "untold" if ours.probes is None else ours.probes
    bounds = None if ours.probes is None else (ours.probes, THRESHOLD + IN_FLIGHT + ours.probes)
    return [
        Promise(
            "Healthy tasks beside an outage, x the time they take alone",
            f"≤ {HEALTHY_LIMIT}",
            f"{slower:.2f}",
            slower <= HEALTHY_LIMIT,
            by_retry(f"{naive_slower:.2f}"),
        ),
        Promise(
            "A worker's main process grows by",
            f"≤ {GROWTH_LIMIT_MB} MB",
            f"{grown:.1f} MB; its two pool processes, {pool_grown:.1f} MB",
            grown <= GROWTH_LIMIT_MB,
            by_retry(f"{naive_grown:.0f} MB; {naive_pool:.0f} MB"),
        ),
        Promise(
            "Publications of a dead task",
            "≤ 2 each, and 1 for each failed probe",
            f"{ours.publications:.4f}: {ours.beyond_two} beyond two each, failed probes: {probes}",
            bounds and ours.beyond_two <= bounds[0],
            by_retry(f"{naive.publications:.4f}, and {naive.unacked:,} held unacknowledged"),
        ),
        Promise(
            "Calls a dead provider hears",
            f"≤ {THRESHOLD}, {IN_FLIGHT} in flight, and the failed probes",
            f"{ours.calls_while_down}, failed probes: {probes}",
            bounds and ours.calls_while_down <= bounds[1],
            by_retry(f"{naive.calls_while_down:,} runs"),
        ),
        Promise(
            "Each dead task runs in the end, once",
            f"{tasks:,}, {tasks:,} times",
            f"{ours.ran:,}, {ours.runs:,} times",
            ours.ran == ours.runs == tasks,
            by_retry(f"{naive.ran:,}, {naive.runs:,} times"),
        ),
        Promise("Dead tasks set aside", f"≥ {RATE_LEAST} x retry", faster, times >= RATE_LEAST, slowly),
        Promise("The same, as a goal", f"≥ {RATE_GOAL} x retry", faster, times >= RATE_GOAL, slowly),
    ]


def main(tasks: int = TASKS) -> Findings:
    """An outage of each way."""
    base = alone()
    ours = measure("fleet.fetch", tasks)
    naive = measure("fleet.naive", tasks)
    part = tasks // RATE_PART
    rates = [(rate("fleet.fetch", part), rate("fleet.naive", part)) for _ in range(RATE_RUNS)]
    our_rate, naive_rate = (median(one) for one in zip(*rates, strict=True))
    rows = (
        ("healthy tasks done after (s)", base, ours.healthy_seconds, naive.healthy_seconds, ".1f"),
        ("x the time alone", 1, ours.healthy_seconds / base, naive.healthy_seconds / base, ".2f"),
        ("all dead tasks set aside after (s)", None, ours.cleared_seconds, naive.cleared_seconds, ".1f"),
        ("main process grew by (MiB)", None, ours.grown_mib, naive.grown_mib, ".1f"),
        ("its two pool processes grew by (MiB)", None, ours.pool_grown_mib, naive.pool_grown_mib, ".1f"),
        ("most held unacknowledged", None, ours.unacked, naive.unacked, ",d"),
        ("publications per dead task", None, ours.publications, naive.publications, ".4f"),
        ("publications beyond two each", None, ours.beyond_two, naive.beyond_two, ",d"),
        ("failed probes", None, ours.probes, None, "d"),
        ("calls or runs while it was down", None, ours.calls_while_down, naive.calls_while_down, ",d"),
        ("tasks that ran in the end", None, ours.ran, naive.ran, ",d"),
        ("times they ran", None, ours.runs, naive.runs, ",d"),
        ("backlog drained after (s)", None, ours.drained_seconds, naive.drained_seconds, ".1f"),
        (f"set aside a second, {part:,} dead tasks alone", None, our_rate, naive_rate, ",.0f"),
    )
    cells = [
        [title, *("" if value is None else format(value, shape) for value in values)]
        for title, *values, shape in rows
    ]
    each = ", ".join(f"{a / b:.2f}" for a, b in rates)
    return Findings(
        "An outage",
        "One worker with two processes: the healthy tasks alone, beside this layer, beside Celery's own "
        "`retry(countdown)`, which is told how long the outage will last; then, with dead tasks only, how "
        f"fast each way sets them aside, the median of {RATE_RUNS} runs.",
        [
            Table(
                ["", "healthy alone", "this layer", "`retry(countdown)`"],
                [*cells, ["x `retry(countdown)`, each run", "", each, "1"]],
                f"{tasks:,} tasks for a dead provider ({PERIODS} open periods of {OPEN_SECONDS} s) "
                f"beside {HEALTHY:,} healthy ones of {HEALTHY_SECONDS * 1000:.0f} ms",
            )
        ],
        promises(tasks, base, ours, naive, rates),
    )
