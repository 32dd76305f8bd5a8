"""What a loop's thread is kept busy with: each step between two awaits, timed.

A step's processor time on that thread is what we do to a loop.  Its wall time depends on the machine, too: on what else
runs, and on other threads that hold the interpreter.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Steps:
    """Milliseconds of the steps of one loop's thread, and where the longest one was.

    Args:
        busy: Processor time of each.
        wall: Wall time of each.
        longest: What the busiest one ran.
    """

    busy: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    longest: str = ""

    @property
    def worst(self) -> float:
        """Processor time of the busiest."""
        return max(self.busy, default=0.0)


@contextmanager
def timed() -> Iterator[Steps]:
    """Time every step of every loop until the end.

    Without the collector: it runs on whichever thread makes the next object, and walks through all of the process.
    """
    steps = Steps()
    run = asyncio.Handle._run
    collects = gc.isenabled()
    gc.collect()
    gc.disable()

    def measured(handle: Any) -> None:
        what = _name(handle)
        wall, busy = time.perf_counter(), time.thread_time()
        try:
            run(handle)
        finally:
            spent = (time.thread_time() - busy) * 1e3
            if spent > steps.worst:
                steps.longest = what
            steps.busy.append(spent)
            steps.wall.append((time.perf_counter() - wall) * 1e3)

    asyncio.Handle._run = measured  # type: ignore[method-assign, assignment]
    try:
        yield steps
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]
        if collects:
            gc.enable()


def _name(handle: Any) -> str:
    """The innermost coroutines that a handle goes on with."""
    task = getattr(handle._callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(getattr(handle._callback, "__qualname__", handle._callback))
    inner: Any = task.get_coro()
    names: list[str] = []
    while inner is not None:
        names.append(str(getattr(inner, "__qualname__", type(inner).__name__)))
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    return " < ".join(reversed(names[-4:]))


async def gaps(until: asyncio.Task[Any]) -> list[float]:
    """Milliseconds by which a task of the loop that wants to run every millisecond came late."""
    late = []
    while not until.done():
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - start - 0.001) * 1e3)
    return late
