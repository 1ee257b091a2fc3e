"""Settings: what a process takes from a ``make run`` beside it, and what addresses say of TLS."""

from __future__ import annotations

import json
import os
import ssl
from typing import TYPE_CHECKING

import pytest

from resilience import ConfigurationError
from workers.settings import celery_addresses, settings, simulated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORE = "redis://127.0.0.1:1/2"
STAND_INS = {"FINNHUB_BASE_URL": "http://127.0.0.1:8903"}


@pytest.fixture(autouse=True)
def noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """What a run that lives has written down; nothing else is set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.delenv("RESILIENCE_STORE_URL", raising=False)
    told = {"pid": os.getpid(), "settings": {"resilience_store_url": STORE}, "simulated": STAND_INS}
    file = tmp_path / "run.json"
    file.write_text(json.dumps(told))
    settings.cache_clear()
    yield file
    settings.cache_clear()


def test_another_terminal_finds_the_runs_servers_and_stand_ins() -> None:
    assert settings().resilience_store_url == STORE
    assert simulated() == STAND_INS


def test_a_process_with_a_store_of_its_own_is_sent_to_no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESILIENCE_STORE_URL", "redis://store.example:6379/0")
    assert simulated() == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 0}', '{"pid": 4194305}', '{"pid": "x"}'])
def test_of_a_run_that_is_over_or_told_nothing_there_is_nothing(text: str, noted: Path) -> None:
    noted.write_text(text)
    assert simulated() == {}
    assert settings().resilience_store_url.startswith("redis://127.0.0.1:6390/")


REQUIRED = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}


@pytest.mark.parametrize(
    ("broker", "url", "tls"),
    [
        ("redis://:p%40ss@h:6379/0", "redis://:p%40ss@h:6379/0", None),
        ("redis://h/0?heartbeat=5", "redis://h/0?heartbeat=5", None),
        ("amqp://u:p%2Fw@h:5672/%2F", "amqp://u:p%2Fw@h:5672/%2F", None),
        ("memory://", "memory://", None),
        ("rediss://u:p%40ss@h:6379/0", "rediss://u:p%40ss@h:6379/0", REQUIRED),
        ("rediss://h/0?ssl_cert_reqs=required&heartbeat=5", "rediss://h/0?heartbeat=5", REQUIRED),
        (
            "rediss://h/0?ssl_ca_certs=/dev/null&ssl_certfile=/dev/zero&ssl_keyfile=/dev/full",
            "rediss://h/0",
            {
                "ssl_ca_certs": "/dev/null",
                "ssl_certfile": "/dev/zero",
                "ssl_keyfile": "/dev/full",
                **REQUIRED,
            },
        ),
        (
            "rediss://h/0?ssl_cert_reqs=none",
            "rediss://h/0",
            {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False},
        ),
        (
            "amqps://u:p%2Fw@h:5671/vhost",
            "amqps://u:p%2Fw@h:5671/vhost",
            {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None},
        ),
        (
            "amqps://h/?ssl_ca_certs=/dev/null&ssl_check_hostname=false",
            "amqps://h/",
            {"ca_certs": "/dev/null", "cert_reqs": ssl.CERT_REQUIRED},
        ),
        (
            "amqps://one/v?ssl_ca_certs=/dev/null;amqps://two/v?ssl_ca_certs=/dev/null",
            "amqps://one/v;amqps://two/v",
            {"ca_certs": "/dev/null", "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None},
        ),
    ],
)
def test_tls_is_verified_unless_an_address_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, broker: str, url: str, tls: dict[str, object] | None
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", broker)
    told = celery_addresses()[1]
    assert (told["broker_read_url"], told["broker_write_url"], told["broker_use_ssl"]) == (url, url, tls)


@pytest.mark.parametrize("variable", ["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"])
@pytest.mark.parametrize(
    ("url", "told"),
    [
        *((f"redis://:hid{sign}den@h:6379/0", "percent-encoded") for sign in "/?#"),
        *((f"amqp://u:12{sign}hidden@h/", "percent-encoded") for sign in "/?#"),
        ("redis://:hidden@h:port/0", "percent-encoded"),
        ("rediss://:hidden@[h/0", "percent-encoded"),
        ("rediss://:hidden@h/0?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs=/nowhere/ca.pem cannot be read"),
        ("rediss://:hidden@h/0?ssl_ca_cert=/x", "it has ssl_ca_cert; known are ssl_ca_certs"),
        ("amqps://:hidden@h/0?ssl_cert_reqs=maybe", "ssl_cert_reqs is one of required, optional, none"),
        ("amqps://:hidden@h/0?ssl_check_hostname=maybe", "ssl_check_hostname is true or false"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_by_its_variable_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str, told: str
) -> None:
    monkeypatch.setenv(variable, url)
    with pytest.raises(ConfigurationError, match=f"^{variable}: ") as caught:
        settings()
    assert told in str(caught.value)
    assert "hid" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_env_file_that_is_no_text_is_told(noted: Path) -> None:
    (noted.parent / ".env").write_bytes(b"FINNHUB_API_KEY=\xff\xfe")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        settings()
