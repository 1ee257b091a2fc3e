"""The real simulator, one process for the whole run; a test gets it with default modes and no calls."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.providers import PROVIDERS, Provider
from tasks.settings import ProviderSettings, provider_settings
from workers.simulator import SimulatorClient

ODD_KEYS = {"finnhub": "fhTestKey+with/odd=chars"}


def _setting(service: str, row: Provider) -> dict[str, str]:
    pair = row.auth is not None and row.auth.style == "pair"
    made_up = (
        f"{service}Id0123456789:{service}Secret+with/odd=chars" if pair else f"{service}TestKey0123456789"
    )
    found = {f"{service}_api_key": ODD_KEYS.get(service, made_up)} if row.auth else {}
    return found | ({f"{service}_contact": "Test admin@example.com"} if row.contact_required else {})


KEYS = {name: value for service, row in PROVIDERS.items() for name, value in _setting(service, row).items()}
"""A made-up key, or a contact, for each provider that wants one."""


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[dict[str, Any]]:
    """The started process's ready line: control_url, control_port, providers."""
    command = [sys.executable, "-m", "workers.simulator", "--control-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        line = process.stdout.readline()
        assert line, f"the simulator ended with {process.wait()}"
        yield json.loads(line)
        process.terminate()
        assert process.wait(10) == 0


@pytest.fixture
def simulator(simulator_process: dict[str, Any]) -> SimulatorClient:
    client = SimulatorClient(simulator_process["control_url"])
    client.reset()
    return client


@pytest.fixture
def simulated_settings(simulator_process: dict[str, Any]) -> ProviderSettings:
    """Provider settings with made-up keys and the simulator's addresses."""
    addresses = {
        f"{service}_base_url": provider["base_url"]
        for service, provider in simulator_process["providers"].items()
    }
    return ProviderSettings(**KEYS, **addresses)


@pytest.fixture
def simulated_environment(
    simulator_process: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The same as environment variables, for code that reads the process's own settings."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    for service, provider in simulator_process["providers"].items():
        monkeypatch.setenv(f"{service.upper()}_BASE_URL", provider["base_url"])
    provider_settings.cache_clear()
    yield
    provider_settings.cache_clear()
