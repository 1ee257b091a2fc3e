"""The live table of a local run: one row a provider, once a second."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resilience import get_circuit_breaker, publishing
from resilience.breaker import span
from resilience.operations.screen import cell
from resilience.operations.words import COLOURS, next_try
from tasks import last_good
from tasks.providers import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from workers.run import Run

# Without a terminal to draw on, a table every so often.
PLAIN_SECONDS = 10.0
MINUTE = 60.0


class Rates:
    """Calls in the last minute, from the store's counters."""

    def __init__(self) -> None:
        self.samples: dict[str, deque[tuple[float, int]]] = {}

    def per_minute(self, service: str, total: int) -> float:
        """Add a sample; the slope over what is kept."""
        now = time.monotonic()
        kept = self.samples.setdefault(service, deque())
        kept.append((now, total))
        while now - kept[0][0] > MINUTE:
            kept.popleft()
        (then, before) = kept[0]
        return (total - before) * MINUTE / max(now - then, 1.0)


def show(run: Run, console: Console) -> None:
    """Draw until something ends or the user interrupts."""
    rates = Rates()
    if console.is_terminal:
        with Live(picture(run, rates), console=console, auto_refresh=False) as live:
            while not run.dead():
                time.sleep(1)
                live.update(picture(run, rates), refresh=True)
        return
    while not run.dead():
        console.print(picture(run, rates))
        time.sleep(PLAIN_SECONDS)


def picture(run: Run, rates: Rates) -> Group:
    """The table and what to do next."""
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("provider", "circuit", "why", "next try", "parked", "last good, age", "per min"):
        table.add_column(
            column,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if column in ("parked", "per min") else "left",
        )
    states = {row["service"]: row for row in publishing.states()}
    kept = last_good.by_provider()
    for service in PROVIDERS:
        row = states.get(service) or get_circuit_breaker(service).get_state()
        cells = (
            service,
            Text(row["state"], COLOURS[row["state"]]),
            row["reason"] or "",
            next_try(row["retry_at"], row["reason"]) if row["state"] != "closed" else "",
            row["parked"] or "",
            _last_good(kept.get(service)),
            f"{rates.per_minute(service, row['allowed_total']):.0f}",
        )
        table.add_row(*map(cell, cells))
    return Group(table, Text(), _advice(run))


def _last_good(found: tuple[str, float] | None) -> str:
    return f"{found[0]} {span(found[1])}" if found else "none yet"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _advice(run: Run) -> Text:
    shown, more = run.simulated & run.scheduled, len(run.simulated - run.scheduled)
    real = [name for name, row in PROVIDERS.items() if not row.retired and name not in run.simulated]
    first = max(shown, default="")
    celery = ".venv/bin/celery -A workers"
    flower = f"http://127.0.0.1:{run.config.flower_port}"
    lines = [
        f"circuits   {flower}/circuits",
        f"Flower     {flower}",
        f"states     {flower}/circuit-breakers",
        f"simulated  {_listed(shown)}{f', and of {more} more an example a minute' if more else ''}",
        f"real       {_listed(real)}",
        *([f"break one  {celery} simulate {first} down"] if first else []),
        *([f"mend it    {celery} simulate {first} ok"] if first else []),
        f"read       {celery} latest quote AAPL",
        *([f"go real    put {first.upper()}_API_KEY=... into .env and start again"] if first else []),
        f"logs       {run.config.state_dir / 'logs'}",
        "stop       Ctrl-C",
    ]
    return Text("\n".join(lines), style="dim", no_wrap=True, overflow="ignore")
