"""What a reader gets: one adjustment, no question twice in vain, and an answer by the deadline."""

from __future__ import annotations

import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from resilience import get_circuit_breaker, set_default_store, stores
from resilience.parking import Lane
from tasks import last_good, latest, not_found, refresh
from tasks.errors import InputError, SettingsError, UnknownAdjustmentError
from tasks.fetch import queue_of
from tasks.providers.catalogue import ORDER, PROVIDERS, providers_of
from tasks.reading import Question
from tasks.reading import _fresh as reading_of
from tasks.records import Bar, Quote
from tasks.settings import provider_settings
from tests.fleet import wait_for
from tests.ports import free_port
from tests.servers import Server, installed
from tests.system import FINAL, System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery.result import AsyncResult

    from tests.servers import Rabbit

RAW = list(providers_of("bars", "AAPL", "raw"))
# A caller waits this long and a second for each server that hangs; without limits of ours it is minutes.
WAIT, BOUND = 1.0, 5.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("reading")) as made:
        yield made


@pytest.fixture
def system(running: System) -> Iterator[System]:
    running.app.set_default()  # a caller with servers of its own may have been here
    set_default_store(running.shared)
    running.calm()
    yield running
    for service in (*ORDER["bars"], "finnhub"):
        get_circuit_breaker(service).reset()
    running.simulator.reset()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The caller's settings, which may be changed until they are first read."""
    provider_settings.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    provider_settings.cache_clear()


def ended(result: AsyncResult) -> AsyncResult:
    wait_for(lambda: result.state in FINAL, 30, f"{result} ends")
    return result


def quote(provider: str = "finnhub", **fields: Any) -> Quote:
    given = {"symbol": "AAPL", "last_price": "1.5", "last_timestamp": datetime.now(UTC)} | fields
    return Quote(provider=provider, **given)


def bars(adjustment: str, provider: str) -> tuple[Bar, ...]:
    prices = dict.fromkeys(("open", "high", "low", "close"), "1.5")
    at = datetime(2026, 11, 20, tzinfo=UTC)
    given = {"symbol": "AAPL", "interval": "1d", "timestamp": at, "adjustment": adjustment}
    return (Bar(provider=provider, **given, **prices),)


def adjustments(reading: Any) -> set[str]:
    return {bar["adjustment"] for bar in reading.value}


# How old


def test_a_value_past_its_datasets_limit_is_none_and_says_how_old_it_is_and_what_the_limit_is(
    system, settings
):
    last_good.remember("quote", "AAPL", quote())
    settings.setenv("QUOTE_FRESH_SECONDS", "1")
    settings.setenv("QUOTE_MAX_SECONDS", "2")
    provider_settings.cache_clear()
    stale = wait_for(lambda: (found := latest("quote", "AAPL")).stale and found, 10, "it is stale")
    assert (stale.outcome, stale.reason) == ("stale", "older than 1 s")
    none = wait_for(lambda: (found := latest("quote", "AAPL")).value is None and found, 10, "it is too old")
    assert (none.outcome, none.stale) == ("failed", None)
    assert "by finnhub" in none.reason
    assert "QUOTE_MAX_SECONDS=2" in none.reason
    assert "refresh it" in none.reason
    [key] = system.store.scan_iter("last_good:*quote*")
    assert system.store.ttl(key) > 12 * 86_400, "one that is too old can be told from one that never was"
    assert "none was fetched" in latest("quote", "NVDA").reason


@pytest.mark.usefixtures("system")
def test_a_limit_that_makes_no_sense_is_refused_with_value_place_and_remedy(settings):
    settings.setenv("QUOTE_MAX_SECONDS", "5d")
    with pytest.raises(SettingsError, match=r"^QUOTE_MAX_SECONDS: '5d': .*; write seconds, .* as in 600$"):
        latest("quote", "AAPL")


@pytest.mark.usefixtures("system")
def test_a_provider_whose_clock_is_ahead_makes_nothing_younger():
    ahead = datetime.now(UTC) + timedelta(hours=1)
    last_good.remember("quote", "AAPL", quote(last_timestamp=ahead))
    reading = latest("quote", "AAPL")
    assert (reading.outcome, datetime.fromisoformat(reading.as_of)) == ("fresh", ahead), "its word is kept"
    assert 0 <= reading.age_seconds < 30, "and no age is reckoned from it"


def test_a_value_from_a_time_to_come_by_the_stores_clock_is_not_passed_off_as_fresh(system):
    last_good.remember("quote", "AAPL", quote())
    [key] = system.store.scan_iter("last_good:*quote*")
    system.store.hincrby(key, "fetched_at", 3_600_000_000)
    reading = latest("quote", "AAPL")
    assert (reading.outcome, reading.stale, reading.age_seconds) == ("stale", True, 0)
    assert "clock was set back" in reading.reason


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("kept", [None, "newer"])
def test_an_answer_that_is_read_late_tells_its_true_age(kept: str | None):
    """What is kept is another's since, or nothing is."""
    if kept:
        last_good.remember("quote", "AAPL", quote())
    then = (datetime.now(UTC) - timedelta(seconds=30)).isoformat()
    answer = {"provider": "finnhub", "value": {}, "as_of": None, "fetched_at": then}
    reading = reading_of(Question("quote", "AAPL", None, None), answer)
    assert 29 < reading.age_seconds < 60


# By any of its names


def test_a_value_is_asked_for_and_kept_once_whatever_its_symbol_is_called(system):
    fresh = refresh("quote", "vod.xlon", provider="finnhub", wait=15)
    assert (fresh.outcome, fresh.value["symbol"]) == ("fresh", "VOD.L")
    for name in ("VOD.L", "VOD.LON", "vod.lse"):
        assert latest("quote", name).value == fresh.value
    system.app.send_task("tasks.finnhub.refresh", ("quote", "VOD.XLON", "finnhub")).get(timeout=30)
    assert [call["symbol"] for call in system.simulator.calls("finnhub")] == ["VOD.L"] * 2
    assert [key.decode() for key in system.store.scan_iter("last_good:*quote:*")] == [
        "last_good:1:{all}:quote:VOD.L"
    ]


def test_a_pair_of_currencies_is_a_symbol_like_any_other(system):
    fresh = refresh("quote", "eurusd=x", provider="yahoo", wait=15)
    assert (fresh.outcome, fresh.value["symbol"]) == ("fresh", "EUR/USD")
    assert latest("quote", "EUR-USD").value == latest("quote", "EUR/USD").value == fresh.value
    assert [call["symbol"] for call in system.simulator.calls("yahoo")] == ["EURUSD=X"]


# What nobody knows


def test_what_a_provider_does_not_know_it_is_not_asked_again_for_a_while(system):
    first = refresh("quote", "UNKNOWN1", provider="finnhub", wait=15)
    again = refresh("quote", "UNKNOWN1", provider="finnhub", wait=15)
    for reading in (first, again):
        assert (reading.outcome, reading.verdict) == ("failed", "not_found")
        assert (reading.provider, reading.value) == ("finnhub", None)
    assert "s ago" in again.reason
    assert "NOT_FOUND_SECONDS=600" in again.reason
    scheduled = ended(system.fetch("UNKNOWN1"))
    assert (scheduled.state, scheduled.result.verdict) == ("FAILURE", "not_found")
    assert "finnhub has no quote of UNKNOWN1" in str(scheduled.result)
    assert system.calls() == 1
    other = refresh("quote", "UNKNOWN1", provider="alpha_vantage", wait=15)
    assert (other.verdict, other.provider) == ("not_found", "alpha_vantage"), "only its own memory counts"
    assert system.calls("alpha_vantage") == 1


def test_what_nobody_in_the_order_knows_nobody_is_asked_again(system):
    first = refresh("quote", "UNKNOWN1", wait=30)
    assert (first.verdict, first.provider) == ("not_found", "alpha_vantage")
    able = [name for name in providers_of("quote", "UNKNOWN1") if not PROVIDERS[name].retired]
    asked = {name: system.calls(name) for name in able}
    assert set(asked.values()) == {1}
    get_circuit_breaker("alpha_vantage").force_open(60)
    again = refresh("quote", "UNKNOWN1", wait=15)
    assert (again.verdict, again.provider) == ("not_found", "alpha_vantage")
    sent = system.app.send_task("tasks.finnhub.refresh", ("quote", "UNKNOWN1"))
    assert ended(sent).result.service == "alpha_vantage"
    assert {name: system.calls(name) for name in able} == asked


def test_no_probe_is_spent_on_what_the_provider_does_not_know(system):
    first = system.break_open()
    unknown = system.app.send_task("tasks.finnhub.refresh", ("quote", "UNKNOWN1", "finnhub"))
    wait_for(lambda: unknown.state == "PARKED", 10, "it parks, ahead of what is scheduled")
    not_found.remember([not_found.key_of("quote", "UNKNOWN1", "finnhub")], "finnhub", "Finnhub: none")
    system.simulator.set_mode("finnhub", "ok")
    assert system.cli("circuits", "release", "finnhub").returncode == 0
    assert (ended(unknown).result.verdict, ended(first).state) == ("not_found", "SUCCESS")
    asked = [call["symbol"] for call in system.simulator.calls("finnhub") if call["mode"] == "ok"]
    assert asked == ["FIRST"]


def test_a_value_disproves_what_its_provider_or_the_order_did_not_know(system):
    def asked(service: str | None) -> str:
        return not_found.key_of("quote", "AAPL", service)

    not_found.remember([asked("finnhub"), asked("alpha_vantage"), asked(None)], "finnhub", "Finnhub: no AAPL")
    told = not_found.recall(asked("finnhub"))
    assert (told.service, told.detail) == ("finnhub", "Finnhub: no AAPL")
    assert refresh("quote", "AAPL", provider="finnhub", wait=15).verdict == "not_found"
    assert system.calls() == 0
    last_good.remember("quote", "AAPL", quote())
    assert not_found.recall(asked("finnhub")) is not_found.recall(asked(None)) is None
    assert not_found.recall(asked("alpha_vantage")), "it has not said otherwise"
    assert refresh("quote", "AAPL", provider="finnhub", wait=15).outcome == "fresh"


def test_what_was_told_at_a_time_to_come_by_the_stores_clock_is_asked_again(system):
    """That was set back: or it would count for longer than it may, and again once the clock has caught up."""
    key = not_found.key_of("quote", "AAPL", "finnhub")
    not_found.remember([key], "finnhub", "Finnhub: no AAPL")
    system.store.hincrby(key, "told_at", 3_600_000_000)
    assert not_found.recall(key) is None
    assert not system.store.exists(key)


def test_an_empty_list_is_asked_for_again(system):
    for calls in (1, 2):
        assert refresh("news", "UNKNOWN1", provider="finnhub", wait=15).verdict == "empty"
        assert system.calls() == calls


def test_no_seconds_remember_nothing(system, settings):
    settings.setenv("NOT_FOUND_SECONDS", "0")
    provider_settings.cache_clear()
    key = not_found.key_of("quote", "AAPL", "finnhub")
    not_found.remember([key], "finnhub", "unknown")
    assert not system.store.exists(key)
    assert not_found.recall(key) is None


# Who answers


def test_bars_of_one_adjustment_never_stand_for_those_of_another(system):
    first = refresh("bars", "AAPL", wait=15)
    assert (first.outcome, first.provider, adjustments(first)) == ("fresh", RAW[0], {"raw"})
    named = refresh("bars", "AAPL", provider="tradier", wait=15)
    assert (named.provider, adjustments(named)) == ("tradier", {"split"})
    scheduled = ended(system.app.send_task("tasks.yahoo.fetch", ("bars", "AAPL")))
    assert {bar["adjustment"] for bar in scheduled.result["value"]} == {"split"}
    assert latest("bars", "AAPL").value == latest("bars", "AAPL", "raw").value == first.value
    assert latest("bars", "AAPL", "split").provider == "yahoo"

    asked = refresh("bars", "AAPL", adjustment="split", wait=15)
    assert (asked.provider, adjustments(asked)) == ("tradier", {"split"})
    get_circuit_breaker(RAW[0]).force_open(60)
    second = refresh("bars", "AAPL", wait=15)
    assert (second.outcome, second.provider, adjustments(second)) == ("fresh", RAW[1], {"raw"})
    for service in RAW[1:]:
        get_circuit_breaker(service).force_open(60)
    calls = {service: system.calls(service) for service in ORDER["bars"]}
    last = refresh("bars", "AAPL", wait=15)
    assert (last.outcome, last.provider, last.value) == ("stale", RAW[1], second.value)
    assert latest("bars", "AAPL").value == second.value
    assert {service: system.calls(service) for service in ORDER["bars"]} == calls
    for service in RAW:
        get_circuit_breaker(service).reset()
    wait_for(lambda: latest("bars", "AAPL").outcome == "fresh", 15, "the parked refresh comes back")


@pytest.mark.usefixtures("system")
def test_where_only_another_adjustment_is_kept_the_reader_is_told():
    last_good.remember("bars", "AAPL", bars("split", "tradier"))
    reading = latest("bars", "AAPL")
    assert (reading.outcome, reading.value) == ("failed", None)
    assert "no raw bars of AAPL" in reading.reason
    assert "adjustment=split" in reading.reason


@pytest.mark.parametrize(
    ("dataset", "asked", "told"),
    [
        ("bars", {"adjustment": "half"}, "'half' of bars; known here: all, raw, split"),
        ("bars", {"adjustment": "raw", "provider": "tradier"}, "'raw' of tradier's bars; known here: split"),
        ("quote", {"adjustment": "raw"}, "'raw' of quote; it has none: leave it out"),
    ],
)
def test_an_adjustment_nobody_has_is_refused(dataset, asked, told):
    with pytest.raises(UnknownAdjustmentError) as caught:
        refresh(dataset, "AAPL", **asked)
    assert told in str(caught.value)
    assert isinstance(caught.value, InputError)


def test_the_first_choice_answers_again_when_it_is_well(system):
    breaker = get_circuit_breaker("alpha_vantage")
    breaker.override({"failure_threshold": 1, "timeout_seconds": 1, "half_open_successes": 1}, 600)
    try:
        assert refresh("quote", "IBM", wait=15).provider == "alpha_vantage"
        system.break_open("5xx", "alpha_vantage")
        second = refresh("quote", "IBM", wait=15)
        assert (second.outcome, second.provider, second.value["provider"]) == ("fresh", *2 * ("finnhub",))
        assert latest("quote", "IBM").provider == "finnhub"
        system.simulator.set_mode("alpha_vantage", "ok")
        wait_for(lambda: system.circuit("alpha_vantage")["state"] == "closed", 30, "it closes by itself")
        first = refresh("quote", "IBM", wait=15)
        assert (first.outcome, first.provider) == ("fresh", "alpha_vantage")
        assert latest("quote", "IBM").provider == "alpha_vantage"
    finally:
        breaker.end_override()


# By when


class Caller:
    """A program that only reads and asks: three servers of its own, and nobody who works for it."""

    def __init__(self, folder: Path, broker: str | None = None) -> None:
        names = ("results", "store") if broker else ("broker", "results", "store")
        self.servers = {name: Server(installed("redis-server"), folder / name) for name in names}
        for server in self.servers.values():
            server.start()
        urls = {name: f"redis://127.0.0.1:{server.port}/0" for name, server in self.servers.items()}
        self.store_url = urls["store"]
        self.app = Celery("reader", broker=broker or urls["broker"], backend=urls["results"])
        self.app.set_default()
        set_default_store(self.store_url)

    def close(self) -> None:
        set_default_store(None)
        for server in self.servers.values():
            server.thaw()
        stores._opened.pop(self.store_url).close()
        self.app.close()
        for server in self.servers.values():
            server.kill()


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    made = Caller(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("asked_before", [True, False])
@pytest.mark.parametrize("fault", ["kill", "freeze"])
@pytest.mark.parametrize("lost", ["broker", "results", "store"])
def test_whichever_server_is_lost_a_caller_has_an_answer_by_its_deadline(caller, lost, fault, asked_before):
    last_good.remember("quote", "AAPL", quote())
    if asked_before:
        waiting = refresh("quote", "AAPL", wait=0)
        assert (waiting.outcome, waiting.reason) == ("stale", "the refresh is queued")
    getattr(caller.servers[lost], fault)()
    began = time.monotonic()
    reading = refresh("quote", "AAPL", wait=WAIT)
    assert time.monotonic() - began < BOUND
    if lost == "store":
        assert (reading.outcome, reading.value) == ("failed", None)
    else:
        assert (reading.outcome, reading.value["symbol"], reading.stale) == ("stale", "AAPL", True)
    joins = lost == "broker" and asked_before
    assert reading.reason == "the refresh is queued" if joins else "RESILIENCE_STORE_URL" in reading.reason
    began = time.monotonic()
    assert latest("quote", "AAPL").outcome == ("failed" if lost == "store" else "fresh")
    assert time.monotonic() - began < BOUND


@pytest.mark.parametrize(("lost", "outcome"), [("results", "stale"), ("store", "parked")])
def test_a_server_that_hangs_while_a_caller_waits_does_not_hold_it(caller, lost, outcome):
    last_good.remember("quote", "AAPL", quote())

    def looks() -> int:
        told = caller.servers["results"].ask("INFO", "commandstats")
        return int(told.get("cmdstat_get", {"calls": 0})["calls"])

    def freeze_at_the_third_look() -> None:
        wait_for(lambda: looks() > 2, 10, "the caller looks for the result")
        caller.servers[lost].freeze()

    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        frozen = pool.submit(freeze_at_the_third_look)
        reading = refresh("quote", "AAPL", provider="finnhub", wait=WAIT * 2)
        assert time.monotonic() - began < WAIT + BOUND
        frozen.result()
    assert reading.outcome == outcome


@pytest.mark.parametrize("fault", ["nobody", "frozen"])
def test_a_lost_rabbitmq_does_not_hold_a_caller(tmp_path, rabbitmq: Rabbit, fault):
    url = rabbitmq.open("reading")
    made = Caller(tmp_path, url if fault == "frozen" else f"amqp://127.0.0.1:{free_port()}//")
    try:
        last_good.remember("quote", "AAPL", quote())
        if fault == "frozen":
            assert refresh("quote", "NVDA", provider="finnhub").outcome == "parked"
            queue = queue_of("finnhub", Lane.ON_DEMAND)
            wait_for(lambda: rabbitmq.queued("reading", queue) == 1, 10, "it was sent")
            rabbitmq.freeze()
        began = time.monotonic()
        reading = refresh("quote", "AAPL", wait=WAIT)
        assert time.monotonic() - began < BOUND
        assert (reading.outcome, reading.value["symbol"]) == ("stale", "AAPL")
        assert "CELERY_BROKER_URL" in reading.reason
    finally:
        rabbitmq.thaw()
        made.close()
        rabbitmq.drop("reading")


# And how cheaply


def queued(caller: Caller, service: str = "finnhub") -> int:
    return int(caller.servers["broker"].ask("LLEN", queue_of(service, Lane.ON_DEMAND)))


def test_callers_share_the_connections_they_have_just_used(caller):
    """Else each refresh would make four new ones, which takes longer than all the rest of it."""
    names = [f"SYM{number}" for number in range(40)]
    refresh("quote", "FIRST", provider="finnhub")
    before = {
        name: int(server.ask("INFO")["total_connections_received"]) for name, server in caller.servers.items()
    }
    with ThreadPoolExecutor(4) as pool:
        readings = list(pool.map(lambda name: refresh("quote", name, provider="finnhub"), names))
    after = {
        name: int(server.ask("INFO")["total_connections_received"]) for name, server in caller.servers.items()
    }
    assert {reading.outcome for reading in readings} == {"parked"}
    assert queued(caller) == len(names) + 1
    assert all(after[name] - before[name] < len(names) / 2 for name in after), (before, after)


def test_a_broker_that_was_restarted_since_is_reached_all_the_same(caller):
    refresh("quote", "AAPL", provider="finnhub")
    caller.servers["broker"].kill()
    caller.servers["broker"].start()
    caller.servers["results"].kill()
    caller.servers["results"].start()
    assert refresh("quote", "MSFT", provider="finnhub").outcome == "parked"
    assert queued(caller) == 1, "it kept nothing over its restart"


def test_a_forked_child_leaves_its_parents_connections_alone(caller):
    refresh("quote", "AAPL", provider="finnhub")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: this is what is tried
        child = os.fork()
    if not child:
        failed = 1
        try:
            failed = int(refresh("quote", "MSFT", provider="finnhub").outcome != "parked")
        finally:
            os._exit(failed)
    assert os.waitpid(child, 0)[1] == 0
    assert refresh("quote", "NVDA", provider="finnhub").outcome == "parked"
    assert queued(caller) == 3
