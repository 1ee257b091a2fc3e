"""5 000 symbols over every living provider, dealt by quota from one schedule file, for ten minutes.

Real beat, workers and store; the simulator refuses what is above a provider's documented quota. A day and a
month last ten minutes, an hour and twelve hours are shorter by the day's factor; minutes and seconds are as
documented. The schedule asks for more than the quotas allow, so that there is always a symbol to ask for.

Attainable of a provider is what the tightest of its documented windows allows in the run's time, or what the
schedule asks of it, where that is less; nothing is taken off for caution of ours.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.findings import Findings, Promise, Table
from resilience import Policy, get_circuit_breaker
from tasks.errors import InputError
from tasks.providers import PROVIDERS
from tasks.schedule import Fetch, load
from tasks.timing import Every
from tests.fleet import wait_for
from tests.system import System
from workers.simulator.quotas import circuits, in_force
from workers.simulator.replies import REPLIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SECONDS = 600
FASTER = 144
WORKERS = 2
PROCESSES = 4
MADE_AT_LEAST = 0.95
# Its hundred calls a second are more than one machine makes: no symbol is dealt to it, and it has its own.
TOO_FAST = "intrinio"
# Who has a quota for news.
LIMITED_NEWS = ("finnhub", "alpaca", "polygon", "alpha_vantage", "tiingo", "fmp", "eodhd", "news_api")
# Dataset, providers, whose example the symbols are made from, how many, how often. Bars and most news have
# only providers with a quota, so that somebody always waits for theirs, and nobody without one takes it.
TABLES = (
    ("quote", "auto", "finnhub", 1_895, 180),
    ("bars", "auto", "alpaca", 1_200, 180),
    ("news", LIMITED_NEWS, "news_api", 865, 100),
    ("news", "benzinga", "benzinga", 35, 200),
    ("filings", "auto", "sec_edgar", 330, 30),
    ("quote", "auto", "coingecko", 200, 100),
    ("observations", "auto", "fred", 150, 60),
    ("observations", "auto", "quandl", 150, 36),
    ("observations", "auto", "world_bank", 35, 200),
    ("observations", "auto", "us_treasury", 35, 200),
    ("reference", "auto", "openfigi", 35, 60),
    ("bars", "yahoo", "yahoo", 35, 200),
    ("quote", "auto", "coinbase", 120, 60),
    ("bars", "auto", "binance", 60, 60),
    ("observations", "auto", "ecb", 35, 200),
    ("quote", TOO_FAST, TOO_FAST, 35, 200),
)


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


def symbol(dataset: str, service: str, number: int) -> str:
    """A symbol that a provider serves."""
    endpoint = PROVIDERS[service].endpoints[dataset]
    base, mark, rest = re.split(r"(-|$)", endpoint.example, maxsplit=1)
    name = f"{base}{number:04}{mark}{rest}"
    try:
        endpoint.spelling(name)
    except InputError:  # a CIK
        name = f"{1_000_000_000 + number}"
    return name


def schedule() -> str:
    """The schedule file."""
    lines = []
    for dataset, provider, like, symbols, every in TABLES:
        fields = {
            "dataset": dataset,
            "provider": provider,
            "symbols": [symbol(dataset, like, number) for number in range(symbols)],
            "every_seconds": every,
        }
        lines += ["[[fetch]]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items()), ""]
    return "\n".join(lines)


def asked(fetches: Sequence[Fetch], service: str, seconds: float) -> float:
    """How many calls a schedule has for a provider in so many seconds.

    Who has a quota may also be asked by those that others had no room for; without one, that is no aim.
    """
    shared = bool(REPLIES[service].limits)
    mine = [
        fetch for fetch in fetches if service == fetch.provider or (shared and service in fetch.fallbacks)
    ]
    return sum(seconds / fetch.timing.spread_seconds for fetch in mine if isinstance(fetch.timing, Every))


def ingest(folder: Path, seconds: float) -> list[Outcome]:
    """One run; what each provider has counted."""
    files = {"SCHEDULE_FILE": folder / "schedule.toml", "CIRCUITS_FILE": folder / "circuits.toml"}
    files["SCHEDULE_FILE"].write_text(schedule(), "utf-8")
    files["CIRCUITS_FILE"].write_text(circuits(FASTER), "utf-8")
    for service, fields in tomllib.loads(circuits(FASTER)).items():
        get_circuit_breaker(service).policy = Policy(**fields)  # beat deals by them
    living = [service for service, row in PROVIDERS.items() if not row.retired]
    fetches = load(files["SCHEDULE_FILE"], lambda service: service != TOO_FAST)
    environment = {name: str(path) for name, path in files.items()}
    system = System(folder)
    try:
        options = ("-l", "WARNING", "-c", str(PROCESSES), "--without-mingle", "--without-gossip")
        for number in range(WORKERS):
            name = f"worker-{number}"
            system.celery(name, "worker", *options, "-n", f"{name}@bench", **environment)
        wait_for(lambda: len(system.app.control.ping(timeout=1)) == WORKERS, 120, "the workers are ready")
        system.simulator.enforce_quotas(FASTER)
        unset = {f"{TOO_FAST.upper()}_API_KEY": ""}
        system.celery("beat", "beat", "--pidfile=", "-s", str(folder / "beat"), **environment, **unset)
        providers = system.simulator.providers
        wait_for(lambda: any(state["calls"] for state in providers().values()), 120, "a first call")
        ends = time.monotonic() + seconds
        wait_for(lambda: time.monotonic() >= ends, 2 * seconds, "the end of the run")
        states = providers()
        return [outcome(service, fetches, states[service], seconds) for service in living]
    finally:
        system.close()


def outcome(service: str, fetches: Sequence[Fetch], state: Mapping[str, Any], seconds: float) -> Outcome:
    """What a provider's counts say."""
    dealt = sum(fetch.provider == service for fetch in fetches)
    attainable = math.floor(min(asked(fetches, service, seconds), allowed(service, seconds)))
    made = state["calls"] - state["refusals"]
    return Outcome(service, dealt, attainable, made, state["refusals"], state["above"])


def promises(found: Sequence[Outcome]) -> list[Promise]:
    """What is promised of all together."""
    attainable = sum(one.attainable for one in found)
    part = sum(min(one.made, one.attainable) for one in found) / attainable
    least = min(found, key=lambda one: one.part)
    refused, above = sum(one.refused for one in found), sum(one.above for one in found)
    return [
        Promise(
            "Of the calls the quotas allow, made",
            f"≥ {MADE_AT_LEAST:.0%} in all",
            f"{part:.1%}; the least, {least.service}: {least.part:.1%}",
            part >= MADE_AT_LEAST,
            f"attainable: {attainable:,}",
        ),
        Promise(
            "Calls above a provider's quota", "0", f"{above}; answered with a refusal: {refused}", above == 0
        ),
    ]


def main(seconds: float = SECONDS) -> Findings:
    """One run."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        found = ingest(Path(folder), seconds)
    symbols = sum(one.symbols for one in found)
    attainable = sum(one.attainable for one in found)
    made = sum(min(one.made, one.attainable) for one in found)
    rows = [
        (one.service, one.symbols, one.attainable, one.made, one.part, one.refused, one.above)
        for one in found
    ]
    refused, above = sum(one.refused for one in found), sum(one.above for one in found)
    rows.append(("all", symbols, attainable, made, made / attainable, refused, above))
    return Findings(
        "What the quotas allow, made",
        "One schedule, the simulator enforcing what each provider documents; windows of an hour and more "
        f"{FASTER} times shorter, a month as long as a day. Attainable is what the tightest window allows in "
        "that time, or what the schedule asks for where that is less; nothing is taken off for caution of "
        "ours. In all, what was made beyond the attainable, where there is no quota, is not counted.",
        [
            Table(
                ["", "symbols", "attainable", "made", "%", "refused", "above a quota"],
                [
                    [name, *map(str, counts), f"{part:.1%}", str(refused), str(above)]
                    for name, *counts, part, refused, above in rows
                ],
                f"{symbols:,} symbols over {len(found)} providers for {seconds:.0f} s",
            )
        ],
        promises(found),
    )
