"""Addresses and keys from the environment: used, or refused by name; what is secret in them is never told."""

from __future__ import annotations

import contextlib
import os
import tempfile
import traceback
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from kombu import Connection

from resilience import ConfigurationError, stores
from resilience.stores import open_store
from tasks.errors import SettingsError
from tasks.settings import ProviderSettings
from tests.fuzz.target import Target
from workers.settings import celery_addresses, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "hUnTeR2"
SIGNS = st.text("/?#:@%[]&= ;+\\\"'\n\x00\u2028", max_size=3)
SCHEMES = st.sampled_from(
    [
        *(
            "redis",
            "rediss",
            "amqp",
            "amqps",
            "sentinel",
            "rediss+sentinel",
            "cluster",
            "rediss+cluster",
            "memory",
        ),
        *("", "REDIS", "http", "redis+socket", "db+sqlite", "rpc", "x"),
    ]
)
BETWEEN = st.sampled_from(["://"] * 9 + ["", ":", ":/", "//"])
HOSTS = st.sampled_from(
    ["h", "h:1", "h:1,i:2", "h:x", "[::1]:1", "[::1", "", "h:99999", "h:", "127.0.0.1:6379"]
)
PATHS = st.sampled_from(["", "/", "/0", "/x", "/name/0", "/%2F"])
QUERIES = st.sampled_from(
    [
        *(
            "",
            "?",
            "?ssl_ca_certs=/dev/null",
            "?ssl_ca_certs=/nowhere",
            "?ssl_cert_reqs=none",
            "?ssl_cert_reqs=x",
        ),
        *(
            "?ssl_check_hostname=false",
            "?ssl_check_hostname=x",
            "?wait_replicas=1",
            "?wait_replicas=x",
            "?a=b&c",
            "?=&=",
        ),
        *("?socket_timeout=x", "?ssl_x=1", "?db=x", "?ssl_certfile=/dev/null&ssl_keyfile=/dev/null"),
    ]
)


@st.composite
def urls(draw: st.DrawFn) -> str:
    """An address with a secret in it, as somebody writes it who has not quoted it."""
    user = draw(st.sampled_from(["", "user"]))
    password = draw(SIGNS) + SECRET + draw(SIGNS)
    return f"{draw(SCHEMES)}{draw(BETWEEN)}{user}:{password}@{draw(HOSTS)}{draw(PATHS)}{draw(QUERIES)}"


EXAMPLES = st.fixed_dictionaries(
    {
        "url": urls(),
        "variable": st.sampled_from(["CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"]),
        "key": st.builds(lambda before, after: before + SECRET + after, SIGNS | st.text(max_size=3), SIGNS),
        "key_variable": st.sampled_from(
            ["finnhub_api_key", "alpaca_api_key", "finnhub_base_url", "sec_edgar_contact"]
        ),
    }
)


def check(_: None, example: dict[str, Any]) -> None:
    """Whatever it is, it is one of the errors that are ours, and tells nothing."""
    url = example["url"]
    try:
        if "\x00" not in url:  # no variable can hold that
            os.environ[example["variable"]] = url
        settings.cache_clear()
        told = celery_addresses()[1]
        for address in told["broker_write_url"].split(";"):
            assert SECRET not in Connection(address, ssl=told["broker_use_ssl"]).as_uri()
    except ConfigurationError as error:
        tells_nothing(error)
    finally:
        os.environ.pop(example["variable"], None)
        settings.cache_clear()
    try:
        if not url.startswith("memory"):
            store = open_store(url)
            assert SECRET not in store.shared.scripts.address
            store.close()
            stores._opened.clear()
    except ConfigurationError as error:
        tells_nothing(error)
    try:
        told = repr(ProviderSettings(**{example["key_variable"]: example["key"]}))
        assert SECRET not in told or "contact" in example["key_variable"]  # which is no secret
    except SettingsError as error:
        if "key" in example["key_variable"]:
            tells_nothing(error)


def tells_nothing(error: Exception) -> None:
    """Neither the error nor what it came of, as a log would have it."""
    whole = "".join(traceback.format_exception(error))
    assert SECRET not in whole, whole


@contextlib.contextmanager
def place() -> Iterator[None]:
    """No settings."""
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_URL"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ["STATE_DIR"] = folder
        yield


FOUND = tuple(
    {"url": url, "variable": "CELERY_BROKER_URL", "key": "x", "key_variable": "finnhub_api_key"}
    for url in (
        f"redis://:{SECRET}[@h",
        f"redis://:{SECRET}#x@h",
        f"redis://:/{SECRET}@h",
        f"redis://user:12/{SECRET}@h",
        f"redis+socket://:{SECRET};@h",
        f"rediss+sentinel://:/{SECRET}@h",
        f"db+sqlite://:{SECRET}@h",
        f"redis://:{SECRET}@h?wait_replicas=1",
        f"user:{SECRET}@h:6379",
        f"rediss://:{SECRET}@h?ssl_cert_reqs=x",
    )
)
TARGET = Target("addresses", EXAMPLES, check, place, FOUND)
