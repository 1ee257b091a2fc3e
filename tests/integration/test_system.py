"""Fetch, trip, park, recover and read, with a real server, real providers' replies and real workers."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import NotRegistered
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from resilience import CIRCUIT_BREAKERS, CircuitBreaker, get_circuit_breaker
from resilience.metrics import CircuitCollector
from tasks import connections, directories, latest, refresh
from tasks.errors import InputError
from tasks.providers.catalogue import ORDER, PROVIDERS
from tasks.records import DATASETS, as_of, in_order
from tests.fleet import wait_for
from tests.ports import free_port
from tests.system import FINAL, KEYS, System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery.result import AsyncResult

SHAPE = [
    *("outcome", "verdict", "provider", "value", "as_of", "fetched_at", "age_seconds", "stale", "reason"),
    "retry_at",
]
OPEN_SECONDS = {"finnhub": 60, "alpha_vantage": 120}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("system")) as made:
        yield made


@pytest.fixture
def system(running: System) -> Iterator[System]:
    running.calm()
    yield running
    running.simulator.reset()


def ended(*results: AsyncResult, seconds: float = 30) -> list[str]:
    """The tasks' final states, once they have them."""
    wait_for(lambda: all(result.state in FINAL for result in results), seconds, f"{results} end")
    return [result.state for result in results]


def seconds_left(when: str) -> float:
    return (datetime.fromisoformat(when) - datetime.now(UTC)).total_seconds()


def test_a_refresh_brings_a_fresh_value_and_latest_reads_it(system):
    fresh = system.json("refresh", "quote", "aapl", "--provider", "finnhub", "--wait", "15")
    assert list(fresh) == SHAPE
    assert (fresh["outcome"], fresh["verdict"], fresh["provider"]) == ("fresh", "success", "finnhub")
    assert (fresh["stale"], fresh["reason"], fresh["retry_at"]) == (False, None, None)
    assert fresh["value"]["symbol"] == "AAPL"
    assert fresh["as_of"] == fresh["value"]["last_timestamp"]
    assert 0 <= fresh["age_seconds"] < 5
    assert abs(seconds_left(fresh["fetched_at"])) < 10
    kept = system.json("latest", "quote", "AAPL")
    assert list(kept) == SHAPE
    same = ("outcome", "provider", "value", "as_of", "fetched_at", "stale", "reason", "retry_at")
    assert [kept[name] for name in same] == [fresh[name] for name in same]
    assert (kept["verdict"], system.calls()) == (None, 1)


@pytest.mark.parametrize(
    ("dataset", "symbol", "provider"),
    [
        ("bars", "IBM", "alpha_vantage"),
        ("news", "AAPL", "finnhub"),
        ("filings", "0000320193", "sec_edgar"),
        ("facts", "0000320193:ASSETS", "sec_edgar"),
        ("dividends", "AAPL", "polygon"),
        ("splits", "AAPL", "fmp"),
        ("bars_5m", "AAPL", "alpaca"),
        ("observations", "UNRATE", "fred"),
    ],
)
def test_a_dataset_of_many_records_is_refreshed_kept_and_read_as_a_list(system, dataset, symbol, provider):
    fresh = system.json("refresh", dataset, symbol, "--provider", provider, "--wait", "15")
    assert (fresh["outcome"], fresh["verdict"], fresh["provider"]) == ("fresh", "success", provider), fresh
    kind = DATASETS[dataset]
    records = [kind.model_validate(row) for row in fresh["value"]]
    assert tuple(records) == in_order(records)
    assert fresh["as_of"] == as_of(tuple(records))
    kept = system.json("latest", dataset, symbol)
    assert (kept["outcome"], kept["value"], kept["as_of"]) == ("fresh", fresh["value"], fresh["as_of"])
    lines = system.cli("latest", dataset, symbol).stdout.splitlines()
    assert f"value        {len(records)} records" in lines
    assert json.loads(lines[-1])["provider"] == provider
    assert len(lines) == len(SHAPE) + len(records)


def test_a_reference_is_asked_for_by_post_kept_and_read_and_has_no_time(system):
    fresh = system.json("refresh", "reference", "brk.b", "--wait", "15")
    assert (fresh["outcome"], fresh["verdict"], fresh["provider"]) == ("fresh", "success", "openfigi"), fresh
    assert (fresh["value"]["symbol"], fresh["value"]["ticker"]) == ("BRK.B", "BRK/B")
    assert (fresh["as_of"], fresh["value"]["figi"]) == (None, "BBG000B9XRY4")
    kept = system.json("latest", "reference", "BRK.B")
    assert (kept["outcome"], kept["value"], kept["as_of"]) == ("fresh", fresh["value"], None)
    lines = system.cli("latest", "reference", "BRK.B").stdout.splitlines()
    assert len(lines) == len(SHAPE)
    assert refresh("reference", "UNKNOWN1", wait=15).verdict == "not_found"


def test_an_empty_list_is_an_answer_and_takes_no_kept_value_away(system):
    refresh("news", "AAPL", provider="finnhub", wait=15)
    kept = latest("news", "AAPL")
    empty = system.json("refresh", "news", "UNKNOWN1", "--provider", "finnhub", "--wait", "15")
    assert (empty["outcome"], empty["verdict"], empty["value"]) == ("fresh", "empty", [])
    assert (empty["as_of"], empty["fetched_at"], empty["age_seconds"]) == (None, None, 0)
    assert latest("news", "UNKNOWN1").outcome == "failed"
    assert latest("news", "AAPL").value == kept.value


def test_filings_and_facts_of_a_ticker_are_asked_for_by_the_number_that_a_list_has_of_it(system):
    paths = []

    def asked(dataset, symbol):
        reading = refresh(dataset, symbol, wait=15)
        calls = [call["path"] for call in system.simulator.calls("sec_edgar")]
        new, paths[:] = calls[len(paths) :], calls
        return reading, new

    google, calls = asked("filings", "goog")
    assert calls == ["/files/company_tickers.json", "/submissions/CIK0001652044.json"]
    assert (google.outcome, google.provider) == ("fresh", "sec_edgar")
    assert {(row["symbol"], row["cik"]) for row in google.value} == {("GOOG", "0001652044")}
    # The list is asked for no second time, and a class of shares is in it in another spelling.
    berkshire, calls = asked("filings", "BRK.B")
    assert calls == ["/submissions/CIK0001067983.json"]
    assert {(row["symbol"], row["cik"]) for row in berkshire.value} == {("BRK.B", "0001067983")}
    facts, calls = asked("facts", "AAPL:NETINCOMELOSS")
    assert calls == ["/api/xbrl/companyconcept/CIK0000320193/us-gaap/NetIncomeLoss.json"]
    told = {(row["series_id"], row["symbol"], row["cik"], row["concept"]) for row in facts.value}
    assert told == {("AAPL:NETINCOMELOSS", "AAPL", "0000320193", "NetIncomeLoss")}
    by_number, calls = asked("filings", "0000320193")
    assert (by_number.provider, calls) == ("sec_edgar", ["/submissions/CIK0000320193.json"])
    nobody, calls = asked("facts", "NOBODY:ASSETS")
    assert (nobody.verdict, calls) == ("not_found", [])
    assert "SEC EDGAR lists no NOBODY" in nobody.reason


@pytest.mark.usefixtures("system")
def test_one_of_the_fleet_asks_for_a_list_and_leaves_it_to_the_next_where_it_gets_none():
    directory = ("companies", "SEC:ANOTHER_LIST")

    def asked_in_vain() -> None:
        with directories.claim(directory) as first:
            with directories.claim(directory) as second:
                assert (first, second) == (True, False)
            raise KeyError

    with pytest.raises(KeyError):
        asked_in_vain()
    with directories.claim(directory) as third:
        assert third


def test_a_series_is_asked_of_the_provider_whose_prefix_it_has(system):
    for symbol, provider in (("wb:usa:ny.gdp.mktp.cd", "world_bank"), ("ust:treasury-bills", "us_treasury")):
        reading = refresh("observations", symbol, wait=15)
        assert (reading.outcome, reading.provider, system.calls("fred")) == ("fresh", provider, 0)
        assert {row["series_id"] for row in reading.value} == {symbol.upper()}


@pytest.mark.usefixtures("system")
def test_a_refresh_that_nobody_waits_for_runs_by_itself():
    queued = refresh("quote", "AAPL", provider="finnhub")
    assert queued.outcome != "failed"
    assert queued.outcome != "parked" or queued.reason == "the refresh is queued"
    wait_for(lambda: latest("quote", "AAPL").outcome == "fresh", 10)


def test_an_unknown_symbol_fails_clearly_and_says_nothing_of_the_provider(system):
    done = system.cli("refresh", "quote", "UNKNOWN1", "--provider", "finnhub", "--wait", "15", "--json")
    reading = json.loads(done.stdout)
    assert (done.returncode, reading["outcome"], reading["verdict"]) == (1, "failed", "not_found")
    assert "UNKNOWN1" in reading["reason"]
    assert reading["value"] is None
    assert (system.circuit()["state"], system.circuit()["failures_total"]) == ("closed", 0)


def test_an_unknown_symbol_is_asked_of_each_provider_once_and_harms_none(system):
    for _ in range(2):
        reading = refresh("quote", "UNKNOWN2", wait=30)
        assert (reading.outcome, reading.verdict, reading.provider) == (
            "failed",
            "not_found",
            "alpha_vantage",
        )
    for service in ("alpha_vantage", "finnhub", "yahoo"):
        assert (system.calls(service), system.circuit(service)["failures_total"]) == (1, 0)


def test_an_outage_opens_after_three_failures_then_parks_and_fails_nothing(system):
    refresh("quote", "AAPL", provider="finnhub", wait=15)
    before = system.calls()
    first = system.break_open("5xx")
    circuit = system.circuit()
    assert (circuit["failure_count"], circuit["failures_total"], circuit["reason"]) == (3, 3, "failures")
    assert 50 < seconds_left(circuit["retry_at"]) <= 60
    assert system.transitions()[-1]["failures"] == "3"
    assert system.calls() - before == 3

    more = [system.fetch(f"S{number}") for number in range(20)]
    wait_for(lambda: system.circuit()["parked"] == 21, 15, "all park")
    assert {result.state for result in (first, *more)} == {"PARKED"}
    for result in (first, *more):
        assert result.info.keys() >= {"service", "reason", "retry_at", "since"}
        assert (result.info["service"], result.info["reason"]) == ("finnhub", "failures")
        assert result.info["retry_at"] == circuit["retry_at"]
        assert abs(seconds_left(result.info["since"])) < 30

    stale = latest("quote", "AAPL")
    assert (stale.outcome, stale.stale, stale.provider) == ("stale", True, "finnhub")
    assert "finnhub is open: failures" in stale.reason
    assert stale.age_seconds > 0
    assert stale.retry_at == circuit["retry_at"]

    began = time.monotonic()
    asked = system.json("refresh", "quote", "AAPL", "--provider", "finnhub", "--wait", "30")
    assert (asked["outcome"], asked["stale"], asked["value"]) == ("stale", True, stale.value)
    unknown = system.json("refresh", "quote", "NVDA", "--provider", "finnhub", "--wait", "30")
    assert (unknown["outcome"], unknown["value"], unknown["provider"]) == ("parked", None, "finnhub")
    assert asked["retry_at"] == unknown["retry_at"] == circuit["retry_at"]
    assert time.monotonic() - began < 15, "nobody waits for what cannot come in time"
    assert system.calls() - before == 3, "a dead provider hears nothing more"

    system.simulator.set_mode("finnhub", "ok")
    assert system.cli("circuits", "reset", "finnhub", "--reason", "test").returncode == 0
    assert set(ended(first, *more)) == {"SUCCESS"}
    wait_for(lambda: latest("quote", "NVDA").outcome == "fresh", 10)
    assert latest("quote", "AAPL").outcome == "fresh"
    assert system.circuit()["parked"] == 0
    asked_for = [call["symbol"] for call in system.simulator.calls("finnhub") if call["mode"] == "ok"]
    assert sorted(asked_for) == sorted(["AAPL", "AAPL", "FIRST", "NVDA", *(f"S{n}" for n in range(20))])


@pytest.mark.parametrize("mode", ["down", "garbage", "half"])
def test_a_broken_reply_counts_as_a_failure(system, mode):
    system.break_open(mode)
    assert (system.circuit()["failures_total"], system.circuit()["reason"]) == (3, "failures")


def test_a_lone_task_outlives_the_opening_of_a_circuit(system):
    system.break_open("5xx", "alpha_vantage")  # it parks, and does not fail with the fifth failure
    assert system.circuit("alpha_vantage")["failures_total"] == system.calls("alpha_vantage") == 5


@pytest.mark.parametrize("mode", ["drip", "hang"])
def test_a_reply_without_end_is_a_failure_at_the_deadline(system, mode):
    system.simulator.set_mode("finnhub", mode)
    began = time.monotonic()
    result = system.fetch("AAPL")
    wait_for(lambda: system.circuit()["failures_total"] == 1, 20)
    assert 9 < time.monotonic() - began < 13
    system.simulator.set_mode("finnhub", "ok")
    assert ended(result) == ["SUCCESS"]


@pytest.mark.parametrize(
    ("service", "mode", "reason"),
    [
        ("finnhub", "throttle", "rate_limited"),
        ("alpha_vantage", "throttle", "rate_limited"),
        ("alpha_vantage", "quota", "quota"),
        ("finnhub", "bad_key", "auth"),
        ("alpha_vantage", "bad_key", "auth"),
    ],
)
def test_a_provider_that_asks_for_a_pause_gets_it_and_no_failure_counts(system, service, mode, reason):
    result = system.break_open(mode, service)
    circuit = system.circuit(service)
    assert (circuit["reason"], circuit["failures_total"], circuit["failure_count"]) == (reason, 0, 0)
    assert seconds_left(circuit["retry_at"]) > 0
    assert (result.info["reason"], system.calls(service)) == (reason, 1)
    system.simulator.set_mode(service, "ok")
    get_circuit_breaker(service).reset()
    assert ended(result) == ["SUCCESS"]


def test_an_on_demand_refresh_goes_to_the_next_provider(system):
    assert refresh("quote", "IBM", wait=15).provider == "alpha_vantage", "iex_cloud is retired"
    system.simulator.set_mode("alpha_vantage", "5xx")
    second = refresh("quote", "TSLA", wait=15)
    assert (second.outcome, second.provider, second.value["provider"]) == ("fresh", "finnhub", "finnhub")
    get_circuit_breaker("alpha_vantage").force_open(60)
    before = system.calls("alpha_vantage")
    assert refresh("quote", "NVDA", wait=15).provider == "finnhub"
    assert system.calls("alpha_vantage") == before
    assert latest("quote", "NVDA").provider == "finnhub"


@pytest.mark.usefixtures("system")
def test_a_retired_provider_asked_by_name_fails_clearly():
    reading = refresh("quote", "IBM", provider="iex_cloud", wait=15)
    assert (reading.outcome, reading.verdict) == ("failed", "retired")
    assert "iex_cloud" in reading.reason


@pytest.mark.usefixtures("system")
def test_with_every_provider_shut_a_refresh_parks_and_comes_back():
    alive = [service for service in ORDER["quote"] if not PROVIDERS[service].retired]
    for service in alive:
        get_circuit_breaker(service).force_open(60)
    reading = refresh("quote", "IBM", wait=10)
    assert reading.outcome == "parked"
    assert seconds_left(reading.retry_at) > 0
    for service in alive:
        get_circuit_breaker(service).reset()
    wait_for(lambda: latest("quote", "IBM").outcome == "fresh", 15)


def test_a_recovered_provider_finishes_every_parked_task_once(system):
    first = system.break_open("down")
    tasks = [first, *(system.fetch(f"T{number}") for number in range(30))]
    wait_for(lambda: system.circuit()["parked"] == 31, 15)
    system.simulator.set_mode("finnhub", "ok")
    get_circuit_breaker("finnhub").reset()
    assert ended(*tasks) == ["SUCCESS"] * 31
    calls = [call["symbol"] for call in system.simulator.calls("finnhub")]
    assert sorted(calls) == sorted(["FIRST", *(f"T{number}" for number in range(30))])
    circuit = system.circuit()
    assert (circuit["parked"], circuit["released_total"]) == (0, circuit["parked_total"])


def test_a_scheduled_task_that_expires_while_parked_is_revoked_without_a_call(system):
    system.break_open("5xx")
    before = system.calls()
    late, patient = system.fetch("LATE", expires=2), system.fetch("PATIENT", expires=600)
    wait_for(lambda: (late.state, patient.state) == ("PARKED", "PARKED"), 10)
    assert ended(late) == ["REVOKED"]
    assert patient.state == "PARKED"
    assert system.calls() == before
    wait_for(lambda: system.circuit()["parked"] == 2, 10, "the first one and the patient one")
    system.simulator.set_mode("finnhub", "ok")
    get_circuit_breaker("finnhub").reset()
    assert ended(patient) == ["SUCCESS"]


def test_many_refreshes_of_one_key_at_once_make_one_call(system):
    system.simulator.set_mode("finnhub", "slow", 2)

    def ask(_: int) -> Any:
        system.app.set_current()
        try:
            return refresh("quote", "AAPL", provider="finnhub", wait=20)
        finally:
            system.hang_up()

    with ThreadPoolExecutor(20) as pool:
        readings = list(pool.map(ask, range(20)))
    assert {reading.outcome for reading in readings} == {"fresh"}
    assert len({reading.fetched_at for reading in readings}) == 1
    assert system.calls() == 1
    system.simulator.set_mode("finnhub", "ok")
    assert refresh("quote", "AAPL", provider="finnhub", wait=20).outcome == "fresh"
    assert system.calls() == 2, "the next one is a new one"


@pytest.mark.usefixtures("system")
def test_a_refresh_that_could_not_be_sent_blocks_no_later_one(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("CELERY_BROKER_WRITE_URL", f"redis://127.0.0.1:{free_port()}/0")
        connections.close()  # one that was just used leads to the other broker
        reading = refresh("quote", "AAPL", provider="finnhub", wait=5)
    assert reading.outcome == "failed"
    assert "CELERY_BROKER_URL" in reading.reason
    assert refresh("quote", "AAPL", provider="finnhub", wait=15).outcome == "fresh"


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("fetch", ("nope", "AAPL"), "unknown dataset 'nope'"),
        ("fetch", ("observations", "AAPL"), "finnhub does not serve the dataset 'observations'"),
        ("refresh", ("weather", "AAPL"), "unknown dataset 'weather'"),
        ("fetch", ("quote", "../etc"), "invalid symbol '../etc'"),
        ("refresh", ("quote", 5), "invalid symbol 5"),
        ("fetch", ("quote", None), "invalid symbol None"),
        ("fetch", (["quote"], "AAPL"), "is no text"),
        ("refresh", ("quote", "AAPL", "nope"), "unknown service 'nope'"),
        ("refresh", ("quote", "AAPL", ["finnhub"]), "is no text"),
        ("refresh", (), "missing"),
        ("fetch", ("quote", "AAPL", None, "more"), "argument"),
    ],
)
def test_arguments_that_make_no_sense_end_in_a_clear_failure(system, name, arguments, named):
    result = system.app.send_task(f"tasks.finnhub.{name}", arguments)
    assert ended(result) == ["FAILURE"]
    assert named in str(result.result)
    if "missing" not in named and "argument" not in named:
        assert isinstance(result.result, InputError)
    assert (system.calls(), system.circuit()["failures_total"]) == (0, 0)


def test_an_unknown_task_is_left_to_celery_and_disturbs_nothing(system):
    result = system.app.send_task("tasks.nobody.fetch", ("quote", "AAPL"), queue="finnhub.scheduled")
    wait_for(lambda: result.state in FINAL, 15)
    assert isinstance(result.result, NotRegistered)
    assert ended(system.fetch("AAPL")) == ["SUCCESS"]


@pytest.mark.parametrize("state", ["closed", "open"])
def test_malformed_messages_disturb_nothing(system, state):
    if state == "open":
        get_circuit_breaker("finnhub").force_open(600)
        wait_for(lambda: system.fetch("AAPL").state == "PARKED" or system.circuit()["parked"], 10)
    headers = {"task": "tasks.finnhub.fetch", "lang": "py"}
    with system.app.producer_pool.acquire(block=True) as producer:
        for place, (body, content_type, more) in enumerate(
            [
                ("no json", "application/json", {}),
                ("{}", "application/json", {}),
                ("[]", "application/json", {}),
                ('[["quote", "AAPL"]]', "application/json", {}),
                ('["quote", {}, {}]', "application/json", {}),
                (b"\xff\xfe", "application/x-python-serialize", {}),
                ('[["quote", "AAPL"], {}, {}]', "text/unknown", {}),
                ('[["quote", "AAPL"], {}, {}]', "application/json", {"task": None}),
                ('[["quote", "AAPL"], {}, {}]', "application/json", {"id": None}),
                ('[["quote", "AAPL"], {}, {}]', "application/json", {"expires": "never"}),
                ('[["quote", "AAPL"], {}, {}]', "application/json", {"eta": "later"}),
            ]
        ):
            sent = {
                name: value
                for name, value in ({**headers, "id": f"malformed-{place}"} | more).items()
                if value
            }
            producer.publish(
                body,
                exchange="tasks",
                routing_key="finnhub.scheduled",
                content_type=content_type,
                content_encoding="utf-8",
                headers=sent,
            )
        producer.publish("{}", exchange="tasks", routing_key="finnhub.on_demand", content_type="text/plain")
    if state == "open":
        wait_for(lambda: not system.broker.llen("finnhub.scheduled"), 15)
        get_circuit_breaker("finnhub").reset()
    assert ended(system.fetch("MSFT")) == ["SUCCESS"]
    assert refresh("quote", "NVDA", provider="finnhub", wait=15).outcome == "fresh"
    wait_for(lambda: system.circuit()["parked"] == 0, 15)
    assert system.circuit()["failures_total"] == 0


def test_no_key_is_ever_written_anywhere(system):
    with system.overheard() as events:
        for service in ("finnhub", "alpha_vantage"):
            refresh("quote", "AAPL", provider=service, wait=15)
            refresh("quote", "UNKNOWN", provider=service, wait=15)
            for mode in ("throttle", "quota", "bad_key", "garbage", "half", "5xx", "down"):
                system.simulator.set_mode(service, mode)
                tried = system.fetch("MSFT", service)
                refresh("quote", "NVDA", provider=service, wait=1)
                wait_for(lambda tried=tried: tried.state == "PARKED", 10)
                system.simulator.set_mode(service, "ok")
                get_circuit_breaker(service).reset()
                assert ended(tried) == ["SUCCESS"]
    texts = [*system.everything(), *events]
    for seen in ("tasks.finnhub.fetch", "task-retried", "task-succeeded"):
        assert any(seen in text for text in texts), seen
    for key in KEYS.values():
        assert not [text[:200] for text in texts if key in text]


def test_nothing_from_outside_forges_a_line_of_the_log_or_acts_on_its_reader(system):
    forged = "\n[2001-01-01 00:00:00,000: INFO/MainProcess] \x1b[2Kall is well"
    get_circuit_breaker("finnhub").force_open(600, f"moving{forged}", f"ann{forged}")
    system.app.send_task("resilience.publish", queue="default")
    system.fetch("AAPL", task_id=f"parked{forged}", argsrepr=forged)
    system.app.send_task(f"nobody{forged}", task_id=f"unknown{forged}", queue="finnhub.scheduled")
    ended(
        system.app.send_task("tasks.alpha_vantage.fetch", ("quote", f"A{forged}"), task_id=f"failed{forged}")
    )
    log = system.folder / "worker.log"
    told = ("circuit of finnhub: ", "by ann", "received", "unregistered task", "invalid symbol")
    wait_for(lambda: all(text in log.read_text("utf-8") for text in told), 20, "all of it is logged")
    get_circuit_breaker("finnhub").reset()
    wait_for(lambda: "parked\n  [2001" in log.read_text("utf-8"), 20, "the parked one runs")
    text = log.read_text("utf-8")
    assert [line for line in text.splitlines() if line.startswith("[2001")] == []
    assert "\x1b" not in text


def test_nothing_from_outside_is_a_metrics_label(system):
    odd = 'he said "no\\n" {x="y"} 1'
    get_circuit_breaker("finnhub").force_open(600, odd, odd)
    system.fetch("AAPL", argsrepr=odd)
    name = 'odd"\\'
    CIRCUIT_BREAKERS[name] = CircuitBreaker(name)
    try:
        CIRCUIT_BREAKERS[name].force_open(60, odd, odd)
        registry = CollectorRegistry()
        registry.register(CircuitCollector())
        told = generate_latest(registry).decode()
        assert "he said" not in told
        services = {
            sample.labels["service"]
            for family in text_string_to_metric_families(told)
            for sample in family.samples
            if "service" in sample.labels
        }
        assert services == {*CIRCUIT_BREAKERS}
    finally:
        del CIRCUIT_BREAKERS[name]
        get_circuit_breaker("finnhub").reset()
