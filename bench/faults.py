"""Probers and servers that are killed or hang. Long waits, so that they wait together."""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import scenes
from bench.crew import Crew, LateError, SceneError, server
from bench.findings import Cell
from bench.peers import LIBRARIES, Circuit

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBER_LIMIT = 20
PROBER_CALL_SECONDS = 1
LOST_CALLS = 30
LOST_LIMIT = 45
FAULTS = {"killed": signal.SIGKILL, "hung": signal.SIGSTOP}


def span(seconds: float) -> str:
    """A time as it is read best."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


@contextlib.contextmanager
def killed_probers(port: int) -> Iterator[dict[str, Crew]]:
    """A prober killed in every library's circuit; its bystander asks from then on."""
    with contextlib.ExitStack() as stack:
        crews = {library: stack.enter_context(Crew(2)) for library in LIBRARIES}
        circuit = Circuit(port, "prober", open_seconds=1, call_seconds=PROBER_CALL_SECONDS)
        for library, crew in crews.items():
            crew.tell(scenes.prober_and_bystander, library, circuit, PROBER_LIMIT)
            with contextlib.suppress(LateError):  # then its bystander says so
                crew.wait_for_probe()
                crew.kill(0)
                crew.gear.stop.set()
        yield crews


def asked_since(crew: Crew) -> Cell:
    """After how long the bystander was let in."""
    try:
        seconds = crew.answer(1, PROBER_LIMIT + 10)
    except SceneError as error:
        return Cell.failed(error)
    return Cell(span(seconds) if math.isfinite(seconds) else f"not in {PROBER_LIMIT} s", seconds)


@dataclass(frozen=True)
class Loss:
    """One process and the server it loses."""

    library: str
    fault: str
    patient: bool
    port: int
    crew: Crew

    def begin(self) -> None:
        """The server is hit, and the calls begin."""
        circuit = Circuit(self.port, "lost", patient=self.patient)
        calls = 1 if self.patient else LOST_CALLS
        self.crew.tell(scenes.server_lost, self.library, circuit, FAULTS[self.fault], calls)

    def rows(self, seconds: float) -> dict[tuple[str, str], Cell]:
        """What the process saw, waiting so long for it."""
        keys = ("patient",) if self.patient else ("reached", "foreign", "longest", "later")
        try:
            seen = self.crew.answer(0, seconds)
        except LateError:
            cells = dict.fromkeys(keys, Cell(f"over {LOST_LIMIT} s"))
        except SceneError as error:
            cells = dict.fromkeys(keys, Cell.failed(error))
        else:
            cells = {
                "reached": Cell(str(seen.reached), seen.reached),
                "foreign": Cell(str(seen.foreign), seen.foreign),
                "longest": Cell(span(seen.longest), seen.longest),
                "later": Cell(span(seen.later), seen.later),
                "patient": Cell(span(seen.longest), seen.longest),
            }
        return {(self.library, f"{self.fault} {key}"): cells[key] for key in keys}


def lost_servers() -> dict[tuple[str, str], Cell]:
    """Every library, both faults, an impatient and a patient client."""
    cells: dict[tuple[str, str], Cell] = {}
    with contextlib.ExitStack() as stack:
        losses = [
            Loss(*case, stack.enter_context(server()), stack.enter_context(Crew(1)))
            for case in itertools.product(LIBRARIES, FAULTS, (False, True))
        ]
        for loss in losses:
            loss.crew.run(scenes.ready)
        quick = [loss for loss in losses if loss.fault == "killed" and not loss.patient]
        for loss in quick:  # alone, so that microseconds can be told
            loss.begin()
            cells |= loss.rows(LOST_LIMIT)
        long = [loss for loss in losses if loss not in quick]
        for loss in long:
            loss.begin()
        ends = time.monotonic() + LOST_LIMIT
        for loss in long:
            cells |= loss.rows(max(0, ends - time.monotonic()))
    return cells
