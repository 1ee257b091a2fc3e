"""The schedule as real processes: beat's pace, and where a dealt symbol goes when its provider is shut."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from resilience import get_circuit_breaker
from resilience.parking import Lane
from tasks.fetch import queue_of
from tasks.providers import PROVIDERS
from tasks.schedule import load
from tasks.settings import provider_settings
from tests.fleet import wait_for
from tests.system import FINAL, QUEUES, System

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fleet import Worker

COUNT, EVERY = 5000, 60
SHARE = COUNT / EVERY


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    made = System(tmp_path_factory.mktemp("schedule"))
    try:
        yield made
    finally:
        made.close()


def write(system: System, name: str, **keys: Any) -> Path:
    file: Path = system.folder / f"{name}.toml"
    file.write_text("[[fetch]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()))
    return file


def start_beat(system: System, schedule: Path, log: str) -> Worker:
    options = ("-l", "INFO", "--pidfile=", "-s", str(system.folder / schedule.stem))
    return system.celery(log, "beat", *options, SCHEDULE_FILE=str(schedule))


def arrivals(system: System, seconds: float) -> list[tuple[float, dict[str, Any]]]:
    """What arrives at the providers' queues in so many seconds from the first on."""
    found: list[tuple[float, dict[str, Any]]] = []
    waits_until = time.monotonic() + 60
    while time.monotonic() < (found[0][0] + seconds if found else waits_until):
        taken: Any = system.broker.blpop(QUEUES, 1)
        if taken:
            found.append((time.monotonic(), json.loads(taken[1])))
    return found


def sent(beat: Worker) -> list[float]:
    """When beat has sent each fetch, by its own log: who receives them may be held up."""
    stamps = re.findall(
        r"^\[(\S+ \S+): INFO/MainProcess\] Scheduler: Sending due task quote/", beat.text(), re.MULTILINE
    )
    return [datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").timestamp() for stamp in stamps]  # noqa: DTZ007 - differences


def assert_even(times: list[float]) -> None:
    """Never ahead of the pace, with half of it more for what a stop has kept back."""
    early = [
        (count, when - times[0])
        for count, when in enumerate(times, 1)
        if count > 2 * SHARE + 1.5 * SHARE * (when - times[0])
    ]
    assert early == []
    assert len(times) / (times[-1] - times[0]) >= SHARE * 0.9


def test_five_thousand_symbols_a_minute_are_no_burst_at_the_start_nor_after_a_kill(system):
    (system.folder / "symbols.txt").write_text("# all\n" + "".join(f"S{n}\n" for n in range(COUNT)))
    file = write(
        system, "many", dataset="quote", provider="auto", symbols_file="symbols.txt", every_seconds=EVERY
    )
    first = start_beat(system, file, "first")
    before = arrivals(system, 12)
    first.process.kill()
    first.process.wait()
    second = start_beat(system, file, "second")
    after = arrivals(system, 12)
    second.process.terminate()
    assert second.process.wait(20) == 0, second.text()
    assert "Traceback" not in first.text() + second.text()
    assert min(len(before), len(after)) > 0
    assert_even(sent(first))
    assert_even(sent(second))
    asked = Counter(message["headers"]["argsrepr"] for _, message in before)
    assert max(asked.values()) == 1, "none twice in the first seconds"
    assert len({message["properties"]["delivery_info"]["routing_key"] for _, message in before}) > 3


def test_messages_expire_when_their_next_is_due(system):
    system.broker.flushdb()
    file = write(
        system, "soon", dataset="quote", provider="finnhub", symbols=["AAPL", "MSFT"], every_seconds=4
    )
    beat = start_beat(system, file, "soon")
    found = arrivals(system, 1)
    beat.process.terminate()
    beat.process.wait(20)
    assert found
    for _, message in found:
        left = system.app.now().fromisoformat(message["headers"]["expires"]) - system.app.now()
        assert 0 < left.total_seconds() <= 4


def test_a_dealt_symbol_is_fetched_by_another_while_its_own_provider_is_shut(system):
    system.broker.flushdb()
    file = write(
        system, "dealt", dataset="quote", provider=["finnhub", "tiingo"], symbols=["AAPL"], every_seconds=3600
    )
    [fetch] = load(file, lambda _: True)
    [other] = fetch.fallbacks
    worker = system.worker()

    def fetched(**keywords: Any) -> Any:
        task = system.app.send_task(
            f"tasks.{fetch.provider}.fetch",
            ("quote", "AAPL"),
            keywords,
            queue=queue_of(fetch.provider, Lane.SCHEDULED),
        )
        wait_for(lambda: task.state in {*FINAL, "PARKED"}, 30, "it ends, or waits")
        return task

    dealt = {"fallbacks": list(fetch.fallbacks)}
    assert fetched(**dealt).get(timeout=5)["provider"] == fetch.provider
    get_circuit_breaker(fetch.provider).force_open(60, "drill", "test")
    assert fetched(**dealt).get(timeout=5)["provider"] == other
    alone = fetched()
    assert alone.state == "PARKED", "a provider named in the file is the only one"
    get_circuit_breaker(fetch.provider).reset()
    assert wait_for(lambda: alone.state == "SUCCESS", 30, "its own is back")
    assert fetched(**dealt).get(timeout=5)["provider"] == fetch.provider
    wrong = fetched(fallbacks=other)
    assert wrong.state == "FAILURE"
    assert "give a list" in str(wrong.info)
    worker.process.terminate()
    worker.process.wait(20)


def test_fallbacks_with_bars_adjusted_otherwise_are_never_asked(monkeypatch):
    for service in ("TIINGO", "FMP"):  # who has no key is not asked anyway
        monkeypatch.setenv(f"{service}_API_KEY", "a-key")
    provider_settings.cache_clear()
    from tasks.fetch import FetchTask  # noqa: PLC0415 - the task alone, without a worker

    class Fetch(FetchTask):
        service = "alpaca"

    names = Fetch().candidates("bars", "AAPL", fallbacks=["yahoo", "tiingo", "nobody", "alpaca", "fmp"])
    assert names == ("alpaca", "tiingo")
    assert PROVIDERS["yahoo"].endpoints["bars"].adjustment == "split"


def test_check_tells_what_a_schedule_asks_and_warns_of_too_much(system):
    file = write(
        system, "check", dataset="quote", provider="finnhub", symbols=["AAPL"], crontab="*/5 9-16 * * mon-fri"
    )
    found = system.json("schedule", "check", str(file))
    [table], [asked] = found["tables"], found["providers"]
    assert (table["symbols"], table["when"], table["dealt"]) == (
        1,
        "'*/5 9-16 * * mon-fri' UTC",
        {"finnhub": 1},
    )
    assert (asked["calls_a_minute"], asked["calls_a_day"], asked["warning"]) == (1, 96, None)
    (system.folder / "plan.toml").write_text("[finnhub]\nquota_calls = 50\nquota_seconds = 86_400\n")
    done = system.cli("schedule", "check", str(file), CIRCUITS_FILE=str(system.folder / "plan.toml"))
    assert done.returncode == 0
    assert "warning: finnhub is asked for 96 calls in 86400 s, its quota allows 50: " in done.stderr
    assert "finnhub" in done.stdout


def test_check_tells_everything_that_is_wrong(system):
    file = write(system, "wrong", dataset="quote", provider="finhub", symbols=["../x"], every_seconds=0)
    done = system.cli("schedule", "check", str(file))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert [line.rpartition(".toml:")[2].partition(":")[0] for line in done.stderr.splitlines()] == ["5", "3"]
    shown = system.cli("schedule", "check", str(file), "--json")
    assert shown.returncode == 1
    assert [problem["line"] for problem in json.loads(shown.stdout)["problems"]] == [5, 3]
