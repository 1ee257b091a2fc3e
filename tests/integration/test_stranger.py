"""The wheel beside somebody's own project: an empty environment, their own `tasks` and `workers`."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.fleet import ROOT, wait_for
from tests.ports import free_port
from tests.wheels import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: What comes with each extra, the wheel's own distribution included.
PACKAGES = {"": 22, "django": 30, "flower": 27, "hiredis": 23, "prometheus": 23}
APP = """
from celery import Celery
from resilience import CIRCUIT_BREAKERS, CircuitBreaker, ResilientTask, install

app = Celery("shop", broker="{url}/0", backend="{url}/1", include=["{tasks}"])
install(app, store="{url}/2")
CIRCUIT_BREAKERS["payments"] = CircuitBreaker("payments", failure_threshold=5, timeout_seconds=60)
"""
TASKS = """
from resilience import ResilientTask
from {app} import app

@app.task(base=ResilientTask, service="payments", name="charge")
def charge(order): ...

@app.task(base=ResilientTask, service="paymnets", name="refund")
def refund(order): ...
"""
#: One that is registered, and one that only a task names, by mistake.
SERVICES = ["payments", "paymnets"]
MODULES = "resilience, resilience.operations.cli, resilience.contrib.http, resilience.stores.redis"
FLOWER = """
from resilience import flower
flower.install(without_login="read")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def installed(wheel: Path, extra: str, folder: Path) -> Path:
    """An environment with the wheel and one extra, and nothing else; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    constraints = ["--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
    wanted = f"celery-circuits[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    subprocess.run([*pip, *constraints, wanted], check=True, capture_output=True)
    return python


def printed(python: Path, *arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [str(python), *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


COUNT = """
from importlib.metadata import distributions, entry_points, files
print(len(list(distributions())))
print(*sorted({file.parts[0] for file in files("celery-circuits")}))
print(*sorted(point.name for point in entry_points(group="celery.commands") if "resilience" in point.value))
"""


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The Python of an environment with an extra, made once."""
    return cache(lambda extra: installed(wheel, extra, tmp_path_factory.mktemp("environment") / "venv"))


@pytest.mark.parametrize("extra", PACKAGES)
def test_an_extra_brings_what_it_says_and_one_top_level_name(
    environment: Callable[[str], Path], extra: str
) -> None:
    python = environment(extra)
    number, names, commands = printed(python, "-c", COUNT).splitlines()
    assert int(number) == PACKAGES[extra]
    assert [name for name in names.split() if not name.endswith(".dist-info")] == ["resilience"]
    assert commands == "circuits"
    printed(python, "-W", "error", "-c", f"import {MODULES}")
    if extra == "prometheus":
        printed(python, "-c", "import resilience.metrics")


@pytest.fixture(scope="module")
def python(environment: Callable[[str], Path]) -> Path:
    return environment("flower")


def with_packages(folder: Path, url: str) -> str:
    """A project with packages `workers`, its app, and `tasks`."""
    for package in ("workers", "tasks"):
        (folder / package).mkdir()
    (folder / "workers" / "__init__.py").write_text(APP.format(url=url, tasks="tasks.charging"))
    (folder / "tasks" / "__init__.py").write_text("MINE = True\n")
    (folder / "tasks" / "charging.py").write_text(TASKS.format(app="workers"))
    return "workers"


def with_modules(folder: Path, url: str) -> str:
    """A project with a module `tasks`."""
    (folder / "shop.py").write_text(APP.format(url=url, tasks="tasks"))
    (folder / "tasks.py").write_text(TASKS.format(app="shop") + "MINE = True\n")
    return "shop"


@contextlib.contextmanager
def running(python: Path, folder: Path, app: str, *arguments: str) -> Iterator[Path]:
    log = folder / f"{arguments[0]}.log"
    with log.open("wb") as out:
        command = [str(python), "-m", "celery", "-A", app, *arguments]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(20)


def got(address: str) -> str:
    """What is served there, as soon as somebody does."""
    ends = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=10) as reply:  # noqa: S310 - this machine
                return str(reply.read().decode())
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)  # nobody listens yet, and nothing tells of it


@pytest.mark.parametrize("project", [with_packages, with_modules])
def test_an_app_keeps_all_that_is_its_own(project, python: Path, own_redis: str, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    app = project(folder, own_redis)
    assert printed(python, "-c", "import tasks; print(tasks.MINE)", cwd=folder) == "True\n"
    listed = json.loads(printed(python, "-m", "celery", "-A", app, "circuits", "list", "--json", cwd=folder))
    assert [row["service"] for row in listed["circuit_breakers"]] == SERVICES
    told = printed(python, "-m", "celery", "--help", cwd=folder)
    assert "circuits" in told
    assert not {"latest", "refresh", "replies", "schedule", "simulate"} & set(told.split())
    with running(python, folder, app, "worker", "-P", "solo", "-l", "INFO") as log:
        wait_for(lambda: " ready." in log.read_text(), 60, f"{log} says that it is ready")
        [warned] = [
            line for line in log.read_text().splitlines() if "paymnets" in line and "registered" in line
        ]
        assert "did you mean 'payments'?" in warned


def test_the_page_and_the_exporter_have_its_own_services_only(
    python: Path, own_redis: str, tmp_path: Path
) -> None:
    app = with_modules(tmp_path, own_redis)
    (tmp_path / "flowerconfig.py").write_text(FLOWER)
    port, other = free_port(), free_port()
    with running(python, tmp_path, app, "flower", "--address=127.0.0.1", f"--port={port}"):
        page = got(f"http://127.0.0.1:{port}/circuits")
        assert sorted(set(re.findall(r'data-service="(.*?)"', page))) == SERVICES
        assert "Last good" not in page
        states = json.loads(got(f"http://127.0.0.1:{port}/circuit-breakers"))
        assert [row["service"] for row in states["circuit_breakers"]] == SERVICES
        scraped = got(f"http://127.0.0.1:{port}/metrics")
        assert 'circuit_breaker_state{service="payments"} 0.0' in scraped
    with running(python, tmp_path, app, "circuits", "exporter", "--port", str(other)):
        scraped = got(f"http://127.0.0.1:{other}/metrics")
        assert 'circuit_breaker_state{service="payments"} 0.0' in scraped
        assert "last_good" not in scraped
