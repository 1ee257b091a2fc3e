"""What others wrote, on its way to a terminal or a log: it acts on neither, and forges no line."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING, Any

import pytest
from celery.app.log import TaskFormatter
from celery.utils.log import ColorFormatter
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from resilience.operations.screen import cell, lines, one_line
from workers.logs import TextFormatter

if TYPE_CHECKING:
    from collections.abc import Callable

FORGED = "[2026-11-23 21:30:15,000: INFO/MainProcess] all is well"
ATTACKS = {
    "a line": f"x\n{FORGED}",
    "a carriage return": f"x\r{FORGED}",
    "another line end": f"x\u2028{FORGED}\x85{FORGED}\x0b{FORGED}",
    "colours": "\x1b[2J\x1b[31mred\x9b31m",
    "a title": "\x1b]0;owned\x07",
    "backspaces": "denied\x08\x08\x08\x08\x08\x08granted",
    "writing turned round": "\u202egnp.exe\u2066",
    "half a character": "\ud800",
}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("they are moving: 5 % of it, 日本, été 🙂", "they are moving: 5 % of it, 日本, été 🙂"),
        ("a\tb\nc", "a\\tb\\nc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\ud800\u202e\u2028", "\\ud800\\u202e\\u2028"),
        (None, "None"),
        ({"\x1b": 1}, "{'\\x1b': 1}"),
    ],
)
def test_what_acts_is_spelled_out_and_the_rest_is_as_it_was(text: object, told: str) -> None:
    assert one_line(text) == told


@given(st.text())
def test_whatever_a_text_holds_it_is_one_line_and_can_be_encoded(text: str) -> None:
    told = one_line(text)
    assert told.splitlines() in ([told], [])
    assert "\x1b" not in told
    told.encode()
    assert all(line.startswith("  ") for line in lines(text).split("\n")[1:])


@pytest.mark.parametrize(
    "text", ["[red]x[/red]", "[/]", "[link=http://evil.example]x[/link]", ":smile:", "[@click=x]"]
)
def test_a_cell_has_no_markup(text: str) -> None:
    table, said = Table(box=None, show_header=False, padding=0), io.StringIO()
    table.add_column(no_wrap=True)
    table.add_row(cell(text))
    Console(file=said, width=80, force_terminal=True).print(table)
    assert said.getvalue().strip() == text


@pytest.fixture
def logged() -> Callable[..., str]:
    """What one record becomes in a log by Celery's format."""

    def write(formatter: Any, message: str, *arguments: Any, **more: Any) -> str:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(TextFormatter(formatter))
        logger = logging.Logger("test")  # noqa: LOG001 - nobody else's
        logger.addHandler(handler)
        logger.error(message, *arguments, **more)
        return stream.getvalue()

    return write


FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_text_forges_a_line_of_a_log_or_acts_on_its_reader(logged: Any, attack: str) -> None:
    told = logged(ColorFormatter(FORMAT, use_color=False), "circuit of %s: by %s", "finnhub", attack)
    first, *others = told.removesuffix("\n").split("\n")
    assert first.startswith("[")
    assert all(line.startswith("  ") for line in others)
    assert told.replace("\n", "").isprintable()
    told.encode()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nor_does_an_exceptions_text_or_a_tasks_id(logged: Any, attack: str) -> None:
    error = (ValueError, ValueError(attack), None)
    extra = {"task_id": attack, "task_name": attack}
    formatter = TaskFormatter(f"{FORMAT} %(task_name)s[%(task_id)s]", use_color=False)
    told = logged(formatter, "failed", exc_info=error, extra=extra)
    first, *others = told.removesuffix("\n").split("\n")
    assert first.startswith("[")
    assert others
    assert all(line.startswith("  ") for line in others)
    assert told.replace("\n", "").isprintable()


def test_a_terminal_has_celerys_colours_all_the_same(logged: Any) -> None:
    told = logged(ColorFormatter(FORMAT, use_color=True), "it \x1b[0m is red")
    assert told.startswith("\x1b[1;31m[")
    assert told.count("\x1b") == 2
