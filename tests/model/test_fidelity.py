"""The embedded interpreter does what a server does: random histories on both, reply by reply, key by key."""

from __future__ import annotations

import random

import pytest
import redis

from resilience.circuit import Known, Order, Reason, from_micros
from resilience.policy import Change, override_stages
from resilience.stores.redis import RedisStore
from tests.model.embedded import Embedded, Hash, SortedSet, script_names
from tests.model.world import CIRCUIT, SERVICE, START
from tests.model.worlds import POLICY, WORLDS
from tests.store_user import url_of

# They read the stream of changes for those who listen; no decision goes by it.
OF_THE_STREAM = {"transitions", "heard", "history"}
# It only looks for what somebody has marked.
OF_THE_SENDER = {"stamped"}
# An operator's, when nothing is left to decide.
OF_THE_END = {"remove"}
STEPS = 120
DATABASE = 15


class Recorder(Embedded):
    """Keeps what was run since the store was last set to a state."""

    def __init__(self, changes=()):
        super().__init__(changes)
        self.calls = []
        restore = self.keyspace.restore

        def restored(snapshot):
            self.calls.clear()
            restore(snapshot)

        self.keyspace.restore = restored

    def run(self, name, service, *arguments):
        reply = super().run(name, service, *arguments)
        self.calls.append((self.now, name, arguments, reply))
        return reply

    run_confirmed = run


def others(store, chance, now):
    """What the steps of a world do not use."""
    known = Known(chance.randrange(8), from_micros(now + 3_000_000), Reason.FAILURES)
    laid = {"timeout_seconds": Change(4, now + 5_000_000), "max_concurrent": Change(2, now + 8_000_000)}
    stages = override_stages(POLICY, laid)
    return chance.choice(
        [
            lambda: store.read([SERVICE]),
            lambda: store.lot.waiting(SERVICE, 2, 0),
            lambda: store.lot.on_demand(SERVICE, 2, 0),
            lambda: store.remind(SERVICE, known),
            lambda: store.override(SERVICE, chance.choice([None, ""]), stages, "why", "who"),
            lambda: store.override(SERVICE, None, (), "why", "who"),
            lambda: store.restore(SERVICE, Order("open", now + 4_000_000, "why", "who"), stages, "", ""),
            lambda: store.restore(SERVICE, None, stages, "why", "who"),
            lambda: store.forget(SERVICE, chance.choice("abcd")),
            lambda: store.lot.pick(SERVICE, 1),
            lambda: store.scripts.run("renew", SERVICE, "", "", "2", "1", 1000),
        ]
    )


def history(world, seed):
    """One way through a world, at random, and what the store was asked on it."""
    world.scripts = world.store.scripts = world.lot._scripts = Recorder()
    chance, state = random.Random(seed), world.start  # noqa: S311 - a test's
    told = []
    for _ in range(STEPS):
        ways = []
        for _, after in world.steps(state):
            ways.append((after, [] if after.keys is state.keys else list(world.scripts.calls)))
        if not ways:
            return told, state.keys
        state, calls = chance.choice(ways)
        told += calls
        if chance.random() < 0.1:
            world.scripts.keyspace.restore(state.keys)
            world.scripts.now = state.now
            others(world.store, chance, state.now)()
            told += world.scripts.calls
            state = state._replace(keys=world.scripts.keyspace.snapshot())
    return told, state.keys


def plain(name, reply):
    """Where a server promises no order, none is asked for."""
    if name == "read":
        return reply[:7], dict(zip(reply[7::2], reply[8::2], strict=True))
    return sorted(reply) if name == "away" else reply


def dumped(client):
    """All keys, as the embedded keyspace has them."""
    found = {}
    for raw in client.scan_iter(f"{CIRCUIT}*"):
        key, kind = raw.decode(), client.type(raw)
        if kind == b"hash":
            found[key] = Hash({name.decode(): value.decode() for name, value in client.hgetall(raw).items()})
        elif kind == b"zset":
            pairs = client.zrange(raw, 0, -1, withscores=True)
            found[key] = SortedSet({member.decode(): score for member, score in pairs})
        elif kind == b"list":
            found[key] = [text.decode() for text in client.lrange(raw, 0, -1)]
    return found


@pytest.mark.parametrize("server", ["valkey", "redis_server"])
def test_random_histories_are_the_same_on_a_server(request, server):
    port, now = request.getfixturevalue(server).port, START
    admin = redis.Redis(port=port, db=DATABASE)
    store = RedisStore(url_of(port, DATABASE), lambda: now)
    used = set()
    for name, make in WORLDS.items():
        for seed in range(8):
            admin.flushdb()
            told, keys = history(make(), seed)
            for now, script, arguments, reply in told:  # noqa: B007 - the clock is moved
                again = store.scripts.run(script, SERVICE, *arguments)
                assert plain(script, again) == plain(script, reply), (name, seed, script, arguments)
                used.add(script)
            assert dumped(admin) == keys, (name, seed)
    assert used == set(script_names()) - OF_THE_STREAM - OF_THE_SENDER - OF_THE_END
