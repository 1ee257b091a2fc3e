import json
import signal
import socket
import subprocess
import sys
import zlib
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse

import pytest

from tasks.providers import PROVIDERS
from tasks.providers import Verdict as Answer
from tasks.providers.http import call
from tasks.settings import ProviderSettings
from tests.system import get
from workers.simulator import Mode, SimulatorClient, SimulatorError

COMMAND = [sys.executable, "-m", "workers.simulator"]


def test_every_provider_of_the_catalogue_is_simulated_and_the_retired_one_is_down(
    simulator: SimulatorClient,
) -> None:
    states = simulator.providers()
    assert list(states) == list(PROVIDERS)
    assert {service: state["mode"] for service, state in states.items()} == {
        service: "down" if row.retired else "ok" for service, row in PROVIDERS.items()
    }
    for state in states.values():
        assert (state["calls"], state["calls_by_mode"], state["in_flight"], state["max_in_flight"]) == (
            0,
            {},
            0,
            0,
        )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", states["iex_cloud"]["port"]))


def test_calls_are_written_down_without_the_query(simulator: SimulatorClient) -> None:
    base_url = simulator.providers()["alpha_vantage"]["base_url"]
    url = f"{base_url}/query?function=GLOBAL_QUOTE&symbol=ibm&apikey=sekret"
    status, body = get(url)
    assert (status, json.loads(body)["Global Quote"]["01. symbol"]) == (200, "IBM")
    (entry,) = simulator.calls("alpha_vantage")
    assert entry.pop("at") > 1_700_000_000
    assert entry == {
        "service": "alpha_vantage",
        "path": "/query",
        "symbol": "IBM",
        "mode": "ok",
        "status": 200,
        "rows": 0,
        "odd": 0,
    }
    assert simulator.calls("finnhub") == []
    assert simulator.providers()["alpha_vantage"]["calls_by_mode"] == {"ok": 1}
    simulator.reset()
    assert simulator.calls() == []


def test_prices_move_and_the_walk_is_the_same_in_every_run(simulator: SimulatorClient) -> None:
    url = simulator.providers()["finnhub"]["base_url"] + "/quote?symbol=AAPL"

    def walk() -> list[float]:
        simulator.reset()
        return [json.loads(get(url, **{"X-Finnhub-Token": "x"})[1])["c"] for _ in range(10)]

    prices = walk()
    assert prices[0] == 261.74
    assert len(set(prices)) > 5
    assert walk() == prices


@pytest.mark.parametrize(
    ("service", "path", "status", "part"),
    [
        ("finnhub", "/quote?symbol=AAPL", 401, "Invalid API key"),
        ("finnhub", "/nowhere", 401, "Invalid API key"),
        ("alpha_vantage", "/query?function=GLOBAL_QUOTE&symbol=A", 200, "apikey is invalid or missing"),
        ("alpha_vantage", "/query?function=NONSENSE&symbol=A&apikey=x", 200, "Invalid API call"),
        ("alpha_vantage", "/nowhere?apikey=x", 404, "Not Found"),
        ("alpha_vantage", "/query?function=TIME_SERIES_DAILY&symbol=A&apikey=x", 200, "Invalid API call"),
        (
            "alpha_vantage",
            "/query?function=TIME_SERIES_DAILY&symbol=A&outputsize=compact&apikey=x",
            200,
            "Time Series (Daily)",
        ),
        ("fred", "/series/observations?series_id=UNRATE&file_type=json", 400, "api_key is not registered"),
        ("fred", "/nowhere?api_key=x", 404, "Not Found"),
        ("sec_edgar", "/submissions/CIK0000320193.json", 403, "Undeclared Automated Tool"),
        ("iex_cloud", "/stock/AAPL/quote", 403, "The API key provided is not valid."),
        ("iex_cloud", "/stock/AAPL/nonsense?token=x", 404, "Not Found"),
        ("iex_cloud", "/stock/AAPL/quote?token=x", 200, "Apple Inc."),
    ],
)
def test_a_wrong_request_is_answered_as_the_provider_would(
    service: str, path: str, status: int, part: str, simulator: SimulatorClient
) -> None:
    simulator.set_mode(service, Mode.OK)
    found, body = get(simulator.providers()[service]["base_url"] + path)
    assert (found, part in body) == (status, True), body


@pytest.mark.parametrize(
    ("alias", "mode"),
    [
        ("badkey", "bad_key"),
        ("half_body", "half"),
        ("huge_body", "huge"),
        ("wrong_content_type", "wrong_type"),
    ],
)
def test_modes_have_aliases(alias: str, mode: str, simulator: SimulatorClient) -> None:
    assert simulator.set_mode("finnhub", alias)["mode"] == mode


QUOTE = "/quote?symbol=AAPL"
LARGEST = max(row.max_body_bytes for row in PROVIDERS.values())


def asked(simulator: SimulatorClient, mode: Mode) -> tuple[HTTPResponse, bytes]:
    """Finnhub's answer in a mode, as it is on the wire: not followed, not unpacked."""
    simulator.set_mode("finnhub", mode)
    connection = HTTPConnection("127.0.0.1", simulator.providers()["finnhub"]["port"], timeout=30)
    with closing(connection):
        connection.request("GET", QUOTE, headers={"X-Finnhub-Token": "x"})
        reply = connection.getresponse()
        return reply, reply.read()


def test_a_redirect_has_the_right_reply_and_leads_to_another_host_that_counts_who_comes(
    simulator: SimulatorClient,
) -> None:
    reply, body = asked(simulator, Mode.REDIRECT)
    assert (reply.status, json.loads(body)["c"]) == (302, 261.74)
    assert reply.headers["Location"].startswith("http://localhost:")
    get(reply.headers["Location"])
    assert simulator.providers()["finnhub"]["calls"] > 1


def test_a_wrong_type_is_all_that_is_wrong_with_the_reply(simulator: SimulatorClient) -> None:
    reply, body = asked(simulator, Mode.WRONG_TYPE)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html")
    assert json.loads(body)["c"] == 261.74


def test_a_huge_body_and_a_gzip_bomb_are_the_right_reply_and_more_than_anybody_takes(
    simulator: SimulatorClient,
) -> None:
    _, huge = asked(simulator, Mode.HUGE)
    reply, packed = asked(simulator, Mode.GZIP_BOMB)
    assert reply.headers["Content-Encoding"] == "gzip"
    assert len(packed) < LARGEST / 10
    for body in (huge, zlib.decompress(packed, wbits=31)):
        assert len(body) > LARGEST
        assert json.loads(body)["c"] > 0


@pytest.mark.parametrize("mode", [Mode.HUGE, Mode.GZIP_BOMB])
def test_a_large_body_ends_when_the_caller_has_gone(mode: Mode, simulator: SimulatorClient) -> None:
    simulator.set_mode("finnhub", mode)
    port = simulator.providers()["finnhub"]["port"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(f"GET {QUOTE} HTTP/1.1\r\nHost: x\r\nX-Finnhub-Token: x\r\n\r\n".encode())
        connection.recv(1)
    while simulator.providers()["finnhub"]["in_flight"]:
        pass
    assert asked(simulator, Mode.OK)[0].status == 200


def test_going_down_cuts_live_connections(simulator: SimulatorClient) -> None:
    simulator.set_mode("finnhub", Mode.HANG)
    port = simulator.providers()["finnhub"]["port"]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /quote?symbol=A HTTP/1.1\r\nHost: x\r\nX-Finnhub-Token: x\r\n\r\n")
        while not simulator.providers()["finnhub"]["in_flight"]:
            pass
        simulator.set_mode("finnhub", Mode.DOWN)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    while simulator.providers()["finnhub"]["in_flight"]:
        pass


@pytest.mark.parametrize(
    ("service", "mode", "seconds", "message"),
    [
        ("yahu", "ok", None, "unknown service 'yahu'; known are iex_cloud, alpha_vantage, finnhub"),
        ("finnhub", "tired", None, "unknown mode 'tired'; known are ok, slow, 5xx"),
        ("finnhub", "slow", -1, "seconds must be a number from 0"),
        ("finnhub", "slow", "soon", "seconds must be a number from 0"),
    ],
)
def test_a_wrong_order_is_refused_with_what_is_known(
    service: str, mode: str, seconds: object, message: str, simulator: SimulatorClient
) -> None:
    with pytest.raises(SimulatorError, match=message):
        simulator.set_mode(service, mode, seconds)


def test_a_client_without_a_simulator_says_where_it_looked_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(
        SimulatorError, match=f"no simulator answers at http://127.0.0.1:{port} .*start one with"
    ):
        SimulatorClient(f"http://127.0.0.1:{port}").providers()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_even_while_a_provider_hangs(number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "--control-port", "0", "--providers", "finnhub"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        ready = json.loads(process.stdout.readline())
        assert list(ready["providers"]) == ["finnhub"]
        simulator = SimulatorClient(ready["control_url"])
        simulator.set_mode("finnhub", Mode.HANG)
        with socket.create_connection(("127.0.0.1", ready["providers"]["finnhub"]["port"])) as connection:
            connection.sendall(b"GET /quote HTTP/1.1\r\nHost: x\r\n\r\n")
            while not simulator.providers()["finnhub"]["in_flight"]:
                pass
            process.send_signal(number)
            assert (process.wait(10), process.stderr.read()) == (0, "")


def test_a_taken_port_is_told_with_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        command = [*COMMAND, "--control-port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} on 127.0.0.1" in done.stderr
    assert "--control-port" in done.stderr


def test_an_unknown_provider_is_told() -> None:
    command = [*COMMAND, "--providers", "yahu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "unknown service 'yahu'; known are iex_cloud" in done.stderr


@pytest.mark.parametrize(
    ("service", "calls", "refusal", "hold"),
    [
        ("polygon", 5, Answer.RATE_LIMIT, 60),  # a minute of the clock: 429
        ("tradier", 120, Answer.RATE_LIMIT, 60),  # a minute from the first call: 429 and when it ends
        ("fmp", 250, Answer.QUOTA, 86_400),  # any day's length: 200
    ],
)
def test_a_provider_refuses_what_is_above_its_quota_as_documented_and_counts_it(
    service: str,
    calls: int,
    refusal: Answer,
    hold: float,
    simulator: SimulatorClient,
    simulated_settings: ProviderSettings,
) -> None:
    simulator.enforce_quotas()
    answers = [call(service, "quote", "AAPL", settings=simulated_settings) for _ in range(2 * calls + 1)]
    verdicts = Counter(answer.verdict for answer in answers)
    assert verdicts.keys() == {Answer.SUCCESS, refusal}
    # A Date header tells whole seconds: held from it until some milliseconds is up to a second more.
    assert all(0 < answer.hold_seconds <= hold + 1 for answer in answers if answer.verdict is refusal)
    state = simulator.providers()[service]
    assert (state["calls"], state["refusals"]) == (2 * calls + 1, verdicts[refusal])
    assert state["above"] >= state["refusals"]
    assert {"calls": calls, "seconds": hold} in state["quotas"]
    simulator.enforce_quotas(None)
    assert call(service, "quote", "AAPL", settings=simulated_settings).verdict is Answer.SUCCESS


def test_quotas_are_off_unless_asked_for_and_a_wrong_factor_is_refused(simulator: SimulatorClient) -> None:
    assert all(state["quotas"] == [] for state in simulator.providers().values())
    with pytest.raises(SimulatorError, match="faster must be a number from 1 to 86400, or null"):
        simulator.enforce_quotas(0.5)
    done = subprocess.run([*COMMAND, "--quotas", "0"], capture_output=True, text=True, check=False)
    assert (done.returncode, "--quotas 0 is not between 1 and 86400" in done.stderr) == (2, True)
