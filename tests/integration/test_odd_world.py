"""A day as it really is: one row in a hundred odd, two symbols in a hundred gone, at every provider at once.

No circuit opens for it, every good row arrives, and every task ends. ``make matrix`` plays it, too:
``ODD_SECONDS=600 make matrix`` for ten minutes.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from tasks.errors import InputError
from tasks.fetch import FetchError
from tasks.providers import PROVIDERS
from tasks.records import DATASETS
from tests.fleet import wait_for
from tests.system import FINAL, System

if TYPE_CHECKING:
    from pathlib import Path


SECONDS = float(os.environ.get("ODD_SECONDS", "15"))
ROWS, DELISTED = 0.01, 0.02
#: Asked for in each round: every dataset of every provider, so many symbols of each.
SYMBOLS = 5
#: At once at most: who is far behind would only measure the machine.
MOST_WAITING = 300
LIVING = [service for service, row in PROVIDERS.items() if not row.retired]
SERVED = [(service, dataset) for service in LIVING for dataset in PROVIDERS[service].endpoints]
#: What a task may end with beside a value: nobody knows the symbol, or there is nothing of it now.
NOES = {"not_found", "empty"}


def symbols_of(service: str, dataset: str, number: int) -> str:
    """A symbol nobody has been asked about yet, where the provider has so many; else its example."""
    endpoint = PROVIDERS[service].endpoints[dataset]
    for symbol in (f"{endpoint.example}{number:05}", f"{1_000_000_000 + number}"):
        try:
            endpoint.spelling(symbol)
        except InputError:
            continue
        return symbol
    return endpoint.example


def test_odd_rows_and_dead_symbols_open_no_circuit_lose_no_good_row_and_end(tmp_path: Path) -> None:
    system = System(tmp_path)
    try:
        system.simulator.make_odd(ROWS, DELISTED)
        options = ("-l", "INFO", "-c", "6", "-n", "odd@test", "--without-mingle", "--without-gossip")
        system.celery("odd", "worker", *options).ready()
        world = World(system)
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            world.ask()
        wait_for(lambda: not world.waiting(), 120, "every task ends")
        world.tell()
        assert world.opened() == {}
        assert world.wrong() == []
        assert world.seen["SUCCESS"] > 0.9 * sum(world.seen.values())
        assert world.odd > 0
    finally:
        system.close()


class World:
    """What is asked, and what came of it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.number = 0
        self.tasks: dict[str, tuple[str, str, str]] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        #: Service and symbol as it spells it → how many good rows it sent each time, of how many.
        self.sent: dict[tuple[str, str], set[int]] = defaultdict(set)
        self.since = 0.0
        self.rows = self.odd = 0

    def ask(self) -> None:
        """One round of everything, when the last is nearly done."""
        for service, dataset in SERVED:
            for _ in range(SYMBOLS):
                self.number += 1
                symbol = symbols_of(service, dataset, self.number)
                task = self.system.app.send_task(f"tasks.{service}.fetch", (dataset, symbol))
                self.tasks[task.id] = (service, dataset, symbol)
            self.heard()  # the simulator keeps the last 10 000 calls
        wait_for(lambda: self.waiting() < MOST_WAITING, 60, "most of the round is done")

    def heard(self) -> None:
        """What the providers have sent since the last look."""
        for call in self.system.simulator.calls(since=self.since):
            self.since = call["at"]
            self.rows, self.odd = self.rows + call["rows"], self.odd + call["odd"]
            self.sent[call["service"], call["symbol"]].add(call["rows"] - call["odd"])

    def waiting(self) -> int:
        """How many tasks have not ended."""
        for ident in self.tasks.keys() - self.ended.keys():
            meta = self.system.app.backend.get_task_meta(ident)
            if meta["status"] in FINAL:
                self.ended[ident] = meta
        return len(self.tasks) - len(self.ended)

    @property
    def seen(self) -> Counter[str]:
        """How the tasks ended."""
        return Counter(_word(meta) for meta in self.ended.values())

    def opened(self) -> dict[str, str]:
        """Whose circuit has ever been open, and why."""
        rows = {service: self.system.circuit(service) for service in LIVING}
        return {name: str(row["reason"]) for name, row in rows.items() if row["trips_total"] or row["reason"]}

    def wrong(self) -> list[str]:
        """The tasks that ended as they should not, and the values in which a good row is missing."""
        self.heard()
        found = []
        for ident, meta in self.ended.items():
            service, dataset, symbol = self.tasks[ident]
            word = _word(meta)
            if word == "SUCCESS":
                if DATASETS[dataset].alone:
                    continue
                got, sent = len(meta["result"]["value"]), self._sent(service, dataset, symbol)
                if got < min(sent):  # more where what was changed in an odd row is not needed
                    found.append(f"{service} {dataset} {symbol}: {got} rows, sent were {sorted(sent)} good")
            elif word not in NOES:
                found.append(f"{service} {dataset} {symbol}: {word}: {meta['result']}")
        return found

    def _sent(self, service: str, dataset: str, symbol: str) -> set[int]:
        endpoint = PROVIDERS[service].endpoints[dataset]
        sent = self.sent[service, endpoint.spelling(symbol).upper()]
        return {min(count, endpoint.max_rows) for count in sent}

    def tell(self) -> None:
        """For who runs it by hand."""
        ended = ", ".join(f"{count} {word}" for word, count in self.seen.most_common())
        print(f"\n{len(self.tasks)} tasks: {ended}; {self.rows} rows, {self.odd} of them odd")  # noqa: T201


def _word(meta: dict[str, Any]) -> str:
    error = meta["result"]
    if meta["status"] == "FAILURE" and isinstance(error, FetchError):
        return error.verdict
    return str(meta["status"])
