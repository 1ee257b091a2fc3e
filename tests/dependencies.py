"""What is installed beside this project: each at the version it is pinned to, under a licence we allow.

    make audit                     the table, and what is wrong
    python -m tests.dependencies   the same

Needs no network: it reads what each distribution says of itself.
"""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
OURS = {"celery-circuits", "market-data-resilience"}
# They come with a virtual environment, at Python's own version of them, and nothing here imports them.
WITH_PYTHON = {"pip", "setuptools"}

# They ask for no more than that their notice stays.
ALLOWED = {
    *("MIT", "MIT-CMU", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "Apache-2.0", "Zlib", "CC0-1.0", "PSF-2.0"),
}
# A distribution whose licence is another, and why it may be used.
EXEMPT = {
    "certifi": "MPL-2.0: whoever changes its files shows them; we ship and change none",
    "hypothesis": "MPL-2.0: the same; tests alone use it",
    "lupa": "MIT, which it writes as 'MIT style'; tests alone use it",
    "pysocks": "the 3-clause BSD licence, which it writes as 'BSD'; tests alone use it",
    "pathspec": "MPL-2.0: the same; mypy and the build alone use it",
}
# Trove classifiers in the place of an identifier. One that names a family of licences stands for its members.
APPROVED = "License :: OSI Approved :: "
CLASSIFIERS = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def licence_of(distribution: Distribution) -> str:
    """What it says its licence is, as an SPDX expression; '' where it says nothing that can be told.

    Of several classifiers all count: a distribution does not say whether one may choose.
    """
    told = distribution.metadata
    expression = told.get("License-Expression")
    if expression:
        return expression
    classified = [name for name in told.get_all("Classifier", []) if name.startswith(APPROVED)]
    if classified:
        names = (CLASSIFIERS.get(name.removeprefix(APPROVED), f"LicenseRef ({name})") for name in classified)
        return " AND ".join(names)
    return told.get("License") or ""


def allows(expression: str) -> bool:
    """Whether a licence is one of ours: of ``A AND B`` both must be, of ``A OR B`` one."""
    try:
        canonical = canonicalize_license_expression(expression)
    except InvalidLicenseExpression:
        return False
    # One with an exception is a licence of its own.
    words = canonical.replace(" WITH ", "-WITH-").replace("(", " ( ").replace(")", " ) ").split()
    # True and False, and, or and parentheses are left, which Python reads as SPDX does.
    python = {"AND": "and", "OR": "or", "(": "(", ")": ")"}
    return bool(eval(" ".join(python.get(word, str(word in ALLOWED)) for word in words)))  # noqa: S307 - see above


def installed() -> dict[str, Distribution]:
    """Every distribution of this environment by its canonical name."""
    found = {canonicalize_name(distribution.name): distribution for distribution in distributions()}
    return {name: found[name] for name in sorted(found) if name not in OURS | WITH_PYTHON}


def pinned() -> dict[str, str]:
    """Names and versions of ``constraints.txt``."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def wrong_licences() -> list[str]:
    """A line for each that may not be used."""
    return [
        f"{name} {found.version}: licence {licence_of(found) or 'not stated'!r} is not allowed: "
        "do without it, or say in tests/dependencies.py why it may be used"
        for name, found in installed().items()
        if name not in EXEMPT and not allows(licence_of(found))
    ]


def not_pinned() -> list[str]:
    """A line for each that is at another version than ``constraints.txt`` says, or that it does not have."""
    versions = pinned()
    return [
        f"{name} {found.version}: constraints.txt has {versions.get(name, 'no version of it')}: "
        "write this one there, or install that one"
        for name, found in installed().items()
        if found.version != versions.get(name)
    ]


def main() -> None:
    """A line for each distribution, then what is wrong; exit code 1 if anything is."""
    for name, found in installed().items():
        print(f"{name:<24} {found.version:<16} {licence_of(found)}")  # noqa: T201 - its output
    wrong = [*wrong_licences(), *not_pinned()]
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
