"""What an app may be set to: JSON messages, and a broker that is known not to lose what is published.

Looked at where the app is made, as far as its configuration is known there, and again before its worker takes
a message: who reads the configuration later passes nothing by.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from celery.utils.log import get_logger
from kombu.serialization import registry
from kombu.transport import TRANSPORT_ALIASES

from resilience.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from celery import Celery

logger = get_logger(__name__)

#: By what URLs begin with; how far a release is certain on each is in docs/your-own-app.md.
SUPPORTED = ("amqp", "amqps", "pyamqp", "redis", "rediss", "sentinel", "sqs", "SQS", "filesystem", "memory")
#: Neither does kombu route for these, nor do they say what has arrived.
REFUSED = ("librabbitmq", "qpid")
PICKLE = "application/x-python-serialize"

_warned: set[str] = set()


def check_settings(app: Celery) -> None:
    """Refuse what cannot work. A configuration nobody has read yet stays so: what was set by hand is judged.

    Raises:
        ConfigurationError: It names the setting and the remedy.
    """
    conf: Mapping[str, Any] = app.conf if app.configured else app._preconf  # noqa: SLF001 - app.conf would read it
    serializer, accepted = conf.get("task_serializer") or "json", conf.get("accept_content") or ()
    names = {accepted} if isinstance(accepted, str) else set(accepted)
    if serializer != "json" or PICKLE in {registry.name_to_type.get(name, name) for name in names}:
        raise ConfigurationError(
            f"task_serializer={serializer!r}, accept_content={accepted!r}: "
            "parked messages are JSON only; set task_serializer='json', accept_content=['json']"
        )
    for name in dict.fromkeys(_transports(app, conf)):
        if name in REFUSED or not (name in TRANSPORT_ALIASES or "." in name or ":" in name):
            raise ConfigurationError(
                f"broker transport {name!r} {'cannot be used' if name in REFUSED else 'is unknown'}: "
                f"parked tasks could be lost on their way back; use {', '.join(SUPPORTED)}"
            )
        if name not in SUPPORTED and name not in _warned:
            _warned.add(name)
            logger.warning(
                "broker transport %r is untested: parked tasks may be lost on their way back; use one of %s",
                *(name, ", ".join(SUPPORTED)),
            )


def _transports(app: Celery, conf: Mapping[str, Any]) -> Iterator[str]:
    """What the broker's addresses begin with; of a list each."""
    for setting in ("broker_url", "broker_write_url", "broker_read_url"):
        told = conf.get(setting) or ()
        for url in told.split(";") if isinstance(told, str) else told:
            scheme, found, _ = str(url).partition("://")
            if found:
                yield scheme.partition("+")[0]
    if name := conf.get("broker_transport"):
        yield str(name)
    with contextlib.suppress(KeyError):  # an unknown one, which is named above
        if app.configured:  # kombu takes librabbitmq for amqp where it is installed
            yield str(app.connection_for_write().transport_cls)
