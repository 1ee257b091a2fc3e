"""What is handed out, file by file: wheel and sdist; and the app of the docs with the wheel installed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from tests.fleet import ROOT, Worker, wait_for
from tests.wheels import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES = ("resilience",)
BESIDE = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"}
CANARY = "a-key-nobody-may-see"


def files_in(archive: Path) -> dict[str, bytes]:
    """Every file by its path; in an sdist without the folder they all lie in."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return {name: opened.read(name) for name in opened.namelist()}
    with tarfile.open(archive) as opened:
        return {
            member.name.partition("/")[2]: opened.extractfile(member).read()
            for member in opened.getmembers()
            if member.isfile()
        }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build reads, with what else may lie in a checkout: settings, and traces of tools."""
    tree = tmp_path_factory.mktemp("checkout") / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=ignored)
    for name in BESIDE:
        shutil.copy(ROOT / name, tree / name)
    for folder in (tree, *(tree / package for package in PACKAGES)):
        (folder / ".env").write_text(f"FINNHUB_API_KEY={CANARY}\n")
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / "left.cpython-311.pyc").write_text(CANARY)
    (tree / "tests").mkdir()
    (tree / "tests" / "test_left.py").write_text(f"KEY = {CANARY!r}\n")
    (tree / "notes.txt").write_text(CANARY)
    return tree


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, "sdist", tmp_path_factory.mktemp("sdist"))


def ours() -> dict[str, bytes]:
    """The packages' files as they stand in this checkout."""
    return {
        file.relative_to(ROOT).as_posix(): file.read_bytes()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.name != ".env"
    }


def test_the_wheel_holds_the_library_to_the_last_file_and_nothing_else(wheel: Path) -> None:
    held = files_in(wheel)
    described = {name for name in held if ".dist-info/" in name}
    assert {name: content for name, content in held.items() if name not in described} == ours()
    # What is no Python, and would be missed only when it is needed.
    for missed in (
        "py.typed",
        "lua/prelude.lua",
        "flower/templates/circuits.html",
        "flower/static/circuits.js",
    ):
        assert f"resilience/{missed}" in held
    assert {name.partition("/")[2] for name in described} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }


def test_the_sdist_holds_what_the_wheel_is_built_from_and_nothing_else(sdist: Path) -> None:
    assert set(files_in(sdist)) == {*ours(), *BESIDE, "PKG-INFO"}


def test_no_settings_and_no_traces_of_a_checkout_are_handed_out(wheel: Path, sdist: Path) -> None:
    for archive in (wheel, sdist):
        told = [name for name, content in files_in(archive).items() if CANARY.encode() in content]
        assert told == [], archive.name


def test_the_sdist_builds_the_very_wheel_that_the_checkout_does(
    wheel: Path, sdist: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path, filter="data")
    [unpacked] = tmp_path.iterdir()
    again = build(unpacked, "wheel", tmp_path / "again")
    assert again.read_bytes() == wheel.read_bytes()


class Payments:
    """The service that the app's tasks call; it may be down."""

    def __init__(self) -> None:
        self.down = False
        self.asked: list[tuple[str, int]] = []
        payments = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status = 503 if payments.down else 200
                payments.asked.append((self.path, status))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def orders(self, status: int) -> Counter[str]:
        return Counter(path.rpartition("/")[2] for path, answered in self.asked if answered == status)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def payments() -> Iterator[Payments]:
    made = Payments()
    yield made
    made.close()


@pytest.fixture
def client(own_redis: str) -> Iterator[Celery]:
    """Reads results, and knows nothing of the layer."""
    with Celery("client", broker=f"{own_redis}/0", backend=f"{own_redis}/1", set_as_current=False) as app:
        yield app
        app.backend.client.connection_pool.disconnect()


def shown(page: str) -> str:
    """The app on a page, as it is shown there."""
    text = (ROOT / page).read_text("utf-8")
    [code] = re.findall(r"# In your own Celery app\n.*?```python\n(.*?)```", text, re.DOTALL)
    return code


def test_the_readme_shows_the_app_of_the_docs() -> None:
    assert shown("README.md") == shown("docs/your-own-app.md")


def documented_app(own_redis: str, payments: Payments) -> str:
    """The app of docs/your-own-app.md to the letter, but for the ports of its two servers."""
    code = shown("docs/your-own-app.md")
    for written, times, meant in (
        ("redis://localhost/", 3, f"{own_redis}/"),
        ("http://localhost:8000/", 1, f"http://127.0.0.1:{payments.server.server_port}/"),
    ):
        assert code.count(written) == times, f"the app has {written} {times} times"
        code = code.replace(written, meant)
    return code


@pytest.fixture
def shop(tmp_path: Path, wheel: Path, own_redis: str, payments: Payments) -> Callable[..., str]:
    """That app outside the checkout: runs Python in its folder, with the wheel installed.

    Returns:
        Takes Python's arguments, returns what it printed; ``.options`` are how it is started.
    """
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text(documented_app(own_redis, payments))
    # As many an app has it. Ours of that name is none of this app's business.
    (folder / "tasks.py").write_text("raise RuntimeError('imported by somebody who has no business here')\n")
    site = tmp_path / "site"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, capture_output=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLEET_", "CELERY_", "RESILIENCE_"))
    }
    options: dict[str, Any] = {"cwd": folder, "env": environment | {"PYTHONPATH": str(site)}}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], **options, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert Path(python("-c", "import resilience; print(resilience.__file__)").strip()).is_relative_to(site)
    python.options = options
    return python


@contextlib.contextmanager
def worker_of(shop: Callable[..., str], log: Path) -> Iterator[Worker]:
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "-l", "INFO", "-c", "2"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, **shop.options, stdout=out, stderr=subprocess.STDOUT)
    worker = Worker(process, log)
    try:
        yield worker.ready()
    finally:
        worker.kill()


def test_the_app_of_the_docs_lives_through_an_outage_with_the_wheel_installed(
    shop: Callable[..., str], payments: Payments, client: Celery, tmp_path: Path
) -> None:
    def charge(first: int, last: int) -> list[Any]:
        sent = f"from shop import charge; print(*(charge.delay(n).id for n in range({first}, {last})))"
        return [client.AsyncResult(ident) for ident in shop("-c", sent).split()]

    def come_to(state: str, results: list[Any]) -> None:
        wait_for(
            lambda: {result.state for result in results} == {state},
            40,
            f"all {state}: {Counter(result.state for result in results)}",
        )

    def circuit() -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(
            shop("-m", "celery", "-A", "shop", "circuits", "show", "payments", "--json")
        )
        return shown

    with worker_of(shop, tmp_path / "worker.log"):
        come_to("SUCCESS", charge(0, 3))
        payments.down = True
        results = charge(3, 23)
        come_to("PARKED", results)
        assert 5 <= sum(payments.orders(503).values()) <= 6, "the threshold, and what was in flight"
        state = circuit()
        assert (state["state"], state["reason"], state["parked"]) == ("open", "failures", 20)

        payments.down = False
        shop("-m", "celery", "-A", "shop", "circuits", "release", "payments", "--reason", "they are back")
        come_to("SUCCESS", results)
        assert circuit()["state"] == "closed"
        rows = json.loads(shop("-m", "celery", "-A", "shop", "circuits", "list", "--json"))
        assert [row["service"] for row in rows["circuit_breakers"]] == ["payments"], "its own, and no other"
        shop("-m", "celery", "-A", "shop", "circuits", "reset", "payments")
    assert payments.orders(200) == Counter(str(number) for number in range(23))
