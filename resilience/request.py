"""A message on its way through the pool, and how its task ends where the main process ends it.

Whatever is written to the result backend then, and the hooks of users' tasks, go through ``Gate.finish``: the
message is acknowledged once the end is written, and the event loop does not wait for it.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery._state import _task_stack
from celery.exceptions import Reject, Terminated, TimeLimitExceeded, WorkerLostError
from celery.utils.log import get_logger
from celery.utils.nodenames import gethostname
from celery.utils.saferepr import saferepr
from celery.worker import state as worker_state
from celery.worker.request import Request
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2

from resilience.circuit import LOST, STOPPED, CircuitState, Permit, Reason, Report, Verdict
from resilience.errors import ConfigurationError
from resilience.messages import ODD
from resilience.parking import PUBLISHED_AGAIN, Stored, Taken
from resilience.registry import get_circuit_breaker
from resilience.task import SOFT_LIMIT, Parked, subject_of
from resilience.unwritten import HARD_LIMIT, Unwritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

    from resilience.gate import Gate

logger = get_logger(__name__)

# A result that cannot be written, though a state can, is this error after so many tries.
TRIES = 4


def gate_of(app: Celery) -> Gate:
    """The app's gate.

    Raises:
        ConfigurationError: When ``resilience.install(app)`` was not called.
    """
    gate = getattr(app, "resilience_gate", None)
    if gate is None:
        raise ConfigurationError(
            f"app {app.main!r} has resilient tasks: call resilience.install(app) where the app is made"
        )
    return gate  # type: ignore[no-any-return]  # an attribute of an untyped object


class ResilientRequest(Request):
    """Celery's, for a task under a circuit."""

    # It has ended here, or it waits: what its pool says of it after that is no news.
    _over = False
    # The circuit had the last word: it runs.
    _sure = False

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        if message.headers.get(PUBLISHED_AGAIN):
            # worker_deduplicate_successful_tasks goes by this, which otherwise only a broker sets.
            self.delivery_info["redelivered"] = True
        # Only the main process knows those that hold. The task tells an operator's signal by the soft one.
        self.request_dict[HARD_LIMIT] = self._limit(0, "time_limit")
        self.request_dict[SOFT_LIMIT] = self._limit(1, "soft_time_limit")

    @property
    def gate(self) -> Gate:
        """The app's."""
        return gate_of(self.app)

    def _limit(self, place: int, name: str) -> float | None:
        worker = getattr(self.gate.consumer, "controller", None)
        own = (self.time_limits or (None, None))[place]
        return own or getattr(self.task, name) or getattr(worker, name, None)

    @classmethod
    def of(cls, gate: Gate, stored: Stored) -> ResilientRequest:
        """The original request of a parked message, to end it.

        Raises:
            Exception: For a message Celery would refuse to read, or another app's.
        """
        message = stored.restore(gate.app.conf.accept_content)
        options: dict[str, Any] = {}
        if isinstance(message.payload, dict):  # of the protocol before the present one, as Celery reads it
            convert = hybrid_to_proto2 if "args" in message.payload else proto1_to_proto2
            names = ("body", "headers", "decoded", "utc")
            options = dict(zip(names, convert(message, message.payload), strict=True))
        return cls(
            message,
            app=gate.app,
            # An operator's command is no worker.
            hostname=gate.consumer.hostname if gate.consumer else gethostname(),
            task=gate.app.tasks[stored.fields["task"]],
            **options,
        )

    def revoked(self) -> bool:
        """Called right before the pool gets the task, too; True frees the slot."""
        if super().revoked():
            return True
        # On receipt the strategy has asked already.
        if self._sure or self not in worker_state.reserved_requests:
            return False
        wait = self.gate.refuses(self.task, self.args, self.kwargs)
        if not wait:
            return False
        # So that Celery neither acknowledges it again nor asks a second time; before it may go on.
        self.acknowledged = self._already_revoked = True
        worker_state.task_ready(self)
        if not self.gate.park(self.task, self.message, wait, self._go_on, gate=True):
            self._go_on(Taken.LET_THROUGH)
        return True

    def _go_on(self, taken: Taken) -> None:
        if taken is not Taken.LET_THROUGH:
            self.gate.settle(self.message, taken)
            return
        self.acknowledged = self._already_revoked = False
        self._sure = True
        worker_state.task_reserved(self)
        self.gate.consumer.on_task_request(self)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:  # noqa: FBT001, FBT002, PLR0911 - Celery's signature, a line for each kind
        """What comes back from the pool without a result."""
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if self._over:
            return None
        if isinstance(error, Parked):
            worker_state.task_ready(self)
            return self._park(error)
        if isinstance(error, Unwritten):
            return self._write_again(error)
        if isinstance(error, TimeLimitExceeded):
            return self._on_time_limit(error)
        if isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt)):
            return self._on_process_lost(error)
        if isinstance(error, Reject) and not error.requeue:
            return self._end(error, exc_info, hooks=False, then=self.reject)
        if not return_ok and not isinstance(error, (Terminated, Reject, MemoryError)):
            # Outside the body: of a hook, which is not called again.
            return self._end(error, exc_info, hooks=False, then=self._acknowledge_failure)
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> Any:  # noqa: FBT001 - Celery's signature
        """Some pools say it here, some in ``on_failure`` before."""
        if soft:
            return super().on_timeout(soft, timeout)
        return None if self._over else self._on_time_limit(TimeLimitExceeded(timeout))

    def _on_time_limit(self, error: TimeLimitExceeded) -> None:
        """A failed attempt like any other, of which the pool process itself could say nothing."""
        self._over = True
        worker_state.task_ready(self)
        if worker_state.should_terminate:
            return  # the pool is being stopped: the message comes again
        logger.error("Hard time limit (%ss) exceeded for %s[%s]", error.args[0], self.name, self.id)
        report = self._report(STOPPED, f"stopped by its time limit of {error.args[0]} s")
        if report.attempts < self.task.max_attempts or (report.state.shut and not report.own):
            self._wait_behind(report, report.attempts)
        else:
            self._end(error, einfo_of(error), hooks=True, then=self._acknowledge_failure)

    def _on_process_lost(self, error: BaseException) -> None:
        self._over = True
        worker_state.task_ready(self)
        if self._already_revoked or self._already_cancelled:
            return  # by a signal of ours
        if worker_state.should_terminate:
            self.reject(requeue=True)
            return
        found: list[Any] = []

        def then(_error: Exception | None) -> None:
            if found and found[0]:  # lost after that
                self.acknowledge()
                self.send_event("task-succeeded", result=saferepr(found[0].get("result")), runtime=None)
            else:
                self._on_lost(error)

        self.gate.ending.do(lambda: found.append(self._success_was_stored()), then)

    def _on_lost(self, error: BaseException) -> None:
        """The task's process died: a failure of the service, and a try of the task. Too many end it."""
        report = self._report(LOST, "the process that called it was lost")
        if report.losses < self.task.max_losses:
            self._wait_behind(report, report.losses)
            return
        lost = WorkerLostError(f"{report.losses} processes were lost with this task: {error}")
        self._end(lost, einfo_of(lost), hooks=True, then=self._acknowledge_failure)

    def _wait_behind(self, report: Report, tries: int) -> None:
        pause = self.task.backoff(max(tries, 1))
        until = datetime.now(UTC) + timedelta(seconds=pause)
        reason = report.reason or Reason.FAILURES
        self._park(Parked(self._candidates()[0], reason, until, pause, behind=True))

    def _park(self, wait: Parked) -> None:
        """What comes back from the pool without an end: to the lot, or to the broker."""

        def then(taken: Taken) -> None:
            if taken is Taken.PARKED:
                self.acknowledge()
            else:
                self.gate.give_back(self, wait)

        if not self.gate.park(self.task, self.message, wait, then, gate=False):
            self.gate.give_back(self, wait)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:  # noqa: ARG002, FBT001 - Celery's signature
        """Celery's, for what is revoked or has expired when its turn comes, or while it runs."""
        self._already_revoked = True
        worker_state.task_ready(self)
        if terminated:
            self._report(STOPPED, "", Verdict.IGNORED)  # an operator's act says nothing of the service
        self._forget()  # it may have been released to try the circuit
        end = partial(self.revoke, reason, terminated=terminated, signum=signum)
        self.gate.finish(self, end, self.acknowledge)

    def _announce_cancelled(self, emit_retry: bool = True) -> None:  # noqa: FBT001, FBT002 - Celery's signature
        """Its message goes back, as the connection it came by is lost."""
        self._report(STOPPED, "", Verdict.IGNORED)
        super()._announce_cancelled(emit_retry=emit_retry)

    def _end(self, error: Exception, einfo: Any, *, hooks: bool, then: Callable[[], object]) -> None:
        """FAILURE, decided here."""
        self._over = True
        worker_state.task_ready(self)
        self._forget()
        self.gate.finish(self, partial(self.fail, error, einfo, hooks=hooks), then)

    def _acknowledge_failure(self) -> None:
        if self.task.acks_on_failure:
            self.acknowledge()
        else:
            self.reject()  # its queue may have another place for such

    def _write_again(self, unwritten: Unwritten) -> None:
        """The task has ended in the pool, and its result backend did not take it."""
        self._over = True
        worker_state.task_ready(self)
        tries = 0

        def end() -> None:
            nonlocal tries
            backend, tries = self.task.backend, tries + 1
            last = tries > TRIES
            if last and unwritten.publish:  # it takes something? Then what it does not take is this end
                backend.store_result(self.id, None, states.STARTED, request=self._context)
            try:
                unwritten.write(backend, self._context)
            except Exception as error:
                if not last:
                    raise
                self.fail(error)
                return
            if unwritten.succeeded:
                self.succeed(unwritten.value(self.task.backend))
            else:
                failed = unwritten.value(self.task.backend)
                self._call_failure_hooks(failed, einfo_of(failed))
                self.send_later("task-failed", exception=repr(failed), traceback=unwritten.traceback or "")

        then = self.acknowledge if unwritten.succeeded else self._acknowledge_failure
        logger.warning("the result of %s is not written yet: %s", self.id, unwritten.problem)
        self.gate.finish(self, end, then)

    # Beside the event loop, each called again as a whole where it raised.

    def revoke(self, reason: str, *, terminated: bool = False, signum: Any = None) -> None:
        """REVOKED, as Celery ends what expired in a queue: chords are told."""
        expired = reason == "expired"
        backend = self.task.backend
        try:
            backend.mark_as_revoked(self.id, reason, request=self._context, store_result=self.store_errors)
        except ODD:
            logger.exception("%s[%s]: what is to follow it is malformed", self.name, self.id)
            if self.store_errors:
                backend.mark_as_revoked(self.id, reason)
        self.send_later("task-revoked", terminated=terminated, signum=signum, expired=expired)
        with self._as_current():
            signals.task_revoked.send(
                self.task, request=self._context, terminated=terminated, signum=signum, expired=expired
            )

    def fail(self, error: Exception, einfo: Any = None, *, hooks: bool = True) -> None:
        """FAILURE by the original request: errbacks run, chords are told, hooks are called."""
        einfo = einfo or einfo_of(error)
        backend = self.task.backend
        try:
            backend.mark_as_failure(self.id, error, request=self._context, store_result=self.store_errors)
        except ODD:
            logger.exception("%s[%s]: what is to follow it is malformed", self.name, self.id)
            if self.store_errors:
                backend.mark_as_failure(self.id, error)
        self._call_failure_hooks(error, einfo, hooks=hooks)
        self.send_later("task-failed", exception=repr(error), traceback="")
        extra = {"task": self.name, "task_id": self.id, "service": self.task.service}
        logger.error("%s[%s]: %s", self.name, self.id, error, extra=extra)

    def succeed(self, result: Any) -> None:
        """What Celery does once SUCCESS is written."""
        with self._as_current():
            self._call("on_success", result, self.id, self.args, self.kwargs)
            signals.task_success.send(sender=self.task, result=result, runtime=0)
            self._call("after_return", states.SUCCESS, result, self.id, self.args, self.kwargs, None)
        self.send_later("task-succeeded", result=saferepr(result), runtime=0)

    def _call_failure_hooks(self, error: Exception, einfo: Any, *, hooks: bool = True) -> None:
        with self._as_current():
            if hooks:
                self._call("on_failure", error, self.id, self.args, self.kwargs, einfo)
            signals.task_failure.send(
                sender=self.task,
                task_id=self.id,
                exception=error,
                args=self.args,
                kwargs=self.kwargs,
                traceback=error.__traceback__,
                einfo=einfo,
            )
            if hooks:
                self._call("after_return", states.FAILURE, error, self.id, self.args, self.kwargs, None)

    def _call(self, hook: str, *arguments: Any) -> None:
        """A hook is its user's code: what it raises is logged, and nobody else's."""
        try:
            getattr(self.task, hook)(*arguments)
        except Exception:
            logger.exception("%s[%s]: %s raised", self.name, self.id, hook)

    @contextmanager
    def _as_current(self) -> Iterator[None]:
        """As while it runs: ``self.request`` is its own."""
        context = self._context
        context.called_directly = False
        _task_stack.push(self.task)
        self.task.request_stack.push(context)
        try:
            yield
        finally:
            self.task.request_stack.pop()
            _task_stack.pop()

    def send_later(self, kind: str, **fields: Any) -> None:
        """An event, from beside the loop."""
        consumer = self.gate.consumer
        events = consumer and consumer.event_dispatcher
        if events and events.enabled and self.task.send_events:
            consumer.call_soon(partial(events.send, kind, uuid=self.id, **fields))

    def _forget(self) -> None:
        """It ends: nothing is kept of it beside the circuits.

        Before its final state is written. Another copy of it, which did not see that state, may write PARKED
        over it and park: forgotten only then, it would be PARKED for ever, and nowhere.
        """
        for service in {*self.task.services, *self._candidates()}:
            get_circuit_breaker(service).forget(self.id)

    def _candidates(self) -> tuple[str, ...]:
        """The services it may use, as far as its arguments can be read."""
        known: tuple[str, ...] = self.task.services
        with suppress(Exception):  # whatever is wrong with them, the task itself says it
            known = self.task.services_for(self.args, self.kwargs) or known
        return known

    def _report(self, how: int, detail: str, verdict: Verdict = Verdict.FAILURE) -> Report:
        """Its permit died with its call; the store finds it by the task.

        Where the task could have been calling another service, nothing is said of any.
        """
        service, *others = self._candidates()
        gone = Permit(granted=True, service=service, state=CircuitState.CLOSED, generation=how)
        if others:
            verdict = Verdict.IGNORED
        return get_circuit_breaker(service).report(
            gone,
            verdict,
            owner=self.id,
            max_attempts=self.task.max_attempts,
            detail=detail,
            subject=subject_of(self.task.name, self.args, self.kwargs),
            guessed=True,
        )


def einfo_of(error: BaseException) -> ExceptionInfo:
    """As if it had been raised here: hooks look at it."""
    try:
        raise error  # noqa: TRY301 - that is all
    except BaseException:  # noqa: BLE001 - as above
        return ExceptionInfo()
