"""What can be told of the image without an engine; ``tests/containers/test_image.py`` looks into one."""

from __future__ import annotations

import re
import tomllib

from tests.fleet import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
# Of the stage that becomes the image: each instruction with the rest of its line, continued lines joined.
LAST = [
    (word, rest)
    for word, rest in re.findall(r"^([A-Z]+) (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)
]
LAST = LAST[max(place for place, (word, _) in enumerate(LAST) if word == "FROM") :]


def test_the_image_runs_as_a_number_that_is_not_root_and_nothing_is_made_after_that():
    # A number, because who checks that nobody runs as root cannot look a name up.
    [(place, user)] = [(place, rest) for place, (word, rest) in enumerate(LAST) if word == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}", user)
    assert {word for word, _ in LAST[place:]} <= {"USER", "CMD", "ENTRYPOINT"}
    assert f"--uid {user} " in " ".join(rest for word, rest in LAST if word == "RUN")


def test_the_image_is_told_no_secret_and_fetches_nothing_by_itself():
    words = re.findall(r"^(ARG|ENV|ADD) ", DOCKERFILE, re.MULTILINE)
    assert words.count("ARG") == words.count("ADD") == 0
    assert not re.search(r"_KEY|PASSWORD|SECRET|TOKEN|https?://|curl|wget", DOCKERFILE)


def test_a_build_sees_only_what_is_named_one_by_one():
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert rules[0] == "*"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert allowed == {
        *packages,
        *("tasks", "workers"),
        *("pyproject.toml", "constraints.txt", "README.md", "LICENSE", "schedule.toml", "circuits.toml"),
    }
