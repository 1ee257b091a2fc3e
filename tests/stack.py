"""The stack of ``docker-compose.yml`` for tests, with verbs: start, steer, look, send, kill."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.parse
from typing import TYPE_CHECKING, Any

from tests.fleet import ROOT
from tests.monitors import ALERTMANAGER, PROMETHEUS, RULES, changed
from tests.ports import free_port
from tests.system import get

if TYPE_CHECKING:
    from pathlib import Path

# The image under test; whoever builds it gives it this tag, so that no image in use is replaced.
VERSION = "test"
PASSWORDS = {
    "BROKER_PASSWORD": "brokerSecret123",
    "STORE_PASSWORD": "storeSecret456",
    "GRAFANA_PASSWORD": "grafanaSecret789",
}

SECONDS = 150  # for one command; the longest waits for every health check

# The shipped rules and routes, in a hurry, told to a webhook. Grafana is left out: its image may not be had
# here, and what its dashboards ask is tested against Prometheus itself.
OVERRIDE = """
services:
  prometheus:
    volumes:
      - {folder}/prometheus.yml:/etc/prometheus/prometheus.yml:ro
      - {folder}/alerts.yml:/etc/prometheus/alerts.yml:ro
  alertmanager:
    volumes: ["{folder}/alertmanager.yml:/etc/alertmanager/alertmanager.yml:ro"]
  grafana:
    profiles: [left-out]
  webhook:
    image: market-data-resilience:{version}
    init: true
    command: [python, /webhook.py]
    volumes: ["{root}/tests/containers/webhook.py:/webhook.py:ro"]
"""

SEND = """
import json, sys
from workers import app
ids = [app.send_task("tasks.finnhub.fetch", ("quote", symbol)).id for symbol in json.load(sys.stdin)]
print(json.dumps(ids))
"""
STATES = """
import json, sys
from workers import app
print(json.dumps([app.AsyncResult(ident).state for ident in json.load(sys.stdin)]))
"""
GET = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1]).read().decode())
"""


class Stack:
    """One project of Docker Compose, apart from any other of this machine.

    Args:
        folder: Where its settings are written.
        project: Its name.
        files: The Compose files, relative to the repository.
    """

    def __init__(self, folder: Path, project: str, *files: str) -> None:
        flower, prometheus, alertmanager = (free_port() for _ in range(3))
        self.flower, self.prometheus = (f"http://127.0.0.1:{port}" for port in (flower, prometheus))
        ports = {"FLOWER_PORT": flower, "PROMETHEUS_PORT": prometheus, "ALERTMANAGER_PORT": alertmanager}
        settings = folder / "stack.env"
        given = PASSWORDS | ports | {"VERSION": VERSION, "HEALTH_INTERVAL": "5s"}
        settings.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        self._command = [
            *("docker", "compose", "--project-name", project, "--progress", "quiet"),
            *("--env-file", str(settings), "--env-file", str(ROOT / "deploy" / "simulator.env")),
            *(part for file in files for part in ("--file", str(ROOT / file))),
            *("--file", str(_in_a_hurry(folder))),
        ]
        # The shell's own words would go before the file's.
        ours = (
            "_URL",
            "_KEY",
            "_PASSWORD",
            "_PORT",
            "WORKERS",
            "_BASIC_AUTH",
            "_PROFILES",
            "ALERTMANAGER_CONFIG",
        )
        self._environment = {name: value for name, value in os.environ.items() if not name.endswith(ours)}

    def compose(self, *arguments: str, given: str = "") -> str:
        """One command to its end; returns what it printed.

        Raises:
            AssertionError: It failed; with what it said.
        """
        done = self._run(*arguments, given=given)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def _run(self, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def up(self, *options: str) -> None:
        """Start what is not there, until every health check is content."""
        self.compose("up", "--detach", "--wait", "--no-build", "--pull", "never", *options)

    def down(self) -> None:
        """All of it gone, its volumes too."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")

    def configuration(self) -> dict[str, Any]:
        """What Compose makes of the files."""
        found: dict[str, Any] = json.loads(self.compose("config", "--format", "json"))
        return found

    def state(self, service: str, index: int = 1) -> dict[str, Any]:
        """What Docker says of a container: State, RestartCount and more."""
        listed = self.compose("ps", "--all", "--format", "json", service)
        [name] = (
            name
            for name in (json.loads(line)["Name"] for line in listed.splitlines())
            if name.endswith(f"-{index}")
        )
        shown = subprocess.run(["docker", "inspect", name], capture_output=True, check=True).stdout  # noqa: S607 - whichever is installed
        found: dict[str, Any] = json.loads(shown)[0]
        return found

    def inside(self, service: str, *command: str, given: str = "", index: int = 1) -> str:
        """What a command prints in a container."""
        return self.compose("exec", "--no-TTY", "--index", str(index), service, *command, given=given)

    def celery(self, *arguments: str) -> str:
        """What an operator does; in beat, which no test kills."""
        return self.inside("beat", "celery", "-A", "workers", *arguments)

    def kill_all(self, service: str, index: int = 1) -> None:
        """SIGKILL to every process in a container but its first, which then ends, with no word to Docker."""
        done = self._run("exec", "--no-TTY", "--index", str(index), service, "sh", "-c", "kill -9 -1")
        assert done.returncode in {0, 137}, done.stderr  # it may go down itself before it has answered

    def send(self, symbols: list[str]) -> list[str]:
        """What the schedule would send; returns the ids."""
        ids: list[str] = json.loads(self.inside("beat", "python", "-c", SEND, given=json.dumps(symbols)))
        return ids

    def states(self, ids: list[str]) -> list[str]:
        """The tasks' result states."""
        found: list[str] = json.loads(self.inside("beat", "python", "-c", STATES, given=json.dumps(ids)))
        return found

    def report(self) -> dict[str, Any]:
        """Flower's ``GET /circuit-breakers``."""
        status, body = get(f"{self.flower}/circuit-breakers")
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def circuit(self, service: str = "finnhub") -> dict[str, Any]:
        """One circuit, as Flower shows it."""
        rows = self.report()["circuit_breakers"]
        return next(row for row in rows if row["service"] == service)

    def calls(self, service: str = "finnhub") -> list[dict[str, Any]]:
        """What the simulator has heard for a provider."""
        url = f"http://127.0.0.1:8900/calls?service={service}"
        asked = self.inside("simulator", "python", "-c", GET, url)
        found: list[dict[str, Any]] = json.loads(asked)
        return found

    def ask_prometheus(self, query: str) -> dict[str, float]:
        """What Prometheus finds now, by service."""
        status, body = get(f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        assert status == 200, body
        found = json.loads(body)["data"]["result"]
        return {row["metric"].get("service", ""): float(row["value"][1]) for row in found}

    def told(self, alert: str, service: str) -> list[str]:
        """What the webhook has been told of an alert: firing or resolved, in order."""
        heard = json.loads(self.inside("webhook", "python", "-c", GET, "http://127.0.0.1:9095/"))
        wanted = {"alertname": alert, "service": service}
        return [
            one["status"]
            for message in heard
            for one in message["alerts"]
            if wanted.items() <= one["labels"].items()
        ]


def _in_a_hurry(folder: Path) -> Path:
    """A Compose file that has the monitors look each second, wait for nothing, and tell a webhook."""
    prometheus = changed(PROMETHEUS, ("interval: 15s", "interval: 1s"))
    rules = re.sub(r"(?m)^        for: \w+$", "        for: 3s", RULES.read_text("utf-8"))
    receiver = "  - name: operators\n"
    alertmanager = changed(
        ALERTMANAGER,
        ("group_wait: 30s", "group_wait: 1s"),
        ("group_interval: 5m", "group_interval: 1s"),
        (receiver, f"{receiver}    webhook_configs: [{{url: 'http://webhook:9095/'}}]\n"),
    )
    (folder / "prometheus.yml").write_text(prometheus)
    (folder / "alerts.yml").write_text(rules)
    (folder / "alertmanager.yml").write_text(alertmanager)
    override = folder / "override.yml"
    override.write_text(OVERRIDE.format(folder=folder, root=ROOT, version=VERSION))
    return override
