"""One call for all who ask for the same at once, on whatever thread or event loop, and its answer for later."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from memory_plugin.flow import IO, Blocking

T = TypeVar("T")

POLL_SECONDS = (0.0005, 0.01)
"""How long a waiter sleeps before it looks again: at first, and at most."""
PATIENCE_SECONDS = 2.0
"""How long a thread waits for a task: it may hold the very worker thread that the task needs to go on."""


class _Flight(Generic[T]):
    """A call under way, or its answer."""

    __slots__ = ("answer", "closed", "done", "error", "on_loop", "thread", "used")

    def __init__(self, *, on_loop: bool) -> None:
        self.on_loop = on_loop
        self.thread = threading.get_ident()
        self.done = False
        self.answer: tuple[T] | None = None
        self.error: Exception | None = None
        self.closed = False
        self.used = time.monotonic()


class SingleFlight(Generic[T]):
    """Answers by key, each made by one call.

    Waiters look at a flag and sleep in between.  A lock of their driver would serve the tasks of one loop or the
    threads of one process, not both; and a thread that waits for each task would take the workers that the call needs.

    Args:
        size: Answers kept.
        seconds: How long an answer that nobody uses serves those who ask as at first (``opens``).
    """

    def __init__(self, *, size: int, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._flights: OrderedDict[Hashable, _Flight[T]] = OrderedDict()
        self._guard = threading.Lock()  # never held while anything is awaited

    async def get(self, io: IO, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]], *, opens: bool) -> T:
        """The answer of that key; whoever comes first makes it.

        Args:
            io: How this caller reaches the world.
            key: What is asked for.
            make: The call.
            opens: Whether this may be the beginning of something new under an old key: an answer that was closed, or
                that nobody used for a while, is not taken then.

        Raises:
            Exception: What ``make`` raised, to all who waited for it; the next one calls again.
        """
        key = os.getpid(), key  # a forked child has no thread that would finish its parent's calls
        on_loop = not isinstance(io, Blocking)
        while True:
            flight, mine = self._board(key, opens=opens, on_loop=on_loop)
            if mine:
                return await self._fly(key, flight, make)
            if not await _landed(io, flight, patient=on_loop or not flight.on_loop):
                return await make()
            if flight.error is not None:
                raise flight.error
            if flight.answer is not None:
                return flight.answer[0]
            # Whoever made the call was cancelled: one of those who waited makes it.

    def close(self) -> None:
        """What was asked for so far has come to its end; see ``opens``."""
        with self._guard:
            for flight in self._flights.values():
                flight.closed = True

    def clear(self) -> None:
        """Forget all answers; a call under way answers those who wait for it, and nobody later."""
        with self._guard:
            self._flights.clear()

    def _board(self, key: Hashable, *, opens: bool, on_loop: bool) -> tuple[_Flight[T], bool]:
        """The flight of that key, and whether it is the caller's to make."""
        with self._guard:
            flight = self._flights.get(key)
            now = time.monotonic()
            if flight is not None and not (flight.done and flight.answer is None):
                stale = flight.done and (flight.closed or now - flight.used > self._seconds)
                if not (opens and stale):
                    flight.used = now
                    self._flights.move_to_end(key)
                    return flight, False
            flight = self._flights[key] = _Flight(on_loop=on_loop)
            self._flights.move_to_end(key)
            while len(self._flights) > self._size:
                self._flights.popitem(last=False)
            return flight, True

    async def _fly(self, key: Hashable, flight: _Flight[T], make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        try:
            answer = await make()
            flight.answer = (answer,)
            flight.used = time.monotonic()
            return answer
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._guard:
                if flight.answer is None and self._flights.get(key) is flight:
                    del self._flights[key]
                flight.done = True


async def _landed(io: IO, flight: _Flight[T], *, patient: bool) -> bool:
    """Wait until the call is done; False when waiting may be what keeps it from that."""
    pause, longest = POLL_SECONDS
    until = time.monotonic() + PATIENCE_SECONDS
    while not flight.done:
        # A task of this very thread's loop goes on only when we return.
        if not patient and (flight.thread == threading.get_ident() or time.monotonic() > until):
            return False
        await io.sleep(pause)
        pause = min(2 * pause, longest)
    return True
