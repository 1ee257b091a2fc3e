"""What no plan has, or is retired, is told once and not asked again: a real worker, providers that say so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from resilience import get_circuit_breaker
from tasks import entitlement, refresh
from tasks.providers import PROVIDERS
from tests.contract.replies import MODULES, encoded
from tests.fleet import wait_for
from tests.system import FINAL, System
from tests.wire import response, server_saying

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_IN_PLAN = {"status": "NOT_AUTHORIZED", "message": "You are not entitled to this data."}
PREMIUM = {"Information": "Thank you! This is a premium endpoint. You may subscribe to a premium plan"}
NO_ACCESS = {"error": "You don't have access to this resource."}
# Quandl has a series that is retired, Polygon no quotes, Alpha Vantage nothing, Finnhub no shares of Tokyo.
ANSWERS = (
    (b"/LBMA/SILVER", MODULES["quandl"].GONE, "404 Not Found"),
    (b"/datasets/", MODULES["quandl"].series(), "200 OK"),
    (b"/v2/snapshot", NOT_IN_PLAN, "403 Forbidden"),
    (b"/v2/reference/news", {"results": [], "status": "OK"}, "200 OK"),
    (b"apikey=", PREMIUM, "200 OK"),
    (b".T", NO_ACCESS, "403 Forbidden"),
    (b"", MODULES["finnhub"].QUOTE, "200 OK"),
)
SERVICES = ("polygon", "alpha_vantage", "finnhub", "quandl")


def answer(request: bytes) -> bytes:
    """The first of ANSWERS whose part is in what was asked for."""
    line = request.partition(b"\r\n")[0]
    body, status = next(reply for part, *reply in ANSWERS if part in line)
    return response(encoded(body), status=status)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, list[bytes]]]:
    with server_saying(answer) as (settings, heard):
        made = System(tmp_path_factory.mktemp("plans"))
        try:
            for service in SERVICES:
                made.environment[f"{service.upper()}_BASE_URL"] = settings.base_url(service)
            made.worker()
            yield made, heard
        finally:
            made.close()


@pytest.fixture
def system(running: tuple[System, list[bytes]]) -> System:
    made, heard = running
    for service in SERVICES:
        assert made.cli("circuits", "reset", service).returncode == 0
    wait_for(lambda: not made.store.exists(entitlement.KEY), 5, "nothing is noted")
    heard.clear()
    return made


@pytest.fixture
def heard(running: tuple[System, list[bytes]]) -> list[bytes]:
    return running[1]


def seen_by_the_worker(system: System) -> None:
    """Its processes look at the notes once a second; a task of another dataset shows that time has passed."""
    since = system.store.time()[0]
    wait_for(lambda: system.store.time()[0] > since + 1, 5, "a second passes on the store's clock")


def test_a_dataset_outside_the_plan_is_asked_for_once_and_told_once(
    system: System, heard: list[bytes]
) -> None:
    first = refresh("quote", "AAPL", provider="polygon", wait=15)
    assert (first.outcome, first.verdict, len(heard)) == ("failed", "entitlement", 1)
    seen_by_the_worker(system)
    scheduled = [system.fetch(symbol, "polygon") for symbol in ("AAPL", "IBM", "TSLA")]
    wait_for(lambda: all(result.state in FINAL for result in scheduled), 15, "they end")
    assert {result.state for result in scheduled} == {"FAILURE"}
    again = refresh("quote", "MSFT", provider="polygon", wait=15)
    assert (again.outcome, again.verdict) == ("failed", "entitlement")
    assert "circuits reset polygon" in again.reason
    assert len(heard) == 1, "nobody asked again"
    assert refresh("news", "AAPL", provider="polygon", wait=15).verdict == "empty", "other datasets are fine"
    circuit = system.circuit("polygon")
    assert (circuit["state"], circuit["allowed_total"]) == ("closed", 2), (
        "no permit is spent on what is known"
    )
    log = (system.folder / "worker.log").read_text()
    assert (
        len(re.findall(r"WARNING.*quote of AAPL: Polygon: not in this plan; not asked again for 24 h", log))
        == 1
    )


def test_operators_see_it_and_a_reset_has_it_asked_again(system: System, heard: list[bytes]) -> None:
    refresh("quote", "AAPL", provider="polygon", wait=15)
    shown = system.json("circuits", "show", "polygon")
    (noted,) = shown["not_in_plan"]
    assert (noted["dataset"], noted["symbol"], len(noted["key"])) == ("quote", None, 12)
    listed = system.json("circuits", "list")["circuit_breakers"]
    assert {row["service"]: row["not_in_plan"] for row in listed if row["not_in_plan"]} == {
        "polygon": [noted]
    }
    assert f"quote until {noted['until']}" in system.cli("circuits", "show", "polygon").stdout
    assert system.json("circuits", "reset", "polygon")["not_in_plan"] == []
    seen_by_the_worker(system)
    refresh("quote", "AAPL", provider="polygon", wait=15)
    assert len(heard) == 2


def test_operators_are_told_what_is_left_of_a_provider(system: System) -> None:
    shown = system.json("circuits", "show", "quandl")
    assert (shown["state"], shown["provider_note"]) == ("closed", PROVIDERS["quandl"].note)
    listed = {row["service"]: row for row in system.json("circuits", "list")["circuit_breakers"]}
    assert (listed["stooq"]["reason"], listed["finnhub"]["provider_note"]) == ("retired", "")
    assert "browser's proof of work" in system.cli("circuits", "show", "stooq").stdout


def test_an_on_demand_refresh_passes_over_who_does_not_have_it(system: System, heard: list[bytes]) -> None:
    assert refresh("quote", "IBM", wait=15).provider == "finnhub"
    assert sum(b"apikey=" in request for request in heard) == 1
    seen_by_the_worker(system)
    assert refresh("quote", "TSLA", wait=15).provider == "finnhub"
    assert sum(b"apikey=" in request for request in heard) == 1


def test_where_plans_list_symbols_the_others_are_asked_all_the_same(
    system: System, heard: list[bytes]
) -> None:
    assert refresh("quote", "7203.T", provider="finnhub", wait=15).verdict == "entitlement"
    seen_by_the_worker(system)
    assert refresh("quote", "AAPL", provider="finnhub", wait=15).outcome == "fresh"
    assert refresh("quote", "7203.T", provider="finnhub", wait=15).verdict == "entitlement"
    assert len(heard) == 2
    (noted,) = system.json("circuits", "show", "finnhub")["not_in_plan"]
    assert noted["symbol"] == "7203.T"


def test_a_retired_series_fails_clearly_and_its_provider_is_asked_for_the_others(
    system: System, heard: list[bytes]
) -> None:
    gone = refresh("observations", "LBMA:SILVER", wait=15)
    assert (gone.outcome, gone.verdict, gone.provider) == ("failed", "retired", "quandl")
    assert "Quandl: the series is retired" in gone.reason
    again = refresh("observations", "LBMA:SILVER", wait=15)
    assert again.outcome == "failed"
    assert "Quandl: the series is retired (said " in again.reason
    assert len(heard) == 1, "nobody asked again"
    assert refresh("observations", "LBMA:GOLD", wait=15).outcome == "fresh"
    assert system.circuit("quandl")["state"] == "closed"


@pytest.mark.usefixtures("system")
def test_another_key_is_asked_and_a_note_ends_by_itself() -> None:
    assert entitlement.note("polygon", "bars", "one", "AAPL", 86_400)
    assert not entitlement.note("polygon", "bars", "one", "IBM", 86_400), "told already"
    assert entitlement.missing_until("polygon", "bars", "one", "TSLA")
    assert entitlement.missing_until("polygon", "bars", "other", "TSLA") is None
    assert entitlement.missing_until("polygon", "news", "one", "TSLA") is None
    assert entitlement.note("polygon", "news", "one", "AAPL", 1)
    wait_for(lambda: entitlement.missing_until("polygon", "news", "one", "AAPL") is None, 10, "it lapses")
    assert entitlement.note("polygon", "news", "one", "AAPL", 86_400), "new again"
    assert get_circuit_breaker("polygon").read().reason is None
