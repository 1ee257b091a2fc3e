"""A series of outages, in each of which a fault strikes twice: while tasks are parked and while they return.

``python -m tests.faults.series '{"fault": "worker", ...}' SEED ROUNDS FOLDER`` plays one and prints its
account as JSON. Each series has a process, a broker, a store and workers of its own, so that several go on
at once. Whoever keeps the account is no part of the system: it knows the ids it has sent, what the provider
says has been done, and what the broker's own record says of a message that is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import redis

from resilience import get_circuit_breaker
from resilience.standby import waiting_room
from resilience.states import PARKED
from resilience.stores.redis import circuit_of
from tests.faults.ledger import Ledger
from tests.fleet import Fleet, Worker, fleet, wait_for
from tests.servers import Rabbit, Server, installed

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.result import AsyncResult

# Tasks of an outage: more than two batches, so that a releaser has one in hand when it is hit.
COUNT = 250
PROBES = 3
# A worker of two processes.
PREFETCHED = 8
# So long that the client is always ahead of the workers.
BARE_SECONDS = 0.01
# A killed releaser's lease lapses after 15 s, a killed worker's messages come back after 3 s.
PATIENCE_SECONDS = 120
# What RabbitMQ tells of a queue is as of a moment ago.
CALM_SECONDS = {"redis": 0.3, "rabbitmq": 1.0}


# With appendfsync everysec Redis puts off writing for two seconds while the disk is busy; the state PARKED is
# a moment older than the entry.
PUT_OFF = timedelta(seconds=3)


@dataclass(frozen=True)
class Case:
    """What strikes, and under what.

    Attributes:
        fault: worker, child, store, broker, beat or freeze.
        broker: redis or rabbitmq.
        bare: Celery alone, tasks without the layer.
        deduplicate: With ``worker_deduplicate_successful_tasks``.
        fsync: How the store writes its append-only file, where the store is what is hit.
    """

    fault: str
    broker: str = "redis"
    bare: bool = False
    deduplicate: bool = False
    fsync: str = ""

    def __str__(self) -> str:
        marks = ("bare" if self.bare else "", "deduplicated" if self.deduplicate else "", self.fsync)
        return "-".join(filter(None, (self.fault, self.broker, *marks)))


@dataclass
class Account:
    """What a series has shown.

    Attributes:
        sent: Tasks.
        strikes: Times the fault struck.
        while_releasing: Of those, in the middle of a release.
        under_way: For each strike: tasks sent in this round, of those parked, and runs that ended well.
        lost: Ids that never succeeded.
        by_transport: Those of them that the broker's own transport has lost, by the broker's record.
        put_off: Those of them parked so shortly before the store was killed that it may have put off writing
            them.
        again: Runs beyond the first, all tasks together.
        redelivered: Messages the broker itself delivered again; -1: it keeps no such record.
        after_success: Ids that ran although they had ended in SUCCESS.
        unwell: Ids and states of those that were done and whose ``get()`` did not return at once.
        stuck: What would not end, in words.
        ended: Workers that have ended by themselves and were started again, as a supervisor would.
        seconds: It took so long.
    """

    sent: int = 0
    strikes: int = 0
    while_releasing: int = 0
    under_way: list[tuple[int, int, int]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    by_transport: list[str] = field(default_factory=list)
    put_off: list[str] = field(default_factory=list)
    again: int = 0
    redelivered: int = -1
    after_success: list[str] = field(default_factory=list)
    unwell: list[str] = field(default_factory=list)
    stuck: str = ""
    ended: int = 0
    seconds: float = 0


class Series:
    """One fleet through all its rounds.

    Args:
        case: What strikes.
        seed: Of every random choice.
        folder: Where servers keep their data and workers their logs.
        stack: Takes care that all of it is gone afterwards.
    """

    def __init__(self, case: Case, seed: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self.case = case
        self.random = random.Random(f"{seed}-{case}")  # noqa: S311 - a seed that can be given again
        self.killed: list[datetime] = []
        self.account = Account()
        self.stack = stack
        self.folder = folder
        settings: dict[str, Any] = {"threshold": 3, "timeout": 1, "probes": PROBES, "call": 1}
        settings["visibility"] = 3
        rabbit = None
        if case.broker == "rabbitmq":
            self.broker: Server | Rabbit = Rabbit(folder / "rabbitmq")
            rabbit = self.broker
            stack.callback(rabbit.stop)
            rabbit.start()
        else:
            self.broker = self._server("broker", "always" if case.fault == "broker" else "no")
            settings["broker"] = f"redis://127.0.0.1:{self.broker.port}/0"
            self.ledger = Ledger(self.broker.folder)
        if case.fault == "store":
            self.store = self._server("store", case.fsync)
            settings["store"] = f"redis://127.0.0.1:{self.store.port}/0"
        if case.deduplicate:
            settings["deduplicate"] = 1
        self.fleet: Fleet = stack.enter_context(fleet(folder, rabbit, **settings))
        self.lot = redis.Redis.from_url(self.fleet.environment["FLEET_STORE"])
        stack.callback(self.lot.close)
        self.workers = [self.fleet.worker(), self.fleet.worker()]
        self.families: dict[int, list[psutil.Process]] = {}
        self.orphans: list[psutil.Process] = []
        stack.callback(self._bury)
        self.sent: list[Any] = []
        self.sent_before = self.done_before = 0

    def _server(self, name: str, fsync: str) -> Server:
        server = Server(
            installed("redis-server"),
            self.folder / name,
            appendonly="yes",
            appendfsync=fsync,
            auto_aof_rewrite_percentage=0,
        )
        self.stack.callback(server.kill)
        server.start()
        return server

    def _bury(self) -> None:
        """Pool processes that outlived their main process, if any still do."""
        self._end(self.orphans)

    def _end(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    # What the auditor sees

    def parked(self) -> int:
        return int(self.lot.hlen(f"{circuit_of('dead')}:lot:messages"))

    def leased(self) -> dict[bytes, bytes]:
        """Ids on their way back to the broker, and their releasers' tokens."""
        found: dict[bytes, bytes] = self.lot.hgetall(f"{circuit_of('dead')}:lot:tokens")
        return found

    def done(self) -> int:
        """Runs that ended well since this round began."""
        return int(self.fleet.provider.llen("done")) - self.done_before

    def quiet(self) -> bool:
        """Nothing held back by the broker, nothing queued, nothing unacknowledged, nothing parked."""
        held_back = self.fleet.queued(waiting_room("fleet").name) if self.fleet.rabbit else 0
        return not (held_back or self.fleet.queued() or self.parked())

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Until it holds; a worker that has ended by itself meanwhile is started again."""

        def holds() -> Any:
            for place, worker in enumerate(self.workers):
                if worker.process.poll() is not None:
                    self.account.ended += 1
                    self.workers[place] = self.fleet.worker()
            return condition()

        wait_for(holds, PATIENCE_SECONDS, what)

    def ready(self) -> None:
        """Until both workers are; then it is known who belongs to whom."""
        self.wait(lambda: all(" ready." in worker.text() for worker in self.workers), "workers ready")
        self.families = {worker.process.pid: worker.children() for worker in self.workers}

    def remains(self, condition: Callable[[], bool], what: str) -> None:
        """Until it has held for a while without a break."""
        since: list[float] = []

        def held() -> bool:
            if not condition():
                since.clear()
                return False
            since.append(time.monotonic())
            return since[-1] - since[0] >= CALM_SECONDS[self.case.broker]

        self.wait(held, what)

    def note(self) -> None:
        """What is under way when a fault strikes."""
        self.account.strikes += 1
        self.account.under_way.append((len(self.sent) - self.sent_before, self.parked(), self.done()))

    # The faults

    def strike(self) -> None:
        self.note()
        getattr(self, f"strike_{self.case.fault}")()

    def strike_worker(self) -> None:
        """The main process, alone or with its pool; another worker takes its place."""
        victim = self.random.choice(self.workers)
        victim.process.kill()
        family = self.families[victim.process.pid]
        if self.random.random() < 0.5:
            self._end(family)
        self.orphans += family
        victim.process.wait()
        self.workers[self.workers.index(victim)] = self.fleet.worker()

    def strike_child(self) -> None:
        """A process of a pool."""
        self.random.choice(self.random.choice(self.workers).children()).kill()

    def strike_store(self) -> None:
        """At once again, or after the workers have noticed."""
        texts = [len(worker.text()) for worker in self.workers]
        self.killed.append(datetime.now(UTC))
        self.store.kill()
        if self.random.random() < 0.5:
            wait_for(
                lambda: any(
                    "local to this process" in worker.text()[seen:]
                    for worker, seen in zip(self.workers, texts, strict=True)
                ),
                30,
                "a worker notices",
            )
        self.store.start()

    def strike_broker(self) -> None:
        self.broker.kill()
        self.broker.start()

    def strike_beat(self) -> None:
        """Dead from the first strike of a round to its end."""
        if self.beat.poll() is None:
            self.beat.kill()
            self.beat.wait()

    def start_beat(self) -> None:
        log = self.folder / "beat.log"
        before = log.read_text().count("Sending due task") if log.exists() else 0
        with log.open("ab") as out:
            self.beat = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "fleet_app", "beat", "-l", "INFO"),
                    *("-s", str(self.folder / "schedule")),
                ],
                env=self.fleet.environment,
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self.stack.callback(self.beat.kill)
        wait_for(lambda: log.read_text().count("Sending due task") > before, 30, "beat works")

    # The rounds

    def play(self, rounds: int) -> Account:
        started = time.monotonic()
        try:
            for _ in range(rounds):
                self.ready()
                self.play_round()
        except AssertionError as error:
            self.account.stuck = f"{error}: {self.fleet.queued()} queued, {self.parked()} parked"
        self.add_up()
        self.account.seconds = time.monotonic() - started
        return self.account

    def play_round(self) -> None:
        self.sent_before, self.done_before = len(self.sent), int(self.fleet.provider.llen("done"))
        if self.case.fault == "beat":
            self.start_beat()
        if self.case.bare:
            for _ in range(2):
                self.ready()
                self.send(
                    lambda number: self.fleet.app.bare.delay(number, BARE_SECONDS), self.done, COUNT // 2
                )
        else:
            self.fleet.mode("down")
            self.send(self.fleet.app.fetch.delay, self.parked, COUNT)
            self.remains(lambda: not self.fleet.queued(), "all are parked")
            self.release()
        self.remains(self.quiet, "the lot and the queue are worked off")

    def send(self, task: Callable[[int], Any], progress: Callable[[], int], count: int) -> None:
        """Tasks; the fault strikes while they are sent and worked on."""
        moment = progress() + self.random.randrange(1, count // 2)
        strikes = self.case.fault != "freeze"
        for number in range(count):
            self.sent.append(task(number))
            if strikes and progress() >= moment:
                self.strike()
                strikes = False
        if strikes:
            self.wait(lambda: progress() >= moment, f"{moment} are worked on")
            self.strike()

    def release(self) -> None:
        """The fault strikes with a batch under lease, or just published, or when some have returned."""
        if self.case.fault == "freeze":
            self.two_releasers()
            return
        self.ready()
        moment = self.random.randrange(1, COUNT // 2)
        events: tuple[Callable[[], bool], ...] = (
            lambda: len(self.leased()) > PROBES,
            lambda: self.parked() < COUNT - PROBES * 2,
            lambda: self.done() >= moment,
        )
        event = self.random.choice(events)
        self.fleet.mode("ok")
        self.at_once(lambda: event() or self.done() >= COUNT // 2)
        self.strike()
        self.account.while_releasing += 1

    def at_once(self, condition: Callable[[], bool]) -> None:
        """Until it holds, without a pause between two looks: the moment is soon over."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if time.monotonic() > ends:
                raise AssertionError(f"no release within {PATIENCE_SECONDS} s")

    def two_releasers(self) -> None:
        """One stands still amid a release, its lease lapses, the other takes over, the first wakes."""
        first, second = self.random.sample(self.workers, 2)
        circuit = get_circuit_breaker("dead")
        circuit.force_open(PATIENCE_SECONDS)  # so that the second holds no probe when it stops
        self.remains(lambda: not self.fleet.queued() and not self.leased(), "nothing is on its way")
        second.freeze()
        self.fleet.mode("ok")
        circuit.reset()
        held = self.caught_releasing(first)
        self.note()
        second.thaw()
        self.wait(
            lambda: not any(self.leased().get(ident) == token for ident, token in held.items()),
            "the other releaser takes over",
        )
        first.thaw()
        self.account.while_releasing += 1

    def caught_releasing(self, worker: Worker) -> dict[bytes, bytes]:
        """Freeze a worker while it has a batch, not just a probe, between lease and deletion."""
        while True:
            self.at_once(lambda: len(self.leased()) > PROBES)
            worker.freeze()
            held = self.leased()
            if len(held) > PROBES:
                return held
            worker.thaw()

    # The account

    def was_put_off(self, result: AsyncResult) -> bool:
        """Whether it was parked, and the store killed within PUT_OFF of it."""
        if result.state != PARKED:
            return False
        since = datetime.fromisoformat(result.info["since"])
        return any(timedelta() <= killed - since <= PUT_OFF for killed in self.killed)

    def add_up(self) -> None:
        account = self.account
        runs = Counter(self.fleet.done())
        ids = {result.id for result in self.sent}
        lost = ids - set(runs)
        account.sent = len(ids)
        account.again = sum(runs[ident] - 1 for ident in ids & set(runs))
        account.lost = sorted(lost)
        account.put_off = sorted(
            result.id for result in self.sent if result.id in lost and self.was_put_off(result)
        )
        account.after_success = self.fleet.provider.lrange("again", 0, -1)  # type: ignore[assignment]
        if self.case.broker == "redis":
            account.by_transport = sorted(self.ledger.popped_and_never_noted(lost))
            account.redelivered = sum(self.ledger.redelivered[ident] for ident in ids)
        for result in self.sent:
            if result.id not in lost:
                try:
                    result.get(timeout=5)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                    account.unwell.append(f"{result.id} {result.state} {error!r}")


def main(case: str, seed: str, rounds: str, folder: str) -> None:
    # A client that has lost its broker says so at every try.
    logging.getLogger().addHandler(logging.NullHandler())
    with contextlib.ExitStack() as stack:
        account = Series(Case(**json.loads(case)), seed, Path(folder), stack).play(int(rounds))
        sys.stdout.write(json.dumps(asdict(account)))


if __name__ == "__main__":
    main(*sys.argv[1:])
