"""Tickers where a provider wants numbers: its own list, asked for once, tells which is which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from resilience.parking import Lane
from tasks import directories, fetch
from tasks.fetch import FetchError, FetchTask
from workers.simulator import Mode

if TYPE_CHECKING:
    from tasks.settings import ProviderSettings
    from workers.simulator import SimulatorClient

LIST = "/files/company_tickers.json"


class Fetch(FetchTask):
    """As the app's; the app itself would set up all circuits of this process."""

    name = "tasks.sec_edgar.fetch"
    service = "sec_edgar"
    services = ("sec_edgar",)
    lane = Lane.SCHEDULED


TASK = Celery("directories", set_as_current=False).register_task(Fetch())


@pytest.fixture(autouse=True)
def nothing_read(monkeypatch: pytest.MonkeyPatch, simulated_settings: ProviderSettings) -> None:
    monkeypatch.setattr(fetch, "provider_settings", lambda: simulated_settings)
    monkeypatch.setattr(directories, "_read", {})


def ask(dataset: str, symbol: str) -> list[dict[str, Any]]:
    """Called as a function: without a message that could wait, and here without a shared store."""
    value: list[dict[str, Any]] = TASK(dataset, symbol)["value"]
    return value


def paths(simulator: SimulatorClient) -> list[str]:
    return [call["path"] for call in simulator.calls("sec_edgar")]


def test_the_list_is_asked_for_once_and_a_number_needs_none(simulator: SimulatorClient) -> None:
    assert {row["cik"] for row in ask("filings", "0000320193")} == {"0000320193"}
    assert paths(simulator) == ["/submissions/CIK0000320193.json"]
    for ticker in ("AAPL", "GOOG", "brk.b", "BRK-B"):
        assert {row["symbol"] for row in ask("filings", ticker)} == {ticker.upper().replace("-", ".")}
    assert paths(simulator)[1:] == [
        LIST,
        "/submissions/CIK0000320193.json",
        "/submissions/CIK0001652044.json",
        "/submissions/CIK0001067983.json",
        "/submissions/CIK0001067983.json",
    ]
    (fact, _) = ask("facts", "BRK.B:REVENUES")
    assert (fact["series_id"], fact["symbol"], fact["cik"]) == ("BRK.B:REVENUES", "BRK.B", "0001067983")


def test_a_ticker_that_is_not_listed_is_not_found_without_another_call(simulator: SimulatorClient) -> None:
    with pytest.raises(FetchError, match="SEC EDGAR lists no ZZZTOP") as caught:
        ask("facts", "ZZZTOP:ASSETS")
    assert (caught.value.verdict, paths(simulator)) == ("not_found", [LIST])


@pytest.mark.parametrize(
    ("mode", "verdict"), [(Mode.SERVER_ERROR, "provider_failure"), (Mode.THROTTLE, "rate_limit")]
)
def test_a_list_that_is_refused_is_a_refusal_as_any(
    simulator: SimulatorClient, mode: Mode, verdict: str
) -> None:
    simulator.set_mode("sec_edgar", mode)
    with pytest.raises(FetchError, match="sec_edgar has no companies of SEC:COMPANY_TICKERS") as caught:
        ask("filings", "AAPL")
    assert (caught.value.verdict, paths(simulator)) == (verdict, [LIST])


def test_the_list_is_at_another_host_of_the_providers() -> None:
    endpoints = fetch.PROVIDERS["sec_edgar"].endpoints
    assert endpoints["companies"].host == "https://www.sec.gov"
    for dataset in ("filings", "facts"):
        directory, symbol = endpoints[dataset].directory
        assert endpoints[directory].spelling(symbol) == "COMPANY_TICKERS"
