"""What a chaos run is drawn from, what its fleet keeps to, and that its auditor notices what is wrong."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from resilience import Policy
from tasks.reading import Reading
from tests.chaos.__main__ import COLUMNS, table
from tests.chaos.audit import BROKER_SECONDS, HOSTILE_SECONDS, UNDER_WAY_SECONDS, Auditor, Call
from tests.chaos.load import Read
from tests.chaos.plan import APART_SECONDS, FAULTS, MODES, QUIET_SECONDS, plan
from tests.chaos.stage import LIVING, circuits_file
from tests.fleet import ROOT
from workers.simulator.modes import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS = 600.0
OPENED = 1_800_000_000.0
NO_LOGS = Path("/nonexistent")


def test_a_seed_is_replayed_and_another_is_another():
    assert plan("7-redis", SECONDS) == plan("7-redis", SECONDS)
    assert plan("7-redis", SECONDS) != plan("7-rabbitmq", SECONDS)


@pytest.mark.parametrize("seed", range(20))
def test_everything_is_mended_before_the_end_and_no_part_is_struck_twice_at_once(seed):
    strikes = plan(str(seed), SECONDS)
    assert all(strike.at + strike.lasts <= SECONDS - QUIET_SECONDS + 0.1 for strike in strikes)
    free: defaultdict[str, float] = defaultdict(float)
    for strike in strikes:
        part = FAULTS[strike.fault][3]
        if part:
            assert strike.at >= free[part] - 0.1
            free[part] = strike.at + strike.lasts + APART_SECONDS


def test_ten_seeds_have_every_fault_on_each_broker():
    for broker in ("redis", "rabbitmq"):
        struck = {strike.fault for seed in range(1, 11) for strike in plan(f"{seed}-{broker}", SECONDS)}
        assert struck == set(FAULTS)
    assert set(MODES) <= set(Mode)


def test_a_strike_always_has_a_victim():
    strikes = itertools.chain.from_iterable(plan(f"{seed}-{b}", SECONDS) for seed in range(100) for b in "rq")
    assert all(0 <= strike.choice < 1 for strike in strikes)


def test_a_fault_nobody_knows_is_named():
    with pytest.raises(ValueError, match=r"unknown faults flod; known are provider, kill_worker"):
        plan("1", SECONDS, ["flod"])


def test_the_fleet_reads_the_circuits_it_is_to_keep_to():
    circuits = tomllib.loads(circuits_file())
    assert set(circuits) == set(LIVING)
    policies = {service: Policy().changed(fields) for service, fields in circuits.items()}
    assert {policy.failure_threshold for policy in policies.values()} == {3}
    assert policies["alpha_vantage"].quota_strict


def auditor(
    *,
    states: dict[str, list[str]] | None = None,
    calls: Iterable[float] = (),
    above: Iterable[float] = (),
    store_struck: Iterable[list[float]] = (),
    children_killed: int = 0,
    reads: Iterable[Read] = (),
    apart: float = 0,
    seen_late: Iterable[float] = (),
    folder: Path = NO_LOGS,
    **happened: Any,
) -> Auditor:
    """One that has been told this, of a circuit of Finnhub's that opened at OPENED."""
    recorder = SimpleNamespace(
        states=defaultdict(list, states or {}),
        calls={
            "finnhub": [Call(at, "AAPL", 200) for at in calls],
            "eodhd": [Call(OPENED, "AAPL.US", 200), Call(OPENED + 60, "AAPL.US", 503)],
        },
        moves=defaultdict(dict, finnhub={"1-0": (OPENED, "open"), "2-0": (OPENED + 40, "half_open")}),
        above={"finnhub": list(above)},
        last_heard={"ours": OPENED + 5, "a task": OPENED + 5},
        first_ended={"a task": OPENED + 5 - apart},
        began=OPENED - 60,
        seen_late=set(seen_late),
    )
    stage = SimpleNamespace(
        killed=0,
        children_killed=children_killed,
        ended=0,
        workers=[],
        lines_cut=0,
        broker_struck=0,
        store_struck=[list(times) for times in store_struck],
        folder=folder,
        **{"clock_steps": [], "emptied": [], "hostile_at": [], "ended_at": [], "broker_struck_at": []}
        | happened,
    )
    told: Any = (
        stage,
        SimpleNamespace(sent={"ours": "AAPL"}, sent_at={"ours": OPENED}, reads=list(reads)),
        recorder,
    )
    return Auditor(*told)


@pytest.mark.parametrize(
    ("states", "broken"),
    [
        (["PARKED", "STARTED", "SUCCESS"], 0),
        (["SUCCESS", "SUCCESS"], 0),
        (["SUCCESS", "PARKED"], 1),
        (["REVOKED", "SUCCESS"], 0),  # a copy had expired
        (["REVOKED", "PARKED", "SUCCESS"], 1),
        (["FAILURE", "STARTED", "FAILURE"], 0),  # a copy of one that failed runs
        (["FAILURE", "STARTED", "SUCCESS"], 0),
        (["FAILURE", "PARKED", "STARTED", "FAILURE"], 1),
        (["FAILURE", "SUCCESS"], 1),
        (["SUCCESS", "STARTED", "SUCCESS"], 1),
    ],
)
def test_it_notices_an_end_that_was_overwritten(states, broken):
    audit = auditor(states={"a task": states})
    audit.overwritten()
    assert len(audit.account.broken) == broken


@pytest.mark.parametrize(("apart", "broken"), [(1, 0), (60, 1)])
def test_a_copy_may_expire_in_the_very_moment_in_which_the_task_ends(apart, broken):
    audit = auditor(states={"a task": ["SUCCESS", "REVOKED"]}, apart=apart)
    audit.overwritten()
    assert len(audit.account.broken) == broken


def test_only_what_can_expire_may_be_revoked_before_it_ends_well():
    audit = auditor(states={"ours": ["REVOKED", "SUCCESS"]})
    audit.overwritten()
    assert audit.account.broken


@pytest.mark.parametrize(
    ("states", "parked", "struck", "broken"),
    [
        (["SUCCESS", "SUCCESS"], [], 0, 1),
        (["SUCCESS", "SUCCESS"], [], 1, 0),
        (["SUCCESS", "SUCCESS", "SUCCESS"], [], 1, 1),
        (["FAILURE", "STARTED", "FAILURE"], [], 0, 1),
        (["FAILURE", "STARTED", "FAILURE"], [], 1, 0),
        (["SUCCESS"], ["a task"], 0, 1),
        (["PARKED"], ["a task"], 0, 0),
        (["SUCCESS"], ["another"], 0, 0),
    ],
)
def test_it_notices_what_ran_again_or_will_for_no_reason(states, parked, struck, broken):
    audit = auditor(states={"a task": states}, children_killed=struck)
    audit.again(parked)
    assert len(audit.account.broken) == broken


@pytest.mark.parametrize(
    ("late", "struck", "broken"),
    [
        (-1, [], 0),
        (UNDER_WAY_SECONDS, [], 0),
        (UNDER_WAY_SECONDS + 0.1, [], 1),
        (UNDER_WAY_SECONDS + 0.1, [[OPENED, OPENED + 1]], 0),
        (20, [[OPENED, OPENED + 1]], 1),
    ],
)
def test_it_notices_a_call_while_a_circuit_is_open(late, struck, broken):
    audit = auditor(calls=[OPENED + late], store_struck=struck)
    audit.while_open()
    assert len(audit.account.broken) == broken


@pytest.mark.parametrize(("worker", "late", "broken"), [(0, 0, 0), (0, -120, 1), (2, -120, 0), (2, 0, 1)])
def test_a_process_may_be_without_the_store_by_its_own_word(tmp_path, worker, late, broken):
    def said(at, what):
        stamp = f"{datetime.fromtimestamp(OPENED + at + late, UTC):%Y-%m-%d %H:%M:%S},000"
        return f"[{stamp}: WARNING/ForkPoolWorker-1] the breaker store at localhost:1/0 {what}\n"

    log = tmp_path / f"worker-{worker}-7.log"
    log.write_text(
        said(19, "does not answer: timed out; circuits are local") + "else\n" + said(21, "is back")
    )
    audit = auditor(calls=[OPENED + 20], folder=tmp_path)
    audit.while_open()
    assert len(audit.account.broken) == broken


@pytest.mark.parametrize(
    ("before", "late", "broken"), [(1, [OPENED + 40], 0), (3, [OPENED + 40], 1), (1, [], 1)]
)
def test_a_move_may_have_been_seen_late_where_the_clock_was_off(before, late, broken):
    audit = auditor(calls=[OPENED + 40 - before], seen_late=late)
    audit.while_open()
    assert len(audit.account.broken) == broken


@pytest.mark.parametrize(("struck", "broken"), [([], 1), ([[OPENED - 5, OPENED - 3]], 0)])
def test_it_notices_a_call_above_a_quota(struck, broken):
    audit = auditor(above=[OPENED], store_struck=struck)
    audit.quotas()
    assert len(audit.account.broken) == broken


def read(*, fetched: float = 0, age: float = 30, seconds: float = 0.1, error: str = "", **said: Any) -> Read:
    """Half a minute after EODHD, which writes AAPL.US, has answered: told as it was, but for these."""
    fetched_at = datetime.fromtimestamp(OPENED + fetched, UTC).isoformat()
    told = {"outcome": "fresh", "provider": "eodhd", "value": {}, "stale": False} | said
    reading = None if error else Reading(**told, fetched_at=fetched_at, age_seconds=age)
    return Read(OPENED + 30, seconds, "latest", "AAPL", reading, error)


@pytest.mark.parametrize(
    ("wrong", "broken"),
    [
        ({}, 0),
        ({"age": 20}, 1),  # younger by its word than it is
        ({"fetched": 60, "age": -30}, 1),  # that call was answered with an error
        ({"provider": "finnhub"}, 1),  # who was not asked
        ({"fetched": -7200, "age": 7230}, 2),  # no such call, and old for a fresh value
        ({"stale": True, "outcome": "stale"}, 0),
        ({"error": "OSError"}, 1),
        ({"seconds": 4.1, "age": 34.1}, 1),  # kept waiting
    ],
)
def test_it_notices_what_a_reader_should_not_have_been_told(wrong, broken):
    audit = auditor(reads=[read(**wrong)])
    audit.readers()
    found = sum(int(line.split(": ")[1].split(",")[0]) for line in audit.account.broken)
    assert found == broken, audit.account.broken


@pytest.mark.parametrize(
    ("fetched", "steps", "broken"),
    [
        (3600, [], 2),  # no such call, and not of its age
        (3600, [[OPENED - 1, OPENED + 5, 3600.0]], 0),  # fetched while the store's clock was ahead
        (3600, [[OPENED - 60, OPENED - 50, 3600.0]], 2),
    ],
)
def test_no_age_is_held_against_a_store_whose_clock_was_off(fetched, steps, broken):
    audit = auditor(reads=[read(fetched=fetched, age=30)], clock_steps=steps)
    audit.readers()
    found = sum(int(line.split(": ")[1].split(",")[0]) for line in audit.account.broken)
    assert found == broken, audit.account.broken


@pytest.mark.parametrize(
    ("emptied", "lost_with_it"),
    [
        ([], False),
        ([(OPENED + 4, set())], False),  # something was heard of it since
        ([(OPENED + 6, set())], True),
        ([(OPENED + 6, {"ours"})], False),  # it lay in a lot
    ],
)
def test_only_what_was_at_a_broker_that_came_back_empty_is_lost_with_it(emptied, lost_with_it):
    assert auditor(emptied=emptied)._was_at_an_emptied_broker("ours") is lost_with_it


@pytest.mark.parametrize(
    ("ended", "broker", "broken"),
    [
        ([1], [], 1),
        ([-1], [], 0),
        ([HOSTILE_SECONDS + 1], [], 0),
        ([1], [1 - BROKER_SECONDS], 0),
        ([1], [-BROKER_SECONDS], 1),
    ],
)
def test_it_notices_a_worker_that_a_message_has_ended(ended, broker, broken):
    at = {"ended_at": [OPENED + t for t in ended], "broker_struck_at": [OPENED + t for t in broker]}
    audit = auditor(hostile_at=[OPENED], **at)
    audit.ended()
    assert len(audit.account.broken) == broken


def test_the_page_shows_the_runs_that_are_recorded():
    page = (ROOT / "docs" / "measurements.md").read_text("utf-8")
    assert table(ROOT / "docs" / "chaos.jsonl") in page


def test_the_last_run_of_a_seed_is_shown_with_what_it_broke(tmp_path):
    run = dict.fromkeys(COLUMNS.values(), 1) | {"broker": "redis", "seed": "10", "broken": [], "tasks": 12345}
    runs = [run | {"broken": ["a"]}, run, run | {"seed": "9", "broken": ["a", "b"]}]
    record = tmp_path / "runs.jsonl"
    record.write_text("".join(json.dumps(run) + "\n" for run in runs))
    _, _, first, second = table(record).split("\n")
    assert first.startswith("| redis | 9 |")
    assert first.endswith("| 1.0 | a; b |")
    assert second.startswith("| redis | 10 | 12 345 | 1 |")
    assert second.endswith("| none |")
