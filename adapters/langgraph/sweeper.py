"""When to look for what has expired: every so often, in a thread, or along with other work."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from memory_plugin.errors import StoreClosedError

_log = logging.getLogger("memory_plugin")
DEFAULT_MINUTES = 5.0


class Sweeper:
    """Keeps the time.

    Args:
        minutes: Between two sweeps, or None for never by itself.
    """

    def __init__(self, minutes: float | None) -> None:
        self._minutes = minutes
        self._guard = threading.Lock()
        self._last = time.monotonic()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def due(self) -> bool:
        """Whether it is time; the next one is counted from now."""
        if self._minutes is None or self._alive():
            return False
        with self._guard:
            now = time.monotonic()
            if now - self._last < self._minutes * 60:
                return False
            self._last = now
            return True

    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, sweep: Callable[[], int], minutes: float | None) -> Future[None]:
        """Sweep in a thread of its own until told to stop; one thread at a time."""
        done: Future[None] = Future()
        every = (minutes or self._minutes or DEFAULT_MINUTES) * 60
        with self._guard:
            if self._alive():
                stop = self._stop
            else:
                stop = self._stop = threading.Event()
                self._thread = threading.Thread(
                    target=_work, args=(sweep, every, stop, done), name="memory-plugin-ttl", daemon=True
                )
                self._thread.start()
        done.add_done_callback(lambda future: stop.set() if future.cancelled() else None)
        return done

    def stop(self, timeout: float | None) -> bool:
        """Tell the thread to end, and wait for it; whether it has."""
        self._stop.set()
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()


def _work(sweep: Callable[[], int], every: float, stop: threading.Event, done: Future[None]) -> None:
    while not stop.wait(every):
        try:
            sweep()
        except StoreClosedError:
            break
        except Exception as error:  # noqa: BLE001 - the next sweep may work; reads leave out what has expired anyway
            _log.warning("a sweep of expired items failed: %s", type(error).__name__)
    if not done.cancelled():
        done.set_result(None)
