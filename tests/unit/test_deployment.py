"""What docker compose passes on and serves: every provider of the catalogue, not those of an earlier day."""

from __future__ import annotations

import re

import pytest

from resilience.parking import Lane
from tasks.fetch import queue_of
from tasks.providers import PROVIDERS
from tasks.records import DATASETS
from tests.fleet import ROOT

COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
SIMULATED = dict(
    re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / "deploy/simulator.env").read_text("utf-8"), re.MULTILINE)
)
FIRST_PORT = 8901


@pytest.mark.parametrize("service", PROVIDERS)
def test_a_providers_settings_reach_the_workers(service: str) -> None:
    row, prefix = PROVIDERS[service], service.upper()
    wanted = {f"{prefix}_BASE_URL"}
    wanted |= {f"{prefix}_API_KEY"} if row.auth else set()
    wanted |= {f"{prefix}_CONTACT"} if row.contact_required else set()
    wanted |= {f"{prefix}_PLAN"} if row.plans else set()
    passed_on = set(re.findall(r"^    ([A-Z_]+):$", COMPOSE, re.MULTILINE))
    assert wanted <= passed_on
    told = (ROOT / ".env.example").read_text("utf-8")
    assert row.retired or all(f"#{name}=" in told for name in wanted - {f"{prefix}_BASE_URL"})


def test_what_the_age_of_a_value_means_reaches_whoever_fetches_or_reads_one() -> None:
    ages = COMPOSE.partition("x-ages: &ages")[2].partition("\n\n")[0]
    wanted = {f"{dataset.upper()}_{kind}_SECONDS" for dataset in DATASETS for kind in ("FRESH", "MAX")}
    assert set(re.findall(r"^  ([A-Z0-9_]+):$", ages, re.MULTILINE)) == wanted
    assert COMPOSE.count("*ages]") == 2, "workers and beat, and flower"
    assert re.search(r"^    NOT_FOUND_SECONDS:$", COMPOSE, re.MULTILINE)
    told = (ROOT / ".env.example").read_text("utf-8")
    assert all(
        f"#{name}=" in told for name in ("QUOTE_FRESH_SECONDS", "QUOTE_MAX_SECONDS", "NOT_FOUND_SECONDS")
    )


def test_the_worker_for_what_is_on_demand_takes_it_from_all() -> None:
    queues = re.findall(r"^      -Q (\S+)$", COMPOSE, re.MULTILINE)
    assert [sorted(found.split(",")) for found in queues] == [
        sorted(queue_of(service, Lane.ON_DEMAND) for service in PROVIDERS)
    ]


def test_every_living_provider_can_be_simulated_at_its_own_port() -> None:
    for port, (service, row) in enumerate(PROVIDERS.items(), FIRST_PORT):
        if row.retired is None:
            assert SIMULATED[f"{service.upper()}_BASE_URL"] == f"http://simulator:{port}"
            assert not row.key_required or row.auth is None or SIMULATED[f"{service.upper()}_API_KEY"]
