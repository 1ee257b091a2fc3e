"""What holds in every state, whatever has happened. What must hold of an answer: see ``world.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilience.parking import RELEASE_LEASE_SECONDS, RESERVATION_SECONDS
from tests.model.world import (
    BACKOFF_SECONDS,
    CIRCUIT,
    FINAL,
    HOLD_SECONDS,
    LOT,
    OPERATOR_SECONDS,
    Violation,
    circuit_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.model.world import State, World

#: Every invariant, those of answers and of what comes in the end included.
NAMES = (
    "no script fails",
    "no task is lost",
    "a task is in one place",
    "a final state is never overwritten",
    "no task ends twice",
    "never more probes than allowed",
    "nothing passes an open circuit",
    "no more calls at once than allowed",
    "a refusal names a time to come",
    "what is leased is handed to nobody else",
    "no counter is negative",
    "the counters say what is in the lot",
    "the lot's indexes agree",
    "no deadline lies further ahead than its own length",
    "no circuit and no task is stuck",
    "nothing is left of tasks that ended",
)
# In a worker's hand, and in the lot or ended as well: only its acknowledgement is on its way.
GHOSTS = frozenset({"acknowledge", "told", "ended"})
# Where a message in the lot can be.
WAITS = ("on_demand", "scheduled", "due", "leases")


def check(world: World, state: State) -> None:
    """Raises Violation for the first that does not hold."""
    for name, problems in (
        ("no task is lost", _lost(world, state)),
        ("a task is in one place", _doubled(world, state)),
        ("never more probes than allowed", _probes(world, state)),
        ("no more calls at once than allowed", _calls(world, state)),
        ("no counter is negative", _negative(state)),
        ("the counters say what is in the lot", _miscounted(state)),
        ("no deadline lies further ahead than its own length", _too_far(world, state)),
        ("the lot's indexes agree", _disagreeing(state)),
        ("the lot's indexes agree", _misled(state)),
    ):
        for problem in problems:
            raise Violation(name, problem)


def _key(state: State, name: str) -> Any:
    return state.keys.get(f"{LOT}{name}", {})


def places(state: State, task: str) -> list[str]:
    """Where a task is that has not ended; a place it is about to leave does not count."""
    found = ["in the broker"] * state.queue.count(task)
    found += [
        f"in a hand ({hand.stage})" for hand in state.hands if hand.task == task and hand.stage not in GHOSTS
    ]
    if task in _key(state, "messages"):
        token = _key(state, "tokens").get(task)
        if not any(batch.token == token and task in batch.ids and batch.done for batch in state.batches):
            found.append("in the lot")
    return found


def _lost(world: World, state: State) -> Iterator[str]:
    for task, result in zip(world.tasks, state.results, strict=True):
        if result not in FINAL and task.id not in state.gone and not places(state, task.id):
            yield f"{task.id} is in no queue, in no hand and not in the lot, and has not ended"


def _doubled(world: World, state: State) -> Iterator[str]:
    for task, result in zip(world.tasks, state.results, strict=True):
        found = places(state, task.id)
        if result not in FINAL and task.id not in state.doubled | state.gone and len(found) > 1:
            yield f"{task.id} is {' and '.join(found)}, and no fault has made a second"


def _probes(world: World, state: State) -> Iterator[str]:
    circuit = circuit_in(state)
    probes = state.keys.get(f"{CIRCUIT}:probes", {})
    valid = {member for member, ends in probes.items() if ends > state.now}
    now = circuit.get("generation", "0")
    # What the store has noted, and what is under way, whatever the store has noted.
    calls = [
        hand.leave
        for hand in state.hands
        if hand.leave
        and hand.leave.probe
        and str(hand.leave.generation) == now
        and hand.leave.at + world.policy.lease_micros(probe=True) > state.now
    ]
    if circuit.get("state") == "half_open":
        if len(valid) > world.policy.half_open_max_calls:
            yield f"{sorted(valid)} hold places for {world.policy.half_open_max_calls} probes"
        if len(calls) > world.policy.half_open_max_calls:
            yield f"{len(calls)} probes are under way, of {world.policy.half_open_max_calls}"


def _calls(world: World, state: State) -> Iterator[str]:
    most = world.policy.max_concurrent
    if most is None:
        return
    lease = world.policy.lease_micros(probe=False)
    calls = [hand for hand in state.hands if hand.leave and hand.leave.at + lease > state.now]
    if len(calls) > most:
        yield f"{len(calls)} calls are under way, of {most}"


def _too_far(world: World, state: State) -> Iterator[str]:
    policy, second = world.policy, 1_000_000
    reserved, leased = RESERVATION_SECONDS * second, RELEASE_LEASE_SECONDS * second
    longest = {
        "probes": max(policy.lease_micros(probe=True), reserved),
        "calls": policy.lease_micros(probe=False),
        "lot:leases": leased,
        "lot:due": round(BACKOFF_SECONDS * second),
    }
    for name, most in longest.items():
        for member, ends in state.keys.get(f"{CIRCUIT}:{name}", {}).items():
            if ends - state.now > most + second:
                yield f"{member} of {name} ends in {(ends - state.now) / second:g} s"
    longest = {"retry_at": max(policy.timeout_seconds, HOLD_SECONDS), "forced_until": OPERATOR_SECONDS}
    for name, seconds in longest.items():
        left = float(circuit_in(state).get(name, 0)) - state.now
        if left > (seconds + 1) * second:
            yield f"{name} is in {left / second:g} s"


def _negative(state: State) -> Iterator[str]:
    for field, value in circuit_in(state).items():
        if value.startswith("-"):
            yield f"{field} is {value}"
    for task, trail in _key(state, "trail").items():
        if "-" in trail:
            yield f"{task} has been through {trail}"


def _miscounted(state: State) -> Iterator[str]:
    circuit, messages = circuit_in(state), _key(state, "messages")
    size = sum(len(text.encode()) for text in messages.values())
    if int(circuit.get("bytes", 0)) != size:
        yield f"bytes is {circuit.get('bytes')}, the messages have {size}"
    left = sum(
        int(value) for name, value in circuit.items() if name == "released" or name.startswith("dropped:")
    )
    if int(circuit.get("parked", 0)) < left + len(messages):
        yield f"{circuit.get('parked')} were parked, {left} have left and {len(messages)} are there"


def _disagreeing(state: State) -> Iterator[str]:
    messages = set(_key(state, "messages"))
    if set(_key(state, "since")) != messages:
        yield f"since has {sorted(_key(state, 'since'))}, messages {sorted(messages)}"
    if set(_key(state, "leases")) != set(_key(state, "tokens")):
        yield f"leases has {sorted(_key(state, 'leases'))}, tokens {sorted(_key(state, 'tokens'))}"
    if not set(_key(state, "expires")) <= messages:
        yield f"expires has {sorted(_key(state, 'expires'))}, messages {sorted(messages)}"
    following = {member.split(":", 2)[2] for member in _key(state, "followers")}
    if not following <= messages:
        yield f"{sorted(following - messages)} follow, and are not in the lot"
    for name in WAITS:
        if not set(_key(state, name)) <= messages:
            yield f"{name} has {sorted(set(_key(state, name)) - messages)}, which are not in the lot"
    for task in messages:
        found = [name for name in WAITS if task in _key(state, name)]
        if len(found) + (task in following and "leases" not in found) != 1:
            yield f"{task} waits in {found or 'no set'}{' and follows' * (task in following)}"


def _misled(state: State) -> Iterator[str]:
    following = {member.split(":", 2)[2] for member in _key(state, "followers")}
    grouped, leaders = _key(state, "grouped"), set(_key(state, "leaders").values())
    if {task for task, text in grouped.items() if ":" in text} != following:
        yield f"grouped has {grouped}, followers {sorted(following)}"
    if not set(_key(state, "away")) <= leaders or not set(_key(state, "ended")) <= leaders:
        away, ended = sorted(_key(state, "away")), sorted(_key(state, "ended"))
        yield f"away {away} and ended {ended}, who lead no group"
