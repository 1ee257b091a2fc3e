"""Ends what can only end in the lot: expired, overdue, revoked, or answered by another task's result.

All of it happens beside the event loop (``background.py``): each end is a write to a result backend and calls
hooks of users' tasks, and both may take any time. A look begins at a tick, unless the last one is still under
way.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from celery.utils.functional import maybe_list
from celery.utils.log import get_logger
from celery.worker import state as worker_state
from kombu.utils.json import dumps

from resilience import coalescing
from resilience.errors import ParkingLotError, StoreUnavailableError, StoreUnreadableError
from resilience.gate import bears_revoked_stamp
from resilience.outlet import Outlet
from resilience.parking import BEGINNING, RELEASE_LEASE_SECONDS
from resilience.registry import get_circuit_breaker
from resilience.request import ResilientRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from celery import Celery

    from resilience.circuit import Circuit
    from resilience.gate import Gate
    from resilience.parking import ParkingLot, Stored
    from resilience.policy import Policy

logger = get_logger(__name__)

BATCH = 100
# The first of a lot are ended, then those of the next: no lot is looked at for longer while others wait.
LOOK_SECONDS = 1.0
# Of a lease: what has not ended by then is left to whoever leases it next.
END_SECONDS = RELEASE_LEASE_SECONDS * 2 / 3
# Where nothing could be ended, the next look comes so much later.
REST_SECONDS = 5.0


class StampSearch:
    """Ends what waits with a stamp that somebody has revoked.

    Of a stamp a lot knows nothing, so it is looked through, once for each that is new, and a part at a time:
    what is parked later is told apart as it comes (``Gate``).
    """

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        self._sought: list[Any] = []
        self._left: dict[str, str] = {}

    def look(self, circuits: dict[str, Circuit]) -> None:
        """Begin anew where a stamp has been revoked that was not before."""
        revoked = {
            (name, dumps(stamp)): stamp
            for name, stamps in worker_state.revoked_stamps.items()
            for stamp in maybe_list(stamps) or ()
        }
        new = revoked.keys() - self._known
        if new:
            self._sought = [*(self._sought if self._left else ()), *(revoked[one] for one in new)]
            self._left = {name: BEGINNING for name, circuit in circuits.items() if circuit.parked}
        self._known = set(revoked)

    @property
    def pending(self) -> bool:
        """Whether there is a lot to be looked through."""
        return bool(self._left)

    def found(self, lot: ParkingLot) -> Iterator[tuple[str, list[str]]]:
        """Services and ids, as long as somebody wants to know."""
        for service in list(self._left):
            while service in self._left:
                after, messages = lot.stamped(service, self._left[service], self._sought)
                yield service, [message.id for message in messages if bears_revoked_stamp(message.fields)]
                if after:
                    self._left[service] = after
                else:
                    del self._left[service]


class Ender:
    """What a worker does for messages that never leave its lots.

    Args:
        app: The Celery app.
        problem: Why a message cannot go back to its queue, in words; '' where it can, as far as is known.
    """

    def __init__(self, app: Celery, problem: Callable[[Stored], str]) -> None:
        self.outlet = Outlet(app)
        self._problem = problem
        self._stamps = StampSearch()
        self._looks = False
        self._rests_until = 0.0

    def look(self, gate: Gate, stirring: Iterable[str], circuits: dict[str, Circuit]) -> None:
        """Begin a look at these lots, and for what has been revoked since the last one; one at a time."""
        if self._looks or time.monotonic() < self._rests_until:
            return
        self._stamps.look(circuits)
        revoked = gate.newly_revoked()
        steps: list[Callable[[], int]] = []
        if self._stamps.pending:
            steps.append(partial(self._end_stamped, gate))
        if revoked:
            parked = [name for name, circuit in circuits.items() if circuit.parked]
            steps.append(partial(self._end_revoked, gate, parked, revoked))
        for name in stirring:
            steps.append(partial(self.end_expired, gate, name))
            if circuits[name].away:
                steps.append(partial(coalescing.answer_followers, gate, name))
        if steps:
            self._looks = True
            gate.ending.do(partial(self._each, gate, deque(steps)), self._looked)

    def _looked(self, error: Exception | None) -> None:
        self._looks = False
        if isinstance(error, StoreUnavailableError):
            logger.warning("nothing ended: %s", error)
        elif error is not None:
            logger.error("nothing ended", exc_info=error)

    def _each(self, gate: Gate, steps: deque[Callable[[], int]]) -> None:
        """Each, and again where there was much, while there is time."""
        ends = time.monotonic() + LOOK_SECONDS * len(steps)
        while steps and time.monotonic() < ends and gate.store.lot is not None:
            step = steps.popleft()
            if (self._try(step) or 0) >= BATCH:
                steps.append(step)

    def _try(self, step: Callable[[], int]) -> int | None:
        """What a step returns; None where it failed: the others' lots are no worse for it."""
        try:
            return step()
        except StoreUnreadableError:  # of this circuit alone, and said
            return None
        except StoreUnavailableError:
            raise
        except Exception:
            logger.exception("nothing ended by %s", step)
            self.outlet.close()
            return None

    def _end_stamped(self, gate: Gate) -> int:
        """End what bears a stamp that somebody has revoked."""
        lot, ends = gate.store.lot, time.monotonic() + LOOK_SECONDS
        if lot is not None:
            for service, ids in self._stamps.found(lot):
                if ids:
                    self._try(partial(self._end_these, gate, lot, ids, service))
                if time.monotonic() > ends:
                    break  # the rest at the next look
        return 0

    def _end_revoked(self, gate: Gate, services: list[str], revoked: list[str]) -> int:
        """End what somebody has revoked while it waits: workers forget revoked ids, a lot does not."""
        lot = gate.store.lot
        if lot is None:
            return 0
        for start in range(0, len(revoked), BATCH):
            ids = revoked[start : start + BATCH]
            gate.sought.update(ids)  # first, as what is parked meanwhile must be sought again
            found = False
            try:
                ended = [self._try(partial(self._end_these, gate, lot, ids, name)) for name in services]
                found = None not in ended
            finally:
                if not found:
                    gate.sought.difference_update(ids)
        return 0

    def _end_these(self, gate: Gate, lot: ParkingLot, ids: list[str], service: str) -> int:
        token, messages = lot.pick(service, len(ids), ids)
        return self._end(gate, lot, service, token, messages, "revoked", "revoked")

    def end_expired(self, gate: Gate, service: str) -> int:
        """Lease, end as revoked or failed, delete; returns how many."""
        lot = gate.store.lot
        if lot is None:
            return 0
        policy = get_circuit_breaker(service).policy
        token, found = lot.take_expired(service, policy, BATCH)
        gone = self._end(gate, lot, service, token, found["expired"], "expired", "expired")
        for problem, messages in groupby(sorted(found["overdue"], key=self._problem), key=self._problem):
            error = overdue(service, policy, problem)
            gone += self._end(gate, lot, service, token, list(messages), error, "overdue")
        return gone

    def _end(
        self,
        gate: Gate,
        lot: ParkingLot,
        service: str,
        token: str,
        messages: list[Stored],
        reason: str | Exception,
        dropped: str,
    ) -> int:
        ended = len(end(gate, lot, service, token, messages, reason, dropped, self.outlet))
        if messages and not ended:
            self._rests_until = time.monotonic() + REST_SECONDS
        return ended


def overdue(service: str, policy: Policy, problem: str = "") -> ParkingLotError:
    """What a task ends with that has waited too long, for the service or for a queue."""
    remedy = "send it again when a queue takes it" if problem else "send it again when the service is back"
    return ParkingLotError(
        service,
        f"this task has waited {policy.max_parked_seconds:.0f} s, the most anything may"
        f"{problem and f', and {problem}'}: {remedy}, or raise max_parked_seconds",
    )


def end(
    gate: Gate,
    lot: ParkingLot,
    service: str,
    token: str,
    messages: Iterable[Stored],
    reason: str | Exception,
    dropped: str,
    outlet: Outlet,
) -> list[str]:
    """End leased messages, with an error as FAILURE, for a reason as REVOKED, and forget them.

    What cannot be read ends in FAILURE whatever the reason. Another app's goes back to its queue. What could
    not be ended stays leased, until somebody tries again. Each is forgotten once it has ended, so a releaser
    that dies in between repeats the hooks of one task.

    Returns:
        The ids of those that have ended.
    """
    ended: list[str] = []
    problems: list[Exception] = []
    until = time.monotonic() + END_SECONDS
    for message in messages:
        if time.monotonic() > until:
            break
        if message.problem:
            gate.end_unreadable(service, message)
            lot.settle(service, token, [message.id], dropped="unreadable")
            ended.append(message.id)
            continue
        try:
            request = ResilientRequest.of(gate, message)
        except Exception:
            logger.exception("cannot end task %s here", message.id)
            if outlet.open() and outlet.send([message]):
                lot.settle(service, token, [message.id])
            continue
        try:
            if isinstance(reason, Exception):
                request.fail(reason)
            else:
                request.revoke(reason)
        except Exception as error:  # noqa: BLE001 - any backend's; the others may be luckier
            problems.append(error)
        else:
            lot.settle(service, token, [message.id], dropped=dropped)
            ended.append(message.id)
    if problems:
        logger.warning("cannot end %d tasks of %s now: %r", len(problems), service, problems[0])
    return ended
