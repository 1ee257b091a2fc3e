"""``explain()``: why a value is as old as it is, and what to do. It looks, and calls no provider."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from resilience import CircuitState, Reason, StoreUnavailableError, publishing
from resilience.breaker import seconds_until, span
from resilience.errors import UNREADABLE
from resilience.stores import default_store
from tasks import entitlement, last_good, not_found
from tasks.errors import UnknownDatasetError
from tasks.fetch import is_retired, key_in_use, may_know, question_of, served_datasets
from tasks.providers import clean_symbol, find_provider, providers_of, resolve_adjustment
from tasks.reading import judged
from tasks.settings import credential_of, provider_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resilience.parking import ParkingLot, Stored

CELERY = "celery -A workers"
# Of a lot, in one round trip.
PAGE = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """The last good value, without the value.

    Attributes:
        provider: Who gave it.
        as_of: The provider's own time of it (ISO 8601).
        fetched_at: When it was fetched (ISO 8601, the store's clock).
        age_seconds: How long ago that was.
        stale: Whether a reader is told that it is not current, or gets none, because it is too old.
        fresh_seconds: Older than this is stale.
        max_seconds: Older than this is no value.
        reason: Why it is stale; None for a fresh one.
    """

    provider: str
    as_of: str | None
    fetched_at: str
    age_seconds: float
    stale: bool
    fresh_seconds: float
    max_seconds: float
    reason: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A provider of the dataset, and whether it can be asked.

    Attributes:
        service: The provider.
        state: Its circuit's.
        reason: Why that is not closed.
        since: When it came to be so (ISO 8601), where it is known.
        retry_at: When it is tried next (ISO 8601).
        evidence: What it went by, or who said so, in a line.
        quota_left: Calls that may go at once; None without a quota.
        quota_next_at: With none left: when the next may (ISO 8601).
        quota_full_at: When the whole burst may (ISO 8601).
        not_in_plan_until: Until when it is not asked for this, because its plan lacks it (ISO 8601).
        told_not_found: Its word that it knows no such symbol, while that stands for a call.
        parked: Fetches of this value that wait for it.
        parked_since: Since when the oldest does (ISO 8601).
        obstacle: Why it cannot be asked now, in words; None: it can.
        remedy: What ends that.
    """

    service: str
    state: str
    reason: str | None
    since: str | None
    retry_at: str | None
    evidence: str
    quota_left: int | None
    quota_next_at: str | None
    quota_full_at: str | None
    not_in_plan_until: str | None
    told_not_found: str | None
    parked: int
    parked_since: str | None
    obstacle: str | None
    remedy: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The chain from a value to what holds it up.

    Attributes:
        dataset: What.
        symbol: Of what.
        adjustment: Of bars: what their prices are adjusted for.
        kept: The last good value; None where none is kept.
        providers: Who may be asked, in fail-over order.
        parked: Fetches of this value that wait, at whichever provider.
        parked_since: Since when the oldest does (ISO 8601).
        told_not_found: What is answered in place of a call; None where a call is made.
        why: In a sentence.
        remedy: What to do, in a sentence; with the command where there is one.
    """

    dataset: str
    symbol: str
    adjustment: str | None
    kept: Kept | None
    providers: tuple[Source, ...]
    parked: int
    parked_since: str | None
    told_not_found: str | None
    why: str
    remedy: str

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def explain(dataset: str, symbol: str, adjustment: str | None = None) -> Explanation:
    """Why a value is stale, missing, or neither.

    Args:
        dataset: What.
        symbol: Of what.
        adjustment: As ``latest``.

    Raises:
        tasks.errors.InputError: An unknown dataset or adjustment, or a symbol that cannot be one.
        StoreUnavailableError: The store does not answer, so nothing is known.
    """
    if dataset not in served_datasets():
        raise UnknownDatasetError(dataset, served_datasets())
    symbol = clean_symbol(symbol)
    adjustment = resolve_adjustment(dataset, symbol, None, adjustment)
    kept = _kept(dataset, symbol, adjustment)
    sources = _sources(dataset, symbol, adjustment)
    told = not_found.recall(question_of(dataset, symbol, None, adjustment))
    why, remedy = _in_words(dataset, symbol, adjustment, kept, sources, told)
    return Explanation(
        dataset,
        symbol,
        adjustment,
        kept,
        tuple(sources),
        sum(source.parked for source in sources),
        min((source.parked_since for source in sources if source.parked_since), default=None),
        str(told) if told else None,
        why,
        remedy,
    )


def _kept(dataset: str, symbol: str, adjustment: str | None) -> Kept | None:
    entry = last_good.recall(dataset, symbol, adjustment)
    if entry is None:
        return None
    freshness = provider_settings().freshness(dataset)
    reading = judged(dataset, symbol, entry, freshness)
    return Kept(
        entry.provider,
        entry.as_of,
        entry.fetched_at.isoformat(),
        round(max(0.0, entry.age_seconds), 3),
        reading.outcome != "fresh",
        freshness.fresh_seconds,
        freshness.max_seconds,
        reading.reason,
    )


def _sources(dataset: str, symbol: str, adjustment: str | None) -> list[Source]:
    services = providers_of(dataset, symbol, adjustment)
    rows = {row["service"]: row for row in publishing.states() if row["service"] in services}
    entitlement.add_to(rows.values())
    store = default_store()
    lot = store.lot if store else None
    if lot is None or not all(row["shared"] for row in rows.values()):
        raise StoreUnavailableError(lot.address if lot else "memory://", "it did not answer a moment ago")
    return [_source(rows[service], lot, dataset, symbol, adjustment) for service in services]


def _source(
    row: dict[str, Any], lot: ParkingLot, dataset: str, symbol: str, adjustment: str | None
) -> Source:
    service = row["service"]
    until = max(
        (
            noted["until"]
            for noted in row["not_in_plan"]
            if noted["dataset"] == dataset and noted["symbol"] in (None, symbol)
        ),
        default=None,
    )
    told = not_found.recall(question_of(dataset, symbol, service, adjustment))
    parked = list(_parked(lot, row, dataset, symbol, adjustment))
    obstacle, remedy = _obstacle(row, until) or (None, None)
    return Source(
        service,
        row["state"],
        row["reason"],
        row["since"],
        row["retry_at"],
        _evidence(row),
        row["quota_left"],
        row["quota_next_at"],
        row["quota_full_at"],
        until,
        str(told) if told else None,
        len(parked),
        min(parked, default=None),
        obstacle,
        remedy,
    )


def _parked(
    lot: ParkingLot, row: dict[str, Any], dataset: str, symbol: str, adjustment: str | None
) -> Iterator[str]:
    """Since when each fetch of the value has waited for a provider; the whole lot is looked through."""
    for skip in range(0, row["parked"], PAGE):
        for entry in lot.waiting(row["service"], PAGE, skip):
            if _asks(entry.message, dataset, symbol, adjustment):
                yield entry.since.isoformat()


def _asks(message: Stored, dataset: str, symbol: str, adjustment: str | None) -> bool:
    """Whether it is a fetch of this; what waits for a provider of other adjustments is not looked at."""
    if not str(message.headers.get("task")).startswith("tasks."):
        return False
    try:
        args, kwargs, _ = json.loads(message.body)
        named = dict(zip(("dataset", "symbol"), args, strict=False)) | kwargs
        asked = (named["dataset"], clean_symbol(named["symbol"]))
    except UNREADABLE:  # somebody else's task, whatever it is about
        return False
    return asked == (dataset, symbol) and named.get("adjustment") in (None, adjustment)


def _evidence(row: dict[str, Any]) -> str:
    """What speaks against a provider, in a line; '' where nothing does."""
    if row["actor"]:
        return f"by {row['actor']}" + (f": {row['note']}" if row["note"] else "")
    if not row["last_failure_time"] or not row["failure_count"]:
        return (row["state"] != CircuitState.CLOSED and row["last_error"]) or ""
    ago = span(-seconds_until(row["last_failure_time"]))
    said = f": {row['last_error']}" if row["last_error"] else ""
    return f"{row['failure_count']} failures in a row, the last {ago} ago{said}"


def _obstacle(row: dict[str, Any], not_in_plan_until: str | None) -> tuple[str, str] | None:
    """Why a provider cannot be asked now, and what ends that; None: it can."""
    service, state, reason = row["service"], row["state"], row["reason"]
    reset = f"{CELERY} circuits reset {service}"
    if is_retired(service) or (state == CircuitState.OPEN and reason == Reason.RETIRED):
        note = find_provider(service).note
        return f"{service} is retired" + (f": {note}" if note else ""), "take it off the schedule"
    if state == CircuitState.FORCED_OPEN:
        said = f" ({row['note']})" if row["note"] else ""
        left = span(seconds_until(row["forced_until"]))
        why = f"{row['actor']} has forced the circuit of {service} open{said}, for {left} more"
        return why, f"{reset} takes that back"
    if not_in_plan_until:
        why = f"{service} has said that this is not in the plan"
        return why, f"take it off the schedule, or once the plan has it: {reset}"
    if state == CircuitState.DISABLED:
        return None
    if reason == Reason.AUTH or key_in_use(service) in row["refused_keys"]:
        return _refusal(row, reset)
    return _pause(row)


def _refusal(row: dict[str, Any], reset: str) -> tuple[str, str]:
    """Who is not let in, and what would let it."""
    service, name = row["service"], credential_of(row["service"])
    if name is None:
        why = f"{service} has turned us away, and wants no key"
        return why, f"see that its address is right, then: {reset}"
    if row["refused_keys"] == [""]:
        put = "put it in their environment or .env, and restart them"
        return f"{name} is not set where the workers run", put
    what = "contact" if name.endswith("_CONTACT") else "key"
    mend = f"mend {name} and restart the workers"
    return f"{service} has refused its {what}", f"{mend}, or, if the {what} was right after all: {reset}"


def _pause(row: dict[str, Any]) -> tuple[str, str] | None:
    """What passes by itself."""
    service, state, reason = row["service"], row["state"], row["reason"]
    at_once = f"{CELERY} circuits release {service} tries it at once"
    if state == CircuitState.HALF_OPEN:
        return f"{service} is being tried again ({reason})", f"nothing, a few calls decide; {at_once}"
    if state == CircuitState.OPEN:
        since = f" and has been for {span(-seconds_until(row['since']))}" if row["since"] else ""
        again = f"nothing, it is tried again {_in(row['retry_at'])}"
        if reason == Reason.TURNED_AWAY:
            why = f"{service}, or what stands in between, has turned us away without saying why"
            return why, f"{again}, and only if it does so once more its key is taken for refused; {at_once}"
        return f"the circuit of {service} is open{since}: {reason}", f"{again}; {at_once}"
    if row["quota_left"] == 0:
        quota = f"{row['quota_calls']} calls in {row['quota_seconds']:g} s"
        again = f"nothing, its next call may go {_in(row['quota_next_at'])}"
        return (
            f"the quota of {service} is used up ({quota})",
            f"{again}; if it is so every day, schedule less",
        )
    return None


def _in_words(
    dataset: str,
    symbol: str,
    adjustment: str | None,
    kept: Kept | None,
    sources: Sequence[Source],
    told: not_found.Told | None,
) -> tuple[str, str]:
    """Why, and what to do."""
    if kept and not kept.stale:
        age, fresh = span(kept.age_seconds), span(kept.fresh_seconds)
        return f"it is not stale: {kept.provider} gave it {age} ago, and up to {fresh} is fresh", "nothing"
    options = f" --adjustment {adjustment}" if adjustment else ""
    refresh = f"{CELERY} refresh {dataset} {symbol}{options}"
    if told:
        return (
            f"nobody who could be asked knows such a symbol: {told}",
            f"see that {symbol} is right; to ask one provider by name: {refresh} --provider NAME",
        )
    able = [source for source in sources if not (source.obstacle or source.told_not_found)]
    asked = next((source for source in able if may_know(source.service)), None)
    blamed = _blamed(kept, sources, asked)
    what = _what_there_is(dataset, symbol, kept)
    if blamed is None:
        waits = next((source for source in sources if source.parked), None)
        if waits:
            listed = f"{CELERY} circuits parked {waits.service} lists what waits"
            why = f"{what}, and a fetch waits for its turn at {waits.service}"
            return why, f"nothing, it goes as {waits.service} allows; {listed}"
        return (
            f"{what}, and nobody is asking: no fetch of it is parked",
            f"{refresh}; if it is on the schedule ({CELERY} schedule check), see that beat and a worker run",
        )
    others = f"; {refresh} asks {asked.service} meanwhile" if asked else ""
    return f"{what}, and {blamed.obstacle}", f"{blamed.remedy}{others}"


def _blamed(kept: Kept | None, sources: Sequence[Source], asked: Source | None) -> Source | None:
    """Who holds it up: whom a fetch waits for, who gave the last, or, if none can be asked, the first."""
    shut = [source for source in sources if source.obstacle]
    waited_for = next((source for source in shut if source.parked), None)
    gave = next((source for source in shut if kept and source.service == kept.provider), None)
    first = None if asked else min(shut, key=lambda source: is_retired(source.service), default=None)
    return waited_for or gave or first


def _what_there_is(dataset: str, symbol: str, kept: Kept | None) -> str:
    if kept is None:
        return f"no {dataset} of {symbol} is kept: it was never fetched, or too long ago"
    age = f"the last {dataset} of {symbol} is {span(kept.age_seconds)} old"
    if kept.age_seconds > kept.max_seconds:
        return f"{age}, which is no value: more than {span(kept.max_seconds)}"
    return f"{age}, by {kept.provider}"


def _in(when: str | None) -> str:
    left = seconds_until(when) if when else 0
    return f"in {span(left)}" if left > 0 else "now"
