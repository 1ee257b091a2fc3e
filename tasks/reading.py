"""``latest()`` and ``refresh()``: what callers of market data use. An outage is never an exception here."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery import current_app, states

from resilience import (
    CircuitBreakerOpenError,
    CircuitState,
    Reason,
    StoreUnavailableError,
    get_circuit_breaker,
)
from resilience.parking import Lane
from resilience.states import PARKED
from resilience.stores import shared_scripts
from resilience.task import NEVER_WAITS
from tasks import last_good
from tasks.errors import InputError, UnknownDatasetError
from tasks.fetch import FetchError, end_flight, flight_key, is_retired, queue_of, served_datasets
from tasks.providers import clean_symbol, find_endpoint, find_provider, providers_of

if TYPE_CHECKING:
    from celery.result import AsyncResult

    from resilience.circuit import Circuit

# A refresh nobody has heard of for this long is asked for again.
FLIGHT_SECONDS = 3600
POLL_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 3600


SERVERS = "see that the servers at CELERY_BROKER_URL, CELERY_RESULT_BACKEND and RESILIENCE_STORE_URL answer"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a caller gets.

    Attributes:
        outcome: fresh, stale (a value, but old, or its provider cannot be asked now), parked (no value
            yet; the refresh waits, queued or parked, and will run by itself) or failed (no value, and why).
        verdict: The class of the provider's reply, where one was asked.
        provider: Who gave the value, or was asked for it.
        value: The record, or the list of them, as plain JSON; an empty list is a valid answer.
        as_of: The provider's own time of the value (ISO 8601).
        fetched_at: When it was fetched (ISO 8601, the store's clock).
        age_seconds: How long ago that was.
        stale: Whether it is known not to be current; None without a value.
        reason: Why it is stale, parked or failed.
        retry_at: When the provider is tried next (ISO 8601), where it is shut off.
    """

    outcome: str
    verdict: str | None = None
    provider: str | None = None
    value: dict[str, Any] | list[dict[str, Any]] | None = None
    as_of: str | None = None
    fetched_at: str | None = None
    age_seconds: float | None = None
    stale: bool | None = None
    reason: str | None = None
    retry_at: str | None = None

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def latest(dataset: str, symbol: str) -> Reading:
    """The last good value, at once. Never calls a provider.

    Raises:
        tasks.errors.InputError: An unknown dataset, or a symbol that cannot be one.
    """
    symbol = _checked(dataset, symbol)
    try:
        entry = last_good.recall(dataset, symbol)
    except StoreUnavailableError as error:
        return Reading("failed", reason=str(error))
    if entry is None:
        return Reading("failed", reason=f"no {dataset} of {symbol} has been fetched yet; refresh it")
    circuit = get_circuit_breaker(entry.provider).read()
    reason = _why_stale(dataset, entry.age_seconds, circuit)
    return Reading(
        outcome="stale" if reason else "fresh",
        provider=entry.provider,
        value=entry.value,
        as_of=entry.as_of,
        fetched_at=entry.fetched_at.isoformat(),
        age_seconds=round(entry.age_seconds, 3),
        stale=bool(reason),
        reason=reason,
        retry_at=circuit.retry_at.isoformat() if reason and circuit.retry_at else None,
    )


def refresh(dataset: str, symbol: str, *, provider: str | None = None, wait: float | None = None) -> Reading:
    """Ask a provider for a fresh value, on demand. One refresh of a key runs at a time; others join it.

    Args:
        dataset: What.
        symbol: Of what.
        provider: This one and no other; None: the first in the dataset's order whose circuit lets it.
        wait: Seconds to wait for the answer at most; None: do not.

    Returns:
        The fresh value if it came in time. Otherwise the last good one, marked stale, while the refresh
        stays queued or parked.

    Raises:
        tasks.errors.InputError: An unknown service, dataset, a symbol or a wait that cannot be one.
    """
    symbol = _checked(dataset, symbol)
    if provider:
        find_endpoint(find_provider(provider), dataset).spelling(symbol)
    else:
        providers_of(dataset, symbol)
    if wait is not None and not 0 <= wait <= LONGEST_WAIT_SECONDS:
        raise InputError(f"wait={wait!r}: give seconds, from 0 to {LONGEST_WAIT_SECONDS}")
    try:
        result = _take_off(dataset, symbol, provider)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a broker or a store raises is an outage of ours
        reason = f"cannot queue the refresh ({type(error).__name__}): {SERVERS}"
        return _fall_back(dataset, symbol, reason=reason)
    try:
        return _answer(result, dataset, symbol, wait or 0)
    except Exception as error:  # noqa: BLE001 - the same, of a result backend
        reason = f"the refresh is queued, its result cannot be read ({type(error).__name__}): {SERVERS}"
        return _fall_back(dataset, symbol, reason=reason, outcome="parked")


def _checked(dataset: str, symbol: str) -> str:
    if dataset not in served_datasets():
        raise UnknownDatasetError(dataset, served_datasets())
    return clean_symbol(symbol)


def _why_stale(dataset: str, age: float, circuit: Circuit) -> str | None:
    """A value is stale when it is older than its dataset's target, or its provider cannot be asked."""
    if circuit.state.shut:
        return f"the circuit of {circuit.service} is {circuit.state}: {circuit.reason or Reason.FAILURES}"
    target = last_good.FRESHNESS[dataset].target_seconds
    return f"older than {target:.0f} s" if age > target else None


def _take_off(dataset: str, symbol: str, provider: str | None) -> AsyncResult:
    """Send the refresh, or join the one that is under way."""
    service = provider or _first_choice(dataset, symbol)
    scripts, key = shared_scripts(), flight_key(dataset, symbol, provider)
    task_id, over = str(uuid.uuid4()), ""
    while (flying := scripts.evaluate(_TAKE_OFF, (key,), task_id, over, FLIGHT_SECONDS).decode()) != task_id:
        result = current_app.AsyncResult(flying)
        if result.state not in states.READY_STATES:
            return result
        over = flying
    keywords = {"provider": provider} if provider else {}
    try:
        return current_app.send_task(
            f"tasks.{service}.refresh",
            (dataset, symbol),
            keywords,
            task_id=task_id,
            queue=queue_of(service, Lane.ON_DEMAND),
            ignore_result=False,
        )
    except Exception:
        end_flight(task_id, dataset, symbol, provider)  # or others would join what never left
        raise


# KEYS  1 the flight     ARGV  1 the id of a new one  2 the id of one known to be over  3 seconds to keep it
# out   the id of the flight that is under way now: the new one, or whom to join
_TAKE_OFF = """
local flying = redis.call('GET', KEYS[1])
if flying and flying ~= ARGV[2] then
  return flying
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return ARGV[1]
"""


def _first_choice(dataset: str, symbol: str) -> str:
    """Whose queue it goes to; the task asks all circuits again when it runs."""
    able = providers_of(dataset, symbol)
    living = [name for name in able if not is_retired(name)]
    order = living or list(able)
    shut = (CircuitState.OPEN, CircuitState.FORCED_OPEN)
    return next((name for name in order if get_circuit_breaker(name).read().state not in shut), order[0])


def _answer(result: AsyncResult, dataset: str, symbol: str, wait: float) -> Reading:
    ends = time.monotonic() + wait
    while True:
        meta = result.backend.get_task_meta(result.id)
        state, info = meta["status"], meta["result"]
        if state == states.SUCCESS:
            return _fresh(dataset, symbol, info)
        if state in states.READY_STATES:
            return _failed(dataset, symbol, info)
        parked = state == PARKED and isinstance(info, dict)
        left = ends - time.monotonic()
        if left <= 0 or (parked and _seconds_until(info["retry_at"]) > left):
            break  # nobody waits for what cannot come in time
        time.sleep(POLL_SECONDS)
    if not parked:
        return _fall_back(dataset, symbol, reason="the refresh is queued", outcome="parked")
    reading = _fall_back(
        dataset,
        symbol,
        outcome="parked",
        reason=f"waiting for {info['service']}: {info['reason'] or Reason.FAILURES}",
        retry_at=info["retry_at"],
    )
    return replace(reading, provider=reading.provider or info["service"], verdict=info.get("verdict"))


def _seconds_until(when: str) -> float:
    return (datetime.fromisoformat(when) - datetime.now(UTC)).total_seconds()


def _fresh(dataset: str, symbol: str, answer: dict[str, Any]) -> Reading:
    """The task's own answer: what is kept may be another provider's, or not kept at all."""
    kept = latest(dataset, symbol)
    same = kept.fetched_at == answer["fetched_at"]
    age = kept.age_seconds if same else None
    return Reading(
        "fresh", "success" if answer["value"] else "empty", **answer, age_seconds=age or 0.0, stale=False
    )


def _failed(dataset: str, symbol: str, error: Any) -> Reading:
    """The provider's answer was no, or the task ended without one."""
    verdict = error.verdict if isinstance(error, FetchError) else None
    if isinstance(error, CircuitBreakerOpenError) and error.reason in NEVER_WAITS:
        verdict = str(error.reason)
    reading = Reading(
        "failed",
        verdict=verdict,
        provider=getattr(error, "service", None),
        reason=str(error) or type(error).__name__,
    )
    if verdict in ("not_found", "caller_error", "empty"):
        return reading  # an old value would be passed off as an answer
    return replace(_fall_back(dataset, symbol, reason=reading.reason, outcome="failed"), verdict=verdict)


def _fall_back(
    dataset: str, symbol: str, *, reason: str | None, retry_at: str | None = None, outcome: str = "failed"
) -> Reading:
    """The last good value, marked stale; without one, what is known of the refresh."""
    reading = latest(dataset, symbol)
    if reading.value is None:
        return Reading(outcome, reason=reason, retry_at=retry_at)
    return replace(reading, outcome="stale", stale=True, reason=reason, retry_at=retry_at or reading.retry_at)
