"""What the Circuits pages draw and say, and what of Flower they rest on."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flower
import pytest

from resilience.circuit import CircuitState, Evidence, History, Reason, Sample, Transition
from resilience.flower import HERE, drawing, view
from resilience.flower.overlay import Templates

NOW = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
FLOWERS = Path(flower.__file__).parent / "templates"


def change(minutes_ago: float, before: str, after: str, **more) -> Transition:
    when = NOW - timedelta(minutes=minutes_ago)
    states = CircuitState(before), CircuitState(after)
    return Transition(
        "finnhub", *states, more.pop("reason", None), more.pop("evidence", Evidence()), when, **more
    )


def history(*changes: Transition, state: str = "closed", complete: bool = True, samples=()) -> History:
    return History(NOW, CircuitState(state), changes[::-1], complete, tuple(samples))


def states(found: History) -> list[tuple[str, float]]:
    return [(stretch.state, stretch.width) for stretch in drawing.strip(found)]


def test_a_strip_shows_each_state_for_as_long_as_it_lasted():
    found = history(change(30, "closed", "open"), change(20, "open", "half_open"), state="half_open")
    assert states(found) == [("closed", 180), ("open", 60), ("half_open", 120)]


def test_a_strip_begins_an_hour_ago_whatever_was_before():
    found = history(change(90, "closed", "open"), change(15, "open", "closed"))
    assert states(found) == [("open", 270), ("closed", 90)]


def test_a_circuit_that_never_moved_has_one_state():
    assert states(history()) == [("closed", 360)]


def test_what_is_no_longer_on_record_is_drawn_as_nothing():
    assert states(history(change(30, "open", "closed"), complete=False)) == [("", 180), ("closed", 180)]


def test_the_shortest_outage_shows():
    found = history(change(30, "closed", "open"), change(29.99, "open", "closed"))
    assert [width for state, width in states(found) if state == "open"] == [drawing.NARROWEST]


def test_bars_rise_with_successes_and_fall_with_failures_and_refusals():
    samples = [
        Sample(NOW - timedelta(minutes=back), blocked, succeeded, failed, held)
        for back, blocked, succeeded, failed, held in (
            (0, 6, 110, 2, 1),
            (1, 0, 100, 0, 0),
            (2, 0, 0, 0, 0),
        )
    ]
    first, second = drawing.bars(history(samples=samples))
    assert (first.succeeded, first.failed, first.refused) == (drawing.RISE, 0, 0)
    assert (second.succeeded, second.failed, second.refused) == pytest.approx((1.8, 4, 8))
    assert (first.x, second.x, second.width) == (348, 354, 5)


def test_a_stretch_in_which_nobody_looked_is_drawn_as_a_rate():
    samples = [
        Sample(NOW - timedelta(minutes=back), succeeded=number) for back, number in ((0, 70), (1, 60), (7, 0))
    ]
    long, short = drawing.bars(history(samples=samples))
    assert long.succeeded == short.succeeded == drawing.RISE  # ten a minute, both
    assert long.width > short.width


def test_a_store_that_began_anew_has_no_counts_below_zero():
    samples = [Sample(NOW, succeeded=1), Sample(NOW - timedelta(minutes=1), succeeded=50)]
    [bar] = drawing.bars(history(samples=samples))
    assert bar.succeeded == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (40_000, "11 h"),
        (90_000, "1 d 1 h"),
        (1_000_000, "11 d"),
    ],
)
def test_a_span_of_time_is_told_in_the_units_that_matter(seconds, words):
    assert view.span(seconds) == words


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"reason": Reason.FAILURES, "evidence": Evidence(5)}, "failures: 5 in a row"),
        ({"reason": Reason.FAILURES, "evidence": Evidence(2, 20, 11)}, "failures: 2 in a row, 11 of 20"),
        ({"reason": Reason.SLOW_CALLS, "evidence": Evidence(0, 20, 0, 12)}, "slow calls: 12 of 20"),
        ({"reason": Reason.RATE_LIMITED}, "rate limited"),
        ({"reason": Reason.FORCED, "actor": "ann"}, "an operator's word"),
        ({"note": "the store had lost it"}, "the store had lost it"),
    ],
)
def test_a_change_of_state_says_why(told, words):
    assert view.why(change(1, "closed", "open", **told)) == words


def test_flowers_own_templates_are_found_and_its_menu_has_one_entry_more():
    templates = Templates(HERE / "templates", FLOWERS)
    assert templates.load("broker.html").name == "broker.html"
    assert (FLOWERS / "navbar.html").read_text("utf-8").count("reverse_url('circuits')") == 0
    assert "Circuits" in templates.load("navbar.html").code


def test_a_flower_whose_menu_is_another_is_refused_at_the_start(tmp_path):
    shutil.copytree(FLOWERS, tmp_path, dirs_exist_ok=True)
    (tmp_path / "navbar.html").write_text("<nav></nav>", "utf-8")
    with pytest.raises(RuntimeError, match=r"navbar\.html.*flower>=2\.2,<2\.3"):
        Templates(HERE / "templates", tmp_path)
