"""The circuit breaker: acquire, call, report. No lock is held while the provider is called."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast

from celery.exceptions import TaskPredicate

from resilience.calls import Call, innermost, protect
from resilience.circuit import Finding, Permit, Reason, Report, Verdict, from_micros, time_of, to_micros
from resilience.errors import ConfigurationError, ResilienceError, StoreUnavailableError, refusal_in
from resilience.extension import extensions
from resilience.policy import (
    MAX_SECONDS,
    MIN_SECONDS,
    Change,
    Policy,
    effective,
    laid_down,
    micros_in,
    override_stages,
    quota_interval,
)
from resilience.stores import Store, default_store, open_store
from resilience.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from resilience.circuit import Circuit

P = ParamSpec("P")
R = TypeVar("R")

HOUR, DAY = 3600, 86_400
EVER = 30.0 * DAY
# Others may change the same circuit's policy at the same moment: one of them is done each time.
TRIES = 100
#: Characters kept of what was wrong.
MOST_DETAIL = 300
# A service asked for these pauses itself, and said, or its documentation does, when they end.
HOLDS = frozenset({Reason.RATE_LIMITED, Reason.QUOTA})


class CircuitBreaker:
    """Cuts a failing service off, and lets it back gently.

    Args:
        service_name: The circuit's name; breakers of one name on one store share it.
        failure_threshold: Consecutive failures that open it.
        timeout_seconds: How long it stays open before it is tried again.
        expected_exception: What ``call`` counts as a failure; anything else passes through uncounted.
        half_open_max_calls: Trial calls in flight at most, and the successes that close it.
        store: ``redis://…``, ``rediss://…``, ``sentinel://…``, ``memory://``, a store, or None: the one
            ``install`` or RESILIENCE_STORE_URL names; where nothing is configured, this breaker's own memory.
        policy: All of the above numbers and more in one; overrides them.
        key: The fingerprint of the key the calls are made with, never the key itself, or what tells it:
            a key that is refused shuts out those who use it and nobody else.

    Raises:
        ConfigurationError: For a value that cannot work; it names the value and the remedy.
    """

    def __init__(
        self,
        service_name: str,
        failure_threshold: int = 5,
        timeout_seconds: float = 60,
        expected_exception: type[BaseException] | Iterable[type[BaseException]] = Exception,
        half_open_max_calls: int = 3,
        *,
        store: Store | str | None = None,
        policy: Policy | None = None,
        key: str | Callable[[], str] = "",
    ) -> None:
        if not isinstance(service_name, str) or not service_name or set(service_name) & set("{} \t\r\n"):
            raise ConfigurationError(f"service_name={service_name!r}: give a name without spaces and braces")
        if policy is not None and not isinstance(policy, Policy):
            raise ConfigurationError(f"policy={policy!r}: give a Policy")
        self.service_name = service_name
        self.expected_exception = expected_exception
        self.policy = policy or Policy(failure_threshold, timeout_seconds, half_open_max_calls)
        self._key = key
        self._store = open_store(store) if isinstance(store, str) else store
        self._own_memory = MemoryStore()
        #: The blocks under ``with`` and ``async with`` that are under way, in the order they began.
        self._blocks: dict[Call, None] = {}

    @property
    def expected_exception(self) -> type[BaseException] | tuple[type[BaseException], ...]:
        """What ``call`` counts as a failure; anything else passes through uncounted."""
        return self._expected[0] if len(self._expected) == 1 else self._expected

    @expected_exception.setter
    def expected_exception(self, expected: type[BaseException] | Iterable[type[BaseException]]) -> None:
        self._expected = _exceptions(expected)

    @property
    def key(self) -> str:
        """The fingerprint of the key the calls are made with, '' for none."""
        return self._key if isinstance(self._key, str) else self._key()

    @key.setter
    def key(self, key: str | Callable[[], str]) -> None:
        self._key = key

    @property
    def own_store(self) -> Store | None:
        """The store it was given; None: it goes by its task's app, or by the process's."""
        return self._store

    @property
    def store(self) -> Store:
        """Where this circuit lives."""
        return self._store or default_store() or self._own_memory

    @property
    def failure_threshold(self) -> int:
        """Consecutive failures that open it."""
        return self.policy.failure_threshold

    @property
    def timeout_seconds(self) -> float:
        """Seconds from opening to the first probe."""
        return self.policy.timeout_seconds

    @property
    def half_open_max_calls(self) -> int:
        """Probes in flight at most, and successes that close it."""
        return self.policy.half_open_max_calls

    def acquire(self, owner: str = "") -> Permit:
        """May one call go ahead? One atomic step; a refusal is a value, not an exception.

        Args:
            owner: The id of the task that asks, so that a release's reservation finds it.

        Returns:
            A permit, true when granted; refused, it says why and when to come back.
        """
        return self.store.acquire(self.service_name, self.policy, owner, self.key)

    def report(  # noqa: PLR0913 - a finding's parts, by name
        self,
        permit: Permit,
        verdict: Verdict | str,
        *,
        hold_seconds: float = 0,
        reason: Reason | str | None = None,
        owner: str = "",
        max_attempts: int = 0,
        detail: str = "",
        subject: str = "",
        guessed: bool = False,
    ) -> Report:
        """What the call said. One atomic step; a report that comes too late changes no state.

        A call ends once: only the first report of a permit counts, whatever the others say.

        Args:
            permit: The permit the call was made under.
            verdict: success, failure, ignored or hold.
            hold_seconds: With hold: how long the provider wants to be left alone.
            reason: With hold: why (rate_limited unless said).
            owner: The task that made the call, if one did.
            max_attempts: Its attempt budget; -1: it has asked for another attempt itself, and spends none.
            detail: With failure or hold: what was wrong, for people, free of secrets; of a long text the
                beginning, on one line.
            subject: With failure and an owner: what its call was about, the same for all that ask the same.
            guessed: It may as well be the service: so it is once enough tasks have met it.

        Raises:
            ValueError: For a refused permit, one of another circuit, an unknown verdict, or a hold without
                its seconds.
        """
        verdict = Verdict(verdict)
        if not permit:
            raise ValueError(f"the permit of {permit.service} was refused: there is no call to report")
        if permit.service != self.service_name:
            raise ValueError(
                f"the permit is of {permit.service}: report it there, not to {self.service_name}"
            )
        if verdict is Verdict.HOLD:
            if not hold_seconds > 0:  # nan is not either
                raise ValueError(f"hold_seconds={hold_seconds!r}: a hold needs its seconds, more than 0")
            hold_seconds = min(hold_seconds, MAX_SECONDS)  # a provider's word, whatever it says
        why = Reason(reason) if reason else None
        said = "".join(char if char.isprintable() else " " for char in detail[:MOST_DETAIL])
        finding = Finding(
            verdict,
            hold_seconds,
            why,
            owner,
            max_attempts,
            self.key,
            detail=said,
            subject=subject,
            guessed=guessed,
        )
        try:
            permit.untold.pop()
        except IndexError:
            return self._told()
        try:
            return self.store.report(permit, self.policy, finding)
        except StoreUnavailableError:
            permit.untold.append(None)
            raise

    def _told(self) -> Report:
        """The answer to a report that comes a second time."""
        circuit = self.read()
        return Report(
            applied=False,
            state=circuit.state,
            retry_at=circuit.retry_at,
            reason=circuit.reason,
            generation=circuit.generation,
            at_micros=to_micros(circuit.read_at) if circuit.read_at else 0,
        )

    def forget(self, owner: str) -> None:
        """A task ended with another service's answer: drop what is kept of it here."""
        self.store.forget(self.service_name, owner)

    def call(self, func: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function: refused, it raises CircuitBreakerOpenError instead of running.

        A function, a coroutine function, a generator or an asynchronous one, and what returns such. A call of
        the same circuit within another, in a task of its service too, is a part of that one. See ``calls``.

        Raises:
            ConfigurationError: For what is no function, or is one that its calls cannot be seen of.
        """
        return cast("Callable[P, R]", protect(self, func))

    def __enter__(self) -> Self:
        """The block is a call: refused, it raises CircuitBreakerOpenError instead of running."""
        call = Call(self)
        call.begin()
        return self._enter(call)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._leave().end(error)

    async def __aenter__(self) -> Self:
        """As ``with``; the store is asked in a thread."""
        call = Call(self)
        await call.begin_async()
        return self._enter(call)

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        await self._leave().end_async(error)

    def _enter(self, call: Call) -> Self:
        self._blocks[call.__enter__()] = None
        return self

    def _leave(self) -> Call:
        call = innermost(self._blocks)
        call.__exit__()
        del self._blocks[call]
        return call

    def verdict_of(self, error: BaseException | None) -> Verdict:
        """What a call that ended so, None for well, says of the service.

        Nothing, if it never came to an answer: another circuit refused, the caller was cancelled, the task
        spoke to Celery. A group says what any of its members says.
        """
        if error is None:
            return Verdict.SUCCESS
        if isinstance(error, BaseExceptionGroup):
            found = {self.verdict_of(member) for member in error.exceptions}
            return Verdict.FAILURE if Verdict.FAILURE in found else Verdict.IGNORED
        if isinstance(error, TaskPredicate):  # a retry with an exception is that exception
            cause = getattr(error, "exc", None)
            return self.verdict_of(cause) if isinstance(cause, Exception) else Verdict.IGNORED
        if isinstance(error, (ResilienceError, asyncio.CancelledError, GeneratorExit)) or refusal_in(error):
            return Verdict.IGNORED
        return Verdict.FAILURE if isinstance(error, self._expected) else Verdict.IGNORED

    def read(self) -> Circuit:
        """The circuit as it stands."""
        return self.store.read([self.service_name])[self.service_name]

    def get_state(self) -> dict[str, Any]:
        """The circuit as it stands, as plain JSON; times in ISO 8601 (UTC)."""
        return describe(self.read(), self.policy)

    def force_open(self, seconds: float = EVER, reason: str = "", actor: str | None = None) -> None:
        """Refuse every call of the fleet for ``seconds``."""
        self._control("open", seconds, reason, actor)

    def force_close(self, seconds: float = 0, reason: str = "", actor: str | None = None) -> None:
        """Close now; for ``seconds`` failures are counted and do not open it."""
        self._control("close", seconds, reason, actor)

    def disable(self, seconds: float = EVER, reason: str = "", actor: str | None = None) -> None:
        """Let every call pass for ``seconds``, still measured."""
        self._control("disable", seconds, reason, actor)

    def reset(self, reason: str = "", actor: str | None = None) -> None:
        """Closed, no failures, no operator's word; what the app keeps beside it is taken back, too."""
        self._control("reset", 0, reason, actor)
        if self._store not in (None, default_store()):
            return  # it is none of the app's, which keeps everything in one store
        for extension in extensions():
            extension.reset(self.service_name)

    def remove(self) -> bool:
        """Forget this circuit, for the whole fleet: its state, history and counts. A next call begins anew.

        One that nobody asks for goes away by itself after thirty days.

        Returns:
            Whether anything was known of it.

        Raises:
            ConfigurationError: Tasks are parked there.
            StoreUnavailableError: When the shared store does not answer.
        """
        parked = self.store.remove(self.service_name)
        if parked > 0:
            raise ConfigurationError(
                f"the circuit of {self.service_name} cannot be removed, because {parked} tasks are parked "
                "there: release or drop them first"
            )
        from resilience.registry import unregister  # noqa: PLC0415 - it imports this module

        unregister(self.service_name)
        return parked == 0

    def override(
        self, changes: Mapping[str, Any], seconds: float = EVER, reason: str = "", actor: str | None = None
    ) -> None:
        """Change fields of the policy for the whole fleet, for ``seconds``; the next call goes by it.

        Changes made before and still in force stay, each until its own time limit, unless they are of the
        same fields.

        Raises:
            ConfigurationError: For a field or value that cannot work, now or once another change has ended;
                nothing is changed then.
            StoreUnavailableError: When the shared store does not answer.
        """
        _check_limit(seconds)
        by = actor or whoami()

        def lay(laid: dict[str, Change], now: int) -> dict[str, Change]:
            until = now + micros_in(seconds)
            rest = {name: one for name, one in laid.items() if name not in changes}
            return rest | {name: Change(value, until, by, reason) for name, value in changes.items()}

        self._lay(lay, reason, by)

    def end_override(
        self, reason: str = "", actor: str | None = None, fields: Collection[str] | None = None
    ) -> None:
        """Back to the policy of the settings, for the whole fleet; of some fields, or of all.

        Raises:
            ConfigurationError: A field is not changed, or what is left cannot work; nothing is ended then.
            StoreUnavailableError: When the shared store does not answer.
        """
        by = actor or whoami()
        if fields is None:
            self.store.override(self.service_name, None, (), reason, by)
            return

        def end(laid: dict[str, Change], now: int) -> dict[str, Change]:  # noqa: ARG001 - as the other
            for name in fields:
                if name not in laid:
                    known = ", ".join(laid) or "none"
                    raise ConfigurationError(f"{name!r} is not changed; changed are {known}")
            return {name: one for name, one in laid.items() if name not in fields}

        self._lay(end, reason, by)

    def _lay(
        self, change: Callable[[dict[str, Change], int], dict[str, Change]], reason: str, actor: str
    ) -> None:
        """Change what is changed, by what was read; again, where somebody else was faster."""
        for _ in range(TRIES):
            circuit = self.read()
            now = to_micros(circuit.read_at or datetime.now(UTC))
            stages = override_stages(self.policy, change(changes_laid(circuit), now))
            if self.store.override(self.service_name, circuit.override, stages, reason, actor):
                return
        raise ConfigurationError(
            f"the policy of {self.service_name} is changed by others again and again, or what is kept of it "
            "cannot be read: try again, or end all changes with end_override()"
        )

    def _control(self, act: str, seconds: float, note: str, actor: str | None) -> None:
        if act not in ("close", "reset") or seconds != 0:
            _check_limit(seconds)
        self.store.control(self.service_name, act, seconds, note, actor or whoami())

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.service_name} {self.policy}>"


def _exceptions(expected: object) -> tuple[type[BaseException], ...]:
    classes = tuple(expected) if isinstance(expected, (tuple, list, set, frozenset)) else (expected,)
    if not classes or not all(isinstance(one, type) and issubclass(one, BaseException) for one in classes):
        raise ConfigurationError(
            f"expected_exception={expected!r}: give a class of exceptions, or several in a tuple"
        )
    return classes


def _check_limit(seconds: float) -> None:
    if not isinstance(seconds, (int, float)) or not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise ConfigurationError(
            f"seconds={seconds!r}: give a time limit, from {MIN_SECONDS} to {MAX_SECONDS:.0f} seconds"
        )


def describe(circuit: Circuit, policy: Policy) -> dict[str, Any]:
    """One circuit as the plain JSON every monitor shows."""
    policy, laid = effective(policy, circuit.override), changes_laid(circuit)
    return {
        "service": circuit.service,
        "state": circuit.state.value,
        "failure_count": circuit.failures,
        "failure_threshold": policy.failure_threshold,
        "last_failure_time": iso(circuit.last_failure),
        "last_error": circuit.last_error,
        "retry_at": iso(circuit.retry_at),
        "reason": circuit.reason.value if circuit.reason else None,
        "since": iso(circuit.since),
        "recovering_since": iso(circuit.recovering_since),
        "hold_until": iso(circuit.retry_at if circuit.reason in HOLDS else None),
        **quota(circuit, policy),
        "timeout_seconds": policy.timeout_seconds,
        "half_open_max_calls": policy.half_open_max_calls,
        "half_open_in_flight": circuit.in_flight,
        "half_open_successes": circuit.successes,
        "forced_until": iso(circuit.forced_until),
        "actor": circuit.actor,
        "note": circuit.note,
        "refused_keys": sorted(circuit.refused_keys),
        "policy_changes": {name: one.value for name, one in laid.items()},
        "policy_changes_by_field": {
            name: {
                "value": one.value,
                "until": iso(from_micros(one.until)),
                "actor": one.actor,
                "note": one.note,
            }
            for name, one in laid.items()
        },
        "policy_changed_until": iso(from_micros(max((one.until for one in laid.values()), default=0))),
        "policy_changed_by": circuit.override_actor,
        "policy_changed_note": circuit.override_note,
        "observe_only": policy.observe_only,
        "allowed_total": circuit.allowed_total,
        "blocked_total": circuit.blocked_total,
        "would_block_total": circuit.would_block_total,
        "failures_total": circuit.failures_total,
        "trips_total": circuit.trips_total,
        "parked": circuit.parked,
        "parked_since": iso(circuit.parked_since),
        "parked_total": circuit.parked_total,
        "coalesced_total": circuit.coalesced_total,
        "released_total": circuit.released_total,
        "unroutable_total": circuit.unroutable_total,
        "dropped_total": dict(circuit.dropped_total),
        "shared": circuit.shared,
    }


def changes_laid(circuit: Circuit) -> dict[str, Change]:
    """What operators have changed of its policy, by field, the latest change last."""
    until = to_micros(circuit.override_until) if circuit.override_until else 0
    return laid_down(circuit.override, until, circuit.override_actor or "", circuit.override_note or "")


def quota(circuit: Circuit, policy: Policy) -> dict[str, Any]:
    """What is left of a quota; null where there is none.

    quota_left calls may go at once; where there is none left, the next may go at quota_next_at. If nothing is
    called until quota_full_at, the whole burst may.
    """
    interval, left, next_at, full_at = quota_interval(policy), None, None, None
    if interval and circuit.read_at:
        now, burst = to_micros(circuit.read_at), policy.quota_burst
        used_until = to_micros(circuit.used_until) if circuit.used_until else 0
        # A slower pace, as after a recovery, notes more than the whole burst can be.
        used = min(max(used_until - now, 0), burst * interval)
        left = burst + -used // interval
        next_at = None if left else time_of(now + used - (burst - 1) * interval)
        full_at = time_of(now + used) if used else None
    return {
        "quota_calls": policy.quota_calls,
        "quota_seconds": policy.quota_seconds,
        "quota_left": left,
        "quota_next_at": iso(next_at),
        "quota_full_at": iso(full_at),
    }


def iso(when: datetime | None) -> str | None:
    """ISO 8601 with its offset, or None."""
    return when.isoformat() if when else None


def seconds_until(when: str) -> float:
    """How long from now to a time in ISO 8601, on this machine's clock; below zero once it is over."""
    return (datetime.fromisoformat(when) - datetime.now(UTC)).total_seconds()


def span(seconds: float) -> str:
    """So long, in words, rounded to seconds: 45s, 1m 30s, 2h, 3d 4h; at most the two largest units."""
    left = max(0, round(seconds))
    if left >= DAY:  # what is left out is rounded, so that 23h 59m 59s is not less than a day
        left = round(left / 3600) * 3600
    elif left >= HOUR:
        left = round(left / 60) * 60
    parts = []
    for size, unit in ((DAY, "d"), (HOUR, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        parts += [f"{count}{unit}"] * bool(count)
    return " ".join(parts) or "0s"


def whoami() -> str:
    """Who acts, for the record: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
