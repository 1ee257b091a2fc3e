"""``celery -A workers circuits | refresh | latest | replies | schedule | simulate``, Celery's own plug-ins.

Celery imports this module for every command of every app. One with a module ``tasks`` of its own has
``circuits`` too, so nothing of ours by that name is imported here, but by the command that needs it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resilience import (
    CIRCUIT_BREAKERS,
    CircuitBreaker,
    ConfigurationError,
    ResilienceError,
    StoreUnavailableError,
    get_circuit_breaker,
    publishing,
)
from resilience.breaker import EVER, iso, seconds_until, span, whoami
from resilience.policy import MAX_SECONDS, MIN_SECONDS, parse_change
from resilience.release import drop as drop_parked
from resilience.stores import default_store
from resilience.stores.failover import FailoverStore
from workers.screen import cell, lines, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from resilience.parking import Entry, ParkingLot
    from tasks import Reading
    from tasks.explaining import Explanation, Source
    from tasks.schedule import Demand, Fetch

# What a list has for a circuit of which the store keeps what it cannot be.
UNREADABLE = "unreadable"
COLOURS = {
    UNREADABLE: "red",
    "closed": "green",
    "half_open": "yellow",
    "open": "red",
    "forced_open": "bold red",
    "disabled": "magenta",
}

# What is not tried again by itself, and when it is.
UNPROBED = {"auth": "with a new key", "retired": "after a reset"}

# A terminal of so many columns has room for all of a table's; a narrower one lacks the least important.
WIDE = 100
WATCH_SECONDS = 2.0

EXIT_CODES = """
\b
Exit codes:
  0  done
  1  refused: a server does not answer, settings cannot be used, or it cannot be done as things are
  2  usage: an argument, or a provider's key or address, that cannot be used
"""

adjusted = click.option("--adjustment", help="Of bars: raw, split or all.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


class _Clear(click.Group):
    """Wrong input and lost servers end in one clear line, not in a traceback."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        return cast("click.Context", clear(super().make_context, *args, **kwargs))

    def invoke(self, ctx: click.Context) -> Any:
        return clear(super().invoke, ctx)


class _ClearCommand(click.Command):
    """The same for a single command."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        return cast("click.Context", clear(super().make_context, *args, **kwargs))

    def invoke(self, ctx: click.Context) -> Any:
        return clear(super().invoke, ctx)


def clear(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Turn what our packages raise on purpose into a message and an exit code."""
    try:
        return call(*args, **kwargs)
    except click.ClickException as error:
        vars(error)["message"] = lines(error.message)  # click calls it final
        raise
    except (ResilienceError, ConnectionError) as error:
        raise click.ClickException(lines(str(error))) from None
    except UnicodeEncodeError as error:  # bytes of an argument that are no text
        raise click.UsageError(f"{error.object[:80]!r} is no text: write it in UTF-8") from None
    except ValueError as error:
        if _is_ours() and isinstance(error, _input_error()):
            raise click.UsageError(lines(str(error))) from None
        raise


def _input_error() -> type[ValueError]:
    from tasks.errors import InputError  # noqa: PLC0415 - see above

    return InputError


def _is_ours() -> bool:
    """Whether ``tasks`` is the package beside this one, not a module of the app's own by that name."""
    found = importlib.util.find_spec("tasks")
    return found is not None and found.origin == str(Path(__file__).parents[1] / "tasks" / "__init__.py")


def _need_market_data() -> None:
    """For a command that makes no sense beside another app's tasks."""
    if not _is_ours():
        raise click.ClickException(
            "this app has a module `tasks` of its own, this command is about market data: "
            "run it as celery -A workers, from another folder"
        )


def _add_providers(rows: list[dict[str, Any]]) -> None:
    """What is known of providers and their plans; circuits of another app are of no such provider."""
    if not _is_ours():
        return
    from tasks import entitlement  # noqa: PLC0415 - see above

    entitlement.add_to(rows)


class _Seconds(click.ParamType[float]):
    """A time limit: 90, 90s, 15m, 2h, 1d."""

    name = "time"
    units: ClassVar[dict[str, int]] = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        told = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(value))
        seconds = float(told[1]) * self.units[told[2]] if told else 0
        if not MIN_SECONDS <= seconds <= MAX_SECONDS:
            self.fail(
                f"{value!r}: give seconds, or a time as in 15m, 2h or 1d, "
                f"at least {MIN_SECONDS} and at most {MAX_SECONDS:.0f} s",
                param,
                ctx,
            )
        return seconds


@click.group(cls=_Clear, epilog=EXIT_CODES)
def circuits() -> None:
    """Look at the circuits, and act on them for the whole fleet."""


@circuits.command("list", epilog="Example: celery -A workers circuits list --watch 5")
@click.option(
    "--watch",
    type=click.FloatRange(0.1, 3600),
    is_flag=False,
    flag_value=WATCH_SECONDS,
    metavar="[SECONDS]",
    help=f"Again every so often, {WATCH_SECONDS:g} seconds unless said, until Ctrl-C, which exits with 0.",
)
@as_json
def list_circuits(watch: float | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags so
    """Every circuit: state, since when, why, next try, what waits.

    With --watch, a table that stays in its place on a terminal, a table each time elsewhere; with --json one
    object a line. While the store is lost, that is said in its place.
    """
    if watch:
        _watch(watch, as_json=as_json)
        return
    report = _report()
    if as_json:
        click.echo(json.dumps(report))
    else:
        console = Console()
        console.print(_circuits_table(report["circuit_breakers"], console.width))


def _report() -> dict[str, Any]:
    """As ``GET /circuit-breakers``, and what is known of the providers."""
    report = publishing.report()
    rows = report["circuit_breakers"]
    if rows and not any(row["shared"] for row in rows):
        raise _store_lost()
    _add_providers(report["circuit_breakers"])
    return report


def _watch(seconds: float, *, as_json: bool) -> None:
    """Until Ctrl-C; a lost store is waited for."""
    console = Console()
    try:
        if console.is_terminal and not as_json:
            with Live(_picture(console.width), console=console, auto_refresh=False) as live:
                while True:
                    time.sleep(seconds)
                    live.update(_picture(console.width), refresh=True)
        while True:
            if as_json:
                click.echo(json.dumps(_report_or_problem()))
            else:
                console.print(_picture(console.width))
            sys.stdout.flush()
            time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _report_or_problem() -> dict[str, Any]:
    try:
        return _report()
    except (click.ClickException, ResilienceError) as error:
        return {"error": str(error), "at": iso(datetime.now(UTC))}


def _picture(width: int) -> RenderableType:
    """The circuits, or why they cannot be seen."""
    report = _report_or_problem()
    if "error" in report:
        return Text(one_line(f"{datetime.now(UTC):%H:%M:%S} UTC: {report['error']}"), "red")
    return _circuits_table(report["circuit_breakers"], width)


def _circuits_table(rows: list[dict[str, Any]], width: int) -> Table:
    """For so many columns; names of services are folded where they do not fit."""
    wide = width >= WIDE
    columns = ["service", "circuit", "since", "why", "next try"]
    columns += ["failures"] if wide else []
    columns += ["parked", "oldest parked" if wide else "oldest"]
    table = _table(*columns, fold="service")
    for row in rows:
        state = row["state"] if row["shared"] else UNREADABLE
        cells = {
            "service": row["service"],
            "circuit": Text(state, COLOURS[state]),
            "since": _ago(row["since"]),
            "why": row["reason"] or "",
            "next try": next_try(row["retry_at"], row["reason"]),
            "failures": f"{row['failure_count']}/{row['failure_threshold']}",
            "parked": str(row["parked"] or ""),
        }
        table.add_row(*(cell(cells.get(column, _ago(row["parked_since"]))) for column in columns))
    return table


def _table(*columns: str, fold: str = "") -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column != fold, overflow="fold" if column == fold else "ellipsis")
    return table


def _ago(when: str | None) -> str:
    """How long ago, in words; nothing for never."""
    return span(-seconds_until(when)) if when else ""


@circuits.command(epilog="Example: celery -A workers circuits show finnhub")
@click.argument("service")
@as_json
def show(service: str, as_json: bool) -> None:  # noqa: FBT001
    """One circuit, with its evidence."""
    _print(_must_be_shared(_state(_known(service))), as_json)


def _control(name: str, act: str, text: str, example: str) -> None:
    """Add one operator act to ``circuits``."""

    @circuits.command(name, help=text, epilog=f"Example: celery -A workers circuits {name} {example}")
    @click.argument("service")
    @click.option(
        "--for", "seconds", type=_Seconds(), help="Time limit: 90, 15m, 2h, 1d.", hidden=act == "reset"
    )
    @click.option("--reason", default="", help="Why; shown everywhere the circuit is.")
    @click.option("--actor", help="Who; you, unless said.")
    @as_json
    def command(service: str, seconds: float | None, reason: str, actor: str | None, as_json: bool) -> None:  # noqa: FBT001
        breaker = _known(service)
        if seconds is not None and act == "reset":
            raise click.UsageError("reset has no time limit: it ends what has one; leave --for out")
        limit = {} if seconds is None else {"seconds": seconds}
        getattr(breaker, act)(reason=reason, actor=actor, **limit)
        if act == "reset" and _is_ours():
            from tasks import entitlement  # noqa: PLC0415 - see above

            entitlement.forget(service)
        _print(_state(breaker), as_json)


_control(
    *("open", "force_open", "Refuse every call of the fleet, for a time limit."),
    'finnhub --for 1h --reason "they are moving"',
)
_control(
    *("close", "force_close", "Close now; with a time limit, failures do not open it until then."),
    "finnhub --for 15m",
)
_control(
    *("disable", "disable", "Let every call pass, still measured, for a time limit."),
    'finnhub --for 10m --reason "false alarm"',
)
_control(
    *("reset", "reset"),
    "Closed, no failures, no hold, no operator's word; what a plan lacks is asked again.",
    'finnhub --reason "the key is mended"',
)


@circuits.command(
    "set", epilog="Example: celery -A workers circuits set finnhub failure_threshold=4 --for 2h"
)
@click.argument("service")
@click.argument("changes", nargs=-1, required=True, metavar="FIELD=VALUE...")
@click.option("--for", "seconds", type=_Seconds(), help="Time limit: 90, 15m, 2h, 1d.")
@click.option("--reason", default="", help="Why; shown everywhere the circuit is.")
@click.option("--actor", help="Who; you, unless said.")
@as_json
def set_policy(  # click passes one argument for each option
    service: str,
    changes: tuple[str, ...],
    seconds: float | None,
    reason: str,
    actor: str | None,
    as_json: bool,  # noqa: FBT001 - click passes flags so
) -> None:
    """Change fields of a circuit's policy for the whole fleet."""
    breaker = _known(service)
    try:
        wanted = dict(parse_change(change) for change in changes)
        breaker.override(wanted, EVER if seconds is None else seconds, reason, actor)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    _print(_state(breaker), as_json)


@circuits.command(
    "unset", epilog='Example: celery -A workers circuits unset finnhub --reason "drill is over"'
)
@click.argument("service")
@click.argument("fields", nargs=-1, metavar="[FIELD...]")
@click.option("--reason", default="", help="Why; shown everywhere the circuit is.")
@click.option("--actor", help="Who; you, unless said.")
@as_json
def unset_policy(
    service: str,
    fields: tuple[str, ...],
    reason: str,
    actor: str | None,
    as_json: bool,  # noqa: FBT001 - click passes flags so
) -> None:
    """Back to the policy of the settings file: of these fields, or of all."""
    breaker = _known(service)
    try:
        breaker.end_override(reason, actor, fields or None)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    _print(_state(breaker), as_json)


@circuits.command(epilog="Example: celery -A workers circuits explain quote AAPL")
@click.argument("dataset")
@click.argument("symbol")
@adjusted
@as_json
def explain(dataset: str, symbol: str, adjustment: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Why the value of SYMBOL is stale or missing, and what to do."""
    _need_market_data()
    from tasks.explaining import explain as explained  # noqa: PLC0415 - only where it is asked

    try:
        found = explained(dataset, symbol, adjustment)
    except StoreUnavailableError:
        raise _store_lost() from None
    if as_json:
        click.echo(json.dumps(found.as_json()))
    else:
        _print_explanation(found)


def _print_explanation(found: Explanation) -> None:
    console = Console()
    waits = f"{found.parked}, the oldest for {_ago(found.parked_since)}" if found.parked else "nothing"
    named = f"{found.adjustment} {found.dataset}" if found.adjustment else found.dataset
    rows = {
        named: found.symbol,
        "last good": _kept_in_words(found),
        "parked": waits,
        "not found": found.told_not_found or "nobody says so",
    }
    for name, text in rows.items():
        console.print(Text.assemble((f"{name:<12}", "bold"), one_line(text)))
    table = _table("provider", "circuit", "since", "why", "next try", "quota", "evidence", fold="evidence")
    for source in found.providers:
        cells = (
            *(source.service, Text(source.state, COLOURS[source.state]), _ago(source.since)),
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
    parked = f"{source.parked} parked for {_ago(source.parked_since)}" if source.parked else ""
    lacks = f"not in the plan until {source.not_in_plan_until}" if source.not_in_plan_until else ""
    return "; ".join(filter(None, (source.evidence, lacks, source.told_not_found, parked)))


@circuits.command(epilog="Example: celery -A workers circuits parked finnhub --limit 100")
@click.argument("service")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most to show.")
@as_json
def parked(service: str, limit: int, as_json: bool) -> None:  # noqa: FBT001
    """What waits for a circuit, the longest waiting first."""
    _known(service)
    lot = _lot()
    entries = lot.waiting(service, limit)
    if as_json:
        click.echo(json.dumps([_parked(entry) for entry in entries]))
        return
    table = _table("id", "task", "arguments", "lane", "parked for", fold="arguments")
    for entry in entries:
        fields, problem = entry.message.fields, entry.message.problem
        told = (entry.message.id, fields.get("task") or problem, fields.get("argsrepr"), entry.lane.value)
        table.add_row(*map(cell, told), _ago(entry.since.isoformat()))
    Console().print(table)


def _parked(entry: Entry) -> dict[str, Any]:
    fields = entry.message.fields
    return {
        "id": entry.message.id,
        "task": fields.get("task"),
        "args": fields.get("argsrepr"),
        "lane": entry.lane.value,
        "parked_since": iso(entry.since),
        "due": iso(entry.due),
        "released": entry.released,
        "attempts": entry.attempts,
        "expires": fields.get("expires"),
        "problem": entry.message.problem or None,
    }


@circuits.command(epilog='Example: celery -A workers circuits release finnhub --reason "they are back"')
@click.argument("service")
@click.option("--reason", default="", help="Why; on record with the change of state.")
@click.option("--actor", help="Who; you, unless said.")
@as_json
def release(service: str, reason: str, actor: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Try what is parked now: an open circuit is probed at once, pauses end."""
    state, ready = _lot().hurry(_known(service).service_name, reason, actor or whoami())
    if state == "forced_open":
        raise click.ClickException(f"{service} is forced open: circuits reset {service} ends that")
    _print({"service": service, "state": state.value, "ready": ready}, as_json)


@circuits.command(epilog='Example: celery -A workers circuits drop finnhub --all --reason "delisted"')
@click.argument("service")
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option("--reason", default="", help="Why; the tasks end with it.")
@click.option("--actor", help="Who; you, unless said.")
@as_json
@click.pass_context
def drop(
    ctx: click.Context,
    service: str,
    ids: tuple[str, ...],
    everything: bool,  # noqa: FBT001 - click passes flags so
    reason: str,
    actor: str | None,
    as_json: bool,  # noqa: FBT001 - the same
) -> None:
    """End parked tasks as REVOKED: the IDS, or --all."""
    if bool(ids) == everything:
        raise click.UsageError("name the tasks to drop, or --all")
    _known(service)
    _lot()
    text = f"dropped by {actor or whoami()}" + (f": {reason}" if reason else "")
    gone = drop_parked(ctx.obj.app, service, ids, text)
    missing = [ident for ident in ids if ident not in gone]
    if missing:
        raise click.ClickException(
            f"not parked at {service}, or on their way back to their queue: {', '.join(missing)}"
            f" ({len(gone)} dropped)"
        )
    _print({"service": service, "dropped": len(gone)}, as_json)


@circuits.command(epilog="Example: celery -A workers circuits remove customer-17")
@click.argument("service")
@as_json
def remove(service: str, as_json: bool) -> None:  # noqa: FBT001
    """Forget a circuit: its state, history and counts; refused while tasks are parked there."""
    try:
        known = (CIRCUIT_BREAKERS.get(service) or CircuitBreaker(service)).remove()
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    if not known:
        raise click.ClickException(f"the store knows nothing of {service!r}")
    _print({"service": service, "removed": True}, as_json)


@circuits.command(epilog="Example: celery -A workers circuits exporter --port 9464 --address 0.0.0.0")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9464, show_default=True, help="0: any that is free."
)
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0: everywhere."
)
def exporter(port: int, address: str) -> None:
    """Serve the fleet's metrics to Prometheus, and nothing else, until it is stopped."""
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - only where it serves

    from resilience.metrics import CircuitCollector  # noqa: PLC0415 - the same

    registry = CollectorRegistry()
    registry.register(CircuitCollector())
    if _is_ours():
        from tasks.metrics import ReadingCollector  # noqa: PLC0415 - the same

        registry.register(ReadingCollector())
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {address}:{port} ({error.strerror}): name another with --address and --port"
        ) from None
    click.echo(f"metrics at http://{address}:{server.server_port}/metrics")
    thread.join()


@click.command(cls=_ClearCommand, epilog="Example: celery -A workers latest quote AAPL")
@click.argument("dataset")
@click.argument("symbol")
@adjusted
@as_json
def latest(dataset: str, symbol: str, adjustment: str | None, as_json: bool) -> None:  # noqa: FBT001
    """The last good value of SYMBOL, at once, with its honest age."""
    _need_market_data()
    import tasks  # noqa: PLC0415 - only where a value is read

    _print_reading(tasks.latest(dataset, symbol, adjustment), as_json)


@click.command(cls=_ClearCommand, epilog="Example: celery -A workers refresh quote AAPL --wait 5")
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
    _need_market_data()
    import tasks  # noqa: PLC0415 - as above

    _print_reading(
        tasks.refresh(dataset, symbol, provider=provider, adjustment=adjustment, wait=wait), as_json
    )


@click.command(cls=_ClearCommand, epilog="Example: celery -A workers simulate finnhub down")
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
    _need_market_data()
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
        _print({name: row["mode"] for name, row in client.providers().items()}, as_json)
    except SimulatorError as error:
        raise click.ClickException(str(error)) from None


@click.group(cls=_Clear)
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
    _need_market_data()
    from workers.recording import record  # noqa: PLC0415 - see above

    kept = 0
    for told in record(symbols, datasets, services, out, rows):
        click.echo(one_line(told.text))
        kept += told.file is not None
    if not kept:
        raise click.ClickException("no reply was kept")


@click.group(cls=_Clear)
def schedule() -> None:
    """Look at the schedule."""


@schedule.command("check", epilog="Example: celery -A workers schedule check new.toml")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@as_json
def check_schedule(file: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Whether FILE, or the schedule beat would start with, can be used, and what it asks of the providers."""
    _need_market_data()
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
    _need_market_data()
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


def next_try(retry_at: str | None, reason: str | None = None) -> str:
    """In words; nothing where nothing is due."""
    if reason in UNPROBED:
        return UNPROBED[reason]
    if not retry_at:
        return ""
    left = seconds_until(retry_at)
    if left <= 0:
        return "now"
    return f"in {span(left)}"


def _known(service: str) -> CircuitBreaker:
    if service not in CIRCUIT_BREAKERS:
        raise click.UsageError(f"unknown service {service!r}; known are {', '.join(CIRCUIT_BREAKERS)}")
    return get_circuit_breaker(service)


def _state(breaker: CircuitBreaker) -> dict[str, Any]:
    """The circuit, and what is known of its provider."""
    row = breaker.get_state()
    _add_providers([row])
    return row


def _must_be_shared(row: dict[str, Any]) -> dict[str, Any]:
    """While the store is lost a process sees only circuits of its own; an operator asks for the fleet's."""
    if not row["shared"]:
        raise _store_lost()
    return row


def _store_lost() -> click.ClickException:
    store = default_store()
    if isinstance(store, FailoverStore) and store.up:  # which has said by now what it is
        return click.ClickException(f"what the breaker store at {_address()} keeps there cannot be read")
    return click.ClickException(
        f"the breaker store at {_address()} does not answer: start it, "
        "or name another with RESILIENCE_STORE_URL"
    )


def _lot() -> ParkingLot:
    store = default_store()
    lot = store.lot if store else None
    if lot is None:
        raise click.ClickException("there is no shared store: name one with RESILIENCE_STORE_URL")
    return lot


def _address() -> str:
    store = default_store()
    return store.shared.scripts.address if isinstance(store, FailoverStore) else "memory://"


def _print(row: dict[str, Any], as_json: bool) -> None:  # noqa: FBT001
    if as_json:
        click.echo(json.dumps(row))
        return
    width = max(map(len, row), default=0)
    if "not_in_plan" in row:
        row = row | {"not_in_plan": ", ".join(_missing(noted) for noted in row["not_in_plan"])}
    if "policy_changes_by_field" in row:
        told = (_change(name, one) for name, one in row["policy_changes_by_field"].items())
        row = row | {"policy_changes_by_field": "; ".join(told)}
    for name, value in row.items():
        click.echo(f"{name:<{width}}  {one_line('' if value is None else value)}")


def _change(name: str, one: dict[str, Any]) -> str:
    """One change of a policy, in words."""
    why = f" ({one['note']})" if one["note"] else ""
    return f"{name}={one['value']} by {one['actor']}{why} until {one['until']}"


def _missing(noted: dict[str, Any]) -> str:
    """One thing a plan lacks, in words."""
    symbol = f" of {noted['symbol']}" if noted["symbol"] else ""
    return f"{noted['dataset']}{symbol} until {noted['until']} (key {noted['key'] or 'none'})"


def _print_reading(reading: Reading, as_json: bool) -> None:  # noqa: FBT001
    row = reading.as_json()
    records = row["value"] if isinstance(row["value"], list) and not as_json else []
    if isinstance(row["value"], list) and not as_json:
        row["value"] = f"{len(records)} records"
    _print(row, as_json)
    for record in records:  # in their order: each on a line, without what it does not have
        click.echo(json.dumps({name: value for name, value in record.items() if value not in (None, [])}))
    if reading.outcome == "failed":
        sys.exit(1)
