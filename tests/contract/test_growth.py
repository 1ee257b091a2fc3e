"""Nothing stays for ever: what nobody asks for goes away, and what is needed does not."""

from __future__ import annotations

import math
import re
from importlib.resources import files

import pytest
import redis

from resilience import (
    CIRCUIT_BREAKERS,
    CircuitBreaker,
    ConfigurationError,
    Policy,
    Verdict,
    get_circuit_breaker,
)
from resilience.stores import set_default_store
from resilience.stores.failover import FailoverStore
from resilience.stores.memory import MemoryStore
from resilience.stores.redis import RedisStore, keys_of
from tests.circuits import fail, granted, names
from tests.contract.test_lot import Desk
from tests.store_user import url_of

DATABASE = 10
MONTH_MS = 30 * 86_400_000
AGES_MS = 30_000 * 86_400_000


@pytest.fixture(params=["valkey", "redis_server"], ids=["valkey", "redis"])
def port(request):
    return request.getfixturevalue(request.param).port


@pytest.fixture
def admin(port):
    with redis.Redis(port=port, db=DATABASE) as client:
        yield client


@pytest.fixture
def desk(port):
    return Desk(url_of(port, DATABASE))


def lives(admin, name):
    """Of each key there is, how long it will be there without being used, in milliseconds."""
    found = {key: admin.pttl(key) for key in keys_of(name)}
    return {
        key.rpartition("}")[2]: left if left > 0 else math.inf for key, left in found.items() if left != -2
    }


def is_a_month(left):
    return MONTH_MS - 60_000 < left <= MONTH_MS + 60_000


QUOTA = {"quota_calls": 50, "quota_seconds": 1, "quota_burst": 50, "quota_strict": True}
RATED = Policy(
    failure_threshold=2, failure_rate=0.9, min_reporters=2, max_concurrent=5, ramp_calls=1, **QUOTA
)


@pytest.mark.parametrize("policy", [Policy(failure_threshold=3), RATED], ids=["plain", "with all there is"])
def test_every_key_of_a_circuit_goes_away_a_month_after_its_last_use(desk, admin, policy):
    desk.breaker.policy = policy
    granted(desk.breaker)
    assert all(map(is_a_month, lives(admin, desk.name).values()))
    fail(desk.breaker, 2)
    desk.breaker.report(granted(desk.breaker), Verdict.HOLD, hold_seconds=9, owner="t")
    desk.park("a", "b")
    desk.forward(9)
    [first] = desk.take()
    desk.breaker.report(desk.breaker.acquire(first), Verdict.FAILURE, owner=first, max_attempts=9)
    assert min(lives(admin, desk.name).values()) > AGES_MS
    desk.breaker.reset()
    assert desk.take() == ["b"]
    granted(desk.breaker)
    desk.breaker.read()
    found = lives(admin, desk.name)
    wanted = {"", ":transitions", ":samples", ":lot:trail", ":lot:returning"}
    wanted |= {":calls", ":counted"} if policy is RATED else set()
    assert wanted <= set(found)
    assert all(map(is_a_month, found.values())), found


def test_a_call_the_shortest_way_leaves_nothing_for_ever(desk, admin):
    desk.breaker.report(granted(desk.breaker), Verdict.SUCCESS)
    admin.delete(*keys_of(desk.name))  # as by whoever removed it meanwhile
    desk.breaker.report(granted(desk.breaker), Verdict.SUCCESS)
    assert admin.hget(keys_of(desk.name)[0], "kept") is None, "or this is about another way"
    assert all(map(is_a_month, lives(admin, desk.name).values()))
    admin.delete(*keys_of(desk.name))
    permit = granted(desk.breaker)
    admin.delete(*keys_of(desk.name))
    desk.breaker.report(permit, Verdict.SUCCESS)
    assert all(map(is_a_month, lives(admin, desk.name).values()))


def test_use_renews_it(desk, admin):
    breaker = desk.breaker
    breaker.read()
    for use in (breaker.read, lambda: breaker.report(granted(breaker), Verdict.SUCCESS)):
        for key in keys_of(desk.name):
            admin.pexpire(key, 5000)
        desk.forward(3600)
        desk.store._kept.clear()  # an hour later, for this process too
        use()
        assert all(map(is_a_month, lives(admin, desk.name).values()))


def parked(desk):
    desk.park("a")


def forced(desk):
    desk.breaker.force_open(20 * 86_400)


def changed(desk):
    desk.breaker.override({"failure_threshold": 2}, 20 * 86_400)
    desk.breaker.override({"timeout_seconds": 2}, 60)


def refused(desk):
    desk.breaker.report(granted(desk.breaker), Verdict.HOLD, hold_seconds=5, reason="auth")


def retired(desk):
    desk.breaker.report(granted(desk.breaker), Verdict.HOLD, hold_seconds=5, reason="retired")


@pytest.mark.parametrize("hold", [parked, refused, retired])
def test_what_waits_and_what_only_somebody_can_end_stays(desk, admin, hold):
    fail(desk.breaker, 0)
    desk.breaker.report(granted(desk.breaker), Verdict.FAILURE, owner="t", max_attempts=9)
    desk.breaker.reset()
    hold(desk)
    desk.breaker.read()
    assert min(lives(admin, desk.name).values()) > AGES_MS
    if hold is parked:
        desk.take()
    else:
        desk.breaker.reset()
    desk.breaker.read()
    assert all(map(is_a_month, lives(admin, desk.name).values()))


@pytest.mark.parametrize("order", [forced, changed])
def test_a_circuit_stays_a_month_longer_than_an_operators_word_lasts(desk, admin, order):
    order(desk)
    desk.breaker.read()
    assert is_a_month(lives(admin, desk.name)[""] - 20 * 86_400_000)
    desk.breaker.reset()
    desk.breaker.end_override()
    assert all(map(is_a_month, lives(admin, desk.name).values()))


def test_a_hold_and_a_quotas_window_stay_a_month_longer_than_they_last(desk, admin):
    desk.breaker.policy = Policy(quota_calls=2, quota_seconds=40 * 86_400, quota_burst=2, quota_strict=True)
    permit = granted(desk.breaker)
    assert lives(admin, desk.name)[":counted"] > 70 * 86_400_000
    desk.breaker.report(permit, Verdict.HOLD, hold_seconds=50 * 86_400)
    assert lives(admin, desk.name)[""] > 79 * 86_400_000


def test_a_removed_circuit_leaves_nothing(desk, admin):
    fail(desk.breaker)
    desk.breaker.reset()
    desk.breaker.read()
    assert lives(admin, desk.name)
    assert desk.breaker.remove()
    assert lives(admin, desk.name) == {}
    assert not desk.breaker.remove(), "nothing is known of it"
    assert desk.breaker.read().trips_total == 0


def test_a_circuit_where_tasks_are_parked_is_not_removed(desk):
    desk.park("a")
    with pytest.raises(ConfigurationError, match="1 tasks are parked there: release or drop"):
        desk.breaker.remove()
    assert desk.take() == ["a"]
    assert desk.breaker.remove()


def test_who_has_seen_it_open_does_not_open_it_again(port, admin):
    url = url_of(port, DATABASE)
    stores = [FailoverStore(RedisStore(url), MemoryStore()) for _ in range(2)]
    name = next(names)
    ours, theirs = (CircuitBreaker(name, failure_threshold=1, store=store) for store in stores)
    try:
        fail(theirs)
        assert not ours.acquire()
        ours.remove()
        assert 0 < max(lives(admin, name).values()) <= 300_000, (
            "only the era, as long as somebody may remember"
        )
        assert theirs.acquire()
        assert ours.acquire()
        assert theirs.read().state == "closed"
    finally:
        for store in stores:
            store.close()


def test_what_was_registered_only_because_it_was_asked_for_is_registered_no_more():
    set_default_store(MemoryStore())
    try:
        asked, own = next(names), next(names)
        get_circuit_breaker(asked).read()
        CIRCUIT_BREAKERS[own] = CircuitBreaker(own)
        for name in (asked, own):
            get_circuit_breaker(name).remove()
        assert asked not in CIRCUIT_BREAKERS
        assert CIRCUIT_BREAKERS.pop(own)
    finally:
        set_default_store(None)


def test_what_a_script_puts_beside_the_circuit_is_noted():
    """Or a key of it would stay for ever."""
    raw = re.compile(
        r"redis\.p?call\('(?:HSET|HSETNX|HINCRBY|ZADD|RPUSH|XADD)', (?!CIRCUIT\b|KEYS\[1\])[^)]*"
    )
    for path in (files("resilience") / "lua").iterdir():
        assert raw.findall(path.read_text()) == [], path
