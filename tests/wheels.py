"""What is handed out, built."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def build(tree: Path, kind: str, folder: Path) -> Path:
    """As ``make dist`` does, which takes half a second and no network."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    [built] = folder.iterdir()
    return built
