"""ResilientTask: what happens to a task whose provider may be down. Read ``__call__``."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from celery import Task
from celery.backends.rpc import RPCBackend
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject, Retry
from celery.utils.log import get_logger

from resilience.calls import part_of
from resilience.circuit import Permit, Reason, Report, Verdict, reason_of
from resilience.errors import CircuitBreakerOpenError, ConfigurationError, refusal_in
from resilience.parking import Lane
from resilience.registry import get_circuit_breaker

if TYPE_CHECKING:
    from celery import Celery

    from resilience.parking import Stored

logger = get_logger(__name__)

#: How long a message rests before it may meet a worker with another key than the one that was refused.
STALE_KEY_PAUSE_SECONDS = 5.0
#: An open circuit of this kind will not let the task through later either: waiting is no answer.
NEVER_WAITS = frozenset({Reason.RETIRED, Reason.ENTITLEMENT})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an exception out of a task's body means.

    Attributes:
        verdict: For the breaker.
        ends: The task ends with this error: asking again, or asking another, changes nothing.
        hold_seconds: With a hold: how long the provider wants to be left alone. With ignored: how long the
            task waits for what it met instead, no attempt spent.
        reason: With hold_seconds: why.
        label: The application's own word for it, shown in the PARKED state.
        detail: What was wrong, in a line for people, free of secrets; shown with the circuit, after the
            label, and in the log.
    """

    verdict: Verdict
    ends: bool = False
    hold_seconds: float = 0
    reason: Reason | None = None
    label: str | None = None
    detail: str = ""


class Parked(Ignore):
    """Leaves the pool process and says where and how the message waits.

    Carries only plain values: it crosses a process boundary.
    """

    def __init__(  # one flat argument list, because that is what survives the crossing
        self,
        service: str,
        reason: str | None,
        retry_at: datetime,
        delay_seconds: float = 0,
        behind: bool = False,  # noqa: FBT001, FBT002 - positional, as above
        label: str | None = None,
    ) -> None:
        super().__init__(service, reason, retry_at, delay_seconds, behind, label)
        self.service = service
        self.reason = reason
        self.retry_at = retry_at
        self.delay_seconds = delay_seconds
        self.behind = behind
        self.label = label

    def __str__(self) -> str:
        return f"Parked: {self.service} {self.reason}, next try {self.retry_at:%H:%M:%S} UTC"


class AnotherAttempt(Retry):
    """``self.retry()`` in a resilient task: nothing has been published, the message will wait.

    Args:
        error: What the attempt failed with.
        countdown: Seconds to wait.
        budget: Attempts after which the task fails.
    """

    def __init__(self, error: Exception | None, countdown: float, budget: int) -> None:
        super().__init__(exc=error, when=countdown)
        self.countdown = countdown
        self.budget = budget


class ResilientTask(Task):
    """Base of a task that calls a service which may be down.

    Use: ``@app.task(base=ResilientTask, service="finnhub")``, after ``resilience.install(app)``.

    Attributes:
        service: The circuit the task is under.
        services: More circuits, in order of preference, where the body can use another service
            instead; ``self.request.service`` tells it which one it was let through to, and
            ``self.request.call_seconds`` how long its call may take.
        lane: Who waits for it; on-demand tasks leave the parking lot first.
        max_attempts: Failed attempts after which the task ends in FAILURE, if its circuit is closed:
            then the service is well and the task is not. A refusal, a hold and a failed probe spend
            none, so an outage of any length spends none. Where since the last success nothing has failed
            but tasks of this name with the same arguments, the trouble is theirs: a failed probe is an
            attempt then, and one task alone opens no circuit by trying again.
        max_losses: Processes it may take down before it ends in FAILURE, so that one that kills its own
            does not go on for ever.
        backoff_seconds: Pause after a first failed attempt; doubles, with jitter, up to
            ``backoff_cap_seconds``.
        coalesce: Parked tasks of this kind with the same arguments become one: the first runs, and
            all get its final state, each under its own id. For tasks whose answer is good for whoever
            asks the same. A member of a chord, group or chain, or a task with callbacks, always runs
            by itself.
    """

    abstract = True
    # At least once, whatever happens to the process: parking and probing rest on it.
    acks_late = True
    reject_on_worker_lost = True

    Strategy = "resilience.gate:strategy"
    Request = "resilience.gate:ResilientRequest"

    service: ClassVar[str] = ""
    services: ClassVar[tuple[str, ...]] = ()
    lane: ClassVar[Lane | str] = Lane.SCHEDULED
    max_attempts: ClassVar[int] = 5
    max_losses: ClassVar[int] = 3
    backoff_seconds: ClassVar[float] = 1.0
    backoff_cap_seconds: ClassVar[float] = 60.0
    coalesce: ClassVar[bool] = False

    @classmethod
    def on_bound(cls, app: Celery) -> None:  # noqa: ARG003 - Celery's signature
        """Check the declaration and register the circuits.

        Raises:
            ConfigurationError: No service, or settings under which a task could be lost.
        """
        if not cls.service and not cls.services:
            raise ConfigurationError(f"task {cls.name}: give service=..., the circuit it is under")
        if not cls.acks_late:
            raise ConfigurationError(f"task {cls.name}: acks_late=False could lose a parked task; remove it")
        cls.service = cls.service or cls.services[0]
        cls.services = cls.services or (cls.service,)
        try:
            Lane(cls.lane)
        except ValueError:
            raise ConfigurationError(
                f"task {cls.name}: lane={cls.lane!r} is unknown; use {' or '.join(Lane)}"
            ) from None
        for service in cls.services:
            get_circuit_breaker(service)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912, PLR0915 - one path, kept in one place
        """One task's life, top to bottom.

        Raises:
            Parked: No service lets the task through now; the main process parks its message.
            CircuitBreakerOpenError: As above, where there is no message to park (eager mode), or
                where waiting is no answer.
            Exception: The body's own, when it is the task's answer or its attempts are spent.
        """
        request = self.request
        if request.called_directly:
            return self.run(*args, **kwargs)

        owner = "" if request.is_eager else request.id  # who has no message is a caller like any other
        waits: list[Parked] = []  # where the message could wait
        error: Exception | None = None  # what the task fails with if it can wait nowhere
        services = self.candidates_of(request.id, args, kwargs)
        for service in services:
            breaker = get_circuit_breaker(service)

            # May this call go ahead? One atomic step, on the store's clock.
            permit = breaker.acquire(owner=owner)
            if not permit:
                if permit.reason in NEVER_WAITS:
                    error = error or CircuitBreakerOpenError(service, permit.retry_at, permit.reason)
                else:
                    waits.append(refused(permit))
                continue

            # The call itself. No lock is held; a permit lost with its process lapses by itself.
            if permit.wait_seconds:
                time.sleep(permit.wait_seconds)  # a tenth of a second at most: it came before its turn
            request.service, request.call_seconds = service, permit.call_seconds
            request.retries = max(request.retries or 0, permit.attempts)
            countdown: float | None = None
            budget = self.max_attempts
            started = time.monotonic()
            try:
                with part_of(breaker):
                    result = self.run(*args, **kwargs)
            except AnotherAttempt as wish:  # the body asked for one
                failure: Exception = wish.exc or MaxRetriesExceededError(f"{self.name} asked to be retried")
                outcome = Outcome(Verdict.FAILURE)
                countdown, budget = wish.countdown, wish.budget
            except (Ignore, Reject, Retry):  # the body speaks to Celery, not of the service
                # Not in the task's name: a message it sent under its own id may wait in the lot by now.
                breaker.report(permit, Verdict.IGNORED)
                self.log_end(permit, Outcome(Verdict.IGNORED), started)
                raise
            except Exception as exc:  # noqa: BLE001 - judged, and raised again unless it can wait
                failure, outcome = exc, self.judge(exc)
            else:
                breaker.report(permit, Verdict.SUCCESS, owner=owner)
                self.log_end(permit, Outcome(Verdict.SUCCESS), started)
                forget_elsewhere(request.id, service, services)
                return result

            # What did it say about the service? A report that comes too late only counts.
            waits_elsewhere = outcome.verdict is Verdict.IGNORED and outcome.hold_seconds > 0
            report = breaker.report(
                permit,
                outcome.verdict,
                hold_seconds=outcome.hold_seconds,
                reason=outcome.reason,
                # A task the service has nothing to do with is not at its end here.
                owner="" if waits_elsewhere else owner,
                max_attempts=budget,
                # Of an exception nobody has judged, the type: its text may hold anything.
                detail=": ".join(filter(None, (outcome.label, outcome.detail))) or type(failure).__name__,
                subject=subject_of(self.name, args, kwargs),
            )
            self.log_end(permit, outcome, started)

            # And about the task?
            if outcome.ends:
                forget_elsewhere(request.id, service, services)
                raise failure
            error = failure
            if outcome.verdict is Verdict.HOLD and outcome.reason not in NEVER_WAITS:
                waits.append(held(service, outcome, report))
            elif waits_elsewhere:
                waits.append(met_refusal(service, outcome))
            elif outcome.verdict is not Verdict.FAILURE or (report.own and report.attempts >= budget):
                pass  # it ends, unless another service lets it through
            elif permit.probe:
                waits.append(failed_probe(service, outcome, report))
            elif report.state.shut or report.attempts < budget:
                delay = self.backoff(report.attempts) if countdown is None else countdown
                waits.append(failed_attempt(service, outcome, report, delay))

        if not waits:
            raise error or CircuitBreakerOpenError(self.service, None, None)
        soonest = min(waits, key=lambda wait: wait.retry_at)
        if request.is_eager:
            raise error or CircuitBreakerOpenError(soonest.service, soonest.retry_at, soonest.reason)
        raise soonest

    def log_end(self, permit: Permit, outcome: Outcome, started: float) -> None:
        """One line for each call that was made; a refusal is counted and never logged.

        Args:
            permit: The call's.
            outcome: What it said.
            started: When it was made, on the monotonic clock.
        """
        seconds, task_id = round(time.monotonic() - started, 6), self.request.id
        said, detail = outcome.label or outcome.verdict.value, outcome.detail
        line = ("%s[%s]: %s by %s in %.3f s%s", self.name, task_id, said, permit.service, seconds)
        logger.info(
            *(*line, detail and f": {detail}"),
            extra={
                "task": self.name,
                "task_id": task_id,
                "service": permit.service,
                "permit": permit.token,
                "probe": permit.probe,
                "verdict": outcome.verdict.value,
                "label": outcome.label,
                "detail": detail,
                "duration_seconds": seconds,
            },
        )

    def candidates_of(self, task_id: str, args: Any, kwargs: Any) -> tuple[str, ...]:
        """The services for these arguments; if they are wrong, a probe's place is given back."""
        try:
            return self.candidates(*args, **kwargs)
        except Exception:
            forget_elsewhere(task_id, "", self.services)
            raise

    def candidates(self, *args: Any, **kwargs: Any) -> tuple[str, ...]:  # noqa: ARG002 - an override may look at the arguments
        """The services this call may use, in order."""
        return self.services

    def group_of(self, message: Stored) -> str:
        """Which parked messages become one with this; '': it stays for itself."""
        if not self.coalesce or isinstance(self.backend, RPCBackend):  # a result only its caller can read
            return ""
        if self.store_errors_even_if_ignored and (self.ignore_result or message.headers.get("ignore_result")):
            return ""  # whether its state tells how it has ended depends on how it has ended
        return message.question()

    def judge(self, error: Exception) -> Outcome:
        """What an exception out of the body means; override it to tell more apart.

        The breaker's ``expected_exception`` is the service's failure; anything else is the task's
        own, says nothing about the service, and ends the task. Where the circuit of another service
        refused, the task waits for that.
        """
        refusal = refusal_in(error)
        if refusal and refusal.reason not in NEVER_WAITS:
            return Outcome(
                Verdict.IGNORED,
                hold_seconds=max(min(refusal.retry_in, self.backoff_cap_seconds), self.backoff_seconds, 0.1),
                reason=reason_of(refusal.reason or ""),
                label=f"refused by {refusal.service}",
            )
        verdict = get_circuit_breaker(self.request.service).verdict_of(error)
        return Outcome(verdict, ends=verdict is not Verdict.FAILURE)

    def backoff(self, attempts: int) -> float:
        """Seconds to wait after so many failed attempts: doubling, capped, at least half of it jitter."""
        ceiling: float = min(self.backoff_cap_seconds, self.backoff_seconds * 2 ** (attempts - 1))
        return ceiling * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Exception | None = None,
        throw: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Any:
        """Ask for another attempt. The message waits in the parking lot, never as a Celery ETA.

        Raises:
            AnotherAttempt: Always, whatever ``throw`` says: the message waits once this attempt is over.
            ConfigurationError: For what would need another message than the original.
        """
        if self.request.called_directly or self.request.is_eager:
            return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)
        if args is not None or kwargs is not None or options:
            raise ConfigurationError(
                f"{self.name}: retry() keeps the original message; call it without args, kwargs and "
                f"{', '.join(options) or 'options'}, or send a new task with apply_async()"
            )
        if countdown is None and eta is not None:
            eta = eta if eta.tzinfo else eta.replace(tzinfo=UTC)
            countdown = (eta - datetime.now(UTC)).total_seconds()
        elif countdown is None:
            countdown = self.default_retry_delay
        limit = self.max_retries if max_retries is None else max_retries
        # Celery counts retries, the store counts attempts; no limit is no limit.
        raise AnotherAttempt(exc, max(countdown, 0), sys.maxsize >> 11 if limit is None else limit + 1)


def subject_of(name: str, args: Any, kwargs: Any) -> str:
    """What a call of this task with these arguments is about: a digest; '' where that cannot be told."""
    try:
        text = json.dumps([name, args, kwargs], sort_keys=True, default=repr)
    except (TypeError, ValueError, RecursionError):
        return ""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def forget_elsewhere(task_id: str, answered: str, services: tuple[str, ...]) -> None:
    """A task that could have used other services may hold a probe's place at one of them."""
    for service in services:
        if service != answered:
            get_circuit_breaker(service).forget(task_id)


def stale_key(service: str) -> Parked:
    """This worker's key is refused, another's is not: such a one releases the message, after a pause.

    Without one it would go round and round where this worker is the only one to take it.
    """
    retry_at = datetime.now(UTC) + timedelta(seconds=STALE_KEY_PAUSE_SECONDS)
    return Parked(service, Reason.AUTH, retry_at, STALE_KEY_PAUSE_SECONDS)


def refused(permit: Permit) -> Parked:
    """The circuit is the gate: the message waits without a due time."""
    if permit.reason is Reason.AUTH and not permit.state.shut:
        return stale_key(permit.service)
    return Parked(permit.service, permit.reason, permit.retry_at or datetime.now(UTC))


def held(service: str, outcome: Outcome, report: Report) -> Parked:
    """The provider asked for a pause; where its circuit did not take it up, the message keeps it."""
    if outcome.reason is Reason.AUTH and not report.state.shut:
        return stale_key(service)
    delay = 0 if report.state.shut else outcome.hold_seconds
    return Parked(service, outcome.reason, _later(report, delay), delay, label=outcome.label)


def met_refusal(service: str, outcome: Outcome) -> Parked:
    """Another circuit is the gate, but lets nothing out of this one's lot: the message asks again itself."""
    retry_at = datetime.now(UTC) + timedelta(seconds=outcome.hold_seconds)
    return Parked(service, outcome.reason, retry_at, outcome.hold_seconds, label=outcome.label)


def failed_probe(service: str, outcome: Outcome, report: Report) -> Parked:
    """Behind all others, no attempt spent: one poisoned message cannot keep a circuit open."""
    return Parked(service, report.reason, _later(report, 0), behind=True, label=outcome.label)


def failed_attempt(service: str, outcome: Outcome, report: Report, delay: float) -> Parked:
    """One attempt of its budget is spent; the next comes after a pause, if the circuit lets it."""
    reason = report.reason or Reason.FAILURES
    return Parked(service, reason, _later(report, delay), delay, label=outcome.label)


def _later(report: Report, delay: float) -> datetime:
    own = datetime.now(UTC) + timedelta(seconds=delay)
    return max(report.retry_at, own) if report.retry_at else own
