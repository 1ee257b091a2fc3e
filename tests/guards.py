"""Every guard has a test that misses it: takes each out in turn, in a copy, and runs that test.

    make guards                        all of them
    python -m tests.guards "old"       those whose trap has these words

The guards stand in ``guards.toml``. Not a part of ``make test``: it tests the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".hypothesis", ".*_cache")


def run(tree: Path, test: str) -> bool:
    """Whether the test passes in this tree."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--timeout", "60", test],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def take_out(tree: Path, guard: dict[str, Any]) -> None:
    """Leave the copy without this guard."""
    for change in guard["change"]:
        file = tree / change["file"]
        text = file.read_text("utf-8")
        if text.count(change["guard"]) != 1:
            sys.exit(f"{change['file']}: the guard against {guard['trap']!r} is not where it was")
        file.write_text(text.replace(change["guard"], change["without"]), "utf-8")


def main() -> None:
    """One line for each guard; exit code 1 if a test does not miss its guard."""
    guards = tomllib.loads((ROOT / "tests" / "guards.toml").read_text("utf-8"))["guard"]
    unguarded = 0
    for guard in (guard for guard in guards if " ".join(sys.argv[1:]) in guard["trap"]):
        with tempfile.TemporaryDirectory(prefix="guards-") as folder:
            tree = Path(folder) / "tree"
            shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
            sound = run(tree, guard["test"])
            take_out(tree, guard)
            missed = not run(tree, guard["test"])
        unguarded += not (sound and missed)
        verdict = "missed" if sound and missed else "NOT MISSED" if sound else "FAILS ANYWAY"
        print(f"{verdict:<12}  {guard['trap']}", flush=True)  # noqa: T201 - its output
    sys.exit(unguarded > 0)


if __name__ == "__main__":
    main()
