"""An embedded store that several processes take turns with.

Every desktop client starts a server of its own, and an embedded store is one process's at a time.  So it is opened for
a call, kept for what follows at once, and closed after a moment without calls.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from memory_plugin import ConfigurationError, InvalidInputError, KeyServiceError, MemoryStore, StoreLockedError

POLL = 0.04
"""Seconds between two attempts at a locked store, at most."""
MAKING = 5.0
"""Seconds that another process may take to make the store and its keys, before keys that do not fit are an error."""
GAP = 0.12
"""Seconds that a store is left to others after a turn: several attempts of whoever waits."""


class Lease:
    """Opens a store for calls and closes it soon after; safe to use from several threads.

    Args:
        opener: Opens the store, each time anew, in a thread of a call.  Models that are slow to load belong to what it
            closes over, not to the store.
        idle: Seconds without a call after which the store is closed; None, for a store that several processes may have
            open, keeps it until ``close``.
        turn: Seconds after which it is closed and left to others for a moment, even while calls keep coming.
        wait: Seconds to wait for another process that has it open.
    """

    def __init__(
        self, opener: Callable[[], MemoryStore], *, idle: float | None = 0.2, turn: float = 1.0, wait: float = 15.0
    ) -> None:
        self._open, self._idle, self._turn, self.wait = opener, idle, turn, wait
        self._changed = threading.Condition()
        self._store: MemoryStore | None = None
        self._users = 0
        self._busy = False  # somebody opens or closes it, outside of the lock
        self._since = self._left = float("-inf")
        self._releases = 0
        self._stopped = False

    def call(self, verb: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the store.

        Raises:
            StoreLockedError: Another process kept it for all of ``wait``.
            MemoryPluginError: It cannot be opened, or as the method.
        """
        store = self._enter()
        try:
            return getattr(store, verb)(*args, **kwargs)
        finally:
            self._leave()

    def close(self, timeout: float = 10.0) -> None:
        """Wait for running calls, so long at most, and close the store; a later call opens it again."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._users or self._busy), timeout)
            store = None if self._users or self._busy else self._take()
        self._shut(store)

    def stop(self, timeout: float = 5.0) -> None:
        """Close it for good: whoever waits for another process gives up."""
        self._stopped = True
        self.close(timeout)

    def _enter(self) -> MemoryStore:
        """The store, for a call; opened by the first thread that needs it."""
        with self._changed:
            while self._busy or (self._users and self._turn_is_over()):
                self._changed.wait()
            if self._store is not None and not self._turn_is_over():
                self._users += 1
                return self._store
            before, self._busy = self._take(), True
        opened: MemoryStore | None = None
        try:
            if before is not None:
                before.close()
                self._left = time.monotonic()
            opened = self._patiently()
            return opened
        finally:
            with self._changed:
                self._busy = False
                if opened is not None:
                    self._store, self._since = opened, time.monotonic()
                    self._users += 1
                self._changed.notify_all()

    def _patiently(self) -> MemoryStore:
        """Open it as soon as no other process has it."""
        time.sleep(max(self._left + GAP - time.monotonic(), 0))
        began = time.monotonic()
        deadline = began + self.wait
        while True:
            try:
                return self._open()
            except StoreLockedError:
                if self._stopped or time.monotonic() >= deadline:
                    raise
            except KeyServiceError:  # two who make a store at once: one has its keys already, not yet the store
                if self._since > float("-inf") or time.monotonic() >= began + min(MAKING, self.wait):
                    raise
            except InvalidInputError as error:  # of how the server was started, not of what a client asked for
                raise ConfigurationError(str(error)) from error
            time.sleep(random.uniform(POLL / 2, POLL))  # noqa: S311 - not a secret

    def _leave(self) -> None:
        with self._changed:
            self._users -= 1
            if self._users:
                return
            self._releases += 1
            over = self._stopped or self._turn_is_over()
            store = self._take() if over else None
        if over:
            self._shut(store)
            self._left = time.monotonic()
        elif self._idle is not None:
            timer = threading.Timer(self._idle, self._unused, (self._releases,))
            timer.daemon = True
            timer.start()

    def _unused(self, release: int) -> None:
        """Close it, unless there was a call since."""
        with self._changed:
            if self._users or self._busy or release != self._releases:
                return
            store = self._take()
        self._shut(store)

    def _turn_is_over(self) -> bool:
        return self._idle is not None and time.monotonic() - self._since > self._turn

    def _take(self) -> MemoryStore | None:
        """The store, for whoever closes it: until then nobody opens it.  Under the lock."""
        store, self._store = self._store, None
        self._busy = store is not None
        return store

    def _shut(self, store: MemoryStore | None) -> None:
        if store is None:
            return
        try:
            store.close()
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
