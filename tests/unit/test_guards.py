"""The table of guards is true of this code. Whether each is missed is shown by ``make guards``."""

from __future__ import annotations

import tomllib

from tests.guards import ROOT

GUARDS = tomllib.loads((ROOT / "tests" / "guards.toml").read_text("utf-8"))["guard"]


def test_every_guard_stands_where_the_table_says() -> None:
    elsewhere = [
        (change["file"], guard["trap"])
        for guard in GUARDS
        for change in guard["change"]
        if (ROOT / change["file"]).read_text("utf-8").count(change["guard"]) != 1
    ]
    assert elsewhere == [], "take the text over into tests/guards.toml, and run make guards"


def test_every_test_that_misses_a_guard_is_there() -> None:
    gone = []
    for guard in GUARDS:
        file, _, name = guard["test"].partition("::")
        name = name.rpartition("::")[2].partition("[")[0]
        if name and f"def {name}(" not in (ROOT / file).read_text("utf-8"):
            gone.append(guard["test"])
    assert gone == []
