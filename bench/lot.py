"""A parking lot of a thousand, a hundred thousand and a million tasks: the time and the memory it takes.

Messages are a real task's, as Celery writes it and a worker reads it off the broker. An act's time in the
store is what the server's own statistics say its scripts took, its round trip what the caller waited.
"""

from __future__ import annotations

import statistics
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import redis
from celery import Celery

from bench.crew import server
from bench.findings import Findings, Promise, Table
from resilience.parking import Lane, Stored, Waiting
from resilience.policy import MAX_BYTES, MAX_COUNT, Policy
from resilience.release import BATCH
from resilience.stores.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SIZE = 1_000_000
# Of the largest: where it is measured.
PARTS = (1000, 10, 1)
# What is parked in one act here; a store is waited for 200 ms at most.
PARKED_AT_ONCE = 200
TIMES = 100
SERVICE = "iex_cloud"
# As many circuits as the catalogue has providers.
SERVICES = (SERVICE, *(f"provider_{number}" for number in range(17)))
PAGE = 20
POLICY = Policy(max_parked=MAX_COUNT, max_parked_bytes=MAX_BYTES)
MILLISECONDS = 1000
# How many of the same messages a bare list holds, as a Redis broker's queue does.
QUEUED = 10_000
# What is promised, of the scripts in the store.
LIMIT_MS = 10
NOTE = (
    "A policy's own bounds come first: a million such messages are more than the 1 GiB that "
    "`max_parked_bytes` allows unless it is raised."
)


@dataclass(frozen=True)
class Took:
    """Milliseconds of one act, time after time."""

    store: list[float]
    round_trip: list[float]

    @property
    def cells(self) -> list[str]:
        """Medians and the worst, as they are read."""
        return [told(times) for times in (self.store, self.round_trip)]


def told(times: list[float]) -> str:
    """The median, and the worst."""
    return f"{statistics.median(times):.2f} ({max(times):.2f})"


@dataclass(frozen=True)
class Lot:
    """What a lot of one size costs.

    Attributes:
        size: How many tasks are parked.
        parking: Milliseconds the store took to park each, since the size before.
        memory: Bytes of the store's memory they take.
        texts: Bytes of their messages.
        acts: How long what is done with it takes, by what it is.
    """

    size: int
    parking: float
    memory: int
    texts: int
    acts: dict[str, Took]


RELEASE = f"release a batch of {BATCH} (take, settle)"
LIST = f"`circuits list`, {len(SERVICES)} circuits"
WAITING = f"`circuits parked`, the first {PAGE}"
ACTS = (RELEASE, LIST, WAITING)


class Scene:
    """A store with a lot, and a message to fill it with.

    Args:
        port: The server's.
    """

    def __init__(self, port: int) -> None:
        self.store = RedisStore(f"redis://127.0.0.1:{port}/1")
        self.server = redis.Redis(port=port)
        self.sample, self.wire = sample(f"redis://127.0.0.1:{port}/0")
        self.server.flushall()
        self.empty = self.memory()
        self.parked = 0
        self.texts = 0

    def memory(self) -> int:
        """Bytes the server has given to its data."""
        return int(self.server.info("memory")["used_memory"])

    def entries(self, count: int) -> Iterator[Waiting]:
        """So many tasks more, each with an id and a symbol of its own."""
        body = bytes(self.sample.body)
        for _ in range(count):
            ident = str(uuid.uuid4())
            self.parked += 1
            yield Waiting(
                replace(
                    self.sample,
                    id=ident,
                    body=body.replace(b"SYM0000000", b"SYM%07d" % self.parked),
                    headers={**self.sample.headers, "id": ident, "root_id": ident},
                    properties={**self.sample.properties, "correlation_id": ident},
                ),
                Lane.SCHEDULED,
            )

    def fill(self, size: int) -> float:
        """Park until there are so many; returns milliseconds the store took for each."""
        before, first = self.micros(), self.parked
        while self.parked < size:
            batch = list(self.entries(min(PARKED_AT_ONCE, size - self.parked)))
            self.texts += sum(len(entry.text) for entry in batch)
            self.store.lot.park(SERVICE, batch, POLICY)
        return (self.micros() - before) / MILLISECONDS / (self.parked - first)

    def micros(self, *commands: str) -> int:
        """Microseconds that these commands, or else all scripts, have taken so far."""
        stats: dict[str, Any] = self.server.info("commandstats")
        return sum(
            int(stats.get(f"cmdstat_{command}", {}).get("usec", 0)) for command in commands or ("evalsha",)
        )

    def measure(
        self,
        act: Callable[[], Any],
        after: Callable[[Any], Any] = lambda _: None,
        commands: tuple[str, ...] = (),
    ) -> Took:
        """Time an act, in the store by these commands; ``after`` puts back, untimed, what it has moved."""
        took = Took([], [])
        for _ in range(TIMES):
            before, started = self.micros(*commands), time.perf_counter()
            answer = act()
            took.round_trip.append((time.perf_counter() - started) * MILLISECONDS)
            took.store.append((self.micros(*commands) - before) / MILLISECONDS)
            after(answer)
        return took

    def queued(self) -> tuple[float, Took]:
        """Bytes of a message in a broker's queue, and the time to take a batch out of it: a bare list."""
        before = self.memory()
        for _ in range(QUEUED // BATCH):
            self.server.lpush("queue", *[self.wire] * BATCH)
        held = (self.memory() - before) / QUEUED
        took = self.measure(
            lambda: self.server.rpop("queue", BATCH),
            lambda messages: self.server.lpush("queue", *messages),
            ("rpop",),
        )
        self.server.delete("queue")
        return held, took

    def release(self) -> list[Stored]:
        """A batch, as a releaser takes it out; what it publishes is no matter here."""
        token, messages = self.store.lot.take(SERVICE, POLICY, BATCH)
        settled = self.store.lot.settle(SERVICE, token, [message.id for message in messages])
        if settled != min(BATCH, self.parked):
            raise AssertionError(f"{settled} were released, not a batch of {BATCH}")
        return messages

    def park_again(self, messages: list[Stored]) -> None:
        """They keep their place."""
        self.store.lot.park(SERVICE, [Waiting(message, Lane.SCHEDULED) for message in messages], POLICY)


def sample(broker: str) -> tuple[Stored, bytes]:
    """One fetch, sent by Celery and read off the broker as a worker reads it; and as the broker has it."""
    app = Celery("lot", broker=broker, set_as_current=False)

    @app.task(name="tasks.fetch.quote", shared=False)
    def quote(symbol: str, provider: str, dataset: str = "quote") -> None:
        """Never run."""

    quote.apply_async(
        ("SYM0000000", SERVICE), {"dataset": "quote"}, queue=f"{SERVICE}.scheduled", expires=86_400
    )
    with redis.Redis.from_url(broker) as bare:
        [wire] = bare.lrange(f"{SERVICE}.scheduled", 0, -1)
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(f"{SERVICE}.scheduled")
        message = queue.get(timeout=10)
        message.ack()
        queue.close()
    app.close()
    return Stored.of(message), wire


def measured(scene: Scene, sizes: Iterable[int]) -> Iterator[Lot]:
    """The scene's lot as it grows to each of these sizes, the smallest first."""
    for size in sizes:
        parking = scene.fill(size)
        memory = scene.memory() - scene.empty
        acts = {
            RELEASE: scene.measure(scene.release, scene.park_again),
            LIST: scene.measure(lambda: scene.store.read(SERVICES)),
            WAITING: scene.measure(lambda: scene.store.lot.waiting(SERVICE, PAGE)),
        }
        yield Lot(size, parking, memory, scene.texts, acts)


def promises(least: Lot, most: Lot, queued: tuple[float, Took]) -> list[Promise]:
    """What is promised of the largest lot, beside the smallest, and a bare list."""
    limit = f"≤ {LIMIT_MS} ms in the store, the worst of {TIMES}"
    among = f"with {most.size:,} parked"
    small = f"with {least.size:,}: "
    held, popped = queued
    return [
        Promise(
            f"A batch of {BATCH} is released, {among}",
            limit,
            f"{told(most.acts[RELEASE].store)} ms",
            max(most.acts[RELEASE].store) <= LIMIT_MS,
            f"{small}{told(least.acts[RELEASE].store)} ms; out of a bare list: {told(popped.store)} ms",
        ),
        Promise(
            f"`circuits list`, {among}",
            limit,
            f"{told(most.acts[LIST].store)} ms",
            max(most.acts[LIST].store) <= LIMIT_MS,
            f"{small}{told(least.acts[LIST].store)} ms",
        ),
        Promise(
            "A parked task in the store",
            "",
            f"{most.memory / most.size:,.0f} bytes",
            beside=f"in a bare list, as in a Redis broker's queue: {held:,.0f} bytes",
        ),
    ]


def main(tasks: int = SIZE) -> Findings:
    """Three lots, each larger than the one before."""
    with server() as port:
        scene = Scene(port)
        lots = list(measured(scene, (tasks // part for part in PARTS)))
        queued = scene.queued()
    rows = []
    for lot in lots:
        rows += [
            [f"{lot.size:,}" if act == RELEASE else "", act, *took.cells] for act, took in lot.acts.items()
        ]
    rows.append(["none", f"take {BATCH} of the same messages out of a bare list", *queued[1].cells])
    sizes = [
        [
            *(f"{lot.size:,}", f"{lot.memory / lot.size:,.0f}", f"{lot.texts / lot.size:,.0f}"),
            f"{lot.parking:.3f}",
        ]
        for lot in lots
    ]
    return Findings(
        "A full lot",
        "Real messages with an expiry, in an embedded Valkey. The time in the store is what its own "
        "statistics say the scripts took, the round trip what the caller waited.",
        [
            Table(
                ["parked", "an act", "in the store", "round trip"],
                rows,
                f"Milliseconds, the median of {TIMES}, and the worst",
                words=2,
            ),
            Table(["parked", "bytes each", "of them its message", "parking it took the store (ms)"], sizes),
        ],
        promises(lots[0], lots[-1], queued),
        [NOTE],
    )
