"""README and docs: links lead somewhere, what they tell to type is there, and figures say what makes them."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import pytest

from bench import report
from bench.__main__ import BENCHMARKS, SCALE, SIZED, TIMED
from bench.findings import Findings, Promise, Table
from tests.fleet import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")))
}
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """What stands under each heading, by the heading's address."""
    found = re.split(
        r"^#+ (.+)$", BLOCK.sub(lambda block: block[0].replace("#", " "), text), flags=re.MULTILINE
    )
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in found[1::2]]
    return {report.anchor(title): body for title, body in zip(titles, found[2::2], strict=True)}


def typed(text: str) -> list[str]:
    """Every make command that a page shows, in its blocks and in its lines."""
    blocks = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    lines = re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))
    return [command for command in (*blocks, *lines) if command.startswith("make ")]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    dead = []
    for address in LINK.findall(BLOCK.sub("", PAGES[page])):
        if re.match(r"[a-z]+:", address):
            continue
        path, _, heading = address.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (heading and heading not in sections(target.read_text("utf-8"))):
            dead.append(address)
    assert dead == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_command_is_one(page: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = [re.split(r"\s", command)[1] for command in typed(PAGES[page])]
    assert [target for target in named if target not in targets] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_benchmark_it_names_is_there(page: str) -> None:
    given = [
        words for pair in re.findall(r'BENCH_ARGS=(?:"([^"]+)"|([\w-]+))', PAGES[page]) for words in pair
    ]
    options = {"--tasks", "--seconds", "--report", "--page", "--smaller", "--only"}
    words = [word for text in given for word in text.split() if not word.isdigit()]
    assert [word for word in words if word not in {*BENCHMARKS, SCALE, *options}] == []


def test_every_benchmark_is_a_module() -> None:
    for name in {*BENCHMARKS, *SIZED, *TIMED}:
        assert "\ndef main(" in (ROOT / "bench" / f"{name}.py").read_text("utf-8")


def test_each_table_of_figures_in_the_readme_leads_to_the_command_that_makes_it() -> None:
    paragraphs = PAGES["README.md"].split("\n\n")
    tables = [place for place, text in enumerate(paragraphs) if "|--:|" in text]
    assert tables
    for place in tables:
        links = LINK.findall(paragraphs[place].splitlines()[0])
        [(path, _, heading)] = [address.partition("#") for address in links]
        assert typed(sections((ROOT / path).read_text("utf-8"))[heading])


def test_the_report_is_made_of_what_was_kept() -> None:
    runs = report.read(ROOT / "docs")
    assert report.page(runs) == PAGES["docs/report.md"]
    assert list(runs) == [name for name in BENCHMARKS if name in runs]


HERE = report.Occasion("2026-01-02 03:04", "abc", {"processor": "one"})
FOUND = Findings(
    "A title",
    "About it.",
    [Table(["", "a|b"], [["part"], ["row", "1"]], "Some")],
    [Promise("fast", "≤ 1", "2", met=False), Promise("size", "", "5"), Promise("unseen", "≤ 1", "?")],
)


def run(name: str, **changes: object) -> report.Run:
    made = report.Run(
        f"make bench BENCH_ARGS={name}", as_promised=True, took_seconds=61, occasion=HERE, findings=FOUND
    )
    return dataclasses.replace(made, **changes)


def test_what_is_measured_anew_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    first = {"lot": run("lot"), "outage": run("outage")}
    report.write(tmp_path, first, BENCHMARKS)
    assert report.read(tmp_path) == first
    assert list(report.read(tmp_path)) == ["outage", "lot"]

    later = dataclasses.replace(HERE, at="2026-02-03 04:05", commit="def")
    better = dataclasses.replace(FOUND, title="Another", promises=[Promise("fast", "≤ 1", "1", met=True)])
    report.write(tmp_path, {**first, "lot": run("lot", occasion=later, findings=better)}, BENCHMARKS)
    assert report.read(tmp_path)["outage"] == first["outage"]
    page = (tmp_path / report.PAGE).read_text("utf-8")
    assert "| on | 2026-01-02 03:04 | 2026-02-03 04:05 |" in page
    assert "| measured | [A title](#a-title) | [Another](#another) |" in page
    assert "`make bench BENCH_ARGS=lot`, 2026-02-03 04:05, commit def. It took 1m 1s." in page
    assert "Of 4 figures: 1 missed, 1 stated, 1 not told, 1 met." in page
    assert "| fast | ≤ 1 | 2 |  | **missed** | [`make bench BENCH_ARGS=outage`](#a-title) |" in page
    assert "| **part** |  |\n| row | 1 |" in page
    assert r"|  | a\|b |" in page


def test_a_promise_is_not_judged_at_another_size(tmp_path: Path) -> None:
    report.write(tmp_path, {"lot": run("lot", as_promised=False)}, BENCHMARKS)
    page = (tmp_path / report.PAGE).read_text("utf-8")
    assert "Of 3 figures: 3 at another size." in page
    assert "missed" not in page
