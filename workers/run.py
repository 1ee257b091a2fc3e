"""``make run``: everything on this machine from one command, and nothing left behind.

Starts the embedded Valkey, the provider simulator, two workers, beat and Flower, then shows a live table.
Each runs in a session of its own, so Ctrl-C reaches this process alone, which stops them in order: those
who make work, those who do it, those who keep it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.text import Text

from resilience import ConfigurationError, set_default_store
from tasks.errors import InputError
from tasks.fetch import is_retired
from tasks.providers import PROVIDERS
from tasks.schedule import load
from tasks.settings import provider_settings
from workers import embedded, live
from workers.settings import Settings, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

HOST = "127.0.0.1"
FREE_BYTES = 200 * 1024 * 1024
STOP_SECONDS = 12.0
PR_SET_PDEATHSIG = 1

console = Console()


class StartError(Exception):
    """Something is in the way; the message says what, and the remedy."""


@dataclass
class Part:
    """One process of the run."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Run:
    """The processes of one local run.

    Args:
        config: Ports, addresses and the state folder.
        scheduled: The providers the schedule asks.
    """

    def __init__(self, config: Settings, scheduled: Collection[str] = ()) -> None:
        self.config = config
        self.scheduled = frozenset(scheduled)
        self.parts: list[Part] = []
        self.environment = dict(os.environ)
        self.simulated: set[str] = set()

    def start(self) -> None:
        """Start everything, in order.

        Raises:
            StartError: What is in the way.
        """
        config = self.config
        redis = f"redis://{HOST}:{config.redis_port}"
        addresses = {
            "celery_broker_url": f"{redis}/0",
            "celery_result_backend": f"{redis}/1",
            "resilience_store_url": f"{redis}/2",
            "simulator_url": f"http://{HOST}:{config.simulator_port}",
        }
        self.environment |= {name.upper(): value for name, value in addresses.items()}
        set_default_store(addresses["resilience_store_url"])
        self.environment |= {"STATE_DIR": str(config.state_dir), "PYTHONUNBUFFERED": "1"}
        self._simulate()
        self.spawn("valkey", embedded.command(config.state_dir / "valkey", config.redis_port))
        self._await("valkey", lambda: _pings(config.redis_port))
        self.spawn("simulator", _python("workers.simulator", "--control-port", str(config.simulator_port)))
        self._await("simulator", lambda: _listens(config.simulator_port))
        self._note(addresses)
        everything = ["worker", "-l", "INFO", "--without-mingle", "--without-gossip"]
        on_demand = ",".join(f"{service}.on_demand" for service in PROVIDERS)
        self.celery("worker", *everything, "-n", "all@%h", "-c", "2")
        # Capacity the schedule cannot take: a caller waits for no batch.
        self.celery("worker-on-demand", *everything, "-n", "on_demand@%h", "-c", "1", "-Q", on_demand)
        self.celery("beat", "beat", "-l", "INFO", "--pidfile=", "-s", str(config.state_dir / "beat"))
        if "circuits_without_login" not in config.model_fields_set:
            # Nobody else reaches this Flower, and its page takes orders from no other site's.
            self.environment["CIRCUITS_WITHOUT_LOGIN"] = "control"
        flowerconfig = str(__file__).replace("run.py", "flowerconfig.py")
        self.celery(
            "flower", "flower", f"--address={HOST}", f"--port={config.flower_port}", f"--conf={flowerconfig}"
        )
        for name in ("worker", "worker-on-demand"):
            self._await(name, partial(self._ready, name))
        self._await("flower", lambda: _listens(config.flower_port))

    def celery(self, name: str, *arguments: str) -> None:
        """Start a Celery program of our app."""
        self.spawn(name, _python("celery", "-A", "workers", *arguments))

    def spawn(self, name: str, command: list[str]) -> None:
        """Start one process, its output in its own log."""
        log = self.config.state_dir / "logs" / f"{name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - our own programs
                command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                preexec_fn=_own_session,  # noqa: PLW1509 - this process has no threads yet
            )
        self.parts.append(Part(name, process, log))

    def dead(self) -> Part | None:
        """A part that ended by itself."""
        return next((part for part in self.parts if part.process.poll() is not None), None)

    def stop(self) -> None:
        """Stop everything, the servers last; whoever does not listen is killed.

        Where the server is gone there is nothing to give back, and nobody to wait for.
        """
        patience = STOP_SECONDS if self._served() else 0
        for names in (("beat", "flower"), ("worker", "worker-on-demand"), ("simulator",), ("valkey",)):
            group = [part for part in self.parts if part.name in names]
            for part in group:
                _signal(part, signal.SIGTERM)
            ends = time.monotonic() + patience
            for part in group:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    part.process.wait(max(0.1, ends - time.monotonic()))
                _signal(part, signal.SIGKILL)  # and whatever it left in its group
                part.process.wait()
        self.config.run_file.unlink(missing_ok=True)

    def _simulate(self) -> None:
        """Simulated is who has neither a key, nor a contact, nor an address of the user's own."""
        real = provider_settings()
        for place, (service, row) in enumerate(PROVIDERS.items()):
            if real.is_set_up(service) or row.retired:
                continue
            self.simulated.add(service)
            self.environment[f"{service.upper()}_API_KEY"] = "simulated:simulated"
            self.environment[f"{service.upper()}_CONTACT"] = "simulated simulated@example.com"
            self.environment[f"{service.upper()}_BASE_URL"] = (
                f"http://{HOST}:{self.config.simulator_port + 1 + place}"
            )
        # Whoever can be broken is asked now and then, so that one sees it break.
        self.environment["SCHEDULE_EXAMPLES"] = ",".join(sorted(self.simulated - self.scheduled))

    def _note(self, addresses: dict[str, str]) -> None:
        """Tell other terminals where everything is; see ``workers/settings.py``."""
        names = [f"{service.upper()}_BASE_URL" for service in PROVIDERS if service in self.simulated]
        simulated = {name: self.environment[name] for name in names}
        noted = {"pid": os.getpid(), "settings": addresses, "simulated": simulated}
        self.config.run_file.write_text(json.dumps(noted), "utf-8")

    def _await(self, name: str, condition: Callable[[], bool], seconds: float = 60) -> None:
        ends = time.monotonic() + seconds
        while not condition():
            part = self._part(name)
            if part.process.poll() is not None or time.monotonic() > ends:
                raise StartError(f"{name} did not start. The end of {part.log}:\n{tail(part.log)}")
            time.sleep(0.05)

    def _ready(self, name: str) -> bool:
        return " ready." in self._part(name).log.read_text("utf-8", "replace")

    def _served(self) -> bool:
        return any(part.name == "valkey" and part.process.poll() is None for part in self.parts)

    def _part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _own_session() -> None:
    """A session of its own, and on Linux an end with this process even if that is killed."""
    os.setsid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal(part: Part, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(part.process.pid, number)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def _pings(port: int) -> bool:
    """It listens and has read its append-only file."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 0.5) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


def tail(log: Path, lines: int = 12) -> str:
    """The end of a log."""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])


def check(config: Settings) -> None:
    """Everything that can be known to be in the way before anything starts.

    Raises:
        StartError: What, and the remedy.
    """
    with contextlib.suppress(FileExistsError):
        (config.state_dir / "logs").mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(config.state_dir).free
    if free < FREE_BYTES:
        raise StartError(
            f"{config.state_dir} has {free // 2**20} MiB left, {FREE_BYTES // 2**20} are needed: "
            "free some, or name another folder with STATE_DIR"
        )
    wanted = {config.redis_port: "REDIS_PORT", config.flower_port: "FLOWER_PORT"}
    for port in range(config.simulator_port, config.simulator_port + len(PROVIDERS) + 1):
        wanted[port] = "SIMULATOR_PORT"
    for port, variable in wanted.items():
        if _listens(port):
            raise StartError(f"port {port} is taken: stop what uses it, or set {variable} to another port")


@contextlib.contextmanager
def only_one(config: Settings) -> Iterator[None]:
    """One run per state folder."""
    config.state_dir.mkdir(parents=True, exist_ok=True)
    with (config.state_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"another run uses {config.state_dir}: stop it, or name another folder with STATE_DIR"
            ) from None
        yield


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    """Start, show, stop; returns the exit code."""
    argparse.ArgumentParser(prog="make run", description=__doc__).parse_args()  # it takes none
    # A shell starts background jobs with SIGINT ignored; this one is to be stopped by it all the same.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        config = settings()
        provider_settings()  # an unusable key shows before anything starts
        # Whoever is not set up is simulated.
        scheduled = {
            fetch.provider for fetch in load(config.schedule_file, lambda service: not is_retired(service))
        }
        with only_one(config):
            check(config)
            return _serve(Run(config, scheduled))
    except (StartError, InputError, ConfigurationError, ModuleNotFoundError) as error:
        _say("cannot start:", str(error))
    except OSError as error:
        _say("cannot start:", f"{error}: name another folder with STATE_DIR")
    return 1


def _say(what: str, more: str) -> None:
    """What went wrong; a path or a log may hold brackets, so they are no markup."""
    console.print(Text.assemble((what, "red"), " ", more), highlight=False, soft_wrap=True)


def _serve(run: Run) -> int:
    try:
        console.print("Starting Valkey, simulator, workers, beat and Flower ...")
        run.start()
        live.show(run, console)
    except KeyboardInterrupt:
        pass
    else:
        part = run.dead()
        if part:
            _say(f"{part.name} ended.", f"The end of {part.log}:\n{tail(part.log)}")
            return 1
    finally:
        signal.signal(signal.SIGINT, _hurry(run))
        console.print("Stopping ... (Ctrl-C again: at once)")
        run.stop()
    return 0


def _hurry(run: Run) -> Callable[..., None]:
    def kill(*_: Any) -> None:
        for part in run.parts:
            _signal(part, signal.SIGKILL)

    return kill


if __name__ == "__main__":
    sys.exit(main())
