"""pytest-celery's containers, with the images and the worker of this project.

Not a part of ``make test``: ``make compose-test`` makes the images and runs these, and cleans up after them.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import kombu.pools
import pytest
from pytest_celery import CeleryWorkerContainer, RabbitMQContainer, RedisContainer
from pytest_docker_tools import container, fxtr, network, volume

from resilience import stores
from tests.fleet import ROOT
from tests.stack import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from celery import Celery
    from pytest_celery import CeleryTestBackend, CeleryTestBroker

# Whatever carries this label is a run's own, and .ci/compose-test removes it should this process be killed.
RUN = os.environ.get("CONTAINERS_RUN", f"market-data-test-{os.getpid()}")
LABELS = {"market-data-test": RUN}
SECONDS = 60


class Reachable:
    """A server's address on this side.

    pytest-celery's own has always "localhost" and, where it believes to be in a container itself, the port
    inside.
    """

    @property
    def host_url(self) -> str:
        [port] = type(self).ports()  # an instance has its port map under that name
        return "{}{}:{}/{}".format(self.prefix(), *self.get_addr(port), self.vhost)


class Valkey(Reachable, RedisContainer):
    """pytest-celery has none of Valkey's; its program has another name."""

    @classmethod
    def image(cls) -> str:
        return "valkey/valkey:9-alpine"

    @classmethod
    def command(cls, *args: str, **kwargs: Any) -> list[str]:
        return ["valkey-server", *super().command(*args, **kwargs)[1:]]


class RabbitMQ(Reachable, RabbitMQContainer):
    """Of the release that docker-compose.rabbitmq.yml has."""

    @classmethod
    def image(cls) -> str:
        return "rabbitmq:4-management-alpine"


class FleetWorker(CeleryWorkerContainer):
    """This project's image with the tests' own app, ``tests/fleet_app.py``, in it.

    ``CeleryTestWorker.get_running_processes_info`` does not work with it: it runs pytest-celery's own
    ``utils`` module in the container, with psutil, and neither belongs in an image for production.
    """

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        options = ("-l", "INFO", "-c", "2", "-n", "worker@%h", "--without-mingle", "--without-gossip")
        return ["celery", "-A", "fleet_app", "worker", *options, *args]

    @classmethod
    def initial_env(cls, celery_worker_cluster_config: dict, initial: dict | None = None) -> dict:
        addresses = fleet_settings(celery_worker_cluster_config, "urls")
        return {**addresses, "PYTHONPATH": "/fleet", **(initial or {})}

    @classmethod
    def initial_content(cls, **_: Any) -> dict[str, bytes]:
        return {"fleet_app.py": (ROOT / "tests" / "fleet_app.py").read_bytes()}


def fleet_settings(clusters: dict[str, Any], seen_from: str) -> dict[str, str]:
    """The settings of ``tests/fleet_app.py``, with the addresses inside ("urls") or here ("host_urls")."""
    [broker], [backend] = (
        clusters[f"celery_{kind}_cluster_config"][seen_from] for kind in ("broker", "backend")
    )
    server = backend.rpartition("/")[0]
    return {
        "FLEET_BROKER": broker,
        "FLEET_BACKEND": backend,
        "FLEET_STORE": f"{server}/2",
        "FLEET_PROVIDER": f"{server}/3",
        "FLEET_THRESHOLD": "3",
        "FLEET_TIMEOUT": "5",
    }


default_pytest_celery_network = network(labels=dict(LABELS))
default_worker_volume = volume(initial_content=fxtr("default_worker_initial_content"), labels=dict(LABELS))


broker_data = volume(labels=dict(LABELS))
backend_data = volume(labels=dict(LABELS))


def server(kind: type[Valkey | RabbitMQ], data: str, folder: str, **more: Any) -> Any:
    """As pytest-celery's own, but heard on this machine alone, and its volume has a name to go by."""
    return container(
        image=kind.image(),
        ports=dict.fromkeys(kind.ports(), ("127.0.0.1", None)),
        network="{default_pytest_celery_network.name}",
        wrapper_class=kind,
        volumes={f"{{{data}.name}}": {"bind": folder, "mode": "rw"}},
        labels=dict(LABELS),
        timeout=SECONDS,
        **more,
    )


default_redis_broker = server(Valkey, "broker_data", "/data", command=Valkey.command())
default_redis_backend = server(Valkey, "backend_data", "/data", command=Valkey.command())
default_rabbitmq_broker = server(RabbitMQ, "broker_data", "/var/lib/rabbitmq")
default_worker_container = container(
    image=f"market-data-resilience:{VERSION}",
    command=FleetWorker.command(),
    environment=fxtr("default_worker_env"),
    network="{default_pytest_celery_network.name}",
    volumes={"{default_worker_volume.name}": {"bind": "/fleet", "mode": "ro"}},
    read_only=True,
    tmpfs={"/tmp": ""},  # noqa: S108 - the container's own
    init=True,
    wrapper_class=FleetWorker,
    labels=dict(LABELS),
    timeout=SECONDS,
)


@pytest.fixture
def default_worker_container_cls() -> type[FleetWorker]:
    return FleetWorker


@pytest.fixture(params=["celery_redis_broker", "celery_rabbitmq_broker"], ids=["valkey", "rabbitmq"])
def celery_broker(request: pytest.FixtureRequest) -> Iterator[CeleryTestBroker]:
    broker = request.getfixturevalue(request.param)
    yield broker
    broker.teardown()


@pytest.fixture
def celery_backend(celery_redis_backend: CeleryTestBackend) -> CeleryTestBackend:
    return celery_redis_backend


@pytest.fixture
def fleet_app(
    celery_worker_cluster_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The worker's app, as a client of it on this side of the containers."""
    settings = fleet_settings(celery_worker_cluster_config, "host_urls")
    for name in [name for name in os.environ if name.startswith("FLEET_")]:
        monkeypatch.delenv(name)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    sys.modules.pop("fleet_app", None)
    import fleet_app  # noqa: PLC0415 - reads its addresses when it is imported

    yield fleet_app
    fleet_app.app.close()
    kombu.pools.reset()  # the next containers may get the same ports
    stores._opened.pop(settings["FLEET_STORE"]).close()
    fleet_app.provider.close()


@pytest.fixture
def celery_setup_app(fleet_app: ModuleType) -> Celery:
    return fleet_app.app
