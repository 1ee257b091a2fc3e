"""JSON lines: what a record becomes, whatever is in it."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from tasks.providers.redaction import MASK, KeyFilter
from workers.logs import JsonFormatter


@pytest.fixture
def logged():
    """A logger, and what it has written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test.logs")  # noqa: LOG001 - nobody else's
    logger.addHandler(handler)

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line, parse_constant=pytest.fail) for line in stream.getvalue().splitlines()]

    return logger, lines


def test_a_record_is_one_line_whatever_is_in_it(logged):
    logger, lines = logged
    logger.warning(
        "two\nlines and \u2028 %s", '"quotes"', extra={"service": "a\nb", "calls": 3, "gone": None}
    )
    [row] = lines()
    assert row["message"] == 'two\nlines and \u2028 "quotes"'
    assert (row["level"], row["logger"]) == ("WARNING", "test.logs")
    assert (row["service"], row["calls"], row["gone"]) == ("a\nb", 3, None)


def test_what_json_has_no_word_for_is_left_out(logged):
    logger, lines = logged
    logger.info("odd", extra={"nan": float("nan"), "many": [1], "some": {"a": 1}, "other": object()})
    assert not {"nan", "many", "some", "other"} & set(lines()[0])


def test_no_extra_takes_the_place_of_what_every_line_has(logged):
    logger, lines = logged
    logger.info("said", extra={"level": "forged", "time": "forged"})
    [row] = lines()
    assert row["level"] == "INFO"
    assert row["time"] != "forged"


def test_a_traceback_is_a_member_of_its_line(logged):
    logger, lines = logged
    try:
        int("it\nbroke")
    except ValueError:
        logger.exception("failed")
    [row] = lines()
    assert row["exception"].startswith("Traceback")
    assert row["exception"].endswith(r"base 10: 'it\nbroke'")


def test_celerys_lines_have_their_tasks_id(logged):
    logger, lines = logged
    context = {"id": "1234", "name": "tasks.finnhub.fetch", "args": "('quote', 'AAPL')"}
    logger.info("Task %(name)s[%(id)s] received", context, extra={"data": context})
    [row] = lines()
    assert (row["task"], row["task_id"]) == ("tasks.finnhub.fetch", "1234")
    assert row["message"] == "Task tasks.finnhub.fetch[1234] received"


def test_a_masked_key_stays_masked(logged):
    logger, lines = logged
    masks = KeyFilter()
    masks.keys = frozenset({'k"e\\y/1'})
    logger.addFilter(masks)
    logger.info("GET %s", 'https://x/?token=k"e\\y/1')
    assert lines()[0]["message"] == f"GET https://x/?token={MASK}"
