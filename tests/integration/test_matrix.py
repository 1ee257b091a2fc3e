"""Every provider of the catalogue with every fault of the simulator: where circuit, task and reader end up.

The table is written by hand. What is run is the whole system: real HTTP, a real store, a real worker.
``make matrix`` prints what came of it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import resilience.stores.redis
from resilience import get_circuit_breaker
from resilience.states import PARKED
from tasks import entitlement, latest
from tasks.providers import PROVIDERS
from tests.fleet import wait_for
from tests.system import System
from workers.simulator import Mode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest
    from celery.result import AsyncResult


class Cell(NamedTuple):
    """What came of one task.

    Attributes:
        verdict: The class of the provider's reply.
        circuit: The circuit's state, and why where it is not closed.
        task: The task's state, and why where it is parked.
        reader: What a reader of the same value is told.
    """

    verdict: str
    circuit: str
    task: str
    reader: str


FRESH = Cell("success", "closed", "SUCCESS", "fresh")
SLOW = Cell("success", "open: slow_calls", "SUCCESS", "stale")
FAILED = Cell("provider_failure", "open: failures", "PARKED: failures", "stale")
LIMITED = Cell("rate_limit", "open: rate_limited", "PARKED: rate_limited", "stale")
USED_UP = Cell("quota", "open: quota", "PARKED: quota", "stale")
REFUSED = Cell("auth", "open: auth", "PARKED: auth", "stale")
TURNED_AWAY = Cell("auth", "open: turned_away", "PARKED: turned_away", "stale")
NOT_IN_PLAN = Cell("entitlement", "closed", "FAILURE", "fresh")
ASKED_WRONGLY = Cell("caller_error", "closed", "FAILURE", "fresh")
NAMES = {
    FRESH: "fresh",
    SLOW: "slow",
    FAILED: "failed",
    LIMITED: "limited",
    USED_UP: "used up",
    REFUSED: "refused",
    TURNED_AWAY: "turned away",
    NOT_IN_PLAN: "no plan",
    ASKED_WRONGLY: "asked wrongly",
}
#: Who takes no key; SEC EDGAR wants to know who asks, and says so.
KEYLESS = [service for service, row in PROVIDERS.items() if row.auth is None]


class Fault(NamedTuple):
    """One column of the table.

    Attributes:
        mode: The simulator's.
        cell: What comes of it.
        but: Service → what comes of it there.
        seconds: The mode's.
        policy: What the circuits' policy has beside `POLICY`.
    """

    mode: Mode
    cell: Cell
    but: Mapping[str, Cell] = {}
    seconds: float | None = None
    policy: Mapping[str, Any] = {}


POLICY = {"failure_threshold": 1, "timeout_seconds": 600}
SHORT = {"call_seconds": 1.0}  # only for what runs into its deadline: a busy machine takes its time
ANY_SLOW = {"slow_call_seconds": 0.25, "slow_call_rate": 1.0, "minimum_calls": 1}
TABLE = {
    "ok": Fault(Mode.OK, FRESH),
    "slow": Fault(Mode.SLOW, FRESH, seconds=0.5),
    "slow, by rule": Fault(Mode.SLOW, SLOW, seconds=0.5, policy=ANY_SLOW),
    "down": Fault(Mode.DOWN, FAILED),
    "5xx": Fault(Mode.SERVER_ERROR, FAILED),
    "throttle": Fault(Mode.THROTTLE, LIMITED),
    "quota": Fault(
        Mode.QUOTA,
        USED_UP,
        but={
            "finnhub": LIMITED,  # it has no limit but the one a minute
            "sec_edgar": LIMITED,  # a second
            "fred": LIMITED,  # a minute
            "polygon": LIMITED,  # a minute
            "alpaca": LIMITED,  # a minute
            "tradier": LIMITED,  # a minute
            "intrinio": LIMITED,  # a second
            "benzinga": LIMITED,  # it documents its licence's limit, of no length
            "coingecko": LIMITED,  # it documents a month's, but no reply of its own to who is above it
            "world_bank": LIMITED,  # it documents none
            "us_treasury": LIMITED,  # none
            "yahoo": LIMITED,  # none
            "openfigi": LIMITED,  # a minute
            "coinbase": LIMITED,  # a second
            "kraken": LIMITED,  # a second
            "binance": LIMITED,  # a minute
            "ecb": LIMITED,  # it documents none
        },
    ),
    "bad key": Fault(
        Mode.BAD_KEY,
        REFUSED,
        but={name: FAILED for name in KEYLESS if not PROVIDERS[name].contact_required}
        | {"openfigi": TURNED_AWAY},  # it says no more than Unauthorized
    ),
    # What stands in between has said no, and nobody else.
    "firewall": Fault(Mode.FIREWALL, FAILED, but={"binance": LIMITED}),  # which documents 403 as a limit
    "unexplained": Fault(Mode.UNEXPLAINED, TURNED_AWAY, but=dict.fromkeys(KEYLESS, FAILED)),
    "not in plan": Fault(Mode.NOT_IN_PLAN, NOT_IN_PLAN, but=dict.fromkeys(KEYLESS, FAILED)),
    "wrong key": Fault(Mode.WRONG_KEY, REFUSED, but=dict.fromkeys(KEYLESS, ASKED_WRONGLY)),
    "error page": Fault(Mode.ERROR_PAGE, FAILED),
    "rate page": Fault(Mode.RATE_PAGE, LIMITED),
    "rate abroad": Fault(Mode.RATE_ABROAD, LIMITED),
    "garbage": Fault(Mode.GARBAGE, FAILED),
    "half": Fault(Mode.HALF, FAILED),
    "drip": Fault(Mode.DRIP, FAILED, policy=SHORT),
    "hang": Fault(Mode.HANG, FAILED, policy=SHORT),
    "redirect": Fault(Mode.REDIRECT, FAILED),
    "huge": Fault(Mode.HUGE, FAILED),
    "gzip bomb": Fault(Mode.GZIP_BOMB, FAILED),
    "wrong type": Fault(Mode.WRONG_TYPE, FAILED),
}


class Asked(NamedTuple):
    """What is asked of a provider: its first dataset, of a symbol that nobody else is asked about."""

    dataset: str
    symbol: str
    adjustment: str | None


def asked_of(service: str) -> Asked:
    dataset, endpoint = next(iter(PROVIDERS[service].endpoints.items()))
    symbol = service.upper().replace("_", ".") if endpoint.example == "AAPL" else endpoint.example
    return Asked(dataset, symbol, endpoint.adjustment)


ASKED = {service: asked_of(service) for service in PROVIDERS}
RETIRED = [service for service, row in PROVIDERS.items() if row.retired]


class Round:
    """One task for each provider, under one fault."""

    def __init__(self, system: System, fault: Fault) -> None:
        self.system, self.fault = system, fault
        for service in PROVIDERS:
            if fault.policy:
                get_circuit_breaker(service).override(POLICY | fault.policy)
            system.simulator.set_mode(service, fault.mode, fault.seconds)
        self.allowed = {service: system.circuit(service)["allowed_total"] for service in PROVIDERS}
        self.heard = {service: row["calls"] for service, row in system.simulator.providers().items()}
        self.tasks: dict[str, AsyncResult] = {
            service: system.app.send_task(f"tasks.{service}.fetch", (asked.dataset, asked.symbol))
            for service, asked in ASKED.items()
        }

    def expected(self, service: str) -> Cell:
        return self.fault.but.get(service, self.fault.cell)

    def cell(self, service: str) -> Cell:
        meta = self.system.app.backend.get_task_meta(self.tasks[service].id)
        state, told = meta["status"], meta["result"]
        circuit = self.system.circuit(service)
        verdict = told["verdict"] if state == PARKED else getattr(told, "verdict", "")
        return Cell(
            "success" if state == "SUCCESS" else verdict,
            circuit["state"] + (f": {circuit['reason']}" if circuit["reason"] else ""),
            state + (f": {told['reason']}" if state == PARKED else ""),
            latest(*ASKED[service]).outcome,
        )

    def cells(self) -> dict[str, Cell]:
        """What came of each task, once all is as expected, or half a minute has passed.

        A limit may be over by then, and its provider just asked again: what was as expected counts there.
        """
        left = set(PROVIDERS)

        def as_expected() -> bool:
            left.difference_update({name for name in left if self.cell(name) == self.expected(name)})
            return not left

        with contextlib.suppress(AssertionError):  # shown in the matrix, and compared there
            wait_for(as_expected, 30)
        over = {name for name in PROVIDERS if self.expected(name) is LIMITED} - left
        return {name: LIMITED if name in over else self.cell(name) for name in PROVIDERS}

    def calls(self) -> dict[str, str]:
        """Where a provider heard what no permit was for, or was asked again before its circuit's time."""
        wrong = {}
        heard = {service: row["calls"] for service, row in self.system.simulator.providers().items()}
        for service in PROVIDERS:
            allowed = self.system.circuit(service)["allowed_total"] - self.allowed[service]
            calls = heard[service] - self.heard[service]
            if self.expected(service) is LIMITED:  # which may be over within a second, and again
                fine = 0 < calls <= allowed
            else:
                fine = (allowed, calls) == (1, 0 if self.fault.mode is Mode.DOWN else 1)
            if not fine:
                wrong[service] = f"{allowed} allowed, {calls} heard"
        return wrong

    def heal(self) -> None:
        """The providers are well, an operator says so: what was parked runs, and readers have it."""
        self.system.simulator.reset()
        for service in RETIRED:
            self.system.simulator.set_mode(service, Mode.OK)
        for service in PROVIDERS:
            breaker = get_circuit_breaker(service)
            if self.fault.policy:
                breaker.end_override()
            breaker.reset()
            entitlement.forget(service)
        left = {name for name in PROVIDERS if self.expected(name).task != "FAILURE"}  # that has ended

        def healed() -> bool:
            left.difference_update({name for name in left if self.cell(name) == FRESH})
            return not left

        try:
            wait_for(healed, 30)
        except AssertionError:
            raise AssertionError({name: self.cell(name) for name in left}) from None


def matrix(cells: Mapping[str, Mapping[str, Cell]]) -> str:
    """A line for each provider, a column for each fault; below, what the words mean."""
    first = max(map(len, PROVIDERS))
    widths = {fault: max(len(fault), len("used up")) for fault in cells}
    lines = ["  ".join([" " * first, *(f"{fault:{width}}" for fault, width in widths.items())])]
    for service in PROVIDERS:
        words = (f"{NAMES.get(row[service], 'OTHER'):{widths[fault]}}" for fault, row in cells.items())
        lines.append("  ".join([f"{service:{first}}", *words]))
    lines.append("")
    for cell, name in NAMES.items():
        verdict, circuit, task, reader = cell
        lines.append(f"{name:{first}}  reply {verdict}, circuit {circuit}, task {task}, reader {reader}")
    return "\n".join(line.rstrip() for line in lines)


def test_every_provider_and_every_fault_end_as_the_table_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resilience.stores.redis, "SOCKET_SECONDS", 10.0)  # see tests/patient.py
    assert {fault.mode for fault in TABLE.values()} == set(Mode)
    circuits = tmp_path / "circuits.toml"
    fields = "\n".join(f"{name} = {value}" for name, value in POLICY.items())
    circuits.write_text("\n".join(f"[{service}]\n{fields}\n" for service in PROVIDERS), "utf-8")
    system = System(tmp_path)
    try:
        # Who is gone would not be asked, unless an address is set by hand.
        simulated = system.simulator.providers()
        own = {f"{service.upper()}_BASE_URL": simulated[service]["base_url"] for service in RETIRED}
        own |= {f"{service.upper()}_API_KEY": f"SECRETKEY-{service}-123" for service in RETIRED}
        options = ("-l", "INFO", "-c", "8", "-n", "matrix@test", "--without-mingle", "--without-gossip")
        own["CIRCUITS_FILE"] = str(circuits)
        system.celery("matrix", "worker", *options, app="tests.patient", **own).ready()
        cells: dict[str, dict[str, Cell]] = {}
        calls: dict[str, dict[str, str]] = {}
        try:
            for name, fault in TABLE.items():
                tried = Round(system, fault)
                cells[name], calls[name] = tried.cells(), tried.calls()
                tried.heal()
        finally:
            print(f"\n{matrix(cells)}")  # noqa: T201 - what make matrix is for
        wrong = [
            f"{name}, {service}: {cell}, not {expected}"
            for name, row in cells.items()
            for service, cell in row.items()
            if cell != (expected := TABLE[name].but.get(service, TABLE[name].cell))
        ]
        assert not wrong, "\n".join(wrong)
        assert {name: found for name, found in calls.items() if found} == {}
    finally:
        system.close()
