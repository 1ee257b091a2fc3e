"""``make bench``: every benchmark, or those named: ``make bench BENCH_ARGS=outage``."""

from __future__ import annotations

import sys

from bench import breaker, outage

BENCHMARKS = {"outage": outage.main, "breaker": breaker.main}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        if name not in BENCHMARKS:
            sys.exit(f"unknown benchmark {name!r}; known are {', '.join(BENCHMARKS)}")
        BENCHMARKS[name]()
