"""What a store's URL says. What it says wrongly is named, a password never."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    from collections.abc import Mapping

REDIS_PORT = 6379
#: Of one process to one server.
MAX_CONNECTIONS = 20
#: What may stand behind the ? of a URL, and what it is.
OPTIONS = {
    "db": "the number of the database",
    "max_connections": "connections of one process to one server, at most",
    "timeout": "seconds that one command may wait for the store",
    "wait_replicas": "replicas that must have a parked message",
}
TLS_OPTIONS = frozenset(
    (
        *("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"),
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers"),
    )
)
_NO = ("false", "0", "no", "n", "f")
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_PARTS = re.compile(r"([a-z+]+)://([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.IGNORECASE)
_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]*))(?::(\d+))?")


class AddressError(ValueError):
    """What is wrong with a URL; its text may be shown."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is, and how it is to be asked.

    Attributes:
        kind: ``redis``, ``sentinel`` or ``cluster``.
        shown: The address without user and password.
        hosts: Host and port: the server's, or of some of the sentinels or of the cluster's servers.
        master: With sentinels: the name of what they watch.
        tls: How to use TLS; None: not at all.
        seconds: How long one command may wait; None: as is usual.
        most: Connections of one process to one server.
        replicas: How many must have a parked message.
    """

    kind: str
    shown: str
    hosts: tuple[tuple[str, int], ...]
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    master: str = ""
    tls: Mapping[str, str] | None = None
    seconds: float | None = None
    most: int = MAX_CONNECTIONS
    replicas: int = 0

    def context(self) -> ssl.SSLContext | None:
        """How TLS is spoken there; files are read anew, since certificates are renewed."""
        if self.tls is None:
            return None
        told = self.tls
        context = ssl.create_default_context(cafile=told.get("ssl_ca_certs"), capath=told.get("ssl_ca_path"))
        verify = _VERIFY[told.get("ssl_cert_reqs", "required")]
        named = told.get("ssl_check_hostname", "").lower() not in _NO
        context.check_hostname = named and verify is not ssl.CERT_NONE
        context.verify_mode = verify
        if told.get("ssl_certfile"):
            context.load_cert_chain(told["ssl_certfile"], told.get("ssl_keyfile"), told.get("ssl_password"))
        if told.get("ssl_ciphers"):
            context.set_ciphers(told["ssl_ciphers"])
        return context


def parse(url: str) -> Address:
    """Read a URL.

    Raises:
        AddressError: It cannot be read, or says what nobody here knows.
    """
    parts = _PARTS.fullmatch(url)
    if parts is None or "@" in (parts[3] or "") + (parts[4] or ""):  # of a password, which would be shown
        raise AddressError("it has a password that is not percent-encoded, or a #")
    scheme, authority, path, query = (part or "" for part in parts.groups())
    scheme = scheme.lower()
    user, _, hosts = authority.rpartition("@")
    username, _, password = user.partition(":")
    kind = scheme.rpartition("+")[2].replace("rediss", "redis")
    options = dict(parse_qsl(query, keep_blank_values=True))
    secured = scheme.startswith("rediss")
    _check_names(options, secured=secured)
    master, database = "", path.strip("/")
    if kind == "sentinel":
        master, _, database = database.partition("/")
        if not master:
            raise AddressError("sentinel:// needs the name of the master: sentinel://host:port/name")
    number = _database(options.get("db", database))
    if kind == "cluster" and number:
        raise AddressError("a cluster has no databases")
    return Address(
        kind=kind,
        shown=f"{hosts}{path}",
        hosts=_hosts(hosts, kind),
        username=unquote(username),
        password=unquote(password),
        database=number,
        master=unquote(master),
        tls={name: text for name, text in options.items() if name in TLS_OPTIONS} if secured else None,
        seconds=_number(options, "timeout", 0.001, 60),
        most=int(_number(options, "max_connections", 1, 100_000) or MAX_CONNECTIONS),
        replicas=int(_number(options, "wait_replicas", 0, 1_000) or 0),
    )


def _check_names(options: Mapping[str, str], *, secured: bool) -> None:
    for name in options:
        if name not in OPTIONS and name not in TLS_OPTIONS:
            known = ", ".join(sorted((*OPTIONS, *TLS_OPTIONS)))
            raise AddressError(f"the option {name!r} is unknown: leave it out, or use one of {known}")
        if name in TLS_OPTIONS and not secured:
            raise AddressError(f"{name} says how to use TLS, and the scheme not to use it")
    if options.get("ssl_cert_reqs", "required") not in _VERIFY:
        raise AddressError(f"ssl_cert_reqs is one of {', '.join(_VERIFY)}")


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise AddressError(f"the database {text!r} is no number")
    return int(text or 0)


def _number(options: Mapping[str, str], name: str, least: float, most: float) -> float | None:
    text = options.get(name)
    if text is None:
        return None
    try:
        number = float(text) if name == "timeout" else int(text)
    except ValueError:
        number = -1
    if not least <= number <= most:
        raise AddressError(f"{name} is {OPTIONS[name]}: give a number from {least:g} to {most:g}")
    return number


def _hosts(text: str, kind: str) -> tuple[tuple[str, int], ...]:
    found = []
    for one in text.split(",") if kind != "redis" else [text]:
        parts = _HOST.fullmatch(one)
        if parts is None:
            raise AddressError("a host is written host:port, an IPv6 address in brackets: [::1]:6379")
        host, port = unquote(parts[1] or parts[2] or ""), parts[3]
        if kind != "redis" and not (host and port):
            raise AddressError("hosts are written host:port,host:port")
        number = int(port or REDIS_PORT)
        if not 0 < number < 2**16:
            raise AddressError(f"the port {number} is none")
        found.append((host or "localhost", number))
    return tuple(found)
