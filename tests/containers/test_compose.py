"""The stack of ``docker-compose.yml``, and with RabbitMQ: through an outage in which a worker is killed."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tasks.providers import PROVIDERS
from tests.containers.conftest import RUN, RabbitMQ, Valkey
from tests.fleet import ROOT, wait_for
from tests.stack import PASSWORDS, VERSION, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = {
    "valkey": ("docker-compose.yml",),
    "rabbitmq": ("docker-compose.yml", "docker-compose.rabbitmq.yml"),
    "sentinel": ("docker-compose.yml", "docker-compose.sentinel.yml"),
}
STORES = ("store", "store-2", "store-3")
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
COUNT = 30


@pytest.fixture(params=FILES)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Not started."""
    made = Stack(tmp_path_factory.mktemp("stack"), RUN, *FILES[request.param])
    try:
        yield made
    finally:
        made.down()


def open_for(circuit: dict[str, Any], seconds: float) -> bool:
    """Open, and not to be probed for so long."""
    if circuit["state"] != "open":
        return False
    return (datetime.fromisoformat(circuit["retry_at"]) - datetime.now(UTC)).total_seconds() > seconds


def until(stack: Stack, ids: list[str], state: str) -> None:
    """All these tasks have come to a state; where they have not, it tells what they have come to."""
    found: Counter[str] = Counter()

    def come() -> bool:
        found.clear()
        found.update(stack.states(ids))
        return set(found) == {state}

    try:
        wait_for(come, 120)
    except AssertionError:
        logs = stack.compose("logs", "--tail", "100", "worker", "worker-on-demand")
        pytest.fail(f"not all {state} but {dict(found)}: {stack.circuit()}\n{logs}")


@pytest.mark.parametrize("stack", ["valkey", "rabbitmq"], indirect=True)
def test_an_outage_of_the_composed_stack_is_a_pause_though_a_worker_is_killed_in_it(stack):
    stack.up("--scale", "worker=2")
    report = stack.report()
    retired = [service for service, row in PROVIDERS.items() if row.retired]
    assert [row["service"] for row in report["circuit_breakers"] if row["state"] != "closed"] == retired
    wait_for(lambda: stack.report()["published_at"], 15, "beat, the broker, a worker and the store together")

    brief = ("timeout_seconds=20", "timeout_cap_seconds=20")
    stack.celery("circuits", "set", "finnhub", *brief, "--reason", "a short test")
    stack.celery("simulate", "finnhub", "down")
    sent = [f"{letter}{number}" for letter in "ST" for number in range(COUNT)]
    ids = stack.send(sent[:COUNT])
    until(stack, ids, "PARKED")
    assert stack.circuit()["parked"] > 0
    wait_for(lambda: stack.report()["open"] == 2, 30, "open, but for a probe now and then")
    assert stack.circuit()["reason"] == "failures"
    wait_for(
        lambda: stack.ask_prometheus("circuit_breaker_state > 0").get("finnhub"), 30, "Prometheus sees it"
    )
    assert stack.ask_prometheus('circuit_breaker_open_reason{reason="failures"}') == {"finnhub": 1}
    wait_for(lambda: stack.told("CircuitOpenTooLong", "finnhub") == ["firing"], 30, "the webhook is told")

    # No message is on its way then, and Celery's own transport on Redis has none to lose.
    wait_for(lambda: open_for(stack.circuit(), 5), 60, f"no probe is near: {stack.circuit()}")
    stack.kill_all("worker", 1)
    wait_for(lambda: stack.state("worker", 1)["RestartCount"] == 1, 30, "it is started again")
    stack.compose("kill", "store")
    stack.up("--scale", "worker=2")
    ids += stack.send(sent[COUNT:])
    until(stack, ids, "PARKED")

    stack.celery("simulate", "finnhub", "ok")
    until(stack, ids, "SUCCESS")
    wait_for(lambda: stack.circuit()["state"] == "closed" and not stack.circuit()["parked"], 60, "it closes")
    wait_for(lambda: stack.ask_prometheus("circuit_breaker_state")["finnhub"] == 0, 30, "Prometheus sees it")
    wait_for(lambda: stack.told("CircuitOpenTooLong", "finnhub")[-1] == "resolved", 60, "so does the webhook")
    assert stack.told("CircuitOpenTooLong", "iex_cloud") == [], "it is retired, which is known"
    answered = Counter(call["symbol"] for call in stack.calls() if call["status"] == 200)
    assert {symbol: answered[symbol] for symbol in sent} == dict.fromkeys(sent, 1)


def primary(stack: Stack) -> str:
    """Which Valkey leads, as the sentinels agree."""
    asked = ("valkey-cli", "-p", "26379", "sentinel", "get-master-addr-by-name", "store")
    address = stack.inside("sentinel-2", *asked).split()[0]
    networks = stack.configuration()["services"]
    return next(name for name in STORES if networks[name]["networks"]["store"]["ipv4_address"] == address)


def follows(stack: Stack, name: str) -> bool:
    """It is a replica, and has all that its primary has."""
    told = stack.inside(name, "valkey-cli", "info", "replication")
    return "role:slave" in told and "master_link_status:up" in told


@pytest.mark.parametrize("stack", ["sentinel"], indirect=True)
def test_a_store_that_dies_in_an_outage_is_replaced_and_none_of_what_is_parked_is_lost(stack):
    stack.up()
    stack.celery("simulate", "finnhub", "down")
    sent = [f"S{number}" for number in range(2 * COUNT)]
    ids = stack.send(sent[:COUNT])
    until(stack, ids, "PARKED")

    assert primary(stack) == "store"
    stack.compose("kill", "store")
    wait_for(lambda: primary(stack) != "store", 60, "another leads")
    wait_for(lambda: stack.circuit()["state"] != "closed", 30, "and knows of the outage")
    ids += stack.send(sent[COUNT:])
    until(stack, ids, "PARKED")
    stack.up()
    wait_for(lambda: follows(stack, "store"), 60, "the first one follows")

    # What leads is found again though all of them forget what is not in a file, and it is not what was first.
    leads = primary(stack)
    stack.compose("stop", *SENTINELS, *STORES)
    stack.up()
    assert primary(stack) == leads != "store"
    assert follows(stack, "store")

    stack.celery("simulate", "finnhub", "ok")
    until(stack, ids, "SUCCESS")
    answered = Counter(call["symbol"] for call in stack.calls() if call["status"] == 200)
    assert {symbol: answered[symbol] for symbol in sent} == dict.fromkeys(sent, 1)


@pytest.mark.parametrize("stack", ["valkey"], indirect=True)
def test_every_provider_is_known_to_the_stack(stack):
    services = stack.configuration()["services"]
    variables = {f"{service.upper()}_BASE_URL" for service in PROVIDERS}
    variables |= {f"{service.upper()}_API_KEY" for service, row in PROVIDERS.items() if row.auth}
    assert variables <= set(services["worker"]["environment"])
    assert variables <= set(services["worker-on-demand"]["environment"])
    for place, (service, row) in enumerate(PROVIDERS.items(), start=1):
        simulated = None if row.retired else f"http://simulator:{8900 + place}"
        assert services["worker"]["environment"][f"{service.upper()}_BASE_URL"] == simulated
    lanes = services["worker-on-demand"]["command"][-1].split(",")
    assert set(lanes) == {f"{service}.on_demand" for service in PROVIDERS}


@pytest.mark.parametrize("stack", ["rabbitmq"], indirect=True)
def test_the_tests_use_the_images_of_the_stack(stack):
    images = {service["image"] for service in stack.configuration()["services"].values()}
    monitors = {"prom/prometheus:v3.5.0", "prom/alertmanager:v0.28.1"}  # .ci/compose-test has them, too
    assert images == {Valkey.image(), RabbitMQ.image(), f"market-data-resilience:{VERSION}"} | monitors


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_password_that_is_not_set_is_named_and_no_default_takes_its_place(name, tmp_path):
    given = tmp_path / "stack.env"
    given.write_text("".join(f"{other}=x\n" for other in PASSWORDS if other != name))
    done = subprocess.run(
        ["docker", "compose", "--env-file", str(given), "config", "--quiet"],  # noqa: S607 - whichever is installed
        cwd=ROOT,
        env={variable: value for variable, value in os.environ.items() if variable not in PASSWORDS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert f"{name} is missing a value: set it in .env" in done.stderr


def test_the_image_holds_the_program_and_two_settings_files_and_runs_as_nobody():
    run = ("docker", "run", "--rm", "--read-only", "--network", "none", f"market-data-resilience:{VERSION}")
    done = subprocess.run([*run, "sh", "-c", "id -u; ls -A"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        *("10001", "circuits.toml", "flowerconfig.py", "schedule.toml", "tasks", "workers")
    ]
