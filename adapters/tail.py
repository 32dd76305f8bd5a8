"""What is remembered of a session's newest items in this process, for one at a time.

A store opens all memories of a day to list one, so a transcript remembers the names of the newest.  Names only: nothing
that was deleted can come back out of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.flow import IO, Blocking
from memory_plugin.types import Namespace

SESSIONS = 512
"""Sessions of a store whose newest names are remembered."""
NAMES = 512
"""Names remembered of each."""
PATIENCE = 2.0
"""Seconds that a thread waits for a task: it may hold the very worker thread that the task needs to go on."""


@dataclass(slots=True)
class Tail:
    """The names of a session's newest items, in order.

    Args:
        names: Oldest first.
        whole: Whether there are no others.
        total: How many values the namespace held when they were read; None: they were not.
        users: Who is at work with it now.
        lock: Held by one of them; a thread's, since a blocking store may be shared by several loops.
        task_of: The thread of the loop whose task holds it; None where a thread does.
        outdated: Whether somebody did not wait for the lock.
    """

    names: list[str] = field(default_factory=list)
    whole: bool = False
    total: int | None = None
    users: int = 0
    lock: Any = field(default_factory=threading.Lock)
    task_of: int | None = None
    outdated: bool = False

    def held_up(self, seconds: float) -> bool:
        """Whether a thread that has waited so long should not wait on for whoever holds the lock."""
        task_of = self.task_of
        return task_of is not None and (task_of == threading.get_ident() or seconds > PATIENCE)

    def forget(self) -> None:
        """Begin again."""
        self.names, self.whole, self.total, self.outdated = [], False, None, False

    def grow(self, names: Sequence[str]) -> None:
        """Items were added."""
        self.names += names
        self.total = None if self.total is None else self.total + len(names)
        if len(self.names) > NAMES:
            del self.names[:-NAMES]
            self.whole = False

    def shrink(self) -> None:
        """The last item was taken away."""
        self.names.pop()
        self.total = None if self.total is None else self.total - 1


tails: WeakKeyDictionary[MemoryStore | AsyncMemoryStore, OrderedDict[Namespace, Tail]] = WeakKeyDictionary()
_guard = threading.Lock()


class Alone:
    """What is remembered of a session, for one at a time: threads and tasks of any loop.

    Whoever waits looks at the lock and sleeps in between, and so holds no worker thread that the other may need.  A
    thread that would wait for a task which cannot go on meanwhile, since it is on this thread's loop or has no worker
    thread left, does not: it works as another process would, knowing nothing.

    No generator: a loop that was shut down and is used again, as the Agents SDK's ``run_sync`` does, warns of those.
    """

    def __init__(self, io: IO, store: MemoryStore | AsyncMemoryStore, session: Namespace) -> None:
        self._io, self._on_loop = io, not isinstance(io, Blocking)
        self._tail = _tail_of(store, session)
        self._held = False

    async def __aenter__(self) -> Tail:
        pause, waited = 0.0005, 0.0
        try:
            while not self._tail.lock.acquire(blocking=False):
                if not self._on_loop and self._tail.held_up(waited):
                    self._tail.outdated = True
                    return Tail()
                await self._io.sleep(pause)
                waited += pause
                pause = min(pause * 2, 0.02)
        except BaseException:
            _let_go(self._tail)
            raise
        self._held = True
        self._tail.task_of = threading.get_ident() if self._on_loop else None
        return self._tail

    async def __aexit__(self, *_: object) -> None:
        if self._held:
            if self._tail.outdated:
                self._tail.forget()
            self._tail.lock.release()
        _let_go(self._tail)


def _tail_of(store: MemoryStore | AsyncMemoryStore, session: Namespace) -> Tail:
    """One for each session of a store, whoever asks; the longest unused are dropped."""
    with _guard:
        known = tails.setdefault(store, OrderedDict())
        tail = known.setdefault(session, Tail())
        tail.users += 1
        known.move_to_end(session)
        for other in list(known)[: max(len(known) - SESSIONS, 0)]:
            if not known[other].users:
                del known[other]
        return tail


def _let_go(tail: Tail) -> None:
    with _guard:
        tail.users -= 1
