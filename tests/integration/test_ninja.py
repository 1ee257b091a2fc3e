"""The seed's endpoint in a real Django application."""

import json
import subprocess
import sys
from pathlib import Path

SITE = """
import json, sys
from django.conf import settings

settings.configure(
    ROOT_URLCONF=__name__, SECRET_KEY="only-here", ALLOWED_HOSTS=["*"], INSTALLED_APPS=["ninja"]
)
import django

django.setup()
from django.test import Client
from django.urls import path
from ninja import NinjaAPI
from resilience import get_circuit_breaker
from resilience.contrib.ninja import router

api = NinjaAPI()
api.add_router("/monitoring", router)
urlpatterns = [path("api/", api.urls)]
for _ in range(3):
    breaker = get_circuit_breaker("finnhub")
    breaker.report(breaker.acquire(), "failure")
reply = Client().get("/api/monitoring/circuit-breakers")
assert reply.status_code == 200, reply
print(json.dumps(reply.json()))
"""


def test_a_django_application_shows_the_states(tmp_path: Path) -> None:
    (tmp_path / "site_of_ours.py").write_text(SITE)
    ended = subprocess.run(
        [sys.executable, "-c", "import site_of_ours"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert (report["total"], report["open"], report["half_open"]) == (10, 1, 0)
    assert {row["service"]: row["state"] for row in report["circuit_breakers"]}["finnhub"] == "open"
