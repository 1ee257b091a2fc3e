"""``make bench``: every benchmark, or those named: ``make bench BENCH_ARGS="outage lot --tasks 5000"``."""

from __future__ import annotations

import argparse

from bench import breaker, lot, outage, recovery

SIZED = {"outage": outage.main, "lot": lot.main, "recovery": recovery.main}
BENCHMARKS = {**SIZED, "breaker": breaker.main}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=...", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--tasks", type=int, help=f"how many, for {', '.join(SIZED)}")
    given = parser.parse_args()
    for name in given.names:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark {name!r}; known are {', '.join(BENCHMARKS)}")
    for name in given.names or BENCHMARKS:
        if given.tasks and name in SIZED:
            SIZED[name](given.tasks)
        else:
            BENCHMARKS[name]()
