"""Who may be inside an embedded store: many calls at a time, or one that swaps the engine under the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from memory_plugin.errors import StoreClosedError


class Gate:
    """Counts the calls that are inside.

    ``with gate:`` lets a call in, ``with gate.alone():`` one that waits until the others are out and lets none in
    meanwhile; those wait, and none fails.  Shutting waits likewise and lets no more in.  A call inside must not enter
    again: it could wait for one that waits for it.

    Args:
        store: The store's directory, for the error.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._condition = threading.Condition()
        self._inside = 0
        self._alone = False
        self._shut = False

    def __enter__(self) -> None:
        with self._condition:
            self._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._condition:
            self._leave()

    def _enter(self) -> None:
        self._condition.wait_for(lambda: self._shut or not self._alone)
        if self._shut:
            raise StoreClosedError(f"the store at {self._store} was closed")
        self._inside += 1

    def _leave(self) -> None:
        self._inside -= 1
        self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only call inside.

        Raises:
            StoreClosedError: It was shut.
        """
        with self._condition:
            self._enter()
            self._alone = True
        try:
            with self._condition:
                self._condition.wait_for(lambda: self._inside == 1)
            yield
        finally:
            with self._condition:
                self._alone = False
                self._leave()

    def shut(self) -> bool:
        """Whether this call was the one that shut it."""
        with self._condition:
            first, self._shut = not self._shut, True
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._inside == 0)
            return first
