"""What an app adds to what operators see and do."""

from __future__ import annotations

import logging

import pytest

from resilience import CircuitBreaker, Extension, ResilienceError, extend, extension


class Plans(Extension):
    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def reset(self, service):
        self.forgotten.append(service)

    def annotate(self, rows):
        for row in rows:
            row["plan"] = "free"

    def in_words(self, row):
        return {"plan": f"the {row['plan']} one"}

    def columns(self):
        return {"Plan": {"payments": ("free", "since May")}}

    def collectors(self):
        return ("a collector",)


class Broken(Extension):
    def annotate(self, rows):
        raise RuntimeError(f"{len(rows)} rows are too many")

    def in_words(self, row):
        raise RuntimeError(row["service"])

    def columns(self):
        raise RuntimeError("columns")


@pytest.fixture
def plans(monkeypatch):
    monkeypatch.setattr(extension, "_extensions", [])
    extend(Broken())
    made = Plans()
    extend(made)
    return made


@pytest.mark.usefixtures("plans")
def test_one_that_fails_is_logged_and_hides_no_other(caplog):
    rows = [{"service": "payments"}]
    with caplog.at_level(logging.ERROR):
        extension.annotate(rows)
        words, columns = extension.in_words(rows[0]), extension.columns()
    assert rows == [{"service": "payments", "plan": "free"}]
    assert words == {"plan": "the free one"}
    assert columns == {"Plan": {"payments": ("free", "since May")}}
    assert extension.collectors() == ["a collector"]
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError] * 3


def test_a_reset_reaches_it_whoever_resets(plans):
    CircuitBreaker("payments").reset()
    assert plans.forgotten == ["payments"]


def test_the_circuit_of_another_store_is_none_of_its_business(plans):
    CircuitBreaker("payments", store="memory://").reset()
    assert plans.forgotten == []


def test_what_it_does_not_take_back_the_operator_is_told(plans, monkeypatch):
    def fails(service):
        raise ResilienceError(f"{service}: not now")

    monkeypatch.setattr(plans, "reset", fails)
    with pytest.raises(ResilienceError, match="payments: not now"):
        CircuitBreaker("payments").reset()
