"""The schedule file, and the beat entries made from it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from resilience import get_circuit_breaker
from tasks.providers import PROVIDERS
from tasks.schedule import Fetch, ScheduleError, deal, demand, examples, load
from tasks.settings import provider_settings
from tasks.timing import Every, market
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
    found = load(written(tmp_path, GOOD))
    assert [(fetch.name, fetch.provider, fetch.timing, fetch.table) for fetch in found] == [
        ("quote/finnhub/AAPL", "finnhub", Every(15.0), 0),
        ("quote/finnhub/BRK.B", "finnhub", Every(15.0), 0),
        ("quote/alpha_vantage/IBM", "alpha_vantage", Every(50.0), 1),
    ]
    assert [fetch.fallbacks for fetch in found] == [(), (), ()]


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()])
def test_an_editors_byte_order_mark_and_line_ends_do_not_matter(tmp_path, text):
    assert len(load(written(tmp_path, text))) == 3


def test_the_file_that_is_shipped_is_good():
    assert load(Path(__file__).parents[2] / "schedule.toml")


def test_examples_show_every_provider_at_work_and_ask_for_nothing_the_file_asks_for():
    asked = load(Path(__file__).parents[2] / "schedule.toml")
    living = {service for service, row in PROVIDERS.items() if not row.retired}
    shown = examples(living - {fetch.provider for fetch in asked}, beside=asked)
    assert {fetch.provider for fetch in (*asked, *shown)} == living
    assert not {(fetch.dataset, fetch.symbol) for fetch in shown} & {
        (fetch.dataset, fetch.symbol) for fetch in asked
    }
    assert {fetch.timing for fetch in shown} == {Every(60.0)}


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
        ["'every_second'; known are", "every_seconds is missing"],
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
    "dataset not served": (
        changed('"quote"', '"observations"'),
        4,
        ["finnhub", "'observations'", "serves quote"],
    ),
    "bad symbol": (changed('"brk.b"', '"../x"'), 6, ["'../x'", "AAPL"]),
    "a symbol the provider cannot have": (
        changed('provider = "finnhub"', 'provider = "coinbase"'),
        6,
        ["'AAPL'", "'BRK.B'"],
    ),
    "no text symbol": (changed('"brk.b"', "7"), 6, ["7", "AAPL"]),
    "symbols in symbols": (changed('"brk.b"', '["brk.b"]'), 6, ["['brk.b']"]),
    "twice in a list": (changed('"brk.b"', '"aapl"'), 6, ["quote/finnhub/AAPL", "twice", "remove one"]),
    "twice by another name": (
        changed('"brk.b"', '"AAPL.XNAS"'),
        6,
        ["quote/finnhub/AAPL", "twice", "remove one"],
    ),
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
    "provider is a list of numbers": (changed('"finnhub"', '["finnhub", 5]'), 5, ["'5'", "known are"]),
    "provider is an empty list": (changed('"finnhub"', "[]"), 5, ["'[]'", "known are"]),
    "provider twice": (changed('"finnhub"', '["finnhub", "finnhub"]'), 5, ["twice", "remove one"]),
    "a list with one that is retired": (changed('"finnhub"', '["finnhub", "iex_cloud"]'), 5, ["2024-08-31"]),
    "bars adjusted in two ways": (
        changed(
            'dataset = "quote"\nprovider = "finnhub"', 'dataset = "bars"\nprovider = ["alpaca", "yahoo"]'
        ),
        5,
        ["bars adjusted in different ways", "alpaca raw, yahoo split", "name those of one"],
    ),
    "auto of what there is not": (
        changed('"quote"\nprovider = "finnhub"', '"quotes"\nprovider = "auto"'),
        4,
        ["'quotes'", "known are"],
    ),
    "auto without a key": (
        changed('"quote"\nprovider = "finnhub"', '"filings"\nprovider = "auto"'),
        6,
        ["no provider of 'AAPL' is set up", "set SEC_EDGAR_CONTACT"],
    ),
    "symbols and a file": (
        changed("every_seconds = 15", 'every_seconds = 15\nsymbols_file = "list.txt"'),
        8,
        ["symbols and symbols_file: give one of them"],
    ),
    "two timings": (
        changed("every_seconds = 15", 'every_seconds = 15\ncrontab = "* * * * *"'),
        8,
        ["every_seconds and crontab: give one of them"],
    ),
    "a time zone without a crontab": (
        changed("every_seconds = 15", 'every_seconds = 15\ntimezone = "UTC"'),
        8,
        ["timezone is a crontab's"],
    ),
    "no such time zone": (
        changed("every_seconds = 15", 'crontab = "* * * * *"\ntimezone = "New York"'),
        8,
        ["'New York'", "America/New_York"],
    ),
    "who asks is not told": (
        changed(
            '"quote"\nprovider = "finnhub"\nsymbols = ["AAPL", "brk.b"]',
            '"filings"\nprovider = "sec_edgar"\nsymbols = ["0000320193"]',
        ),
        5,
        ["SEC_EDGAR_CONTACT is not set; put a name and an e-mail address"],
    ),
    "a bad symbol beside a bad time": (
        changed('"brk.b"]\nevery_seconds = 15', '"../x"]\nevery_seconds = 0'),
        7,
        ["every_seconds=0", "'../x'"],
    ),
    "a crontab of four fields": (changed("every_seconds = 15", 'crontab = "* * * *"'), 7, ["five fields"]),
    "a crontab that is a number": (changed("every_seconds = 15", "crontab = 5"), 7, ["crontab=5: give text"]),
    "no such exchange": (
        changed("every_seconds = 15", 'every_seconds = 15\nmarket_hours = "XNYZ"'),
        8,
        ["'XNYZ'", "XNYS", "XLON"],
    ),
    "a crontab out of hours": (
        changed("every_seconds = 15", 'crontab = "0 3 * * *"\nmarket_hours = "XNYS"'),
        7,
        ["'0 3 * * *' UTC while XNYS is open: is never due"],
    ),
    "no such day": (changed("every_seconds = 15", 'crontab = "0 0 31 2 *"'), 7, ["is never due"]),
    "no symbols file": (
        changed('symbols = ["AAPL", "brk.b"]', 'symbols_file = "absent.txt"'),
        6,
        ["absent.txt cannot be read", "give a path from"],
    ),
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
    assert f"{file}:{line}: " in message
    assert [part for part in told if part not in message] == []
    for problem in message.splitlines():
        assert problem.startswith(f"{file}:")
        assert len(problem) < 600 + len(str(file))


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(ScheduleError, match=r"cannot be read .*SCHEDULE_FILE"):
        load(tmp_path / name)


def test_a_file_or_a_list_without_an_end_is_refused_at_once(tmp_path):
    began = time.thread_time()
    with pytest.raises(ScheduleError, match="more than 4194304 bytes"):
        load(Path("/dev/zero"))
    file = written(tmp_path, changed('symbols = ["AAPL", "brk.b"]', 'symbols_file = "/dev/zero"'))
    with pytest.raises(ScheduleError, match=r":6: symbols_file: /dev/zero cannot be read \(it has more than"):
        load(file)
    for key in ("a" + ".a" * 20_000, "a" + " . a" * 20_000, "'a'" + '."a"' * 20_000):
        with pytest.raises(ScheduleError, match=r":2: no TOML.*a key of 64 parts or more"):
            load(written(tmp_path, f"\n{key} = 1\n"))
        with pytest.raises(ScheduleError, match=r":1: no TOML.*a key of 64 parts or more"):
            load(written(tmp_path, f"[{key}]\n"))
    assert time.thread_time() - began < 5, "tomllib alone takes a minute"


@pytest.mark.parametrize("what", ["itself", "nowhere", "a folder", "no text"])
def test_a_list_that_is_none_is_told_at_its_line(tmp_path, what):
    listed = tmp_path / "list.txt"
    if what in ("itself", "nowhere"):
        listed.symlink_to(listed if what == "itself" else tmp_path / "nowhere")
    elif what == "a folder":
        listed.mkdir()
    else:
        listed.write_bytes(b"AAPL\n\xff\xfe\n")
    file = written(tmp_path, changed('symbols = ["AAPL", "brk.b"]', 'symbols_file = "list.txt"'))
    with pytest.raises(ScheduleError, match=r"schedule.toml:6: symbols_file: .*list.txt cannot be read"):
        load(file)


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
        assert all(1 <= problem.line <= 100 for problem in error.problems)  # noqa: PT017 - a lucky one is good
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
            assert all(1 <= problem.line <= 5 for problem in error.problems)  # noqa: PT017 - the same


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(inner)}' for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool) or value is None:
        return str(bool(value)).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_everything_that_is_wrong_is_told_at_once(tmp_path):
    (tmp_path / "list.txt").write_text("# mine\n\nAAPL\nbad symbol\naapl # again\n../x\nMSFT\n")
    file = written(
        tmp_path,
        changed('symbols = ["AAPL", "brk.b"]', 'symbols_file = "list.txt"')
        + '[[fetch]]\ndataset = "bars"\nprovider = "nope"\nsymbols = []\nevery_seconds = 0\n',
    )
    listed = tmp_path / "list.txt"
    with pytest.raises(ScheduleError) as caught:
        load(file)
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [
        *((str(listed), 4), (str(listed), 5), (str(listed), 6)),
        *((str(file), 20), (str(file), 18), (str(file), 19)),
    ]
    assert f"{listed}:4: invalid symbol 'bad symbol'" in str(caught.value)
    assert f"{listed}:5: quote/finnhub/AAPL is there twice: remove one" in str(caught.value)


def test_a_flood_of_problems_is_counted(tmp_path):
    (tmp_path / "list.txt").write_text("../x\n" * 1000)
    file = written(tmp_path, changed('symbols = ["AAPL", "brk.b"]', 'symbols_file = "list.txt"'))
    with pytest.raises(ScheduleError, match=r"and 950 more$") as caught:
        load(file)
    assert len(str(caught.value).splitlines()) == 51


def test_a_symbols_file_lies_beside_the_schedule(tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/us.txt").write_bytes(b"\xef\xbb\xbf# two\r\n\r\naapl  # a comment\r\n  BRK.B\r\n")
    file = written(tmp_path, changed('symbols = ["AAPL", "brk.b"]', 'symbols_file = "lists/us.txt"'))
    assert [fetch.symbol for fetch in load(file)] == ["AAPL", "BRK.B", "IBM"]


def test_market_hours_without_the_calendars_are_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    market.cache_clear()
    file = written(tmp_path, changed("every_seconds = 15", 'every_seconds = 15\nmarket_hours = "XNYS"'))
    with pytest.raises(ScheduleError, match=r":8: .*pip install 'market-data-resilience\[calendars\]'"):
        load(file)
    market.cache_clear()


def everybody(service: str) -> bool:
    return not PROVIDERS[service].retired


def auto(folder: Path, count: int, dataset: str = "quote", provider: str = '"auto"') -> list[Fetch]:
    symbols = ", ".join(f'"S{n}"' for n in range(count))
    text = (
        f"[[fetch]]\ndataset = {dataset!r}\nprovider = {provider}\nsymbols = [{symbols}]\nevery_seconds = 60"
    )
    return load(written(folder, text), everybody)


def test_auto_deals_only_to_those_that_are_set_up(tmp_path, monkeypatch):
    for service in PROVIDERS:
        monkeypatch.delenv(f"{service.upper()}_API_KEY", raising=False)
    monkeypatch.setenv("TIINGO_API_KEY", "key")
    monkeypatch.setenv("IEX_CLOUD_API_KEY", "key")  # retired
    provider_settings.cache_clear()
    symbols = ", ".join(f'"S{n}"' for n in range(50))
    text = f'[[fetch]]\ndataset = "quote"\nprovider = "auto"\nsymbols = [{symbols}]\nevery_seconds = 60'
    found = load(written(tmp_path, text))
    assert {fetch.provider for fetch in found} == {"tiingo", "yahoo"}, "Yahoo asks for no key"
    assert all({fetch.provider, *fetch.fallbacks} == {"tiingo", "yahoo"} for fetch in found)


def test_auto_never_mixes_bars_of_different_adjustment(tmp_path):
    found = auto(tmp_path, 200, "bars")
    used = {name for fetch in found for name in (fetch.provider, *fetch.fallbacks)}
    assert {PROVIDERS[name].endpoints["bars"].adjustment for name in used} == {"raw"}
    assert len(used) > 3


def test_a_symbol_goes_only_to_those_that_can_spell_it(tmp_path):
    text = GOOD.replace('"finnhub"', '"auto"', 1).replace('"AAPL", "brk.b"', '"COINGECKO:BITCOIN", "AAPL"')
    coin, share, _ = load(written(tmp_path, text), everybody)
    assert (coin.provider, coin.fallbacks) == ("coingecko", ())
    assert "coingecko" not in {share.provider, *share.fallbacks}


def test_symbols_are_dealt_in_proportion_to_the_quotas():
    weights = {"finnhub": 6.0, "tiingo": 3.0, "polygon": 1.0}
    order = [deal(f"S{n}", [*weights], [*weights.values()]) for n in range(10_000)]
    first = Counter(names[0] for names in order)
    for name, weight in weights.items():
        assert first[name] == pytest.approx(weight * 1000, rel=0.1)
    assert {frozenset(names) for names in order} == {frozenset(weights)}


def test_a_circuits_quota_is_the_weight(tmp_path, monkeypatch):
    for name, calls in (("finnhub", 400), ("tiingo", 100)):
        breaker = get_circuit_breaker(name)
        policy = replace(breaker.policy, quota_calls=calls, quota_seconds=60)
        monkeypatch.setattr(breaker, "policy", policy)
    found = Counter(fetch.provider for fetch in auto(tmp_path, 2000, provider='["finnhub", "tiingo"]'))
    assert found["finnhub"] == pytest.approx(1600, rel=0.1)
    assert found["tiingo"] == 2000 - found["finnhub"]


@given(st.sets(st.integers(0, 500), min_size=1, max_size=40), st.integers(501, 900))
def test_another_symbol_moves_none_and_another_provider_only_takes(symbols, another):
    few, many = ["finnhub", "tiingo"], ["finnhub", "tiingo", "polygon"]
    before = {n: deal(f"S{n}", few, [1.0, 2.0]) for n in symbols}
    after = {n: deal(f"S{n}", few, [1.0, 2.0]) for n in {*symbols, another}}
    assert {n: after[n] for n in symbols} == before
    for n in symbols:
        assert deal(f"S{n}", many, [1.0, 2.0, 5.0])[0] in {before[n][0], "polygon"}


def test_no_second_has_more_than_its_share(tmp_path):
    found = auto(tmp_path, 5000)
    start = 1_800_000_000.0
    seconds = Counter(int(fetch.next_after(start) - start) for fetch in found)
    assert set(seconds) <= set(range(61))
    assert max(seconds.values()) <= 84
    for provider, count in Counter(fetch.provider for fetch in found).items():
        own = Counter(int(fetch.next_after(start) - start) for fetch in found if fetch.provider == provider)
        assert max(own.values()) <= count / 60 + 3, provider


def test_crontabs_of_a_minute_are_spread_over_it_together(tmp_path):
    symbols = ", ".join(f'"S{n}"' for n in range(300))
    text = "".join(
        f'[[fetch]]\nprovider = "finnhub"\ndataset = "{name}"\ncrontab = "{crontab}"\nsymbols = [{symbols}]\n'
        for name, crontab in (("quote", "0 9 * * *"), ("news", "*/5 * * * *"))
    )
    nine = 1_800_003_600.0 - 1_800_003_600.0 % 86_400 + 9 * 3600
    due = [fetch.next_after(nine - 1) for fetch in load(written(tmp_path, text), everybody)]
    seconds = Counter(int(when - nine) for when in due)
    assert set(seconds) == set(range(60))
    assert max(seconds.values()) <= 11


def test_demand_is_told_and_too_much_is_warned_of(tmp_path, monkeypatch):
    breaker = get_circuit_breaker("finnhub")
    monkeypatch.setattr(breaker, "policy", replace(breaker.policy, quota_calls=60, quota_seconds=60))
    text = changed("every_seconds = 15", "every_seconds = 1")
    asked, other = demand(load(written(tmp_path, text)))
    assert (asked.provider, asked.symbols, asked.calls_a_minute, asked.calls_a_day) == (
        *("finnhub", 2, 120, 172_800),
    )
    assert asked.warning is not None
    assert [
        part
        for part in ("finnhub", "120 calls in 60 s", "allows 60", "circuits.toml")
        if part not in asked.warning
    ] == []
    assert other.warning is None
    [fine, _] = demand(load(written(tmp_path, changed("every_seconds = 15", "every_seconds = 2"))))
    assert (fine.calls_a_quota, fine.warning) == (60, None)


def test_an_entry_goes_to_the_scheduled_queue_with_its_fallbacks():
    alone = entry(Fetch("quote", "finnhub", "AAPL", Every(15.0)), Celery())
    assert (alone.task, alone.args, alone.kwargs) == ("tasks.finnhub.fetch", ("quote", "AAPL"), {})
    assert alone.options == {"queue": "finnhub.scheduled"}
    dealt = entry(Fetch("quote", "finnhub", "AAPL", Every(15.0), "auto", ("tiingo",)), Celery())
    assert (dealt.name, dealt.kwargs) == ("quote/auto/AAPL", {"fallbacks": ["tiingo"]})


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """Makes Celery's own scheduler on a schedule file; its notes are kept in the folder."""
    made = []

    def make(text: str) -> FileScheduler:
        file = written(tmp_path, text)
        found = SimpleNamespace(schedule_file=file, schedule_examples="")
        monkeypatch.setattr(schedule, "settings", lambda: found)
        app = Celery("scheduled", broker="memory://")
        app.conf.beat_schedule = {"own": {"task": "own", "schedule": 5.0}}
        made.append(FileScheduler(app, schedule_filename=str(tmp_path / "beat")))
        return made[-1]

    yield make
    for one in made:
        one.close()


def many(count: int, every: float) -> str:
    symbols = ", ".join(f'"S{n}"' for n in range(count))
    return (
        f'[[fetch]]\ndataset = "quote"\nprovider = "finnhub"\nevery_seconds = {every}\nsymbols = [{symbols}]'
    )


def planned(made: FileScheduler) -> list[float]:
    """When the fetches will be sent, in seconds from now."""
    made.populate_heap()
    now = time.time()
    return sorted(due - now for due, _, found in made._heap if found.name.startswith("quote/"))


def test_first_runs_are_spread_over_the_interval(scheduler):
    made = scheduler(many(5, 100))
    waits = planned(made)
    assert [b - a for a, b in pairwise(waits)] == pytest.approx([20] * 4)
    assert -1 < waits[0] < waits[-1] <= 100
    assert "own" in made.schedule, "the app's own entries stay"
    assert len(made.schedule) <= 2, "what is on disk does not grow with the file"


def away(made: FileScheduler, seconds: float) -> None:
    """As if beat had been away for so long."""
    made.sent_until = time.time() - seconds
    made.close()


def test_what_a_short_stop_kept_from_being_sent_follows_at_half_the_pace(scheduler):
    away(scheduler(many(1000, 1000)), 100)
    waits = planned(scheduler(many(1000, 1000)))
    tens = Counter(int(wait // 10) for wait in waits)
    assert sum(wait < 200 for wait in waits) == pytest.approx(300, abs=6), (
        "two hundred of its own, and those missed"
    )
    assert max(tens.values()) <= 17
    assert tens[25] == pytest.approx(10, abs=1), "then it is as ever"


def test_a_long_stop_makes_no_burst(scheduler):
    away(scheduler(many(1000, 100)), 5000)
    seconds = Counter(int(wait) for wait in planned(scheduler(many(1000, 100))))
    assert sum(seconds.values()) == 1000
    assert max(seconds.values()) <= 12


def test_a_restart_in_time_sends_nothing_twice(scheduler):
    away(scheduler(many(10, 1000)), 0)
    assert len([wait for wait in planned(scheduler(many(10, 1000))) if wait < 0]) == 0


def test_a_clock_that_was_set_back_stops_nothing(scheduler):
    away(scheduler(many(10, 100)), -3600)
    made = scheduler(many(10, 100))
    assert planned(made)[-1] <= 100
    made._start_from(time.time() + 3600)
    made.populate_heap()
    made.tick()
    now = time.time()
    assert made.sent_until <= now
    assert max(due for due, _, found in made._heap if found.name.startswith("quote/")) <= now + 100


def test_what_was_missed_and_not_yet_sent_is_not_forgotten_at_another_stop(scheduler):
    away(scheduler(many(1000, 1000)), 100)
    again = scheduler(many(1000, 1000))
    again.tick()
    assert time.time() - again.sent_until == pytest.approx(100, abs=2)
    again.close()
    waits = planned(scheduler(many(1000, 1000)))
    assert sum(wait < 200 for wait in waits) == pytest.approx(300, abs=6)


def test_beat_refuses_a_bad_file_in_one_line(scheduler):
    with pytest.raises(SystemExit, match=r"^beat does not start: .*schedule\.toml:1: nothing to fetch"):
        scheduler("")
