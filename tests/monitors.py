"""Prometheus and Alertmanager as Debian has them, with what ``deploy`` gives them."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.fleet import ROOT, wait_for
from tests.ports import free_port
from tests.servers import installed
from tests.system import get

if TYPE_CHECKING:
    from pathlib import Path

RULES = ROOT / "deploy/prometheus/alerts.yml"
RULE_TESTS = ROOT / "deploy/prometheus/alerts_test.yml"
PROMETHEUS = ROOT / "deploy/prometheus/prometheus.yml"
ALERTMANAGER = ROOT / "deploy/alertmanager/alertmanager.yml"
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
SCALED = sorted((ROOT / "deploy/keda").glob("*.yml"))


def query_of(scaled: dict[str, Any]) -> str:
    """What a scaled object of KEDA asks Prometheus."""
    [query] = [
        trigger["metadata"]["query"]
        for trigger in scaled["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]
    return str(query)


def changed(path: Path, *changes: tuple[str, str]) -> str:
    """A shipped file with a few words replaced; each must be there."""
    text = path.read_text("utf-8")
    for old, new in changes:
        assert old in text, f"{path} holds no {old!r}"
        text = text.replace(old, new)
    return text


class Monitor:
    """One of the two programs.

    Args:
        program: Its name.
        folder: Where it keeps its data and its log.
        config: Its configuration.
        options: More of its options.
    """

    def __init__(self, program: str, folder: Path, config: str, *options: str) -> None:
        folder.mkdir()
        (folder / "config.yml").write_text(config)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._log = folder / "log"
        command = [
            str(installed(program)),
            f"--config.file={folder / 'config.yml'}",
            f"--web.listen-address=127.0.0.1:{port}",
            *options,
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        wait_for(self._ready, 30, f"{program} answers")

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text("utf-8", "replace")
        try:
            return get(f"{self.url}/-/ready")[0] == 200
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        """What a GET of its API says."""
        status, body = get(f"{self.url}{path}?{urllib.parse.urlencode(query)}")
        assert status == 200, body
        return json.loads(body)

    def tell(self, path: str, given: Any) -> None:
        """A POST of JSON."""
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.url}{path}", json.dumps(given).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=10).close()  # noqa: S310

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
