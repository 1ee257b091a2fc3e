"""What is asked of the fleet while faults strike: what a scheduler sends, what users refresh and read.

``python -m tests.chaos.load COUNT`` is the flood, in a process of its own.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery import Celery
from kombu.entity import Exchange, Queue

from resilience import set_default_store
from resilience.stores import open_store
from tasks import latest, refresh
from tasks.errors import InputError
from tasks.fetch import route
from tasks.providers import PROVIDERS
from tests.chaos.stage import LIVING, QUEUES, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.reading import Reading

#: Tasks a second, each with an id the auditor knows and a symbol of its own.
TASKS_A_SECOND = 4
#: Symbols that are read and refreshed; beat fetches them, too.
READ = tuple(f"AAPL{number:04}" for number in range(40))
FLOOD_SYMBOLS = tuple(f"MSFT{number:04}" for number in range(500))
FLOOD_THREADS = 4
WAIT_SECONDS = 2.0
#: A caller may wait so much longer than it said where servers hang: about a second for each it needs.
LATE_SECONDS = 4.0
EVERY_SECONDS = 20


def example(service: str, number: int) -> tuple[str, str]:
    """A dataset of a provider, and a symbol it serves."""
    dataset, endpoint = next(iter(PROVIDERS[service].endpoints.items()))
    name = f"{endpoint.example}{number:04}"
    try:
        endpoint.spelling(name)
    except InputError:  # a CIK
        name = f"{1_000_000_000 + number}"
    return dataset, name


def schedule() -> str:
    """A schedule file: quotes and bars of the symbols that are read, each from whoever has quota left."""
    symbols = ", ".join(f'"{symbol}"' for symbol in READ)
    return "\n".join(
        f'[[fetch]]\ndataset = "{dataset}"\nprovider = "auto"\n'
        f"symbols = [{symbols}]\nevery_seconds = {EVERY_SECONDS}\n"
        for dataset in ("quote", "bars")
    )


def caller(broker: str, results: str) -> Celery:
    """The app as a caller in another program has it: its addresses, its queues, and nothing else."""
    app = Celery("caller", broker=broker, backend=results)
    app.conf.update(
        task_queues=[Queue(name, Exchange("tasks", "topic"), name) for name in ("default", *QUEUES)],
        task_routes=(route,),
        task_default_queue="default",
        task_publish_retry=False,
        broker_transport_options={"socket_timeout": 3, "socket_connect_timeout": 3, "confirm_publish": True},
        redis_socket_timeout=3.0,
    )
    return app


@dataclass
class Read:
    """One answer to a reader.

    Attributes:
        asked: When, Unix time.
        seconds: How long it took.
        verb: latest or refresh.
        symbol: Of what.
        reading: What came; None where it raised.
        error: What it raised.
    """

    asked: float
    seconds: float
    verb: str
    symbol: str
    reading: Reading | None
    error: str = ""


@dataclass
class Load:
    """Sends and reads until it is told to stop, from threads of its own.

    Attributes:
        sent: The ids of tasks the broker has taken, and their symbols.
        sent_at: When each was, Unix times.
        unsure: The ids of those of which nobody knows.
        reads: What readers were told.
        flood_process: The flood, once it has begun.
    """

    stage: Stage
    seed: str
    sent: dict[str, str] = field(default_factory=dict)
    sent_at: dict[str, float] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    reads: list[Read] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        env = self.stage.environment
        self.app = caller(env["CELERY_BROKER_URL"], env["CELERY_RESULT_BACKEND"])
        self.app.set_default()
        set_default_store(open_store(env["RESILIENCE_STORE_URL"]))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._read)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send and read no more."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        numbers = itertools.count()
        services = itertools.cycle([name for name in LIVING if PROVIDERS[name].quota is None or _brisk(name)])
        while not self._over.wait(1 / TASKS_A_SECOND):
            service = next(services)
            dataset, symbol = example(service, next(numbers))
            ident = str(uuid.uuid4())
            try:
                self.app.send_task(f"tasks.{service}.fetch", (dataset, symbol), task_id=ident)
            except Exception:  # noqa: BLE001 - whatever a broker that is struck raises
                self.unsure.add(ident)
            else:
                self.sent[ident] = symbol
                self.sent_at[ident] = time.time()

    def _read(self) -> None:
        chance = random.Random(self.seed)  # noqa: S311 - a seed that can be given again
        while not self._over.wait(0.1):
            symbol = chance.choice(READ)
            verb = "refresh" if chance.random() < 0.3 else "latest"
            self.reads.append(self._ask(verb, symbol))

    @staticmethod
    def _ask(verb: str, symbol: str) -> Read:
        asked, began = time.time(), time.monotonic()
        reading, error = None, ""
        try:
            if verb == "latest":
                reading = latest("quote", symbol)
            else:
                reading = refresh("quote", symbol, wait=WAIT_SECONDS)
        except Exception as raised:  # noqa: BLE001 - an outage is never an exception: that is what is audited
            error = repr(raised)
        return Read(asked, time.monotonic() - began, verb, symbol, reading, error)


def _brisk(service: str) -> bool:
    """Whether its quota bears its share of the load."""
    quota = PROVIDERS[service].quota
    return quota is None or quota.calls / quota.seconds >= TASKS_A_SECOND / 4


def flood(count: int) -> Iterator[Any]:
    """So many refreshes that nobody waits for, as fast as they go."""

    def ask(number: int) -> str:
        try:
            return refresh("quote", FLOOD_SYMBOLS[number % len(FLOOD_SYMBOLS)]).outcome
        except Exception as error:  # noqa: BLE001 - an outage is never an exception: that is what is audited
            return repr(error)

    with ThreadPoolExecutor(FLOOD_THREADS) as pool:
        yield from pool.map(ask, range(count))


if __name__ == "__main__":
    app = caller(os.environ["CELERY_BROKER_URL"], os.environ["CELERY_RESULT_BACKEND"])
    app.set_default()
    set_default_store(open_store(os.environ["RESILIENCE_STORE_URL"]))
    for outcome in flood(int(sys.argv[1])):
        sys.stdout.write(f"{outcome}\n")
