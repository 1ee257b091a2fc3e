"""What something costs at each size: the slope of it, as a table of a page, and as a figure.

A slope is the exponent of a least-squares fit in log-log, cost ~ size ** slope: 0 is flat, 1 grows as the
size does. Where a part is fixed and a part grows, it lies between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import linear_regression
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# A label's height as a part of its panel's, so that two do not lie over one another.
LABEL_HEIGHT = 0.085
COLOURS = ("#1f5fa8", "#8a8a8a", "#c2571a", "#3a7d44")
FORMATS = ("png", "svg")


class MissingError(RuntimeError):
    """What draws is not installed; the message names the remedy."""


@dataclass(frozen=True)
class Curve:
    """One cost.

    Attributes:
        name: What it is, in a few words.
        costs: By size, two sizes at least; each above 0.
    """

    name: str
    costs: Mapping[int, float]

    @property
    def slope(self) -> float:
        """How it grows.

        Raises:
            ValueError: For a cost that has no logarithm.
        """
        for size, cost in self.costs.items():
            if cost <= 0:
                raise ValueError(f"{self.name}: {cost} at {size} is no cost; measure for longer")
        sizes, costs = map(math.log, self.costs), map(math.log, self.costs.values())
        return linear_regression(list(sizes), list(costs)).slope

    @property
    def label(self) -> str:
        """Its name and slope, as they stand beside its line."""
        return f"{self.name}, $n^{{{self.slope:.2f}}}$"


@dataclass(frozen=True)
class Panel:
    """Curves of one kind.

    Attributes:
        title: What they are costs of.
        unit: Of the costs.
        curves: At most as many as there are colours.
    """

    title: str
    unit: str
    curves: Sequence[Curve]


@dataclass(frozen=True)
class Sweep:
    """All that was measured while one number grew.

    Attributes:
        name: A word for files and for the place of the table.
        axis: What grew.
        title: Of the figure.
        panels: What was measured.
    """

    name: str
    axis: str
    title: str
    panels: Sequence[Panel]

    @property
    def sizes(self) -> list[int]:
        """Of all curves."""
        return list(self.panels[0].curves[0].costs)


def number(size: int) -> str:
    """Thousands apart: 1 000 000."""
    return f"{size:,}".replace(",", " ")


def shown(cost: float) -> str:
    """Three digits, thousands apart: 0.0123, 4.56, 1 230."""
    digits = max(0, 2 - math.floor(math.log10(abs(cost)))) if cost else 0
    return f"{cost:,.{digits}f}".replace(",", " ")


def rows(sweep: Sweep) -> list[list[str]]:
    """The head, then a line for each curve: what it is, its cost at each size, its slope."""
    found = [[sweep.axis, *map(number, sweep.sizes), "slope"]]
    for panel in sweep.panels:
        for curve in panel.curves:
            title = f"{panel.title}, {panel.unit}: {curve.name}"
            found.append([title, *map(shown, curve.costs.values()), f"{curve.slope:.2f}"])
    return found


def printed(sweep: Sweep) -> Table:
    """For a terminal."""
    head, *lines = rows(sweep)
    table = Table(title=sweep.title)
    for column in head:
        table.add_column(column, justify="left" if column == sweep.axis else "right")
    for line in lines:
        table.add_row(*line)
    return table


def markdown(sweep: Sweep) -> str:
    """For a page."""
    head, *lines = rows(sweep)
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *lines))


def put(page: Path, sweep: Sweep) -> None:
    """Replace the sweep's table in a page.

    Raises:
        ValueError: The page has no such place, or more than one.
    """
    text = page.read_text("utf-8")
    begin, end = (f"<!-- {mark}: {sweep.name} -->\n" for mark in ("measured", "end of measured"))
    if (text.count(begin), text.count(end)) != (1, 1):
        raise ValueError(f"{page}: one line {begin.strip()!r} and one {end.strip()!r} are needed")
    before, _, rest = text.partition(begin)
    page.write_text(before + begin + markdown(sweep) + end + rest.partition(end)[2], "utf-8")


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights of labels between 0 and 1, moved as little as it takes for none to touch another."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = [heights[place] for place in order]
    for _ in range(50 * len(placed)):
        for below, above in pairwise(range(len(placed))):
            missing = gap - (placed[above] - placed[below])
            if missing > 0:
                placed[below] -= missing / 2
                placed[above] += missing / 2
        over, under = max(0, placed[-1] - 1), max(0, -placed[0])
        placed = [height - over + under for height in placed]
    found = [0.0] * len(heights)
    for place, height in zip(order, placed, strict=True):
        found[place] = height
    return found


def draw(sweep: Sweep, folder: Path) -> list[Path]:
    """The figure as PNG and SVG, the same bytes for the same figures.

    Returns:
        The files, ``scale-<name>.png`` and ``.svg``.

    Raises:
        MissingError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context  # noqa: PLC0415 - an extra, which nothing but this needs
        from matplotlib.figure import Figure  # noqa: PLC0415 - the same
        from matplotlib.ticker import LogLocator  # noqa: PLC0415 - the same
    except ImportError as error:
        raise MissingError(
            "matplotlib draws the figures and is not installed: make .venv/.bench, or pip install '.[bench]'"
        ) from error
    across = 3
    down = math.ceil(len(sweep.panels) / across)
    # Without a salt its ids are drawn at random; letters as outlines look the same everywhere.
    settings = {"svg.hashsalt": sweep.name, "svg.fonttype": "path", "font.size": 9, "axes.titlesize": 9.5}
    with rc_context(settings):
        figure = Figure(figsize=(4.4 * across, 2.9 * down), layout="constrained")
        figure.suptitle(sweep.title, fontsize=11)
        grid = list(figure.subplots(down, across, squeeze=False).flat)
        for axes, panel in zip(grid, sweep.panels, strict=False):
            _draw_panel(axes, panel, sweep)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda cost, _: f"{cost:g}")
        for axes in grid[len(sweep.panels) :]:
            axes.set_visible(False)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"scale-{sweep.name}.{kind}" for kind in FORMATS]
        for file in files:
            figure.savefig(
                file, dpi=110, metadata={"Date": None} if file.suffix == ".svg" else {"Software": None}
            )
    return files


def _draw_panel(axes: Any, panel: Panel, sweep: Sweep) -> None:
    sizes = sweep.sizes
    axes.set_title(f"{panel.title} [{panel.unit}]", loc="left")
    axes.set_xscale("log")
    axes.set_yscale("log")
    costs = [cost for curve in panel.curves for cost in curve.costs.values()]
    # At least a decade, so that what is flat looks flat.
    middle = math.sqrt(min(costs) * max(costs))
    low, high = min(min(costs) / 1.3, middle / 4), max(max(costs) * 1.3, middle * 4)
    axes.set_ylim(low, high)
    # What is right of the curves is for the labels.
    axes.set_xlim(sizes[0] / 1.15, sizes[-1] * (sizes[-1] / sizes[0]) ** 0.72)
    axes.set_xticks(sizes, [_short(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel(sweep.axis)
    axes.grid(visible=True, color="#e4e4e4", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    ends = [list(curve.costs.values())[-1] for curve in panel.curves]
    heights = apart([math.log(end / low) / math.log(high / low) for end in ends], LABEL_HEIGHT)
    for curve, height, colour in zip(panel.curves, heights, COLOURS, strict=False):
        axes.plot(list(curve.costs), list(curve.costs.values()), marker="o", markersize=3.5, color=colour)
        axes.annotate(
            curve.label,
            xy=(sizes[-1], height),
            xycoords=("data", "axes fraction"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )


def _short(size: int) -> str:
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)
