"""When two states are one: what no script and no process will ever look at again is left out.

Times count from now, and what is over is over; places in the lot count by their order; counters that nobody
decides by do not count, nor eras but the present. ``test_model.py`` tests that this leaves nothing out that
matters: two states taken for one have the same futures.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import TYPE_CHECKING, Any

from resilience.parking import DEFERRED_SECONDS
from tests.model.world import CIRCUIT, FINAL, LOT, PATIENCE_SECONDS, SECOND, START, circuit_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.model.world import Leave, State, World

# Counted for those who look, and times kept for them.
FOR_OBSERVERS = re.compile(
    r"allowed|blocked|would_block|trips|released|unroutable|parked|coalesced|bytes|moves|heard|acted|since|last_failure|last_error|last_place|generation"
    r"|seen|there|kept"
    r"|(verdict|moved|dropped|took):.*"
)
# Of the circuit: looked at as a time to come.
TO_COME = frozenset({"retry_at", "forced_until", "tat"})
# These too, by a pace that changes with the time that has passed.
PASSED = frozenset({"ramp", "pulled_back"})
#: As in the scripts: so long after the last look at it a lot keeps back no caller.
UNATTENDED = 5 * SECOND
LEASED = ("probes", "calls", "counted", "lot:leases", "lot:due", "lot:expires")
PLACE = re.compile(r":(\d{20}):")
LANES = ("lot:on_demand", "lot:scheduled")
PLAIN = ("lot:tokens", "lot:leaders", "lot:ended")


def fingerprint(world: World, state: State) -> bytes:
    """The same for states that are one."""
    return hashlib.blake2b(repr(canonical(world, state)).encode(), digest_size=12).digest()


def canonical(world: World, state: State) -> tuple[Any, ...]:
    """The state, but for what does not matter."""
    present = circuit_in(state).get("generation", "0")
    paced = "ramp" in circuit_in(state) or '"slow' in world.policy.wire

    def leave_of(leave: Leave | None) -> tuple[Any, ...] | None:
        if leave is None:
            return None
        return (
            "of this era" if str(leave.generation) == present else leave.generation < 0,
            leave.token,
            leave.probe,
            state.now - leave.at if paced else 0,
        )

    return (
        _keys(world, state),
        state.queue,
        tuple((*hand[:2], leave_of(hand.leave), *hand[3:]) for hand in state.hands),
        state.batches,
        [result if result in FINAL else "" for result in state.results],
        state.left,
        sorted(state.doubled),
        sorted(state.gone),
        [max(START + task.expires * SECOND - state.now, 0) for task in world.tasks if task.expires],
    )


def _keys(world: World, state: State) -> list[Any]:
    ranks = Ranks(state.keys)
    out: list[Any] = []
    for key in sorted(state.keys):
        name = key.removeprefix(CIRCUIT).removeprefix(":")
        if name not in ("transitions", "samples"):
            value = _value(world, state.now, name, state.keys[key], ranks)
            out += [(name, *value)] * bool(value)
    last = int(float(state.keys.get(CIRCUIT, {}).get("last_place", 0)))
    out.append(max(last - state.now, -1))
    return out


def _value(world: World, now: int, name: str, value: Mapping[str, Any], ranks: Ranks) -> list[Any]:
    if name == "":
        return _circuit(world, now, value)
    forms: dict[str, Callable[[str, Any], Any]] = {
        "lot:messages": lambda task, text: (task, text[0]),
        "lot:trail": lambda task, text: (task, *_trail(world, text, ranks), _age(world, now, text)),
        "lot:returning": lambda task, _: task,
        "lot:followers": lambda member, _: _by_rank(member, ranks),
        "lot:grouped": lambda task, text: (task, _by_rank(text, ranks)),
        "lot:away": lambda task, since: (task, min(now - int(since), int(PATIENCE_SECONDS * SECOND))),
        **dict.fromkeys(LEASED, lambda member, ends: (member, max(int(ends) - now, 0))),
        "lot:since": lambda task, since: (task, ranks.of_arrival(since), _since(world, now, since)),
        **dict.fromkeys(("failing", "subjects"), lambda name, _: name),
        **dict.fromkeys(LANES, lambda task, place: (task, ranks.of_place(place))),
        **dict.fromkeys(PLAIN, lambda name, value: (name, value)),
    }
    if name not in forms:
        raise KeyError(f"the key {name} is new: say in tests/model/canonical.py what of it matters")
    return sorted(forms[name](member, held) for member, held in value.items())


def _circuit(world: World, now: int, fields: Mapping[str, str]) -> list[Any]:
    out: list[Any] = []
    for name in sorted(fields):
        if is_for_observers(name) and not (name == "since" and "ramp" in fields):
            continue
        value = fields[name]
        if name == "looked":
            out.append((name, _since(world, now, value)))
        elif name == "retry_at":
            out.append((name, max(int(float(value)) - now, 0), _since(world, now, value)))
        elif name in TO_COME:
            out.append((name, max(int(float(value)) - now, 0)))
        elif name in PASSED or (name == "since" and "ramp" in fields):
            out.append((name, int(float(value)) - now))
        elif name == "failures":
            out.append((name, min(int(value), world.policy.failure_threshold)))
        elif name == "reopened":
            out.append((name, int(value) if world.policy.timeout_cap_seconds else 0))
        elif name.startswith("refused:"):
            out.append(name)
        else:
            out.append((name, value))
    return out


def _since(world: World, now: int, when: float | str) -> int:
    """How long ago, as far as it says whether somebody attends to the lot, which only a caller asks for."""
    return min(max(now - int(float(when)), 0), UNATTENDED + 1) if world.callers else 0


@functools.cache
def is_for_observers(field: str) -> bool:
    """Whether nobody decides anything by this field of a circuit."""
    return FOR_OBSERVERS.fullmatch(field) is not None


class Ranks:
    """Arrivals by their order, and places by theirs."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        trails = [text.split(":") for text in keys.get(f"{LOT}trail", {}).values()]
        self._arrivals = _numbered([trail[0] for trail in trails], keys.get(f"{LOT}since", {}).values())
        places = [place for member in keys.get(f"{LOT}followers", ()) for place in PLACE.findall(member)]
        for lane in LANES:
            places += keys.get(f"{CIRCUIT}:{lane}", {}).values()
        self._places = _numbered([trail[1] for trail in trails], places)

    def of_arrival(self, time: float | str) -> int:
        return self._arrivals[int(time)]

    def of_place(self, place: float | str) -> int:
        return self._places[int(place)]


def _numbered(*numbers: Iterable[float | str]) -> dict[int, int]:
    known = {int(number) for some in numbers for number in some} | {0}
    return {number: rank for rank, number in enumerate(sorted(known))}


def _by_rank(text: str, ranks: Ranks) -> str:
    return PLACE.sub(lambda found: f":{ranks.of_place(found[1])}:", text)


def _age(world: World, now: int, trail: str) -> int:
    """How long a task has waited, as far as its pause goes by that where no queue takes it."""
    least, most = (8 * seconds * SECOND for seconds in DEFERRED_SECONDS)
    return min(max(now - int(trail.partition(":")[0]), least), most) if "unroutable" in world.faults else 0


def _trail(world: World, text: str, ranks: Ranks) -> tuple[int, ...]:
    since, order, attempts, losses, *behind = (int(number) for number in text.split(":"))
    went_behind = len(behind)
    return (
        ranks.of_arrival(since),
        ranks.of_place(order),
        went_behind,
        min(attempts, world.max_attempts),
        min(losses, world.max_losses),
    )
