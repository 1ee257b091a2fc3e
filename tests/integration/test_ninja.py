"""The seed's endpoint in a real Django application."""

import json
import subprocess
import sys
from pathlib import Path

from tasks.providers import PROVIDERS

SITE = """
import json, sys
from django.conf import settings

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="only-here",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "ninja"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
import django

django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import path
from ninja import NinjaAPI
import tasks  # registers its circuits
from resilience import get_circuit_breaker
from resilience.contrib.ninja import router

api, public = NinjaAPI(), NinjaAPI(urls_namespace="public")
api.add_router("/monitoring", router)
public.add_router("/monitoring", router, auth=None)
urlpatterns = [path("api/", api.urls), path("public/", public.urls)]
call_command("migrate", verbosity=0)
for _ in range(3):
    breaker = get_circuit_breaker("finnhub")
    breaker.report(breaker.acquire(), "failure")
ann = Client()
ann.force_login(User.objects.create_user("ann"))
found = {}
for name, client, address in (
    ("anyone", Client(), "/api/monitoring/circuit-breakers"),
    ("anyone, one", Client(), "/api/monitoring/circuit-breakers/finnhub"),
    ("public", Client(), "/public/monitoring/circuit-breakers"),
    ("all", ann, "/api/monitoring/circuit-breakers"),
    ("one", ann, "/api/monitoring/circuit-breakers/finnhub"),
    ("none", ann, "/api/monitoring/circuit-breakers/nobody"),
):
    reply = client.get(address)
    found[name] = (reply.status_code, reply.json())
print(json.dumps(found))
"""


def test_a_django_application_shows_the_states_to_who_is_logged_in(tmp_path: Path) -> None:
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
    found = json.loads(ended.stdout)
    assert {name: status for name, (status, _) in found.items()} == {
        "anyone": 401,
        "anyone, one": 401,
        "public": 200,
        "all": 200,
        "one": 200,
        "none": 404,
    }
    report, one = found["all"][1], found["one"][1]
    assert found["public"][1] == report
    assert (report["total"], report["open"], report["half_open"]) == (len(PROVIDERS), 1, 0)
    [row] = [row for row in report["circuit_breakers"] if row["service"] == "finnhub"]
    assert row["state"] == "open"
    assert one.items() >= row.items()
    [change] = one["transitions"]
    assert (change["from"], change["to"], change["reason"]) == ("closed", "open", "failures")
    assert one["outcomes"] == [
        {**one["outcomes"][0], "succeeded": 0, "failed": 0, "held": 0, "blocked": 0}
    ]  # the first look began them
    assert "nobody" in found["none"][1]["detail"]
