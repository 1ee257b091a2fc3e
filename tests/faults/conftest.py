"""Plays the series the chosen tests ask for, several at a time, and prints what they have shown."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from tests.faults.series import Account, Case
from tests.fleet import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "20"))
# A series mostly waits: for a lease to lapse, a message to come again, a server to answer.
AT_A_TIME = int(os.environ.get("FAULT_SERIES_AT_A_TIME", "4"))
SHOWN = pytest.StashKey[dict[Case, Account]]()
SEED = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", help="of the faults' random moments, as an earlier run has printed it")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHOWN] = {}
    config.stash[SEED] = config.getoption("--seed") or str(random.randrange(10**6))  # noqa: S311 - no secret


@pytest.fixture(scope="session")
def account_of(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Case], Account]]:
    """Wait for a case's series; all that were asked for begin with the first."""
    config = request.config
    folder = tmp_path_factory.mktemp("faults")
    asked = [
        item.callspec.params["case"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "account_of" in item.fixturenames
    ]
    asked.sort(key=lambda case: case.fault != "broker" or case.broker != "rabbitmq")  # the longest first
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        playing: dict[Case, Future[Account]] = {}
        for case in asked:
            if case not in playing:
                playing[case] = pool.submit(play, case, config.stash[SEED], folder / str(case))

        def wait(case: Case) -> Account:
            config.stash[SHOWN][case] = account = playing[case].result()
            return account

        yield wait
        for future in playing.values():
            future.cancel()


def play(case: Case, seed: str, folder: Path) -> Account:
    """A series in a process of its own.

    Raises:
        AssertionError: It has ended with an error of its own.
    """
    folder.mkdir()
    command = [sys.executable, "-m", "tests.faults.series", json.dumps(asdict(case)), seed, str(ROUNDS)]
    with (folder / "series.log").open("w+") as log:
        played = subprocess.run(
            [*command, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, check=False
        )
    assert played.returncode == 0, (folder / "series.log").read_text()[-4000:]
    return Account(**json.loads(played.stdout))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not config.stash[SHOWN]:
        return
    terminalreporter.section(f"faults, {ROUNDS} rounds of each, --seed {config.stash[SEED]}")
    row = "{:<28}{:>7}{:>9}{:>7}{:>14}{:>13}{:>13}{:>7}{:>7}"
    titles = ("", "tasks", "strikes", "lost", "by transport", "redelivered", "ran again", "ended", "s")
    terminalreporter.write_line(row.format(*titles))
    for case, seen in config.stash[SHOWN].items():
        redelivered = "" if seen.redelivered < 0 else seen.redelivered
        losses = len(seen.lost), len(seen.by_transport)
        counts = (seen.sent, seen.strikes, *losses, redelivered, seen.again, seen.ended, round(seen.seconds))
        terminalreporter.write_line(row.format(str(case), *counts))
