"""Settings: what a process takes from a ``make run`` beside it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from workers.settings import settings, simulated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORE = "redis://127.0.0.1:1/2"
STAND_INS = {"FINNHUB_BASE_URL": "http://127.0.0.1:8903"}


@pytest.fixture(autouse=True)
def noted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """What a run that lives has written down; nothing else is set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.delenv("RESILIENCE_STORE_URL", raising=False)
    told = {"pid": os.getpid(), "settings": {"resilience_store_url": STORE}, "simulated": STAND_INS}
    file = tmp_path / "run.json"
    file.write_text(json.dumps(told))
    settings.cache_clear()
    yield file
    settings.cache_clear()


def test_another_terminal_finds_the_runs_servers_and_stand_ins() -> None:
    assert settings().resilience_store_url == STORE
    assert simulated() == STAND_INS


def test_a_process_with_a_store_of_its_own_is_sent_to_no_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESILIENCE_STORE_URL", "redis://store.example:6379/0")
    assert simulated() == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": 0}', '{"pid": 4194305}', '{"pid": "x"}'])
def test_of_a_run_that_is_over_or_told_nothing_there_is_nothing(text: str, noted: Path) -> None:
    noted.write_text(text)
    assert simulated() == {}
    assert settings().resilience_store_url.startswith("redis://127.0.0.1:6390/")
