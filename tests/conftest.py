"""Fixtures: stores of every kind, driven both ways by the same test; and where they are made."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker

MEMORY = Path("/dev/shm")
ROOM = 6 * 2**30

# The same examples each time, or new ones; a busy machine is no error either way.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("MEMORY_PLUGIN_EXAMPLES", "repeatable"))


def pytest_configure() -> None:
    """Make temporary directories in memory, where a store is made in a third of the time; with ROOM for them only.

    What a killed process leaves is the same there.  A test of how much room files take uses ``disk_path``.
    ``--basetemp`` and PYTEST_DEBUG_TEMPROOT go before.
    """
    # A shell starts what it runs in the background deaf to Ctrl-C, and children would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and _is_roomy():
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


def _is_roomy() -> bool:
    information = Path("/proc/meminfo")
    if not (information.is_file() and MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        return False
    available = re.search(r"^MemAvailable: +(\d+) kB", information.read_text(), re.MULTILINE)
    return shutil.disk_usage(MEMORY).free > ROOM and available is not None and int(available[1]) * 1024 > ROOM


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trace no lines in what is slow: it runs for how often or how much, and the lines are run by others."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker("no_cover")


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A directory that is not in memory, where holes in files take no room."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


class Driver:
    """A store whose verbs are called in one way, whether it blocks or awaits."""

    def __init__(self, asynchronous: bool, path: Path, **parts: Any) -> None:
        self.path = path
        # These tests kill no process, so they need not wait for the disk: tests/durability/ does.
        index = EdgeIndex(path, durability="process")
        if asynchronous:
            self._runner: asyncio.Runner | None = asyncio.Runner()
            self.store: Any = AsyncMemoryStore(index, **parts)
            try:
                self._runner.run(self.store.__aenter__())
            except BaseException:
                self._runner.close()
                raise
        else:
            self._runner = None
            self.store = MemoryStore(index, **parts)

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        method = getattr(self.store, verb)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self._runner.run(result) if self._runner and inspect.iscoroutine(result) else result

        return call

    def shut(self) -> None:
        self.close()
        if self._runner:
            self._runner.close()


Opener = Callable[..., Driver]


@pytest.fixture(params=["blocking", "on a loop"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens stores of hashed words, each in a directory of its own name; both ways."""
    opened: list[Driver] = []

    def make(name: str = "memory", **parts: Any) -> Driver:
        defaults: dict[str, Any] = {
            "embedder": HashEmbedder(),
            "reranker": OverlapReranker(),
            "late": None,
            "keyring": tmp_path / "keys" / f"{name}.json",
        }
        driver = Driver(request.param == "on a loop", tmp_path / name, **{**defaults, **parts})
        opened.append(driver)
        return driver

    yield make
    for driver in opened:
        driver.shut()


@pytest.fixture
def store(open_store: Opener) -> Driver:
    """A store with two declared fields."""
    from memory_plugin import Settings

    return open_store(settings=Settings(filterable=("topic", "stars")))
