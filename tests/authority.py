"""Certificates of a test's own, made with the openssl program."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

from tests.servers import installed

if TYPE_CHECKING:
    from pathlib import Path


class Certificate(NamedTuple):
    """What a server shows, its key, and who vouches for it."""

    file: Path
    key: Path
    authority: Path


class Authority:
    """Vouches for servers on this machine.

    Args:
        folder: Where it keeps what it makes.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._made = 0
        self.file, self._key = folder / "authority.pem", folder / "authority.key"
        self._openssl(
            "req", "-x509", *self._new(self._key), "-out", self.file, "-subj", "/CN=tests", "-days", "2"
        )

    def certificate(self, *names: str) -> Certificate:
        """For a server of these names, each as in DNS:localhost or IP:127.0.0.1."""
        self._made += 1
        kinds = ("pem", "key", "csr", "ext")
        file, key, request, said = (self.folder / f"server-{self._made}.{kind}" for kind in kinds)
        self._openssl("req", *self._new(key), "-out", request, "-subj", "/CN=server")
        said.write_text(f"subjectAltName={','.join(names)}\n")
        signed = ("-CA", self.file, "-CAkey", self._key, "-CAcreateserial", "-days", "2", "-extfile", said)
        self._openssl("x509", "-req", "-in", request, *signed, "-out", file)
        return Certificate(file, key, self.file)

    @staticmethod
    def _new(key: Path) -> tuple[object, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key)

    @staticmethod
    def _openssl(*arguments: object) -> None:
        subprocess.run(
            [str(installed("openssl")), *map(str, arguments)], check=True, capture_output=True, timeout=60
        )
