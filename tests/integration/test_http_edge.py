"""Real calls over real sockets: to the simulator's process, and to servers that say what a test wants."""

import gc
import gzip
import json
import logging
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

import pytest
from celery import Celery

from resilience import CIRCUIT_BREAKERS, CircuitBreaker
from resilience.stores.memory import MemoryStore
from resilience.task import Parked
from tasks import fetch
from tasks.errors import InvalidSymbolError
from tasks.providers import PROVIDERS, Auth, Endpoint, Judgement, http, shapes, verdicts
from tasks.providers.documents import Node
from tasks.providers.http import call
from tasks.records import DATASETS, as_of
from tasks.settings import ProviderSettings
from tests.contract.replies.polygon import BARS
from tests.fleet import wait_for
from tests.simulator_fixture import KEYS
from tests.spellings import SPELLED, SYMBOLS, VENUES
from tests.wire import response, server_saying
from workers.simulator import Mode, SimulatorClient

SHORT = 0.5  # a deadline, in seconds, for calls that must run into it
LONG = 30.0  # one that no call may need
BOUND = 10.0  # how long a call with a SHORT deadline may take on a busy machine


SERVED = [(service, dataset) for service, row in PROVIDERS.items() for dataset in row.endpoints]
QUOTES = [service for service, row in PROVIDERS.items() if "quote" in row.endpoints]
KEYED = [service for service, row in PROVIDERS.items() if row.auth]


def ask(
    service: str,
    settings: ProviderSettings,
    symbol: str | None = None,
    deadline_seconds: float = LONG,
    dataset: str | None = None,
) -> Judgement:
    """One call, of the provider's first dataset and its example unless said."""
    dataset = dataset or next(iter(PROVIDERS[service].endpoints))
    symbol = symbol or PROVIDERS[service].endpoints[dataset].example
    return call(service, dataset, symbol, settings=settings, deadline_seconds=deadline_seconds)


@pytest.mark.parametrize("service", PROVIDERS)
@pytest.mark.parametrize(
    ("mode", "verdict"),
    [
        (Mode.OK, "success"),
        (Mode.SLOW, "success"),
        (Mode.SERVER_ERROR, "provider_failure"),
        (Mode.THROTTLE, "rate_limit"),
        (Mode.BAD_KEY, "auth"),
        (Mode.DOWN, "provider_failure"),
        (Mode.GARBAGE, "provider_failure"),
        (Mode.HALF, "provider_failure"),
    ],
)
def test_every_mode_of_the_simulator_has_its_class(
    service: str, mode: Mode, verdict: str, simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    row = PROVIDERS[service]
    if mode is Mode.BAD_KEY and not (row.auth or row.contact_required):
        verdict = "provider_failure"  # no key is known there
    simulator.set_mode(service, mode, 0.05 if mode is Mode.SLOW else None)
    judgement = ask(service, simulated_settings)
    assert judgement.verdict == verdict, judgement
    assert (judgement.record is not None) == (verdict == "success")
    assert len(simulator.calls(service)) == (mode is not Mode.DOWN)


@pytest.mark.parametrize(("service", "dataset"), SERVED)
def test_every_endpoint_of_the_catalogue_is_asked_as_its_provider_wants_it(
    service: str, dataset: str, simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    simulator.set_mode(service, Mode.OK)
    judgement = ask(service, simulated_settings, dataset=dataset)
    assert judgement.verdict == "success", judgement
    assert as_of(judgement.record) or not DATASETS[dataset].time_fields


@pytest.mark.parametrize(
    ("service", "verdict"), [("iex_cloud", "quota"), ("alpha_vantage", "quota"), ("finnhub", "rate_limit")]
)
def test_a_used_up_quota(
    service: str, verdict: str, simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    simulator.set_mode(service, Mode.QUOTA)
    judgement = ask(service, simulated_settings)
    assert judgement.verdict == verdict
    assert judgement.hold_seconds >= 1


@pytest.mark.parametrize("service", PROVIDERS)
@pytest.mark.parametrize("mode", [Mode.DRIP, Mode.HANG])
def test_the_deadline_bounds_the_whole_call(
    service: str, mode: Mode, simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    simulator.set_mode(service, mode, 0.02)  # each byte comes well within any per-read time-out
    began = time.monotonic()
    judgement = ask(service, simulated_settings, deadline_seconds=SHORT)
    elapsed = time.monotonic() - began
    assert judgement.verdict == "provider_failure"
    assert f"within {SHORT} s" in judgement.detail
    assert SHORT * 0.9 <= elapsed < BOUND


@pytest.mark.parametrize(("service", "dataset"), SERVED)
def test_an_unknown_symbol_is_not_found_or_an_empty_list(
    service: str, dataset: str, simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    simulator.set_mode(service, Mode.OK)
    endpoint = PROVIDERS[service].endpoints[dataset]
    first, mark, rest = re.split(r"([:/-]|$)", endpoint.example.removeprefix(endpoint.prefix), maxsplit=1)
    unknown = endpoint.prefix + ("0009999999" if first.isdigit() else "ZZZTOP") + mark + rest
    if mark == "/":  # between two currencies: one that nobody tells a rate of
        unknown = f"{first}/XPF"
    judgement = ask(service, simulated_settings, unknown, dataset=dataset)
    assert judgement.verdict in ("not_found", "empty"), judgement
    assert judgement.verdict == "not_found" or not DATASETS[dataset].alone


@pytest.mark.parametrize(("symbol", "place"), [(symbol, n) for n, symbol in enumerate(SYMBOLS)])
@pytest.mark.parametrize(("service", "dataset"), SERVED)
def test_a_symbol_is_asked_for_in_the_providers_spelling_and_kept_in_ours(
    service: str,
    dataset: str,
    symbol: str,
    place: int,
    simulator: SimulatorClient,
    simulated_settings: ProviderSettings,
) -> None:
    spelled = SPELLED[service, dataset][place]
    if spelled is None:
        with pytest.raises(InvalidSymbolError):
            ask(service, simulated_settings, symbol, dataset=dataset)
        assert simulator.calls(service) == []
        return
    if PROVIDERS[service].endpoints[dataset].directory:
        return  # it has ids of its own: see test_directories.py
    simulator.set_mode(service, Mode.OK)
    judgement = ask(service, simulated_settings, symbol.lower(), dataset=dataset)
    assert judgement.verdict == "success", judgement
    record = judgement.record if DATASETS[dataset].alone else judgement.record[-1]
    assert dataset == "news" or record.symbol == symbol
    sent = ":".join(filter(None, (spelled, VENUES.get((service, symbol)))))
    assert [entry["symbol"] for entry in simulator.calls(service)] == [sent.upper()]


@pytest.mark.parametrize(
    ("service", "dataset", "symbol", "sent"),
    [
        (
            "coingecko",
            "quote",
            "COINGECKO:ARBITRUM-BRIDGED-WRAPPED-BITCOIN-ARBITRUM-ONE-V2",
            "ARBITRUM-BRIDGED-WRAPPED-BITCOIN-ARBITRUM-ONE-V2",
        ),
        (
            "world_bank",
            "observations",
            "WB:USA:PER_SA_ALLSA.COV_Q1_TOT_AND_MORE.ZS",
            "USA/INDICATOR/PER_SA_ALLSA.COV_Q1_TOT_AND_MORE.ZS",
        ),
    ],
)
def test_a_long_name_of_a_providers_own_is_asked_for_and_answered(
    service: str,
    dataset: str,
    symbol: str,
    sent: str,
    simulator: SimulatorClient,
    simulated_settings: ProviderSettings,
) -> None:
    simulator.set_mode(service, Mode.OK)
    record = ask(service, simulated_settings, symbol, dataset=dataset).record
    assert (record.symbol if dataset == "quote" else record[-1].series_id) == symbol
    assert [entry["symbol"] for entry in simulator.calls(service)] == [sent]


ASKED_AT = datetime(2026, 11, 23, 21, 30, 15, tzinfo=UTC)


def asking_with(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint | None = None, **changed: object) -> None:
    """Let Finnhub's row be another one."""
    row = replace(PROVIDERS["finnhub"], **changed)
    if endpoint:
        row = replace(row, endpoints={"quote": endpoint})
    monkeypatch.setattr("tasks.settings.find_provider", lambda _: row)


def sent(key: str = "sekret0123456789", **settings: str) -> str:
    """The head and the body of the request that Finnhub's row makes."""
    with server_saying(response(b"{}")) as (addresses, heard):
        given = {"finnhub_api_key": key, "finnhub_base_url": addresses.base_url("finnhub"), **settings}
        call("finnhub", "quote", "BRK.B", settings=ProviderSettings(**given), now=ASKED_AT)
    return heard[0].decode()


def test_dates_and_spellings_stand_where_the_row_says(monkeypatch: pytest.MonkeyPatch) -> None:
    params = {
        "from": "{start}",
        "to": "{end}",
        "d1": "{start_compact}T0000",
        "d2": "{end_compact}",
        "a": "{start_unix}",
        "b": "{end_unix}",
        "s": "{symbol_lower}",
    }
    params |= {"empty": "{venue}", "venue": "{venue}x"}
    endpoint = Endpoint(
        "/x/{symbol}/{start}", Node.rows, params, spell=lambda symbol: f"{symbol}.US/a b", window_days=30
    )
    asking_with(monkeypatch, endpoint)
    line = sent().partition("\r\n")[0]
    assert line == (
        "GET /x/BRK.B.US/a%20b/2026-10-24?from=2026-10-24&to=2026-11-23&d1=20261024T0000&d2=20261123"
        "&a=1792800000&b=1795469415&s=brk.b.us%2Fa+b&venue=x HTTP/1.1"
    )


def test_a_body_is_sent_as_json_by_post(monkeypatch: pytest.MonkeyPatch) -> None:
    body = [{"idType": "TICKER", "idValue": "{symbol}", "n": 1}]
    asking_with(monkeypatch, Endpoint("/mapping", Node.rows, body=body))
    request = sent()
    assert request.startswith("POST /mapping HTTP/1.1\r\n")
    assert "\r\nContent-Type: application/json\r\n" in request
    assert json.loads(request.partition("\r\n\r\n")[2]) == [{"idType": "TICKER", "idValue": "BRK.B", "n": 1}]


@pytest.mark.parametrize(
    ("auth", "key", "line"),
    [
        (Auth("query", "token"), "k/1", "GET /quote?symbol=BRK.B&token=k%2F1 HTTP/1.1"),
        (Auth("header", prefix="Bearer "), "k/1", "Authorization: Bearer k/1"),
        (Auth("header", prefix="Token "), "k/1", "Authorization: Token k/1"),
        (Auth("pair", "X-Id", second="X-Secret"), "id:se:cret", "X-Id: id"),
        (Auth("pair", "X-Id", second="X-Secret"), "id:se:cret", "X-Secret: se:cret"),
        (Auth("basic"), "user:pass", "Authorization: Basic dXNlcjpwYXNz"),
        (Auth("basic"), "key", "Authorization: Basic a2V5Og=="),
    ],
)
def test_a_key_is_shown_in_the_form_the_row_says(
    auth: Auth, key: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking_with(monkeypatch, auth=auth)
    assert line in sent(key).split("\r\n")


def test_without_a_key_a_provider_that_needs_none_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asking_with(monkeypatch, key_required=False)
    with server_saying(response(b'{"c": 261.74, "t": 1582641000}')) as (addresses, heard):
        settings = ProviderSettings(finnhub_base_url=addresses.base_url("finnhub"))
        assert call("finnhub", "quote", "AAPL", settings=settings).verdict == "success"
    assert b"x-finnhub-token" not in heard[0].lower()


@pytest.mark.parametrize(("adjusted", "verdict"), [(False, "success"), (True, "provider_failure")])
def test_bars_that_are_not_adjusted_as_asked_for_are_a_failure(
    adjusted: bool,  # noqa: FBT001 - pytest passes parameters by name
    verdict: str,
) -> None:
    reply = json.dumps({**BARS, "adjusted": adjusted}).encode()
    with server_saying(response(reply)) as (addresses, heard):
        settings = ProviderSettings(
            polygon_base_url=addresses.base_url("polygon"), polygon_api_key=KEYS["polygon_api_key"]
        )
        judgement = call("polygon", "bars", BARS["ticker"], settings=settings)
    assert b"adjusted=false" in heard[0]
    assert judgement.verdict == verdict
    assert adjusted == ("prices are split, asked for raw" in judgement.detail)


def test_csv_is_asked_for_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(reply: Node) -> list[dict[str, object]]:
        return [
            {"last_price": row.price_numeral("Close"), "last_timestamp": row.day("Date")}
            for row in reply.rows()
        ]

    row = PROVIDERS["finnhub"]
    row = replace(row, endpoints={"quote": Endpoint("/q/d/l/", parse, {"s": "{symbol}"}, reply="csv")})
    monkeypatch.setattr("tasks.settings.find_provider", lambda _: row)
    monkeypatch.setattr(verdicts, "find_provider", lambda _: row)
    for kind, verdict in (
        ("text/csv", "success"),
        ("text/plain", "success"),
        ("text/html", "provider_failure"),
    ):
        reply = response(b"Date,Close\r\n2024-06-26,213.25\r\n").replace(b"application/json", kind.encode())
        with server_saying(reply) as (settings, heard):
            judgement = call("finnhub", "quote", "AAPL", settings=settings)
        assert judgement.verdict == verdict, judgement
    assert b"\r\nAccept: text/csv" in heard[0]


@pytest.mark.parametrize("off", [-7_200, 0, 7_200])
def test_until_when_it_is_left_alone_a_provider_says_by_its_own_clock(off: int) -> None:
    theirs = int(time.time()) + off
    told = (f"Date: {formatdate(theirs, usegmt=True)}", f"X-Ratelimit-Reset: {theirs + 20}")
    with server_saying(response(b"{}", *told, status="429 Too Many Requests")) as (settings, _):
        judgement = call("finnhub", "quote", "AAPL", settings=settings)
    assert (judgement.verdict, judgement.hold_seconds) == ("rate_limit", 20)


def test_the_sec_is_told_who_asks_and_never_asked_without() -> None:
    with server_saying(response(b"{}")) as (settings, heard):
        ask("sec_edgar", settings)
        judgement = ask("sec_edgar", ProviderSettings(sec_edgar_base_url=settings.base_url("sec_edgar")))
    assert len(heard) == 1
    assert b"\r\nUser-Agent: Test admin@example.com\r\n" in heard[0]
    assert b"authorization" not in heard[0].lower()
    assert (judgement.verdict, judgement.hold_seconds) == ("auth", 300)
    assert "SEC_EDGAR_CONTACT is not set; put a name and an e-mail address" in judgement.detail


@pytest.mark.usefixtures("no_network")
def test_a_symbol_the_provider_cannot_have_is_refused_before_any_call(
    simulated_settings: ProviderSettings,
) -> None:
    with pytest.raises(
        InvalidSymbolError, match=r"'\^GSPC'; give a ticker .* or a CIK, ten digits, as in 0000320193"
    ):
        ask("sec_edgar", simulated_settings, "^GSPC")
    with pytest.raises(InvalidSymbolError, match="a CIK is known to sec_edgar only"):
        ask("finnhub", simulated_settings, "0000320193", dataset="filings")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "symbol",
    [
        *(
            "../0000320193",
            "0000320193/../../x",
            "..%2f00003201",
            "0000320193.json",
            "0000320193?x=1",
            "/0000320193",
        ),
        *(
            "0000320193\n",
            "0000320193\r\nX: 1",
            "\x0000003201",
            "٠٠٠٠٣٢٠١٩٣",
            "CIK0000320193",
            "320193",
            "-000320193",
        ),
    ],
)
def test_what_is_no_company_number_comes_into_no_path(
    simulated_settings: ProviderSettings, symbol: str
) -> None:
    with pytest.raises(InvalidSymbolError, match="invalid symbol") as caught:
        ask("sec_edgar", simulated_settings, symbol, dataset="filings")
    assert str(caught.value).isprintable()


def test_a_provider_that_comes_back_is_reached_at_once(
    simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    for _ in range(3):
        assert ask("finnhub", simulated_settings).verdict == "success"
        simulator.set_mode("finnhub", Mode.DOWN)
        assert "connection refused" in ask("finnhub", simulated_settings).detail
        simulator.set_mode("finnhub", Mode.OK)


def test_connections_are_reused_and_shared_by_threads(
    simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    http.close()
    for _ in range(20):
        assert ask("finnhub", simulated_settings).verdict == "success"
    assert simulator.providers()["finnhub"]["connections"] == 1
    with ThreadPoolExecutor(4) as pool:
        judgements = list(pool.map(lambda _: ask("finnhub", simulated_settings), range(80)))
    assert {judgement.verdict for judgement in judgements} == {"success"}
    state = simulator.providers()["finnhub"]
    assert (state["calls"], state["in_flight"]) == (100, 0)
    assert state["connections"] <= 4


@pytest.mark.usefixtures("simulator")
def test_close_is_final_for_connections_only(simulated_settings: ProviderSettings) -> None:
    http.close()
    http.close()
    assert ask("finnhub", simulated_settings).verdict == "success"


FORKING = """
import os
from tasks.providers.http import call
assert call("finnhub", "quote", "AAPL").verdict == "success"
child = os.fork()
if not child:
    for _ in range(5):
        assert call("finnhub", "quote", "AAPL").verdict == "success"
    os._exit(7)
for _ in range(5):
    assert call("finnhub", "quote", "AAPL").verdict == "success"
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert call("finnhub", "quote", "AAPL").verdict == "success"
"""


@pytest.mark.usefixtures("simulated_environment")
def test_a_forked_child_has_connections_of_its_own(simulator: SimulatorClient) -> None:
    # Python from 3.12 on warns of any fork beside a thread; that the fork is safe is what is tested.
    options = ["-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [sys.executable, *options, "-c", FORKING], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    state = simulator.providers()["finnhub"]
    assert (state["calls"], state["connections"]) == (12, 2)


@pytest.mark.usefixtures("simulator", "simulated_environment")
def test_a_process_that_called_ends_without_a_word() -> None:
    code = 'from tasks.providers.http import call; print(call("finnhub", "quote", "AAPL").verdict)'
    options = ["-X", "dev", "-W", "error"]
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=False)
    # A busy machine has asyncio's debug mode say that a step took long: not a word of ours.
    said = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert (done.returncode, done.stdout, said) == (0, "success\n", [])


class SoftLimitError(Exception):
    pass


def test_an_exception_out_of_a_signal_handler_ends_the_call_and_nothing_else(
    simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    def limit(_number: int, _frame: object) -> None:
        raise SoftLimitError

    def interrupt() -> None:
        while not simulator.providers()["finnhub"]["in_flight"]:
            pass
        os.kill(os.getpid(), signal.SIGUSR1)

    simulator.set_mode("finnhub", Mode.HANG)
    before = signal.signal(signal.SIGUSR1, limit)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        with pytest.raises(SoftLimitError):
            ask("finnhub", simulated_settings)
    finally:
        interrupter.join()
        signal.signal(signal.SIGUSR1, before)
    while simulator.providers()["finnhub"]["in_flight"]:
        pass  # the abandoned request's connection is closed, not left open until its deadline
    simulator.set_mode("finnhub", Mode.OK)
    assert ask("finnhub", simulated_settings).verdict == "success"


def test_a_body_that_unpacks_beyond_the_bound_is_refused() -> None:
    bomb = gzip.compress(bytes(200 * 1024 * 1024), 9)
    assert len(bomb) < 1024 * 1024
    with server_saying(response(bomb, "Content-Encoding: gzip")) as (settings, _):
        judgement = ask("finnhub", settings)
    assert judgement.verdict == "provider_failure"
    assert "larger than 2097152 bytes" in judgement.detail


def test_a_body_beyond_the_bound_is_refused() -> None:
    with server_saying(response(b" " * 3 * 1024 * 1024)) as (settings, _):
        assert "larger than 2097152 bytes" in ask("finnhub", settings).detail


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("Deflate, identity", lambda body: zlib.compress(body, wbits=-15)),
        ("identity", bytes),
        ("utf-8", bytes),
    ],
)
def test_a_packed_quote_is_a_quote(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    body = pack(b'{"c": 261.74, "t": 1582641000}')
    with server_saying(response(body, f"Content-Encoding: {encoding}")) as (settings, _):
        assert ask("finnhub", settings).verdict == "success"


def empty_blocks() -> bytes:
    """Gzip in gzip: a kilobyte that unpacks to 100 MB of blocks, each of which unpacks to nothing."""
    inner = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = inner.compress(b"\x1f\x8b\x08\0\0\0\0\0\0\x03") + inner.flush(zlib.Z_FULL_FLUSH)
    again = inner.compress(b"\x00\x00\x00\xff\xff" * 200_000) + inner.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(gzip.compress(first + again * 100))


CRUMBS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 300_000
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 300_000


@pytest.mark.parametrize(
    ("reply", "calls"),
    [(response(empty_blocks(), "Content-Encoding: gzip, gzip, gzip"), 1), (CRUMBS, 1), (INTERIM, 4)],
    ids=["packed three times", "a byte at a time", "never the last"],
)
def test_a_reply_that_is_work_to_read_holds_up_no_other_call(reply: bytes, calls: int) -> None:
    quote = response(b'{"c": 261.74, "t": 1582641000}')
    with server_saying(quote) as (sound, _), server_saying(reply) as (hostile, heard):
        ask("finnhub", sound)
        own = {"args": ("finnhub", hostile), "kwargs": {"deadline_seconds": 3}}
        others = [threading.Thread(target=ask, **own) for _ in range(calls)]
        for other in others:
            other.start()
        wait_for(lambda: heard, 10, "the other call is under way")
        started = time.monotonic()
        for _ in range(3):
            assert ask("finnhub", sound, deadline_seconds=2).verdict == "success"
        assert time.monotonic() - started < 2
        for other in others:
            other.join()


@pytest.mark.parametrize("seconds", [1.0, 3.0], ids=["until the deadline", "and beyond"])
def test_a_call_that_this_process_has_delayed_says_nothing_of_its_provider(
    seconds: float, simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    ask("finnhub", simulated_settings)
    simulator.set_mode("finnhub", Mode.SLOW, 0.3)
    threading.Timer(0.1, http._edge()._loop.call_soon_threadsafe, (time.sleep, seconds)).start()
    judgement = ask("finnhub", simulated_settings, deadline_seconds=SHORT)
    assert judgement.verdict == "delayed", judgement
    time.sleep(seconds)
    simulator.set_mode("finnhub", Mode.HANG)
    assert ask("finnhub", simulated_settings, deadline_seconds=SHORT).verdict == "provider_failure"


def test_a_task_whose_call_was_delayed_waits_and_spends_no_attempt(
    simulated_settings: ProviderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Judgement(verdicts.Verdict.DELAYED, detail="this process stood still for 9 s of the call")
    monkeypatch.setattr(fetch, "call", lambda *_args, **_more: told)
    monkeypatch.setattr(fetch, "provider_settings", lambda: simulated_settings)
    breaker = CircuitBreaker("finnhub", failure_threshold=1, store=MemoryStore())
    monkeypatch.setitem(CIRCUIT_BREAKERS, "finnhub", breaker)
    with Celery(set_as_current=False) as app:
        task = app.register_task(
            type("Delayed", (fetch.FetchTask,), {"name": "delayed", "service": "finnhub"})()
        )
        task.push_request(id="one", called_directly=False)
        with pytest.raises(Parked) as waits:
            task("quote", "AAPL")
    assert waits.value.delay_seconds == fetch.DELAYED_SECONDS
    state = breaker.get_state()
    assert (state["state"], state["failure_count"], state["failures_total"]) == ("closed", 0, 0)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_not_followed(
    status: str, simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    target = f"Location: {simulated_settings.base_url('finnhub')}/quote?symbol=AAPL"
    with server_saying(response(b"", target, status=status)) as (settings, heard):
        assert ask("finnhub", settings).verdict == "provider_failure"
    assert len(heard) == 1
    assert simulator.calls() == []


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "cut off"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Len", "cut off"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "cut off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", "cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}", "cut off"),
        (response(b"no gzip", "Content-Encoding: gzip"), "compression is broken"),
        (response(gzip.compress(b"{}")[:-9], "Content-Encoding: gzip"), "compression is broken"),
        (response(b"{}", "Content-Encoding: " + "gzip, " * 20 + "gzip"), "packed 21 times"),
        (response(b"{}", "Content-Encoding: deflate", "Content-Encoding: gzip"), "packed 2 times"),
        (response(b"{}", "Content-Encoding: br"), "packed with br, which was not asked for"),
        (response(b"{}", "Content-Encoding: zstd"), "packed with zstd, which was not asked for"),
        (response(b"{}", "Transfer-Encoding: gzip"), "no HTTP"),
    ],
)
def test_a_reply_broken_on_the_wire_is_a_failure_in_words(reply: bytes, words: str) -> None:
    with server_saying(reply) as (settings, _):
        judgement = ask("finnhub", settings)
    assert judgement.verdict == "provider_failure"
    assert words in judgement.detail


def test_a_reset_connection_is_a_failure() -> None:
    with server_saying(b"", reset=True) as (settings, _):
        judgement = ask("finnhub", settings)
    assert judgement.verdict == "provider_failure"
    assert "connection" in judgement.detail


def test_tls_to_a_server_that_speaks_none_is_a_failure() -> None:
    with server_saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (settings, _):
        https = settings.base_url("finnhub").replace("http:", "https:")
        judgement = ask("finnhub", ProviderSettings(**KEYS, finnhub_base_url=https))
    assert (judgement.verdict, "TLS" in judgement.detail) == ("provider_failure", True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is needed to make a certificate")
def test_a_certificate_nobody_vouches_for_is_refused_before_the_key_is_sent(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with server_saying(response(b"{}"), context=context) as (settings, heard):
        judgement = ask("finnhub", settings)
    assert judgement.verdict == "provider_failure"
    assert "TLS certificate cannot be verified" in judgement.detail
    assert heard == []


def settings_at(base_url: str, service: str = "finnhub") -> ProviderSettings:
    return ProviderSettings(**KEYS, **{f"{service}_base_url": base_url})


@pytest.fixture
def silent() -> Iterator[str]:
    """Where a server takes connections and never says a word, not even of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_tls_handshake_that_stalls_ends_at_the_deadline(silent: str) -> None:
    judgement = ask("finnhub", settings_at(f"https://{silent}"), deadline_seconds=SHORT)
    assert judgement.verdict == "provider_failure"
    assert judgement.detail == f"Finnhub at {silent}: no TLS handshake within {SHORT} s (0 bytes came)"
    gc.collect()  # a connection left open would be told of here


@pytest.mark.parametrize(
    ("scheme", "bound", "said"),
    [
        ("https", "connect_seconds", "no TLS handshake within 0.3 s"),
        ("http", "read_seconds", "no answer in 0.3 s of silence"),
    ],
)
def test_a_row_may_allow_less_than_the_deadline_for_a_connection_or_a_silence(
    scheme: str, bound: str, said: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking_with(monkeypatch, **{bound: 0.3})
    judgement = ask("finnhub", settings_at(f"{scheme}://{silent}"))
    assert judgement.verdict == "provider_failure"
    assert said in judgement.detail


@pytest.fixture
def stuck_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A resolver that answers for nothing in .test until the test is over; yields what it was asked."""
    asked, over = [], threading.Event()
    real = socket.getaddrinfo

    def look_up(host: str | bytes, *place: object, **options: object) -> object:
        name = host if isinstance(host, str) else host.decode()
        if name.endswith(".test"):
            asked.append(name)
            over.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *place, **options)

    http.close()  # a look-up that is under way is shared
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield asked
    over.set()


def test_a_name_that_is_slow_to_look_up_ends_at_the_deadline_and_is_asked_once(
    stuck_names: list[str],
) -> None:
    settings = settings_at("http://slow.test")
    told = [ask("finnhub", settings, deadline_seconds=SHORT) for _ in range(3)]
    assert {judgement.verdict for judgement in told} == {"provider_failure"}
    said = f"Finnhub at slow.test: no address for its name within {SHORT} s (0 bytes came)"
    assert {judgement.detail for judgement in told} == {said}
    assert stuck_names == ["slow.test"], "one look-up, however many wait for it"


def test_many_slow_names_delay_no_other_provider(
    stuck_names: list[str], simulator: SimulatorClient, simulated_settings: ProviderSettings
) -> None:
    simulator.set_mode("finnhub", Mode.OK)
    reachable = simulated_settings.base_url("finnhub").replace("127.0.0.1", "localhost")
    slow = [service for service in PROVIDERS if service != "finnhub"]  # more than asyncio has threads

    def ask_in_vain(service: str) -> str:
        return ask(service, settings_at(f"http://{service}.test", service), deadline_seconds=LONG).detail

    with ThreadPoolExecutor(len(slow)) as pool:
        waiting = [pool.submit(ask_in_vain, service) for service in slow]
        wait_for(lambda: len(stuck_names) == len(slow), LONG, "every slow name is looked up")
        assert ask("finnhub", settings_at(reachable)).verdict == "success"
        assert not any(call.done() for call in waiting)
        http.close()
        assert all("closed meanwhile" in call.result() for call in waiting)


STUCK = """
import socket, threading
from tasks.providers.http import call
socket.getaddrinfo = lambda *place, **options: threading.Event().wait()
print(call("finnhub", "quote", "AAPL", deadline_seconds=0.5).detail)
"""


def test_a_process_ends_though_a_name_is_still_looked_up() -> None:
    environment = {
        **os.environ,
        "FINNHUB_API_KEY": KEYS["finnhub_api_key"],
        "FINNHUB_BASE_URL": "http://slow.test",
    }
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", STUCK],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "no address for its name within 0.5 s" in done.stdout


def test_a_name_that_does_not_resolve_is_a_failure() -> None:
    settings = ProviderSettings(**KEYS, finnhub_base_url="http://no-such-host.invalid")
    judgement = ask("finnhub", settings)
    assert judgement.verdict == "provider_failure"
    assert "no-such-host.invalid" in judgement.detail


@pytest.mark.usefixtures("simulator")
def test_the_environments_proxy_is_not_asked(
    simulated_settings: ProviderSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    http.close()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask("finnhub", simulated_settings).verdict == "success"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        pytest.fail("a call was made")

    monkeypatch.setattr(http, "_edge", refuse)


@pytest.mark.usefixtures("no_network")
def test_a_retired_provider_is_not_called() -> None:
    judgement = ask("iex_cloud", ProviderSettings(**KEYS))
    assert (judgement.verdict, judgement.hold_seconds) == ("retired", 86_400)
    assert "2024-08-31" in judgement.detail


@pytest.mark.usefixtures("no_network")
def test_without_a_key_nothing_is_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FINNHUB_API_KEY", raising=False)
    judgement = ask("finnhub", ProviderSettings())
    assert (judgement.verdict, judgement.hold_seconds) == ("auth", 300)
    assert judgement.detail == "FINNHUB_API_KEY is not set; put it in the environment or .env"


@pytest.mark.usefixtures("no_network")
def test_an_impossible_symbol_is_refused_before_any_call(simulated_settings: ProviderSettings) -> None:
    with pytest.raises(InvalidSymbolError):
        ask("finnhub", simulated_settings, "AAPL?token=x")


def echo(request: bytes) -> bytes:
    """The request's own first line and headers, in every place a reply has."""
    said = " ".join(request.decode().partition("\r\n\r\n")[0].split("\r\n"))
    return response(f"denied: {said}".encode(), f"Location: /{said}", f"X-Echo: {said}", status="302 Found")


@pytest.mark.parametrize("service", KEYED)
def test_no_key_reaches_a_log_or_a_detail(
    service: str,
    simulator: SimulatorClient,
    simulated_settings: ProviderSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx2", "httpcore2", "httpcore2.connection", "httpcore2.http11", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    told = []
    for mode in Mode:
        simulator.set_mode(service, mode, 0.01)
        told.append(ask(service, simulated_settings, deadline_seconds=SHORT))
    with server_saying(echo) as (settings, heard):
        told.append(ask(service, settings))
    key = KEYS[f"{service}_api_key"]
    shown = PROVIDERS[service].auth.spellings(key)
    spellings = {spelling for text in shown for spelling in (text, quote(text, safe=""))}
    assert any(spelling.encode() in heard[0] for spelling in spellings), "the key was sent, and echoed"
    assert "receive_response_headers" in caplog.text, "the HTTP library's debug log was on"
    for spelling in spellings:
        assert spelling not in caplog.text
        assert spelling not in repr(told)
    assert all(key not in str(entry) for entry in simulator.calls())


SECRET = KEYS["finnhub_api_key"]


@pytest.mark.parametrize(
    "document",
    [
        {SECRET: {"reason": SECRET}, "info": [{SECRET.upper(): 1, "value": SECRET}]},
        {SECRET[:8]: True, f"x{SECRET}": None, quote(SECRET, safe=""): "no"},
        [SECRET],
    ],
)
def test_a_reply_nobody_documented_is_told_once_by_its_shape_alone(
    document: object, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "_told", set())
    body = json.dumps(document).encode()
    reply = response(body, f"Content-Type: text/{SECRET}", f"X-Echo: {SECRET}", status="418 Teapot")
    with server_saying(reply) as (settings, _):
        told = [ask("finnhub", settings) for _ in range(3)]
    assert {judgement.verdict for judgement in told} == {"caller_error"}
    lines = [record.getMessage() for record in caplog.records if "nobody documented" in record.getMessage()]
    assert len(lines) == 1
    assert "status 418" in lines[0]
    assert ("less than 1000 bytes" in lines[0]) == (len(body) >= 100)
    for part in (SECRET, SECRET.upper(), SECRET[:8], quote(SECRET, safe="")):
        assert part not in caplog.text


def test_a_shape_has_names_and_types_two_levels_deep(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shapes, "_told", set())
    body = b'{"error": {"code": 7, "inner": {"deep": 1}}, "ok": false, "why": "no such thing", "id_9": null}'
    with server_saying(response(body, status="418 Teapot")) as (settings, _):
        ask("finnhub", settings)
    assert (
        "status 418, json, less than 100 bytes, "
        "{(a name): null, error: {code: number, inner: {…}}, ok: boolean, why: string}" in caplog.text
    )
    assert "no such thing" not in caplog.text


def test_documented_replies_and_successes_are_not_told(
    simulator: SimulatorClient,
    simulated_settings: ProviderSettings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shapes, "_told", set())
    for mode in (Mode.OK, Mode.THROTTLE, Mode.QUOTA, Mode.BAD_KEY):
        simulator.set_mode("alpha_vantage", mode)
        ask("alpha_vantage", simulated_settings)
    assert "nobody documented" not in caplog.text
