"""The rules and dashboards that ``deploy`` ships, by their own programs' checks."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.fleet import ROOT
from tests.monitors import ALERTMANAGER, DASHBOARDS, PROMETHEUS, RULE_TESTS, RULES
from tests.servers import installed

ALERTS = re.findall(r"^      - alert: (\w+)$", RULES.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("promtool", ("check", "rules", RULES)),
        ("promtool", ("test", "rules", RULE_TESTS)),
        ("promtool", ("check", "config", "--syntax-only", PROMETHEUS)),
        ("amtool", ("check-config", ALERTMANAGER)),
    ],
    ids=["rules", "their tests", "prometheus.yml", "alertmanager.yml"],
)
def test_its_own_program_finds_no_fault(program, arguments):
    done = subprocess.run([installed(program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tested_firing_and_silent(alert):
    told = RULE_TESTS.read_text("utf-8")
    assert re.search(rf"alertname: {alert}, exp_alerts: \[\]", told)
    assert re.search(rf"alertname: {alert}\n +exp_alerts:\n", told)


def test_each_alert_has_a_paragraph_of_its_own_and_each_paragraph_an_alert():
    text = RULES.read_text("utf-8")
    links = re.findall(r"^          runbook_url: (\S+)$", text, re.MULTILINE)
    assert links == [f"docs/alerts.md#{alert.lower()}" for alert in ALERTS]
    headings = re.findall(r"^## (.+)\n\n\S", (ROOT / "docs/alerts.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(ALERTS)


def test_what_alertmanager_inhibits_is_an_alert():
    matched = re.findall(r'alertname[=!~]+"([^"]+)"', ALERTMANAGER.read_text("utf-8"))
    assert matched
    assert {name for names in matched for name in names.split("|")} <= set(ALERTS)


OPTIONS = {
    "stat": {
        *("graphMode", "colorMode", "justifyMode", "textMode", "wideLayout", "showPercentChange"),
        *("percentChangeColorMode", "orientation", "reduceOptions"),
    },
    "state-timeline": {"showValue", "rowHeight", "legend", "tooltip"},
    "timeseries": {"legend", "tooltip"},
}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_what_grafana_provisions(path):
    """Grafana itself is not among Debian's packages, so its structure is what is looked at.

    All of it was held against the schemas of Grafana's foundation SDK (dashboard, stat, statetimeline,
    timeseries, prometheus); what they require and is easily left out is here.
    """
    board = json.loads(path.read_text("utf-8"))
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", board["uid"])
    assert board["title"]
    assert board["schemaVersion"] >= 39
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["type"] for panel in panels} <= {"stat", "state-timeline", "timeseries"}
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels lie over one another"
    assert max(x for x, _ in cells) < 24
    source = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text("utf-8")
    for panel in panels:
        required = OPTIONS[panel["type"]]
        assert panel["options"].keys() >= required, panel["title"]
        assert "calcs" in panel["options"].get("legend", {"calcs": []}), panel["title"]
        assert panel["title"]
        assert panel["targets"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert f"uid: {target['datasource']['uid']}\n" in source
    uids = {json.loads(other.read_text("utf-8"))["uid"] for other in DASHBOARDS}
    assert {link["url"].removeprefix("/d/") for link in board["links"]} <= uids
