"""The world around the scripts: a broker, workers, releasers, an operator, a provider, and a clock.

A state is everything that a next step may depend on: the store's keys, the clock, and what each of them has
in hand. ``World.steps`` gives every state that may come next, each by one act of one of them: one script, one
message, one write of a result. What one process does between two such acts nobody else can see, so nothing is
left out by taking it as one. Any process may be slow for ever, or be lost, after any step.

The acts are the layer's own: ``RedisStore`` and ``ParkingLot`` call the scripts, ``task.py`` says how a
message waits, ``coalescing.outlook`` what becomes of those that follow. Modelled is the order in which
``gate.py`` and ``release.py`` do them, and what Celery and the broker do.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import resilience.parking
import resilience.stores.redis
from resilience.circuit import LOST, CircuitState, Finding, Permit, Reason, Verdict
from resilience.coalescing import Outlook, outlook
from resilience.parking import ANSWERED, Lane, Stored, Taken, Waiting
from resilience.stores.redis import circuit_of
from resilience.task import failed_attempt, failed_probe, held
from tests.model.embedded import Embedded, store_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from resilience.circuit import Report
    from resilience.policy import Policy

SERVICE = "s"
START = 1_800_000_000_000_000
SECOND = 1_000_000
CIRCUIT = circuit_of(SERVICE)
LOT = f"{CIRCUIT}:lot:"
NOTED = frozenset({"seen", "there", "kept"})
FINAL = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
# All times are multiples of five seconds: the fewer moments, the fewer states.
HOLD_SECONDS = 20.0
OPERATOR_SECONDS = 10.0
BACKOFF_SECONDS = 5.0
#: A recovery's pace has doubled once in so long, whatever fails.
RAMP_SLOWEST = 32 * SECOND
SET_BACK_SECONDS = 1000
#: So long coalesced tasks wait for a leader nobody hears of.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Task:
    """One task that is sent once.

    Attributes:
        id: Its id.
        lane: Who asked.
        group: What is coalesced.
        expires: Seconds after the start; 0: never.
        subject: What it is about, where that is told.
        known: And it is no guess: what fails is that, whoever meets it.
    """

    id: str
    lane: Lane = Lane.SCHEDULED
    group: str = ""
    expires: int = 0
    subject: str = ""
    known: bool = False

    def waiting(self, delay: float, *, behind: bool) -> Waiting:
        headers: dict[str, Any] = {"task": "t", "id": self.id}
        if self.expires:
            headers["expires"] = f"2027-01-15T08:{self.expires // 60:02}:{self.expires % 60:02}+00:00"
        message = Stored(self.id, "[]", "application/json", "utf-8", headers, {}, "", "work")
        return Waiting(message, self.lane, delay, behind, self.group)


class Leave(NamedTuple):
    """A permit, as a process holds it."""

    generation: int
    token: str
    probe: bool
    at: int

    def permit(self, policy: Policy) -> Permit:
        return Permit(
            granted=True,
            service=SERVICE,
            state=CircuitState.CLOSED,
            generation=self.generation,
            token=self.token,
            probe=self.probe,
            at_micros=self.at,
            policy=policy,
        )


class Hand(NamedTuple):
    """A message in a worker's hand, or a call without one (task '').

    Attributes:
        task: Its id.
        stage: What comes next. Or "told": its state is written after it was parked (see ``World.slips``).
        leave: The permit of its call.
        gate: Parked by the main process's snapshot, if the circuit refuses it still.
        behind: How it is parked; with ``delay``, in seconds. Ending: it is forgotten only then.
        delay: See ``behind``.
        final: What it ends with; or, before it is parked, what it had ended with when that was looked up.
    """

    task: str
    stage: str
    leave: Leave | None = None
    gate: bool = False
    behind: bool = False
    delay: float = 0
    final: str = ""


class Batch(NamedTuple):
    """Leased messages in a releaser's or an operator's hand.

    Attributes:
        kind: release, or why they end: expired, operator, answered.
        token: The lease's.
        ids: The messages'.
        done: Published, or their final states written; then the lot is told.
        finals: With answered: how each ends.
    """

    kind: str
    token: str
    ids: tuple[str, ...]
    done: bool = False
    finals: tuple[str, ...] = ()


class State(NamedTuple):
    """All there is.

    Attributes:
        keys: The store's.
        now: The clock, in microseconds since the epoch.
        queue: Messages in the broker, in no order.
        hands: The workers'.
        batches: The releasers' and operators'.
        results: Result state of each task, in the order of the world's tasks.
        left: How many of each kind of fault and of operator's acts may still come, and moments.
        doubled: Tasks of which a fault has made a second copy.
        gone: Tasks the broker has lost.
    """

    keys: Mapping[str, Any]
    now: int
    queue: tuple[str, ...]
    hands: tuple[Hand, ...]
    batches: tuple[Batch, ...]
    results: tuple[str, ...]
    left: tuple[int, ...]
    doubled: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()


class Violation(Exception):  # noqa: N818 - what a search finds, not what goes wrong in it
    """An invariant does not hold.

    Args:
        invariant: Its name.
        how: What is the case instead.
    """

    def __init__(self, invariant: str, how: str) -> None:
        super().__init__(f"{invariant}: {how}")
        self.invariant = invariant


@dataclass
class World:
    """A small world.

    Args:
        name: Its name.
        policy: The circuit's.
        tasks: Sent at the start, or at any moment if ``late``.
        workers: Messages in hand at once, at most.
        releasers: Batches in hand at once, at most.
        callers: Calls without a task, at once.
        verdicts: What a call may say, in any order and as often as it likes.
        faults: How often each may happen: crash (of a worker or a releaser), redelivery, lost_process,
            broker_loss, unroutable (no queue takes what a releaser has in hand), set_back (the store's
            clock; for tasks that do not expire).
        acts: What the operator may do, each once: open, close, disable, reset, hurry, drop.
        moments: How often a second passes, or less, in which nothing falls due.
        gate: Main processes park by an old snapshot.
        changes: Guards taken out of the scripts, see ``Embedded``.
        slips: Mistakes in the order of acts: acknowledge_first, settle_first, state_last, forget_last.
    """

    name: str
    policy: Policy
    tasks: tuple[Task, ...] = ()
    workers: int = 2
    releasers: int = 2
    callers: int = 0
    verdicts: tuple[Verdict, ...] = (Verdict.SUCCESS, Verdict.FAILURE)
    max_attempts: int = 2
    max_losses: int = 2
    faults: Mapping[str, int] = field(default_factory=dict)
    acts: tuple[str, ...] = ()
    moments: int = 0
    gate: bool = True
    changes: Iterable[tuple[str, str, str]] = ()
    slips: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.scripts = Embedded(self.changes)
        self.store = store_on(self.scripts)
        self.lot = self.store.lot
        self.place = {task.id: number for number, task in enumerate(self.tasks)}
        self.budgets = (*self.faults, *self.acts, "moment")
        self.grouped = any(task.group for task in self.tasks)

    @property
    def start(self) -> State:
        left = (*self.faults.values(), *(1 for _ in self.acts), self.moments)
        ids = tuple(sorted(task.id for task in self.tasks))
        return State({}, START, ids, (), (), tuple("" for _ in self.tasks), left)

    # What is possible

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """What may come next: a word for it, and the state it leads to.

        Raises:
            Violation: A script gave an answer it must not give.
        """
        yield from self._deliveries(state)
        yield from self._workers(state)
        yield from self._callers(state)
        yield from self._releasers(state)
        yield from self._operator(state)
        yield from self._crashes(state)
        yield from self._other_faults(state)
        yield from self._time(state)

    def _at(self, state: State) -> None:
        """Set the store to this state."""
        self.scripts.keyspace.restore(state.keys)
        self.scripts.now = state.now

    def _after(self, state: State, **changes: Any) -> State:
        """What has become of a state, the store's part included."""
        return state._replace(keys=self.scripts.keyspace.snapshot(), **changes)

    def left(self, state: State, what: str) -> int:
        return state.left[self.budgets.index(what)] if what in self.budgets else 0

    def _spent(self, state: State, what: str) -> tuple[int, ...]:
        place = self.budgets.index(what)
        return (*state.left[:place], state.left[place] - 1, *state.left[place + 1 :])

    def _deliveries(self, state: State) -> Iterator[tuple[str, State]]:
        if sum(hand.task != "" for hand in state.hands) >= self.workers:
            return
        for task in sorted(set(state.queue)):
            hands = with_one(state.hands, Hand(task, "received"))
            yield f"the broker delivers {task}", state._replace(queue=without(state.queue, task), hands=hands)

    # Workers

    def _workers(self, state: State) -> Iterator[tuple[str, State]]:
        for hand in sorted(set(state.hands), key=repr):
            rest = without(state.hands, hand)
            for label, then, extra in self.moves_of(state, hand):
                after = extra or state
                yield label, after._replace(hands=with_one(rest, then) if then else rest)

    def moves_of(  # noqa: C901 - one way, kept in one place
        self, state: State, hand: Hand
    ) -> Iterator[tuple[str, Hand | None, State | None]]:
        """What a hand may do: a word, what it holds then, and the state if more than that has changed."""
        task = hand.task
        if hand.stage == "received" and self._expired(state, task):
            yield f"{task} has expired", self._over(task, "REVOKED"), None
        elif hand.stage == "received":
            yield from self.run(state, hand)
            if self.gate:
                yield from self._park(state, hand._replace(gate=True, final=self._seen(state, task)))
        elif hand.stage == "run":
            yield from self.run(state, hand)
        elif hand.stage == "calling":
            for verdict in self.verdicts:
                yield from self._report(state, hand, verdict)
        elif hand.stage == "parking":
            yield from self._park(state, hand)
        elif hand.stage == "told":
            results = self._with_result(state, task, "PARKED", hand)
            yield f"{task}: PARKED is written", Hand(task, "acknowledge"), state._replace(results=results)
        elif hand.stage == "acknowledge":
            yield f"{task} is acknowledged", None, None
        elif hand.stage == "ending":
            ended = self._with_result(state, task, hand.final, hand)
            then = Hand(task, "forgetting" if hand.behind else "ended", final=hand.final)
            yield f"{task}: {hand.final} is written", then, state._replace(results=ended)
        elif hand.stage == "forgetting":
            self._at(state)
            self.store.forget(SERVICE, task)
            then = Hand(task, "ended" if "forget_last" in self.slips else "ending", final=hand.final)
            yield f"{task} is forgotten", then, self._after(state)
        elif hand.stage == "ended":
            yield f"{task} is acknowledged", None, None

    def _over(self, task: str, final: str) -> Hand:
        """It ends without a report: forgotten, then its state is written."""
        if "forget_last" in self.slips:
            return Hand(task, "ending", behind=True, final=final)
        return Hand(task, "forgetting", final=final)

    def _expired(self, state: State, task: str) -> bool:
        expires = self.tasks[self.place[task]].expires
        return bool(expires) and state.now >= START + expires * SECOND

    def run(self, state: State, hand: Hand) -> Iterator[tuple[str, Hand | None, State | None]]:
        """Ask for a permit, and call."""
        permit, after = self.acquire(state, hand.task)
        who = hand.task or "somebody"
        if not permit:
            parking = Hand(hand.task, "parking", final=self._seen(state, hand.task)) if hand.task else None
            yield f"{who} is refused: {permit.reason}", parking, after
            return
        leave = Leave(permit.generation, permit.token, permit.probe, permit.at_micros)
        kind = "as a probe" if permit.probe else "freely"
        yield f"{who} may call, {kind}", Hand(hand.task, "calling", leave), after

    def acquire(self, state: State, owner: str) -> tuple[Permit, State]:
        """Ask for a permit, and look whether the answer is one that may be given.

        Raises:
            Violation: It is not.
        """
        self._at(state)
        with naming(resilience.stores.redis, "token_for", lambda owner: self._token(state, owner)):
            permit = self.store.acquire(SERVICE, self.policy, owner)
        after = self._after(state)
        before, then = circuit_in(state), circuit_in(after)
        if not permit:
            if permit.retry_at is None or to_micros_of(permit) <= state.now:
                raise Violation("a refusal names a time to come", f"{permit}")
            return permit, after
        forced = then.get("forced", "")
        if forced == "open" or (
            not forced and before.get("state") == "open" and int(before.get("retry_at", 0)) > state.now
        ):
            raise Violation("nothing passes an open circuit", f"{owner or 'somebody'} was let through")
        if not forced and then.get("state", "closed") != "closed" and not permit.probe:
            raise Violation(
                "nothing passes an open circuit", f"{owner or 'somebody'} passed, and as no probe"
            )
        return permit, after

    def _token(self, state: State, owner: str) -> str:
        """The first name nobody and nothing knows, so that names do not make states differ."""
        used = {hand.leave.token for hand in state.hands if hand.leave}
        for key in ("probes", "calls"):
            used |= set(state.keys.get(f"{CIRCUIT}:{key}", ()))
        return next(name for number in range(99) if (name := f"{number}:{owner}") not in used)

    def _report(
        self, state: State, hand: Hand, verdict: Verdict
    ) -> Iterator[tuple[str, Hand | None, State | None]]:
        assert hand.leave is not None
        report, after = self.report(state, hand.leave.permit(self.policy), verdict, hand.task)
        who = hand.task or "somebody"
        label = f"{who}'s call ends: {verdict.value}{'' if report.applied else ', too late'}"
        if not hand.task:
            yield label, None, after
        elif verdict is Verdict.SUCCESS:
            yield label, Hand(hand.task, "ending", final="SUCCESS"), after
        else:
            yield label, self._what_next(state, hand, verdict, report), after

    def report(self, state: State, permit: Permit, verdict: Verdict, owner: str) -> tuple[Report, State]:
        self._at(state)
        reason = Reason.RATE_LIMITED if verdict is Verdict.HOLD else None
        task = self.tasks[self.place[owner]] if owner else Task("")
        finding = Finding(
            verdict,
            HOLD_SECONDS,
            reason,
            owner,
            self.max_attempts,
            host="host",
            subject=task.subject,
            guessed=not task.known,
        )
        report = self.store.report(permit, self.policy, finding)
        return report, self._after(state)

    def _what_next(self, state: State, hand: Hand, verdict: Verdict, report: Report) -> Hand:
        """As ``ResilientTask.__call__`` decides."""
        assert hand.leave is not None
        outcome = resilience.task.Outcome(verdict, hold_seconds=HOLD_SECONDS, reason=Reason.RATE_LIMITED)
        if verdict is Verdict.HOLD:
            wait = held(SERVICE, outcome, report)
        elif report.own and report.attempts >= self.max_attempts:
            return Hand(hand.task, "ending", final="FAILURE")
        elif hand.leave.probe:
            alone = report.own and report.state is CircuitState.HALF_OPEN
            wait = failed_probe(SERVICE, outcome, report, BACKOFF_SECONDS if alone else 0)
        elif report.state.shut or report.attempts < self.max_attempts:
            wait = failed_attempt(SERVICE, outcome, report, BACKOFF_SECONDS)
        else:
            return Hand(hand.task, "ending", final="FAILURE")
        return Hand(
            hand.task,
            "parking",
            behind=wait.behind,
            delay=wait.delay_seconds,
            final=self._seen(state, hand.task),
        )

    def _seen(self, state: State, task: str) -> str:
        """Whether it had ended when that was last looked up, right before PARKED is written."""
        result = state.results[self.place[task]]
        return result if result in FINAL else ""

    def _park(self, state: State, hand: Hand) -> Iterator[tuple[str, Hand | None, State | None]]:
        task = self.tasks[self.place[hand.task]]
        self._at(state)
        entry = task.waiting(hand.delay, behind=hand.behind)
        [taken] = self.lot.park(SERVICE, [entry], self.policy, gate=hand.gate)
        after = self._after(state)
        late = "state_last" in self.slips
        if not late:
            after = after._replace(results=self._with_result(state, hand.task, "PARKED", hand))
        if taken is Taken.PARKED:
            then = Hand(hand.task, "told" if late else "acknowledge", final="")
            yield f"{hand.task} is parked{', behind' * hand.behind}", then, after
        elif taken is Taken.LET_THROUGH:
            yield f"{hand.task} is let through", Hand(hand.task, "run"), after

    def _with_result(self, state: State, task: str, result: str, hand: Hand | None) -> tuple[str, ...]:
        """Write a result.

        Raises:
            Violation: Over a final one, though nobody had a second copy of the message.
        """
        place = self.place[task]
        before = state.results[place]
        if result == "PARKED" and hand and hand.final and "state_last" not in self.slips:
            return state.results  # it had ended already
        if before in FINAL and task not in state.doubled and result != before:
            raise Violation("a final state is never overwritten", f"{task}: {before} became {result}")
        if before in FINAL and result in FINAL and task not in state.doubled:
            raise Violation("no task ends twice", f"{task}: {result} again")
        return (*state.results[:place], result, *state.results[place + 1 :])

    # Callers without a task

    def _callers(self, state: State) -> Iterator[tuple[str, State]]:
        if sum(hand.task == "" for hand in state.hands) < self.callers:
            for label, then, after in self.run(state, Hand("", "run")):
                assert after is not None
                yield label, after._replace(hands=with_one(state.hands, then) if then else state.hands)

    # Releasers

    def _releasers(self, state: State) -> Iterator[tuple[str, State]]:
        for batch in sorted(set(state.batches)):
            yield self.advance(state, batch)
            if self.left(state, "unroutable") and batch.kind == "release" and not batch.done:
                yield self.defer(state, batch)
        if len(state.batches) < self.releasers and self.tasks:
            for label, after in self.looks(state):
                if after.batches != state.batches or acted_on(after.keys) != acted_on(state.keys):
                    yield label, after

    def advance(self, state: State, batch: Batch) -> tuple[str, State]:
        """Publish or end what is leased, then have the lot forget it."""
        rest, names = without(state.batches, batch), " and ".join(batch.ids)
        settles = batch.done != ("settle_first" in self.slips)
        if not settles:
            state = state._replace(batches=rest if batch.done else with_one(rest, batch._replace(done=True)))
            if batch.kind == "release":
                return f"{names} is published", state._replace(queue=tuple(sorted(state.queue + batch.ids)))
            results = state.results
            for number, task in enumerate(batch.ids):
                final = batch.finals[number] if batch.finals else "REVOKED"
                if final:
                    results = self._with_result(state._replace(results=results), task, final, None)
            return f"{names} is ended: {batch.kind}", state._replace(results=results)
        self._at(state)
        reason = {"release": "", "answered": ANSWERED}.get(batch.kind, batch.kind)
        self.lot.settle(SERVICE, batch.token, batch.ids, dropped=reason)
        batches = rest if batch.done else with_one(rest, batch._replace(done=True))
        return f"the lot forgets {names} ({batch.kind})", self._after(state, batches=batches)

    def looks(self, state: State) -> Iterator[tuple[str, State]]:
        """A releaser's tick, in its parts."""
        if any(task.expires for task in self.tasks):
            self._at(state)
            with self._leasing(state):
                token, found = self.lot.take_expired(SERVICE, self.policy, 9)
            yield self._leased(state, "expired", token, [m.id for m in found["expired"]])
        self._at(state)
        with self._leasing(state):
            token, messages = self.lot.take(SERVICE, self.policy, 9)
        yield self._leased(state, "release", token, [message.id for message in messages])
        if self.grouped:
            yield from self._answers(state)

    def _leasing(self, state: State) -> AbstractContextManager[None]:
        """A lease made in it has the first name nobody knows."""
        used = {batch.token for batch in state.batches}
        used |= set(state.keys.get(f"{LOT}tokens", {}).values())
        name = next(name for number in range(99) if (name := f"lease{number}") not in used)
        return naming(resilience.parking, "uuid", _Named(name))

    def _leased(
        self, state: State, kind: str, token: str, ids: list[str], finals: tuple[str, ...] = ()
    ) -> tuple[str, State]:
        leases = state.keys.get(f"{LOT}leases", {})
        for ident in ids:
            if leases.get(ident, 0) > state.now:
                raise Violation("what is leased is handed to nobody else", f"{ident} for {kind}")
        batches = state.batches
        if ids:
            batches = with_one(batches, Batch(kind, token, tuple(ids), finals=finals))
        label = f"{' and '.join(ids)} is leased: {kind}" if ids else f"a releaser looks: {kind}"
        return label, self._after(state, batches=batches)

    def _answers(self, state: State) -> Iterator[tuple[str, State]]:
        """As ``coalescing.answer_followers``."""
        self._at(state)
        found: dict[Outlook, list[str]] = {kind: [] for kind in Outlook}
        finals: dict[str, str] = {}
        for leader in self.lot.away(SERVICE, 50, PATIENCE_SECONDS):
            result = self._seen(state, leader.id)
            finals[leader.id] = result
            final = {"status": result} if result else None
            found[outlook(leader, final, keeps_state=True)].append(leader.id)
        if found[Outlook.NONE]:
            self.lot.succeed(SERVICE, found[Outlook.NONE])
        if found[Outlook.SILENCE]:
            self.lot.succeed(SERVICE, found[Outlook.SILENCE], PATIENCE_SECONDS)
        token, following = "", []
        if found[Outlook.ANSWER]:
            with self._leasing(state):
                token, following = self.lot.follow(SERVICE, 9, found[Outlook.ANSWER])
        # Who is over already is only forgotten.
        ends = tuple("" if self._seen(state, message.id) else finals[leader] for leader, message in following)
        yield self._leased(state, "answered", token, [message.id for _, message in following], ends)

    # The operator

    def _operator(self, state: State) -> Iterator[tuple[str, State]]:
        for act in self.acts:
            if not self.left(state, act):
                continue
            left = self._spent(state, act)
            self._at(state)
            if act == "drop":
                for task in self.tasks:
                    self._at(state)
                    with self._leasing(state):
                        token, messages = self.lot.pick(SERVICE, 1, [task.id])
                    if messages:
                        yield self._leased(state._replace(left=left), "operator", token, [task.id])
                continue
            if act == "hurry":
                self.lot.hurry(SERVICE, "", "")
            else:
                self.store.control(SERVICE, act, 0 if act == "reset" else OPERATOR_SECONDS, "", "")
            yield f"the operator says {act}", self._after(state, left=left)

    # Faults

    def _crashes(self, state: State) -> Iterator[tuple[str, State]]:
        if self.left(state, "crash"):
            spent = state._replace(left=self._spent(state, "crash"))
            yield from (self.crash(spent, hand) for hand in sorted(set(state.hands), key=repr))
            for batch in sorted(set(state.batches)):
                label = f"the releaser of {' and '.join(batch.ids)} is killed"
                doubled = spent.doubled | set(batch.ids) if batch.done else spent.doubled
                yield label, spent._replace(batches=without(state.batches, batch), doubled=doubled)

    def _other_faults(self, state: State) -> Iterator[tuple[str, State]]:
        if self.left(state, "redelivery"):
            for hand in sorted(set(state.hands), key=repr):
                if hand.task:
                    yield (
                        f"the broker delivers {hand.task} to another too",
                        state._replace(
                            left=self._spent(state, "redelivery"),
                            queue=tuple(sorted((*state.queue, hand.task))),
                            doubled=state.doubled | {hand.task},
                        ),
                    )
        if self.left(state, "lost_process"):
            for hand in sorted(set(state.hands), key=repr):
                if hand.task and hand.stage == "calling":
                    yield self._lost_process(state, hand)
        if self.left(state, "broker_loss"):
            for task in sorted(set(state.queue)):
                left, queue = self._spent(state, "broker_loss"), without(state.queue, task)
                gone = state.gone | {task}
                yield f"the broker loses {task}", state._replace(left=left, queue=queue, gone=gone)
        if self.left(state, "set_back"):
            yield "the store's clock is set back", self._set_back(state)

    def defer(self, state: State, batch: Batch) -> tuple[str, State]:
        """No queue takes what a releaser would publish."""
        self._at(state)
        self.lot.defer(SERVICE, batch.token, batch.ids)
        left, rest = self._spent(state, "unroutable"), without(state.batches, batch)
        return f"no queue takes {' and '.join(batch.ids)}", self._after(state, left=left, batches=rest)

    def crash(self, state: State, hand: Hand) -> tuple[str, State]:
        """Its worker is killed: what is not acknowledged comes again."""
        rest = without(state.hands, hand)
        if not hand.task:
            return "a caller is killed", state._replace(hands=rest)
        label = f"the worker of {hand.task} is killed ({hand.stage})"
        early = "acknowledge_first" in self.slips and hand.stage == "parking"
        if early or (hand.stage == "forgetting" and "forget_last" in self.slips):  # acknowledged before
            return label, state._replace(hands=rest)
        second = hand.stage in ("acknowledge", "told", "ended")
        doubled = state.doubled | {hand.task} if second else state.doubled
        return label, state._replace(
            hands=rest, queue=tuple(sorted((*state.queue, hand.task))), doubled=doubled
        )

    def _set_back(self, state: State) -> State:
        """Somebody looks right before and right after; the time since a call began is what it was."""
        self._at(state)
        self.store.read([SERVICE])
        self.scripts.now -= SET_BACK_SECONDS * SECOND
        self.store.read([SERVICE])
        hands = [
            hand._replace(leave=hand.leave._replace(at=hand.leave.at - SET_BACK_SECONDS * SECOND))
            if hand.leave
            else hand
            for hand in state.hands
        ]
        left = self._spent(state, "set_back")
        return self._after(state, now=self.scripts.now, hands=tuple(sorted(hands, key=repr)), left=left)

    def _lost_process(self, state: State, hand: Hand) -> tuple[str, State]:
        """As ``ResilientRequest._on_lost``."""
        lost = Permit(granted=True, service=SERVICE, state=CircuitState.CLOSED, generation=LOST)
        report, after = self.report(state, lost, Verdict.FAILURE, hand.task)
        then = Hand(
            hand.task, "parking", behind=True, delay=BACKOFF_SECONDS, final=self._seen(state, hand.task)
        )
        if report.losses >= self.max_losses:
            then = self._over(hand.task, "FAILURE")
        return f"{hand.task}'s process is lost", after._replace(
            left=self._spent(state, "lost_process"), hands=with_one(without(state.hands, hand), then)
        )

    # Time

    def _time(self, state: State) -> Iterator[tuple[str, State]]:
        when = self.next_moment(state)
        if when:
            yield f"{(when - state.now) / SECOND:g} s pass", self.at(state, when)
        if self.left(state, "moment") and (not when or when > state.now + SECOND):
            later = self.at(state, state.now + SECOND)
            yield "1 s passes", later._replace(left=self._spent(state, "moment"))

    def at(self, state: State, when: int) -> State:
        """The same, later. Who holds a batch for longer than its lease may make a second copy of it."""
        late = {
            ident
            for batch in state.batches
            for ident in batch.ids
            if state.keys.get(f"{LOT}tokens", {}).get(ident) == batch.token
            and state.keys.get(f"{LOT}leases", {}).get(ident, when) <= when
        }
        return state._replace(now=when, doubled=state.doubled | late)

    def next_moment(self, state: State) -> int:
        """When the next thing falls due; 0: nothing does."""
        circuit = circuit_in(state)
        moments = [
            int(float(circuit.get(name, 0))) for name in ("retry_at", "forced_until") if name in circuit
        ]
        moments += [START + task.expires * SECOND for task in self.tasks if task.expires]
        for name in ("probes", "calls", "counted", "lot:leases", "lot:due", "lot:expires"):
            moments += [int(score) for score in state.keys.get(f"{CIRCUIT}:{name}", {}).values()]
        patience = int(PATIENCE_SECONDS * SECOND)
        moments += [int(score) + patience for score in state.keys.get(f"{LOT}away", {}).values()]
        if "ramp" in circuit:
            start, doubles = int(circuit["ramp"]), int(circuit.get("ramp_doubles", SECOND))
            moments.append(start + doubles * (max(state.now - start, 0) // doubles + 1))
            moments.append(int(circuit.get("pulled_back", 0)) + SECOND)
            moments.append(
                int(circuit["since"])
                + RAMP_SLOWEST * ((state.now - int(circuit["since"])) // RAMP_SLOWEST + 1)
            )
        if "tat" in circuit:
            moments.append(int(float(circuit["tat"])))
        return min((moment for moment in moments if moment > state.now), default=0)


@contextmanager
def naming(module: Any, attribute: str, namer: Any) -> Iterator[None]:
    """Have it give names that do not make two states differ which are the same."""
    theirs = getattr(module, attribute)
    setattr(module, attribute, namer)
    try:
        yield
    finally:
        setattr(module, attribute, theirs)


class _Named:
    """In the place of ``uuid``: one name."""

    def __init__(self, name: str) -> None:
        self.hex = name

    def uuid4(self) -> _Named:
        return self


def acted_on(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys without what is noted at every look: when that was."""
    circuit = {name: value for name, value in keys.get(CIRCUIT, {}).items() if name not in NOTED}
    rest = {key: value for key, value in keys.items() if key != CIRCUIT}
    return rest | {CIRCUIT: circuit} if circuit else rest


def circuit_in(state: State) -> Mapping[str, str]:
    found: Mapping[str, str] = state.keys.get(CIRCUIT, {})
    return found


def to_micros_of(permit: Permit) -> int:
    assert permit.retry_at is not None
    return resilience.circuit.to_micros(permit.retry_at)


def without(items: tuple[Any, ...], item: Any) -> tuple[Any, ...]:
    place = items.index(item)
    return items[:place] + items[place + 1 :]


def with_one(items: tuple[Any, ...], item: Any) -> tuple[Any, ...]:
    return tuple(sorted((*items, item), key=repr))
