"""How costs grow: with 1 to 16 worker processes, 10 to 500 services, a thousand to a million parked tasks.

Real servers and real ``celery worker`` processes. The store is a server of its own, so what its processor,
its memory and its count of commands tell is the layer's alone. A slope near 0 says that a thing costs the
same however many there are; on two cores that, and not a rate, is what can be seen of 16 workers.
"""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import redis
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from bench import curves, lot
from bench.crew import server
from bench.curves import Curve, Panel, Sweep
from bench.scrape import timed
from resilience import CircuitBreaker, get_circuit_breaker, publishing
from resilience.metrics import CircuitCollector
from resilience.release import BATCH, Releaser
from resilience.stores import redis as redis_store
from tests.fleet import ROOT, Fleet, Worker, fleet, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PAGE = ROOT / "docs/running-it-large.md"
IMAGES = ROOT / "docs/images"
ELSEWHERE = ROOT / "build/scale"
MIB = 2**20
MILLI, MICRO = 1e3, 1e6
PATIENCE_SECONDS = 900
#: Of the store; a busy machine takes longer than the fifth of a second that is waited for otherwise.
SOCKET_SECONDS = 10.0
#: A task that waits for its provider; ten a second is what a process makes of them.
WAIT_SECONDS = 0.1
#: What is parked for each service that is open, for lots to be looked at.
PARKED_EACH = 20
RETURNS = 5


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        workers, services, parked: What each sweep goes through.
        tasks: Without a wait, in each round, with the layer and without.
        rounds: The median of so many is taken.
        seconds: How long tasks that wait are run, and a fleet with nothing to do is watched.
        calls: Of each call that takes microseconds.
    """

    workers: Sequence[int]
    services: Sequence[int]
    parked: Sequence[int]
    tasks: int
    rounds: int
    seconds: float
    calls: int


FULL = Size((1, 2, 4, 8, 16), (10, 50, 100, 250, 500), (1000, 10_000, 100_000, 1_000_000), 2000, 3, 10, 500)
SMALLER = Size((1, 2, 4), (10, 50, 100), (1000, 10_000), 400, 1, 3, 100)

#: Costs by what they are of, then by size.
Costs = dict[str, dict[int, float]]


@dataclass(frozen=True)
class Usage:
    """What only goes up: seconds of the clock, of the workers' processors, of the store's; its scripts."""

    clock: float
    workers: float
    store: float
    scripts: float

    @classmethod
    def now(cls, workers: Sequence[Worker], store: redis.Redis) -> Usage:
        """Of all the workers' processes."""
        cpu = sum(sum(process.cpu_times()[:2]) for worker in workers for process in family(worker))
        told = store.info("everything")
        spent = told["used_cpu_user"] + told["used_cpu_sys"]
        return cls(time.monotonic(), cpu, spent, told.get("cmdstat_evalsha", {}).get("calls", 0))

    def since(self, before: Usage) -> Usage:
        """The difference."""
        return Usage(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


def family(worker: Worker) -> list[psutil.Process]:
    """A worker's main process, then its pool's."""
    return [psutil.Process(worker.process.pid), *worker.children()]


def own_memory(worker: Worker) -> tuple[float, float]:
    """MiB that only the main process has, and only a pool process: what one more of each would take."""
    main, *pool = (process.memory_full_info().uss / MIB for process in family(worker))
    return main, sum(pool) / len(pool)


@contextmanager
def beside_a_store(**settings: object) -> Iterator[tuple[Fleet, redis.Redis, str]]:
    """A fleet whose store is a server of its own; a client of that, and its address."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        port = stack.enter_context(server())
        url = f"redis://127.0.0.1:{port}/0"
        run = stack.enter_context(fleet(Path(folder), store=url, socket=SOCKET_SECONDS, **settings))
        yield run, stack.enter_context(redis.Redis(port=port)), url


# 1. Workers


def workers(size: Size) -> Sweep:
    """So many workers, each a main process and one of a pool."""
    costs: Costs = defaultdict(dict)
    for count in size.workers:
        with beside_a_store() as (run, store, _):
            crew = [run.worker(concurrency=1) for _ in range(count)]
            for worker in crew:
                worker.ready()
            work = Work(run, store, crew)
            for task in ("fleet.bare", "fleet.guarded"):
                work.of(task, 20 * count, 0)  # imports, connects, loads its scripts
            waiting = round(count * size.seconds / WAIT_SECONDS)
            for name, (tasks, seconds) in {"": (size.tasks, 0), " waiting": (waiting, WAIT_SECONDS)}.items():
                rounds = [
                    (work.of("fleet.bare", tasks, seconds), work.of("fleet.guarded", tasks, seconds))
                    for _ in range(size.rounds)
                ]
                for what, value in middle(rounds).items():
                    costs[what + name][count] = value
            memory = [own_memory(worker) for worker in crew]
            costs["main"][count], costs["pool"][count] = (median(each) for each in zip(*memory, strict=True))
    return Sweep(
        "workers",
        "workers",
        f"{size.workers[0]} to {size.workers[-1]} workers of two processes each, on {os.cpu_count()} cores",
        (
            panel(
                "CPU of the workers, a task", "ms", costs, {"guarded": "with the layer", "bare": "without"}
            ),
            panel("Time, a task", "ms", costs, {"guarded clock": "with the layer", "bare clock": "without"}),
            panel(
                "With the layer, x without",
                "CPU",
                costs,
                {"ratio": "no wait", "ratio waiting": "100 ms each"},
            ),
            panel(
                "Done a second, tasks of 100 ms",
                "tasks/s",
                costs,
                {"guarded rate waiting": "with the layer", "bare rate waiting": "without"},
            ),
            panel(
                "CPU of the store, a task", "µs", costs, {"store": "no wait", "store waiting": "100 ms each"}
            ),
            panel(
                "CPU of the store, in all",
                "ms/s",
                costs,
                {"store rate": "no wait", "store rate waiting": "100 ms each"},
            ),
            panel(
                "Round trips to the store, a task",
                "scripts",
                costs,
                {"scripts": "no wait", "scripts waiting": "100 ms each"},
            ),
            panel(
                "Memory of its own, a process", "MiB", costs, {"main": "main process", "pool": "pool process"}
            ),
        ),
    )


@dataclass(frozen=True)
class Work:
    """A fleet that is given something to do."""

    run: Fleet
    store: redis.Redis
    crew: Sequence[Worker]

    def of(self, task: str, tasks: int, seconds: float) -> Usage:
        """What one of so many tasks of so long took; they are all in the queue before the first is taken."""
        before = self.run.provider.llen("done")
        with self.run.app.app.producer_or_acquire() as producer:
            for number in range(tasks):
                self.run.app.app.tasks[task].apply_async((number, seconds), queue="held", producer=producer)
        began = Usage.now(self.crew, self.store)
        self.run.broker.rename("held", "work")
        done = before + tasks
        wait_for(lambda: self.run.provider.llen("done") == done, PATIENCE_SECONDS, f"{tasks} of {task}")
        took = Usage.now(self.crew, self.store).since(began)
        return Usage(*(each / tasks for each in astuple(took)))


def middle(rounds: Sequence[tuple[Usage, Usage]]) -> dict[str, float]:
    """Medians of what a task took, without the layer and with it, round after round."""
    bare, guarded = zip(*rounds, strict=True)
    return {
        "bare": median(each.workers for each in bare) * MILLI,
        "guarded": median(each.workers for each in guarded) * MILLI,
        "ratio": median(ours.workers / theirs.workers for theirs, ours in rounds),
        "bare clock": median(each.clock for each in bare) * MILLI,
        "guarded clock": median(each.clock for each in guarded) * MILLI,
        "bare rate": 1 / median(each.clock for each in bare),
        "guarded rate": 1 / median(each.clock for each in guarded),
        "store": median(each.store for each in guarded) * MICRO,
        "store rate": median(each.store / each.clock for each in guarded) * MILLI,
        "scripts": median(each.scripts for each in guarded),
    }


# 2. Services


def services(size: Size) -> Sweep:
    """So many circuits, each with a past; first all closed, then every second one open, with tasks parked."""
    costs: Costs = defaultdict(dict)
    for count in size.services:
        with beside_a_store(services=count, threshold=3, timeout=3600) as (run, store, url):
            for what, value in Services(run, store, url, size).measured().items():
                costs[what][count] = value
    return Sweep(
        "services",
        "services",
        f"{size.services[0]} to {size.services[-1]} services",
        (
            panel("A call", "µs", costs, {"closed": "let through", "refused": "refused"}),
            panel("A worker's look", "ms", costs, {"snapshot": "all closed", "look": "half open"}),
            panel("A circuit closes: its lot is empty after", "s", costs, {"returns": "one worker"}),
            panel(
                "CPU of the store, for a worker that looks",
                "ms/s",
                costs,
                {"store": "all closed", "store open": "half open"},
            ),
            panel("CPU of that worker", "ms/s", costs, {"worker": "all closed", "worker open": "half open"}),
            panel("The publishing job", "ms", costs, {"publish": "no news", "news": "half just opened"}),
            panel("A scrape", "ms", costs, {"scrape": "half open"}),
            panel("Memory of the store, a service", "bytes", costs, {"circuit": "called three times"}),
            panel(
                "Memory of its own, a process", "MiB", costs, {"main": "main process", "pool": "pool process"}
            ),
        ),
    )


@dataclass(frozen=True)
class Services:
    """One fleet with its services."""

    run: Fleet
    store: redis.Redis
    url: str
    size: Size

    def measured(self) -> dict[str, float]:
        """Costs by what they are of."""
        app = self.run.app.app
        names = self.run.app.MANY
        opened = names[1::2]
        gate = app.resilience_gate
        report(["other"], "success")  # loads the scripts
        report(names, "success")
        costs = {"snapshot": self.milliseconds(gate.refresh)}
        costs["circuit"] = self.kept() / len(gate.services())
        worker = self.run.worker(concurrency=1).ready()
        costs["worker"], costs["store"] = self.watched(worker)
        costs["main"], costs["pool"] = own_memory(worker)
        report(opened, "failure")
        publishing._listeners.clear()  # noqa: SLF001 - the app's, and those of the fleets before, are for tests
        logging.getLogger(publishing.__name__).setLevel(logging.ERROR)  # it tells of each change
        [news] = timed(lambda: publishing.publish(app), 1)
        self.park(opened)
        costs["worker open"], costs["store open"] = self.watched(worker)
        mended = opened[:: max(2, len(opened) // RETURNS)]
        costs["returns"] = median(map(self.emptied, mended))
        worker.stop()
        releaser = Releaser(SimpleNamespace(app=app))
        costs["look"] = self.milliseconds(lambda: releaser.look(gate))
        releaser.outlet.close()
        registry = CollectorRegistry()
        registry.register(CircuitCollector())
        return costs | {
            "closed": self.call(names[::2], closed),
            "refused": self.call(sorted({*opened} - {*mended}), refused),
            "news": news * MILLI,
            "publish": self.milliseconds(lambda: publishing.publish(app)),
            "scrape": self.milliseconds(lambda: generate_latest(registry)),
        }

    def kept(self) -> int:
        """Bytes of the store's memory that all keys take with what they hold."""
        return sum(self.store.memory_usage(key, samples=0) or 0 for key in self.store.scan_iter())

    def milliseconds(self, act: Callable[[], object]) -> float:
        """What an act takes, the first time aside."""
        act()
        return median(timed(act, self.size.calls // 10)) * MILLI

    def call(self, names: Sequence[str], act: Callable[[CircuitBreaker], None]) -> float:
        """Microseconds of a call that asks the store, each of another service than the last."""
        store = redis_store.RedisStore(self.url)
        turns = itertools.cycle([CircuitBreaker(name, store=store) for name in names])
        took = timed(lambda: act(next(turns)), self.size.calls)
        store.scripts.close()
        return median(took) * MICRO

    def watched(self, worker: Worker) -> tuple[float, float]:
        """Milliseconds of a processor that a worker with nothing to do takes a second; its store for it."""
        began = Usage.now([worker], self.store)
        time.sleep(self.size.seconds)
        took = Usage.now([worker], self.store).since(began)
        return took.workers / took.clock * MILLI, took.store / took.clock * MILLI

    def park(self, names: Sequence[str]) -> None:
        """Tasks for services that are open, which the worker parks."""
        app = self.run.app.app
        with app.producer_or_acquire() as producer:
            for name, number in itertools.product(names, range(PARKED_EACH)):
                app.tasks[f"fleet.{name}"].apply_async((number,), queue="work", producer=producer)
        shared = app.resilience_gate.store
        wait_for(
            lambda: all(circuit.parked == PARKED_EACH for circuit in shared.read(names).values()),
            PATIENCE_SECONDS,
            "all are parked",
        )

    def emptied(self, name: str) -> float:
        """Seconds from when a circuit closes to when its lot is empty."""
        breaker = get_circuit_breaker(name)
        began = time.monotonic()
        breaker.reset()
        wait_for(lambda: breaker.read().parked == 0, PATIENCE_SECONDS, f"the lot of {name} is empty")
        return time.monotonic() - began


def report(names: Sequence[str], verdict: str) -> None:
    """Three calls each."""
    for breaker in map(get_circuit_breaker, names):
        for _ in range(3):
            breaker.report(breaker.acquire(), verdict)


def closed(breaker: CircuitBreaker) -> None:
    """A call that is let through, and its report."""
    breaker.report(breaker.acquire(), "success")


def refused(breaker: CircuitBreaker) -> None:
    """A call that is not."""
    if breaker.acquire():
        raise AssertionError(f"{breaker.service_name} is not open")


# 3. Parked


def parked(size: Size) -> Sweep:
    """A lot that grows: what ``bench.lot`` measures."""
    costs: Costs = defaultdict(dict)
    with server() as port:
        for lots in lot.measured(lot.Scene(port), size.parked):
            count = lots.size
            costs["memory"][count] = lots.memory / count
            costs["message"][count] = lots.texts / count
            costs["all"][count] = lots.memory / MIB
            costs["parking"][count] = lots.parking / MILLI * MICRO
            for act, took in lots.acts.items():
                costs[act][count] = median(took.store)
                costs[f"{act}, asked"][count] = median(took.round_trip)
    both = {"": "in the store", ", asked": "round trip"}
    return Sweep(
        "parked",
        "parked tasks",
        f"{curves.number(size.parked[0])} to {curves.number(size.parked[-1])} parked tasks",
        (
            panel(
                "Memory of the store, a task", "bytes", costs, {"memory": "in all", "message": "its message"}
            ),
            panel("Memory of the store", "MiB", costs, {"all": "in all"}),
            panel("To park one", "µs", costs, {"parking": "in the store"}),
            *(
                panel(title, "ms", costs, {act + end: name for end, name in both.items()})
                for act, title in {
                    lot.RELEASE: f"To release {BATCH}",
                    lot.LIST: lot.LIST.replace("`", ""),
                    lot.WAITING: lot.WAITING.replace("`", ""),
                }.items()
            ),
        ),
    )


def panel(title: str, unit: str, costs: Mapping[str, Mapping[int, float]], names: Mapping[str, str]) -> Panel:
    """The curves of these costs under these names."""
    return Panel(title, unit, tuple(Curve(name, costs[what]) for what, name in names.items()))


SWEEPS: dict[str, Callable[[Size], Sweep]] = {"workers": workers, "services": services, "parked": parked}


def main(*, smaller: bool = False, docs: bool = False, only: Sequence[str] = ()) -> None:
    """Run, print and draw.

    Args:
        smaller: A few minutes instead of half an hour, and less to tell from.
        docs: Write figures and tables to where the page has them, not to build/scale.
        only: Sweeps; none: all.
    """
    console, progress = Console(width=130), Console(stderr=True)
    redis_store.SOCKET_SECONDS = SOCKET_SECONDS
    for name in only or SWEEPS:
        with progress.status(f"scale: {name}"):
            sweep = SWEEPS[name](SMALLER if smaller else FULL)
        console.print(curves.printed(sweep))
        try:
            files = curves.draw(sweep, IMAGES if docs else ELSEWHERE)
        except curves.MissingError as error:
            progress.print(f"no figure: {error}")
            files = []
        if docs:
            curves.put(PAGE, sweep)
            files.append(PAGE)
        for file in files:
            console.print(f"written: {file.relative_to(ROOT)}", highlight=False)
