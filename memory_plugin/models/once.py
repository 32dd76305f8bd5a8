"""Things that are slow to make: made by the first call, once a process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """What ``make`` returns, made by the first call; calls from other threads wait for it.

    A forked child makes its own: a lock or a thread of the parent may have been in use.  What raises is tried again.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """The next call makes it anew."""
        self._lock = threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """It."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


_all: weakref.WeakSet[Once[Any]] = weakref.WeakSet()


def _forget_all() -> None:
    for one in list(_all):
        one.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
