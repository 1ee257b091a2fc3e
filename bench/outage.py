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

from rich.console import Console
from rich.table import Table

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
        fleet(Path(folder), threshold=5, timeout=OPEN_SECONDS) as run,
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
        peaks.until(started + PATIENCE_SECONDS, lambda: set_aside(run, dead) >= tasks - 5)
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
        fleet(Path(folder), threshold=5, timeout=PATIENCE_SECONDS) as run,
    ):
        send(run, dead, tasks)
        run.worker().ready()
        first, started = set_aside(run, dead), time.monotonic()
        wait_for(lambda: set_aside(run, dead) == tasks, PATIENCE_SECONDS, "all are set aside")
        return (tasks - first) / (time.monotonic() - started)


def main(tasks: int = TASKS) -> None:
    """Run and print."""
    base = alone()
    ours = measure("fleet.fetch", tasks)
    naive = measure("fleet.naive", tasks)
    part = tasks // RATE_PART
    rates = [(rate("fleet.fetch", part), rate("fleet.naive", part)) for _ in range(RATE_RUNS)]
    our_rate, naive_rate = (median(one) for one in zip(*rates, strict=True))
    table = Table(
        title=f"{tasks} tasks for a dead provider ({PERIODS} open periods of {OPEN_SECONDS} s) "
        f"beside {HEALTHY} healthy ones of {HEALTHY_SECONDS * 1000:.0f} ms, one worker, two processes"
    )
    for column in ("", "healthy alone", "this layer", "retry(countdown)"):
        table.add_column(column, justify="left" if not column else "right")
    rows = (
        ("healthy tasks done after (s)", base, ours.healthy_seconds, naive.healthy_seconds, ".1f"),
        ("  x the time alone", 1, ours.healthy_seconds / base, naive.healthy_seconds / base, ".2f"),
        ("all dead tasks set aside after (s)", None, ours.cleared_seconds, naive.cleared_seconds, ".1f"),
        ("main process grew by (MiB)", None, ours.grown_mib, naive.grown_mib, ".1f"),
        ("its two pool processes grew by (MiB)", None, ours.pool_grown_mib, naive.pool_grown_mib, ".1f"),
        ("most held unacknowledged", None, ours.unacked, naive.unacked, "d"),
        ("publications per dead task", None, ours.publications, naive.publications, ".4f"),
        ("  publications beyond two each", None, ours.beyond_two, naive.beyond_two, "d"),
        ("  failed probes", None, ours.probes, None, "d"),
        ("calls or runs while it was down", None, ours.calls_while_down, naive.calls_while_down, "d"),
        ("tasks that ran in the end", None, ours.ran, naive.ran, "d"),
        ("times they ran", None, ours.runs, naive.runs, "d"),
        ("backlog drained after (s)", None, ours.drained_seconds, naive.drained_seconds, ".1f"),
        (f"set aside a second, {part} dead tasks alone", None, our_rate, naive_rate, ".0f"),
    )
    for title, *values, shape in rows:
        table.add_row(title, *("" if value is None else format(value, shape) for value in values))
    table.add_row("  x retry(countdown), each run", "", ", ".join(f"{a / b:.2f}" for a, b in rates), "1")
    Console(width=110).print(table)
