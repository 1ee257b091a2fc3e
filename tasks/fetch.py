"""The fetch tasks: two for each provider of the catalogue, made by ``register(app)``.

tasks.<service>.fetch     scheduled; stays with its provider, unless its message names others to fall back on
tasks.<service>.refresh   on demand; the first provider in the dataset's order whose circuit lets it

Where there are several, no one's "no" is the task's: the next is asked, be it that the one knows no such
symbol, has nothing of it now, or not in the plan. Only when none is left, and none is waited for, does the
task end: see ``FetchTask.concluded``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_task_logger

from resilience import Reason, ResilientTask, StoreUnavailableError, Verdict, get_circuit_breaker
from resilience.parking import Lane
from resilience.policy import STRICT_CALLS
from resilience.stores import shared_scripts
from resilience.task import Outcome, Parked, forget_elsewhere
from tasks import directories, entitlement, last_good, not_found
from tasks.errors import InputError, SettingsError, UnknownDatasetError
from tasks.providers import (
    PROVIDERS,
    clean_symbol,
    find_endpoint,
    find_provider,
    providers_of,
    resolve_adjustment,
)
from tasks.providers import Verdict as Answer
from tasks.providers.holds import ENTITLEMENT_HOLD, RETIRED_HOLD
from tasks.providers.http import call
from tasks.records import DATASETS, as_json, as_of
from tasks.settings import provider_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from celery import Celery

    from tasks.providers import Judgement, Provider, Quota

logger = get_task_logger(__name__)

#: A reply's class → what it means to breaker and task. ``ends``: nobody else is asked.
OUTCOMES = {
    Answer.PROVIDER_FAILURE: Outcome(Verdict.FAILURE),
    Answer.RATE_LIMIT: Outcome(Verdict.HOLD, reason=Reason.RATE_LIMITED),
    Answer.QUOTA: Outcome(Verdict.HOLD, reason=Reason.QUOTA),
    Answer.AUTH: Outcome(Verdict.HOLD, reason=Reason.AUTH),
    Answer.RETIRED: Outcome(Verdict.HOLD, reason=Reason.RETIRED),
    Answer.ENTITLEMENT: Outcome(Verdict.SUCCESS),
    Answer.CALLER_ERROR: Outcome(Verdict.SUCCESS),
    Answer.NOT_FOUND: Outcome(Verdict.SUCCESS),
    Answer.EMPTY: Outcome(Verdict.SUCCESS),
    Answer.DELAYED: Outcome(Verdict.IGNORED, ends=True),  # where there is no message that could wait
}
# Of several that have no value, whose answer is the task's: the first of these classes that any has given.
# Who failed or was asked wrongly may have one; who has nothing now knows the symbol. Without any it is not
# found, if one has said so: a plan without it tells nothing.
_PRECEDENCE = (Answer.PROVIDER_FAILURE, Answer.CALLER_ERROR, Answer.EMPTY)
#: What the circuits of all providers have in common; see ``Policy``. One that stays down is asked more and
#: more rarely, but found to be back in ten minutes; one that is back gets five calls in the first second.
CIRCUIT = {"timeout_cap_seconds": 600.0, "jitter": 0.2, "ramp_calls": 5}
# A call may be on its way for so long.
LATE_SECONDS = 1.0
# A task comes late to its turn: a releaser looks twice a second, and a machine may be busy. What so much
# lateness has cost is made up for at once, with a burst of at most half of what a window allows.
MADE_UP_SECONDS = 2.0
# Until a call is made again that this process itself has kept from being made.
DELAYED_SECONDS = 1.0
# Who has nothing now is not asked again by the same task for so long, while that waits for another provider.
NOTHING_NOW_SECONDS = 300.0
# For a hold whose reply names no end.
DEFAULT_HOLD_SECONDS = 60.0


class FetchError(Exception):
    """A provider gave no value. The arguments are plain, so it survives Celery's JSON result.

    Args:
        service: The provider.
        dataset: What was asked for.
        symbol: Of what.
        verdict: The class of its reply, one of ``tasks.providers.Verdict``.
        detail: In words, without any key.
        hold_seconds: How long it wants to be left alone, if it does.
        drifted: Its reply could not be used, which says something of the symbol.
        certain: Of a refused key: whether the provider has said that it is the key.
    """

    def __init__(
        self,
        service: str,
        dataset: str,
        symbol: str,
        verdict: str,
        detail: str = "",
        hold_seconds: float | None = None,
        drifted: bool = False,  # noqa: FBT001, FBT002 - positional, as Celery rebuilds it
        certain: bool = True,  # noqa: FBT001, FBT002 - as above
    ) -> None:
        super().__init__(service, dataset, symbol, verdict, detail, hold_seconds, drifted, certain)
        self.service = service
        self.dataset = dataset
        self.symbol = symbol
        self.verdict = verdict
        self.detail = detail
        self.hold_seconds = hold_seconds
        self.drifted = drifted
        self.certain = certain

    @property
    def unknown(self) -> bool:
        """Whether the provider has said that it knows no such symbol, or none any more."""
        gone = self.verdict == Answer.RETIRED and self.hold_seconds is None
        return gone or self.verdict == Answer.NOT_FOUND

    def __str__(self) -> str:
        return f"{self.service} has no {self.dataset} of {self.symbol}: {self.verdict}, {self.detail}"


class FetchTask(ResilientTask):
    """Asks a provider for one value and keeps it as the last good one."""

    abstract = True
    # Who asks for the same value has the same answer.
    coalesce = True
    # A call has a deadline of its own; these are for what it does not cover.
    soft_time_limit = 60
    time_limit = 75

    def run(
        self,
        dataset: str,
        symbol: str,
        provider: str | None = None,  # noqa: ARG002 - see candidates
        *,
        adjustment: str | None = None,  # noqa: ARG002 - see candidates
        fallbacks: Sequence[str] = (),  # noqa: ARG002 - see candidates
    ) -> dict[str, Any]:
        """Ask the provider the task was let through to.

        Returns:
            provider, value, as_of and fetched_at, as plain JSON. A value is a record, or a list of them; an
            empty list is not kept, and was fetched at no time.

        Raises:
            FetchError: The provider gave no value.
            Parked: This process has kept the call from being made in time: it is made again.
            tasks.errors.InputError: An unknown dataset, or a symbol that cannot be one.
        """
        service = getattr(self.request, "service", None) or self.service
        symbol = clean_symbol(symbol)
        # A probe may have less time than any other call; called directly, it has its row's.
        seconds = getattr(self.request, "call_seconds", None)
        has_message = not (self.request.called_directly or self.request.is_eager)
        idents = self._idents(service, dataset, symbol, has_message=has_message)
        judgement = call(
            service,
            dataset,
            symbol,
            settings=provider_settings(),
            deadline_seconds=seconds,
            idents=idents,
        )
        if judgement.verdict is Answer.DELAYED and has_message:
            logger.warning("%s of %s is asked for again: %s", dataset, symbol, judgement.detail)
            again = datetime.now(UTC) + timedelta(seconds=DELAYED_SECONDS)
            raise Parked(service, None, again, DELAYED_SECONDS, label=judgement.verdict.value)
        if judgement.verdict is Answer.ENTITLEMENT:
            note_entitlement(service, dataset, symbol, judgement)
        if judgement.record is None:
            error = _error(service, dataset, symbol, judgement)
            self._keep_no(error)
            raise error
        if judgement.left_out:
            last_good.note_left_out(dataset, service, judgement.left_out)
        if judgement.detail and judgement.record:
            logger.info("%s of %s: %s", dataset, symbol, judgement.detail)
        fetched_at = None
        try:
            if judgement.record:
                fetched_at = last_good.remember(dataset, symbol, judgement.record).isoformat()
        except StoreUnavailableError as error:
            # The provider answered: its value is the task's result even if nobody can keep it.
            logger.warning("%s of %s not kept: %s", dataset, symbol, error)
        return {
            "provider": service,
            "value": as_json(judgement.record),
            "as_of": as_of(judgement.record),
            "fetched_at": fetched_at,
        }

    def _idents(self, service: str, dataset: str, symbol: str, *, has_message: bool) -> Mapping[str, str]:
        """The provider's ids of tickers, where this symbol is one.

        One permit is one call: where their list must be asked for first, this is the task's call, and the
        task comes again for what it is about.

        Raises:
            FetchError: The provider has not given the list.
            Parked: It is asked for, by this task or another one.
        """
        endpoint = find_endpoint(find_provider(service), dataset)
        if endpoint.directory is None or not endpoint.ticker(symbol):
            return {}
        idents = directories.find(endpoint.directory)
        if idents is not None:
            return idents
        if not has_message:
            return directories.note(endpoint.directory, self.run(*endpoint.directory)["value"])
        with directories.claim(endpoint.directory) as claimed:
            if claimed:
                directories.note(endpoint.directory, self.run(*endpoint.directory)["value"])
        again = datetime.now(UTC) + timedelta(seconds=DELAYED_SECONDS)
        raise Parked(service, None, again, DELAYED_SECONDS, label="looked_up")

    def candidates_of(self, task_id: str, args: Any, kwargs: Any) -> tuple[str, ...]:
        """As any task's, but for those whose "no" is kept: of them no permit is asked for.

        Raises:
            FetchError: That is all of them.
        """
        services = super().candidates_of(task_id, args, kwargs)
        dataset, symbol, self.request.question = self._question(*args, **kwargs)
        self.request.noes = noes = _kept_noes(task_id, services, dataset, symbol)
        if noes:
            forget_elsewhere(task_id, "", tuple(noes))  # it may have been released as a probe there
        left = tuple(service for service in services if service not in noes)
        if not left:
            raise self.concluded(next(iter(noes.values())))
        return left

    def candidates(
        self,
        dataset: str,
        symbol: str,
        provider: str | None = None,
        *,
        adjustment: str | None = None,
        fallbacks: Sequence[str] = (),
    ) -> tuple[str, ...]:
        """Scheduled, or with a provider named: that one, then its fallbacks. On demand: the dataset's order.

        Raises:
            FetchError: None of them has it in its plan, as they have said: nobody is asked.
            tasks.errors.InputError: As ``run``.
        """
        symbol = clean_symbol(symbol)
        for name in (dataset, provider or "", adjustment or ""):
            if not isinstance(name, str):  # a message's arguments are whatever its sender wrote
                raise InputError(f"{str(name)[:80]!r} is no text: give a dataset's and a provider's name")
        service = self._only(provider)
        if service:
            resolve_adjustment(dataset, symbol, service, adjustment)
            others = filter(may_know, _equivalent(service, dataset, symbol, fallbacks))
            return in_plan((service, *others), dataset, symbol)
        services = providers_of(dataset, symbol, adjustment)
        if not services:
            raise UnknownDatasetError(dataset, served_datasets())
        return in_plan(tuple(filter(may_know, services)) or services, dataset, symbol)

    def _only(self, provider: str | None) -> str | None:
        """The one provider that may be asked, None for any in the dataset's order."""
        return provider or (None if self.lane is Lane.ON_DEMAND else self.service)

    def _question(
        self,
        dataset: str,
        symbol: str,
        provider: str | None = None,
        *,
        adjustment: str | None = None,
        fallbacks: Sequence[str] = (),  # noqa: ARG002 - not the question's
    ) -> tuple[str, str, str | None]:
        """What is asked for, of what, and where the answer of all is kept; None: each one's own will do."""
        symbol = clean_symbol(symbol)
        one = self._only(provider)
        return dataset, symbol, None if one else question_of(dataset, symbol, None, adjustment)

    def _keep_no(self, error: FetchError) -> None:
        """Have nobody ask this provider again for a while, or, where it has nothing now, not this task."""
        noes, task_id = self.request.get("noes"), self.request.id
        if noes is not None:  # else it is called directly
            noes[error.service] = error
        if error.unknown:
            _keep_word(not_found.key_of(error.dataset, error.symbol, error.service), error)
        elif error.verdict == Answer.EMPTY and task_id:
            _keep_word(not_found.key_of_task(task_id, error.service), error, NOTHING_NOW_SECONDS)

    def concluded(self, error: Exception) -> Exception:
        """What those that were asked have said together, where none has a value and none is waited for.

        That nobody knows such a symbol is kept as the answer to the question. That there is nothing now is
        not, because it is true for a moment.
        """
        noes: dict[str, FetchError] = self.request.get("noes") or {}
        unknown = [no for no in noes.values() if no.unknown]
        for verdict in _PRECEDENCE:
            said = [no for no in noes.values() if no.verdict == verdict and not no.unknown]
            if said:
                break
        else:
            verdict, said = Answer.NOT_FOUND, unknown
        if not said:
            return error
        first, words = said[0], f"unknown to {_listed(unknown)}" if unknown else ""
        if verdict is Answer.NOT_FOUND:
            self._keep_conclusion(first, unknown, words)
        if verdict not in (Answer.NOT_FOUND, Answer.EMPTY) or len({*said, *unknown}) == 1:
            return first
        if verdict is Answer.EMPTY:
            words = "; ".join(filter(None, (*(no.detail for no in said), words)))
        return FetchError(first.service, first.dataset, first.symbol, verdict.value, words)

    def _keep_conclusion(self, first: FetchError, unknown: Sequence[FetchError], words: str) -> None:
        question = self.request.get("question")
        if question is None:
            return
        kept = [not_found.key_of(no.dataset, no.symbol, no.service) for no in unknown]
        try:
            not_found.conclude(question, kept, first.service, words if len(unknown) > 1 else "")
        except StoreUnavailableError as error:
            logger.warning("that nobody knows %s of %s is not kept: %s", first.dataset, first.symbol, error)

    def judge(self, error: Exception) -> Outcome:
        """By the class of the reply; an error of any other kind says nothing about the provider."""
        if not isinstance(error, FetchError):
            return Outcome(Verdict.IGNORED, ends=True)
        outcome = OUTCOMES[Answer(error.verdict)]
        if error.unknown:  # also where one symbol is retired, and the provider lives on
            outcome = OUTCOMES[Answer.NOT_FOUND]
        elif error.verdict == Answer.AUTH and not error.certain:
            outcome = replace(outcome, reason=Reason.TURNED_AWAY)
        elif error.drifted:
            outcome = replace(outcome, subject=f"{error.dataset} {error.symbol}")
        hold = (error.hold_seconds or DEFAULT_HOLD_SECONDS) if outcome.verdict is Verdict.HOLD else 0
        return replace(outcome, hold_seconds=hold, label=error.verdict, detail=error.detail)

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """The refresh is over: the next one may start."""
        super().after_return(status, retval, task_id, args, kwargs, einfo)
        if self.lane is Lane.ON_DEMAND and not isinstance(retval, (InputError, TypeError)):
            end_flight(task_id, *args, **kwargs)  # arguments of no use were never a flight


def _equivalent(service: str, dataset: str, symbol: str, others: Sequence[str]) -> Iterator[str]:
    """Those of the others whose answer is as good as the service's: no bars that are adjusted otherwise."""
    if not isinstance(others, (list, tuple)) or not all(isinstance(name, str) for name in others):
        raise InputError(f"fallbacks={str(others)[:80]!r}: give a list of providers' names")
    wanted = PROVIDERS[service].endpoints[dataset].adjustment
    able = providers_of(dataset, symbol, wanted) if others else ()
    return (name for name in others if name in able and name != service)


def register(app: Celery) -> None:
    """Make the fetch tasks of every provider, and fit each breaker to its provider's limits and key."""
    for service in PROVIDERS:
        row = _row_in_use(service)
        breaker = get_circuit_breaker(service)
        rules = {"call_seconds": row.deadline_seconds, **CIRCUIT, **limits(row), **row.circuit}
        breaker.policy = breaker.policy.changed(rules)
        breaker.key = partial(key_in_use, service)
    on_demand = sorted({service for dataset in served_datasets() for service in providers_of(dataset)})
    # Where nobody has a value all are asked, one after the other.
    longest = max(
        sum(PROVIDERS[service].deadline_seconds for service in providers_of(dataset))
        for dataset in served_datasets()
    )
    for service in PROVIDERS:
        own: tuple[str, ...] = (service,)
        for name, lane, services, more in (
            ("fetch", Lane.SCHEDULED, own, 0.0),
            ("refresh", Lane.ON_DEMAND, tuple(on_demand), longest),
        ):
            task_class = type(
                f"{name.capitalize()}_{service}",
                (FetchTask,),
                {
                    "name": f"tasks.{service}.{name}",
                    "service": service,
                    "services": services,
                    "lane": lane,
                    "soft_time_limit": FetchTask.soft_time_limit + more,
                    "time_limit": FetchTask.time_limit + more,
                    "__module__": __name__,
                },
            )
            app.register_task(task_class())


def limits(row: Provider) -> dict[str, Any]:
    """What a provider bears by its documentation, as fields of a policy.

    An address set by hand (a simulator, a proxy with a cache) is not the provider, and has limits of its own,
    if any: those stand in circuits.toml.
    """
    if own_address(row.service):
        return {}
    found: dict[str, Any] = {"max_concurrent": row.max_concurrent}
    return found | (pace(row.quota) if row.quota else {})


def pace(quota: Quota) -> dict[str, Any]:
    """A quota as fields of a policy, such that no stretch of its window sees more calls than it allows.

    So it matters not where the provider's own windows begin. Of a quota of too many calls to be kept one by
    one, the burst is taken off, and the window is longer by as much as a call may be late.
    """
    if quota.calls > STRICT_CALLS:
        return {
            "quota_calls": quota.calls - quota.burst + 1,
            "quota_seconds": quota.seconds + LATE_SECONDS,
            "quota_burst": quota.burst,
        }
    made_up = math.floor(MADE_UP_SECONDS * quota.calls / quota.seconds) + 1
    return {
        "quota_calls": quota.calls,
        "quota_seconds": quota.seconds,
        "quota_burst": max(quota.burst, min(made_up, quota.calls // 2)),
        "quota_strict": True,
    }


def _row_in_use(service: str) -> Provider:
    """The row of a provider, as its plan has it."""
    try:
        return provider_settings().row(service)
    except SettingsError:
        return find_provider(service)  # the call itself says what is wrong with them


def own_address(service: str) -> bool:
    """Whether a base URL is set by hand."""
    try:
        return provider_settings().base_url_override(service) is not None
    except SettingsError:
        return False  # the call itself says what is wrong with it


def route(name: str, *_more: Any, **_options: Any) -> dict[str, str] | None:
    """Celery's router: the fetch tasks to their provider's queues, anything else nowhere in particular."""
    package, _, rest = name.partition(".")
    service, _, kind = rest.partition(".")
    if package != "tasks" or service not in PROVIDERS:
        return None
    return {"queue": queue_of(service, Lane.ON_DEMAND if kind == "refresh" else Lane.SCHEDULED)}


def queue_of(service: str, lane: Lane) -> str:
    """Two queues a provider: a dead one delays no other, and a caller does not wait for the schedule."""
    return f"{service}.{lane.value}"


def served_datasets() -> tuple[str, ...]:
    """The datasets some provider serves."""
    return tuple(filter(providers_of, DATASETS))


def is_retired(service: str) -> bool:
    """Gone for good, and no base URL set by hand says otherwise."""
    row = find_provider(service)
    return row.retired is not None and provider_settings().base_url_override(service) is None


def is_set_up(service: str) -> bool:
    """Whether it can be asked: it is not gone, and has the key and the contact that it wants."""
    settings = provider_settings()
    row = settings.row(service)
    has_key = settings.api_key(service) or not row.key_required
    has_contact = settings.contact(service) or not row.contact_required
    return bool(has_key and has_contact) and not is_retired(service)


def may_know(service: str) -> bool:
    """Whether its answer can be had: who is gone, or wants a key and has none, knows nothing of a symbol."""
    try:
        return is_set_up(service)
    except SettingsError:
        return True  # the call itself says what is wrong with it


def key_in_use(service: str) -> str:
    """The fingerprint of the service's key; '' for none, or one that cannot be used."""
    try:
        return provider_settings().fingerprint(service)
    except SettingsError:
        return ""  # the call itself says what is wrong with it


def in_plan(services: tuple[str, ...], dataset: str, symbol: str) -> tuple[str, ...]:
    """Those that have not said that this is in no plan of the key in use.

    Raises:
        FetchError: All have.
    """
    until = {
        service: entitlement.missing_until(service, dataset, key_in_use(service), symbol)
        for service in services
    }
    able = tuple(service for service in services if until[service] is None)
    if able:
        return able
    service, when = next((service, when) for service, when in until.items() if when)
    left = (when - datetime.now(UTC)).total_seconds()
    detail = f"it is not in the plan, as the provider said; not asked again before {when:%Y-%m-%d %H:%M} UTC"
    remedy = f"{detail}, with another key, or after circuits reset {service}"
    raise FetchError(service, dataset, symbol, Answer.ENTITLEMENT.value, remedy, max(left, 1.0))


def note_entitlement(service: str, dataset: str, symbol: str, judgement: Judgement) -> None:
    """Have the fleet know what a plan lacks; the first to hear it tells the operators."""
    seconds = judgement.hold_seconds or ENTITLEMENT_HOLD
    try:
        new = entitlement.note(service, dataset, key_in_use(service), symbol, seconds)
    except StoreUnavailableError as error:
        logger.warning("%s of %s is not in the plan of %s, not noted: %s", dataset, symbol, service, error)
        return
    if new:
        logger.warning(
            "%s of %s: %s; not asked again for %.0f h: take it off the schedule, use another key, or run "
            "circuits reset %s once the plan has it",
            *(dataset, symbol, judgement.detail, seconds / 3600, service),
        )


def announce_retired() -> None:
    """Open the circuits of retired providers, so that monitors show them before anyone asks.

    One that is retired no more, because its address was set by hand, is let in again.
    """
    for service in PROVIDERS:
        breaker = get_circuit_breaker(service)
        if is_retired(service):
            permit = breaker.acquire()
            if permit:
                breaker.report(permit, Verdict.HOLD, hold_seconds=RETIRED_HOLD, reason=Reason.RETIRED)
        elif find_provider(service).retired and breaker.read().reason is Reason.RETIRED:
            breaker.reset(f"{service.upper()}_BASE_URL names another address")


def question_of(dataset: str, symbol: str, provider: str | None, adjustment: str | None) -> str:
    """Where it stands that whoever was asked knows no such symbol; see ``not_found``.

    Args:
        dataset: What.
        symbol: Of what; clean.
        provider: The only one that may be asked; None: any in the dataset's order.
        adjustment: See ``resolve_adjustment``.
    """
    adjustment = resolve_adjustment(dataset, symbol, provider, adjustment)
    return not_found.key_of(dataset, symbol, provider, adjustment)


def flight_key(dataset: str, symbol: str, provider: str | None = None, adjustment: str | None = None) -> str:
    """Where the id of the one refresh of a key that is under way is kept."""
    return f"refresh:1:{dataset}:{symbol}:{provider or ''}" + (f":{adjustment}" if adjustment else "")


def end_flight(
    task_id: str, dataset: str, symbol: str, provider: str | None = None, adjustment: str | None = None
) -> None:
    """Forget a refresh, unless another has taken its place."""
    key = flight_key(dataset, clean_symbol(symbol), provider, adjustment)
    try:
        shared_scripts().evaluate(_FORGET, (key,), task_id)
    except StoreUnavailableError:
        return  # its key expires


_FORGET = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def _keep_word(key: str, no: FetchError, seconds: float | None = None) -> None:
    try:
        not_found.remember([key], no.service, no.detail, seconds)
    except StoreUnavailableError as error:
        logger.warning("what %s said of %s is not kept: %s", no.service, no.symbol, error)


def _kept_noes(task_id: str, services: Sequence[str], dataset: str, symbol: str) -> dict[str, FetchError]:
    """Who has said so lately that it is not asked again now; in the services' order."""
    unknown = [not_found.key_of(dataset, symbol, service) for service in services]
    # What ends with one answer has no second turn.
    nothing = [not_found.key_of_task(task_id, service) for service in services] if len(services) > 1 else []
    found = {}
    told = not_found.recall_all([*unknown, *nothing])
    for place, word in enumerate(told):
        if word:
            verdict = Answer.NOT_FOUND if place < len(services) else Answer.EMPTY
            found[word.service] = FetchError(word.service, dataset, symbol, verdict.value, str(word))
    return {service: found[service] for service in services if service in found}


def _listed(noes: Sequence[FetchError]) -> str:
    *names, last = (no.service for no in noes)
    return f"{', '.join(names)} and {last}" if names else last


def _error(service: str, dataset: str, symbol: str, judgement: Judgement) -> FetchError:
    return FetchError(
        service,
        dataset,
        symbol,
        judgement.verdict.value,
        judgement.detail,
        judgement.hold_seconds,
        judgement.drifted,
        judgement.certain,
    )
