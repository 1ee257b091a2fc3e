"""What ``make bench`` says of how costs grow: the slope, the table in a page, the figure."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from bench.curves import Curve, MissingError, Panel, Sweep, apart, draw, markdown, put, shown

SIZES = (10, 100, 1000)
TIMES = (Curve("flat", dict.fromkeys(SIZES, 2.5)), Curve("with them", {10: 1, 100: 10, 1000: 100}))
MEMORY = (Curve("squared", {size: size**2 / 100 for size in SIZES}),)
PANELS = (Panel("Time", "ms", TIMES), Panel("Memory", "MiB", MEMORY))
SWEEP = Sweep("things", "things", "Ten to a thousand things", PANELS)


@pytest.mark.parametrize(
    ("costs", "slope"),
    [
        (dict.fromkeys(SIZES, 7.0), 0),
        ({size: 0.3 * size for size in SIZES}, 1),
        ({size: 5 / size for size in SIZES}, -1),
        ({size: 4 * size**0.5 for size in SIZES}, 0.5),
        # Not on a line: the least squares of the logarithms, by hand.
        ({1: 1, 10: 1, 100: 100}, 1),
    ],
)
def test_a_slope_is_the_exponent_that_fits_best(costs, slope):
    assert Curve("cost", costs).slope == pytest.approx(slope)


@pytest.mark.parametrize("cost", [0, -0.1])
def test_what_costs_nothing_has_no_slope(cost):
    with pytest.raises(ValueError, match=f"parking: {cost} at 100 is no cost; measure for longer"):
        _ = Curve("parking", {10: 1, 100: cost}).slope


@pytest.mark.parametrize(
    ("cost", "text"),
    [(0.01234, "0.0123"), (4.5678, "4.57"), (45.67, "45.7"), (1234567.8, "1 234 568"), (0, "0"), (1, "1.00")],
)
def test_a_cost_is_shown_with_three_digits(cost, text):
    assert shown(cost) == text


def test_a_table_has_a_line_for_each_curve_and_its_slope_at_the_end():
    assert markdown(SWEEP) == (
        "| things | 10 | 100 | 1 000 | slope |\n"
        "| --- | --: | --: | --: | --: |\n"
        "| Time, ms: flat | 2.50 | 2.50 | 2.50 | 0.00 |\n"
        "| Time, ms: with them | 1.00 | 10.0 | 100 | 1.00 |\n"
        "| Memory, MiB: squared | 1.00 | 100 | 10 000 | 2.00 |\n"
    )


def test_a_table_is_put_where_the_page_has_its_place_and_nowhere_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- measured: things -->\nold\n<!-- end of measured: things -->\nafter\n")
    for _ in range(2):
        put(page, SWEEP)
    assert page.read_text() == (
        f"before\n<!-- measured: things -->\n{markdown(SWEEP)}<!-- end of measured: things -->\nafter\n"
    )
    page.write_text("no place")
    with pytest.raises(ValueError, match=r"page\.md: one line '<!-- measured: things -->'"):
        put(page, SWEEP)
    assert page.read_text() == "no place"


@pytest.mark.parametrize(
    ("heights", "moved"),
    [
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.55, 0.45]),
        ([1, 0.98], [1, 0.9]),
        ([0.0, 0.0, 0.05], [0, 0.1, 0.2]),
    ],
)
def test_labels_do_not_lie_over_one_another(heights, moved):
    placed = apart(heights, 0.1)
    assert sorted(placed) == pytest.approx(sorted(moved), abs=0.01)
    assert sorted(range(len(heights)), key=placed.__getitem__) == sorted(
        range(len(heights)), key=heights.__getitem__
    )


def test_without_what_draws_it_the_remedy_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingError, match=r"make \.venv/\.bench"):
        draw(SWEEP, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed: make .venv/.bench")
def test_the_same_figures_are_the_same_files(tmp_path):
    files = [draw(SWEEP, tmp_path / folder) for folder in ("one", "other")]
    names = ["scale-things.png", "scale-things.svg"]
    assert [[file.name for file in drawn] for drawn in files] == [names, names]
    one, other = ([file.read_bytes() for file in drawn] for drawn in files)
    assert one == other
    assert one[0].startswith(b"\x89PNG")
    assert b"<dc:date>" not in one[1]
