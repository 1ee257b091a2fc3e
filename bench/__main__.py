"""``make bench``: every benchmark, or those named: ``make bench BENCH_ARGS="outage lot --tasks 5000"``."""

from __future__ import annotations

import argparse

from bench import breaker, ingest, lot, outage, recovery, scale, scrape

SIZED = {"outage": outage.main, "lot": lot.main, "recovery": recovery.main}
TIMED = {"ingest": ingest.main}
BENCHMARKS = {**SIZED, "breaker": breaker.main, "scrape": scrape.main, "scale": scale.main, **TIMED}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=...", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--tasks", type=int, help=f"how many, for {', '.join(SIZED)}")
    parser.add_argument("--seconds", type=float, help=f"how long, for {', '.join(TIMED)}")
    parser.add_argument("--smaller", action="store_true", help="scale: a few minutes instead of half an hour")
    parser.add_argument("--docs", action="store_true", help="scale: write its tables and figures into docs")
    parser.add_argument("--only", action="append", choices=scale.SWEEPS, help="scale: this part of it")
    given = parser.parse_args()
    for name in given.names:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark {name!r}; known are {', '.join(BENCHMARKS)}")
    for name in given.names or BENCHMARKS:
        if given.tasks and name in SIZED:
            SIZED[name](given.tasks)
        elif given.seconds and name in TIMED:
            TIMED[name](given.seconds)
        elif name == "scale":
            scale.main(smaller=given.smaller, docs=given.docs, only=given.only or ())
        else:
            BENCHMARKS[name]()
