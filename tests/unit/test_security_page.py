"""docs/security.md: what it says is shown by a test is so by a test that is there."""

from __future__ import annotations

import re

from tests.fleet import ROOT

NAMED = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "security.md").read_text("utf-8"))


def test_every_test_it_names_is_there() -> None:
    assert len(NAMED) > 10
    written = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    missing = [
        f"{file}::{name}"
        for file, name in NAMED
        if not any(path.name == file and f"\ndef {name}(" in text for path, text in written.items())
    ]
    assert missing == []
