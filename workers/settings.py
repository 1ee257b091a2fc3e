"""Where the running system finds its servers.

In this order: environment, ``.env``, a ``make run`` that is running, defaults.

Providers' keys and addresses are the domain's (``tasks/settings.py``).
"""

from __future__ import annotations

import json
import os
import ssl
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from kombu.connection import Connection
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from resilience import ConfigurationError

DEFAULT_CIRCUITS = Path("circuits.toml")
RUN_FILE = "run.json"
# Whose addresses hold a path, where there may be an @; in others it belongs to a password that is not quoted.
FILED = ("db+", "sqla+", "file", "filesystem")
SECURE = frozenset({"rediss", "amqps"})
CERT_REQS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def default_state_dir() -> Path:
    """Where this user's programs keep their state."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "market-data-resilience"


def _embedded(known: dict[str, Any], database: int) -> str:
    return f"redis://127.0.0.1:{known.get('redis_port', 6390)}/{database}"


class Settings(BaseSettings):
    """One table of everything that can be set.

    Attributes:
        celery_broker_url: Tasks travel here.
        celery_result_backend: Results and states are kept here.
        resilience_store_url: Circuits, parked tasks and last good values live here.
        simulator_url: The provider simulator's control address.
        schedule_file: What is fetched, and how often.
        schedule_examples: Providers, separated by commas, of which beat fetches an example of each dataset
            once a minute, beside the file; a local run names those it simulates and the file does not ask.
        circuits_file: How each circuit behaves; the default one need not exist.
        log_format: text, or json: an object a line.
        state_dir: Data and logs of a local run.
        redis_port: The embedded server's port in a local run.
        simulator_port: The simulator's control port; each provider takes one of the next ports.
        flower_port: Flower's port in a local run.
        circuits_without_login: What anybody may do in Flower without logging in: ``read`` the circuits'
            JSON; ``control`` the circuits too, if it has no login at all and is called as localhost.
    """

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True)

    redis_port: int = Field(6390, gt=0, lt=65536)
    simulator_port: int = Field(8900, gt=0, lt=65000)
    flower_port: int = Field(5555, gt=0, lt=65536)
    circuits_without_login: Literal["nothing", "read", "control"] = "nothing"
    celery_broker_url: str = Field(default_factory=lambda known: _embedded(known, 0))
    celery_result_backend: str = Field(default_factory=lambda known: _embedded(known, 1))
    resilience_store_url: str = Field(default_factory=lambda known: _embedded(known, 2))
    simulator_url: str = Field(
        default_factory=lambda known: f"http://127.0.0.1:{known.get('simulator_port', 8900)}"
    )
    schedule_file: Path = Path("schedule.toml")
    schedule_examples: str = ""
    circuits_file: Path = DEFAULT_CIRCUITS
    log_format: Literal["text", "json"] = "text"
    state_dir: Path = Field(default_factory=default_state_dir)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put a running ``make run`` behind the environment, so that any terminal finds it."""
        return init_settings, env_settings, dotenv_settings, file_secret_settings, _RunningHere(settings_cls)

    @field_validator("celery_broker_url", "celery_result_backend", mode="after")
    @classmethod
    def _can_be_used(cls, value: str, info: ValidationInfo) -> str:
        """Before Celery finds out, whose complaint would show a part of the password."""
        plain, tls = _tls_of(value)
        if info.field_name == "celery_broker_url":
            try:
                Connection(plain, ssl=tls).as_uri()  # nobody is asked
            except (TypeError, LookupError, ValueError, ImportError):
                raise ValueError("it has a scheme, or an option after its ?, that cannot be used") from None
        return value

    @property
    def run_file(self) -> Path:
        """What a local run tells other terminals."""
        return self.state_dir / RUN_FILE


def celery_addresses() -> tuple[str, dict[str, Any]]:
    """The result backend's address, and Celery's settings for it and for the broker, as they say of TLS.

    ``rediss://`` and ``amqps://`` are verified, certificate and host name, unless the address says otherwise;
    left to itself kombu verifies neither a ``rediss://`` server nor an ``amqps://`` server's name.
    """
    broker, secured = _tls_of(settings().celery_broker_url)
    backend, secured_too = _tls_of(settings().celery_result_backend)
    return backend, {
        # Celery reads CELERY_BROKER_URL for itself, and goes by it before broker_url, but not before these.
        "broker_read_url": broker,
        "broker_write_url": broker,
        "broker_use_ssl": secured,
        "redis_backend_use_ssl": secured_too,
    }


def _tls_of(urls: str) -> tuple[str, dict[str, Any] | None]:
    """An address without its ``ssl_`` words, and what Celery is to be told instead; None: no TLS.

    Raises:
        ValueError: It cannot be read, without a word of what it holds; or a word or a file is not there.
    """
    plain, found = [], None
    for url in urls.split(";"):  # a broker may have others that stand in for it
        parts = _split(url)
        query = parse_qsl(parts.query, keep_blank_values=True)
        words = {name: value for name, value in query if name.startswith("ssl_")}
        if parts.scheme not in SECURE:
            plain.append(url)
            continue
        rest = [(name, value) for name, value in query if name not in words]
        plain.append(parts._replace(query=urlencode(rest)).geturl())
        found = found or _options(words, amqp=parts.scheme == "amqps")
    return ";".join(plain), found


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
        left = f"{parts.path}{parts.query}{parts.fragment}"
        whole = "://" in url and ("@" not in left or parts.scheme.startswith(FILED))
    except ValueError:  # its words show what was taken for the port
        whole = False
    if not whole:
        raise ValueError(
            "it cannot be read: write it as redis://user:password@host:port/number or "
            "amqp://user:password@host:port/vhost, with / ? # ; : @ and % in a password percent-encoded"
        )
    return parts


def _options(words: dict[str, str], *, amqp: bool) -> dict[str, Any]:
    """Of TLS, by redis-py's names or by amqp's."""
    known = (*FILES, "ssl_cert_reqs", "ssl_check_hostname")
    for name, value in words.items():
        if name not in known:
            raise ValueError(f"it has {name}; known are {', '.join(known)}")
        if name in FILES and not os.access(value, os.R_OK):
            raise ValueError(f"{name}={value} cannot be read")
    required, named = words.get("ssl_cert_reqs", "required"), words.get("ssl_check_hostname", "true")
    if required not in CERT_REQS or named not in ("true", "false"):
        raise ValueError(
            f"ssl_cert_reqs is one of {', '.join(CERT_REQS)}, ssl_check_hostname is true or false"
        )
    checked = named == "true" and required != "none"
    options: dict[str, Any] = {name: words[name] for name in FILES if name in words}
    options |= {"ssl_cert_reqs": CERT_REQS[required]}
    if not amqp:
        return options | {"ssl_check_hostname": checked}
    options = {name.removeprefix("ssl_"): value for name, value in options.items()}
    return options | ({"server_hostname": None} if checked else {})  # None: the address's own


class _RunningHere(PydanticBaseSettingsSource):
    """The addresses a local run has written down, while its process lives."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - pydantic's signature
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        folder = self.current_state.get("state_dir") or os.environ.get("STATE_DIR") or default_state_dir()
        return dict(_noted(Path(folder) / RUN_FILE).get("settings", {}))


def _noted(run_file: Path) -> dict[str, Any]:
    """What a local run has written down; nothing of one that is over."""
    try:
        noted = json.loads(run_file.read_text("utf-8"))
        os.kill(noted["pid"], 0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return {}
    return dict(noted)


def simulated() -> dict[str, str]:
    """Where a running ``make run`` has its stand-ins, by the provider's variable, as in FINNHUB_BASE_URL.

    None for a process that has another store: it is no part of that run, and asks the providers themselves.
    """
    noted = _noted(settings().run_file)
    if noted.get("settings", {}).get("resilience_store_url") != settings().resilience_store_url:
        return {}
    return dict(noted.get("simulated", {}))


@cache
def settings() -> Settings:
    """This process's settings.

    Raises:
        ConfigurationError: A value that cannot be used; it names the variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        given = "" if Settings.model_fields[name].annotation is str else f"={str(first['input'])[:80]!r}"
        why = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigurationError(
            f"{name.upper()}{given}: {why}; set another in the environment or .env"
        ) from None  # an address may hold a password, so it is not shown
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f".env cannot be read ({type(error).__name__}): save it as UTF-8") from None
