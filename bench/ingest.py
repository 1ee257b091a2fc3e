"""5 000 symbols over every living provider, each fetched three times in ten minutes, at the quotas.

Real beat, workers and store; the simulator refuses what is above a provider's documented quota. A day lasts
ten minutes, and an hour, twelve hours and a month are shorter by the same factor; minutes and seconds are as
documented. Who has little is dealt a fifth more symbols than its quota allows, and the others share the
rest. So what is attainable of a provider is its quota, or what the schedule asks for where that is less.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tasks.errors import InputError
from tasks.providers import PROVIDERS
from tests.fleet import wait_for
from tests.system import System
from workers.simulator.quotas import circuits, in_force
from workers.simulator.replies import REPLIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECONDS = 600
SYMBOLS = 5_000
EVERY_SECONDS = 200
FASTER = 144
# Of what a quota allows: so many symbols are dealt, that there is always one to ask for.
PLENTY = 1.2
WORKERS = 2
PROCESSES = 4
MADE_AT_LEAST = 0.95


@dataclass
class Outcome:
    """One provider, at the end of the run."""

    service: str
    symbols: int
    attainable: int
    made: int
    refused: int
    above: int

    @property
    def part(self) -> float:
        """Of the attainable calls, those made; a quota's last call may fall on the run's last second."""
        return min(self.made / self.attainable, 1) if self.attainable else 1


def allowed(service: str, seconds: float) -> float:
    """The calls a provider's quotas allow in so many seconds."""
    limits = in_force(REPLIES[service].limits, FASTER)
    return min((limit.calls * seconds / limit.seconds for limit in limits), default=math.inf)


def shares(symbols: int) -> dict[str, int]:
    """How many symbols each living provider is dealt; who has the least goes first."""
    most = {
        service: max(1, math.ceil(allowed(service, EVERY_SECONDS) * PLENTY))
        if REPLIES[service].limits
        else symbols
        for service, row in PROVIDERS.items()
        if not row.retired
    }
    left, found = symbols, {}
    for place, service in enumerate(sorted(most, key=lambda name: most[name])):
        found[service] = min(most[service], left // (len(most) - place))
        left -= found[service]
    return found


def symbol(service: str, number: int) -> tuple[str, str]:
    """A dataset of a provider, and a symbol it serves."""
    dataset, endpoint = next(iter(PROVIDERS[service].endpoints.items()))
    name = f"{endpoint.example}{number:04}"
    try:
        endpoint.spelling(name)
    except InputError:  # a CIK
        name = f"{1_000_000_000 + number}"
    return dataset, name


def schedule(dealt: Mapping[str, int]) -> Iterator[str]:
    """A schedule file's lines. Each provider's symbols are spread over all the others'."""
    places = [
        ((number + 0.5) / count, service, number)
        for service, count in dealt.items()
        for number in range(count)
    ]
    for _, service, number in sorted(places):
        dataset, name = symbol(service, number)
        fields = {"dataset": dataset, "provider": service, "symbols": [name], "every_seconds": EVERY_SECONDS}
        yield "\n".join(["[[fetch]]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items()), ""])


def ingest(folder: Path, seconds: float) -> list[Outcome]:
    """One run; what each provider has counted."""
    dealt = shares(SYMBOLS)
    files = {"SCHEDULE_FILE": folder / "schedule.toml", "CIRCUITS_FILE": folder / "circuits.toml"}
    files["SCHEDULE_FILE"].write_text("\n".join(schedule(dealt)), "utf-8")
    files["CIRCUITS_FILE"].write_text(circuits(FASTER), "utf-8")
    environment = {name: str(path) for name, path in files.items()}
    system = System(folder)
    try:
        options = ("-l", "WARNING", "-c", str(PROCESSES), "--without-mingle", "--without-gossip")
        for number in range(WORKERS):
            name = f"worker-{number}"
            system.celery(name, "worker", *options, "-n", f"{name}@bench", **environment)
        wait_for(lambda: len(system.app.control.ping(timeout=1)) == WORKERS, 120, "the workers are ready")
        system.simulator.enforce_quotas(FASTER)
        system.celery("beat", "beat", "--pidfile=", "-s", str(folder / "beat"), **environment)
        providers = system.simulator.providers
        wait_for(lambda: any(state["calls"] for state in providers().values()), 120, "a first call")
        ends = time.monotonic() + seconds
        wait_for(lambda: time.monotonic() >= ends, 2 * seconds, "the end of the run")
        states = providers()
        return [outcome(service, count, states[service], seconds) for service, count in dealt.items()]
    finally:
        system.close()


def outcome(service: str, symbols: int, state: Mapping[str, Any], seconds: float) -> Outcome:
    """What a provider's counts say."""
    attainable = math.floor(min(symbols * seconds / EVERY_SECONDS, allowed(service, seconds)))
    made = state["calls"] - state["refusals"]
    return Outcome(service, symbols, attainable, made, state["refusals"], state["above"])


def main(seconds: float = SECONDS) -> None:
    """Run and print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = ingest(Path(folder), seconds)
    table = Table(
        title=f"{SYMBOLS} symbols over {len(found)} providers, each every {EVERY_SECONDS} s, "
        f"for {seconds:.0f} s; windows of an hour and more {FASTER} times shorter"
    )
    for column in ("", "symbols", "attainable", "made", "%", "refused", "above a quota"):
        table.add_column(column, justify="right" if column else "left")
    for one in found:
        counts = (one.symbols, one.attainable, one.made, f"{one.part:.1%}", one.refused, one.above)
        table.add_row(one.service, *map(str, counts))
    attainable = sum(one.attainable for one in found)
    made = sum(min(one.made, one.attainable) for one in found)
    refused, above = sum(one.refused for one in found), sum(one.above for one in found)
    total = (sum(one.symbols for one in found), attainable, made, f"{made / attainable:.1%}", refused, above)
    table.add_section()
    table.add_row("all", *map(str, total))
    console = Console(width=110)
    console.print(table)
    met = made >= MADE_AT_LEAST * attainable and not above
    goal = f"{MADE_AT_LEAST:.0%} of the attainable calls made, none above a quota"
    console.print(f"The goal, {goal}: {'met' if met else 'missed'}")
