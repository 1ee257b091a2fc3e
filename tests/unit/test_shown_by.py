"""The pages that say what holds: what they say is shown by a test is so by a test that is there."""

from __future__ import annotations

import re

import pytest

from tests.fleet import ROOT


@pytest.mark.parametrize("page", ["guarantees.md", "security.md"])
def test_every_test_it_names_is_there(page: str) -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / page).read_text("utf-8"))
    assert len(named) > 10
    written = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not any(path.name == file and f"\ndef {name}(" in text for path, text in written.items())
    ]
    assert missing == []
