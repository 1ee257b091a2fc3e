"""Play a plan on each broker, count, print; exit code 1 where a promise was broken.

make chaos                                    ten minutes on Valkey or Redis, ten on RabbitMQ, a new seed
make chaos CHAOS_ARGS="--seed 7 --broker redis --seconds 120"       the same again
make chaos CHAOS_ARGS="--faults provider,kill_worker"               only some of them
make chaos CHAOS_ARGS="--record docs/chaos.jsonl"                   and its figures are kept
make chaos CHAOS_ARGS="--table docs/chaos.jsonl"                    those, as they stand in measurements.md
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import commit
from resilience.stores.redis import circuit_of
from tests.chaos.audit import Account, Auditor, Recorder
from tests.chaos.load import Load, schedule
from tests.chaos.plan import FAULTS, Strike, plan
from tests.chaos.stage import FASTER, LIVING, Stage
from tests.fleet import ROOT, wait_for
from workers.simulator.quotas import circuits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECONDS = 600.0
FLOOD = 50_000
#: Where in the run the flood comes.
FLOOD_AT = 0.4
#: On a busy machine it takes as long as the rest of the run, and more.
FLOOD_SECONDS = 900
#: What is left when faults and load are over is worked off in this time, but for what waits for a quota. What
#: a killed worker had comes back from a Redis broker after two minutes.
DRAIN_SECONDS = 240.0
CALM_SECONDS = 5.0
LOOK_SECONDS = 0.5
TELL_SECONDS = 60.0
#: Where a call goes less often than this, what waits is not waited for.
SLOW_SECONDS = 2.0
PACED = tomllib.loads(circuits(FASTER))


def say(text: str) -> None:
    """On standard output, at once."""
    print(text, flush=True)  # noqa: T201 - its output


def play(
    seed: str, seconds: float, broker: str, faults: Sequence[str], refreshes: int, folder: Path
) -> Account:
    """One run.

    Args:
        seed: Of every random choice.
        seconds: How long there is load and faults.
        broker: redis or rabbitmq.
        faults: Which there can be.
        refreshes: How many the flood has.
        folder: Where data and logs go.
    """
    began = time.monotonic()
    stage = Stage(folder, broker, schedule(), lambda text: say(f"{time.monotonic() - began:6.1f} s  {text}"))
    try:
        recorder = Recorder(stage)
        load = Load(stage, seed)
        began = time.monotonic()
        load.start()
        strike_all(stage, plan(f"{seed}-{broker}", seconds, faults), seconds, refreshes, began)
        load.stop()
        stage.end_schedule()
        for service in LIVING:
            stage.simulator.set_mode(service, "ok")
        auditor = Auditor(stage, load, recorder)
        drain(stage, auditor)
        recorder.stop()
        return auditor.add_up()
    finally:
        stage.close()


def strike_all(stage: Stage, strikes: list[Strike], seconds: float, refreshes: int, began: float) -> None:
    """Let each strike when it is time, and mend it when it is time; the flood comes in between."""
    counter = itertools.count()
    agenda: list[tuple[float, int, str, Callable[[], object]]] = []

    def add(at: float, what: str, act: Callable[[], object]) -> None:
        heapq.heappush(agenda, (at, next(counter), what, act))

    def hit(strike: Strike) -> None:
        mend = stage.strike(strike)
        what = f"mended: {strike.fault} {strike.mode}" if strike.lasts else ""
        add(strike.at + strike.lasts, what, mend)

    for strike in strikes:
        add(strike.at, str(strike), lambda strike=strike: hit(strike))  # type: ignore[misc]
    flooding: list[subprocess.Popen[bytes]] = []
    add(seconds * FLOOD_AT, f"{refreshes} refreshes", lambda: flooding.append(flood(stage, refreshes)))
    add(seconds, "all is mended", lambda: None)
    while agenda:
        at, _, what, act = heapq.heappop(agenda)
        while (left := began + at - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            stage.supervise()
        if what:
            say(f"{at:6.1f} s  {what.strip()}" if not what.lstrip().startswith(f"{at:.1f}") else what)
        act()
    for process in flooding:
        process.wait(FLOOD_SECONDS)
        outcomes = (stage.folder / "flood.out").read_text().split("\n")
        bad = [line for line in outcomes if "(" in line]
        say(f"flood: {len(outcomes) - 1} answers, {len(bad)} exceptions {bad[:1]}")


def flood(stage: Stage, count: int) -> subprocess.Popen[bytes]:
    """So many refreshes, from a process of its own."""
    with (stage.folder / "flood.out").open("wb") as out, (stage.folder / "flood.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.load", str(count)],
            env=stage.environment,
            cwd=ROOT,
            stdout=out,
            stderr=log,
        )


def drain(stage: Stage, auditor: Auditor) -> None:
    """Until nothing is queued, and what is parked waits for a quota."""
    calm: list[float] = []
    told = [time.monotonic()]
    ends = time.monotonic() + DRAIN_SECONDS

    def paced() -> set[str]:
        """Those whose lot empties at the pace of a quota, or after a hold."""
        with stage.client() as client:
            reasons = {service: client.hget(circuit_of(service), "reason") for service in LIVING}
        held = {service for service, reason in reasons.items() if reason in ("quota", "rate_limited")}
        return held | {service for service in LIVING if slow(service)}

    def over() -> bool:
        time.sleep(LOOK_SECONDS)
        stage.supervise()
        now = time.monotonic()
        queued, waiting = auditor.queued(), Counter(auditor.parked().values())
        if queued or set(waiting) - paced():
            calm.clear()
        calm.append(now)
        if now > told[-1] + TELL_SECONDS:
            told.append(now)
            say(f"not at rest: {queued} queued, parked {dict(waiting)}, paced {sorted(paced())}")
        return now - calm[0] > CALM_SECONDS or now > ends

    wait_for(over, DRAIN_SECONDS + 30, "the fleet comes to rest")


def slow(service: str) -> bool:
    """Whether its quota lets less than a call go in two seconds."""
    fields = PACED.get(service, {})
    return bool(fields) and fields["quota_seconds"] / fields["quota_calls"] > SLOW_SECONDS


#: Of the table: a column's head, and the figure of a run.
COLUMNS = {
    "tasks": "tasks",
    "calls": "calls",
    "circuits opened": "opened",
    "readers": "readers",
    "lost": "lost",
    "by kombu's transport": "lost_by_transport",
    "with an emptied broker": "lost_with_broker",
    "ran again": "again",
    "calls past an open circuit": "calls_while_open",
    "above a quota": "above_quota",
    "misreported": "misreported",
    "first success after, s": "recovered",
}


def table(record: Path) -> str:
    """The last run of each seed and broker that was recorded, as Markdown."""
    runs = {
        (run["broker"], run["seed"]): run for run in map(json.loads, record.read_text("utf-8").splitlines())
    }
    rows = [
        "| broker | seed | " + " | ".join(COLUMNS) + " | broken promises |",
        "|---|---|" + "--:|" * len(COLUMNS) + "---|",
    ]
    for (broker, seed), run in sorted(runs.items(), key=lambda pair: (pair[0][0], int(pair[0][1]))):
        figures = (f"{run.get(name, 0):,.{int(name == 'recovered')}f}" for name in COLUMNS.values())
        cells = [broker, seed, *(figure.replace(",", " ") for figure in figures)]
        rows.append(f"| {' | '.join(cells)} | {'; '.join(run['broken']) or 'none'} |")
    return "\n".join(rows)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", default=str(random.randrange(10**6)), help="an earlier run's")  # noqa: S311
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--broker", choices=("redis", "rabbitmq"), action="append")
    parser.add_argument("--faults", default=",".join(FAULTS), help="of these, separated by commas")
    parser.add_argument("--flood", type=int, default=FLOOD, help="refreshes in a run of ten minutes")
    parser.add_argument("--keep", type=Path, help="where data and logs go, to be looked at")
    parser.add_argument("--record", type=Path, help="a file that gets each run's figures, a line of JSON")
    parser.add_argument("--table", type=Path, help="prints what is recorded there, and plays nothing")
    given = parser.parse_args()
    if given.table:
        say(table(given.table))
        return
    broken = 0
    for broker in given.broker or ("redis", "rabbitmq"):
        say(f"chaos on {broker}, {given.seconds:.0f} s, --seed {given.seed}")
        folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=given.keep))
        refreshes = int(given.flood * given.seconds / SECONDS)
        account = play(given.seed, given.seconds, broker, given.faults.split(","), refreshes, folder)
        say("\n".join([f"\n{broker}, {given.seconds:.0f} s, --seed {given.seed}", *account.lines]))
        for line in account.broken:
            say(f"BROKEN: {line}")
        broken += len(account.broken)
        if given.record:
            run = {
                "seed": given.seed,
                "broker": broker,
                "seconds": given.seconds,
                "commit": commit(),
                "broken": account.broken,
            }
            with given.record.open("a") as out:
                out.write(json.dumps(run | account.figures) + "\n")
        if account.broken:
            say(f"logs: {folder}")
        elif not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(broken > 0)


if __name__ == "__main__":
    main()
