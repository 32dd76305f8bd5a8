"""Several requests at once, their results in order, and nobody kept waiting by one that hangs."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - registers its wait for threads, before which ours has to come
import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

from memory_plugin.managed.failure import CallError

T = TypeVar("T")
R = TypeVar("R")

TICK = 0.25
"""Seconds between looks at whether the process is ending or a job has hung."""
GRACE = 1.0
"""Seconds that jobs under way are given to finish when another has failed."""


_ending = threading.Event()
"""Set when the process begins to end; it would first wait for threads of executors, and so for our callers in them."""

if hasattr(threading, "_register_atexit"):
    threading._register_atexit(_ending.set)


class Turns:
    """Lets so many in at a time."""

    def __init__(self, number: int) -> None:
        self._free = threading.Semaphore(number)

    def wait(self, stop: threading.Event) -> bool:
        """Wait for a turn; False when ``stop`` was set first."""
        while not stop.is_set():
            if self._free.acquire(timeout=TICK):
                return True
        return False

    def done(self) -> None:
        """Let the next one in."""
        self._free.release()


def in_order(
    jobs: Sequence[T], do: Callable[[T, threading.Event], R], *, turns: Turns, workers: int, patience: float
) -> list[R]:
    """Do all jobs, at most ``workers`` at a time; a result for each, in their order.

    The work is done by daemon threads, also for one job: the caller only waits, so that Ctrl-C ends the wait at once,
    and a process that ends does not wait for an answer that may take a minute.

    Args:
        jobs: What to do.
        do: Does one; stops early when the event is set.
        turns: Shared by all calls of a provider.
        workers: Threads.
        patience: Seconds after which a job is taken to hang.

    Raises:
        CallError: Of the first job that failed; no further one was begun.
    """
    return _Run(jobs, do, turns, patience).results(workers) if jobs else []


class _Run(Generic[T, R]):
    def __init__(self, jobs: Sequence[T], do: Callable[[T, threading.Event], R], turns: Turns, patience: float) -> None:
        self._jobs = jobs
        self._do = do
        self._turns = turns
        self._patience = patience
        self._waiting = list(reversed(range(len(jobs))))
        self._began: dict[int, float] = {}
        self._made: dict[int, R] = {}
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()

    def results(self, workers: int) -> list[R]:
        try:
            for number in range(min(workers, len(self._jobs))):
                context = contextvars.copy_context()
                threading.Thread(
                    target=context.run, args=(self._work,), name=f"memory-plugin-request-{number}", daemon=True
                ).start()
            self._wait()
        finally:
            self._stop.set()
        return [self._made[place] for place in range(len(self._jobs))]

    def _work(self) -> None:
        while self._turns.wait(self._stop):
            try:
                with self._changed:
                    if not self._waiting or self._stop.is_set():
                        return
                    place = self._waiting.pop()
                    self._began[place] = time.monotonic()
                self._finish(place)
            finally:
                self._turns.done()

    def _finish(self, place: int) -> None:
        made: R | None = None
        error: BaseException | None = None
        try:
            made = self._do(self._jobs[place], self._stop)
        except BaseException as raised:  # noqa: BLE001 - it is raised in the caller's thread
            error = raised
        with self._changed:
            del self._began[place]
            if error is None:
                self._made[place] = cast("R", made)
            elif self._error is None:
                self._error = error
                self._stop.set()
            self._changed.notify_all()

    def _wait(self) -> None:
        with self._changed:
            while self._error is None and len(self._made) < len(self._jobs):
                self._changed.wait(TICK)
                if _ending.is_set():
                    raise CallError("the process is ending", retryable=True)
                hung = [began for began in self._began.values() if time.monotonic() - began > self._patience]
                if hung:
                    raise CallError(f"no whole answer within {self._patience:.0f} s", retryable=True)
            if self._error is not None:
                self._changed.wait_for(lambda: not self._began, GRACE)
                raise self._error
