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
import operator
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench import scenes
from bench.crew import Crew, SceneError, server
from bench.faults import (
    FAULTS,
    LOST_CALLS,
    PROBER_CALL_SECONDS,
    asked_since,
    killed_probers,
    lost_servers,
    span,
)
from bench.findings import Cell, Findings, Promise, Table
from bench.peers import IMPATIENT_SECONDS, LIBRARIES, ONE_PROBE_ONLY, OURS, OURS_ASKING, Circuit
from resilience import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Measure = Callable[[Crew, str, int], Cell]
    #: What a table's cells say, by library and row.
    Cells = dict[tuple[str, str], Cell]

BOTH = (OURS, OURS_ASKING)
PROCESSES = 8
CALL_SECONDS = 0.02
SLOW_CALL_SECONDS = 0.3
COST_CALLS = 2000
FLOOD_CALLS = 500
CLOCKS = (-600, 0, 600)
SKEW_OPEN_SECONDS = 3
THRESHOLD = Circuit.threshold
# At best, and where every other process has a call under way when the last failure opens the circuit.
AT_MOST = THRESHOLD + PROCESSES - 1
# What is promised.
TRIPS = (2, 1)
ASKING_LIMIT = 2.2
BUSY_LIMIT = 0.5
LONGEST_LIMIT = 0.25
LATER_LIMIT = 0.0001
# How long a killed prober keeps its place; its bystander asks twenty times a second.
LEASE_SECONDS = Policy(call_seconds=PROBER_CALL_SECONDS).lease_micros(probe=True) / 1_000_000
ASKS_EVERY_SECONDS = 0.05
# How exactly it can be told when a circuit opened and when it was found to let somebody in.
SKEW_TOLERANCE = 0.1

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
    f"A dead dependency hears ({THRESHOLD} failures open)": {
        "staggered": f"calls, never two at once (ideal {THRESHOLD})",
        "in step": f"calls in step, {CALL_SECONDS * 1000:.0f} ms each (at most {AT_MOST})",
        "free-running": f"calls at will, {SLOW_CALL_SECONDS * 1000:.0f} ms each (at most {AT_MOST})",
    },
    "Exactness": {
        "counted": f"of {PROCESSES * FLOOD_CALLS:,} failures at once, counted",
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
NOTE = (
    "Ours, while a process calls often, asks the store 20 times a second for all its circuits together, and "
    "for a call only when something is wrong; 'asking' is the same in one that calls less often than that. "
    "Consecutive failures open, or a rate of 1.0 over as many calls. Peers use redis-py's default client "
    f"with hiredis; at a lost server one with a time-out of {IMPATIENT_SECONDS} s and no retries, like ours, "
    "except in the last row. The bare EVALSHA, {bare}, is a default client's, in turns with all the calls."
)


# One function a row: what its cell says.


def trips(crew: Crew, library: str, port: int) -> Cell:
    [(closed, refused)] = crew.run(scenes.round_trips, library, Circuit(port, "trips"))
    return Cell(f"{closed} / {refused}", (closed, refused))


def background(crew: Crew, library: str, port: int) -> Cell:
    [trips] = crew.run(scenes.background_trips, library, Circuit(port, "background"))
    return Cell(f"{trips:.1f}", trips)


def counting(calls: int) -> Cell:
    return Cell(f"{calls:,}", calls)


def staggered(crew: Crew, library: str, port: int) -> Cell:
    circuit = Circuit(port, "staggered")
    return counting(sum(crew.run(scenes.staggered, library, circuit, 20, CALL_SECONDS)))


def in_step(crew: Crew, library: str, port: int) -> Cell:
    return counting(sum(crew.run(scenes.in_step, library, Circuit(port, "in-step"), 10, CALL_SECONDS)))


def free_running(crew: Crew, library: str, port: int) -> Cell:
    circuit = Circuit(port, "free-running")
    return counting(sum(crew.run(scenes.free_running, library, circuit, 3.5, SLOW_CALL_SECONDS)))


def probes(crew: Crew, library: str, port: int, allowed: int) -> Cell:
    if allowed > 1 and LIBRARIES[library] in ONE_PROBE_ONLY:
        return Cell("not settable")
    crew.tell(scenes.race, library, Circuit(port, f"probes-{allowed}", probes=allowed, open_seconds=2))
    crew.wait_for_probe()
    time.sleep(1.5)  # by then the others could have come in too, also where news takes a second
    most = crew.gear.most_in_flight.value
    crew.gear.stop.set()
    crew.answers(30)
    return counting(most)


def counted(crew: Crew, library: str, port: int) -> Cell:
    circuit = Circuit(port, "flood", threshold=100 * FLOOD_CALLS)
    count = crew.run(scenes.flood, library, circuit, FLOOD_CALLS)[0]
    return Cell("none shared") if count is None else counting(count)


def skew(crew: Crew, library: str, port: int) -> Cell:
    limit = 2 * SKEW_OPEN_SECONDS
    circuit = Circuit(port, "skew", open_seconds=SKEW_OPEN_SECONDS)
    waited = sorted(itertools.chain(*crew.run(scenes.skewed, library, circuit, limit)))
    least = f"{waited[0]:.1f}" if waited[0] else "0"
    most = f"{waited[-1]:.1f}" if math.isfinite(waited[-1]) else f"over {limit}"
    return Cell(f"{least} s" if least == most else f"{least} to {most} s", (waited[0], waited[-1]))


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
                cells[library, key] = Cell.failed(error)
                stack.close()
                crew = None
    return cells


def costs(port: int) -> Cells:
    """The row of the costs: all libraries in turns, in one process."""
    try:
        with Crew(1) as crew:
            [(closed, refused)] = crew.run(scenes.cost, Circuit(port, "cost"), COST_CALLS)
    except SceneError as error:
        return {(library, "cost"): Cell.failed(error) for library in (*LIBRARIES, scenes.BARE)}
    bare = (closed.pop(scenes.BARE), refused.pop(scenes.BARE))
    cells = {(scenes.BARE, "cost"): Cell(f"{span(bare[0])} / {span(bare[1])}", bare)}
    for library in closed:
        times = (closed[library] / bare[0], refused[library] / bare[1])
        cells[library, "cost"] = Cell(f"{times[0]:.2f} / {times[1]:.2f}", times)
    return cells


def skewed(port: int) -> Cells:
    """The row of the clocks."""
    # Where Debian, Fedora and a build of one's own put it.
    folders = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
    found = [path for folder in folders for path in Path(folder).glob("**/faketime/libfaketime.so.1")]
    if not found:
        missing = Cell("libfaketime not installed: apt install libfaketime")
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


def kept(
    cells: Cells, what: str, limit: str, key: str, holds: Callable[[Any], bool], ours: tuple[str, ...] = BOTH
) -> Promise:
    """A promise about one row, of both kinds of ours or one, beside the peers."""
    mine = [cells[library, key] for library in ours]
    texts = list(dict.fromkeys(cell.text for cell in mine))
    peers = [library for library in LIBRARIES if library not in BOTH]
    return Promise(
        what,
        limit,
        "; calling seldom: ".join(texts),
        all(cell.value is not None and holds(cell.value) for cell in mine),
        ", ".join(f"{library}: {cells[library, key].text}" for library in peers),
    )


def lost(cells: Cells) -> Iterator[Promise]:
    """What is promised where the server is killed, or hangs."""
    for fault in FAULTS:
        yield kept(
            cells,
            f"Store {fault}: of {LOST_CALLS} calls of a process, reach a dead dependency",
            f"≤ {THRESHOLD}",
            f"{fault} reached",
            lambda calls: calls <= THRESHOLD,
        )
        yield kept(
            cells,
            f"Store {fault}: exceptions but the dependency's and refusals",
            "0",
            f"{fault} foreign",
            operator.not_,
        )
        yield kept(
            cells,
            f"Store {fault}: the longest of these calls",
            f"≤ {span(LONGEST_LIMIT)}",
            f"{fault} longest",
            lambda seconds: seconds <= LONGEST_LIMIT,
        )
        yield kept(
            cells,
            f"Store {fault}: later calls, median",
            f"< {span(LATER_LIMIT)}",
            f"{fault} later",
            lambda seconds: seconds < LATER_LIMIT,
        )


def promises(cells: Cells) -> list[Promise]:
    """What is promised, of a process that calls often and of one that calls seldom."""
    flood = PROCESSES * FLOOD_CALLS
    lease = LEASE_SECONDS + 2 * ASKS_EVERY_SECONDS
    return [
        kept(
            cells,
            "Round trips of a call, closed / refused",
            f"≤ {TRIPS[0]} / {TRIPS[1]}",
            "trips",
            lambda trips: trips[0] <= TRIPS[0] and trips[1] <= TRIPS[1],
        ),
        kept(
            cells,
            "A closed call of a process that calls seldom, x one bare EVALSHA (closed / refused)",
            f"≤ {ASKING_LIMIT} closed",
            "cost",
            lambda times: times[0] <= ASKING_LIMIT,
            (OURS_ASKING,),
        ),
        kept(
            cells,
            "A closed call of a process that calls often, x one bare EVALSHA (closed / refused)",
            f"≤ {BUSY_LIMIT} closed",
            "cost",
            lambda times: times[0] <= BUSY_LIMIT,
            (OURS,),
        ),
        kept(
            cells,
            f"A dead dependency hears, of {PROCESSES} processes, never two at once",
            f"{THRESHOLD}, the threshold",
            "staggered",
            lambda calls: calls == THRESHOLD,
        ),
        *(
            kept(
                cells,
                f"The same, {how}",
                f"≤ {AT_MOST}: {PROCESSES - 1} are under way",
                key,
                lambda calls: calls <= AT_MOST,
            )
            for how, key in (("all in step", "in step"), ("each at will", "free-running"))
        ),
        kept(
            cells,
            f"Of {flood:,} failures at once, counted",
            f"{flood:,}",
            "counted",
            lambda count: count == flood,
        ),
        *(
            kept(
                cells,
                f"Probes in flight where {allowed} may be",
                f"{allowed}",
                f"probes {allowed}",
                functools.partial(operator.eq, allowed),
            )
            for allowed in (1, 3)
        ),
        kept(
            cells,
            "A prober is killed: its place is free after",
            f"its lease, {LEASE_SECONDS:.0f} s",
            "prober",
            lambda seconds: seconds <= lease,
        ),
        kept(
            cells,
            f"Open for {SKEW_OPEN_SECONDS} s, clocks of the processes {CLOCKS[-1] // 60} min off",
            f"{SKEW_OPEN_SECONDS} s for each",
            "skew",
            lambda waited: all(abs(seconds - SKEW_OPEN_SECONDS) <= SKEW_TOLERANCE for seconds in waited),
        ),
        *lost(cells),
    ]


def table(cells: Cells) -> Table:
    """All rows, a column for each library."""
    rows = []
    for heading, titles in TABLE.items():
        rows.append([heading])
        for key, title in titles.items():
            rows.append([title, *(cells[library, key].text for library in LIBRARIES)])
    return Table(["", *map(header, LIBRARIES)], rows, f"{PROCESSES} processes, {os.cpu_count()} cores")


def main() -> Findings:
    """All libraries, scene by scene."""
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
    return Findings(
        "Beside other breakers",
        "Circuit breakers that share their circuits through Redis, each through its public API: what a fleet "
        "does is counted in its processes, what a call costs at a proxy and beside a bare EVALSHA.",
        [table(cells)],
        promises(cells),
        [NOTE.format(bare=cells[scenes.BARE, "cost"].text)],
    )
