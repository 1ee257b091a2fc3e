"""TLS to the store, the broker and the result backend: verified, with passwords that must be quoted."""

from __future__ import annotations

import ssl
import subprocess
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from kombu import pools
from kombu.entity import Exchange, Queue

import resilience.stores.redis
from resilience import CircuitBreaker, ConfigurationError, StoreUnavailableError
from resilience.stores.redis import RedisStore
from tasks.fetch import route
from tests.authority import Authority
from tests.fleet import wait_for
from tests.ports import free_port
from tests.servers import Rabbit, Server, installed
from tests.store_user import PASSWORD, QUOTED, make_at
from tests.system import FINAL, QUEUES, System, get, start_flower
from tests.wire import server_saying
from workers.settings import celery_addresses, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.authority import Certificate

SECRETS = (PASSWORD, QUOTED)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


def secured(folder: Path, certificate: Certificate, **more: Any) -> Server:
    """A Redis with a port for TLS beside the plain one, by which the test itself goes."""
    return Server(
        installed("redis-server"),
        folder,
        tls_port=free_port(),
        tls_cert_file=certificate.file,
        tls_key_file=certificate.key,
        tls_ca_cert_file=certificate.authority,
        tls_auth_clients="no",
        **more,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Server]:
    """It is called localhost and not 127.0.0.1, and has the store's user and one for everything else."""
    server = secured(tmp_path_factory.mktemp("secured"), authority.certificate("DNS:localhost"))
    server.start()
    make_at(server.port)
    server.ask("ACL", "SETUSER", "fleet", "on", f">{PASSWORD}", "~*", "&*", "+@all")
    yield server
    server.kill()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a server is believed is tested here, not how soon."""
    monkeypatch.setattr(resilience.stores.redis, "SOCKET_SECONDS", 10.0)


@pytest.mark.usefixtures("patient")
def test_a_store_over_tls_is_everybodys(server: Server, authority: Authority) -> None:
    url = f"rediss://circuits:{QUOTED}@localhost:{server.tls_port}/0?ssl_ca_certs={authority.file}"
    one, other = RedisStore(url), RedisStore(url)
    CircuitBreaker("tls", store=one).force_open(60, "drill", "ann")
    circuit = CircuitBreaker("tls", store=other).read()
    assert (circuit.state, circuit.note, circuit.shared) == ("forced_open", "drill", True)
    for store in (one, other):
        store.scripts.close()
        assert store.scripts.address == f"localhost:{server.tls_port}/0"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("another authority", "certificate verify failed"),
        ("no authority named", "certificate verify failed"),
        ("another name", "IP address mismatch"),
        ("another password", "invalid username-password"),
        ("no TLS", "does not answer"),
    ],
)
def test_a_store_that_cannot_be_believed_is_not_asked(
    server: Server, authority: Authority, stranger: Authority, case: str, told: str
) -> None:
    scheme = "redis" if case == "no TLS" else "rediss"
    password = f"{QUOTED}x" if case == "another password" else QUOTED
    host = "127.0.0.1" if case == "another name" else "localhost"
    others = {"another authority": f"?ssl_ca_certs={stranger.file}", "no authority named": "", "no TLS": ""}
    query = others.get(case, f"?ssl_ca_certs={authority.file}")
    store = RedisStore(f"{scheme}://circuits:{password}@{host}:{server.tls_port}/0{query}")
    with pytest.raises(StoreUnavailableError, match=told) as caught:
        store.read(["tls"])
    assert shown("".join(traceback.format_exception(caught.value))) == []
    store.scripts.close()


def shown(text: str) -> list[str]:
    """The secrets a text tells."""
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture
def sentinel(tmp_path: Path, authority: Authority) -> Iterator[int]:
    """The port of a sentinel that answers with TLS alone, and knows its primary by TLS alone."""
    certificate = authority.certificate("IP:127.0.0.1")
    primary = secured(tmp_path / "primary", certificate, requirepass=PASSWORD)
    primary.start()
    port, config = free_port(), tmp_path / "sentinel.conf"
    config.write_text(
        f"port 0\ntls-port {port}\nbind 127.0.0.1\ntls-replication yes\ntls-auth-clients no\n"
        f"tls-cert-file {certificate.file}\ntls-key-file {certificate.key}\n"
        f"tls-ca-cert-file {certificate.authority}\nrequirepass {PASSWORD}\n"
        f"sentinel monitor circuits 127.0.0.1 {primary.tls_port} 1\n"
        f"sentinel auth-pass circuits {PASSWORD}\n"
    )
    with (tmp_path / "sentinel.log").open("wb") as log:
        process = subprocess.Popen(
            [str(installed("redis-server")), str(config), "--sentinel"], stdout=log, stderr=log
        )
    yield port
    process.kill()
    process.wait()
    primary.kill()


@pytest.mark.usefixtures("patient")
def test_sentinels_and_the_primary_they_name_are_asked_with_tls(
    sentinel: int, authority: Authority, stranger: Authority
) -> None:
    place = f"://:{QUOTED}@127.0.0.1:{sentinel}/circuits/0"
    store = RedisStore(f"rediss+sentinel{place}?ssl_ca_certs={authority.file}")

    def answers() -> bool:
        try:
            return store.read(["tls"])["tls"].shared
        except StoreUnavailableError:
            return False

    wait_for(answers, 20, "the sentinel answers")
    store.scripts.close()
    for other in (f"rediss+sentinel{place}?ssl_ca_certs={stranger.file}", f"sentinel{place}"):
        refused = RedisStore(other)
        with pytest.raises(StoreUnavailableError, match="No master found") as caught:
            refused.read(["tls"])
        assert shown("".join(traceback.format_exception(caught.value))) == []
        refused.scripts.close()


@pytest.mark.parametrize("scheme", ["sentinel", "cluster", "redis"])
def test_an_address_that_says_how_to_use_tls_and_not_to_use_it_is_refused(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        CircuitBreaker(
            "p", store=f"{scheme}://:secret@host:1/{'name' * (scheme == 'sentinel')}?ssl_ca_certs=x"
        )


@pytest.fixture(scope="module")
def secured_rabbit(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Rabbit]:
    rabbit = Rabbit(tmp_path_factory.mktemp("rabbit"), authority.certificate("IP:127.0.0.1"))
    rabbit.start()
    yield rabbit
    rabbit.stop()


@pytest.fixture
def addresses(
    request: pytest.FixtureRequest, broker: str, server: Server, authority: Authority
) -> dict[str, str]:
    """Of everything, as the environment has it."""
    query = f"?ssl_ca_certs={authority.file}"

    def redis_at(user: str, number: int) -> str:
        return f"rediss://{user}:{QUOTED}@localhost:{server.tls_port}/{number}{query}"

    there = redis_at("fleet", 1)
    if broker == "rabbitmq":
        rabbit = request.getfixturevalue("secured_rabbit")
        rabbit.open("tls")
        rabbit.let_in("fleet", PASSWORD, "tls")
        there = f"amqps://fleet:{QUOTED}@127.0.0.1:{rabbit.tls_port}/tls{query}"
    return {
        "CELERY_BROKER_URL": there,
        "CELERY_RESULT_BACKEND": redis_at("fleet", 2),
        "RESILIENCE_STORE_URL": redis_at("circuits", 3),
    }


@pytest.fixture
def caller(addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """Another program that sends tasks and reads their states, with the system's own settings."""
    app = Celery("tls-caller", set_as_current=False)
    with monkeypatch.context() as environment:
        for name, value in addresses.items():
            environment.setenv(name, value)
        settings.cache_clear()
        app.backend_cls, told = celery_addresses()
    settings.cache_clear()
    queues = [Queue(name, Exchange("tasks", "topic"), name) for name in ("default", *QUEUES)]
    app.conf.update(told, task_queues=queues, task_routes=(route,), task_default_queue="default")
    yield app
    app.backend.remove_pending_result = lambda result: result
    app.backend.result_consumer.stop()
    app.backend.client.connection_pool.disconnect()
    app.close()
    pools.reset()


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_an_outage_is_a_pause_with_tls_everywhere(
    tmp_path: Path, addresses: dict[str, str], caller: Celery, broker: str
) -> None:
    system = System(tmp_path)
    system.environment |= addresses
    try:
        options = ("-l", "INFO", "-c", "2", "-n", "tls@test", "--without-mingle", "--without-gossip")
        worker = system.celery("worker", "worker", *options, app="tests.patient").ready()
        system.simulator.set_mode("finnhub", "5xx")
        tasks = [caller.send_task("tasks.finnhub.fetch", ("quote", f"S{number}")) for number in range(5)]
        wait_for(lambda: {task.state for task in tasks} == {"PARKED"}, 60, "all are parked")
        assert '"parked": 5' in system.cli("circuits", "show", "finnhub", "--json").stdout
        system.simulator.set_mode("finnhub", "ok")
        assert system.cli("circuits", "release", "finnhub", "--reason", "they are back").returncode == 0
        wait_for(lambda: {task.state for task in tasks} <= FINAL, 60, "all end")
        assert {task.state for task in tasks} == {"SUCCESS"}
        assert ":**@" in worker.text()
        if broker == "redis":
            flower = start_flower(system, "flower", CIRCUITS_WITHOUT_LOGIN="read")
            pages = f"{flower}/broker"
            wait_for(lambda: "finnhub.scheduled" in get(pages)[1], 20, "Flower counts the queues")
            assert shown(get(pages)[1]) == []
            assert '"shared": true' in get(f"{flower}/circuit-breakers/finnhub")[1]
        assert {path.name: shown(path.read_text("utf-8", "replace")) for path in tmp_path.glob("*.log")} == {
            path.name: [] for path in tmp_path.glob("*.log")
        }
        # Nothing has gone to the server that would have answered without TLS.
        assert [client.dbsize() for client in (system.broker, system.results, system.store)] == [0, 0, 0]
    finally:
        system.close()


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@pytest.mark.parametrize("case", ["another authority", "no authority named"])
def test_a_broker_that_nobody_vouches_for_is_not_asked(
    addresses: dict[str, str], stranger: Authority, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    plain = addresses["CELERY_BROKER_URL"].partition("?")[0]
    query = f"?ssl_ca_certs={stranger.file}" if case == "another authority" else ""
    assert "certificate verify failed" in refusal(plain + query, monkeypatch)


@pytest.mark.parametrize("scheme", ["rediss", "amqps"])
def test_a_broker_of_another_name_is_told_no_password(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    certificate = authority.certificate("DNS:elsewhere.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    with server_saying(b"", context=context) as (there, heard):
        place = there.base_url("finnhub").partition("//")[2]
        url = f"{scheme}://fleet:{QUOTED}@{place}/0?ssl_ca_certs={authority.file}"
        assert "IP address mismatch" in refusal(url, monkeypatch)
    assert heard == []


def refusal(broker: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Why the system's app does not connect to a broker."""
    monkeypatch.setenv("CELERY_BROKER_URL", broker)
    settings.cache_clear()
    app = Celery("tls-refused", set_as_current=False)
    app.conf.update(celery_addresses()[1])
    try:
        with app.connection_for_write() as connection:
            connection.connect()
            connection.default_channel.queue_declare("q", passive=True)
    except Exception as error:  # noqa: BLE001 - any broker's
        whole = "".join(traceback.format_exception(error))
        assert shown(whole) == []
        return whole
    else:
        return "it connects"
    finally:
        app.close()
        settings.cache_clear()
