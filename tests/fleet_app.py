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

import redis
from celery import Celery
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


def candidates(only: str | None = None) -> tuple[str, ...]:
    """The one its caller insists on, or both."""
    return (only,) if only else ("dead", "other")


either.candidates = candidates  # as an override in a class of its own


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
