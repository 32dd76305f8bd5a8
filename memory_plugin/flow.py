"""One async engine, driven two ways: the only file that knows sync from async.

The engine is ordinary ``async def`` and reaches the world through ``await io.call(fn, …)``.

* ``Blocking.call`` calls ``fn`` and returns: it never suspends, so ``run`` finishes the whole coroutine
  with one ``send(None)``.  No event loop exists; it works in a notebook, in a running loop, after a fork.
* ``OnLoop.call`` awaits ``async def`` functions and sends plain ones to a thread.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from memory_plugin.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")


class IO(Protocol):
    """How the engine reaches the world."""

    async def call(self, fn: Callable[P, Awaitable[T] | T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn``, whether it blocks or awaits."""

    async def uninterrupted(self, work: Coroutine[Any, Any, T], /) -> T:
        """Finish ``work`` even when the caller is cancelled meanwhile."""

    async def sleep(self, seconds: float, /) -> None:
        """Wait, and hold nobody up who shares this IO."""

    def lock(self) -> AbstractAsyncContextManager[object]:
        """A new mutual exclusion lock for coroutines that share this IO."""


class _ThreadLock:
    """A ``threading.Lock`` with the face of an asynchronous one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


class Blocking:
    """Calls, waits, never suspends."""

    async def call(self, fn: Callable[P, Awaitable[T] | T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn`` here and now.

        Raises:
            ConfigurationError: ``fn`` is async and there is no loop to await it on.
        """
        result = fn(*args, **kwargs)
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            name = getattr(fn, "__qualname__", repr(fn))
            raise ConfigurationError(f"{name} is async: use AsyncMemoryStore")
        return result

    async def uninterrupted(self, work: Coroutine[Any, Any, T], /) -> T:
        """Nothing can cancel a blocking call."""
        return await work

    async def sleep(self, seconds: float, /) -> None:
        """Hold this thread."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop to hold up

    def lock(self) -> AbstractAsyncContextManager[object]:
        """Held by one thread at a time."""
        return _ThreadLock()


class OnLoop:
    """Awaits what is async, sends what blocks to a thread."""

    async def call(self, fn: Callable[P, Awaitable[T] | T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn`` without holding up the loop."""
        if inspect.iscoroutinefunction(fn):
            return cast("T", await fn(*args, **kwargs))
        result = await asyncio.to_thread(_no_stop_iteration, fn, *args, **kwargs)
        # A partial or a callable object may hide a coroutine function.
        return cast("T", await result if inspect.isawaitable(result) else result)

    async def uninterrupted(self, work: Coroutine[Any, Any, T], /) -> T:
        """Shield ``work``; a cancellation is delivered after it has finished."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError as cancelled:
            while not task.done():
                with suppress(asyncio.CancelledError):  # cancelled again: the work still finishes
                    await asyncio.wait([task])
            raise cancelled from None if task.cancelled() else task.exception()

    async def sleep(self, seconds: float, /) -> None:
        """Let the loop go on."""
        await asyncio.sleep(seconds)

    def lock(self) -> AbstractAsyncContextManager[object]:
        """Held by one task at a time."""
        return asyncio.Lock()


def _no_stop_iteration(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    # A future cannot carry StopIteration: whoever awaits it would wait for ever.
    try:
        return fn(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError(f"{fn!r} raised StopIteration") from error


def run(work: Coroutine[Any, Any, T], /) -> T:
    """Finish a coroutine that was given ``Blocking`` as its IO.

    Raises:
        ConfigurationError: It suspended: something in it awaited without going through the IO.
    """
    try:
        work.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    with suppress(RuntimeError):  # it may await once more while it is being closed
        work.close()
    raise ConfigurationError("a blocking store was given something that awaits: use AsyncMemoryStore")
