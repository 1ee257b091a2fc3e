"""ResilientTask: what happens to a task whose provider may be down. Read ``__call__``."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import CodeType
from typing import TYPE_CHECKING, Any, ClassVar

from celery import Task, states
from celery.app.trace import TraceInfo
from celery.backends.rpc import RPCBackend
from celery.exceptions import Ignore, MaxRetriesExceededError, Retry, SoftTimeLimitExceeded
from celery.utils.log import get_logger
from kombu.exceptions import EncodeError

from resilience.calls import part_of
from resilience.circuit import ASKED, CircuitState, Permit, Reason, Report, Verdict, reason_of
from resilience.errors import CircuitBreakerOpenError, ConfigurationError, refusal_in
from resilience.parking import Lane, Stored
from resilience.registry import get_circuit_breaker
from resilience.retrying import ASKED_FOR, PREDICATES, Asked, Draft, pause_of
from resilience.unwritten import BEGAN, Written, kept, traced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery import Celery
    from celery.app.task import Context

logger = get_logger(__name__)

#: In a task's request: the soft time limit that holds for it, in seconds; None: there is none.
SOFT_LIMIT = "resilience_soft_limit"
# A signal that comes so long before the limit is not the limit's.
SOFT_LIMIT_SLACK_SECONDS = 1.0
#: How long a message rests before it may meet a worker with another key than the one that was refused.
STALE_KEY_PAUSE_SECONDS = 5.0
#: An open circuit of this kind will not let the task through later either: waiting is no answer.
NEVER_WAITS = frozenset({Reason.RETIRED, Reason.ENTITLEMENT})
#: It is one caller's key that is refused, and may be no other's.
OF_KEYS = frozenset({Reason.AUTH, Reason.TURNED_AWAY})
#: Celery's tasks that call others as functions, once for each item.
MAPPERS = frozenset({"celery.map", "celery.starmap", "celery.chunks"})


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
        subject: With a failure: what it is about, where that is not the service: the same for all that ask
            the same. One subject's failures alone open no circuit, keep none open, and end their task after
            ``max_attempts``. Each counts once, at a task's first attempt: as many as open the circuit are the
            service's trouble.
        guessed: With a subject: it may be the service all the same. So it is where as many tasks as open the
            circuit have met it.
    """

    verdict: Verdict
    ends: bool = False
    hold_seconds: float = 0
    reason: Reason | None = None
    label: str | None = None
    detail: str = ""
    subject: str = ""
    guessed: bool = False


WELL, UNSAID = Outcome(Verdict.SUCCESS, ends=True), Outcome(Verdict.IGNORED, ends=True)


class Parked(Ignore):
    """Leaves the pool process and says where and how the message waits.

    Carries only plain values: it crosses a process boundary. After ``retry()`` these are also the count of
    retries and, where that is not the message that came, the text of the new one.
    """

    def __init__(  # one flat argument list, because that is what survives the crossing
        self,
        service: str,
        reason: str | None,
        retry_at: datetime,
        delay_seconds: float = 0,
        behind: bool = False,  # noqa: FBT001, FBT002 - positional, as above
        label: str | None = None,
        retries: int | None = None,
        text: str = "",
    ) -> None:
        super().__init__(service, reason, retry_at, delay_seconds, behind, label, retries, text)
        self.service = service
        self.reason = reason
        self.retry_at = retry_at
        self.delay_seconds = delay_seconds
        self.behind = behind
        self.label = label
        self.retries = retries
        self.text = text

    def after(self, asked: Asked, retries: int) -> Parked:
        """The same for the attempt its task asked for; after a failed probe the circuit alone says when."""
        alone = self.behind and not self.delay_seconds
        pause = 0 if alone else max(self.delay_seconds, asked.pause)
        retry_at = max(self.retry_at, datetime.now(UTC) + timedelta(seconds=pause))
        return Parked(
            self.service, self.reason, retry_at, pause, self.behind, self.label, retries, asked.message
        )

    def parks(self, message: Any) -> Stored:
        """What is to be parked: the message that came, or what its task has made of it."""
        stored = Stored.load(self.text) if self.text else Stored.of(message)
        return stored if self.retries is None else stored.retried(self.retries)

    def __str__(self) -> str:
        return f"Parked: {self.service} {self.reason}, next try {self.retry_at:%H:%M:%S} UTC"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended.

    Attributes:
        outcome: What it said of the service.
        about: The exception that was judged, if any.
        budget: The attempts its task may spend.
        asked: The ``retry()`` it ended with: the task is not over.
        sent: Calls of ``retry()`` it did not end with, as with ``throw=False``: Celery sends their messages.
        final: The task ends with what left its body, a value or an exception.
        nameless: It is not reported as the task's: another message under its id may be in the lot already, or
            the service has nothing to do with how it ended.
    """

    outcome: Outcome
    about: Exception | None
    budget: int
    asked: Asked | None
    sent: tuple[Asked, ...]
    final: bool
    nameless: bool

    def spends_retry(self, permit: Permit, report: Report) -> bool:
        """An outage spends none, however long it lasts."""
        if self.outcome.verdict is Verdict.FAILURE:
            return report.own or not (permit.probe or report.state.shut)
        return not self.outcome.hold_seconds


class ResilientTask(Task):
    """Base of a task that calls a service which may be down.

    Use: ``@app.task(base=ResilientTask, service="finnhub")``, after ``resilience.install(app)``.

    Attributes:
        service: The circuit the task is under.
        services: More circuits, in order of preference, where the body can use another service
            instead; ``self.request.service`` tells it which one it was let through to,
            ``self.request.call_seconds`` how long its call may take, and ``self.request.attempts`` how many
            attempts have failed before.
        lane: Who waits for it; on-demand tasks leave the parking lot first.
        max_attempts: Failed attempts after which the task ends in FAILURE, if its circuit is closed:
            then the service is well and the task is not. A refusal, a hold and a failed probe spend
            none, so an outage of any length spends none. Where since the last success nothing has failed
            but tasks of this name with the same arguments, fewer than open the circuit, the trouble is
            theirs: one task alone opens no circuit by trying again, and a failed probe is an attempt.
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
    Request = "resilience.request:ResilientRequest"

    # Celery's tracer of it, as ``kept`` has made it.
    _tracer: Any = None

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
        if "backend" in cls.__dict__:  # in the task's declaration: it would hide the one that asks it
            cls._backend = cls.__dict__["backend"]
            del cls.backend
        cls.services = _names(cls.services) or (cls.service,)
        cls.service = cls.service or cls.services[0]
        try:
            Lane(cls.lane)
        except ValueError:
            raise ConfigurationError(
                f"task {cls.name}: lane={cls.lane!r} is unknown; use {' or '.join(Lane)}"
            ) from None
        for service in cls.services:
            get_circuit_breaker(service)
        refuse_bypass(cls)

    @property
    def __trace__(self) -> Any:
        """What a pool calls, with Celery's name; it brings home a result that could not be written."""
        return self._tracer

    @__trace__.setter
    def __trace__(self, tracer: Any) -> None:
        self._tracer = kept(self, tracer) if tracer is not None else None

    @property
    def backend(self) -> Any:
        """The result backend; to Celery's tracer, around the body, one that keeps what it cannot write."""
        backend, request = super().backend, self.request_stack.top
        in_body = request is not None and request.get("permit")
        return Written(backend) if traced() is self and not in_body else backend

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912, PLR0915 - one path, kept in one place
        """One task's life, top to bottom.

        Raises:
            Parked: No service lets the task through now; the main process parks its message.
            CircuitBreakerOpenError: As above, where there is no message to park (eager mode), or
                where waiting is no answer.
            Exception: The body's own, when it is the task's answer or its attempts are spent.
        """
        request = self.request
        if request.called_directly or under_way(request):
            return self.call_as_function(*args, **kwargs)

        owner = "" if request.is_eager else request.id  # who has no message is a caller like any other
        waits: list[Parked] = []  # where the message could wait
        error: Exception | None = None  # what the task fails with if it can wait nowhere
        answered = False  # and whether that is an answer, if no other service has a better one
        asked: Asked | None = None  # the retry() its last call ended with
        retries: int = request.retries or 0
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
            self.begin(permit)
            result, failure, started = None, None, time.monotonic()
            try:
                with part_of(breaker):
                    result = self.run(*args, **kwargs)
            except Exception as exc:  # noqa: BLE001 - judged, and raised again unless it can wait
                failure = exc
            finally:
                request.permit = None

            # What did it say about the service? A report that comes too late only counts.
            end = self.ending(failure)
            outcome = end.outcome
            report = breaker.report(
                permit,
                outcome.verdict,
                hold_seconds=outcome.hold_seconds,
                reason=outcome.reason,
                owner="" if end.nameless else owner,
                max_attempts=end.budget,
                # Of an exception nobody has judged, the type: its text may hold anything.
                detail=": ".join(filter(None, (outcome.label, outcome.detail))) or type(end.about).__name__,
                subject=outcome.subject,
                guessed=outcome.guessed,
            )
            self.log_end(permit, outcome, started)

            # And about the task? It is over,
            asked, retries = end.asked, (request.retries or 0) + end.spends_retry(permit, report)
            if end.final:
                for one in end.sent:
                    one.publish(retries)
                if not end.nameless and not end.sent:
                    forget_elsewhere(request.id, service, services)
                if failure is not None:
                    raise failure
                return result
            # or waits, or asks another service, or has spent its attempts.
            error, answered = end.about if asked else failure, outcome.verdict is Verdict.SUCCESS
            wait = self.wait_after(permit, end, report)
            if wait:
                waits.append(wait)
            if asked and outcome.verdict not in (Verdict.FAILURE, Verdict.HOLD):
                break  # another service is not what it asked for

        if not waits:
            raise self.concluded(error or CircuitBreakerOpenError(self.service, None, None))
        soonest = min(waits, key=lambda wait: wait.retry_at)
        if request.is_eager:
            shut = CircuitBreakerOpenError(soonest.service, soonest.retry_at, soonest.reason)
            raise shut if error is None or answered else error
        if asked:
            self.tell_of_retry(asked)
            soonest = soonest.after(asked, retries)
        raise soonest

    def begin(self, permit: Permit) -> None:
        """What the body can see of its call, and what the layer must know while it runs."""
        request = self.request
        request.service, request.call_seconds = permit.service, permit.call_seconds
        request.attempts, request.retries = permit.attempts, request.retries or 0
        request.permit, request.asked, request.depth = permit, [], len(self.request_stack)
        # So that Celery gives a function's call a request of its own, which takes none of these for headers.
        request._protected = 1  # noqa: SLF001 - as Celery's own __call__ does
        request.headers = request.headers or {}

    def call_as_function(self, *args: Any, **kwargs: Any) -> Any:
        """Celery's own: within its own body, in another task's or outside of any. No circuit is asked.

        Raises:
            ConfigurationError: It is ``map()``, ``starmap()`` or ``chunks()`` that calls.
        """
        caller = self.app.current_task
        if caller is not None and caller.name in MAPPERS:
            raise self.not_mapped(caller.name)
        return super().__call__(*args, **kwargs)

    def ending(self, failure: Exception | None) -> Ending:
        """What a call has said, by what left the body and by what the body asked for.

        A ``retry()`` is judged by its exception, as if that had left the body.
        """
        calls: list[Asked] = self.request.asked
        granted = tuple(one for one in calls if one.granted)
        left = next((one for one in calls if failure is not None and one.answer is failure), None)
        asked = left if granted == (left,) and not self.request.is_eager else None
        about = left.about if left else granted[-1].about if granted else failure
        if failure is None and not granted:
            outcome = WELL
        elif about is None or isinstance(about, PREDICATES):  # the body speaks to Celery, not of the service
            outcome = UNSAID
        else:
            outcome = self.judged(about)
        if left and left.mistaken:
            outcome = replace(outcome, ends=True)
        elsewhere = outcome.verdict is Verdict.IGNORED and not outcome.ends
        return Ending(
            outcome,
            about,
            budget=ASKED if granted else 0 if calls else self.max_attempts,
            asked=asked,
            sent=() if asked or self.request.is_eager else granted,
            final=asked is None and (outcome.ends or bool(granted)),
            nameless=not granted and (elsewhere or isinstance(failure, PREDICATES)),
        )

    def wait_after(self, permit: Permit, end: Ending, report: Report) -> Parked | None:
        """Where the message waits after a call that was not the end; None: not for this service."""
        service, outcome, asked = permit.service, end.outcome, end.asked
        if outcome.verdict is Verdict.HOLD:
            return None if outcome.reason in NEVER_WAITS else held(service, outcome, report)
        if outcome.verdict is Verdict.IGNORED and outcome.hold_seconds:
            return met_refusal(service, outcome)
        if outcome.verdict is not Verdict.FAILURE:
            return Parked(service, ASKED_FOR, _later(report, 0), label=outcome.label) if asked else None
        more = asked is not None or report.attempts < end.budget
        if permit.probe and (more or not report.own):
            # Where the circuit has not opened again, nothing else keeps it from being the next probe, too.
            alone = report.own and report.state is CircuitState.HALF_OPEN
            return failed_probe(
                service, outcome, report, self.backoff(max(report.attempts, 1)) if alone else 0
            )
        if more or (report.state.shut and not report.own):
            return failed_attempt(service, outcome, report, 0 if asked else self.backoff(report.attempts))
        return None

    def tell_of_retry(self, asked: Asked) -> None:
        """The hook, the signal and the line of Celery's log. The state is PARKED."""
        try:
            raise asked.answer or AssertionError
        except Retry as answer:
            TraceInfo(states.RETRY, answer).handle_retry(self, self.request, store_errors=False)

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
            return self.services_for(args, kwargs)
        except Exception:
            forget_elsewhere(task_id, "", self.services)
            raise

    def services_for(self, args: Any, kwargs: Any) -> tuple[str, ...]:
        """What ``candidates`` names for these arguments."""
        return _names(self.candidates(*args, **kwargs))

    def candidates(self, *args: Any, **kwargs: Any) -> tuple[str, ...]:  # noqa: ARG002 - an override may look at the arguments
        """The services this call may use, in order."""
        return self.services

    def concluded(self, error: Exception) -> Exception:
        """What the task fails with where no service has done it and none is waited for: the last error."""
        return error

    def group_of(self, message: Stored) -> str:
        """Which parked messages become one with this; '': it stays for itself."""
        if not self.coalesce or isinstance(self.backend, RPCBackend):  # a result only its caller can read
            return ""
        if self.store_errors_even_if_ignored and (self.ignore_result or message.headers.get("ignore_result")):
            return ""  # whether its state tells how it has ended depends on how it has ended
        return message.question()

    def judge(self, error: Exception) -> Outcome:
        """What an exception out of the body means; override it to tell more apart.

        The breaker's ``expected_exception`` is the service's failure, and so is a soft time limit; anything
        else is the task's own, says nothing about the service, and ends the task. Where the circuit of
        another service refused, the task waits for that. By this judgement a failure may be about the task's
        arguments, and one task alone opens no circuit; an override that gives no ``subject`` says that it
        is the service's, one whose ``subject`` is no guess, that it is that one's.
        """
        refusal = refusal_in(error)
        if refusal and refusal.reason not in NEVER_WAITS:
            return Outcome(
                Verdict.IGNORED,
                hold_seconds=max(min(refusal.retry_in, self.backoff_cap_seconds), self.backoff_seconds, 0.1),
                reason=reason_of(refusal.reason or ""),
                label=f"refused by {refusal.service}",
            )
        if isinstance(error, SoftTimeLimitExceeded):
            verdict = Verdict.FAILURE
        elif isinstance(error, (ConfigurationError, MaxRetriesExceededError)):
            verdict = Verdict.IGNORED
        else:
            verdict = get_circuit_breaker(self.request.service).verdict_of(error)
        if verdict is not Verdict.FAILURE:
            return Outcome(verdict, ends=True)
        # Nobody has looked at it, and it may be the task's own trouble as well as the service's.
        about = subject_of(self.name, self.request.args, self.request.kwargs)
        return Outcome(verdict, subject=about, guessed=True)

    def judged(self, error: Exception) -> Outcome:
        """As ``judge``, which is not asked about an operator's signal: that says nothing of the service."""
        return Outcome(Verdict.IGNORED, ends=True) if self.was_stopped(error) else self.judge(error)

    def was_stopped(self, error: BaseException) -> bool:
        """Whether this is of ``revoke(terminate=True, signal="SIGUSR1")``, and not of the soft time limit."""
        causes: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None and cause not in causes:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__
        if not any(isinstance(cause, SoftTimeLimitExceeded) for cause in causes):
            return False
        limit, began = self.request.get(SOFT_LIMIT), self.request.get(BEGAN)
        return limit is None or began is None or time.monotonic() - began + SOFT_LIMIT_SLACK_SECONDS < limit

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
        """Celery's own, but the message waits in the parking lot, and not in a worker as an ETA.

        What it says of the service is judged by ``exc``, or else by the exception that is being handled, as
        if that had left the body. Without either it says nothing.

        Raises:
            Retry: Celery's, unless ``throw`` is false.
            MaxRetriesExceededError: Or ``exc``: the retries are spent.
            ConfigurationError: The pause is longer than a task may be parked.
        """
        request = self.request
        if not under_way(request):  # a function's call, or a hook: there is no attempt to be repeated
            return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)
        asked, draft = Asked.because_of(exc), Draft()
        request.asked.append(asked)
        called = (
            len(self.request_stack) > request.depth
        )  # as a function, by its own body: with arguments of its own
        same = args is None and kwargs is None and not called
        changed = bool(options) or not same
        options |= {"producer": draft, "connection": None, "retry": False}
        try:
            longest = get_circuit_breaker(request.service).policy.max_parked_seconds
            asked.pause = pause_of(eta, countdown, self.default_retry_delay, longest)
            # A countdown may change where Celery sends it; the pause is the lot's.
            answer = super().retry(
                args, kwargs, exc, throw=False, countdown=0, max_retries=max_retries, **options
            )
            if changed and not request.is_eager:
                asked.take_down(draft.stored, request, same_arguments=same)
        except Exception as error:
            asked.answer = error
            raise
        asked.answer = answer
        answer.when = countdown or eta or asked.pause
        if throw:
            raise answer
        return answer

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **options: Any
    ) -> None:
        """Celery's own, for information: what its backend does not take is no failure of the service."""
        try:
            super().update_state(task_id, state, meta, **options)
        except (EncodeError, SoftTimeLimitExceeded):
            raise  # the body's own
        except Exception as error:  # noqa: BLE001 - any backend's; a missing state loses nothing
            logger.warning("state %s of %s not written: %r", state, task_id or self.request.id, error)

    def chunks(self, it: Any, n: int) -> Any:  # noqa: ARG002 - Celery's signature
        """Refused: see ``not_mapped``."""
        raise self.not_mapped("chunks()")

    def map(self, it: Any) -> Any:  # noqa: ARG002 - Celery's signature
        """Refused: see ``not_mapped``."""
        raise self.not_mapped("map()")

    def starmap(self, it: Any) -> Any:  # noqa: ARG002 - Celery's signature
        """Refused: see ``not_mapped``."""
        raise self.not_mapped("starmap()")

    def not_mapped(self, how: str) -> ConfigurationError:
        """One message with many calls asks no circuit, and could not wait for one in the middle."""
        return ConfigurationError(
            f"{how} of {self.name} would call {' or '.join(self.services)} past the circuit: send a message "
            f"for each call, as in group({self.name}.s(item) for item in items)"
        )


def _names(services: str | Iterable[str]) -> tuple[str, ...]:
    """One may stand for itself; else each of its letters would be taken for a service."""
    return (services,) if isinstance(services, str) else tuple(services)


def subject_of(name: str, args: Any, kwargs: Any) -> str:
    """What a call of this task with these arguments is about: a digest; '' where that cannot be told."""
    try:
        text = json.dumps([name, args, kwargs], sort_keys=True, default=repr)
    except (TypeError, ValueError, RecursionError):
        return ""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def under_way(request: Context) -> bool:
    """Whether a call of the body is; a message may have a header of that name."""
    return isinstance(request.get("permit"), Permit)


def refuse_bypass(task: type[ResilientTask]) -> None:
    """A ``__call__`` of the app's own must lead through the one of ResilientTask.

    Raises:
        ConfigurationError: It calls the body itself, or is never called.
    """
    bases = task.__mro__[: task.__mro__.index(Task)]
    place = bases.index(ResilientTask)
    for base in bases[:place]:
        names = _names_in(getattr(inspect.unwrap(vars(base).get("__call__", len)), "__code__", None))
        if "run" in names and "__call__" not in names:
            raise ConfigurationError(
                f"task {task.name}: __call__ of {base.__name__} calls self.run(), past the circuit; "
                "have it call super().__call__()"
            )
    for base in bases[place + 1 :]:
        if "__call__" in vars(base):
            raise ConfigurationError(
                f"task {task.name}: __call__ of {base.__name__} is never called; name it before ResilientTask"
            )


def _names_in(code: Any) -> set[str]:
    """What a function uses by name, in functions within it, too."""
    if not isinstance(code, CodeType):
        return set()
    return set(code.co_names).union(*map(_names_in, code.co_consts))


def forget_elsewhere(task_id: str, answered: str, services: tuple[str, ...]) -> None:
    """A task that could have used other services may hold a probe's place at one of them."""
    for service in services:
        if service != answered:
            get_circuit_breaker(service).forget(task_id)


def stale_key(service: str, reason: Reason) -> Parked:
    """This worker's key is refused, another's is not: such a one releases the message, after a pause.

    Without one it would go round and round where this worker is the only one to take it.
    """
    retry_at = datetime.now(UTC) + timedelta(seconds=STALE_KEY_PAUSE_SECONDS)
    return Parked(service, reason, retry_at, STALE_KEY_PAUSE_SECONDS)


def refused(permit: Permit) -> Parked:
    """The circuit is the gate: the message waits without a due time."""
    if permit.reason in OF_KEYS and not permit.state.shut:
        return stale_key(permit.service, permit.reason)
    return Parked(permit.service, permit.reason, permit.retry_at or datetime.now(UTC))


def held(service: str, outcome: Outcome, report: Report) -> Parked:
    """The provider asked for a pause; where its circuit did not take it up, the message keeps it."""
    reason = outcome.reason
    if reason in OF_KEYS and not report.state.shut:
        return stale_key(service, reason)
    if reason is Reason.TURNED_AWAY and report.reason is Reason.AUTH:
        reason = report.reason
    delay = 0 if report.state.shut else outcome.hold_seconds
    return Parked(service, reason, _later(report, delay), delay, label=outcome.label)


def met_refusal(service: str, outcome: Outcome) -> Parked:
    """Another circuit is the gate, but lets nothing out of this one's lot: the message asks again itself."""
    retry_at = datetime.now(UTC) + timedelta(seconds=outcome.hold_seconds)
    return Parked(service, outcome.reason, retry_at, outcome.hold_seconds, label=outcome.label)


def failed_probe(service: str, outcome: Outcome, report: Report, delay: float = 0) -> Parked:
    """Behind all others: one poisoned message cannot keep a circuit open."""
    return Parked(service, report.reason, _later(report, delay), delay, behind=True, label=outcome.label)


def failed_attempt(service: str, outcome: Outcome, report: Report, delay: float) -> Parked:
    """One attempt of its budget is spent; the next comes after a pause, if the circuit lets it."""
    reason = report.reason or Reason.FAILURES
    return Parked(service, reason, _later(report, delay), delay, label=outcome.label)


def _later(report: Report, delay: float) -> datetime:
    own = datetime.now(UTC) + timedelta(seconds=delay)
    return max(report.retry_at, own) if report.retry_at else own
