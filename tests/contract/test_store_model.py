"""Random histories, step by step on both machines: the Lua on a real server and the Python must agree."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from resilience import CircuitBreaker, CircuitState, Permit, Policy, Reason, Verdict
from resilience.circuit import LOST, Finding, Known, Order, from_micros
from resilience.policy import Change, override_stages
from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore

names = (f"model-{n}" for n in itertools.count())
BASE = Policy(failure_threshold=3, timeout_seconds=10, half_open_max_calls=2, call_seconds=3)
POLICIES = [
    *(
        replace(BASE, failure_threshold=threshold, half_open_max_calls=limit)
        for threshold in (1, 3)
        for limit in (1, 2, 3)
    ),
    replace(BASE, failure_threshold=100, failure_rate=0.5, minimum_calls=3, window_seconds=10),
    replace(BASE, slow_call_seconds=0.4, slow_call_rate=0.6, minimum_calls=2, window_seconds=30),
    replace(BASE, min_reporters=2, window_seconds=4, timeout_cap_seconds=25),
    replace(BASE, failure_threshold=1, half_open_max_calls=1, timeout_cap_seconds=5),
    replace(BASE, quota_calls=3, quota_seconds=10, quota_burst=2, probe_seconds=1),
    replace(BASE, quota_calls=3, quota_seconds=10, quota_burst=2, quota_strict=True),
    replace(BASE, max_concurrent=2, half_open_max_calls=3, half_open_successes=1),
    replace(BASE, ramp_calls=2, half_open_max_calls=1),
    replace(BASE, ramp_calls=3, quota_calls=2, quota_seconds=1, failure_threshold=2, half_open_max_calls=1),
    replace(BASE, failure_threshold=1, observe_only=True, quota_calls=1, quota_seconds=1),
]
CHANGES = [{}, {"failure_threshold": 1}, {"max_concurrent": 1, "observe_only": False}, {"observe_only": True}]
OWNERS = ["", "task-a", "task-b"]
KEYS = ["", "key-1", "key-2"]
HOSTS = ["host-1", "host-2"]
# What a call was about, and whether that is a guess.
ABOUT = [("", False), *itertools.product(("this", "that"), (True, False))]


class BothMachines(RuleBasedStateMachine):
    """One history, two machines."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_800_000_000_000_000
        self.redis = RedisStore(self.url, lambda: self.now)
        self.name = next(names)
        self.policy = POLICIES[0]
        self.key = ""
        self.stores = (self.redis, MemoryStore(lambda: self.now))
        self.out: list[tuple[object, ...]] = []

    def both(self, act):
        return [
            act(CircuitBreaker(self.name, store=store, policy=self.policy, key=self.key))
            for store in self.stores
        ]

    @rule(policy=st.sampled_from(POLICIES))
    def another_policy(self, policy):
        self.policy = policy

    @rule(key=st.sampled_from(KEYS))
    def another_key(self, key):
        self.key = key

    @rule(owner=st.sampled_from(OWNERS))
    def acquire(self, owner):
        ours, theirs = self.both(lambda breaker: breaker.acquire(owner))
        assert replace(ours, token="", shared=False) == replace(theirs, token="", shared=False)
        if ours:
            self.out.append((ours, theirs))
        else:
            assert ours.reason is not None
            assert ours.retry_at > self.redis.read([self.name])[self.name].read_at

    @precondition(lambda self: self.out)
    @rule(
        data=st.data(),
        verdict=st.sampled_from(Verdict),
        hold=st.sampled_from([0.5, 20]),
        reason=st.sampled_from([None, Reason.QUOTA, Reason.AUTH, Reason.TURNED_AWAY]),
        owner=st.sampled_from(OWNERS),
        host=st.sampled_from(HOSTS),
        about=st.sampled_from(ABOUT),
        keep=st.booleans(),
    )
    def report(self, data, verdict, hold, reason, owner, host, about, keep):
        place = data.draw(st.integers(0, len(self.out) - 1))
        permits = self.out[place] if keep else self.out.pop(place)  # kept: reported twice, as after a fault
        said = f"{host} says {verdict}"
        finding = Finding(verdict, hold, reason, owner, 3, self.key, host, said, *about)
        reports = [
            store.report(permit, self.policy, finding)
            for store, permit in zip(self.stores, permits, strict=True)
        ]
        assert reports[0] == reports[1]

    @rule(owner=st.sampled_from(OWNERS), about=st.sampled_from(ABOUT))
    def a_process_is_lost(self, owner, about):
        subject, guessed = about
        lost = Permit(granted=True, service=self.name, state=CircuitState.CLOSED, generation=LOST)
        ours, theirs = self.both(
            lambda breaker: breaker.report(
                replace(lost, untold=[None]),
                "failure",
                owner=owner,
                max_attempts=3,
                subject=subject,
                guessed=guessed,
            )
        )
        assert ours == theirs

    @rule(seconds=st.sampled_from([0.000001, 0.4, 1, 3, 4.999999, 5, 9.999999, 10, 30]))
    def time_passes(self, seconds):
        self.now += round(seconds * 1_000_000)

    @rule(act=st.sampled_from(["force_open", "force_close", "disable"]), seconds=st.sampled_from([1, 5, 20]))
    def an_operator_speaks(self, act, seconds):
        self.both(lambda breaker: getattr(breaker, act)(seconds, "why", "who"))

    @rule()
    def an_operator_resets(self):
        self.both(lambda breaker: breaker.reset())

    @rule(changes=st.sampled_from(CHANGES), seconds=st.sampled_from([1, 5, 20]))
    def an_operator_changes_the_policy(self, changes, seconds):
        self.both(
            lambda breaker: (
                breaker.override(changes, seconds, "why", "who")
                if changes
                else breaker.end_override("why", "who")
            )
        )

    @rule(
        act=st.sampled_from(["open", "closed", "disabled", ""]),
        changes=st.sampled_from(CHANGES),
        seconds=st.sampled_from([-1, 3, 8]),
    )
    def a_process_tells_what_an_operator_had_said(self, act, changes, seconds):
        until = self.now + seconds * 1_000_000
        order = Order(act, until, "why", "who") if act else None
        laid = {name: Change(value, until + 2_000_000 * n) for n, (name, value) in enumerate(changes.items())}
        for store in self.stores:
            store.restore(self.name, order, override_stages(BASE, laid), "note", "actor")

    @rule(ahead=st.sampled_from([-1, 0, 1, 5]), seconds=st.sampled_from([-1, 3]), key=st.sampled_from(KEYS))
    def a_process_reminds(self, ahead, seconds, key):
        generation = self.redis.read([self.name])[self.name].generation + ahead
        when = from_micros(self.now + seconds * 1_000_000)
        for store in self.stores:
            store.remind(self.name, Known(generation, when, Reason.AUTH if key else Reason.FAILURES, key))

    @rule()
    def listeners_hear(self):
        ours, theirs = (store.transitions([self.name]) for store in self.stores)
        assert [replace(change, id="") for change in ours] == theirs
        self.redis.heard(ours)

    @invariant()
    def they_agree(self):
        ours, theirs = (store.read([self.name])[self.name] for store in self.stores)
        assert replace(ours, shared=False) == theirs
        assert ours.in_flight + ours.successes <= 3

    def teardown(self):
        self.listeners_hear()


@pytest.mark.slow
@pytest.mark.parametrize(("server", "examples"), [("valkey", 150), ("redis_server", 60)])
def test_random_histories_agree(request, server, examples):
    url = f"redis://127.0.0.1:{request.getfixturevalue(server).port}/7"
    machine = type("Machine", (BothMachines,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
