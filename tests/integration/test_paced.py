"""A real worker keeps to the quotas of providers that refuse what is above them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fleet import wait_for
from tests.system import FINAL, System
from workers.simulator.quotas import circuits

if TYPE_CHECKING:
    from pathlib import Path

# A day lasts six seconds.
FASTER = 14_400


def test_a_worker_makes_no_call_above_a_providers_quota_and_each_task_its_own(tmp_path: Path) -> None:
    file = tmp_path / "circuits.toml"
    file.write_text(circuits(FASTER), "utf-8")
    system = System(tmp_path)
    try:
        system.simulator.enforce_quotas(FASTER)
        options = ("-l", "INFO", "-c", "2", "-n", "paced@test", "--without-mingle", "--without-gossip")
        system.celery("paced", "worker", *options, CIRCUITS_FILE=str(file)).ready()
        wanted = {  # more than a window's of each
            "eodhd": ("quote", "AAPL{}", 22),  # a day of the clock
            "news_api": ("news", "AAPL{}", 52),  # any twelve hours
            "sec_edgar": ("filings", "10000000{:02}", 20),  # any second, then shut for ten minutes
        }
        results = [
            system.app.send_task(f"tasks.{service}.fetch", (dataset, symbol.format(number)))
            for service, (dataset, symbol, calls) in wanted.items()
            for number in range(calls)
        ]
        wait_for(lambda: all(result.state in FINAL for result in results), 60, "all have ended")
        assert {result.state for result in results} == {"SUCCESS"}
        states = system.simulator.providers()
        for service, (_, _, calls) in wanted.items():
            state = states[service]
            assert (service, state["calls"], state["refusals"], state["above"]) == (service, calls, 0, 0)
    finally:
        system.close()
