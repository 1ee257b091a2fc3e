"""The schedule file, and the beat entries made from it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.schedule import Fetch, ScheduleError, load
from tasks.settings import provider_settings
from workers import schedule
from workers.schedule import FileScheduler, entry

GOOD = """\
# what is fetched

[[fetch]]
dataset = "quote"
provider = "finnhub"
symbols = ["AAPL", "brk.b"]
every_seconds = 15

[[ fetch ]]  # the second
every_seconds = 0.5e2
"symbols" = [
  "IBM",
]
provider = 'alpha_vantage'
dataset = "quote"
"""


@pytest.fixture(autouse=True)
def no_addresses_set_by_hand(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IEX_CLOUD_BASE_URL", raising=False)
    provider_settings.cache_clear()
    yield
    provider_settings.cache_clear()


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "schedule.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_good_file_gives_its_fetches_in_order(tmp_path):
    assert load(written(tmp_path, GOOD)) == [
        Fetch("quote", "finnhub", "AAPL", 15.0),
        Fetch("quote", "finnhub", "BRK.B", 15.0),
        Fetch("quote", "alpha_vantage", "IBM", 50.0),
    ]


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()])
def test_an_editors_byte_order_mark_and_line_ends_do_not_matter(tmp_path, text):
    assert len(load(written(tmp_path, text))) == 3


def test_the_file_that_is_shipped_is_good():
    assert load(Path(__file__).parents[2] / "schedule.toml")


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


BAD = {
    "broken": (changed('"AAPL", ', '"AAPL" '), 6, ["TOML"]),
    "cut off": (GOOD + "[[fetch", 16, ["TOML"]),
    "endless digits": ("x = " + "1" * 5000, 1, ["TOML"]),
    "endless brackets": ("x = " + "[" * 5000, 1, ["TOML"]),
    "unknown key": (
        changed("every_seconds = 15", "every_second = 15"),
        7,
        ["'every_second'", "every_seconds"],
    ),
    "unknown table": (GOOD + "[other]\nx = 1\n", 16, ["'other'", "[[fetch]]"]),
    "unknown name": ("speed = 3\n" + GOOD, 1, ["'speed'", "[[fetch]]"]),
    "missing key": (
        changed("every_seconds = 15\n", ""),
        3,
        ["every_seconds is missing", "every_seconds = 15"],
    ),
    "unknown provider": (changed('"finnhub"', '"finhub"'), 5, ["'finhub'", "known are", "finnhub"]),
    "unknown dataset": (changed('"quote"', '"quotes"'), 4, ["'quotes'", "quote"]),
    "dataset not served": (changed('"quote"', '"bars"'), 4, ["finnhub", "'bars'", "serves quote"]),
    "bad symbol": (changed('"brk.b"', '"../x"'), 6, ["'../x'", "AAPL"]),
    "a symbol the provider cannot have": (
        changed('dataset = "quote"\nprovider = "finnhub"', 'dataset = "filings"\nprovider = "sec_edgar"'),
        6,
        ["'AAPL'", "CIK, ten digits, as in 0000320193"],
    ),
    "no text symbol": (changed('"brk.b"', "7"), 6, ["7", "AAPL"]),
    "symbols in symbols": (changed('"brk.b"', '["brk.b"]'), 6, ["['brk.b']"]),
    "twice in a list": (changed('"brk.b"', '"aapl"'), 6, ["quote/finnhub/AAPL", "twice", "remove one"]),
    "twice in the file": (
        changed("\"IBM\",\n]\nprovider = 'alpha_vantage'", '"AAPL",\n]\nprovider = "finnhub"'),
        11,
        ["quote/finnhub/AAPL", "remove one"],
    ),
    "retired": (
        changed('"finnhub"', '"iex_cloud"'),
        5,
        ["iex_cloud", "2024-08-31", "alpha_vantage, finnhub"],
    ),
    "symbols is text": (changed('["AAPL", "brk.b"]', '"AAPL"'), 6, ["'AAPL'", 'symbols = ["AAPL"]']),
    "symbols is empty": (changed('["AAPL", "brk.b"]', "[]"), 6, ["[]", 'symbols = ["AAPL"]']),
    "symbols is a table": (changed('["AAPL", "brk.b"]', "{a = 1}"), 6, ["{'a': 1}"]),
    "provider is a number": (changed('"finnhub"', "5"), 5, ["5", "finnhub"]),
    "provider is a list": (changed('"finnhub"', '["finnhub"]'), 5, ["finnhub", "known are"]),
    "dataset is a bool": (changed('"quote"', "true"), 4, ["True", "quote"]),
    "dataset is a list": (changed('"quote"', '["quote"]'), 4, ["quote"]),
    "empty": ("", 1, ["[[fetch]]"]),
    "only comments": ("# later\n", 1, ["[[fetch]]"]),
    "empty list": ("fetch = []", 1, ["[[fetch]]"]),
    "single brackets": ('\n[fetch]\ndataset = "quote"\n', 2, ["[[fetch]]", "double brackets"]),
    "fetch is a number": ("fetch = 5", 1, ["5", "[[fetch]]"]),
    "fetch is text": ('\nfetch = "quote"', 2, ["'quote'", "[[fetch]]"]),
    "fetch is a list of numbers": ("fetch = [1, 2]", 1, ["[1, 2]", "[[fetch]]"]),
    "fetch is a list of lists": ("fetch = [[[]]]", 1, ["[[[]]]"]),
    "an empty table": ("[[fetch]]", 1, ["dataset is missing"]),
    "no UTF-8": (b"\xff\xfe\x00", 1, ["cannot be read", "SCHEDULE_FILE"]),
}
for value in ("true", "false", "0", "-5", "0.99", "inf", "-inf", "nan", "1e300", '"15"', "[15]", "31622401"):
    BAD[f"every {value}"] = (
        changed("every_seconds = 15", f"every_seconds = {value}"),
        7,
        ["every_seconds=", "from 1 to 31622400"],
    )


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_line_value_and_remedy(tmp_path, name):
    text, line, told = BAD[name]
    file = written(tmp_path, text)
    with pytest.raises(ScheduleError) as caught:
        load(file)
    message = str(caught.value)
    assert message.startswith(f"{file}:{line}: ")
    assert [part for part in told if part not in message] == []
    assert "\n" not in message
    assert len(message) < 400 + len(str(file))


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(ScheduleError, match=r"cannot be read .*SCHEDULE_FILE"):
        load(tmp_path / name)


WORDS = st.sampled_from(
    [
        *("[[fetch]]", "[fetch]", "fetch", "dataset", "provider", "symbols", "every_seconds", "=", "[", "]"),
        *('"quote"', '"finnhub"', '"iex_cloud"', '["AAPL"]', '"""', "''", "{", "}", ",", ".", "#", "\n", " "),
        *("15", "nan", "-1", "1e9", "true", "1979-05-27", "\\u0000", "\ufeff", "é", "a.b", "fetch.x"),
    ]
)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.lists(WORDS, max_size=40).map("".join), st.text(max_size=60), st.binary(max_size=40)))
def test_whatever_a_file_holds_only_a_schedule_error_comes(tmp_path, text):
    try:
        fetches = load(written(tmp_path, text))
    except ScheduleError as error:
        assert 1 <= error.line <= 100  # noqa: PT017 - a lucky one is good
    else:
        assert fetches


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["quote", "finnhub", "AAPL", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=5,
)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(["dataset", "provider", "symbols", "every_seconds"]), VALUES))
def test_whatever_type_a_value_has_only_a_schedule_error_comes(tmp_path, block):
    lines = [f"{key} = {toml(value)}\n" for key, value in block.items()]
    with pytest.raises(ScheduleError):
        load(written(tmp_path, "".join(["[[fetch]]\n", *lines, 'extra = ""\n'])))
    if block.keys() == {"dataset", "provider", "symbols", "every_seconds"}:
        try:
            load(written(tmp_path, "".join(["[[fetch]]\n", *lines])))
        except ScheduleError as error:
            assert 1 <= error.line <= 5  # noqa: PT017 - the same


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(inner)}' for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool) or value is None:
        return str(bool(value)).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_an_entry_goes_to_the_scheduled_queue_and_expires_at_the_next_tick():
    made = entry(Fetch("quote", "finnhub", "AAPL", 15.0))
    assert (made["task"], made["args"], made["schedule"]) == ("tasks.finnhub.fetch", ("quote", "AAPL"), 15.0)
    assert made["options"] == {"queue": "finnhub.scheduled", "expires": 15.0}


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """Makes Celery's own scheduler on a schedule file; its notes are kept in the folder."""
    made = []

    def make(text: str) -> FileScheduler:
        file = written(tmp_path, text)
        monkeypatch.setattr(schedule, "settings", lambda: SimpleNamespace(schedule_file=file))
        app = Celery("scheduled", broker="memory://")
        app.conf.beat_schedule = {"own": {"task": "own", "schedule": 5.0}}
        made.append(FileScheduler(app, schedule_filename=str(tmp_path / "beat")))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_first_runs_are_spread_over_the_interval(scheduler):
    symbols = ", ".join(f'"S{n}"' for n in range(5))
    made = scheduler(
        f'[[fetch]]\ndataset = "quote"\nprovider = "finnhub"\nevery_seconds = 100\nsymbols = [{symbols}]'
    )
    waits = [made.schedule[f"quote/finnhub/S{n}"].is_due().next for n in range(1, 5)]
    assert made.schedule["quote/finnhub/S0"].is_due().is_due
    assert waits == pytest.approx([20, 40, 60, 80], abs=3)
    assert "own" in made.schedule, "the app's own entries stay"


def test_a_restart_keeps_what_ran_and_drops_what_the_file_no_longer_has(scheduler):
    first = scheduler(GOOD)
    ran = datetime.now(UTC) - timedelta(seconds=5)
    found = first.schedule["quote/finnhub/AAPL"]
    found.last_run_at, found.total_run_count = ran, 7
    first.close()
    second = scheduler(changed('"AAPL", "brk.b"', '"AAPL", "MSFT"'))
    kept = second.schedule["quote/finnhub/AAPL"]
    assert (kept.total_run_count, kept.last_run_at) == (7, ran)
    assert {name for name in second.schedule if "/" in name} == {
        *("quote/finnhub/AAPL", "quote/finnhub/MSFT", "quote/alpha_vantage/IBM")
    }


def test_beat_refuses_a_bad_file_in_one_line(scheduler):
    with pytest.raises(SystemExit, match=r"^beat does not start: .*schedule\.toml:1: nothing to fetch"):
        scheduler("")
