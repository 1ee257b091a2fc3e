"""``make bench``: every benchmark, or those named: ``make bench BENCH_ARGS="outage lot --tasks 5000"``.

Prints what they find, and writes it to docs/report.md: see ``bench.report``. What ``scale`` finds is drawn,
and stands in docs/running-it-large.md.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

from rich.console import Console

from bench import report, scale

SIZED = ("outage", "lot", "recovery")
TIMED = ("ingest",)
#: Each a module of this package, whose ``main`` returns its findings; in the order of the page.
BENCHMARKS = ("outage", "lot", "recovery", "breaker", "ingest", "scrape")
SCALE = "scale"
DOCS = report.ROOT / "docs"


def main() -> int:
    """Run, print and write; returns the exit code, 1 where a benchmark has failed."""
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=...", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join((*BENCHMARKS, SCALE)))
    parser.add_argument("--tasks", type=int, help=f"how many, for {', '.join(SIZED)}")
    parser.add_argument("--seconds", type=int, help=f"how long, for {', '.join(TIMED)}")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="where the report is kept. Unless it is named, that is docs/, and what was measured at another "
        "size than the promises are about is printed alone",
    )
    parser.add_argument("--page", action="store_true", help="measure nothing: make the page of what is kept")
    parser.add_argument("--smaller", action="store_true", help=f"{SCALE}: in minutes, and not for the page")
    parser.add_argument("--only", action="append", choices=scale.SWEEPS, help=f"{SCALE}: this part of it")
    given = parser.parse_args()
    for name in given.names:
        if name not in (*BENCHMARKS, SCALE):
            parser.error(f"unknown benchmark {name!r}; known are {', '.join((*BENCHMARKS, SCALE))}")
    folder: Path = given.report or DOCS
    if given.page:
        report.write(folder, report.read(folder), BENCHMARKS)
        return 0
    console = Console(width=122)
    occasion = report.Occasion.now()
    failed = []
    for name in given.names or (*BENCHMARKS, SCALE):
        if name == SCALE:
            scale.main(smaller=given.smaller, docs=not given.smaller, only=given.only or ())
            continue
        sizes = {"--tasks": given.tasks if name in SIZED else None}
        sizes["--seconds"] = given.seconds if name in TIMED else None
        words = " ".join([name, *(f"{option} {size}" for option, size in sizes.items() if size)])
        started = time.monotonic()
        try:
            found = importlib.import_module(f"bench.{name}").main(*filter(None, sizes.values()))
        except Exception:  # noqa: BLE001 - the others are measured all the same
            traceback.print_exc()
            failed.append(name)
            continue
        took = round(time.monotonic() - started, 1)
        as_promised = not any(sizes.values())
        found.print_on(console, as_promised=as_promised)
        if as_promised or given.report:
            command = "make bench BENCH_ARGS=" + (words if as_promised else f'"{words}"')
            run = report.Run(command, as_promised, took, occasion, found)
            report.write(folder, {**report.read(folder), name: run}, BENCHMARKS)
            console.print(f"Written: {folder / report.PAGE}", markup=False, highlight=False)
    if failed:
        print(f"Not measured, for the reasons above: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
