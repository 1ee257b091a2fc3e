"""The store's clock is set back, or leaps ahead for some seconds: nothing lasts longer or ends by it."""

from __future__ import annotations

import pytest

from resilience import CircuitState, Verdict
from resilience.parking import RELEASE_LEASE_SECONDS, Lane
from resilience.policy import LEASE_GRACE_SECONDS
from resilience.stores.redis import RedisStore
from tasks.reading import _TAKE_OFF
from tests.circuits import fail, granted
from tests.contract.test_lot import Desk
from tests.store_user import url_of

HOUR, DAY = 3600, 86_400


class TwoClocks(Desk):
    """A desk whose store has a clock of its own: time passes on both, and one may be set."""

    def __init__(self, url: str, *, known: bool = True, **policy: object) -> None:
        super().__init__(url, **{"call_seconds": 2, **policy})
        self.here = self.now
        self.store = RedisStore(url, lambda: f"{self.now}~{self.here}")
        self.breaker._store = self.store
        if known:
            self.store.read([self.name])

    def forward(self, seconds: float) -> None:
        super().forward(seconds)
        self.here += round(seconds * 1_000_000)

    def set_clock(self, seconds: float) -> None:
        """The store's alone."""
        super().forward(seconds)


@pytest.fixture(params=["valkey", "redis_server"], ids=["valkey", "redis"])
def url(request):
    return url_of(request.getfixturevalue(request.param).port, 9)


def passes(desk):
    return bool(desk.breaker.acquire())


def a_leader_is_late(desk):
    return any(leader.late for leader in desk.store.lot.away(desk.name, 10, 5.0))


def opened(desk):
    desk.trip()
    return passes


def forced(desk):
    desk.breaker.force_open(10)
    return passes


def overridden(desk):
    desk.breaker.override({"max_concurrent": 1}, 10)
    granted(desk.breaker)
    return passes


def probed(desk):
    desk.trip()
    desk.forward(10)
    assert granted(desk.breaker).probe
    return passes


def held_open(desk):
    desk.breaker.report(granted(desk.breaker), Verdict.HOLD, hold_seconds=10)
    return passes


def of_one_at_a_time(desk):
    granted(desk.breaker)
    return passes


def of_a_quota(desk):
    while passes(desk):
        pass
    return passes


def leased(desk):
    desk.park("a")
    desk.store.lot.take(desk.name, desk.breaker.policy, 10)
    return lambda desk: bool(desk.store.lot.take(desk.name, desk.breaker.policy, 10)[1])


def paused(desk):
    desk.park("a", delay_seconds=10)
    return lambda desk: bool(desk.store.lot.take(desk.name, desk.breaker.policy, 10)[1])


def followed(desk):
    desk.park("a", "b", group="g")
    assert desk.take() == ["a"]
    return a_leader_is_late


STRICT = {"quota_calls": 2, "quota_seconds": 10, "quota_burst": 2, "quota_strict": True}
#: What ends after so many seconds, under which policy.
KINDS = {
    "an open circuit": (opened, 10, {}),
    "a hold": (held_open, 10, {}),
    "forced open": (forced, 10, {}),
    "changes of the policy": (overridden, 10, {"call_seconds": 60}),
    "a killed prober's lease": (probed, 2 + LEASE_GRACE_SECONDS, {}),
    "a killed holder's lease": (of_one_at_a_time, 2 + LEASE_GRACE_SECONDS, {"max_concurrent": 1}),
    "a quota": (of_a_quota, 10, {"quota_calls": 1, "quota_seconds": 10, "quota_burst": 1}),
    "a strict quota": (of_a_quota, 12 + LEASE_GRACE_SECONDS, STRICT),
    "a dead releaser's lease": (leased, RELEASE_LEASE_SECONDS, {}),
    "a task's own pause": (paused, 10, {}),
    "a leader nobody hears of": (followed, 5, {}),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.mark.parametrize("back", [HOUR, 600, DAY], ids=["an hour", "ten minutes", "a day"])
def test_set_back_what_had_so_long_left_has_so_long_left(url, kind, back):
    make, seconds, policy = kind
    desk = TwoClocks(url, **policy)
    over = make(desk)
    desk.set_clock(-back)
    assert not over(desk)
    desk.forward(seconds - 0.1)
    assert not over(desk)
    desk.forward(0.2)
    assert over(desk)


def test_what_was_over_by_the_callers_clock_when_somebody_looks_again_is_over(url, kind):
    make, seconds, policy = kind
    desk = TwoClocks(url, **policy)
    over = make(desk)
    desk.set_clock(-HOUR)
    desk.forward(seconds + 0.1)
    if make is of_a_quota:  # the callers' clocks make it no shorter
        assert not over(desk)
        desk.forward(seconds)
    assert over(desk)


def test_a_day_ahead_for_six_seconds_nothing_ends(url, kind):
    make, seconds, policy = kind
    desk = TwoClocks(url, **policy)
    over = make(desk)
    desk.set_clock(DAY)
    for _ in range(6):
        assert not over(desk), "in the leap"
        desk.forward(seconds / 8)
    desk.set_clock(-DAY)
    assert not over(desk), "set right again"
    desk.forward(seconds / 4 - 0.1)
    assert not over(desk)
    desk.forward(0.2)
    assert over(desk), "no later than without"


def test_set_back_for_a_while_and_set_right_nothing_ends(url, kind):
    make, seconds, policy = kind
    desk = TwoClocks(url, **policy)
    over = make(desk)
    desk.set_clock(-HOUR)
    assert not over(desk)
    desk.forward(seconds / 4)
    assert not over(desk)
    desk.set_clock(HOUR)
    for _ in range(2):
        assert not over(desk), "set right again"
        desk.forward(seconds / 4)
    assert not over(desk)
    desk.forward(seconds / 4 + 1.1)
    assert over(desk), "no later than without"


def test_what_is_shut_while_the_clock_is_ahead_is_so_no_longer_than_it_was_told(url):
    desk = TwoClocks(url)
    unseen = TwoClocks(url, known=False)
    for one in (desk, unseen):
        one.set_clock(DAY)
        one.trip()
        one.set_clock(-DAY)
        assert not passes(one)
        one.forward(10)
        assert passes(one)


def test_a_clock_that_stays_ahead_for_a_minute_is_the_time(url):
    desk = TwoClocks(url)
    desk.breaker.force_open(HOUR)
    desk.set_clock(DAY)
    assert desk.state is CircuitState.FORCED_OPEN
    desk.forward(59.9)
    assert desk.state is CircuitState.FORCED_OPEN
    desk.forward(0.1)
    assert desk.state is CircuitState.CLOSED


def test_a_silence_that_the_callers_clock_confirms_is_no_leap(url):
    desk = TwoClocks(url)
    desk.breaker.force_open(HOUR)
    desk.forward(DAY)
    assert passes(desk)


def test_the_ramp_goes_on_where_it_was(url):
    def paces(desk, jump):
        desk.trip()
        desk.forward(10)
        desk.breaker.report(granted(desk.breaker), Verdict.SUCCESS)
        desk.forward(3)
        passes(desk)
        desk.set_clock(jump)
        found = []
        for _ in range(40):
            found.append(passes(desk))
            desk.forward(0.05)
        return found

    plain, back, ahead = (paces(TwoClocks(url, ramp_calls=1), jump) for jump in (0, -HOUR, DAY))
    assert plain == back == ahead
    assert any(plain)
    assert not all(plain)


def test_no_task_ends_by_one_clock_alone(url):
    desk = TwoClocks(url, max_parked_seconds=DAY)
    desk.breaker.force_open(30 * DAY)
    desk.park("a", expires="2027-01-15T09:00:00+00:00")  # in an hour
    desk.park("b")

    def ended():
        _, found = desk.store.lot.take_expired(desk.name, desk.breaker.policy, 10)
        return {why: [message.id for message in some] for why, some in found.items() if some}

    desk.set_clock(2 * DAY)
    for _ in range(20):  # it stays so: not even then
        desk.forward(10)
        assert ended() == {}
    desk.set_clock(-2 * DAY)
    assert ended() == {}
    desk.forward(HOUR)
    assert ended() == {"expired": ["a"]}
    desk.here -= 2 * DAY * 1_000_000  # a worker whose clock is behind
    desk.forward(DAY)
    assert ended() == {}
    desk.here += 2 * DAY * 1_000_000
    desk.forward(60)  # so long the one before made it look like a leap
    assert ended() == {"overdue": ["b"]}


def test_what_was_parked_by_a_clock_that_was_behind_has_not_waited_longer(url):
    desk = TwoClocks(url, max_parked_seconds=DAY / 2)
    desk.breaker.force_open(30 * DAY)
    desk.set_clock(-DAY)
    desk.park("a")
    desk.set_clock(DAY)
    for _ in range(20):
        desk.forward(10)
        assert not any(desk.store.lot.take_expired(desk.name, desk.breaker.policy, 10)[1].values())


@pytest.mark.parametrize("jump", [DAY + HOUR, -HOUR], ids=["ahead", "back"])
def test_what_a_task_has_been_through_is_not_forgotten(url, jump):
    desk = TwoClocks(url, failure_threshold=9)
    desk.breaker.report(granted(desk.breaker), Verdict.FAILURE, owner="a", max_attempts=5)
    desk.set_clock(jump)
    desk.park("b")
    desk.take()
    desk.forward(1)
    desk.set_clock(-jump)
    assert (
        desk.breaker.report(granted(desk.breaker), Verdict.FAILURE, owner="a", max_attempts=5).attempts == 2
    )


def test_set_back_what_is_asked_for_on_demand_still_is_the_first_probe(url):
    desk = TwoClocks(url)
    desk.trip()
    desk.park("s")
    desk.set_clock(-HOUR)
    desk.park("d", lane=Lane.ON_DEMAND)
    desk.forward(10)
    assert desk.take() == ["d"]


def test_set_back_the_history_has_no_time_to_come(url):
    desk = TwoClocks(url)
    for _ in range(3):
        desk.breaker.read()
        desk.forward(60)
    desk.set_clock(-HOUR)
    fail(desk.breaker)
    found = desk.store.history([desk.name], 5)[desk.name]
    assert all(row.since <= row.until <= found.now for row in found.outcomes())
    circuit = desk.breaker.read()
    assert circuit.since <= circuit.read_at
    assert circuit.last_failure <= circuit.read_at


def test_a_strict_quota_is_kept_over_a_leap(url):
    """Nor may it be used again by the clock that came back."""
    desk = TwoClocks(url, **STRICT)
    calls = 0
    for jump in (DAY, -DAY, 0, DAY, -DAY):
        desk.set_clock(jump)
        for _ in range(5):
            calls += passes(desk)
        desk.forward(1)
    assert calls == 2


def test_a_refresh_under_way_is_waited_for_no_longer_than_its_length(url):
    """Its key would expire a day later where the clock is set back by one."""
    scripts, key = RedisStore(url).scripts, "refresh:1:quote:CLOCK:"
    scripts.evaluate("return redis.call('SET', KEYS[1], 'first', 'EX', ARGV[1])", (key,), HOUR + DAY)
    assert scripts.evaluate(_TAKE_OFF, (key,), "second", "", HOUR) == b"first"
    assert scripts.evaluate("return redis.call('TTL', KEYS[1])", (key,)) <= HOUR
    scripts.evaluate("return redis.call('DEL', KEYS[1])", (key,))
