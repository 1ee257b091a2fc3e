"""The house's order: imports run one way, names say what they are, the layer knows no provider."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import resilience

ROOT = Path(__file__).parents[2]
PACKAGES = ("workers", "tasks", "resilience")
FILES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def imported(file: Path) -> set[str]:
    """The top-level packages a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(
                file.relative_to(ROOT).parts[0] if node.level else (node.module or "").partition(".")[0]
            )
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_run_from_workers_to_tasks_to_resilience(file):
    place = PACKAGES.index(file.relative_to(ROOT).parts[0])
    assert not imported(file) & {*PACKAGES[:place], "tests", "bench"}


def test_no_module_has_a_name_that_says_nothing():
    names = {part.lower() for file in FILES for part in file.relative_to(ROOT).with_suffix("").parts}
    assert not names & {"utils", "util", "common", "helpers", "helper", "misc", "shared"}


def test_every_public_name_of_the_layer_is_there():
    assert sorted(resilience.__all__) == resilience.__all__
    assert [name for name in resilience.__all__ if not hasattr(resilience, name)] == []


def test_the_layer_names_no_address():
    sources = [*(ROOT / "resilience").rglob("*.py"), *(ROOT / "resilience").rglob("*.lua")]
    assert [str(file) for file in sources if re.search(r"https?://(?!{)", file.read_text("utf-8"))] == []
