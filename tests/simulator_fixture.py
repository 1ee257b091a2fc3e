"""The real simulator, one process for the whole run; a test gets it with default modes and no calls."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.settings import ProviderSettings, provider_settings
from workers.simulator import SimulatorClient

KEYS = {
    "iex_cloud_api_key": "pk_iexTestKey0123456789",
    "alpha_vantage_api_key": "AVTESTKEY0123456",
    "finnhub_api_key": "fhTestKey+with/odd=chars",
}


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
