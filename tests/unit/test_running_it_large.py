"""docs/running-it-large.md: what it shows is what is shipped and what was measured."""

from __future__ import annotations

import re

import pytest
import yaml

from bench.curves import FORMATS
from bench.scale import IMAGES, PAGE, SWEEPS
from tests.monitors import SCALED, query_of

TEXT = PAGE.read_text("utf-8")


@pytest.mark.parametrize("sweep", SWEEPS)
def test_each_sweep_has_its_figure_and_its_table(sweep):
    assert f"(images/scale-{sweep}.svg)" in TEXT
    for kind in FORMATS:
        assert (IMAGES / f"scale-{sweep}.{kind}").stat().st_size > 10_000
    [table] = re.findall(
        f"<!-- measured: {sweep} -->\n(.*?)<!-- end of measured: {sweep} -->", TEXT, re.DOTALL
    )
    head, _, *lines = table.splitlines()
    assert head.endswith("| slope |")
    assert len(lines) > 5
    for line in lines:
        assert line.count("|") == head.count("|")
        assert re.fullmatch(r"-?\d+\.\d\d", line.split("|")[-2].strip())


def test_the_query_it_explains_is_the_one_that_is_shipped():
    [shown] = re.findall(r"```promql\n(.*?)```", TEXT, re.DOTALL)
    for path in SCALED:
        assert " ".join(shown.split()) == query_of(yaml.safe_load(path.read_text("utf-8")))


def test_what_it_points_to_is_there():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        path, _, anchor = link.partition("#")
        assert not path or (PAGE.parent / path).resolve().exists(), link
        assert path or anchor in headings, link
