"""What must hold after a run, by records kept outside the system.

They are the ids sent, every state written to the result backend, in order, every call the simulator received,
and the circuits' own transitions.
"""

from __future__ import annotations

import json
import re
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any

import redis

from resilience.stores.redis import circuit_of
from tasks.providers import PROVIDERS
from tasks.settings import provider_settings
from tests.chaos.load import LATE_SECONDS, WAIT_SECONDS
from tests.chaos.stage import FASTER, LIVING, PROCESSES, QUEUES, SKEW_SECONDS, SKEWED
from tests.faults.ledger import Ledger
from tests.servers import Server
from workers.simulator.client import SimulatorError
from workers.simulator.quotas import in_force
from workers.simulator.replies import REPLIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.chaos.load import Load
    from tests.chaos.stage import Stage

FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
# What a run ends with.
RUN_ENDS = frozenset({"SUCCESS", "FAILURE"})
_FAILED_AND_RAN_AGAIN = re.compile(r"(FAILURE STARTED )+(SUCCESS|FAILURE)")
META = b"celery-task-meta-"
#: A permit is asked for, then the call is made: on a busy machine so long lies between the two.
UNDER_WAY_SECONDS = 1.5
#: After the store is back, processes that were on their own notice within this. A primary that wakes when
#: another has been promoted is told so by its sentinel within ten seconds; until then some go by it.
NOTICED_SECONDS = 12.0
CLOCK_SECONDS = 2.0
LOOK_SECONDS = 1.0
#: The least that the store's clock steps; nothing that is seen is older.
STEP_SECONDS = 300.0
#: A worker that ends so soon after hostile messages ended by them, unless its broker was struck before.
HOSTILE_SECONDS = 15.0
BROKER_SECONDS = 60.0
LONGEST_CALL_SECONDS = 30.0
#: A worker's word that one of its processes goes by itself, and that it does so no more.
_STORE = re.compile(r"\[(\S+ \S+): \w+/(\S+)\] the breaker store at \S+ (does not answer|is back)")


def without_the_store(folder: Path) -> Iterator[tuple[float, float]]:
    """From when until when a process was on its own, by the workers' logs: the store may just have been slow.

    A process that ends meanwhile says no more.
    """
    for log in folder.glob("worker-*.log"):
        late = SKEW_SECONDS if log.name.startswith(f"worker-{SKEWED}-") else 0
        lost: dict[str, float] = {}
        for line in log.read_text("utf-8", "replace").split("\n"):
            said = _STORE.match(line)
            if not said:
                continue
            stamp = datetime.strptime(said[1], "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC)
            at, process = stamp.timestamp() - late, said[2]
            if said[3] == "is back":
                yield lost.pop(process, at), at
            else:
                lost.setdefault(process, at)
        for at in lost.values():
            yield at, at


@dataclass(frozen=True)
class Call:
    """One the simulator has received."""

    at: float
    symbol: str
    status: int | None


#: How much later than it was made a move may be seen: looks are half a second apart, on a busy machine more.
SEEN_LATE_SECONDS = 2.0
#: Celery looks at a task's state before it writes another, not at once with it.
LOOKS_AND_WRITES_SECONDS = 5.0


class Recorder:
    """Writes down what happens while it happens.

    Attributes:
        began: When the run did, Unix time.
        states: Task id → the states written for it, in order.
        last_heard: Task id → when the last of them was written, Unix time.
        first_ended: Task id → when the first final one was.
        moves: Service → (time, state after), in order, of the circuits' own transitions.
        seen_late: The times of those that are this machine's, when it looked, and not the store's.
        above: Service → when calls above its quota were first seen: Unix times.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.began = time.time()
        self.states: defaultdict[str, list[str]] = defaultdict(list)
        self.last_heard: dict[str, float] = {}
        self.first_ended: dict[str, float] = {}
        self._calls: defaultdict[str, dict[tuple[float, str], Call]] = defaultdict(dict)
        self.moves: defaultdict[str, dict[str, tuple[float, str]]] = defaultdict(dict)
        self.seen_late: set[float] = set()
        self.above: defaultdict[str, list[float]] = defaultdict(list)
        self._over = threading.Event()
        self._above: Counter[str] = Counter()
        self._last = 0.0
        self._results = redis.Redis(port=stage.results.port)
        self._heard = self._results.pubsub()
        self._heard.psubscribe(META + b"*")
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._hear, self._look_on)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        self._look()
        self._forget_what_was_lost()
        self._heard.close()
        self._results.close()

    @property
    def calls(self) -> dict[str, list[Call]]:
        """Service → its calls, in order."""
        return {service: sorted(calls.values(), key=lambda c: c.at) for service, calls in self._calls.items()}

    def _hear(self) -> None:
        while not self._over.is_set():
            message = self._heard.get_message(timeout=0.5)
            if message and message["type"] == "pmessage":
                meta = json.loads(message["data"])
                self.states[meta["task_id"]].append(meta["status"])
                self.last_heard[meta["task_id"]] = time.time()
                if meta["status"] in FINAL:
                    self.first_ended.setdefault(meta["task_id"], time.time())

    def _forget_what_was_lost(self) -> None:
        """Moves written to a primary that was replaced in that moment: no circuit goes by them any more."""
        with self.stage.client() as client:
            for service, moves in self.moves.items():
                rows: Any = client.xrange(f"{circuit_of(service)}:transitions")
                kept = {ident for ident, _ in rows}
                oldest = min(kept, default="")  # the store keeps so many of them
                self.moves[service] = {i: move for i, move in moves.items() if i in kept or i < oldest}

    def _look_on(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        try:
            # Some again: those under way a moment ago have a status by now.
            for call in self.stage.simulator.calls(since=self._last - LONGEST_CALL_SECONDS):
                self._last = max(self._last, call["at"])
                known = Call(call["at"], call["symbol"], call["status"])
                self._calls[call["service"]][known.at, known.symbol] = known
            for service, state in self.stage.simulator.providers().items():
                if state["above"] > self._above[service]:
                    self.above[service].append(time.time())
                    self._above[service] = state["above"]
        except SimulatorError:
            pass  # busy; asked again
        try:
            with self.stage.client() as client:
                for service in LIVING:
                    last = next(reversed(self.moves[service]), "-")
                    rows: Any = client.xrange(f"{circuit_of(service)}:transitions", min=last)
                    for ident, row in rows:
                        if ident != last:
                            self.moves[service][ident] = (self._seen(int(row["at"]) / 1e6), row["to"])
        except redis.RedisError:
            pass  # struck; asked again

    def _seen(self, at: float) -> float:
        """The time of a change just seen: this machine's, where the store's was off when it was made."""
        now = time.time()
        if abs(now - at) < STEP_SECONDS:
            return at
        self.seen_late.add(now)
        return now


@dataclass
class Account:
    """What a run has shown.

    Attributes:
        broken: What does not hold, each in words; empty: all held.
        lines: Everything counted, in words.
        figures: What a table of many runs is made of.
    """

    broken: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def holds(self, what: str, bad: Any, shown: str = "") -> None:
        """Note that a promise is kept where there is nothing bad."""
        some = list(bad)
        if some:
            self.broken.append(f"{what}: {len(some)}, such as {', '.join(map(str, some[:5]))}")
        self.lines.append(f"{'BROKEN' if some else 'holds ':<7} {what}{f' ({shown})' if shown else ''}")

    def tell(self, what: str) -> None:
        """Note a figure that promises nothing."""
        self.lines.append(f"        {what}")


class Auditor:
    """Adds up.

    Args:
        stage: The fleet, mended, at rest or as near as it comes to it.
        load: What was asked of it.
        recorder: What was seen.
    """

    def __init__(self, stage: Stage, load: Load, recorder: Recorder) -> None:
        self.stage, self.load, self.recorder = stage, load, recorder
        self.account = Account()

    def parked(self) -> dict[str, str]:
        """Ids in the lots, and whose."""
        return self.stage.parked()

    def queued(self) -> int:
        """Messages the broker holds."""
        if isinstance(self.stage.broker, Server):
            with redis.Redis(port=self.stage.broker.port) as client:
                waiting = sum(int(client.llen(queue)) for queue in QUEUES)  # type: ignore[arg-type]
                return waiting + int(client.hlen("unacked"))  # type: ignore[arg-type]
        return sum(self.stage.broker.queued("chaos", queue) for queue in QUEUES)

    def final(self) -> dict[str, str]:
        """Every task of which the result backend knows, and its state."""
        found = {}
        with redis.Redis(port=self.stage.results.port) as client:
            for key in client.scan_iter(META + b"*", count=1000):
                text: Any = client.get(key)
                if text:
                    found[key.removeprefix(META).decode()] = json.loads(text)["status"]
        return found

    def add_up(self) -> Account:
        """All of it."""
        self.ids()
        self.overwritten()
        self.again(self.parked())
        self.ended()
        self.while_open()
        self.quotas()
        self.readers()
        self.recoveries()
        return self.account

    def ids(self) -> None:
        """Each in one final state, or parked.

        None is lost but by kombu's Redis transport, by its record, or with a broker that came back empty.
        """
        final, parked = self.final(), self.parked()
        sent = self.load.sent
        open_ = {ident for ident in {*sent, *final} if final.get(ident) not in FINAL}
        waiting = {ident for ident in open_ if ident in parked}
        lost = open_ - waiting
        by_transport: set[str] = set()
        if isinstance(self.stage.broker, Server):
            ledger = Ledger(self.stage.broker.folder, QUEUES)
            by_transport = ledger.popped_and_never_noted(lost) | self._not_given_back(lost)
        with_broker = {ident for ident in lost - by_transport if self._was_at_an_emptied_broker(ident)}
        states = Counter(final.get(ident, "no state") for ident in sent)
        self.account.figures |= {
            "tasks": len(final.keys() | sent.keys()),
            "parked": len(waiting),
            "lost": len(lost - by_transport - with_broker),
            "lost_by_transport": len(by_transport),
            "lost_with_broker": len(with_broker),
        }
        self.account.tell(
            f"{len(sent)} tasks with ids of ours, {len(final)} tasks in all; ours: "
            + ", ".join(f"{count} {state}" for state, count in states.most_common())
        )
        self.account.tell(f"{len(waiting)} wait in a lot: {dict(Counter(parked[i] for i in waiting))}")
        self.account.tell(f"{len(by_transport)} lost by kombu's Redis transport, by the broker's own record")
        self.account.tell(
            f"{len(with_broker)} were at a broker that came back empty, {len(self.stage.emptied)} times"
        )
        self.account.holds(
            "every id is in one final state, or parked",
            (f"{ident} {final.get(ident)}" for ident in lost - by_transport - with_broker),
        )

    def _was_at_an_emptied_broker(self, ident: str) -> bool:
        """Whether nothing was heard of it since one came back empty, and it was in no lot just then."""
        sent = self.load.sent_at.get(ident, 0.0)
        heard = max(self.recorder.last_heard.get(ident, 0.0), sent)
        return any(heard <= at and ident not in parked for at, parked in self.stage.emptied)

    def ended(self) -> None:
        """No worker ends by a message, whatever it holds."""
        stage = self.stage
        bad = [
            f"at {when:.1f}"
            for when in stage.ended_at
            if any(0 <= when - at <= HOSTILE_SECONDS for at in stage.hostile_at)
            and not any(0 <= when - at <= BROKER_SECONDS for at in stage.broker_struck_at)
        ]
        shown = f"hostile ones {len(stage.hostile_at)} times"
        self.account.holds("no message ends a worker", bad, shown)

    def _not_given_back(self, lost: set[str]) -> set[str]:
        """Those kombu took out of ``unacked`` and put nowhere, its channel closed, by a worker's log."""
        found = set()
        for log in self.stage.folder.glob("worker-*.log"):
            for line in log.read_text("utf-8", "replace").split("\n"):
                if "Could not restore message" in line:
                    found |= {ident for ident in lost if ident in line}
        return found

    def overwritten(self) -> None:
        """No final state is followed by another one.

        But for a copy that expires while the task runs, which Celery itself notes as REVOKED, before or after
        the end of the run, as it first looks and then writes: after a kill without its pool, or where a late
        clock has kombu give it out again. And but for a copy that starts after the task has failed: Celery
        looks only whether it has succeeded. ``again`` counts that.
        """
        bad, expired = [], 0
        for ident, states in self.recorder.states.items():
            ends = [state for state in states if state in FINAL]
            first = next((place for place, state in enumerate(states) if state in FINAL), len(states))
            if ident not in self.load.sent and self._expired_beside(
                ident, states[first:]
            ):  # ours never expire
                expired += 1
            elif _FAILED_AND_RAN_AGAIN.fullmatch(" ".join(states[first:])):
                continue
            elif set(states[first:]) - FINAL or len(set(ends)) > 1:
                bad.append(f"{ident} {states}")
        self.account.figures["expired_beside"] = expired
        self.account.tell(
            f"{expired} copies expired, by Celery's word REVOKED, of a task that ran elsewhere and ended well"
        )
        self.account.holds("no final state was overwritten", bad)

    def _expired_beside(self, ident: str, ends: list[str]) -> bool:
        recorder = self.recorder
        if ends == ["SUCCESS", "REVOKED"]:  # it looked before the one, and wrote after it
            return recorder.last_heard[ident] - recorder.first_ended[ident] < LOOKS_AND_WRITES_SECONDS
        return ends == ["REVOKED", "SUCCESS"]

    def again(self, parked: Iterable[str]) -> None:
        """How often a task ran again that had ended.

        Or will: a copy that met an open circuit waits in its lot. A copy of one that has ended is not run;
        so it takes one that comes while the task is under way, and that is a pool process each time a worker
        or its broker was struck.
        """
        runs = [sum(state in RUN_ENDS for state in states) for states in self.recorder.states.values()]
        waiting = sum(1 for ident in parked if RUN_ENDS.intersection(self.recorder.states.get(ident, ())))
        again = sum(count - 1 for count in runs if count) + waiting
        stage = self.stage
        struck = stage.killed + stage.ended + stage.lines_cut + stage.broker_struck * len(stage.workers)
        bound = struck * PROCESSES + stage.children_killed
        shown = f"{again} times, of which {waiting} are still to come; {bound} could be"
        self.account.figures["again"] = again
        what = "a task runs again only where it was under way when its worker or broker was struck"
        self.account.holds(what, [shown] if again > bound else [], shown)

    @cached_property
    def _alone(self) -> list[tuple[float, float]]:
        """When some process could be, or was by its own word, without the store."""
        struck = [(since, until + NOTICED_SECONDS) for since, until in self.stage.store_struck]
        return [(since - 1, until) for since, until in (*struck, *without_the_store(self.stage.folder))]

    def _on_its_own(self, when: float, after: float = 0) -> bool:
        """Whether some process could be without the store then, or so many seconds before."""
        return any(since <= when <= until + after for since, until in self._alone)

    def _half_open_unseen(self, when: float, later: list[float]) -> bool:
        """Whether the circuit's next move was made by a clock that was off, and so was seen late."""
        return bool(later) and later[0] in self.recorder.seen_late and later[0] - when < SEEN_LATE_SECONDS

    def while_open(self) -> None:
        """No call while a circuit was open, but for those under way; probes find it half-open."""
        bad, allowed = [], 0
        for service, calls in self.recorder.calls.items():
            moves = sorted(self.recorder.moves[service].values())
            times = [at for at, _ in moves]
            for call in calls:
                place = bisect_right(times, call.at) - 1
                if place < 0 or moves[place][1] != "open":
                    continue
                under_way = call.at - times[place] <= UNDER_WAY_SECONDS
                if (
                    under_way
                    or self._on_its_own(call.at)
                    or self._half_open_unseen(call.at, times[place + 1 :])
                ):
                    allowed += 1
                else:
                    seen = ", ".join(f"{at - self.recorder.began:.1f} {to}" for at, to in moves[place:][:3])
                    when = f"{call.at - self.recorder.began:.1f} s into the run"
                    bad.append(
                        f"{service} {call.at - times[place]:.1f} s after it opened, {when} (moves: {seen})"
                    )
        self.account.figures |= {
            "calls": sum(len(calls) for calls in self.recorder.calls.values()),
            "opened": sum(to == "open" for moves in self.recorder.moves.values() for _, to in moves.values()),
            "calls_while_open": len(bad),
        }
        self.account.holds(
            "no call while a circuit is open", bad, f"{allowed} under way, or while the store was away"
        )

    def quotas(self) -> None:
        """None above any, by the provider's own count, but while and after the store was away.

        Each process then keeps to the quota by itself, and what it has called counts in the provider's window
        for as long as that lasts.
        """
        bad, alone = [], 0
        for service, times in self.recorder.above.items():
            window = max(limit.seconds for limit in in_force(REPLIES[service].limits, FASTER))
            for when in times:
                excused = self._on_its_own(when, window)
                alone += excused
                bad += [] if excused else [f"{service} at {when:.1f}"]
        self.account.figures["above_quota"] = len(bad)
        self.account.holds("no call above a quota", bad, f"in {alone} s after the store was away there was")

    def readers(self) -> None:
        """No exception, none late, no value that is younger or fresher than it says."""
        reads = self.load.reads
        self.account.holds("an outage is never an exception", (r.error for r in reads if r.error))
        late = [
            f"{read.verb} {read.seconds:.1f} s"
            for read in reads
            if read.seconds > (WAIT_SECONDS if read.verb == "refresh" else 0) + LATE_SECONDS
        ]
        slowest = max((read.seconds for read in reads), default=0)
        shown = f"{len(reads)} readers, {slowest:.1f} s at most"
        self.account.holds("no reader is kept waiting", late, shown)
        answered = defaultdict(list)
        for service, calls in self.recorder.calls.items():
            for call in calls:
                if call.status == 200:
                    answered[service, call.symbol].append(call.at)
        fresh = provider_settings().freshness("quote").fresh_seconds
        wrong = []
        for read in reads:
            reading = read.reading
            if reading is None or reading.value is None or not reading.fetched_at or not reading.provider:
                continue
            fetched = datetime.fromisoformat(reading.fetched_at).timestamp()
            if self._clock_was_off(read.asked, fetched):
                continue
            row = PROVIDERS[reading.provider]
            times = answered.get((row.service, row.endpoints["quote"].spelling(read.symbol)), [])
            if not any(
                -CLOCK_SECONDS <= fetched - at <= row.deadline_seconds + CLOCK_SECONDS for at in times
            ):
                wrong.append(f"{read.symbol} of {reading.provider}: no call at {reading.fetched_at}")
            age = read.asked + read.seconds - fetched
            if abs(age - (reading.age_seconds or 0)) > CLOCK_SECONDS + read.seconds:
                wrong.append(f"{read.symbol}: {reading.age_seconds} s old by its word, {age:.1f} s in truth")
            if not reading.stale and age > fresh + CLOCK_SECONDS + read.seconds:
                wrong.append(f"{read.symbol}: fresh, and {age:.1f} s old")
        values = sum(1 for read in reads if read.reading and read.reading.value is not None)
        self.account.figures |= {"readers": len(reads), "slowest_read": slowest, "misreported": len(wrong)}
        self.account.holds("staleness is never misreported", wrong, f"{values} values read")

    def _clock_was_off(self, asked: float, fetched: float) -> bool:
        """Whether a value was read, or fetched, while the store's clock was not right: no age can be told."""
        return any(
            since - NOTICED_SECONDS <= when <= until + NOTICED_SECONDS
            for since, until, off in self.stage.clock_steps
            for when in (asked, fetched, fetched - off)
        )

    def recoveries(self) -> None:
        """How long after each provider's return its first success came; how the fleet is now."""
        took = []
        for mended, service in self.stage.provider_mended:
            calls = self.recorder.calls.get(service, [])
            took += [call.at - mended for call in calls if call.at >= mended and call.status == 200][:1]
        if took:
            self.account.figures |= {"recovered": median(took), "recovered_at_most": max(took)}
            self.account.tell(
                f"first success after a provider's return, {len(took)} times: median {median(took):.1f} s, "
                f"at most {max(took):.1f} s"
            )
        self.account.tell(
            f"workers killed {self.stage.killed}, pool processes {self.stage.children_killed}, "
            f"ended by themselves {self.stage.ended}; store struck {len(self.stage.store_struck)} times"
        )
