"""One worker with two processes, 5 000 tasks for a dead provider, 500 of 50 ms each for a healthy one.

Three times on the same machine in the same run: the healthy tasks alone, beside this layer, beside
Celery's own ``retry(countdown)``. Counted at the broker and at the provider, outside what is measured.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tests.fleet import Fleet, Worker, fleet, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

DEAD = 5000
HEALTHY = 500
HEALTHY_SECONDS = 0.05
OPEN_SECONDS = 10
OUTAGE_SECONDS = 65
MIB = 2**20


@dataclass
class Figures:
    """What one run showed."""

    healthy_seconds: float = 0
    cleared_seconds: float = 0
    grown_mib: float = 0
    unacked: int = 0
    publications: float = 0
    calls_while_down: int = 0
    ran: int = 0
    runs: int = 0
    drained_seconds: float = 0


def unacked(run: Fleet) -> int:
    """Messages the worker holds in memory, unacknowledged."""
    return int(run.broker.hlen("unacked"))


def waiting(run: Fleet) -> int:
    """Dead tasks that wait where this way lets them wait: the lot, or the worker's memory."""
    return int(run.circuit()["parked"]) + unacked(run)


def watch(run: Fleet, worker: Worker, until: Callable[[], bool], seconds: float) -> tuple[int, int]:
    """The most memory and the most unacknowledged messages seen meanwhile."""
    memory = held = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and not until():
        memory, held = max(memory, worker.rss()), max(held, unacked(run))
        time.sleep(0.1)
    return memory, held


def measure(name: str, dead: str | None) -> Figures:
    """One run; ``dead`` names the task sent to the dead provider, if any."""
    figures = Figures()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        fleet(Path(folder), threshold=5, timeout=OPEN_SECONDS) as run,
    ):
        tasks = run.app.app.tasks
        run.mode("down")
        arguments = {"fleet.naive": (OUTAGE_SECONDS,)}.get(dead or "", ())
        for number in range(DEAD if dead else 0):
            tasks[dead].apply_async((number, *arguments), queue="work")
        for _ in range(HEALTHY):
            tasks["fleet.healthy"].apply_async((HEALTHY_SECONDS,), queue="healthy")
        before = run.publications()
        worker = run.worker("-Q", "work,healthy", name=name).ready()
        memory = worker.rss()
        started = time.monotonic()

        def healthy_done() -> bool:
            return bool(run.provider.llen("healthy") == HEALTHY)

        most, held = watch(run, worker, healthy_done, 600)
        figures.healthy_seconds = time.monotonic() - started
        if not dead:
            return figures
        ends = started + OUTAGE_SECONDS
        later, held_later = watch(run, worker, lambda: waiting(run) >= DEAD, ends - time.monotonic())
        figures.cleared_seconds = time.monotonic() - started
        last, held_last = watch(run, worker, lambda: False, ends - time.monotonic())
        later, held_later = max(later, last), max(held_later, held_last)
        figures.grown_mib = (max(most, later) - memory) / MIB
        figures.unacked = max(held, held_later)
        figures.calls_while_down = len(run.calls()) or int(run.provider.llen("published"))
        run.mode("ok")
        mended = time.monotonic()
        wait_for(lambda: len(set(run.done())) == DEAD, 600, "the backlog drains")
        figures.drained_seconds = time.monotonic() - mended
        figures.publications = (DEAD + run.publications() - before) / DEAD
        figures.runs, figures.ran = len(run.done()), len(set(run.done()))
    return figures


def main() -> None:
    """Run and print."""
    alone = measure("alone", None)
    ours = measure("ours", "fleet.fetch")
    naive = measure("naive", "fleet.naive")
    table = Table(
        title=f"{DEAD} tasks for a dead provider ({OUTAGE_SECONDS} s, open {OPEN_SECONDS} s) "
        f"beside {HEALTHY} healthy ones of {HEALTHY_SECONDS * 1000:.0f} ms, one worker, two processes"
    )
    for column in ("", "healthy alone", "this layer", "retry(countdown)"):
        table.add_column(column, justify="left" if not column else "right")
    base = alone.healthy_seconds
    rows = (
        ("healthy tasks done after (s)", base, ours.healthy_seconds, naive.healthy_seconds, ".1f"),
        ("  x the time alone", 1, ours.healthy_seconds / base, naive.healthy_seconds / base, ".2f"),
        ("all dead tasks set aside after (s)", None, ours.cleared_seconds, naive.cleared_seconds, ".1f"),
        ("main process grew by (MiB)", None, ours.grown_mib, naive.grown_mib, ".1f"),
        ("most held unacknowledged", None, ours.unacked, naive.unacked, "d"),
        ("publications per dead task", None, ours.publications, naive.publications, ".3f"),
        ("calls or runs while it was down", None, ours.calls_while_down, naive.calls_while_down, "d"),
        ("tasks that ran in the end", None, ours.ran, naive.ran, "d"),
        ("times they ran", None, ours.runs, naive.runs, "d"),
        ("backlog drained after (s)", None, ours.drained_seconds, naive.drained_seconds, ".1f"),
    )
    for title, *values, shape in rows:
        table.add_row(title, *("" if value is None else format(value, shape) for value in values))
    Console(width=110).print(table)
