"""Servers a test starts, kills and starts again: any binary that reads Redis's configuration."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import redis

from tests.fleet import wait_for
from tests.ports import free_port


def installed(binary: str) -> Path:
    """A server that is no Python package; it must be there, a test that needs it is not skipped."""
    found = shutil.which(binary, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise FileNotFoundError(f"{binary} not found: apt install {binary} (or make servers)")
    return Path(found)


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
