"""The page with everything ``make bench`` has measured, and how each promised figure came out.

What was found is kept as it is in ``report.json``, a benchmark at a time, each with where and when it was
measured; ``report.md`` is made of that alone. So a run of some benchmarks leaves the others as they were.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
import redis

from bench.crew import server
from bench.findings import PROMISED, Findings, Table
from resilience.breaker import span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parent.parent
PAGE = "report.md"
DATA = "report.json"
HEAD = """\
# Speed report

Every figure that is promised, and what `make bench` found. It writes this page; with `BENCH_ARGS=scrape`
that part of it, and the rest is left as it was. What stands side by side is of the same run. What holds when
machines die, and in whatever order things happen, is in [measurements.md](measurements.md).
"""


@dataclass(frozen=True)
class Occasion:
    """Where and when something was measured: the same for all that one ``make bench`` measures.

    Attributes:
        at: When it began, UTC, ISO 8601 to the minute.
        commit: Of what; "and changes" where files were not as committed.
        machine: What it ran on, by the name of each part.
    """

    at: str
    commit: str
    machine: dict[str, str]

    @classmethod
    def now(cls) -> Self:
        """Here, before anything is measured."""
        return cls(datetime.now(UTC).strftime("%Y-%m-%d %H:%M"), commit(), machine())


@dataclass(frozen=True)
class Run:
    """What one benchmark has found.

    Attributes:
        command: What was typed.
        as_promised: Whether at the size that the promises are about.
        took_seconds: How long it took; None where nobody noted it.
        occasion: Where and when.
        findings: What it found.
    """

    command: str
    as_promised: bool
    took_seconds: float | None
    occasion: Occasion
    findings: Findings

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """From what ``dataclasses.asdict`` made of it."""
        return cls(
            **{**kept, "occasion": Occasion(**kept["occasion"]), "findings": Findings.of(kept["findings"])}
        )


def commit() -> str:
    """The commit that is checked out; what this report itself has changed is no change."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", f":!docs/{PAGE}", f":!docs/{DATA}")
        return git("rev-parse", "--short", "HEAD") + (" and changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown, not in a git checkout"


def machine() -> dict[str, str]:
    """What this is measured on."""
    names = (line.partition(": ") for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines())
    models = [name for key, _, name in names if key.startswith("model name")]
    with server() as port, redis.Redis(port=port) as client:
        started = client.info("server")
    kind = "valkey" if "valkey_version" in started else "redis"
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "busy with other work before": f"{os.getloadavg()[0]:.1f} processes",
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Celery, kombu": f"{version('celery')}, {version('kombu')}",
        "redis-py, hiredis": f"{version('redis')}, {version('hiredis')}",
        "broker and store": f"{kind.title()} {started[f'{kind}_version']}",
    }


def read(folder: Path) -> dict[str, Run]:
    """What was found so far, by benchmark."""
    file = folder / DATA
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return {name: Run.of(run) for name, run in kept.items()}


def write(folder: Path, runs: Mapping[str, Run], order: Sequence[str]) -> None:
    """Keep what was found, and make the page of it; in that order, and nothing that is not in it."""
    runs = {name: runs[name] for name in order if name in runs}
    folder.mkdir(parents=True, exist_ok=True)
    kept = json.dumps({name: asdict(run) for name, run in runs.items()}, indent=1, ensure_ascii=False)
    (folder / DATA).write_text(kept + "\n", "utf-8")
    (folder / PAGE).write_text(page(runs), "utf-8")


def page(runs: Mapping[str, Run]) -> str:
    """The whole page, in Markdown."""
    parts = [HEAD, "\n".join(markdown(occasions(runs))), promised(runs)]
    for run in runs.values():
        took = "" if run.took_seconds is None else f" It took {span(run.took_seconds)}."
        found = run.findings
        parts += [
            f"## {found.title}",
            f"`{run.command}`, {run.occasion.at}, commit {run.occasion.commit}.{took}",
            found.about,
        ]
        for table in found.tables:
            parts += [*([f"{table.title}:"] if table.title else []), "\n".join(markdown(table))]
        parts += found.notes
    return "\n\n".join(part.strip() for part in parts) + "\n"


def occasions(runs: Mapping[str, Run]) -> Table:
    """Where and when: a column for each ``make bench`` of which something is left."""
    names: dict[str, list[str]] = {}
    seen: dict[str, Occasion] = {}
    for run in runs.values():
        key = json.dumps(asdict(run.occasion))
        seen[key] = run.occasion
        names.setdefault(key, []).append(run.findings.title)
    measured = [", ".join(f"[{title}](#{anchor(title)})" for title in names[key]) for key in seen]
    rows = {
        "on": [occasion.at for occasion in seen.values()],
        "commit": [occasion.commit for occasion in seen.values()],
    }
    parts = dict.fromkeys(part for occasion in seen.values() for part in occasion.machine)
    rows |= {part: [occasion.machine.get(part, "") for occasion in seen.values()] for part in parts}
    return Table(["measured", *measured], [[name, *cells] for name, cells in rows.items()], words=99)


def promised(runs: Mapping[str, Run]) -> str:
    """One table of all promises, under what they come to in a sentence."""
    rows, outcomes = [], []
    for run in runs.values():
        for promise in run.findings.promises:
            *cells, outcome = promise.cells(as_promised=run.as_promised)
            outcomes.append(outcome)
            shown = f"**{outcome}**" if outcome == "missed" else outcome
            rows.append([*cells, shown, f"[`{run.command}`](#{anchor(run.findings.title)})"])
    counts = {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    table = Table([*PROMISED, "by"], rows, words=99)
    return "\n".join(["## What is promised", "", f"Of {len(rows)} figures: {told}.", "", *markdown(table)])


def markdown(table: Table) -> Iterator[str]:
    """A table's lines."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells) + " |"

    yield line(table.columns)
    yield "|" + "|".join("---" if place < table.words else "--:" for place in range(len(table.columns))) + "|"
    for row in table.rows:
        yield line(row) if len(row) > 1 else line([f"**{row[0]}**", *[""] * (len(table.columns) - 1)])


def anchor(title: str) -> str:
    """The address that GitHub gives a heading on its page."""
    kept = "".join(sign for sign in title.lower() if sign.isalnum() or sign in " -_")
    return kept.replace(" ", "-")
