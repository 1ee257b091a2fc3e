"""``circuits explain``: the chain from a value to what holds it up, with a real worker and a simulator."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from resilience import Reason, Verdict, get_circuit_breaker
from tests.fleet import wait_for
from tests.ports import free_port
from tests.system import System, running_system

if TYPE_CHECKING:
    from collections.abc import Iterator

CELERY = "celery -A workers"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("explain")) as made:
        yield made


@pytest.fixture
def system(running: System) -> System:
    running.calm()
    return running


def explained(system: System, symbol: str = "AAPL", **environment: str) -> dict[str, Any]:
    done = system.cli("circuits", "explain", "quote", symbol, "--json", **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def source(found: dict[str, Any], service: str = "finnhub") -> dict[str, Any]:
    [row] = [row for row in found["providers"] if row["service"] == service]
    return row


def test_a_fresh_value_needs_nothing(system):
    system.fetch("AAPL").get(timeout=20)
    found = explained(system)
    assert found["kept"]["provider"] == "finnhub"
    assert (found["kept"]["stale"], found["kept"]["reason"]) == (False, None)
    assert (found["kept"]["fresh_seconds"], found["kept"]["max_seconds"]) == (60, 5 * 86_400)
    assert found["why"].startswith("it is not stale: finnhub gave it ")
    assert found["remedy"] == "nothing"
    services = [row["service"] for row in found["providers"]]
    assert services[:3] == ["iex_cloud", "alpha_vantage", "finnhub"], "the dataset's order"
    assert source(found, "iex_cloud")["obstacle"].startswith("iex_cloud is retired: all products were")


def test_a_value_whose_circuit_is_open_tells_what_waits_and_who_else_can_be_asked(system):
    system.fetch("AAPL").get(timeout=20)
    system.break_open("5xx")
    waiting = [system.fetch("AAPL"), system.fetch("aapl"), system.fetch("MSFT")]
    wait_for(lambda: {task.state for task in waiting} == {"PARKED"}, 20, "they wait")
    found = explained(system)
    row = source(found)
    assert (row["state"], row["reason"], row["parked"]) == ("open", "failures", 2), "neither MSFT nor FIRST"
    assert row["evidence"].startswith("3 failures in a row, the last ")
    assert ": provider_failure: Finnhub answered 502" in row["evidence"]
    assert row["retry_at"] > row["since"]
    assert (found["kept"]["stale"], found["parked"]) == (True, 2)
    assert found["parked_since"] == row["parked_since"]
    assert "by finnhub, and the circuit of finnhub is open and has been for " in found["why"]
    assert found["why"].endswith(": failures")
    assert f"{CELERY} circuits release finnhub tries it at once" in found["remedy"]
    assert found["remedy"].endswith(f"{CELERY} refresh quote AAPL asks alpha_vantage meanwhile")

    told = system.cli("circuits", "explain", "quote", "aapl").stdout
    assert found["remedy"].partition("; ")[2] in told, "in one piece, to be copied"
    for part in ("by finnhub, fetched ", "stale: the circuit of finnhub is open", "2, the oldest for "):
        assert part in told


def test_what_was_never_fetched_has_the_command_that_fetches_it(system):
    found = explained(system, "NEVERX")
    assert (found["kept"], found["parked"]) == (None, 0)
    assert "never fetched" in found["why"]
    assert "no fetch of it is parked" in found["why"]
    assert found["remedy"].startswith(f"{CELERY} refresh quote NEVERX")


def test_a_value_older_than_its_target_is_told_from_one_that_is_none(system):
    system.fetch("AAPL").get(timeout=20)
    wait_for(lambda: explained(system)["kept"]["age_seconds"] > 1, 20, "it is a second old")
    stale = explained(system, QUOTE_FRESH_SECONDS="1")
    assert "old, by finnhub, and nobody is asking" in stale["why"]
    assert stale["remedy"].startswith(f"{CELERY} refresh quote AAPL")
    none = explained(system, QUOTE_FRESH_SECONDS="1", QUOTE_MAX_SECONDS="1")
    assert "which is no value: more than 1s" in none["why"]


def test_a_symbol_nobody_knows_is_told_with_who_says_so(system):
    system.json("refresh", "quote", "UNKNOWN1", "--wait", "20")
    found = explained(system, "UNKNOWN1")
    assert found["told_not_found"]
    assert found["why"].startswith(
        "nobody who could be asked knows such a symbol: unknown to alpha_vantage, "
    )
    assert "NOT_FOUND_SECONDS=600" in found["why"]
    assert f"{CELERY} refresh quote UNKNOWN1 --provider NAME" in found["remedy"]
    assert source(found, "alpha_vantage")["told_not_found"]
    assert source(found, "finnhub")["told_not_found"]
    assert source(found, "iex_cloud")["told_not_found"] is None, "it is retired, and was not asked"


def test_a_pause_for_the_quota_ends_by_itself(system):
    system.fetch("AAPL").get(timeout=20)
    system.simulator.set_mode("finnhub", "throttle")
    held = system.fetch("AAPL")
    wait_for(lambda: held.state == "PARKED" and system.circuit()["parked"] == 1, 20, "it waits")
    found = explained(system)
    row = source(found)
    assert (row["state"], row["reason"], row["parked"]) == ("open", system.circuit()["reason"], 1)
    assert row["reason"] in ("quota", "rate_limited")
    assert found["why"].endswith(f": {row['reason']}")
    assert found["remedy"].startswith("nothing, it is tried again in ")


def test_a_quota_that_is_used_up_tells_when_the_next_call_may_go(system):
    breaker = get_circuit_breaker("finnhub")
    breaker.override({"quota_calls": 1, "quota_seconds": 3600}, 60)
    try:
        system.fetch("AAPL").get(timeout=20)
        held = system.fetch("AAPL")
        wait_for(lambda: held.state == "PARKED", 20, "it waits")
        found = explained(system, QUOTE_FRESH_SECONDS="1", QUOTE_MAX_SECONDS="600")
        assert (source(found)["state"], source(found)["quota_left"]) == ("closed", 0)
        assert source(found)["obstacle"] == "the quota of finnhub is used up (1 calls in 3600 s)"
        assert re.match(r"nothing, its next call may go in (1h|59m)", source(found)["remedy"])
    finally:
        breaker.end_override()
        assert system.cli("circuits", "release", "finnhub").returncode == 0
        breaker.reset()


@pytest.mark.parametrize(
    ("service", "key", "asked", "why", "remedy"),
    [
        ("sec_edgar", "", ("filings", "0000320193"), "SEC_EDGAR_CONTACT is not set where", "put it in their"),
        (
            *("sec_edgar", "0123456789ab", ("filings", "0000320193"), "sec_edgar has refused its contact"),
            "mend SEC_EDGAR_CONTACT and restart the workers",
        ),
        (
            *("finnhub", "0123456789ab", ("quote", "AAPL"), "finnhub has refused its key"),
            "mend FINNHUB_API_KEY and restart the workers",
        ),
        (
            *("world_bank", "", ("observations", "WB:USA:SP.POP.TOTL"), "world_bank has turned us away"),
            f"{CELERY} circuits reset world_bank",
        ),
    ],
)
def test_who_is_not_let_in_is_told_by_the_variable_that_lets_one_in(system, service, key, asked, why, remedy):
    breaker = get_circuit_breaker(service)
    breaker.key = lambda: key
    try:
        permit = breaker.acquire()
        breaker.report(permit, Verdict.HOLD, hold_seconds=600, reason=Reason.AUTH)
        found = json.loads(system.cli("circuits", "explain", *asked, "--json").stdout)
        assert source(found, service)["obstacle"].startswith(why)
        assert remedy in source(found, service)["remedy"]
    finally:
        breaker.key = str
        breaker.reset()


def test_an_operators_word_is_told_with_its_author_and_the_command_that_ends_it(system):
    system.fetch("AAPL").get(timeout=20)
    get_circuit_breaker("finnhub").force_open(600, "they are moving", "ann")
    found = explained(system)
    assert source(found)["evidence"] == "by ann: they are moving"
    assert "ann has forced the circuit of finnhub open (they are moving), for " in found["why"]
    assert found["remedy"].startswith(f"{CELERY} circuits reset finnhub takes that back")


def test_a_dataset_or_symbol_that_cannot_be_is_a_usage_error_with_the_remedy(system):
    for arguments, told in (
        (("nope", "AAPL"), ["'nope'", "known are quote"]),
        (("quote", "../etc"), ["'../etc'", "AAPL"]),
        (("bars", "AAPL", "--adjustment", "half"), ["'half'", "raw"]),
    ):
        done = system.cli("circuits", "explain", *arguments)
        assert done.returncode == 2, done
        assert [part for part in told if part not in done.stderr] == []
        assert "Traceback" not in done.stderr


def test_without_the_store_nothing_is_explained_and_it_is_named(system):
    port = free_port()
    done = system.cli(
        *("circuits", "explain", "quote", "AAPL"),
        RESILIENCE_STORE_URL=f"redis://:hidden@127.0.0.1:{port}/2",
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the breaker store at 127.0.0.1:{port}/2 does not answer: start it" in done.stderr
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr
