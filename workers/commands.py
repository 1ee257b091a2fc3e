"""``celery -A workers refresh | latest | replies | schedule | simulate``, and ``circuits explain``.

Celery imports this module for every command, so what a command needs is imported where it runs.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resilience import StoreUnavailableError
from resilience.breaker import span
from resilience.operations import cli
from resilience.operations.cli import as_json, circuits, plain_table, print_row, store_lost
from resilience.operations.screen import cell, one_line
from resilience.operations.words import COLOURS, ago, next_try

if TYPE_CHECKING:
    from tasks import Reading
    from tasks.explaining import Explanation, Source
    from tasks.schedule import Demand, Fetch

adjusted = click.option("--adjustment", help="Of bars: raw, split or all.")


class Command(cli.Clear):
    """The library's, which takes what ``tasks`` cannot use for wrong input."""

    def usage_errors(self) -> tuple[type[Exception], ...]:
        """Wrong symbols, datasets and providers."""
        from tasks.errors import InputError  # noqa: PLC0415 - see above

        return (InputError,)


class Group(Command, click.Group):
    """The same for a group."""


@circuits.command(cls=Command, epilog="Example: celery -A workers circuits explain quote AAPL")
@click.argument("dataset")
@click.argument("symbol")
@adjusted
@as_json
def explain(dataset: str, symbol: str, adjustment: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Why the value of SYMBOL is stale or missing, and what to do."""
    from tasks.explaining import explain as explained  # noqa: PLC0415 - only where it is asked

    try:
        found = explained(dataset, symbol, adjustment)
    except StoreUnavailableError:
        raise store_lost() from None
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        _print_explanation(found)


def _print_explanation(found: Explanation) -> None:
    console = Console()
    waits = f"{found.parked}, the oldest for {ago(found.parked_since)}" if found.parked else "nothing"
    named = f"{found.adjustment} {found.dataset}" if found.adjustment else found.dataset
    rows = {
        named: found.symbol,
        "last good": _kept_in_words(found),
        "parked": waits,
        "not found": found.told_not_found or "nobody says so",
    }
    for name, text in rows.items():
        console.print(Text.assemble((f"{name:<12}", "bold"), one_line(text)))
    table = plain_table(
        "provider", "circuit", "since", "why", "next try", "quota", "evidence", fold="evidence"
    )
    for source in found.providers:
        cells = (
            *(source.service, Text(source.state, COLOURS[source.state]), ago(source.since)),
            source.reason or "",
            next_try(source.retry_at, source.reason),
            _quota_in_words(source),
            _evidence(source),
        )
        table.add_row(*map(cell, cells))
    console.print("", table, "")
    for name, text in (("why", found.why), ("do", found.remedy)):
        # Not wrapped by us: a command that is broken over two lines cannot be copied.
        console.print(Text.assemble((f"{name:<12}", "bold"), one_line(text)), soft_wrap=True)


def _kept_in_words(found: Explanation) -> str:
    kept = found.kept
    if kept is None:
        return "none"
    told = f"stale: {kept.reason}" if kept.stale else f"fresh: at most {span(kept.fresh_seconds)} old"
    return (
        f"by {kept.provider}, fetched {span(kept.age_seconds)} ago, as of {kept.as_of or 'no known time'}; "
        f"{told}; over {span(kept.max_seconds)} is no value"
    )


def _quota_in_words(source: Source) -> str:
    if source.quota_left is None:
        return ""
    return f"{source.quota_left} left" if source.quota_left else f"next {next_try(source.quota_next_at)}"


def _evidence(source: Source) -> str:
    """All that speaks against a provider."""
    parked = f"{source.parked} parked for {ago(source.parked_since)}" if source.parked else ""
    lacks = f"not in the plan until {source.not_in_plan_until}" if source.not_in_plan_until else ""
    return "; ".join(filter(None, (source.evidence, lacks, source.told_not_found, parked)))


@click.command(cls=Command, epilog="Example: celery -A workers latest quote AAPL")
@click.argument("dataset")
@click.argument("symbol")
@adjusted
@as_json
def latest(dataset: str, symbol: str, adjustment: str | None, as_json: bool) -> None:  # noqa: FBT001
    """The last good value of SYMBOL, at once, with its honest age."""
    import tasks  # noqa: PLC0415 - only where a value is read

    _print_reading(tasks.latest(dataset, symbol, adjustment), as_json)


@click.command(cls=Command, epilog="Example: celery -A workers refresh quote AAPL --wait 5")
@click.argument("dataset")
@click.argument("symbol")
@click.option("--provider", help="This one and no other.")
@adjusted
@click.option("--wait", type=float, help="Seconds to wait for the answer at most.")
@as_json
def refresh(  # click passes one argument for each option
    dataset: str,
    symbol: str,
    provider: str | None,
    adjustment: str | None,
    wait: float | None,
    as_json: bool,  # noqa: FBT001 - click passes flags so
) -> None:
    """Ask a provider for SYMBOL now."""
    import tasks  # noqa: PLC0415 - as above

    _print_reading(
        tasks.refresh(dataset, symbol, provider=provider, adjustment=adjustment, wait=wait), as_json
    )


@click.command(cls=Command, epilog="Example: celery -A workers simulate finnhub down")
@click.argument("service", required=False)
@click.argument("mode", required=False)
@click.option("--seconds", type=float, help="With slow: how slow; with drip: from one byte to the next.")
@as_json
def simulate(service: str | None, mode: str | None, seconds: float | None, as_json: bool) -> None:  # noqa: FBT001
    """Break or mend a simulated provider; without arguments, list them.

    MODE is ok; slow, down, 5xx, throttle, quota or bad_key; a refusal that nobody documents: firewall,
    unexplained, not_in_plan, wrong_key, error_page, rate_page or rate_abroad; or a reply that is broken:
    garbage, half, drip, hang, redirect, huge, gzip_bomb or wrong_type.
    """
    from workers.settings import settings  # noqa: PLC0415 - only where the simulator is
    from workers.simulator.client import SimulatorClient, SimulatorError  # noqa: PLC0415 - the same

    if service and not mode:
        raise click.UsageError("name a mode too, as in: simulate finnhub down")
    if seconds is not None and mode not in ("slow", "drip"):
        raise click.UsageError("--seconds goes with slow or drip: simulate finnhub slow --seconds 3")
    client = SimulatorClient(settings().simulator_url)
    try:
        if service and mode:
            client.set_mode(service, mode, seconds)
        print_row({name: row["mode"] for name, row in client.providers().items()}, as_json)
    except SimulatorError as error:
        raise click.ClickException(str(error)) from None


@click.group(cls=Group)
def replies() -> None:
    """Keep what providers send, for the tests of their readers."""


@replies.command("record", epilog="Example: celery -A workers replies record AAPL ^GSPC --provider yahoo")
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option("--dataset", "datasets", multiple=True, help="What to ask for; all there are, unless said.")
@click.option("--provider", "services", multiple=True, help="Whom to ask; all who have it, unless said.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tests/replies/recorded"),
    show_default=True,
    help="Where the files go.",
)
@click.option(
    "--rows", type=click.IntRange(1, 1_000), default=3, show_default=True, help="Most of each list."
)
def record_replies(
    symbols: tuple[str, ...], datasets: tuple[str, ...], services: tuple[str, ...], out: Path, rows: int
) -> None:
    """Ask real providers about each SYMBOL, once for each dataset, and keep each reply as a file.

    A call is one like any other: its circuit lets it, and hears of it. Taken out are keys, tokens, ids of
    requests, cookies, addresses, links and authors, and most words of an article. LOOK THROUGH A FILE BEFORE
    YOU HAND IT IN, and write in its "why" what is odd about it.
    """
    from workers.recording import record  # noqa: PLC0415 - see above

    kept = 0
    for told in record(symbols, datasets, services, out, rows):
        click.echo(one_line(told.text))
        kept += told.file is not None
    if not kept:
        raise click.ClickException("no reply was kept")


@click.group(cls=Group)
def schedule() -> None:
    """Look at the schedule."""


@schedule.command("check", epilog="Example: celery -A workers schedule check new.toml")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@as_json
def check_schedule(file: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Whether FILE, or the schedule beat would start with, can be used, and what it asks of the providers."""
    from tasks.schedule import ScheduleError, demand, load  # noqa: PLC0415 - only where a schedule is read
    from workers.settings import settings  # noqa: PLC0415 - as above

    file = file or settings().schedule_file
    try:
        fetches = load(file)
    except ScheduleError as error:
        if as_json:
            click.echo(json.dumps({"problems": [problem._asdict() for problem in error.problems]}))
        else:
            click.echo("\n".join(map(one_line, str(error).splitlines())), err=True)
        sys.exit(1)
    demands = demand(fetches)
    if as_json:
        tables = [_fetch_table(table) for table in _tables(fetches)]
        providers = [asdict(asked) for asked in demands]
        click.echo(json.dumps({"file": str(file), "tables": tables, "providers": providers}))
        return
    _print_schedule(fetches, demands)


@schedule.command("datasets", epilog="Example: celery -A workers schedule datasets")
@as_json
def list_datasets(as_json: bool) -> None:  # noqa: FBT001
    """The datasets: what each is, what the age of a value means, and who is asked, in fail-over order."""
    from tasks.providers import providers_of  # noqa: PLC0415 - only where a schedule is read
    from tasks.records import TABLE  # noqa: PLC0415 - as above
    from tasks.settings import provider_settings  # noqa: PLC0415 - as above

    rows: list[dict[str, Any]] = [
        {
            "dataset": name,
            "about": row.about,
            **asdict(provider_settings().freshness(name)),
            "providers": list(providers_of(name)),
        }
        for name, row in TABLE.items()
    ]
    if as_json:
        click.echo(json.dumps({"datasets": rows}))
        return
    table = Table(box=None, header_style="bold")
    for column in ("dataset", "what", "fresh", "kept", "providers"):
        table.add_column(column)
    for row in rows:
        ages = (span(row["fresh_seconds"]), span(row["max_seconds"]))
        table.add_row(row["dataset"], row["about"], *ages, ", ".join(row["providers"]))
    Console().print(table)


def _tables(fetches: list[Fetch]) -> list[list[Fetch]]:
    return [list(table) for _, table in groupby(fetches, key=lambda fetch: fetch.table)]


def _fetch_table(fetches: list[Fetch]) -> dict[str, Any]:
    first = fetches[0]
    return {
        "dataset": first.dataset,
        "provider": first.choice or first.provider,
        "symbols": len(fetches),
        "when": str(first.timing),
        "dealt": dict(Counter(fetch.provider for fetch in fetches)),
    }


def _print_schedule(fetches: list[Fetch], demands: list[Demand]) -> None:
    tables = Table(box=None, header_style="bold")
    for column in ("dataset", "provider", "symbols", "when"):
        tables.add_column(column)
    for row in map(_fetch_table, _tables(fetches)):
        tables.add_row(*(cell(row[name]) for name in ("dataset", "provider", "symbols", "when")))
    asked = Table(box=None, header_style="bold")
    for column in ("provider", "symbols", "calls a minute", "calls a day", "quota"):
        asked.add_column(column)
    for one in demands:
        quota = f"{one.quota_calls} in {one.quota_seconds:g} s" if one.quota_seconds else ""
        asked.add_row(
            one.provider, str(one.symbols), f"{one.calls_a_minute:.6g}", f"{one.calls_a_day:.6g}", quota
        )
    console = Console()
    console.print(tables, "", asked)
    for one in demands:
        if one.warning:
            click.echo(f"warning: {one.warning}", err=True)


def _print_reading(reading: Reading, as_json: bool) -> None:  # noqa: FBT001
    row = reading.as_json()
    records = row["value"] if isinstance(row["value"], list) and not as_json else []
    if isinstance(row["value"], list) and not as_json:
        row["value"] = f"{len(records)} records"
    print_row(row, as_json)
    for record in records:  # in their order: each on a line, without what it does not have
        click.echo(json.dumps({name: value for name, value in record.items() if value not in (None, [])}))
    if reading.outcome == "failed":
        sys.exit(1)
