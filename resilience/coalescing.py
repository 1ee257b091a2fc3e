"""Coalescing: parked tasks that ask the same become one, and all get its answer.

One of them, the leader, waits in its lane and runs like any other. Those that follow it stay in the lot, in
no lane, until it has ended. Nobody is told at that moment: each tick looks which leaders have ended, reads
their final states, and writes the same for every task that follows. A releaser killed in between leaves the
rest to the next. A leader without an answer, because it was revoked or nobody hears of it, gives its place
to the first that follows.
"""

from __future__ import annotations

import time
from collections import defaultdict
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.base import DisabledBackend
from celery.exceptions import TaskError
from celery.utils.log import get_logger
from celery.worker import state as worker_state

from resilience.parking import ANSWERED
from resilience.registry import get_circuit_breaker
from resilience.request import ResilientRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience.gate import Gate
    from resilience.parking import Leader, ParkingLot, Stored

logger = get_logger(__name__)

# A leader that is away for longer than this and a call's longest time gives up its place.
PATIENCE_SECONDS = 60.0
# A look reads the states of so many leaders, and ends so many tasks at a time, for no longer than this.
LEADERS_A_LOOK = 50
BATCH = 25
LOOK_SECONDS = 1.0


class Follower(ResilientRequest):
    """The original request of a task that waits for another's answer."""

    def end_as(self, leader: Leader, final: dict[str, Any] | None) -> None:
        """Take the leader's final state, None where it keeps no state: then hooks and events alone tell.

        As if the task had run: nothing is written for ``ignore_result``.
        """
        if final is None and leader.verdict == "success":
            self.succeed(None)
        elif final is None:
            self.fail(TaskError(f"coalesced with {leader.id}, which has failed"))
        elif final["status"] == states.SUCCESS:
            self.task.backend.mark_as_done(self.id, final["result"], request=self._context)
            self.succeed(final["result"])
        else:
            self.fail(final["result"])


class Outlook(Enum):
    """What those that follow a leader can hope for."""

    ANSWER = auto()
    """It has ended, and they end the same way."""
    NONE = auto()
    """It was revoked, which is not meant for them, or nobody will ever know how it has ended."""
    SILENCE = auto()
    """It may never come back: lost by its broker, perhaps."""
    LATER = auto()
    """It is under way, or has ended a moment ago."""


def outlook(leader: Leader, final: dict[str, Any] | None, *, keeps_state: bool) -> Outlook:
    """What becomes of those that follow.

    Args:
        leader: What the lot knows of it.
        final: Its final state, if there is one to be read.
        keeps_state: Whether there will be one.
    """
    if final:
        return Outlook.NONE if final["status"] == states.REVOKED else Outlook.ANSWER
    if leader.verdict and not keeps_state:
        return Outlook.ANSWER
    if leader.late:
        return Outlook.SILENCE
    return Outlook.NONE if leader.ended and not keeps_state else Outlook.LATER


def answer_followers(gate: Gate, service: str) -> int:
    """One look: what has an answer passes it on, what will have none gives up its place.

    Returns:
        How many tasks have ended.
    """
    lot = gate.store.lot
    if lot is None:
        return 0
    patience = PATIENCE_SECONDS + get_circuit_breaker(service).policy.call_seconds
    away = lot.away(service, LEADERS_A_LOOK, patience)
    unreadable = [leader.follower.id for leader in away if leader.follower.problem]
    if unreadable:  # or nobody behind it would get the answer
        token, messages = lot.pick(service, len(unreadable), unreadable)
        _end_unreadable(gate, lot, service, token, messages)
    # Another app's are its own releasers'.
    ours = {leader.id: leader for leader in away if task_of(gate, leader.follower)}
    finals = _finals(gate, {ident: leader.follower for ident, leader in ours.items()})
    if finals is None:
        return 0
    found: dict[Outlook, list[str]] = {kind: [] for kind in Outlook}
    for ident, leader in ours.items():
        kept = keeps_state(gate, leader.follower)
        found[outlook(leader, finals.get(ident), keeps_state=kept)].append(ident)
    if found[Outlook.NONE]:
        lot.succeed(service, found[Outlook.NONE])
    if found[Outlook.SILENCE]:
        lot.succeed(service, found[Outlook.SILENCE], patience)
    total, ends = 0, time.monotonic() + LOOK_SECONDS
    while found[Outlook.ANSWER] and time.monotonic() < ends:
        token, following = lot.follow(service, BATCH, found[Outlook.ANSWER])
        odd = [message for _, message in following if message.problem]
        _end_unreadable(gate, lot, service, token, odd)
        answers = [
            (message, ours[ident], finals.get(ident)) for ident, message in following if not message.problem
        ]
        ended = _pass_on(gate, answers)
        if not (ended or odd):
            break
        for how, ids in ended.items():
            lot.settle(service, token, ids, dropped=how)
        total += sum(map(len, ended.values()))
    return total


def _end_unreadable(gate: Gate, lot: ParkingLot, service: str, token: str, messages: list[Stored]) -> None:
    for message in messages:
        gate.end_unreadable(service, message)
    if messages:
        lot.settle(service, token, [message.id for message in messages], "unreadable")


def _pass_on(
    gate: Gate, following: list[tuple[Stored, Leader, dict[str, Any] | None]]
) -> dict[str, list[str]]:
    """End each message as its leader has ended, once; returns the ids of those that are over, by how."""
    ended: dict[str, list[str]] = defaultdict(list)
    # Over already: a releaser that died had no time to say so, or it has ended in another way.
    over = _finals(gate, {message.id: message for message, _, _ in following})
    if over is None:
        return ended  # their leases lapse
    until = time.monotonic() + LOOK_SECONDS
    for message, leader, final in following:
        how = "revoked" if message.id in worker_state.revoked else ANSWERED
        if time.monotonic() > until:
            break
        try:
            if message.id not in over:
                request = Follower.of(gate, message)
                if how == ANSWERED:
                    request.end_as(leader, final)
                else:
                    request.revoke(how)
            ended[how].append(message.id)
        except Exception:  # its lease lapses, and it is tried again
            logger.exception("cannot end task %s as %s has ended", message.id, leader.id)
    return ended


def _finals(gate: Gate, asked: Mapping[str, Stored]) -> dict[str, dict[str, Any]] | None:
    """The final states of these tasks, each with a message of its kind; None: they cannot be read now."""
    ids_at: dict[Any, list[str]] = defaultdict(list)
    for ident, message in asked.items():
        if keeps_state(gate, message):
            ids_at[gate.app.tasks[message.fields["task"]].backend].append(ident)
    found: dict[str, dict[str, Any]] = {}
    for backend, ids in ids_at.items():
        metas = gate.states.final(backend, ids)
        if metas is None:
            return None
        found |= metas
    return found


def keeps_state(gate: Gate, message: Stored) -> bool:
    """Whether the state of this task can be read."""
    task = task_of(gate, message)
    if task is None or task.ignore_result or message.fields.get("ignore_result"):
        return False
    return not isinstance(task.backend, DisabledBackend)


def task_of(gate: Gate, message: Stored) -> Any:
    """Its task; None for another app's, and for a message that cannot be read."""
    name = message.fields.get("task")
    return gate.app.tasks.get(name) if isinstance(name, str) else None
