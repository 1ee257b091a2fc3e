"""``celery -A APP circuits``, a plug-in of Celery's command line, which imports it for every command.

An app adds a command of its own with ``circuits.add_command``.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

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
    extension,
    get_circuit_breaker,
    publishing,
)
from resilience.breaker import EVER, iso
from resilience.operations.acts import ACTS, Operator
from resilience.operations.screen import cell, lines, one_line
from resilience.operations.words import COLOURS, UNREADABLE, ago, next_try
from resilience.policy import MAX_SECONDS, MIN_SECONDS, parse_change
from resilience.registry import unknown
from resilience.release import lot_of
from resilience.stores import default_store
from resilience.stores.failover import FailoverStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from resilience.parking import Entry

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

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
why = click.option("--reason", default="", help="Why; shown everywhere the circuit is.")
who = click.option("--actor", help="Who; you, unless said.")


class Clear(click.Command):
    """Wrong input and lost servers end in one clear line, not in a traceback."""

    def usage_errors(self) -> tuple[type[Exception], ...]:
        """What means that an argument cannot be used, beside click's own."""
        return ()

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does."""
        with self.told():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does."""
        with self.told():
            return super().invoke(ctx)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn what is raised on purpose into a message and an exit code."""
        try:
            yield
        except click.ClickException as error:
            vars(error)["message"] = lines(error.message)  # click calls it final
            raise
        except (ResilienceError, ConnectionError) as error:
            raise click.ClickException(lines(str(error))) from None
        except UnicodeEncodeError as error:  # bytes of an argument that are no text
            raise click.UsageError(f"{error.object[:80]!r} is no text: write it in UTF-8") from None
        except ValueError as error:
            if not isinstance(error, self.usage_errors()):
                raise
            raise click.UsageError(lines(str(error))) from None


class ClearGroup(Clear, click.Group):
    """The same for a group."""


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


@click.group(cls=ClearGroup, epilog=EXIT_CODES)
@click.pass_context
def circuits(ctx: click.Context) -> None:
    """Look at the circuits, and act on them for the whole fleet."""
    if ctx.obj is not None:  # some circuits are named by tasks alone
        ctx.obj.app.loader.import_default_modules()
        ctx.obj.app.finalize()


@circuits.command("list", epilog="Example: celery -A shop circuits list --watch 5")
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
    """As ``GET /circuit-breakers``, and what the app adds."""
    report = publishing.report()
    rows = report["circuit_breakers"]
    if rows and not any(row["shared"] for row in rows):
        raise store_lost()
    extension.annotate(report["circuit_breakers"])
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
    table = plain_table(*columns, fold="service")
    for row in rows:
        state = row["state"] if row["shared"] else UNREADABLE
        cells = {
            "service": row["service"],
            "circuit": Text(state, COLOURS[state]),
            "since": ago(row["since"]),
            "why": row["reason"] or "",
            "next try": next_try(row["retry_at"], row["reason"]),
            "failures": f"{row['failure_count']}/{row['failure_threshold']}",
            "parked": str(row["parked"] or ""),
        }
        table.add_row(*(cell(cells.get(column, ago(row["parked_since"]))) for column in columns))
    return table


def plain_table(*columns: str, fold: str = "") -> Table:
    """One without lines; a column that has no room is cut, or, one of them, folded."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column != fold, overflow="fold" if column == fold else "ellipsis")
    return table


@circuits.command(epilog="Example: celery -A shop circuits show payments")
@click.argument("service")
@as_json
def show(service: str, as_json: bool) -> None:  # noqa: FBT001
    """One circuit, with its evidence."""
    print_row(_must_be_shared(_state(_known(service))), as_json)


def _control(act: str, example: str) -> None:
    """Add one operator act to ``circuits``."""
    about, limited = ACTS[act].about, ACTS[act].limited

    @circuits.command(act, help=about, epilog=f"Example: celery -A shop circuits {act} {example}")
    @click.argument("service")
    @click.option(
        "--for", "seconds", type=_Seconds(), help="Time limit: 90, 15m, 2h, 1d.", hidden=not limited
    )
    @why
    @who
    @as_json
    @click.pass_context
    def command(  # click passes one argument for each option
        ctx: click.Context,
        service: str,
        seconds: float | None,
        reason: str,
        actor: str | None,
        as_json: bool,  # noqa: FBT001 - click passes flags so
    ) -> None:
        _known(service)
        if seconds is not None and not limited:
            raise click.UsageError(f"{act} has no time limit: it ends what has one; leave --for out")
        print_row(_state(Operator(ctx.obj.app, actor).control(act, service, reason, seconds)), as_json)


_control("open", 'payments --for 1h --reason "they are moving"')
_control("close", "payments --for 15m")
_control("disable", 'payments --for 10m --reason "false alarm"')
_control("reset", 'payments --reason "the key is mended"')


@circuits.command("set", epilog="Example: celery -A shop circuits set payments failure_threshold=4 --for 2h")
@click.argument("service")
@click.argument("changes", nargs=-1, required=True, metavar="FIELD=VALUE...")
@click.option("--for", "seconds", type=_Seconds(), help="Time limit: 90, 15m, 2h, 1d.")
@why
@who
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
    print_row(_state(breaker), as_json)


@circuits.command("unset", epilog='Example: celery -A shop circuits unset payments --reason "drill is over"')
@click.argument("service")
@click.argument("fields", nargs=-1, metavar="[FIELD...]")
@why
@who
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
    print_row(_state(breaker), as_json)


@circuits.command(epilog="Example: celery -A shop circuits parked payments --limit 100")
@click.argument("service")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Most to show.")
@as_json
def parked(service: str, limit: int, as_json: bool) -> None:  # noqa: FBT001
    """What waits for a circuit, the longest waiting first."""
    _known(service)
    entries = lot_of(default_store()).waiting(service, limit)
    if as_json:
        click.echo(json.dumps([_parked(entry) for entry in entries]))
        return
    table = plain_table("id", "task", "arguments", "lane", "parked for", fold="arguments")
    for entry in entries:
        fields, problem = entry.message.fields, entry.message.problem
        told = (entry.message.id, fields.get("task") or problem, fields.get("argsrepr"), entry.lane.value)
        table.add_row(*map(cell, told), ago(entry.since.isoformat()))
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


@circuits.command(epilog='Example: celery -A shop circuits release payments --reason "they are back"')
@click.argument("service")
@click.option("--reason", default="", help="Why; on record with the change of state.")
@who
@as_json
@click.pass_context
def release(ctx: click.Context, service: str, reason: str, actor: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Try what is parked now: an open circuit is probed at once, pauses end."""
    state, ready = Operator(ctx.obj.app, actor).release(_known(service).service_name, reason)
    print_row({"service": service, "state": state.value, "ready": ready}, as_json)


@circuits.command(epilog='Example: celery -A shop circuits drop payments --all --reason "delisted"')
@click.argument("service")
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option("--reason", default="", help="Why; the tasks end with it.")
@who
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
    gone = Operator(ctx.obj.app, actor).drop(_known(service).service_name, ids, reason)
    print_row({"service": service, "dropped": gone}, as_json)


@circuits.command(epilog="Example: celery -A shop circuits remove customer-17")
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
    print_row({"service": service, "removed": True}, as_json)


@circuits.command(epilog="Example: celery -A shop circuits exporter --port 9464 --address 0.0.0.0")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9464, show_default=True, help="0: any that is free."
)
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0: everywhere."
)
def exporter(port: int, address: str) -> None:
    """Serve the fleet's metrics to Prometheus, and nothing else, until it is stopped."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise click.ClickException(
            "prometheus-client is not installed: pip install 'celery-circuits[prometheus]'"
        ) from None

    from resilience.metrics import CircuitCollector  # noqa: PLC0415 - it imports the same

    registry = CollectorRegistry()
    registry.register(CircuitCollector())
    for collector in extension.collectors():
        registry.register(collector)
    try:
        server, thread = start_http_server(port, address, registry)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {address}:{port} ({error.strerror}): name another with --address and --port"
        ) from None
    click.echo(f"metrics at http://{address}:{server.server_port}/metrics")
    thread.join()


def _known(service: str) -> CircuitBreaker:
    if service not in CIRCUIT_BREAKERS:
        raise click.UsageError(unknown(service, CIRCUIT_BREAKERS))
    return get_circuit_breaker(service)


def _state(breaker: CircuitBreaker) -> dict[str, Any]:
    """The circuit, and what the app adds."""
    row = breaker.get_state()
    extension.annotate([row])
    return row


def _must_be_shared(row: dict[str, Any]) -> dict[str, Any]:
    """While the store is lost a process sees only circuits of its own; an operator asks for the fleet's."""
    if not row["shared"]:
        raise store_lost()
    return row


def store_lost() -> click.ClickException:
    """What is wrong where the store does not tell what the fleet's circuits are."""
    store = default_store()
    if isinstance(store, FailoverStore) and store.up:  # which has said by now what it is
        return click.ClickException(f"what the breaker store at {_address()} keeps there cannot be read")
    return click.ClickException(
        f"the breaker store at {_address()} does not answer: start it, "
        "or name another with RESILIENCE_STORE_URL"
    )


def _address() -> str:
    store = default_store()
    return store.shared.scripts.address if isinstance(store, FailoverStore) else "memory://"


def print_row(row: dict[str, Any], as_json: bool) -> None:  # noqa: FBT001
    """Plain JSON as JSON, or a line for each field."""
    if as_json:
        click.echo(json.dumps(row))
        return
    width = max(map(len, row), default=0)
    if "policy_changes_by_field" in row:
        told = (_change(name, one) for name, one in row["policy_changes_by_field"].items())
        row = row | {"policy_changes_by_field": "; ".join(told)} | extension.in_words(row)
    for name, value in row.items():
        click.echo(f"{name:<{width}}  {one_line('' if value is None else value)}")


def _change(name: str, one: dict[str, Any]) -> str:
    """One change of a policy, in words."""
    why = f" ({one['note']})" if one["note"] else ""
    return f"{name}={one['value']} by {one['actor']}{why} until {one['until']}"
