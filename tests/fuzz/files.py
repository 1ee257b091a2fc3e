"""The files somebody writes, schedule.toml, a list of symbols and circuits.toml: read, or refused by line."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from resilience import CIRCUIT_BREAKERS, ConfigurationError
from resilience.configure import configure
from tasks.providers import PROVIDERS
from tasks.schedule import ScheduleError, demand, load
from tests.fuzz.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds of processor time that no file of some kilobytes may take: a loop without an end, not speed.
BOUND = 5.0
SCHEDULE = """\
[[fetch]]
dataset = "quote"
provider = "auto"
symbols_file = "list.txt"
every_seconds = 60
market_hours = "XNYS"

[[fetch]]  # the second
dataset = "bars"
provider = ["tiingo", "alpaca"]
symbols = ["AAPL", "MSFT"]
crontab = "30 16 * * mon-fri"
timezone = "America/New_York"

[[ fetch ]]
"dataset" = 'quote'
provider = "finnhub"
symbols = [
  "IBM",
]
every_seconds = 0.5e2
"""
CIRCUITS = """\
[finnhub]
failure_threshold = 3
quota_calls = 60
quota_seconds = 60
quota_strict = true

[alpha_vantage]
timeout_seconds = 120.5
jitter = 0.2
slow_call_seconds = 3
slow_call_rate = 0.5
minimum_calls = 10
window_seconds = 60
"""
LIST = "# mine\nAAPL\nbrk.b  # again\n\nCOINGECKO:BITCOIN\n"
LITERALS = st.sampled_from(
    [
        *(
            "0",
            "-1",
            "1e999",
            "nan",
            "-inf",
            "9" * 400,
            "0x10",
            "1_0",
            "true",
            "false",
            '""',
            '"x"',
            "'''\n'''",
            '"""',
        ),
        *(
            "[]",
            "[[]]",
            "{}",
            "{a = 1}",
            "[1, 'a']",
            "1979-05-27",
            "1979-05-27T07:32:00Z",
            "07:32:00",
            '"\\u0000"',
        ),
        *(
            '"auto"',
            '"finnhub"',
            '"sec_edgar"',
            '["finnhub"]',
            '"XNYS"',
            '"* * * * *"',
            '"*/0 * * * *"',
            '"0 0 31 2 *"',
        ),
        *(
            '"UTC"',
            '"../../etc/passwd"',
            '"/dev/null"',
            '"/etc"',
            '"list.txt"',
            "[" * 3000,
            "{a=" * 2000,
            "a" + ".a" * 9000,
        ),
        *(
            '"1-5/2 1,2-3 * jan-dec sun"',
            '"60 24 0 13 8"',
            '"-1 * * * *"',
            '"1 1 1 1 1 1"',
            '"L * * * *"',
            '"@daily"',
        ),
    ]
)
KEYS = st.sampled_from(
    [
        *(
            "dataset",
            "provider",
            "symbols",
            "symbols_file",
            "every_seconds",
            "crontab",
            "timezone",
            "market_hours",
        ),
        *(
            "failure_threshold",
            "timeout_seconds",
            "quota_calls",
            "quota_burst",
            "jitter",
            "observe_only",
            "max_parked",
        ),
        *("a.b", '"x y"', "''", "fetch", "finnhub"),
    ]
)
LINES = (
    st.builds(lambda key, value: f"{key} = {value}", KEYS, LITERALS)
    | st.sampled_from(
        ["[[fetch]]", "[fetch]", "[finnhub]", "[[finnhub]]", "[fetch.x]", "# x", "", "]", "\x00", "\ufeff"]
    )
    | st.text(max_size=20)
)


@st.composite
def changed(draw: st.DrawFn, text: str) -> bytes:
    """A good file with some of it changed."""
    lines = text.splitlines()
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        place = draw(st.integers(0, len(lines)))
        kind = draw(st.integers(0, 4))
        if kind == 0 and lines:
            del lines[place - 1]
        elif kind == 1:
            lines.insert(place, draw(LINES))
        elif kind == 2 and place < len(lines) and "=" in lines[place]:
            lines[place] = f"{lines[place].partition('=')[0]}= {draw(LITERALS)}"
        elif kind == 3 and lines:
            lines.insert(place, lines[place - 1])
        elif lines:
            at = draw(st.integers(0, len(lines[place - 1])))
            lines[place - 1] = lines[place - 1][:at] + draw(st.text(max_size=3)) + lines[place - 1][at + 1 :]
    raw = "\n".join(lines).encode("utf-8", draw(st.sampled_from(["surrogatepass", "replace"])))
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=4)) + raw[at:]
    return raw


ANY = st.binary(max_size=60) | st.lists(LINES, max_size=6).map(
    lambda lines: "\n".join(lines).encode("utf-8", "replace")
)
EXAMPLES = st.fixed_dictionaries(
    {
        "schedule": changed(SCHEDULE) | ANY,
        "list": changed(LIST) | ANY,
        "circuits": changed(CIRCUITS) | ANY,
    }
)


def check(folder: Path, example: dict[str, Any]) -> None:
    """Each is read, or every complaint has the file and a line of it, and nothing is changed."""
    schedule, listed, circuits = (folder / name for name in ("schedule.toml", "list.txt", "circuits.toml"))
    schedule.write_bytes(example["schedule"])
    listed.write_bytes(example["list"])
    circuits.write_bytes(example["circuits"])
    most = max(raw.count(b"\n") + raw.count(b"\r") for raw in example.values()) + 100
    began = time.thread_time()
    try:
        fetches = load(schedule, lambda name: not PROVIDERS[name].retired)
    except ScheduleError as error:
        assert error.problems  # noqa: PT017 - a lucky one is good
        for problem in error.problems:
            assert problem.file
            assert 1 <= problem.line <= most
        assert len(str(error)) < 60_000  # noqa: PT017 - the same
    else:
        assert fetches
        for fetch in fetches:
            assert fetch.next_after(time.time()) > time.time() - 1
        demand(fetches)
    before = {name: breaker.policy for name, breaker in CIRCUIT_BREAKERS.items()}
    try:
        configure(circuits, CIRCUIT_BREAKERS)
    except ConfigurationError as error:
        assert str(error).startswith(str(circuits))  # noqa: PT017 - the same
        assert {name: breaker.policy for name, breaker in CIRCUIT_BREAKERS.items()} == before
    finally:
        for name, policy in before.items():
            CIRCUIT_BREAKERS[name].policy = policy
    assert time.thread_time() - began < BOUND


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A folder, and no settings."""
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_URL"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield Path(folder)


ENDLESS = f"a{'.a' * 20_000} = 1".encode()
FOUND = ({"schedule": ENDLESS, "list": b"", "circuits": ENDLESS},)
TARGET = Target("files", EXAMPLES, check, place, FOUND, quick=60)
