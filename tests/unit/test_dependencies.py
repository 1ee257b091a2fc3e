"""What the project rests on: pinned to the last, under licences that allow it."""

from __future__ import annotations

from email.message import Message
from importlib.metadata import Distribution
from typing import Any

import pytest

from tests import dependencies
from tests.dependencies import (
    APPROVED,
    EXEMPT,
    allows,
    installed,
    licence_of,
    not_pinned,
    pinned,
    wrong_licences,
)


def test_every_installed_distribution_is_under_a_licence_that_is_allowed():
    assert wrong_licences() == []


def test_every_installed_distribution_is_at_the_version_it_is_pinned_to():
    assert len(installed()) > 50
    assert not_pinned() == []


def test_an_exemption_is_for_what_is_pinned_and_would_not_be_allowed_without_it():
    assert set(EXEMPT) <= set(pinned())
    needless = [name for name, found in installed().items() if name in EXEMPT and allows(licence_of(found))]
    assert needless == []


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("mit", True),
        ("BSD-3-Clause AND 0BSD AND (MIT OR GPL-3.0-only)", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT AND AGPL-3.0-only", False),
        ("GPL-3.0-only", False),
        ("MPL-2.0", False),
        ("LicenseRef-Ours", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("BSD", False),
        ("see LICENSE.txt", False),
        ("", False),
    ],
)
def test_a_licence_is_allowed_when_every_part_is_that_cannot_be_chosen_away(expression, allowed):
    assert allows(expression) is allowed


class Described(Distribution):
    """A distribution that says this of itself."""

    def __init__(self, version: str, **said: str | list[str]) -> None:
        self.said = Message()
        self.said["Version"] = version
        for name, values in said.items():
            for value in [values] if isinstance(values, str) else values:
                self.said[name.replace("_", "-")] = value

    @property
    def metadata(self) -> Any:
        return self.said

    def read_text(self, filename: str) -> None:
        """Nothing else."""

    def locate_file(self, path: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ({"License_Expression": "MIT", "License": "GPL"}, "MIT"),
        (
            {"Classifier": [f"{APPROVED}BSD License", "Topic :: X"], "License": "x" * 999},
            "BSD-3-Clause",
        ),
        ({"Classifier": [f"{APPROVED}MIT License", f"{APPROVED}Odd"]}, f"MIT AND LicenseRef ({APPROVED}Odd)"),
        ({"License": "Apache-2.0"}, "Apache-2.0"),
        ({}, ""),
    ],
)
def test_a_licence_is_read_from_where_it_is_told_most_exactly(said, licence):
    assert licence_of(Described("1", **said)) == licence


def test_what_is_wrong_is_named_with_its_version_and_the_remedy(monkeypatch):
    found = {"redis": Described("1.0", License="GPL-3.0-only"), "stranger": Described("2.0")}
    monkeypatch.setattr(dependencies, "installed", lambda: found)
    assert [line.partition(": do")[0] for line in wrong_licences()] == [
        "redis 1.0: licence 'GPL-3.0-only' is not allowed",
        "stranger 2.0: licence 'not stated' is not allowed",
    ]
    assert [line.rpartition(": ")[0] for line in not_pinned()] == [
        f"redis 1.0: constraints.txt has {pinned()['redis']}",
        "stranger 2.0: constraints.txt has no version of it",
    ]
