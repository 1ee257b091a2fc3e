"""Breadth first through all that can happen, so that what is found is found by its shortest way."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lupa.lua51 import LuaError

from resilience.circuit import Verdict
from tests.model.canonical import fingerprint
from tests.model.invariants import check
from tests.model.world import CIRCUIT, FINAL, LOT, SECOND, Hand, Violation, circuit_in, with_one, without

if TYPE_CHECKING:
    from tests.model.world import State, World

#: Longer than any way home: a state from which a healthy world is not at rest by then is stuck.
WAY_HOME = 400


@dataclass
class Found:
    """What a search has seen.

    Attributes:
        states: Different ones.
        transitions: Steps from one to another, or back to one seen.
        depth: Steps from the start to the farthest.
        complete: There is nothing else in this world.
        seconds: How long it took.
        violation: What does not hold, if anything.
        trace: The shortest way there.
    """

    states: int = 0
    transitions: int = 0
    depth: int = 0
    complete: bool = False
    seconds: float = 0
    violation: Violation | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.violation is None:
            return f"{self.states} states, {self.transitions} transitions, depth {self.depth}"
        most = 30  # of a way home that ends nowhere the beginning is enough
        lines = "\n".join(f"  {number:>2}  {step}" for number, step in enumerate(self.trace[:most], 1))
        return f"{self.violation}\n{lines}"


def explore(world: World, most: int = 10_000_000, seconds: float = 1e9, deepest: int = 1000) -> Found:
    """Everything that can happen, or so many states, for so long, so many steps deep."""
    return _Search(world).run(most, seconds, deepest)


class _Search:
    def __init__(self, world: World) -> None:
        self.world = world
        self.came_by: dict[bytes, tuple[bytes, str]] = {}
        self.home: set[bytes] = set()
        self.found = Found()

    def run(self, most: int, seconds: float, deepest: int) -> Found:
        started = time.monotonic()
        found, start = self.found, self.world.start
        key = fingerprint(self.world, start)
        self.came_by[key] = (b"", "")
        level = [(key, start)]
        while level and found.violation is None and found.depth < deepest:
            following: list[tuple[bytes, State]] = []
            for key, state in level:
                self._expand(key, state, following)
                late = time.monotonic() - started > seconds
                if found.violation or late or len(self.came_by) > most:
                    break
            else:
                found.depth += bool(following)
                level = following
                continue
            break
        found.complete = not level and found.violation is None
        found.states, found.seconds = len(self.came_by), time.monotonic() - started
        return found

    def _expand(self, key: bytes, state: State, following: list[tuple[bytes, State]]) -> None:
        try:
            for label, after in self.world.steps(state):
                self.found.transitions += 1
                reached = fingerprint(self.world, after)
                if reached in self.came_by:
                    continue
                self.came_by[reached] = (key, label)
                following.append((reached, after))
                self._judge(reached, after)
        except (Violation, LuaError) as error:
            if self.found.violation is None:
                self.found.violation, self.found.trace = as_violation(error), self._way_to(key)

    def _judge(self, key: bytes, state: State) -> None:
        steps: list[str] = []
        try:
            check(self.world, state)
            self._go_home(key, state, steps)
        except (Violation, LuaError) as error:
            self.found.violation = as_violation(error)
            self.found.trace = (*self._way_to(key), *steps)
            raise

    def _way_to(self, key: bytes) -> tuple[str, ...]:
        steps = []
        while self.came_by[key][0]:
            key, label = self.came_by[key]
            steps.append(label)
        return tuple(reversed(steps))

    def _go_home(self, key: bytes, state: State, steps: list[str]) -> None:
        """Without more faults, with a well provider: all come to their ends, and the circuit closes.

        Every state has a way home, so among all fair ways none avoids it for ever.
        """
        seen = []
        for _ in range(WAY_HOME):
            if key in self.home:
                break
            seen.append(key)
            if at_rest(self.world, state):
                self._look_at_rest(state)
                break
            label, state = homewards(self.world, state)
            steps.append(f"on the way home: {label}")
            check(self.world, state)
            key = fingerprint(self.world, state)
        else:
            waits = sorted(
                t.id for t, result in zip(self.world.tasks, state.results, strict=True) if result not in FINAL
            )
            raise Violation(
                "no circuit and no task is stuck",
                f"{WAY_HOME} steps of a healthy world on, the circuit is "
                f"{circuit_in(state).get('state', 'closed')} and {waits or 'nobody'} waits",
            )
        self.home.update(seen)

    def _look_at_rest(self, state: State) -> None:
        if state.doubled or state.gone:
            return
        left = {key.removeprefix(LOT) for key in state.keys if key.startswith(LOT)}
        if left:
            raise Violation("nothing is left of tasks that ended", f"there is still {sorted(left)}")


def as_violation(error: Exception) -> Violation:
    """An error in a script is one too."""
    return error if isinstance(error, Violation) else Violation("no script fails", str(error))


def at_rest(world: World, state: State) -> bool:
    """Whether all is over and well."""
    circuit = circuit_in(state)
    busy = state.queue or state.hands or state.batches or state.keys.get(f"{LOT}messages")
    ended = all(
        result in FINAL or task.id in state.gone
        for task, result in zip(world.tasks, state.results, strict=True)
    )
    well = circuit.get("state", "closed") == "closed" and not is_forced(state)
    return not busy and ended and well


def is_forced(state: State) -> bool:
    """Whether an operator's word holds."""
    circuit = circuit_in(state)
    return bool(circuit.get("forced")) and int(circuit["forced_until"]) > state.now


def homewards(world: World, state: State) -> tuple[str, State]:
    """The next step where everybody does what there is to do, at once, and the provider answers."""
    for hand in state.hands:
        label, then, after = next(move for move in world.moves_of(state, hand) if _is_healthy(move[0], hand))
        rest = without(state.hands, hand)
        return label, (after or state)._replace(hands=with_one(rest, then) if then else rest)
    for batch in state.batches:
        return world.advance(state, batch)
    if state.queue:
        task = state.queue[0]
        delivered = state._replace(queue=state.queue[1:], hands=(Hand(task, "received"),))
        return f"the broker delivers {task}", delivered
    for label, after in world.looks(state):
        if after.batches or _lot_of(after) != _lot_of(state):
            return label, after
    if not state.keys.get(f"{LOT}messages") and not is_forced(state):
        label, then, after = next(world.run(state, Hand("", "run")))
        if then:
            return label, after._replace(hands=(then,))
    when = world.next_moment(state) or state.now + SECOND
    return f"{(when - state.now) / SECOND:g} s pass", world.at(state, when)


def _is_healthy(label: str, hand: Hand) -> bool:
    return hand.stage != "calling" or Verdict.SUCCESS.value in label


def _lot_of(state: State) -> dict[str, object]:
    return {key: value for key, value in state.keys.items() if key != CIRCUIT}
