"""The fleet a plan is played on: the product's own programs and real servers, and how each fault strikes.

Broker, and store with a replica and a sentinel, are struck. The result backend and the simulator are not, as
they keep the record that the auditor goes by; but the workers' lines to the result backend are.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
import tomllib
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import redis
from kombu import Connection, Exchange, Producer

from resilience.parking import Lane
from resilience.stores.redis import circuit_of
from tasks.fetch import queue_of
from tasks.providers import PROVIDERS
from tests.chaos.proxy import Line
from tests.fleet import ROOT, Worker, wait_for
from tests.pair import Pair
from tests.servers import Rabbit, Server, installed
from tests.system import CONTACTS, KEYS
from workers.simulator import SimulatorClient
from workers.simulator.quotas import circuits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.plan import Strike

WORKERS = 3
PROCESSES = 4
#: How many times shorter the quotas' long windows are: a day lasts ten minutes.
FASTER = 144
#: So that a provider's outage of seconds opens its circuit, and its recovery is seen.
POLICY = {"failure_threshold": 3, "timeout_seconds": 3, "timeout_cap_seconds": 15}
#: The clock of one worker is so far off, and of which.
SKEW_SECONDS = -120
SKEWED = 2
SLOW_SECONDS = 0.1
VHOST = "chaos"
EXCHANGE = "tasks"
#: The acts of an operator that take a time limit.
LIMITED = frozenset({"open", "close", "disable", "set"})
#: Nobody waits longer to send what is hostile: the broker may be struck just then.
BRIEF = {"connect_timeout": 2, "transport_options": {"socket_timeout": 2, "socket_connect_timeout": 2}}
#: After SIGTERM, beat.
ENDS_SECONDS = 20
#: In the log of a worker that Celery itself has ended: it read on where a killed pool process had stopped.
TORN = "in process_flush_queues"
LIVING = tuple(service for service, row in PROVIDERS.items() if not row.retired)
QUEUES = [queue_of(service, lane) for service in PROVIDERS for lane in Lane]
#: The steps of the store's clock are heard by its servers, not by one thread each.
SERVER_LIBRARY = ("lib*/faketime/libfaketimeMT.so.1", "lib*/*/faketime/libfaketimeMT.so.1")
LIBRARY = ("lib*/faketime/libfaketime.so.1", "lib*/*/faketime/libfaketime.so.1")


def circuits_file() -> str:
    """What each service keeps to: its quota, shortened as the simulator's, and circuits that open soon."""
    paced = tomllib.loads(circuits(FASTER))
    lines = []
    for service in LIVING:
        fields = {**paced.get(service, {}), **POLICY}
        lines += [f"[{service}]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items()), ""]
    return "\n".join(lines)


class Stage:
    """Everything there is.

    Args:
        folder: Where data and logs go.
        broker: redis or rabbitmq.
        schedule: What beat sends, the text of a schedule file.
        told: Is told in words what strikes, and what is mended.
    """

    def __init__(self, folder: Path, broker: str, schedule: str, told: Callable[[str], None]) -> None:
        self.folder, self.told = folder, told
        self.lost_by_name: list[str] = []
        self._stack = contextlib.ExitStack()
        self._lock = threading.RLock()
        self._stopped = False
        #: When the store, or a worker's line to it, was struck and when it was mended, Unix times.
        self.store_struck: list[list[float]] = []
        #: When the store's clock was off: from, until, by how many seconds.
        self.clock_steps: list[list[float]] = []
        #: When the broker came back empty, and which tasks were in a lot just then.
        self.emptied: list[tuple[float, set[str]]] = []
        #: When each queue got hostile messages; when a worker ended by itself; when the broker was struck.
        self.hostile_at: list[float] = []
        self.ended_at: list[float] = []
        self.broker_struck_at: list[float] = []
        #: When each provider was mended: time, service.
        self.provider_mended: list[tuple[float, str]] = []
        #: Workers killed, and those that have ended by themselves.
        self.killed = self.children_killed = self.ended = 0
        #: How often the broker was killed or stopped, and one worker's line to it cut.
        self.broker_struck = self.lines_cut = self.results_struck = 0
        self._operators: list[subprocess.Popen[bytes]] = []
        try:
            self._start(broker, schedule)
        except BaseException:
            self.close()
            raise

    def _start(self, broker: str, schedule: str) -> None:
        binary = installed("redis-server")
        self.results = Server(binary, self.folder / "results")
        self._stack.callback(self.results.kill)
        self.results.start()
        self.broker: Server | Rabbit
        if broker == "rabbitmq":
            self.broker = Rabbit(self.folder / "rabbitmq")
            self._stack.callback(self.broker.stop)
            self.broker.start()
            self.broker_url = self.broker.open(VHOST)
        else:
            self.broker = Server(
                binary,
                self.folder / "broker",
                appendonly="yes",
                appendfsync="always",
                auto_aof_rewrite_percentage=0,
            )
            self._stack.callback(self.broker.kill)
            self._stack.callback(self.broker.thaw)
            self.broker.start()
            self.broker_url = f"redis://127.0.0.1:{self.broker.port}/0"
        self.pair = Pair(self.folder / "store", appendonly="yes", appendfsync="everysec")
        for server in (self.pair.primary, self.pair.replica):
            # A full disk is an error of a write, and no signal that ends the server.
            server._command[:0] = ["env", "--ignore-signal=XFSZ", *self._stepping()]
        self._stack.callback(self.pair.stop)
        self.pair.start()
        self.store_url = f"{self.pair.url}?wait_replicas=1"
        self.lines = {
            "broker": Line(self.broker.port),
            "store": Line(self.pair.primary.port),
        }
        self.results_line = Line(self.results.port)
        self._stack.callback(self.results_line.close)
        for line in self.lines.values():
            self._stack.callback(line.close)
        simulator = self._simulator()
        self.simulator = SimulatorClient(simulator["control_url"], timeout_seconds=30)
        files = {"SCHEDULE_FILE": schedule, "CIRCUITS_FILE": circuits_file()}
        for name, text in files.items():
            (self.folder / name.lower()).write_text(text, "utf-8")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_URL"))},
            "CELERY_BROKER_URL": self.broker_url,
            "CELERY_RESULT_BACKEND": f"redis://127.0.0.1:{self.results.port}/0",
            "RESILIENCE_STORE_URL": self.store_url,
            **KEYS,
            **CONTACTS,
            **{
                f"{service.upper()}_BASE_URL": provider["base_url"]
                for service, provider in simulator["providers"].items()
                if not PROVIDERS[service].retired
            },
            "SIMULATOR_URL": simulator["control_url"],
            "STATE_DIR": str(self.folder / "state"),
            **{name: str(self.folder / name.lower()) for name in files},
            "PYTHONPATH": str(ROOT),
        }
        # One has its broker behind a line, one its store, one a clock of its own.
        self._own: list[dict[str, str]] = [
            {
                "CELERY_BROKER_URL": self.broker_url.replace(
                    str(self.broker.port), str(self.lines["broker"].port)
                )
            },
            {"RESILIENCE_STORE_URL": f"redis://127.0.0.1:{self.lines['store'].port}/0?wait_replicas=1"},
            self._skewed(),
        ]
        self.workers = [self._worker(number) for number in range(WORKERS)]
        self._beat()
        for worker in self.workers:
            worker.ready()
        self.simulator.enforce_quotas(FASTER)

    def _simulator(self) -> dict[str, Any]:
        log = self.folder / "simulator.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.simulator", "--control-port", "0"],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._stack.callback(process.kill)
        line: str = wait_for(lambda: log.read_text("utf-8").partition("\n")[0], 20, "the simulator")
        ready: dict[str, Any] = json.loads(line)
        return ready

    @staticmethod
    def _skewed() -> dict[str, str]:
        skew = f"{SKEW_SECONDS:+d}"
        faked = {"LD_PRELOAD": str(_library(LIBRARY)), "FAKETIME": skew, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return {**faked, "PYTHONPATH": f"{Path(__file__).parent / 'skewed'}:{ROOT}"}

    def _stepping(self) -> list[str]:
        """The words of ``env`` under which a server's clock goes by a file."""
        self._clock = self.folder / "clock"
        self._set_clock("+0")
        return [
            f"LD_PRELOAD={_library(SERVER_LIBRARY)}",
            f"FAKETIME_TIMESTAMP_FILE={self._clock}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]

    def _set_clock(self, seconds: str) -> None:
        new = self._clock.with_name("clock.new")
        new.write_text(f"{seconds}\n")
        new.replace(self._clock)

    def _celery(self, log: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "workers", *arguments],
                env=self.environment | environment,
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def _worker(self, number: int) -> Worker:
        self._started = getattr(self, "_started", 0) + 1
        log = self.folder / f"worker-{number}-{self._started}.log"
        options = ("-l", "INFO", "-c", str(PROCESSES), "-n", f"w{number}@chaos", "--without-mingle")
        results = f"redis://127.0.0.1:{self.results_line.port}/0"
        own = {"CELERY_RESULT_BACKEND": results, **self._own[number]}
        return Worker(self._celery(log, "worker", *options, "--without-gossip", **own), log)

    def _beat(self) -> None:
        self.beat = self._celery(self.folder / "beat.log", "beat", "-l", "INFO", "-s", "beat-schedule")

    def end_schedule(self) -> None:
        """Beat sends nothing more."""
        with self._lock:
            self._without_beat = True
            self.beat.terminate()
        try:
            self.beat.wait(ENDS_SECONDS)
        except subprocess.TimeoutExpired:  # it was reading from RabbitMQ, and waits for the rest for ever
            self.told("beat does not end by itself")
            self.beat.kill()
            self.beat.wait()

    def supervise(self) -> None:
        """Start again whatever has ended, as a supervisor would."""
        with self._lock:
            if self._stopped:
                return
            for number, worker in enumerate(self.workers):
                if worker.process.poll() is not None:
                    self.ended += 1
                    if TORN not in worker.text():
                        self.ended_at.append(time.time())
                    self.told(f"worker {number} has ended by itself with {worker.process.returncode}")
                    self.workers[number] = self._worker(number)
            if self.beat.poll() is not None and not self._without_beat:
                self._beat()
            primary = self.pair.known()
            if primary != self.lines["store"].target:
                self.lines["store"].target = primary

    _without_beat = False

    # The faults

    def strike(self, strike: Strike) -> Callable[[], None]:
        """Let it happen; returns how it is mended."""
        with self._lock:
            mend: Callable[[], None] = getattr(self, f"strike_{strike.fault}")(strike)
            return mend

    def strike_provider(self, strike: Strike) -> Callable[[], None]:
        service = strike.of(LIVING)
        self.simulator.set_mode(service, strike.mode)

        def mend() -> None:
            self.simulator.set_mode(service, "ok")
            self.provider_mended.append((time.time(), service))

        return mend

    def _victim(self, strike: Strike) -> int:
        return int(strike.choice * WORKERS)

    def strike_kill_worker(self, strike: Strike) -> Callable[[], None]:
        """With its pool, or without: orphans go on to the end of what they have."""
        number = self._victim(strike)
        worker = self.workers[number]
        if worker.process.poll() is None:
            family = worker.children()
            worker.process.kill()
            worker.process.wait()
            if strike.choice * WORKERS % 1 < 0.5:
                for child in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
        self.killed += 1
        self.workers[number] = self._worker(number)
        return _nothing

    def strike_kill_child(self, strike: Strike) -> Callable[[], None]:
        worker = self.workers[self._victim(strike)]
        if worker.process.poll() is None and (children := worker.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                children[int(strike.choice * 997) % len(children)].kill()
            self.children_killed += 1
        return _nothing

    def strike_stop_worker(self, strike: Strike) -> Callable[[], None]:
        worker = self.workers[self._victim(strike)]
        if worker.process.poll() is None:
            worker.freeze()
        return worker.thaw

    def strike_kill_beat(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        self._without_beat = True
        self.beat.kill()
        self.beat.wait()

        def mend() -> None:
            self._without_beat = False
            self._beat()

        return mend

    def _primary(self) -> Server:
        port = self.pair.known()
        return next(server for server in (self.pair.primary, self.pair.replica) if server.port == port)

    def _store_hit(self, mend: Callable[[], None]) -> Callable[[], None]:
        struck = [time.time(), float("inf")]
        self.store_struck.append(struck)

        def noted() -> None:
            mend()
            struck[1] = time.time()

        return noted

    def strike_kill_store(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        """The primary; its replica takes over, and it comes back as one."""
        primary = self._primary()
        primary.kill()

        def mend() -> None:
            # By now or soon another is the primary; Redis alone would come back as one.
            wait_for(lambda: self.pair.known() != primary.port, 60, "a fail-over")
            primary.start()
            primary.ask("REPLICAOF", "127.0.0.1", self.pair.known())

        return self._store_hit(mend)

    def strike_stop_store(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        """Long enough, and the sentinel has another promoted; the first wakes and finds out."""
        primary = self._primary()
        primary.freeze()
        return self._store_hit(primary.thaw)

    def strike_full_store(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        """No byte more fits into the append-only file."""
        primary = self._primary()
        assert primary._process is not None
        process = psutil.Process(primary._process.pid)
        process.rlimit(psutil.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

        def mend() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

        return self._store_hit(mend)

    def _broker_hit(self, mend: Callable[[], None]) -> Callable[[], None]:
        self.broker_struck += 1
        self.broker_struck_at.append(time.time())
        return mend

    def strike_kill_broker(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        self.broker.kill()
        return self._broker_hit(self.broker.start)

    def strike_stop_broker(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        self.broker.freeze()
        return self._broker_hit(self.broker.thaw)

    def strike_empty_broker(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        """It comes back without a message, an exchange or a queue: another machine, or a lost disk."""
        if isinstance(self.broker, Rabbit):
            self.broker.drop(VHOST)
            came_back: Callable[[], object] = partial(self.broker.open, VHOST)
        else:
            self.broker.ask("FLUSHALL")
            self.broker.kill()
            came_back = self.broker.start
        # What is in a lot by now was not at the broker, or is there, too.
        try:
            self.emptied.append((time.time(), set(self.parked())))
        except redis.RedisError:  # nobody can say what was lost with the broker
            self.emptied.append((time.time(), set()))
        return self._broker_hit(lambda: (came_back(), None)[1])

    def strike_hostile(self, strike: Strike) -> Callable[[], None]:
        """Messages that nobody who means well sends, one of each kind, to some queue each."""
        self.hostile_at.append(time.time())
        kinds = hostile(strike.of(LIVING))
        start = int(strike.choice * 997)
        with contextlib.suppress(Exception), Connection(self.broker_url, **BRIEF) as connection:
            producer = Producer(connection.default_channel, Exchange(EXCHANGE, "topic"))
            for number, (body, headers, kind) in enumerate(kinds):
                with contextlib.suppress(Exception):  # what this broker's protocol cannot even say
                    producer.publish(
                        body,
                        routing_key=QUEUES[(start + number) % len(QUEUES)],
                        headers=headers,
                        content_type=kind,
                        content_encoding="utf-8",
                    )
        return _nothing

    def strike_step_clock(self, strike: Strike) -> Callable[[], None]:
        """The clock of the store's machines, all of them."""
        self._set_clock(strike.mode)
        step = [time.time(), float("inf"), float(strike.mode)]
        self.clock_steps.append(step)

        def mend() -> None:
            self._set_clock("+0")
            step[1] = time.time()

        return self._store_hit(mend)

    def strike_hang_results(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        self.results_line.hold()
        return self._results_hit

    def strike_cut_results(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        self.results_line.cut()
        return self._results_hit

    def _results_hit(self) -> None:
        self.results_struck += 1
        self.results_line.mend()

    def strike_operator(self, strike: Strike) -> Callable[[], None]:
        """What somebody types; it takes effect when the command has started."""
        service, act = strike.of(LIVING), strike.mode
        words = {
            "set": (act, service, "failure_threshold=5"),
            "drop": (act, service, "--all", "--reason", "chaos"),
        }.get(act, (act, service, "--reason", "chaos"))
        limit = ("--for", f"{max(round(strike.lasts), 1)}s") if act in LIMITED else ()
        self._operators.append(self._celery(self.folder / "operator.log", "circuits", *words, *limit))
        return _nothing

    def strike_cut_lines(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        for line in self.lines.values():
            line.cut()
        self.lines_cut += 1
        return self._store_hit(self._mend_lines)

    def strike_slow_lines(self, strike: Strike) -> Callable[[], None]:  # noqa: ARG002 - as all of them
        for line in self.lines.values():
            line.slow(SLOW_SECONDS)
        return self._store_hit(self._mend_lines)

    def _mend_lines(self) -> None:
        for line in self.lines.values():
            line.mend()

    # What the auditor looks at

    def parked(self) -> dict[str, str]:
        """Ids in the lots, and whose."""
        found = {}
        with self.client() as client:
            for service in PROVIDERS:
                ids: Any = client.hkeys(f"{circuit_of(service)}:lot:messages")
                found.update(dict.fromkeys(ids, service))
        return found

    def client(self) -> redis.Redis:
        """A connection to the store's primary of this moment."""
        return redis.Redis(port=self.pair.known(), decode_responses=True, socket_timeout=5)

    def close(self) -> None:
        """End everything."""
        with self._lock:
            self._stopped = True
            processes = [worker.process for worker in getattr(self, "workers", ())] + self._operators
            if hasattr(self, "beat"):
                processes.append(self.beat)
        family = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = psutil.Process(process.pid)
                family += [parent, *parent.children(recursive=True)]
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        for process in processes:
            process.wait(20)
        for left in Path("/dev/shm").glob("*faketime*"):  # noqa: S108 - the library leaves them there
            with contextlib.suppress(OSError, ValueError):
                if not psutil.pid_exists(int(left.name.rpartition("_")[2])):
                    left.unlink()
        self._stack.close()


def _library(patterns: Sequence[str]) -> Path:
    found = [file for pattern in patterns for file in Path("/usr").glob(pattern)]
    if not found:
        raise FileNotFoundError("libfaketime not found: apt install libfaketime (or make servers)")
    return found[0]


def hostile(service: str) -> list[tuple[str, dict[str, Any], str]]:
    """Bodies, headers and content types; each breaks one rule that Celery takes for granted."""
    task, json_ = f"tasks.{service}.fetch", "application/json"
    deep = "[" * 900 + "]" * 900
    good = '[["quote", "AAPL"], {}, null]'
    odd: list[tuple[str, dict[str, Any]]] = [
        (good, {"timelimit": [10**400, None]}),
        (good, {"retries": 10**400}),
        (good, {"retries": "many"}),
        (good, {"eta": "soon"}),
        (good, {"expires": ["never"]}),
        (good, {"task": None}),
        (good, {"task": "tasks.nobody.fetch"}),
        (good, {"id": 7}),
        (good, {"id": "\ud800"}),
        (good, {"stamped_headers": [1, {}]}),
        (good, {"nested": json.loads(deep)}),
        (f"[[{deep}], {{}}, null]", {}),
        ('["quote", {}, null]', {}),
        ("[[], [], []]", {}),
        ("[]", {}),
        ("{not json", {}),
        ('{"args": 1, "task": 2}', {}),
    ]
    base = {"task": task, "retries": 0, "timelimit": [None, None], "argsrepr": "()", "kwargsrepr": "{}"}
    messages = [(body, base | {"id": f"hostile-{uuid.uuid4()}"} | wrong, json_) for body, wrong in odd]
    pickled = {**base, "id": f"hostile-{uuid.uuid4()}"}
    return [*messages, ("not for you", pickled, "application/x-python-serialize")]


def _nothing() -> None:
    """What strikes at once needs no mending."""
