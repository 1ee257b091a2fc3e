"""What the processes of ``bench.breaker`` do: one function a scene, run by every process of a crew.

Each is called with the crew's gear, the process's number, the library's name and the circuit; the
rest is the scene's own.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import redis

from bench.peers import HOST, LIBRARIES, DependencyDownError
from bench.proxy import CountingProxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.crew import Gear
    from bench.peers import Circuit, Library

BARRIER_SECONDS = 30
#: interlock asks the server once a second: nobody can know of a trip elsewhere before.
KNOWN_SECONDS = 1.25


class Dependency:
    """What is called: it takes so long, then fails or not, and counts."""

    def __init__(self, seconds: float = 0, *, dead: bool = True) -> None:
        self.seconds = seconds
        self.dead = dead
        self.calls = 0

    def __call__(self) -> None:
        """One call."""
        self.calls += 1
        if self.seconds:
            time.sleep(self.seconds)
        if self.dead:
            raise DependencyDownError


class Caller:
    """A process's way to one dependency, through its breaker."""

    def __init__(self, library: Library, dependency: Callable[[], None]) -> None:
        self._guarded = library.guard(dependency)
        self._expected = (DependencyDownError, *library.refusals)

    @classmethod
    def of(cls, library: str, circuit: Circuit, dependency: Callable[[], None]) -> Caller:
        """With a breaker of its own."""
        return cls(LIBRARIES[library](circuit), dependency)

    def try_once(self) -> None:
        """One call; refused or failed, it goes on. Anything else a library raises comes through."""
        with contextlib.suppress(*self._expected):
            self._guarded()


def until_refused(library: str, circuit: Circuit, seconds: float = 15) -> Library:
    """A breaker of this process that knows its circuit is open, because calls to a dead thing failed."""
    opened = LIBRARIES[library](circuit)
    dependency = Dependency()
    caller = Caller(opened, dependency)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        before = dependency.calls
        caller.try_once()
        if dependency.calls == before:
            return opened
    raise TimeoutError(f"not open after {dependency.calls} failures in {seconds} s")


def ready(*_: object) -> None:
    """Nothing; whoever answers has started."""


# 1. Round trips


def round_trips(_: Gear, __: int, library: str, circuit: Circuit) -> tuple[int, int]:
    """Of a closed and of a refused call, each at a proxy of its own."""
    healthy = Dependency(dead=False)
    with CountingProxy(circuit.port) as proxy:
        closed = _trips(proxy, Caller.of(library, replace(circuit, port=proxy.port), healthy))
    with CountingProxy(circuit.port) as proxy:
        refused = until_refused(library, replace(circuit, port=proxy.port, name=f"{circuit.name}:open"))
        return closed, _trips(proxy, Caller(refused, healthy))


def _trips(proxy: CountingProxy, caller: Caller) -> int:
    for _ in range(10):  # connects, loads its scripts
        caller.try_once()
    calls = []
    for _ in range(200):
        before = proxy.trips
        caller.try_once()
        calls.append(proxy.trips - before)
    # What a background thread does is counted with the call it falls into: a few of them, not most.
    return statistics.mode(calls)


def background_trips(_: Gear, __: int, library: str, circuit: Circuit, lasts: float = 3) -> float:
    """Round trips a second while nobody calls."""
    with CountingProxy(circuit.port) as proxy:
        Caller.of(library, replace(circuit, port=proxy.port), Dependency(dead=False)).try_once()
        time.sleep(KNOWN_SECONDS)  # whoever polls has connected
        before = proxy.trips
        time.sleep(lasts)
        return (proxy.trips - before) / lasts


# 2. Cost


BARE = "bare EVALSHA"


def cost(_: Gear, __: int, circuit: Circuit, calls: int) -> tuple[dict[str, float], dict[str, float]]:
    """Medians in seconds of every library's closed call, then its refused one, and of a bare EVALSHA.

    All in this one process: what else the machine does meanwhile hits them alike.
    """
    client = redis.Redis(host=HOST, port=circuit.port)
    sha = client.script_load("return 1")
    healthy = Dependency(dead=False)
    closed: dict[str, Callable[[], object]] = {BARE: lambda: client.evalsha(sha, 0)}
    refused = dict(closed)
    opened = replace(circuit, name=f"{circuit.name}:open")
    for library in LIBRARIES:
        closed[library] = Caller.of(library, circuit, healthy).try_once
        refused[library] = Caller(until_refused(library, opened), healthy).try_once
    return _in_turns(closed, calls), _in_turns(refused, calls)


def _in_turns(ways: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
    taken: dict[str, list[int]] = {name: [] for name in ways}
    order = list(ways)
    for _ in range(times):
        random.shuffle(order)  # nobody is always after the same one
        for name in order:
            before = time.perf_counter_ns()
            ways[name]()
            taken[name].append(time.perf_counter_ns() - before)
    return {name: statistics.median(each) / 1e9 for name, each in taken.items()}


# 3. A dead dependency


def staggered(gear: Gear, number: int, library: str, circuit: Circuit, rounds: int, seconds: float) -> int:
    """Process after process, never two calls at once in the fleet."""
    dependency = Dependency(seconds)
    caller = Caller.of(library, circuit, dependency)
    gear.barrier.wait(BARRIER_SECONDS)
    following = (number + 1) % len(gear.turns)
    for turn in range(rounds):
        # The first process begins unasked, and the last asks nobody to go on.
        if (turn or number) and not gear.turns[number].acquire(timeout=BARRIER_SECONDS):
            raise TimeoutError("the turn never came")
        caller.try_once()
        if following or turn + 1 < rounds:
            gear.turns[following].release()
    return dependency.calls


def in_step(gear: Gear, _: int, library: str, circuit: Circuit, rounds: int, seconds: float) -> int:
    """All start each call at the same moment."""
    dependency = Dependency(seconds)
    caller = Caller.of(library, circuit, dependency)
    for _round in range(rounds):
        gear.barrier.wait(BARRIER_SECONDS)
        caller.try_once()
    return dependency.calls


def free_running(
    gear: Gear, number: int, library: str, circuit: Circuit, lasts: float, seconds: float
) -> int:
    """Each calls on as it comes back; they begin out of phase, so that some are always under way."""
    dependency = Dependency(seconds)
    caller = Caller.of(library, circuit, dependency)
    gear.barrier.wait(BARRIER_SECONDS)
    ends = time.monotonic() + lasts
    time.sleep(number * seconds / len(gear.turns))
    while time.monotonic() < ends:
        before = dependency.calls
        caller.try_once()
        if dependency.calls == before:
            time.sleep(0.01)
    return dependency.calls


# 4. and 5. Probes


def race(gear: Gear, _: int, library: str, circuit: Circuit) -> None:
    """Ask without end from before the open time ends; who is let in stays in until told to stop."""
    caller = Caller(until_refused(library, circuit), lambda: _stay_in(gear, gear.stop.wait))
    gear.barrier.wait(BARRIER_SECONDS)
    while not gear.stop.is_set():
        caller.try_once()
        time.sleep(0.002)


def _stay_in(gear: Gear, wait: Callable[[float], object]) -> None:
    with gear.in_flight.get_lock():
        gear.in_flight.value += 1
        gear.most_in_flight.value = max(gear.most_in_flight.value, gear.in_flight.value)
    wait(BARRIER_SECONDS)
    with gear.in_flight.get_lock():
        gear.in_flight.value -= 1


def prober_and_bystander(gear: Gear, number: int, library: str, circuit: Circuit, limit: float) -> float:
    """Process 0 probes and is killed in it; from then on process 1 asks. Seconds until it is let in."""
    own = until_refused(library, circuit)
    gear.barrier.wait(BARRIER_SECONDS)
    if number == 0:
        # Not waiting for the gear: who is killed waiting for a shared event blocks its other users.
        caller = Caller(own, lambda: _stay_in(gear, time.sleep))
        while True:
            caller.try_once()
            time.sleep(0.02)
    dependency = Dependency(dead=False)
    caller = Caller(own, dependency)
    if not gear.stop.wait(BARRIER_SECONDS):
        raise TimeoutError("no prober was let in")
    started = time.monotonic()
    while time.monotonic() - started < limit:
        caller.try_once()
        if dependency.calls:
            return time.monotonic() - started
        time.sleep(0.05)
    return float("inf")


# 6. The server is lost


@dataclass(frozen=True)
class Lost:
    """What the caller saw of a lost server.

    Attributes:
        reached: Calls that reached the dead dependency.
        foreign: Exceptions that are neither the dependency's own nor a refusal.
        longest: The longest of these calls, in seconds; the dependency takes none.
        later: The median of later calls to a healthy dependency, in seconds.
    """

    reached: int
    foreign: int
    longest: float
    later: float


def server_lost(_: Gear, __: int, library: str, circuit: Circuit, fault: int, calls: int) -> Lost:
    """Hit the server, then make so many calls to a dead dependency."""
    dependency = Dependency(dead=False)
    caller = Caller.of(library, circuit, dependency)
    later = Caller.of(library, replace(circuit, name=f"{circuit.name}:healthy"), Dependency(dead=False))
    caller.try_once()
    later.try_once()
    dependency.dead, dependency.calls = True, 0
    with redis.Redis(host=HOST, port=circuit.port) as client:
        os.kill(client.info("server")["process_id"], fault)
    took, foreign = _timed(caller, calls, 60)
    reached = dependency.calls
    after, more = _timed(later, 1000, 2)
    return Lost(reached, foreign + more, max(took), statistics.median(after))


def _timed(caller: Caller, calls: int, limit: float) -> tuple[list[float], int]:
    took: list[float] = []
    foreign = 0
    ends = time.monotonic() + limit
    while len(took) < calls and time.monotonic() < ends:
        before = time.perf_counter()
        try:
            caller.try_once()
        except Exception:  # noqa: BLE001 - whatever a library lets through is what is counted
            foreign += 1
        took.append(time.perf_counter() - before)
    return took, foreign


# 7. Counting


def flood(gear: Gear, number: int, library: str, circuit: Circuit, calls: int) -> int | None:
    """So many failures from every process at once; how many of all the fleet counted."""
    own = LIBRARIES[library](circuit)
    caller = Caller(own, Dependency())
    gear.barrier.wait(BARRIER_SECONDS)
    for _ in range(calls):
        caller.try_once()
    gear.barrier.wait(BARRIER_SECONDS)
    return own.failures() if number == 0 else None


# 8. Clocks


def skewed(gear: Gear, number: int, library: str, circuit: Circuit, limit: float) -> list[float]:
    """Each opens a circuit for each; how long each was refused by those opened for it.

    No ``time.sleep`` here: under libfaketime with a true monotonic clock it fails (EINVAL).
    """
    size = len(gear.turns)
    pause = threading.Event().wait
    pairs = {  # the circuit that ``opener`` opens and ``watcher`` watches
        (opener, watcher): replace(circuit, name=f"{circuit.name}:{opener}:{watcher}")
        for opener in range(size)
        for watcher in range(size)
    }
    watched, healthy = {}, {}
    for opener in range(size):
        watched[opener] = LIBRARIES[library](pairs[opener, number])
        Caller(watched[opener], Dependency()).try_once()  # connects, and begins to watch
        healthy[opener] = Dependency(dead=False)
    gear.barrier.wait(BARRIER_SECONDS)
    kept = []  # a breaker that is dropped at once may take the news of its trip with it
    for watcher in range(size):
        kept.append(until_refused(library, pairs[number, watcher]))
        # The monotonic clock is the machine's: the same, and true, in all of its processes.
        gear.times[number * size + watcher] = time.monotonic()
    gear.barrier.wait(BARRIER_SECONDS)
    opened = {opener: gear.times[opener * size + number] for opener in range(size)}
    pause(max(0, max(opened.values()) + KNOWN_SECONDS - time.monotonic()))
    refused: dict[int, float] = {}
    first = True
    while len(refused) < size:
        for opener in opened.keys() - refused.keys():
            Caller(watched[opener], healthy[opener]).try_once()
            waited = time.monotonic() - opened[opener]
            if healthy[opener].calls:
                refused[opener] = 0 if first else waited
            elif waited > limit:
                refused[opener] = float("inf")
        first = False
        pause(0.01)
    return list(refused.values())
