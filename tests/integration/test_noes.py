"""Three noes, drift of one symbol, refusals nobody explains: a real worker, providers that say so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from celery.signals import before_task_publish

from resilience import CircuitState, get_circuit_breaker
from resilience.states import PARKED
from tasks import fetch, last_good, not_found, refresh
from tasks.providers import PROVIDERS, judge
from tasks.records import Quote
from tests.contract.replies import MODULES, encoded
from tests.fleet import wait_for
from tests.system import FINAL, System
from tests.wire import response, server_saying

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery.result import AsyncResult

# Who may be asked for a quote, in the order; nobody else has a key. Yahoo wants none.
SERVICES = ("alpha_vantage", "finnhub", "twelvedata", "yahoo")
YAHOO = MODULES["yahoo"]
UNKNOWN: dict[str, tuple[str, Any]] = {
    "alpha_vantage": ("200 OK", {"Global Quote": {}}),
    "finnhub": ("200 OK", {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}),
    "twelvedata": ("200 OK", {"code": 404, "message": "**symbol** not found: NOPE.", "status": "error"}),
    "yahoo": ("404 Not Found", {"chart": YAHOO.LOST}),
}
KNOWN = {
    "finnhub": ("200 OK", MODULES["finnhub"].QUOTE),
    "twelvedata": ("200 OK", MODULES["twelvedata"].QUOTE),
}
NOTHING_NOW = ("200 OK", MODULES["twelvedata"].error(400, MODULES["twelvedata"].NO_DATA))
ASKED_WRONGLY = ("200 OK", MODULES["twelvedata"].error(400, MODULES["twelvedata"].INTERVAL))
DRIFTED = ("200 OK", {"moved": True})
DOWN = ("502 Bad Gateway", {"error": "down"})


class Providers:
    """What each says of a symbol; a symbol nobody was told about it does not know."""

    def __init__(self) -> None:
        self.says: dict[tuple[str, str], tuple[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []

    def __call__(self, request: bytes) -> bytes:
        line = request.partition(b"\r\n")[0].decode()
        service = line.split("/")[1]
        symbol = re.findall(r"[A-Z0-9]{5,}", line.replace("GLOBAL_QUOTE", "").partition(" HTTP")[0])[0]
        self.asked.append((service, symbol))
        known = self.says.get((service, symbol)) or self.says.get((service, "*")) or UNKNOWN[service]
        status, body = known
        return response(body.encode() if isinstance(body, str) else encoded(body), status=status)

    def of(self, symbol: str) -> list[str]:
        """Who was asked for it, in order."""
        return [service for service, asked in self.asked if asked == symbol]


def chart(symbol: str) -> tuple[str, Any]:
    return "200 OK", json.loads(json.dumps(YAHOO.CHART).replace("AAPL", symbol))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Providers]]:
    providers = Providers()
    with server_saying(providers) as (settings, _):
        made = System(tmp_path_factory.mktemp("noes"))
        try:
            for service in PROVIDERS:
                made.environment.pop(f"{service.upper()}_BASE_URL", None)
                if service not in SERVICES:
                    made.environment.pop(f"{service.upper()}_API_KEY", None)
            for service in SERVICES:
                made.environment[f"{service.upper()}_BASE_URL"] = f"{settings.base_url('finnhub')}/{service}"
            made.worker()
            yield made, providers
        finally:
            made.close()


@pytest.fixture
def system(running: tuple[System, Providers]) -> Iterator[System]:
    made, providers = running
    sent: list[str] = []

    def note(headers: dict[str, Any], **_: Any) -> None:
        sent.append(headers["id"])

    before_task_publish.connect(note)
    yield made
    before_task_publish.disconnect(note)
    providers.says.clear()
    for service in SERVICES:
        breaker = get_circuit_breaker(service)
        breaker.end_override()
        breaker.reset()
    wait_for(lambda: not any(made.circuit(name)["parked"] for name in SERVICES), 30, "nothing waits")
    wait_for(
        lambda: all(made.app.AsyncResult(one).state in FINAL for one in sent), 30, "nothing is under way"
    )
    providers.asked.clear()


@pytest.fixture
def providers(running: tuple[System, Providers]) -> Providers:
    return running[1]


def ended(result: AsyncResult) -> AsyncResult:
    wait_for(lambda: result.state in FINAL, 60, f"{result} ends")
    return result


def send(system: System, symbol: str, name: str = "finnhub.refresh", **kwargs: Any) -> AsyncResult:
    return system.app.send_task(f"tasks.{name}", ("quote", symbol), kwargs)


# Unknown to one


@pytest.mark.usefixtures("system")
def test_what_some_do_not_know_the_next_is_asked_for(providers):
    providers.says["yahoo", "INDEX1"] = chart("INDEX1")
    first = refresh("quote", "INDEX1", wait=20)
    assert (first.outcome, first.provider, first.value["symbol"]) == ("fresh", "yahoo", "INDEX1")
    assert providers.of("INDEX1") == list(SERVICES)
    again = refresh("quote", "INDEX1", wait=20)
    assert (again.outcome, again.provider) == ("fresh", "yahoo")
    assert providers.of("INDEX1") == [*SERVICES, "yahoo"], "who does not know it is not asked again meanwhile"
    assert {get_circuit_breaker(name).read().state for name in SERVICES} == {CircuitState.CLOSED}


def test_only_when_all_who_could_know_have_said_so_is_it_remembered_and_by_whom(system, providers):
    first = refresh("quote", "NOBODY1", wait=20)
    assert (first.outcome, first.verdict, first.value) == ("failed", "not_found", None)
    assert "unknown to alpha_vantage, finnhub, twelvedata and yahoo" in first.reason
    again = refresh("quote", "NOBODY1", wait=20)
    assert (again.outcome, again.verdict) == ("failed", "not_found")
    assert "unknown to alpha_vantage, finnhub, twelvedata and yahoo (said " in again.reason
    assert ended(send(system, "NOBODY1")).result.verdict == "not_found"
    assert providers.of("NOBODY1") == list(SERVICES), "nobody is asked again"
    by_name = refresh("quote", "NOBODY1", provider="yahoo", wait=20)
    assert (by_name.verdict, by_name.provider) == ("not_found", "yahoo")
    found = system.json("circuits", "explain", "quote", "NOBODY1")
    assert "unknown to alpha_vantage, finnhub, twelvedata and yahoo" in found["why"]
    told = [row["service"] for row in found["providers"] if row["told_not_found"]]
    assert told == list(SERVICES)


@pytest.mark.usefixtures("system")
def test_a_value_of_one_disproves_what_all_have_said(providers):
    assert refresh("quote", "NEWLY1", wait=20).verdict == "not_found"
    record = Quote(symbol="NEWLY1", provider="yahoo", last_price="1.5", last_timestamp="2026-11-30T09:00:00Z")
    last_good.remember("quote", "NEWLY1", record)
    providers.says["yahoo", "NEWLY1"] = chart("NEWLY1")
    assert refresh("quote", "NEWLY1", wait=20).provider == "yahoo"
    assert providers.of("NEWLY1") == [*SERVICES, "yahoo"]


def test_what_all_have_said_stands_as_long_as_the_first_of_their_words(system):
    assert refresh("quote", "LAPSES1", wait=20).verdict == "not_found"
    question = not_found.key_of("quote", "LAPSES1", None)
    lapses = system.store.pexpiretime(question)
    assert 0 < lapses <= system.store.pexpiretime(not_found.key_of("quote", "LAPSES1", "alpha_vantage"))
    system.store.delete(question, not_found.key_of("quote", "LAPSES1", "yahoo"))
    assert refresh("quote", "LAPSES1", wait=20).verdict == "not_found", "yahoo is asked alone"


def test_it_waits_for_one_that_is_shut_and_its_followers_with_it(system, providers):
    providers.says["yahoo", "SHUT11"] = chart("SHUT11")
    get_circuit_breaker("yahoo").force_open(600)
    first = refresh("quote", "SHUT11", wait=5)
    assert (first.outcome, first.verdict) == ("parked", None)
    others = [send(system, "SHUT11") for _ in range(2)]
    wait_for(lambda: {one.state for one in others} == {PARKED}, 20, "they wait, too")
    assert not_found.recall(not_found.key_of("quote", "SHUT11", None)) is None
    get_circuit_breaker("yahoo").reset()
    assert {ended(one).result["provider"] for one in others} == {"yahoo"}
    asked = providers.of("SHUT11")
    assert [asked.count(name) for name in SERVICES[:3]] == [1, 1, 1]


def test_a_scheduled_fetch_ends_at_its_providers_word_and_one_with_fallbacks_goes_on(system, providers):
    providers.says["finnhub", "BACKUP1"] = KNOWN["finnhub"]
    alone = ended(send(system, "BACKUP1", "alpha_vantage.fetch"))
    assert (alone.result.verdict, alone.result.service) == ("not_found", "alpha_vantage")
    assert providers.of("BACKUP1") == ["alpha_vantage"]
    backed = ended(send(system, "BACKUP1", "alpha_vantage.fetch", fallbacks=["twelvedata", "finnhub"]))
    assert backed.result["provider"] == "finnhub"
    assert providers.of("BACKUP1") == ["alpha_vantage", "twelvedata", "finnhub"]


@pytest.mark.usefixtures("system")
def test_who_is_asked_wrongly_is_not_the_last_to_be_asked_and_nothing_is_concluded(providers):
    providers.says["twelvedata", "WRONG1"] = ASKED_WRONGLY
    reading = refresh("quote", "WRONG1", wait=20)
    assert (reading.outcome, reading.verdict, reading.provider) == ("failed", "caller_error", "twelvedata")
    assert providers.of("WRONG1") == list(SERVICES)
    refresh("quote", "WRONG1", wait=20)
    assert providers.of("WRONG1") == [*SERVICES, "twelvedata"]


EAGER = """
import sys
from workers import app
refresh = app.tasks["tasks.finnhub.refresh"]
print(repr(refresh.apply(("quote", sys.argv[1])).result))
try:
    refresh("quote", sys.argv[1])
except Exception as error:
    print(repr(error))
"""


def run_here(system: System, symbol: str) -> list[str]:
    """What a program gets that runs the refresh itself: eagerly, and as a function."""
    command = [sys.executable, "-c", EAGER, symbol]
    done = subprocess.run(
        command, env=system.environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.splitlines() or [done.stderr]


def test_without_a_message_all_are_asked_too_and_a_function_asks_its_own_provider(system, providers):
    eager, direct = run_here(system, "EAGER1")
    assert "'not_found', 'unknown to alpha_vantage, finnhub, twelvedata and yahoo'" in eager
    assert direct.startswith("FetchError('finnhub', 'quote', 'EAGER1', 'not_found', ")
    assert providers.of("EAGER1") == [*SERVICES, "finnhub"]
    get_circuit_breaker("yahoo").force_open(600)
    eager, _ = run_here(system, "EAGER2")
    assert eager.startswith("CircuitBreakerOpenError('yahoo'"), "it could know, and cannot be waited for"


# Known, nothing now


@pytest.mark.usefixtures("system")
def test_what_has_nothing_now_is_asked_of_the_next_and_never_remembered(providers):
    providers.says["twelvedata", "QUIET1"] = NOTHING_NOW
    for times in (1, 2):
        reading = refresh("quote", "QUIET1", wait=20)
        assert (reading.outcome, reading.verdict, reading.provider) == ("failed", "empty", "twelvedata")
        assert "no data on these days; unknown to alpha_vantage, finnhub and yahoo" in reading.reason
        assert providers.of("QUIET1").count("twelvedata") == times
    assert len(providers.of("QUIET1")) == len(SERVICES) + 1, "who does not know it is not asked again"
    providers.says["yahoo", "QUIET2"] = chart("QUIET2")
    providers.says["twelvedata", "QUIET2"] = NOTHING_NOW
    assert refresh("quote", "QUIET2", wait=20).provider == "yahoo"


@pytest.mark.usefixtures("system")
def test_the_last_good_value_is_worth_more_than_nothing_now(providers):
    providers.says["twelvedata", "NIGHT1"] = (
        KNOWN["twelvedata"][0],
        {**KNOWN["twelvedata"][1], "symbol": "NIGHT1"},
    )
    day = refresh("quote", "NIGHT1", wait=20)
    assert day.outcome == "fresh"
    providers.says["twelvedata", "NIGHT1"] = NOTHING_NOW
    night = refresh("quote", "NIGHT1", wait=20)
    assert (night.outcome, night.verdict, night.stale) == ("stale", "empty", True)
    assert night.value == day.value
    assert "no data on these days" in night.reason


def test_who_has_nothing_now_is_not_asked_again_by_a_task_that_waits_for_another(system, providers):
    providers.says["twelvedata", "LATER1"] = NOTHING_NOW
    get_circuit_breaker("yahoo").force_open(600)
    waiting = send(system, "LATER1")
    wait_for(lambda: system.circuit("yahoo")["parked"] == 1, 20, "it waits for yahoo")
    get_circuit_breaker("yahoo").reset()
    error = ended(waiting).result
    assert (error.verdict, error.service) == ("empty", "twelvedata")
    assert providers.of("LATER1") == list(SERVICES)


# Drift of one symbol


def test_one_symbols_drift_ends_its_task_opens_nothing_and_healthy_quotes_go_on(system, providers):
    providers.says["finnhub", "*"] = KNOWN["finnhub"]
    providers.says["finnhub", "ODDONE"] = DRIFTED
    bad = [send(system, "ODDONE", name, provider="finnhub") for name in ("finnhub.fetch", "finnhub.refresh")]
    wait_for(lambda: providers.of("ODDONE").count("finnhub") >= 6, 60, "six calls have met it")
    assert ended(send(system, "HEALTHY", "finnhub.fetch")).state == "SUCCESS"
    for one in bad:
        error = ended(one).result
        assert (error.verdict, error.drifted) == ("provider_failure", True)
        assert "schema drift" in str(error)
    assert providers.of("ODDONE") == ["finnhub"] * 10
    circuit = system.circuit("finnhub")
    assert (circuit["state"], circuit["trips_total"]) == ("closed", 0)


def test_several_symbols_drift_opens_it(system, providers):
    before = system.circuit("finnhub")["trips_total"]
    for number in range(5):
        providers.says["finnhub", f"ODDONE{number}"] = DRIFTED
        send(system, f"ODDONE{number}", "finnhub.fetch")
    wait_for(lambda: system.circuit("finnhub")["trips_total"] == before + 1, 30, "it opens")
    providers.says["finnhub", "*"] = KNOWN["finnhub"]
    for number in range(5):
        del providers.says["finnhub", f"ODDONE{number}"]


@pytest.mark.parametrize("bad", [1, 3])
def test_probes_that_drift_do_not_keep_a_circuit_that_another_symbol_closes(system, providers, bad):
    breaker = get_circuit_breaker("finnhub")
    for _ in range(breaker.policy.failure_threshold):
        breaker.report(breaker.acquire(), "failure")
    trips = system.circuit("finnhub")["trips_total"]
    odd = [send(system, f"ODDBALL{number}", "finnhub.refresh", provider="finnhub") for number in range(bad)]
    odd.append(send(system, "ODDBALL9", "finnhub.fetch"))
    wait_for(lambda: {one.state for one in odd} == {PARKED}, 20, "they wait, the longest of all")
    good = [send(system, f"HEALTHY{number}", "finnhub.fetch") for number in range(3)]
    wait_for(lambda: {one.state for one in good} == {PARKED}, 20, "they wait behind them")
    providers.says["finnhub", "*"] = KNOWN["finnhub"]
    for number in (*range(bad), 9):
        providers.says["finnhub", f"ODDBALL{number}"] = DRIFTED
    assert system.cli("circuits", "release", "finnhub").returncode == 0
    assert {ended(one).state for one in good} == {"SUCCESS"}
    wait_for(lambda: system.circuit("finnhub")["state"] == "closed", 10, "it closes")
    assert system.circuit("finnhub")["trips_total"] == trips, "no probe has opened it again"
    assert {ended(one).result.drifted for one in odd} == {True}


# Refused, and nobody says why


def test_an_unexplained_refusal_holds_for_minutes_and_only_met_again_is_the_keys(system, providers):
    providers.says["finnhub", "*"] = "403 Forbidden", {}
    task = send(system, "TURNED1", "finnhub.fetch")
    wait_for(lambda: task.state == PARKED, 20, "it waits")
    shown = system.json("circuits", "show", "finnhub")
    assert (shown["state"], shown["reason"], shown["refused_keys"]) == ("open", "turned_away", [])
    found = system.json("circuits", "explain", "quote", "TURNED1")
    [row] = [row for row in found["providers"] if row["service"] == "finnhub"]
    assert "turned us away without saying why" in row["obstacle"]
    assert "tried again in " in row["remedy"]
    assert system.cli("circuits", "release", "finnhub").returncode == 0
    wait_for(lambda: system.circuit("finnhub")["reason"] == "auth", 20, "it met it again")
    assert providers.of("TURNED1") == ["finnhub"] * 2
    wait_for(lambda: task.info.get("reason") == "auth", 10, "its task says so")
    providers.says["finnhub", "*"] = KNOWN["finnhub"]
    get_circuit_breaker("finnhub").reset()
    assert ended(task).state == "SUCCESS"


def test_one_unexplained_refusal_among_successes_needs_nobody_to_come(system, providers):
    for _ in range(2):
        providers.says["finnhub", "*"] = "403 Forbidden", {}
        task = send(system, "HICCUP1", "finnhub.fetch")
        wait_for(lambda waits=task: waits.state == PARKED, 20, "it waits")
        # After a recovery it may first have waited for its turn.
        wait_for(lambda: system.circuit("finnhub")["reason"] == "turned_away", 20, "it is turned away")
        providers.says["finnhub", "*"] = KNOWN["finnhub"]
        assert system.cli("circuits", "release", "finnhub").returncode == 0
        assert ended(task).state == "SUCCESS"
        more = [send(system, f"WELL{number}X", "finnhub.fetch") for number in range(3)]
        assert {ended(one).state for one in more} == {"SUCCESS"}
        wait_for(lambda: system.circuit("finnhub")["state"] == "closed", 10, "it closes")
    assert system.json("circuits", "show", "finnhub")["refused_keys"] == []


@pytest.mark.parametrize(
    ("status", "kind", "body", "drifted"),
    [
        (200, "application/json", b'{"moved": true}', True),
        (200, "application/json", b'{"c": "moved", "t": "moved"}', True),
        (200, "application/json", b'{"c": 1, "t"', False),
        (200, "application/json", b"\x00\xff", False),
        (200, "text/html", b"<p>We are moving", False),
        (502, "application/json", b'{"moved": true}', False),
    ],
)
def test_only_a_reply_of_the_right_kind_can_be_one_symbols_drift(status, kind, body, drifted):
    found = judge("finnhub", "quote", status, {"Content-Type": kind}, body, symbol="AAPL")
    assert (found.verdict, found.drifted) == ("provider_failure", drifted)


def test_the_subject_is_the_dataset_and_the_symbol_whoever_asks():
    tasks = [fetch.FetchTask(), fetch.FetchTask()]
    error = fetch.FetchError("finnhub", "quote", "AAPL", "provider_failure", "drift", None, drifted=True)
    again = fetch.FetchError(*json.loads(json.dumps(error.args)))
    assert again.drifted
    assert {task.judge(found).subject for task in tasks for found in (error, again)} == {"quote AAPL"}
