"""One call under a permit, whatever kind of function makes it: asked for when it begins, told when it ends.

    function              while it runs
    async def             while it is awaited; the store is asked in a thread, so the loop goes on
    generator, async too  while it is iterated; who stops early has had an answer
    with, async with      while the block runs

What a function returns to be awaited or iterated, and a thread pool's future, is a part of its call, too.
So is every call of the same circuit that is made within: it runs under the permit that is there, and a
failure on its way out counts once.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from asyncio import CancelledError
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from celery import Task

from resilience.circuit import Verdict
from resilience.errors import CircuitBreakerOpenError, ConfigurationError
from resilience.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator

    from resilience.breaker import CircuitBreaker
    from resilience.circuit import Permit

#: The calls this context is within, the innermost last. Threads and tasks started there inherit them.
_within: ContextVar[tuple[Call, ...]] = ContextVar("resilience_calls", default=())

# What contextlib makes of a generator function: it returns before anything has run.
_MANAGERS = frozenset({contextmanager(iter).__code__, asynccontextmanager(aiter).__code__})


class Call:
    """One call of a breaker's service. It begins and ends once; under ``with`` it is what runs now."""

    __slots__ = ("_begun", "_breaker", "_circuit", "_over", "_permit")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._circuit = (breaker.store, breaker.service_name)
        self._permit: Permit | None = None
        self._begun = self._over = False

    def begin(self) -> None:
        """Ask, unless it is a part of another call.

        Raises:
            CircuitBreakerOpenError: The circuit refuses it.
        """
        if not self._begun and not self._is_part():
            self._heed(self._ask())

    async def begin_async(self) -> None:
        """As ``begin``; a store that has to be waited for holds up no other task."""
        if self._begun or self._is_part() or not self._waits():
            self.begin()
            return
        try:
            permit = await asyncio.to_thread(self._ask)
        except CancelledError:
            self._over = True  # the thread may be about to get one: it looks here afterwards
            self._give_back()
            raise
        self._heed(permit)

    def end(self, error: BaseException | None) -> None:
        """Tell what came of it."""
        self._over = True
        if self._permit:
            verdict = self._breaker.verdict_of(error)
            detail = type(error).__name__ if verdict is Verdict.FAILURE else ""
            self._breaker.report(self._permit, verdict, detail=detail)

    async def end_async(self, error: BaseException | None) -> None:
        """As ``end``; it is told also if this task is cancelled meanwhile."""
        # A coroutine that is closed may wait for nothing any more.
        if not self._permit or not self._waits() or isinstance(error, GeneratorExit):
            self.end(error)
            return
        self._over = True
        await asyncio.shield(asyncio.to_thread(self.end, error))

    def _is_part(self) -> bool:
        return any(call._circuit == self._circuit and not call._over for call in _within.get())  # noqa: SLF001 - its own class

    def _waits(self) -> bool:
        """Whether asking may take as long as a round trip."""
        return not isinstance(self._circuit[0], MemoryStore)

    def _ask(self) -> Permit:
        self._begun = True
        self._permit = permit = self._breaker.acquire()
        if self._over:
            self._give_back()
        return permit

    def _give_back(self) -> None:
        """Nobody makes this call. Told twice, it counts once."""
        if self._permit:
            self._breaker.report(self._permit, Verdict.IGNORED)

    def _heed(self, permit: Permit) -> None:
        if not permit:
            raise CircuitBreakerOpenError(permit.service, permit.retry_at, permit.reason)

    def __enter__(self) -> Self:
        _within.set((*_others(self), self))
        return self

    def __exit__(self, *_: object) -> None:
        _within.set(_others(self))

    # Each kind of call, from the moment its function has been called.

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A function, and what it returns to be awaited or iterated."""
        try:
            with self:
                result = function(*args, **kwargs)
        except BaseException as error:
            self.end(error)
            raise
        if inspect.isgenerator(result):
            return self.iterate(result)
        if inspect.isasyncgen(result):
            return _streaming(lambda: (self, result))()
        if inspect.isawaitable(result):
            coroutine = self.wait(result)
            # What runs already, awaited or not, is told about in any case.
            return asyncio.ensure_future(coroutine) if asyncio.isfuture(result) else coroutine
        if isinstance(result, Future):
            result.add_done_callback(self._settle)
            return result
        self.end(None)
        return result

    def _settle(self, future: Future[Any]) -> None:
        """A future of another thread is done; who cancelled it has waited for no answer."""
        self.end(CancelledError() if future.cancelled() else future.exception())

    async def wait(self, awaitable: Awaitable[Any]) -> Any:
        """A coroutine, or whatever else can be awaited."""
        try:
            with self:
                result = await awaitable
        except BaseException as error:
            await self.end_async(error)
            raise
        await self.end_async(None)
        return result

    def iterate(self, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """A generator; between two steps it is the consumer that runs, and no part of this call."""
        resume: Callable[[Any], Any] = generator.send
        value: Any = None
        try:
            while True:
                with self:
                    item = resume(value)
                try:
                    value, resume = (yield item), generator.send
                except GeneratorExit:
                    with self:
                        generator.close()
                    raise
                except BaseException as thrown:  # noqa: BLE001 - passed on as it came
                    value, resume = thrown, generator.throw
        except StopIteration as end:
            self.end(None)
            return end.value
        except GeneratorExit:  # who stops early has had an answer
            self.end(None)
            raise
        except BaseException as error:
            self.end(error)
            raise


def _streaming(
    start: Callable[..., tuple[Call, AsyncGenerator[Any, Any]]],
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """As ``Call.iterate``, for asynchronous generators: nothing else can hand on what is sent to one."""

    async def stream(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        call, generator = start(*args, **kwargs)
        await call.begin_async()
        resume: Callable[[Any], Awaitable[Any]] = generator.asend
        value: Any = None
        try:
            while True:
                with call:
                    item = await resume(value)
                try:
                    value, resume = (yield item), generator.asend
                except GeneratorExit:
                    with call:
                        await generator.aclose()
                    raise
                except BaseException as thrown:  # noqa: BLE001 - passed on as it came
                    value, resume = thrown, generator.athrow
        except StopAsyncIteration:
            await call.end_async(None)
        except GeneratorExit:
            await call.end_async(None)
            raise
        except BaseException as error:
            await call.end_async(error)
            raise

    return stream


def _others(call: Call) -> tuple[Call, ...]:
    return tuple(other for other in _within.get() if other is not call and not other._over)  # noqa: SLF001 - its class's module


def innermost(calls: dict[Call, None]) -> Call:
    """Of these, the one this context is within; where it began in another context, the latest."""
    own = [call for call in _within.get() if call in calls]
    return own[-1] if own else next(reversed(calls))


@contextmanager
def part_of(breaker: CircuitBreaker) -> Iterator[None]:
    """The block is a call somebody else asks for and reports; calls of its circuit are a part of it."""
    call = Call(breaker)
    try:
        with call:
            yield
    finally:
        call._over = True  # noqa: SLF001 - as above


def protect(breaker: CircuitBreaker, function: Any) -> Any:
    """The function, each call of it under a permit of the breaker.

    Raises:
        ConfigurationError: It is nothing that is called, or another decorator hides when it is.
    """
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(protect(breaker, function.__func__))
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    remedy = _remedy(inner)
    if remedy:
        raise ConfigurationError(f"breaker.call({getattr(inner, '__qualname__', inner)!r}): {remedy}")
    return functools.wraps(function)(_wrapper(breaker, function, inner))


def _remedy(inner: Any) -> str:
    """What to do about what cannot be protected; '' if it can."""
    if isinstance(inner, (property, functools.cached_property)):
        return "it hides its function; write @breaker.call below @property"
    if getattr(inner, "__code__", None) in _MANAGERS:
        return "it makes a context manager; write @breaker.call below @contextmanager"
    if inspect.isclass(inner):
        return "it is a class; decorate its methods, or a function that makes one"
    if isinstance(inner, Task):
        return "it is a Celery task; give it base=ResilientTask and service=..., or write @breaker.call below"
    return "" if callable(inner) else "it is nothing that is called; give a function, or use `with breaker:`"


def _wrapper(breaker: CircuitBreaker, function: Callable[..., Any], inner: Any) -> Callable[..., Any]:
    """A function of the same kind, so that whoever looks at it knows how to call it."""

    def is_one(kind: Callable[[Any], bool]) -> bool:
        return kind(inner) or kind(type(inner).__call__)  # an object's call is its class's

    if is_one(inspect.isasyncgenfunction):
        return _streaming(lambda *args, **kwargs: (Call(breaker), function(*args, **kwargs)))

    if is_one(inspect.iscoroutinefunction):

        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            call = Call(breaker)
            await call.begin_async()
            return await call.run(function, *args, **kwargs)

        return coroutine

    if is_one(inspect.isgeneratorfunction):

        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            call = Call(breaker)
            call.begin()
            return (yield from call.run(function, *args, **kwargs))

        return generator

    def plain(*args: Any, **kwargs: Any) -> Any:
        call = Call(breaker)
        call.begin()
        return call.run(function, *args, **kwargs)

    return plain
