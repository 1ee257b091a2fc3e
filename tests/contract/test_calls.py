"""What ``call``, ``with`` and ``async with`` protect, and what they say of it; on every store."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import pickle
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.exceptions import Ignore, Retry

from resilience import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitState,
    ConfigurationError,
    Policy,
    StoreUnavailableError,
)
from resilience.errors import ParkingLotError
from tests.circuits import fail, granted, names, state

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from resilience.stores import Store
    from tests.circuits import Clock

THRESHOLD = 2


@pytest.fixture
def breaker(store: Store) -> CircuitBreaker:
    return CircuitBreaker(next(names), failure_threshold=THRESHOLD, store=store)


@pytest.fixture
def inner(store: Store) -> CircuitBreaker:
    return CircuitBreaker(next(names), failure_threshold=THRESHOLD, store=store)


class Service:
    """Dead; it notes who reaches it."""

    def __init__(self) -> None:
        self.calls = 0

    def ask(self) -> None:
        self.calls += 1
        raise OSError

    async def wait(self) -> None:
        self.ask()

    def pages(self) -> Iterator[int]:
        yield 1
        self.ask()

    async def stream(self) -> AsyncIterator[int]:
        yield 1
        self.ask()


class Asked:
    """An object whose call is asynchronous."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self) -> None:
        self.service.ask()


async def all_of(stream: AsyncIterator[int]) -> None:
    async for _ in stream:
        pass


async def awaited(this: Awaitable[Any]) -> None:
    await this


def begun(service: Service) -> Callable[[], Awaitable[None]]:
    return lambda: asyncio.get_running_loop().create_task(service.wait())


def unannounced(function: Callable[[], Any]) -> Callable[[], Any]:
    """What it returns, nobody can tell before."""

    def call() -> Any:
        return function()

    return call


async def until(condition: Callable[[], Any]) -> None:
    """Threads set it, so there is no event of the loop's own."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def run(call: Callable[[], Any], use: Callable[[Any], Any]) -> None:
    """In a loop of its own, as in any program."""

    async def program() -> None:
        await use(call())

    asyncio.run(program())


KINDS: dict[str, tuple[Callable[[Service], Any], Callable[[Callable[[], Any]], Any]]] = {
    "function": (lambda service: service.ask, lambda call: call()),
    "coroutine function": (lambda service: service.wait, lambda call: run(call, awaited)),
    "generator": (lambda service: service.pages, lambda call: list(call())),
    "asynchronous generator": (lambda service: service.stream, lambda call: run(call, all_of)),
    "partial": (lambda service: functools.partial(service.wait), lambda call: run(call, awaited)),
    "object": (Asked, lambda call: run(call, awaited)),
    "a coroutine returned": (lambda service: unannounced(service.wait), lambda call: run(call, awaited)),
    "a task returned": (begun, lambda call: run(call, awaited)),
    "a generator returned": (lambda service: unannounced(service.pages), lambda call: list(call())),
    "a stream returned": (lambda service: unannounced(service.stream), lambda call: run(call, all_of)),
    "static": (
        lambda service: type("Api", (), {"ask": staticmethod(service.wait)}).__dict__["ask"],
        lambda call: run(call.__func__ if isinstance(call, staticmethod) else call, awaited),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_call_is_cut_off_at_the_threshold(breaker: CircuitBreaker, kind: str) -> None:
    make, use = KINDS[kind]
    service = Service()
    call = breaker.call(make(service))
    for _ in range(5):
        with contextlib.suppress(OSError, CircuitBreakerOpenError):
            use(call)
    assert service.calls == THRESHOLD
    assert breaker.read().failures_total == THRESHOLD


def test_a_method_and_a_class_method_are_protected_too(breaker: CircuitBreaker) -> None:
    class Api:
        calls = 0

        @breaker.call
        @classmethod
        def of_class(cls) -> str:
            cls.calls += 1
            return cls.__name__

        @classmethod
        @breaker.call
        def below(cls) -> str:
            return cls.__name__

        @breaker.call
        async def wait(self) -> Api:
            return self

    api = Api()
    assert (Api.of_class(), Api.below(), asyncio.run(api.wait())) == ("Api", "Api", api)
    breaker.force_open(9)
    for call in (Api.of_class, api.below):
        with pytest.raises(CircuitBreakerOpenError):
            call()
    assert Api.calls == 1


@pytest.mark.parametrize(
    ("what", "remedy"),
    [
        (property(lambda _: 1), "below @property"),
        (functools.cached_property(lambda _: 1), "below @property"),
        (Service, "decorate its methods"),
        (functools.partial(Service), "decorate its methods"),
        (contextlib.contextmanager(Service.pages), "below @contextmanager"),
        (contextlib.asynccontextmanager(Service.stream), "below @contextmanager"),
        ("fetch", "give a function"),
        (None, "give a function"),
        (Celery("shop", set_as_current=False).task(begun, name="t"), "base=ResilientTask"),
    ],
    ids=["property", "cached", "class", "partial", "manager", "async manager", "text", "nothing", "task"],
)
def test_what_cannot_be_protected_is_refused_with_the_remedy(what: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        CircuitBreaker("refuses").call(what)


def test_a_future_of_another_thread_is_a_part_of_its_call(lone: CircuitBreaker) -> None:
    future: Future[int] = Future()
    ask = lone.call(lambda: future)
    assert ask() is future
    assert lone.read().failures_total == 0
    assert not lone.acquire(), "it is under way"
    future.set_exception(OSError())
    assert lone.read().failures_total == 1
    future = Future()
    ask()
    future.cancel()
    assert lone.read().failures_total == 1
    assert lone.acquire(), "who cancels it gives its place back"


def test_a_generator_keeps_what_is_sent_thrown_and_returned(breaker: CircuitBreaker) -> None:
    @breaker.call
    def echo() -> Any:
        heard = []
        while len(heard) < 2:
            try:
                heard.append((yield len(heard)))
            except KeyError as error:
                heard.append(error)
        return heard

    talk = echo()
    assert (next(talk), talk.send("a")) == (0, 1)
    with pytest.raises(StopIteration) as end:
        talk.throw(thrown := KeyError())
    assert end.value.value == ["a", thrown]
    assert breaker.read().failures_total == 0


def test_an_asynchronous_generator_keeps_what_is_sent_and_thrown(breaker: CircuitBreaker) -> None:
    heard: list[Any] = []

    @breaker.call
    async def echo() -> Any:
        while len(heard) < 2:
            try:
                heard.append((yield len(heard)))
            except KeyError as error:
                heard.append(error)

    async def program() -> None:
        talk = echo()
        assert (await anext(talk), await talk.asend("a")) == (0, 1)
        with pytest.raises(StopAsyncIteration):
            await talk.athrow(KeyError())

    asyncio.run(program())
    assert heard[0] == "a"
    assert isinstance(heard[1], KeyError)


@pytest.fixture
def lone(store: Store) -> CircuitBreaker:
    """One call at a time: a permit that is not given back shows."""
    return CircuitBreaker(next(names), store=store, policy=Policy(max_concurrent=1))


def test_who_stops_a_generator_early_has_had_an_answer(lone: CircuitBreaker) -> None:
    @lone.call
    def pages() -> Iterator[int]:
        yield from range(9)

    fail(lone)
    unused = pages()
    for page in pages():
        assert not lone.acquire(), "it is one call until its end"
        if page:
            break
    unused.close()
    gc.collect()
    assert lone.acquire(), "its place is free"
    assert (lone.read().failures, lone.read().failures_total) == (0, 1), "it was a success"


def test_who_stops_a_stream_early_has_had_an_answer(lone: CircuitBreaker) -> None:
    @lone.call
    async def stream() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def program() -> None:
        async with contextlib.aclosing(stream()) as items:  # type: ignore[type-var]  # as its function says
            async for _ in items:
                break

    fail(lone)
    asyncio.run(program())
    assert lone.acquire()
    assert lone.read().failures == 0


def test_a_call_that_is_cancelled_says_nothing_and_gives_its_place_back(lone: CircuitBreaker) -> None:
    @lone.call
    async def hang() -> None:
        await asyncio.sleep(60)

    async def program() -> None:
        call = asyncio.create_task(hang())
        await until(lambda: lone.read().allowed_total > 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    fail(lone)
    asyncio.run(program())
    assert (lone.read().failures, lone.read().failures_total) == (1, 1)
    assert lone.acquire()


def test_a_call_cancelled_while_it_asks_gives_its_place_back(lone: CircuitBreaker) -> None:
    if not hasattr(lone.store, "scripts"):
        pytest.skip("asking the memory takes no time in which it could be cancelled")
    asked, go_on, ask = threading.Event(), threading.Event(), lone.acquire

    def slowly(owner: str = "") -> Any:
        permit = ask(owner)
        asked.set()
        go_on.wait(10)
        return permit

    lone.acquire = slowly  # type: ignore[method-assign]

    @lone.call
    async def never() -> None:
        pytest.fail("it was cancelled before")

    async def program() -> None:
        call = asyncio.create_task(never())
        await until(asked.is_set)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go_on.set()

    asyncio.run(program())
    assert ask(), "nobody makes the call"
    assert lone.read().failures_total == 0


def test_a_coroutine_that_is_closed_says_nothing(lone: CircuitBreaker) -> None:
    @lone.call
    async def hang() -> None:
        await asyncio.sleep(60)

    async def program() -> None:
        call = hang()
        asked = call.send(None)
        if lone.read().in_flight == 0 and hasattr(lone.store, "scripts"):
            await asyncio.wait([asked])
            call.send(None)
        call.close()

    asyncio.run(program())
    assert lone.acquire()
    assert lone.read().failures_total == 0


def test_the_store_holds_up_no_other_task_of_the_loop(breaker: CircuitBreaker) -> None:
    if not hasattr(breaker.store, "scripts"):
        pytest.skip("asking the memory takes no time")
    asked, others, ask = threading.Event(), threading.Event(), breaker.acquire

    def slowly(owner: str = "") -> Any:
        asked.set()
        assert others.wait(10), "the loop stands still while the store is asked"
        return ask(owner)

    breaker.acquire = slowly  # type: ignore[method-assign]

    @breaker.call
    async def fetch() -> str:
        return "fine"

    async def program() -> str:
        call = asyncio.create_task(fetch())
        await until(asked.is_set)
        others.set()
        return await call

    assert asyncio.run(program()) == "fine"


# with


def test_a_block_is_a_call(breaker: CircuitBreaker) -> None:
    for _ in range(THRESHOLD):
        with pytest.raises(OSError), breaker:  # noqa: PT011 - the block is what is tested
            raise OSError
    with pytest.raises(CircuitBreakerOpenError), breaker:
        pytest.fail("the circuit is open")


def test_an_asynchronous_block_is_a_call(breaker: CircuitBreaker) -> None:
    async def program() -> None:
        async with breaker:
            raise OSError

    for _ in range(THRESHOLD):
        with pytest.raises(OSError):  # noqa: PT011
            asyncio.run(program())
    with pytest.raises(CircuitBreakerOpenError):
        asyncio.run(program())


def test_blocks_of_threads_and_tasks_are_calls_of_their_own(store: Store) -> None:
    breaker = CircuitBreaker(next(names), store=store, policy=Policy(max_concurrent=8))
    together = threading.Barrier(4)

    def block() -> None:
        with breaker:
            together.wait(10)

    threads = [threading.Thread(target=block) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def program() -> None:
        inside = asyncio.Event()

        async def first() -> None:
            async with breaker:
                inside.set()
                await asyncio.sleep(0.01)

        async def second() -> None:
            await inside.wait()
            async with breaker:
                await asyncio.sleep(0.02)

        await asyncio.gather(first(), second())

    asyncio.run(program())
    assert breaker.read().allowed_total == 6
    assert len([permit for _ in range(9) if (permit := breaker.acquire())]) == 8, "each gave its place back"


def test_a_block_may_end_in_another_context(lone: CircuitBreaker) -> None:
    elsewhere = threading.Thread(target=lone.__enter__)
    elsewhere.start()
    elsewhere.join()
    assert not lone.acquire()
    lone.__exit__(None, None, None)
    assert lone.acquire()


# one within another


@pytest.mark.parametrize("state_before", ["closed", "half-open"])
def test_a_call_within_a_call_of_the_same_circuit_is_a_part_of_it(
    store: Store, clock: Clock, state_before: str
) -> None:
    policy = Policy(failure_threshold=2, max_concurrent=1, half_open_max_calls=1, timeout_seconds=5)
    breaker = CircuitBreaker(next(names), store=store, policy=policy)
    again = CircuitBreaker(breaker.service_name, store=store, policy=policy)
    if state_before == "half-open":
        fail(breaker, 2)
        clock.forward(5)

    @breaker.call
    def countdown(number: int) -> int:
        return countdown(number - 1) if number else within()

    @again.call
    def within() -> int:
        with breaker:
            return asyncio.run(last())

    @breaker.call
    async def last() -> int:
        return sum(await asyncio.gather(one(), one()))

    @breaker.call
    async def one() -> int:
        return await asyncio.to_thread(breaker.call(lambda: 1))

    before = breaker.read().allowed_total
    assert countdown(3) == 2
    assert breaker.read().allowed_total == before + 1
    assert state(breaker) is CircuitState.CLOSED


def test_a_failure_on_its_way_through_counts_once(breaker: CircuitBreaker) -> None:
    @breaker.call
    def deep(levels: int) -> None:
        if not levels:
            raise OSError
        deep(levels - 1)

    with pytest.raises(OSError):  # noqa: PT011
        deep(5)
    assert (breaker.read().failures, state(breaker)) == (1, CircuitState.CLOSED)


def test_what_outlives_a_call_is_no_part_of_it(lone: CircuitBreaker) -> None:
    """A task started within a call goes on when that is over, and has no permit any more."""

    @lone.call
    async def later() -> None:
        pytest.fail("somebody else has the only place")

    async def program() -> None:
        over = asyncio.Event()

        async def wait() -> None:
            await over.wait()
            await later()

        @lone.call
        async def outer() -> asyncio.Task[None]:
            return asyncio.create_task(wait())

        left = await outer()
        permit = lone.acquire()
        assert permit
        over.set()
        with pytest.raises(CircuitBreakerOpenError):
            await left

    asyncio.run(program())


def test_between_two_items_of_a_generator_the_consumer_is_no_part_of_it(store: Store) -> None:
    breaker = CircuitBreaker(next(names), store=store, policy=Policy(max_concurrent=2))

    @breaker.call
    def pages() -> Iterator[int]:
        yield 1

    for _ in pages():
        breaker.call(lambda: None)()
    assert breaker.read().allowed_total == 2


# what an error says


REFUSAL = CircuitBreakerOpenError("another")


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (OSError(), True),
        (REFUSAL, False),
        (ParkingLotError("another", "is full"), False),
        (StoreUnavailableError("host:1"), False),
        (ConfigurationError("no such setting"), False),
        (ExceptionGroup("two", [REFUSAL, REFUSAL]), False),
        (ExceptionGroup("two", [REFUSAL, OSError()]), True),
        (ExceptionGroup("deep", [ExceptionGroup("two", [REFUSAL])]), False),
        (Ignore(), False),
        (Retry(), False),
        (Retry(exc=OSError()), True),
        (Retry(exc=REFUSAL), False),
        (asyncio.CancelledError(), False),
        (KeyboardInterrupt(), False),
    ],
    ids=repr,
)
def test_only_what_the_service_did_counts(
    breaker: CircuitBreaker,
    error: BaseException,
    counts: bool,  # noqa: FBT001 - pytest gives it by name
) -> None:
    def fetch() -> None:
        raise error

    fail(breaker)
    with pytest.raises(type(error)):
        breaker.call(fetch)()
    assert breaker.read().failures == 1 + counts


def test_a_refusal_that_is_wrapped_counts_no_more_than_itself(
    breaker: CircuitBreaker, inner: CircuitBreaker
) -> None:
    inner.force_open(9)

    @breaker.call
    def fetch() -> None:
        try:
            inner.call(lambda: None)()
        except CircuitBreakerOpenError as error:
            raise RuntimeError from error

    with pytest.raises(RuntimeError):
        fetch()
    assert breaker.read().failures == 0


def test_what_fails_while_a_refusal_is_handled_counts(breaker: CircuitBreaker, inner: CircuitBreaker) -> None:
    inner.force_open(9)

    @breaker.call
    def fetch() -> None:
        try:
            inner.call(lambda: None)()
        except CircuitBreakerOpenError:
            Service().ask()

    with pytest.raises(OSError):  # noqa: PT011 - of whatever kind
        fetch()
    assert breaker.read().failures == 1


def test_an_error_that_is_its_own_cause_counts_as_any(breaker: CircuitBreaker) -> None:
    error = RuntimeError()
    error.__cause__ = error

    with pytest.raises(RuntimeError), breaker:
        raise error
    assert breaker.read().failures == 1


@pytest.mark.parametrize("several", [list, tuple, set, frozenset])
def test_several_expected_exceptions_come_in_any_collection(store: Store, several: type) -> None:
    expected: Any = several([OSError, KeyError])
    breaker = CircuitBreaker(next(names), expected_exception=expected, store=store)
    for error in (OSError, KeyError, ValueError):
        with pytest.raises(error):
            breaker.call(_raising(error))()
    assert breaker.read().failures_total == 2


def _raising(error: type[Exception]) -> Callable[[], None]:
    def fetch() -> None:
        raise error

    return fetch


@pytest.mark.parametrize("wrong", [[], (), "OSError", OSError("it"), [OSError, "KeyError"], int, None])
def test_what_is_no_class_of_exceptions_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected_exception"):
        CircuitBreaker("wrong", expected_exception=wrong)


# one call, one report


@pytest.mark.parametrize("verdict", ["failure", "success", "ignored", "hold"])
def test_a_call_is_reported_once_whatever_is_said_afterwards(breaker: CircuitBreaker, verdict: str) -> None:
    permit = granted(breaker)
    first = breaker.report(permit, verdict, hold_seconds=9, owner="task", max_attempts=5)
    counted = breaker.read()
    for other in ("failure", "success", "hold", "failure"):
        report = breaker.report(permit, other, hold_seconds=9, owner="task", max_attempts=5)
        assert (report.applied, report.state, report.generation) == (False, first.state, first.generation)
    assert breaker.read() == counted


def test_a_probe_is_reported_once(store: Store, clock: Clock) -> None:
    breaker = CircuitBreaker(next(names), failure_threshold=1, half_open_max_calls=3, store=store)
    fail(breaker)
    clock.forward(60)
    probe = granted(breaker)
    for _ in range(3):
        breaker.report(probe, "success")
    assert state(breaker) is CircuitState.HALF_OPEN


def test_a_race_of_reports_has_one_winner(breaker: CircuitBreaker) -> None:
    permit, go = granted(breaker), threading.Barrier(8)

    def tell() -> None:
        go.wait(10)
        breaker.report(permit, "failure")

    threads = [threading.Thread(target=tell) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker.read().failures_total == 1


def test_a_permit_can_be_pickled(breaker: CircuitBreaker) -> None:
    permit = granted(breaker)
    assert breaker.report(pickle.loads(pickle.dumps(permit)), "failure").applied  # noqa: S301 - its own


def test_a_report_the_store_did_not_take_can_be_made_again(breaker: CircuitBreaker, monkeypatch: Any) -> None:
    permit = granted(breaker)
    with monkeypatch.context() as lost:

        def unavailable(*_: Any) -> None:
            raise StoreUnavailableError("host:1")

        lost.setattr(type(breaker.store), "report", unavailable)
        with pytest.raises(StoreUnavailableError):
            breaker.report(permit, "failure")
    assert breaker.report(permit, "failure").applied


def test_a_permit_of_another_circuit_is_refused(breaker: CircuitBreaker, inner: CircuitBreaker) -> None:
    permit = granted(breaker)
    with pytest.raises(ValueError, match=f"{breaker.service_name}.*{inner.service_name}"):
        inner.report(permit, "failure")
    assert breaker.report(permit, "failure").applied
