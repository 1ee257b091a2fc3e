"""Every invariant has something it rests on: each is taken out in turn, and must be missed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.model.search import explore
from tests.model.worlds import WORLDS

if TYPE_CHECKING:
    from tests.model.search import Found


@dataclass(frozen=True)
class Mutant:
    """A world where something is not as it should be.

    Attributes:
        trap: What happens there.
        world: Which.
        invariant: What does not hold.
        changes: Of the scripts, see ``Embedded``.
        slip: Of the order of acts, see ``World``; '' for none.
    """

    trap: str
    world: str
    invariant: str
    changes: tuple[tuple[str, str, str], ...]
    slip: str

    def explore(self, most: int = 50_000) -> Found:
        slips = frozenset({self.slip} - {""})
        return explore(WORLDS[self.world](changes=self.changes, slips=slips), most)


def mutants() -> list[Mutant]:
    """As they stand in ``mutants.toml``."""
    rows = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text("utf-8"))["mutant"]
    return [
        Mutant(
            row["trap"],
            row["world"],
            row["invariant"],
            tuple(
                (part["file"], part["guard"], part["without"])
                for part in (row, *row.get("more", ()))
                if "file" in part
            ),
            row.get("slip", ""),
        )
        for row in rows
    ]
