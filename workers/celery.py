"""The Celery app: servers, queues, limits. Tasks are the domain's, the layer is ``resilience``'s."""

from __future__ import annotations

import logging
import os
from typing import Any

from celery import Celery, signals
from kombu.entity import Exchange, Queue

from resilience import CIRCUIT_BREAKERS, configure, install
from resilience.parking import Lane
from tasks.fetch import announce_retired, queue_of, register, route
from tasks.providers import PROVIDERS
from workers.logs import JsonFormatter, TextFormatter
from workers.settings import DEFAULT_CIRCUITS, celery_addresses, settings, simulated

DAY = 86_400
# Longer than any task may run; a killed worker's messages come back after this on Redis.
VISIBILITY_SECONDS = 120

# A topic exchange: Celery's default, direct, stands still on RabbitMQ's quorum queues.
exchange = Exchange("tasks", type="topic")


def queues() -> list[Queue]:
    """Two for each provider, and one for everything else."""
    names = [queue_of(service, lane) for service in PROVIDERS for lane in Lane]
    return [Queue(name, exchange, routing_key=name) for name in ("default", *names)]


app = Celery("workers")
app.backend_cls, addresses = celery_addresses()
app.conf.update(
    addresses,
    task_queues=queues(),
    task_routes=(route,),
    task_default_queue="default",
    task_default_exchange="tasks",
    task_default_exchange_type="topic",
    task_default_routing_key="default",
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    # A parked task's state must outlive its wait.
    result_expires=7 * DAY,
    result_backend_transport_options={"retry_policy": {"timeout": 5.0}},
    redis_socket_timeout=5.0,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_SECONDS,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        # RabbitMQ's own: who sends a message again before it acknowledges it must know that it arrived.
        "confirm_publish": True,
    },
    # Few: bounds what is repeated when a worker dies.
    worker_prefetch_multiplier=2,
    worker_send_task_events=True,
    task_send_sent_event=True,
    beat_scheduler="workers.schedule:FileScheduler",
)
# A stand-in has no quota, which every terminal must know to show a circuit as the fleet has it.
for variable, address in simulated().items():
    os.environ.setdefault(variable, address)
install(app, store=settings().resilience_store_url)
register(app)
if settings().circuits_file != DEFAULT_CIRCUITS or DEFAULT_CIRCUITS.exists():
    configure(settings().circuits_file, CIRCUIT_BREAKERS)


@signals.after_setup_logger.connect
@signals.after_setup_task_logger.connect
def _format_logs(logger: logging.Logger, **_: Any) -> None:
    """As LOG_FORMAT says; the pool's own logger is told to nobody, but has its handlers by now."""
    for handler in (*logger.handlers, *logging.getLogger("multiprocessing").handlers):
        if isinstance(handler.formatter, (JsonFormatter, TextFormatter)):
            continue
        as_json = settings().log_format == "json"
        handler.setFormatter(
            JsonFormatter() if as_json else TextFormatter(handler.formatter or logging.Formatter())
        )


@signals.worker_ready.connect
def _announce(**_: Any) -> None:
    announce_retired()
