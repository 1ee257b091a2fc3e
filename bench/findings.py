"""What a benchmark found, as text: its tables, and how each figure that is promised came out.

The same findings are printed here and written as a page by ``bench.report``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from rich.markup import escape
from rich.table import Table as Printed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

PROMISED = ("promised", "limit", "measured", "beside it", "")


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: Their names.
        rows: Their cells; a row of one cell is a heading for those under it.
        title: What it shows.
        words: How many columns at the left hold words; the others hold figures.
    """

    columns: list[str]
    rows: list[list[str]]
    title: str = ""
    words: int = 1


class Cell(NamedTuple):
    """A cell that a promise may be about.

    Attributes:
        text: As it is read.
        value: What it says, to be judged by; None where nothing was measured.
    """

    text: str
    value: Any = None

    @classmethod
    def failed(cls, error: Exception) -> Cell:
        """That is a result too."""
        return cls(f"failed: {error}")


@dataclass(frozen=True)
class Promise:
    """A figure that is promised, and what it came to.

    Attributes:
        what: What is promised.
        limit: The least or the most it may be, in words; empty where it is only to be stated.
        measured: What it was.
        met: Whether it kept to the limit; None where that could not be told.
        beside: What the alternative came to in the same run.
    """

    what: str
    limit: str
    measured: str
    met: bool | None = None
    beside: str = ""

    def cells(self, *, as_promised: bool) -> list[str]:
        """A row under ``PROMISED``, how it came out at its end; at another size than promised nothing has."""
        if not as_promised:
            outcome = "at another size"
        elif self.met is None:
            outcome = "not told" if self.limit else "stated"
        else:
            outcome = "met" if self.met else "missed"
        return [self.what, self.limit, self.measured, self.beside, outcome]


@dataclass(frozen=True)
class Findings:
    """All that one benchmark has to say.

    Attributes:
        title: A heading.
        about: What is measured, and how.
        tables: The figures.
        promises: Which of them are promised.
        notes: What else is to be known, a paragraph each; in Markdown.
    """

    title: str
    about: str
    tables: list[Table]
    promises: list[Promise]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Self:
        """From what ``dataclasses.asdict`` made of it."""
        tables = [Table(**table) for table in kept["tables"]]
        return cls(**{**kept, "tables": tables, "promises": [Promise(**one) for one in kept["promises"]]})

    def print_on(self, console: Console, *, as_promised: bool) -> None:
        """What was measured, tables, promises and notes."""
        console.print(f"\n{self.title}\n{self.about}", markup=False, highlight=False)
        promises = [promise.cells(as_promised=as_promised) for promise in self.promises]
        promised = Table(list(PROMISED), promises, words=len(PROMISED))
        for table in (*self.tables, promised):
            printed = Printed(title=escape(table.title))
            for place, column in enumerate(table.columns):
                printed.add_column(escape(column), justify="left" if place < table.words else "right")
            for row in table.rows:
                if len(row) == 1:
                    printed.add_section()
                printed.add_row(*map(escape, row), style="bold" if len(row) == 1 else "")
            console.print(printed)
        for note in self.notes:
            console.print(note, markup=False, highlight=False)
