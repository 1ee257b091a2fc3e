"""``latest()`` and ``refresh()``: what callers of market data use. An outage is never an exception here."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from celery import states
from celery.app import app_or_default
from celery.backends.redis import RedisBackend

from resilience import (
    CircuitBreakerOpenError,
    CircuitState,
    Reason,
    StoreUnavailableError,
    get_circuit_breaker,
)
from resilience.breaker import seconds_until
from resilience.outlet import BROKER_SECONDS
from resilience.parking import Lane
from resilience.states import PARKED
from resilience.stores import shared_scripts
from resilience.task import NEVER_WAITS
from tasks import last_good, not_found
from tasks.connections import publish, results_of
from tasks.errors import InputError, UnknownDatasetError
from tasks.fetch import (
    FetchError,
    end_flight,
    flight_key,
    is_retired,
    question_of,
    queue_of,
    served_datasets,
)
from tasks.providers import (
    Verdict,
    adjustments_of,
    clean_symbol,
    providers_of,
    resolve_adjustment,
)
from tasks.settings import provider_settings

if TYPE_CHECKING:
    from celery import Celery
    from celery.backends.base import Backend
    from kombu.connection import Connection

    from resilience.circuit import Circuit
    from tasks.records import Freshness

# A refresh nobody has heard of for this long is asked for again.
FLIGHT_SECONDS = 3600
POLL_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 3600
# A server that takes over for another may have a clock that is behind by so much.
SKEW_SECONDS = 5
SERVERS = "see that the servers at CELERY_BROKER_URL, CELERY_RESULT_BACKEND and RESILIENCE_STORE_URL answer"


class Question(NamedTuple):
    """What a refresh asks; its parts are its task's arguments.

    Attributes:
        dataset: What.
        symbol: Of what, clean.
        provider: Of whom; None: any in the dataset's order,
        adjustment: that gives values adjusted for this.
    """

    dataset: str
    symbol: str
    provider: str | None
    adjustment: str | None


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


def latest(dataset: str, symbol: str, adjustment: str | None = None) -> Reading:
    """The last good value, at once. Never calls a provider.

    Args:
        dataset: What.
        symbol: Of what.
        adjustment: Of bars: raw, split or all; None: that of the first provider in the dataset's order, whose
            place only the catalogue decides. A value of another is never read in its place.

    Raises:
        tasks.errors.InputError: An unknown dataset or adjustment, or a symbol that cannot be one.
    """
    symbol = _checked(dataset, symbol)
    reading = _latest(dataset, symbol, resolve_adjustment(dataset, symbol, None, adjustment))
    if reading.stale and reading.provider:
        last_good.note_stale(dataset, reading.provider)
    return reading


def refresh(
    dataset: str,
    symbol: str,
    *,
    provider: str | None = None,
    adjustment: str | None = None,
    wait: float | None = None,
) -> Reading:
    """Ask a provider for a fresh value, on demand. One refresh of a key runs at a time; others join it.

    Args:
        dataset: What.
        symbol: Of what.
        provider: This one and no other; None: the first in the dataset's order whose circuit lets it.
        adjustment: As ``latest``; with a provider, what it gives.
        wait: Seconds to wait for the answer at most; None: do not. A server that hangs is waited for a second
            longer.

    Returns:
        The fresh value if it came in time. Otherwise the last good one, marked stale, while the refresh
        stays queued or parked. Where all who could know said a short time ago that they know no such symbol,
        that.

    Raises:
        tasks.errors.InputError: An unknown service, dataset or adjustment, no symbol, or no wait.
    """
    symbol = _checked(dataset, symbol)
    adjustment = resolve_adjustment(dataset, symbol, provider, adjustment)
    if wait is not None and not 0 <= wait <= LONGEST_WAIT_SECONDS:
        raise InputError(f"wait={wait!r}: give seconds, from 0 to {LONGEST_WAIT_SECONDS}")
    question = Question(dataset, symbol, provider, adjustment)
    ends = time.monotonic() + (wait or 0)
    told = not_found.recall(question_of(dataset, symbol, provider, adjustment))
    if told:
        verdict = Verdict.NOT_FOUND.value
        return _failed(question, FetchError(told.service, dataset, symbol, verdict, str(told)))
    app = app_or_default()
    results = results_of(app)
    try:
        task_id = _take_off(app, question, results)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a broker or a store raises is an outage of ours
        reason = f"cannot queue the refresh ({type(error).__name__}): {SERVERS}"
        return _fall_back(question, reason=reason)
    try:
        return _answer(results, task_id, question, ends)
    except Exception as error:  # noqa: BLE001 - the same, of a result backend
        reason = f"the refresh is queued, its result cannot be read ({type(error).__name__}): {SERVERS}"
        return _fall_back(question, reason=reason, outcome="parked")


def _latest(dataset: str, symbol: str, adjustment: str | None) -> Reading:
    freshness = provider_settings().freshness(dataset)
    try:
        entry = last_good.recall(dataset, symbol, adjustment)
        if entry is None:
            return Reading("failed", reason=_why_none(dataset, symbol, adjustment))
    except StoreUnavailableError as error:
        return Reading("failed", reason=str(error))
    return judged(dataset, symbol, entry, freshness)


def judged(dataset: str, symbol: str, entry: last_good.Entry, freshness: Freshness) -> Reading:
    """What a reader is told of a kept value; not counted as a read."""
    if entry.age_seconds > freshness.max_seconds:
        too_old = (
            f"the last {dataset} of {symbol}, by {entry.provider}, is {entry.age_seconds:.0f} s old; over "
            f"{dataset.upper()}_MAX_SECONDS={freshness.max_seconds:.0f} is no value; refresh it"
        )
        return Reading("failed", reason=too_old)
    circuit = get_circuit_breaker(entry.provider).read()
    reason = _why_stale(freshness, entry.age_seconds, circuit)
    return Reading(
        outcome="stale" if reason else "fresh",
        provider=entry.provider,
        value=entry.value,
        as_of=entry.as_of,
        fetched_at=entry.fetched_at.isoformat(),
        age_seconds=round(max(0.0, entry.age_seconds), 3),
        stale=bool(reason),
        reason=reason,
        retry_at=circuit.retry_at.isoformat() if reason and circuit.retry_at else None,
    )


def _why_none(dataset: str, symbol: str, adjustment: str | None) -> str:
    named = f"{adjustment} {dataset}" if adjustment else dataset
    others = [other for other in adjustments_of(dataset) if other != adjustment]
    kept = [other for other in others if last_good.recall(dataset, symbol, other)]
    hint = f", or read those kept with adjustment={' or '.join(kept)}" if kept else ""
    return f"no {named} of {symbol} is kept: none was fetched, or too long ago; refresh it{hint}"


def _checked(dataset: str, symbol: str) -> str:
    if dataset not in served_datasets():
        raise UnknownDatasetError(dataset, served_datasets())
    return clean_symbol(symbol)


def _why_stale(freshness: Freshness, age: float, circuit: Circuit) -> str | None:
    """Older than its dataset's target, of an age nobody knows, or of a provider that cannot be asked."""
    if circuit.state.shut:
        return f"the circuit of {circuit.service} is {circuit.state}: {circuit.reason or Reason.FAILURES}"
    if age < -SKEW_SECONDS:
        return f"the store's clock was set back: by it, this is fetched in {-age:.0f} s"
    return f"older than {freshness.fresh_seconds:.0f} s" if age > freshness.fresh_seconds else None


def _take_off(app: Celery, question: Question, results: Backend) -> str:
    """Send the refresh, or find the one that is under way; its task's id."""
    task_id, over = str(uuid.uuid4()), ""
    while (flying := _flight(question, task_id, over)) != task_id:
        if not _is_over(results, flying):
            return flying
        over = flying
    try:
        _send(app, _first_choice(question), question, task_id, results)
    except Exception:
        end_flight(task_id, *question)  # or others would join what never left
        raise
    return task_id


def _is_over(results: Backend, task_id: str) -> bool:
    try:
        return results.get_task_meta(task_id)["status"] in states.READY_STATES
    except Exception:  # noqa: BLE001 - whatever a backend raises; another refresh's result could not be read either
        return False


def _flight(question: Question, task_id: str, over: str) -> str:
    key = flight_key(*question)
    return str(shared_scripts().evaluate(_TAKE_OFF, (key,), task_id, over, FLIGHT_SECONDS), "ascii")


def _send(app: Celery, service: str, question: Question, task_id: str, results: Backend) -> None:
    """Not on a connection of the app's pool, because those wait for a broker that hangs."""
    name, queue = f"tasks.{service}.refresh", queue_of(service, Lane.ON_DEMAND)
    named = zip(question._fields[2:], question[2:], strict=True)
    message = app.amqp.create_task_message(
        task_id,
        name,
        question[:2],
        {field: value for field, value in named if value},
        reply_to=app.thread_oid,
        create_sent_event=app.conf.task_send_sent_event,
    )

    def send(connection: Connection) -> None:
        producer = app.amqp.Producer(connection, auto_declare=False)
        if not isinstance(results, RedisBackend):  # that would subscribe, and the result is polled
            results.on_task_call(producer, task_id)
        app.amqp.send_task_message(
            producer, name, message, queue=queue, retry=False, confirm_timeout=BROKER_SECONDS
        )

    publish(app, send)


# KEYS  1 the flight     ARGV  1 the id of a new one  2 the id of one known to be over  3 seconds to keep it
# out   the id of the flight that is under way now: the new one, or whom to join
# does  keeps none longer than that from now on: the server's clock may have been set back
_TAKE_OFF = """
local flying = redis.call('GET', KEYS[1])
if flying and flying ~= ARGV[2] then
  local left = redis.pcall('TTL', KEYS[1]) -- a user may lack the right
  if type(left) == 'number' and left > tonumber(ARGV[3]) then
    redis.call('EXPIRE', KEYS[1], ARGV[3])
  end
  return flying
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return ARGV[1]
"""


def _first_choice(question: Question) -> str:
    """Whose queue it goes to; the task asks all circuits again when it runs."""
    if question.provider:
        return question.provider
    able = providers_of(question.dataset, question.symbol, question.adjustment)
    living = [name for name in able if not is_retired(name)]
    order = living or list(able)
    shut = (CircuitState.OPEN, CircuitState.FORCED_OPEN)
    return next((name for name in order if get_circuit_breaker(name).read().state not in shut), order[0])


def _answer(results: Backend, task_id: str, question: Question, ends: float) -> Reading:
    while True:
        meta = results.get_task_meta(task_id)
        state, info = meta["status"], meta["result"]
        if state == states.SUCCESS:
            return _fresh(question, info)
        if state in states.READY_STATES:
            return _failed(question, info)
        parked = state == PARKED and isinstance(info, dict)
        left = ends - time.monotonic()
        if left <= 0 or (parked and seconds_until(info["retry_at"]) > left):
            break  # nobody waits for what cannot come in time
        time.sleep(min(POLL_SECONDS, left))
    if not parked:
        return _fall_back(question, reason="the refresh is queued", outcome="parked")
    reading = _fall_back(
        question,
        outcome="parked",
        reason=f"waiting for {info['service']}: {info['reason'] or Reason.FAILURES}",
        retry_at=info["retry_at"],
    )
    return replace(reading, provider=reading.provider or info["service"], verdict=info.get("verdict"))


def _fresh(question: Question, answer: dict[str, Any]) -> Reading:
    """The task's own answer: what is kept may be another provider's, or not kept at all."""
    kept = _latest(question.dataset, question.symbol, question.adjustment)
    age = _age_of(answer["fetched_at"], kept)
    return Reading("fresh", "success" if answer["value"] else "empty", **answer, age_seconds=age, stale=False)


def _age_of(fetched_at: str | None, kept: Reading) -> float:
    """Seconds since an answer was fetched, by the store's clock where what is kept tells it, else by ours."""
    if fetched_at is None:  # not kept, so nobody noted when: just now
        return 0.0
    now = datetime.now(UTC)
    if kept.fetched_at and kept.age_seconds is not None:
        now = datetime.fromisoformat(kept.fetched_at) + timedelta(seconds=kept.age_seconds)
    return round(max(0.0, (now - datetime.fromisoformat(fetched_at)).total_seconds()), 3)


def _failed(question: Question, error: Any) -> Reading:
    """Whoever was asked has no value, or the task ended without an answer.

    That there is nothing now is no reason to take a value away: before the first trade of a day the last one
    is that of the day before.
    """
    verdict = error.verdict if isinstance(error, FetchError) else None
    if isinstance(error, CircuitBreakerOpenError) and error.reason in NEVER_WAITS:
        verdict = str(error.reason)
    reading = Reading(
        "failed",
        verdict=verdict,
        provider=getattr(error, "service", None),
        reason=str(error) or type(error).__name__,
    )
    if verdict in ("not_found", "caller_error"):
        return reading  # an old value would be passed off as an answer
    kept = _fall_back(question, reason=reading.reason, outcome="failed")
    return replace(kept, verdict=verdict, provider=kept.provider or reading.provider)


def _fall_back(
    question: Question, *, reason: str | None, retry_at: str | None = None, outcome: str = "failed"
) -> Reading:
    """The last good value, marked stale; without one, what is known of the refresh."""
    reading = _latest(question.dataset, question.symbol, question.adjustment)
    if reading.value is None:
        return Reading(outcome, reason=reason, retry_at=retry_at)
    if reading.provider:
        last_good.note_stale(question.dataset, reading.provider)
    return replace(reading, outcome="stale", stale=True, reason=reason, retry_at=retry_at or reading.retry_at)
