"""A foreign Celery app, as a user would write one, with a provider that can be broken through Redis.

The provider lives in the store's server as plain keys, outside the layer under test:
``mode:<service>`` is ok, down, hang, or slow, which lasts as long as it is;
``calls:<service>`` lists the task id of every call it received, ``times:<service>`` when, in microseconds;
``inflight:<service>`` and ``peak:<service>`` count those at once; ``done`` lists the ids that succeeded.
With ``limit:<service>`` set, more calls than that within a second make it collapse: it is down for a
second, and then for another if there are still too many.
"""

import functools
import json
import os
import signal
import time
from typing import Any

import redis
from celery import Celery
from celery.exceptions import MaxRetriesExceededError
from celery.signals import task_retry
from kombu.entity import Exchange, Queue

from resilience import (
    CIRCUIT_BREAKERS,
    CircuitBreaker,
    Policy,
    Reason,
    ResilientTask,
    Transition,
    Verdict,
    coalescing,
    install,
    on_transition,
)
from resilience.stores import redis as redis_store
from resilience.task import Outcome

BROKER = os.environ["FLEET_BROKER"]
provider = redis.Redis.from_url(os.environ["FLEET_PROVIDER"])

app = Celery("fleet", broker=BROKER, backend=os.environ["FLEET_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": float(os.environ.get("FLEET_VISIBILITY", "3600")),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # Who restores holds a lock, and may be killed with it; kombu's own lasts 300 s.
        "unacked_mutex_expire": 3,
    },
    task_default_queue="work",
    result_expires=float(os.environ.get("FLEET_EXPIRES", "86400")),
    # A test that has lost its server gives up at once.
    result_backend_transport_options={"retry_policy": {"max_retries": 1, "timeout": 1.0}},
    task_track_started=False,
    result_extended="FLEET_EXTENDED" in os.environ,
    worker_deduplicate_successful_tasks="FLEET_DEDUPLICATE" in os.environ,
    worker_send_task_events=True,
    worker_prefetch_multiplier=4,
)
# Its tasks have a queue of their own, or share that of all others.
QUEUES = ["work", "dead"] if os.environ.get("FLEET_OWN_QUEUE") else ["work"]
if "dead" in QUEUES:
    app.conf.task_routes = {"fleet.fetch": {"queue": "dead"}}
if BROKER.startswith("amqp"):
    # As workers/celery.py has it: with Celery's own exchange, direct, a quorum queue stands still.
    exchange = Exchange("fleet", type="topic")
    app.conf.update(
        task_queues=[
            Queue(name, exchange, routing_key=name, queue_arguments={"x-queue-type": "quorum"})
            for name in QUEUES
        ],
        task_default_exchange="fleet",
        task_default_exchange_type="topic",
        task_default_routing_key="work",
        broker_transport_options={"confirm_publish": True},
    )
elif os.environ.get("FLEET_TOPIC"):  # as in Celery's routing guide
    exchange = Exchange("tasks", type="topic")
    app.conf.update(
        task_queues=[Queue(name, exchange, routing_key=f"{name}.#") for name in ("default", "work")],
        task_default_exchange="tasks",
        task_default_exchange_type="topic",
        task_routes={"fleet.*": {"queue": "work", "routing_key": "work.import"}},
    )
else:
    app.conf.task_queues = [Queue(name, Exchange(name), routing_key=name) for name in QUEUES]
# What is measured is what the store costs, not how soon a busy machine misses it.
if "FLEET_SOCKET" in os.environ:
    redis_store.SOCKET_SECONDS = float(os.environ["FLEET_SOCKET"])
install(app, store=os.environ["FLEET_STORE"])
coalescing.PATIENCE_SECONDS = float(os.environ.get("FLEET_PATIENCE", "60"))
# Tests import this module once per fleet; a shared task would end up in all their apps.
task = functools.partial(app.task, shared=False)

# A fleet of many providers, each with a task of its own.
MANY = [f"service{number}" for number in range(int(os.environ.get("FLEET_SERVICES", "0")))]
for name in ("dead", "other", *MANY):
    CIRCUIT_BREAKERS[name] = CircuitBreaker(
        name,
        policy=Policy(
            failure_threshold=int(os.environ.get("FLEET_THRESHOLD", "5")),
            timeout_seconds=float(os.environ.get("FLEET_TIMEOUT", "2")),
            half_open_max_calls=int(os.environ.get("FLEET_PROBES", "3")),
            call_seconds=float(os.environ.get("FLEET_CALL", "10")),
        ).changed(json.loads(os.environ.get("FLEET_POLICY", "{}"))),
        key=os.environ.get("FLEET_KEY", ""),
    )


@on_transition
def note(change: Transition) -> None:
    """Tell the test what this process was told."""
    provider.rpush("heard", f"{change.service} {change.before} {change.after} {change.at.isoformat()}")


@on_transition
def fail(change: Transition) -> None:
    """A listener with a fault, which is nobody else's."""
    raise RuntimeError(change.service)


class BadKeyError(Exception):
    """The provider refuses this worker's key."""


class KeyedTask(ResilientTask):
    """Knows a refused key from a failure."""

    abstract = True

    def judge(self, error: Exception) -> Outcome:
        """A refused key is a hold of its own kind."""
        if isinstance(error, BadKeyError):
            return Outcome(Verdict.HOLD, hold_seconds=60, reason=Reason.AUTH)
        return super().judge(error)


class UnknownSymbolError(Exception):
    """The provider's answer is no."""


class SymbolTask(ResilientTask):
    """Knows a no from a failure; whoever asks the same has the same answer."""

    abstract = True
    coalesce = True

    def judge(self, error: Exception) -> Outcome:
        """The provider has answered, and the task is over."""
        if isinstance(error, UnknownSymbolError):
            return Outcome(Verdict.SUCCESS, ends=True)
        return super().judge(error)


class HookedTask(ResilientTask):
    """Tells of each of its hooks, and whose task it was called for; they raise where the test says so."""

    abstract = True
    coalesce = True

    def _tell(self, what: str, task_id: str) -> None:
        whose = "" if self.request.id == task_id else f", in the name of {self.request.id}"
        provider.rpush("hooks", f"{task_id} {what}{whose}")
        while provider.get("hooks:slow"):
            time.sleep(0.02)
        if provider.get("hooks:raise"):
            raise RuntimeError(what)

    def on_success(self, retval: object, task_id: str, args: object, kwargs: object) -> None:  # noqa: ARG002
        """As Celery calls it."""
        self._tell("on_success", task_id)

    def on_failure(self, exc: object, task_id: str, args: object, kwargs: object, einfo: object) -> None:  # noqa: ARG002
        """As Celery calls it."""
        self._tell(f"on_failure {type(exc).__name__}", task_id)

    def after_return(self, status: str, retval: object, task_id: str, *rest: object) -> None:  # noqa: ARG002
        """As Celery calls it."""
        self._tell(f"after_return {status}", task_id)


# One call arrives. Returns 1 if the provider has collapsed.
RECEIVE = provider.register_script("""
local service, id = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local number = redis.call('RPUSH', 'calls:' .. service, id)
redis.call('RPUSH', 'times:' .. service, string.format('%.0f', now))
local inflight = redis.call('INCR', 'inflight:' .. service)
if inflight > tonumber(redis.call('GET', 'peak:' .. service) or 0) then
  redis.call('SET', 'peak:' .. service, inflight)
end
local limit = tonumber(redis.call('GET', 'limit:' .. service) or nil)
if not limit then
  return 0
end
local recent = 'recent:' .. service
redis.call('ZADD', recent, now, number)
redis.call('ZREMRANGEBYSCORE', recent, '-inf', now - 1000000)
if redis.call('ZCARD', recent) > limit then
  if redis.call('SET', 'collapsed:' .. service, now, 'PX', 1000, 'GET') == false then
    redis.call('INCR', 'collapses:' .. service)
  end
end
return redis.call('EXISTS', 'collapsed:' .. service)
""")


def call(service: str, task_id: str, seconds: float) -> None:
    """One call to the provider."""
    collapsed = RECEIVE(args=(service, task_id))
    try:
        time.sleep(seconds)
        mode = (provider.get(f"mode:{service}") or b"ok").decode()
        if collapsed:
            raise ConnectionError(f"{service} has collapsed")
        if mode == "once":  # well for one call
            provider.set(f"mode:{service}", "hang")
        if mode == "hang":
            provider.rpush("pids", os.getpid())
            time.sleep(3600)
        while mode == "slow":
            time.sleep(0.02)
            mode = (provider.get(f"mode:{service}") or b"ok").decode()
        if mode == "down":
            raise ConnectionError(f"{service} is down")
    finally:
        provider.decr(f"inflight:{service}")


@task(bind=True, base=ResilientTask, service="dead", name="fleet.fetch", backoff_seconds=0.5)
def fetch(self: ResilientTask, number: int, seconds: float = 0, ballast: str = "") -> int:  # noqa: ARG001 - ballast makes a message large
    """A call to the provider that may be dead."""
    if app.conf.worker_deduplicate_successful_tasks and self.AsyncResult(self.request.id).successful():
        provider.rpush("again", self.request.id)  # although it had ended well
    call("dead", self.request.id, seconds)
    provider.rpush("done", self.request.id)
    return number


@task(bind=True, base=KeyedTask, service="dead", name="fleet.keyed")
def keyed(self: ResilientTask, number: int) -> int:
    """A call with this worker's key."""
    key = os.environ.get("FLEET_KEY", "")
    provider.rpush("keys", key)
    if provider.sismember("refused", key):
        raise BadKeyError
    provider.rpush("done", self.request.id)
    return number


@task(bind=True, base=SymbolTask, service="dead", name="fleet.quote", backoff_seconds=0.2)
def quote(self: ResilientTask, symbol: str) -> list[str]:
    """Everybody's question; tells who has asked."""
    call("dead", self.request.id, 0)
    if provider.sismember("unknown", symbol):
        raise UnknownSymbolError(symbol, 404)
    provider.rpush("done", self.request.id)
    return [symbol, self.request.id]


@task(bind=True, base=SymbolTask, services=("dead", "other"), name="fleet.quote_of_any", backoff_seconds=0.2)
def quote_of_any(self: ResilientTask, symbol: str) -> list[str]:
    """The same of two providers; tells which it was."""
    call(self.request.service, self.request.id, 0)
    return [symbol, self.request.service]


@task(bind=True, base=ResilientTask, service="dead", name="fleet.ask", lane="on_demand")
def ask(self: ResilientTask, number: int) -> int:
    """The same, on demand."""
    call("dead", self.request.id, 0)
    provider.rpush("done", self.request.id)
    return number


@task(bind=True, base=ResilientTask, services=("dead", "other"), name="fleet.either", lane="on_demand")
def either(self: ResilientTask, only: str | None = None) -> str:  # noqa: ARG001 - see candidates
    """A call to the first of two providers that may be asked; tells which it was."""
    service = str(self.request.service)  # type: ignore[attr-defined]  # set by ResilientTask
    call(service, self.request.id, 0)
    provider.rpush("done", self.request.id)
    return service


def candidates(only: str | None = None) -> str | tuple[str, ...]:
    """The one its caller insists on, or both."""
    return only or ("dead", "other")


either.candidates = candidates  # as an override in a class of its own


@task(bind=True, base=HookedTask, service="dead", name="fleet.hooked", max_attempts=1, backoff_seconds=0.2)
def hooked(self: ResilientTask, number: int) -> list[object]:
    """A call whose end somebody waits for by other means than its result."""
    call("dead", self.request.id, 0)
    if number < 0:
        raise ValueError(number)
    return [number, self.request.id]


@task(bind=True, base=ResilientTask, service="dead", name="fleet.limited", time_limit=1, backoff_seconds=0.1)
def limited(self: ResilientTask) -> None:
    """A call under Celery's own hard limit, which ends its process."""
    call("dead", self.request.id, 0)


@task(bind=True, base=ResilientTask, service="dead", name="fleet.poison", backoff_seconds=0.2)
def poison(self: ResilientTask) -> None:
    """Takes its process down, each time."""
    call("dead", self.request.id, 0)
    os.kill(os.getpid(), signal.SIGKILL)


@task(bind=True, base=ResilientTask, service="dead", name="fleet.buggy", backoff_seconds=0.1)
def buggy(self: ResilientTask) -> None:
    """Never right, whatever the provider does."""
    call("dead", self.request.id, 0)
    undefined  # noqa: B018, F821 - a plain bug


@task(
    bind=True,
    base=ResilientTask,
    service="dead",
    name="fleet.through",
    backoff_seconds=0.2,
    backoff_cap_seconds=1,
)
def through(self: ResilientTask, number: int) -> int:
    """Asks another provider within its own call, and once more its own."""
    call("dead", self.request.id, 0)
    CIRCUIT_BREAKERS["other"].call(call)("other", self.request.id, 0)
    return CIRCUIT_BREAKERS["dead"].call(lambda: number)()


@task(bind=True, base=ResilientTask, service="dead", name="fleet.growing")
def growing(self: ResilientTask) -> int:
    """Tells which attempt it is."""
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("again"), countdown=0.1)
    return int(self.request.retries)


@task(bind=True, base=ResilientTask, service="dead", name="fleet.flaky", max_retries=2)
def flaky(self: ResilientTask, number: int) -> int:
    """Asks for a retry by itself."""
    try:
        call("dead", self.request.id, 0)
    except ConnectionError as error:
        raise self.retry(exc=error, countdown=0.2) from error
    return number


CIRCUIT_BREAKERS["picky"] = CircuitBreaker("picky", failure_threshold=100, expected_exception=OSError)


@task(bind=True, base=ResilientTask, service="other", name="fleet.poll", max_retries=None)
def poll(self: ResilientTask, times: int) -> int:
    """Not ready yet, ask again: the service has answered well each time."""
    provider.rpush("polled", self.request.retries)
    if self.request.retries < times:
        raise self.retry(countdown=0.05)
    return int(self.request.retries)


@task(bind=True, base=ResilientTask, service="other", name="fleet.pages")
def pages(self: ResilientTask, page: int = 0, *, found: int = 0) -> list[int]:
    """Goes on with another page."""
    if page < 2:
        raise self.retry(args=(page + 1,), kwargs={"found": found + 10}, countdown=0)
    return [page, found, self.request.retries]


@task(bind=True, base=ResilientTask, service="other", name="fleet.gives_up", max_retries=2)
def gives_up(self: ResilientTask) -> list[Any]:
    """Cleans up when its retries are spent."""
    try:
        raise self.retry(countdown=0)
    except MaxRetriesExceededError as error:
        return [self.request.retries, str(error)]


@task(bind=True, base=ResilientTask, service="picky", name="fleet.in_vain", max_retries=2)
def in_vain(self: ResilientTask, how: str) -> None:
    """Asks for another attempt until Celery says no."""
    provider.rpush("in_vain", how)
    error = {"own": ValueError, "service": ConnectionError}.get(how)
    if error is None:
        raise self.retry(countdown=0)
    try:
        raise error(how)
    except (ValueError, ConnectionError) as caught:
        raise self.retry(exc=caught if how == "own" else None, countdown=0) from caught


@task(
    base=ResilientTask,
    service="picky",
    name="fleet.by_itself",
    autoretry_for=(ValueError,),
    max_retries=2,
    retry_backoff=True,
    retry_backoff_max=0,
)
def by_itself() -> None:
    """Celery asks for it."""
    provider.rpush("by_itself", "")
    raise ValueError("bad input")


@task(bind=True, base=ResilientTask, service="picky", name="fleet.moved", max_retries=1)
def moved(self: ResilientTask) -> dict[str, Any]:
    """The next attempt is another message; tells what of it arrives."""
    if not self.request.retries:
        raise self.retry(
            countdown=0,
            queue="aside",
            priority=3,
            headers={"colour": "red"},
            shadow="moved aside",
            time_limit=90,
            soft_time_limit=80,
            expires=600,
        )
    told = self.request
    return {
        "queue": told.delivery_info["routing_key"],
        "priority": told.delivery_info["priority"],
        "colour": told.headers["colour"],
        "shadow": told.shadow,
        "limits": told.timelimit,
        "expires": bool(told.expires),
        "parent": told.parent_id,
        "args": told.argsrepr,
    }


@task(bind=True, base=ResilientTask, service="picky", name="fleet.goes_on", max_retries=2)
def goes_on(self: ResilientTask) -> str:
    """Reports its failure and goes on, as with throw=False many do."""
    provider.rpush("goes_on", self.request.retries)
    try:
        raise ConnectionError("down")  # noqa: TRY301 - what a client library does
    except ConnectionError as error:
        if self.request.retries < 2:
            self.retry(exc=error, countdown=0.1, throw=False, args=(), kwargs={})
    return "done"


@task(bind=True, base=ResilientTask, service="picky", name="fleet.mistaken", max_retries=5)
def mistaken(self: ResilientTask, how: str) -> None:
    """Calls the layer in a way that cannot work."""
    provider.rpush("mistaken", how)
    if how == "arguments":
        raise self.retry(args=(1, 2, 3), countdown=0)
    if how == "pause":
        raise self.retry(countdown=10**9)
    self.map([1, 2])


class TellingTask(ResilientTask):
    """Tells of its retries."""

    abstract = True

    def on_retry(self, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Celery's hook."""
        provider.rpush("retried", json.dumps([repr(exc), task_id, args, kwargs, str(einfo)[:9]]))


@task_retry.connect
def note_retry(request: Any, reason: Any, **_: Any) -> None:
    """Celery's signal."""
    provider.rpush("signalled", f"{request.id} {reason}")


@task(bind=True, base=TellingTask, service="other", name="fleet.told")
def told(self: ResilientTask, number: int) -> int:
    """Asks once."""
    if not self.request.retries:
        raise self.retry(exc=KeyError(number), countdown=0.05, throw=False)
    return number


@task(bind=True, base=ResilientTask, service="other", name="fleet.down_to")
def down_to(self: ResilientTask, depth: int) -> list[Any]:
    """Calls itself as a function."""
    return [list(self.request.args), *(down_to(depth - 1) if depth else [])]


@task(bind=True, base=ResilientTask, service="other", name="fleet.within")
def within(self: ResilientTask, depth: int) -> list[int]:
    """Asks for another attempt where it is called as a function."""
    if self.request.retries:
        return [depth, self.request.retries]
    if depth:
        return within(depth - 1)  # type: ignore[no-any-return]
    raise self.retry(countdown=0)


@task(bind=True, name="fleet.naive", max_retries=None, acks_late=True)
def naive(self: object, number: int, window: float) -> int:
    """What everybody does: Celery's own retry with a countdown while the provider is down."""
    if (provider.get("mode:dead") or b"ok") == b"down":
        provider.rpush("published", self.request.id)
        raise self.retry(countdown=window)
    provider.rpush("done", self.request.id)
    return number


@task(name="fleet.bare", acks_late=True, bind=True)
def bare(self: object, number: int, seconds: float) -> int:
    """No layer at all."""
    time.sleep(seconds)
    provider.rpush("done", self.request.id)
    return number


@task(name="fleet.guarded", base=ResilientTask, service="other", bind=True)
def guarded(self: ResilientTask, number: int, seconds: float) -> int:
    """The same through the layer."""
    time.sleep(seconds)
    provider.rpush("done", self.request.id)
    return number


for name in MANY:

    @task(name=f"fleet.{name}", base=ResilientTask, service=name, bind=True)
    def one_of_many(self: ResilientTask, number: int) -> int:
        """A call to a provider of its own."""
        provider.rpush("done", self.request.id)
        return number


@task(name="fleet.healthy", bind=True)
def healthy(self: object, seconds: float) -> float:
    """Another provider's task."""
    time.sleep(seconds)
    provider.rpush("healthy", self.request.id)
    return seconds
