"""A policy that cannot work is refused with the field, the value and the remedy."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest

from resilience import ConfigurationError, Policy
from resilience.policy import effective, override_text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"failure_threshold": 0}, "failure_threshold=0: give a whole number from 1 to 10000000"),
        ({"failure_threshold": True}, "failure_threshold=True: give a whole number"),
        ({"timeout_seconds": -1}, "timeout_seconds=-1: give seconds from 0.001"),
        ({"timeout_seconds": float("inf")}, "timeout_seconds=inf: give seconds"),
        ({"half_open_max_calls": 1.5}, "half_open_max_calls=1.5: give a whole number"),
        ({"jitter": 2}, "jitter=2: give a fraction from 0 to 1"),
        ({"failure_rate": 0}, "failure_rate=0: give a fraction, more than 0 and at most 1, or None"),
        ({"failure_rate": "50%"}, "failure_rate='50%': give a fraction"),
        ({"window_seconds": None}, "window_seconds=None: give seconds"),
        ({"minimum_calls": 0}, "minimum_calls=0"),
        ({"observe_only": 1}, "observe_only=1: give true or false"),
        ({"max_concurrent": 0}, "max_concurrent=0: give a whole number from 1 to 10000000, or None"),
        ({"probe_seconds": 31}, "call_seconds=30 is less than probe_seconds=31: raise call_seconds or lower"),
        ({"quota_calls": 5}, "quota_calls=5 means nothing without quota_seconds: give both, or neither"),
        (
            {"quota_calls": 20_000, "quota_seconds": 5, "quota_strict": True},
            "quota_calls=20000 are too many to keep one by one: give at most 10000",
        ),
        ({"quota_seconds": 5}, "quota_seconds=5 means nothing without quota_calls"),
        ({"slow_call_rate": 0.5}, "slow_call_rate=0.5 means nothing without slow_call_seconds"),
    ],
)
def test_refused(fields, said):
    with pytest.raises(ConfigurationError) as caught:
        Policy(**fields)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("cap", "jitter", "seconds"),
    [
        (None, 0, [60, 60, 60, 60]),
        (None, 1, [60, 60, 60, 60]),
        (200, 0, [60, 120, 200, 200]),
        (200, 0.5, [60, 90, 130, 130]),  # half of what doubling adds, at the worst
        (200, 1, [60, 60, 60, 60]),
        (5, 0.5, [60, 60, 60, 60]),  # a cap takes nothing off the first time
    ],
)
def test_an_open_time_doubles_up_to_its_cap_and_jitter_takes_of_that_alone(cap, jitter, seconds):
    policy = Policy(timeout_seconds=60, timeout_cap_seconds=cap, jitter=jitter)
    assert [policy.open_micros(reopened, 1) / 1e6 for reopened in (0, 1, 2, 1000)] == seconds
    unlucky = replace(policy, jitter=0)
    assert [policy.open_micros(n, 0) for n in range(5)] == [unlucky.open_micros(n, 1) for n in range(5)]


def test_a_time_longer_than_the_cap_in_force_can_be_set():
    doubling = Policy(timeout_cap_seconds=600)
    assert doubling.changed({"timeout_seconds": 3600}).open_micros(3, 0.5) == 3_600_000_000


def test_it_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().failure_threshold = 3


def test_rules_that_are_not_there_do_not_travel():
    assert set(json.loads(Policy().wire)) == {
        *("threshold", "timeout", "probes", "successes", "lease", "probe_lease", "most", "bytes", "age"),
    }


def test_an_override_is_its_outcome_whoever_reads_it():
    text = override_text(Policy(failure_threshold=5), {"timeout_seconds": 7})
    assert effective(Policy(failure_threshold=9), text) == Policy(failure_threshold=5, timeout_seconds=7)
    assert effective(Policy(failure_threshold=9), "") == Policy(failure_threshold=9)


def test_a_field_of_a_later_release_is_left_out():
    told = json.loads(override_text(Policy(), {"timeout_seconds": 7}))
    told["policy"]["of_tomorrow"] = 1
    assert effective(Policy(), json.dumps(told)) == Policy(timeout_seconds=7)
