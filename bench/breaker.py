"""This breaker beside others that share their circuits through Redis, measured in one run.

One embedded server, eight real processes for each library, each library through its public API
(``bench/peers.py``). What a fleet does is counted in its processes (``bench/scenes.py``); what a call
costs, at a proxy and beside a bare EVALSHA. Nothing is asserted: it is measured, and printed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench import scenes
from bench.crew import Crew, SceneError, server
from bench.faults import FAULTS, LOST_CALLS, asked_since, killed_probers, lost_servers, span
from bench.peers import IMPATIENT_SECONDS, LIBRARIES, ONE_PROBE_ONLY, OURS, OURS_ASKING, Circuit

if TYPE_CHECKING:
    from collections.abc import Callable

    Measure = Callable[[Crew, str, int], str]
    #: What a table's cells say, by library and row.
    Cells = dict[tuple[str, str], str]

PROCESSES = 8
CALL_SECONDS = 0.02
SLOW_CALL_SECONDS = 0.3
COST_CALLS = 2000
FLOOD_CALLS = 500
CLOCKS = (-600, 0, 600)
SKEW_OPEN_SECONDS = 3

# What is read off a lost server; a row for each fault.
LOST_ROWS = {
    "reached": f"of {LOST_CALLS} calls, reach a dead dependency",
    "foreign": "exceptions, its own and refusals aside",
    "longest": "longest of these calls",
    "later": "later calls, median",
    "patient": "one call; peers: redis-py's default client",
}
TABLE: dict[str, dict[str, str]] = {
    "What a call costs": {
        "trips": "round trips, closed / refused",
        "background": "besides, a second, in the background",
        "cost": "x one bare EVALSHA, closed / refused",
    },
    "A dead dependency hears (5 failures open)": {
        "staggered": "calls, never two at once (ideal 5)",
        "in step": f"calls in step, {CALL_SECONDS * 1000:.0f} ms each (at most 5 + 7)",
        "free-running": f"calls at will, {SLOW_CALL_SECONDS * 1000:.0f} ms each (at most 5 + 7)",
    },
    "Exactness": {
        "counted": f"of {PROCESSES * FLOOD_CALLS} failures at once, counted",
        "probes 1": "probes in flight where 1 is allowed",
        "probes 3": "probes in flight where 3 are allowed",
        "prober": "prober killed, another is let in after",
        "skew": f"open for, clocks {CLOCKS[-1] // 60} min off (ideal {SKEW_OPEN_SECONDS} s)",
    },
    **{
        f"The server {fault}": {f"{fault} {key}": title for key, title in LOST_ROWS.items()}
        for fault in FAULTS
    },
}
CAPTION = (
    "Ours, while a process calls often, asks the store 20 times a second for all its circuits together, and "
    "for a call only when something is wrong; 'asking' is the same in one that calls less often than that. "
    "Consecutive failures open, or a rate of 1.0 over as many calls. Peers use redis-py's default client "
    f"with hiredis; at a lost server one with a time-out of {IMPATIENT_SECONDS} s and no retries, like ours, "
    "except in the last row. The bare EVALSHA, {bare}, is a default client's, in turns with all the calls."
)


# One function a row: what its cell says.


def trips(crew: Crew, library: str, port: int) -> str:
    [(closed, refused)] = crew.run(scenes.round_trips, library, Circuit(port, "trips"))
    return f"{closed} / {refused}"


def background(crew: Crew, library: str, port: int) -> str:
    [trips] = crew.run(scenes.background_trips, library, Circuit(port, "background"))
    return f"{trips:.1f}"


def staggered(crew: Crew, library: str, port: int) -> str:
    circuit = Circuit(port, "staggered")
    return str(sum(crew.run(scenes.staggered, library, circuit, 20, CALL_SECONDS)))


def in_step(crew: Crew, library: str, port: int) -> str:
    return str(sum(crew.run(scenes.in_step, library, Circuit(port, "in-step"), 10, CALL_SECONDS)))


def free_running(crew: Crew, library: str, port: int) -> str:
    circuit = Circuit(port, "free-running")
    return str(sum(crew.run(scenes.free_running, library, circuit, 3.5, SLOW_CALL_SECONDS)))


def probes(crew: Crew, library: str, port: int, allowed: int) -> str:
    if allowed > 1 and LIBRARIES[library] in ONE_PROBE_ONLY:
        return "not settable"
    crew.tell(scenes.race, library, Circuit(port, f"probes-{allowed}", probes=allowed, open_seconds=2))
    crew.wait_for_probe()
    time.sleep(1.5)  # by then the others could have come in too, also where news takes a second
    most = crew.gear.most_in_flight.value
    crew.gear.stop.set()
    crew.answers(30)
    return str(most)


def counted(crew: Crew, library: str, port: int) -> str:
    circuit = Circuit(port, "flood", threshold=100 * FLOOD_CALLS)
    count = crew.run(scenes.flood, library, circuit, FLOOD_CALLS)[0]
    return "none shared" if count is None else str(count)


def skew(crew: Crew, library: str, port: int) -> str:
    limit = 2 * SKEW_OPEN_SECONDS
    circuit = Circuit(port, "skew", open_seconds=SKEW_OPEN_SECONDS)
    waited = sorted(itertools.chain(*crew.run(scenes.skewed, library, circuit, limit)))
    least = f"{waited[0]:.1f}" if waited[0] else "0"
    most = f"{waited[-1]:.1f}" if math.isfinite(waited[-1]) else f"over {limit}"
    return f"{least} s" if least == most else f"{least} to {most} s"


ALONE: dict[str, Measure] = {"trips": trips, "background": background}
TOGETHER: dict[str, Measure] = {
    "staggered": staggered,
    "in step": in_step,
    "free-running": free_running,
    "probes 1": functools.partial(probes, allowed=1),
    "probes 3": functools.partial(probes, allowed=3),
    "counted": counted,
}


def measured(library: str, port: int, measures: dict[str, Measure], start: Callable[[], Crew]) -> Cells:
    """These rows of one library's column, by one crew for as long as nothing goes wrong."""
    cells = {}
    with contextlib.ExitStack() as stack:
        crew = None
        for key, measure in measures.items():
            if crew is None:
                crew = stack.enter_context(start())
                crew.run(scenes.ready)
            try:
                cells[library, key] = measure(crew, library, port)
            except SceneError as error:  # that is a result too, and the end of nothing else
                cells[library, key] = f"failed: {error}"
                stack.close()
                crew = None
    return cells


def costs(port: int) -> Cells:
    """The row of the costs: all libraries in turns, in one process."""
    try:
        with Crew(1) as crew:
            [(closed, refused)] = crew.run(scenes.cost, Circuit(port, "cost"), COST_CALLS)
    except SceneError as error:
        return {(library, "cost"): f"failed: {error}" for library in LIBRARIES}
    bare = (closed.pop(scenes.BARE), refused.pop(scenes.BARE))
    cells = {(scenes.BARE, "cost"): f"{span(bare[0])} / {span(bare[1])}"}
    for library in closed:
        cells[library, "cost"] = f"{closed[library] / bare[0]:.2f} / {refused[library] / bare[1]:.2f}"
    return cells


def skewed(port: int) -> Cells:
    """The row of the clocks."""
    # Where Debian, Fedora and a build of one's own put it.
    folders = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
    found = [path for folder in folders for path in Path(folder).glob("**/faketime/libfaketime.so.1")]
    if not found:
        missing = "libfaketime not installed: apt install libfaketime"
        return {(library, "skew"): missing for library in LIBRARIES}
    environments = [
        {"LD_PRELOAD": str(found[0]), "FAKETIME": f"{seconds:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        for seconds in CLOCKS
    ]
    start = functools.partial(Crew, len(CLOCKS), environments)
    cells: Cells = {}
    for library in LIBRARIES:
        cells |= measured(library, port, {"skew": skew}, start)
    return cells


def header(library: str) -> str:
    """A library's name and version."""
    return library if library in (OURS, OURS_ASKING) else f"{library}\n{version(library)}"


def print_table(cells: Cells) -> None:
    table = Table(
        title=f"Circuit breakers shared through Redis, {PROCESSES} processes, {os.cpu_count()} cores",
        caption=CAPTION.format(bare=cells.get((scenes.BARE, "cost"))),
        caption_justify="left",
    )
    table.add_column("", no_wrap=True)
    for library in LIBRARIES:
        table.add_column(header(library), justify="right")
    for heading, rows in TABLE.items():
        table.add_section()
        table.add_row(f"[bold]{heading}")
        for key, title in rows.items():
            table.add_row(f"  {title}", *(cells.get((library, key), "") for library in LIBRARIES))
    Console(width=122).print(table)


def main() -> None:
    """Run and print."""
    cells: Cells = {}
    progress = Console(stderr=True)
    with server() as port, progress.status("") as status:
        for library in LIBRARIES:
            status.update(library)
            cells |= measured(library, port, ALONE, functools.partial(Crew, 1))
            cells |= measured(library, port, TOGETHER, functools.partial(Crew, PROCESSES))
        status.update("costs")
        cells |= costs(port)
        status.update("clocks")
        cells |= skewed(port)
        status.update("killed probers, lost servers")
        with killed_probers(port) as probers:
            cells |= lost_servers()
            cells |= {(library, "prober"): asked_since(crew) for library, crew in probers.items()}
    print_table(cells)
