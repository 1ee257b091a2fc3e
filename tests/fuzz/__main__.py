"""Try each target for FUZZ_SECONDS (600 unless set), those of FUZZ_TARGETS, or all.

    make fuzz FUZZ_SECONDS=60 FUZZ_TARGETS="cli store"
    python -m tests.fuzz cli store     the same of these
    python -m tests.fuzz --quick cli   a few examples, the same every time

For each a line: the examples, the seconds, and whether anything was found. Exit code 1: something was.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import traceback

from tests.fuzz.target import Target, run

NAMES = ("replies", "files", "addresses", "messages", "lot", "store", "cli")


def target(name: str) -> Target:
    """The target of that name."""
    if name not in NAMES:
        sys.exit(f"there is no target {name!r}: {', '.join(NAMES)}")
    found = importlib.import_module(f"tests.fuzz.{name}").TARGET
    assert isinstance(found, Target)
    return found


def one(name: str, seconds: float | None) -> bool:
    """Try one target here; False for a finding, which is printed."""
    ended: list[str] = []  # threads, by an exception that nobody sees

    def tell(what: threading.ExceptHookArgs) -> None:
        ended.append(str(what.thread))
        threading.__excepthook__(what)

    threading.excepthook = tell
    try:
        done = run(target(name), seconds)
    except Exception:  # noqa: BLE001 - whatever it is, it is what was looked for
        traceback.print_exc()
        ended.append("")
    if ended:
        print(f"{name:<10} a finding, see above", flush=True)  # noqa: T201 - its output
        return False
    print(f"{name:<10} {done.examples:>9,} examples {done.seconds:>6.0f} s  no finding", flush=True)  # noqa: T201
    return True


def main() -> None:
    """Each in a process of its own: a worker, an app and an environment are a process's."""
    words = sys.argv[1:]
    quick = "--quick" in words
    named = [word for word in words if word != "--quick"] or os.environ.get("FUZZ_TARGETS", "").split()
    names = named or [*NAMES]
    if len(names) == 1:
        seconds = None if quick else float(os.environ.get("FUZZ_SECONDS") or 600)
        sys.exit(not one(names[0], seconds))
    mode = ["--quick"] if quick else []
    runs = ([sys.executable, "-m", "tests.fuzz", *mode, name] for name in names)
    codes = [subprocess.run(command, check=False).returncode for command in runs]
    sys.exit(any(codes))


if __name__ == "__main__":
    main()
