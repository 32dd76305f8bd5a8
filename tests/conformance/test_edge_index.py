"""The embedded index does what every index does, driven both ways."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_plugin.flow import OnLoop
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.protocols import VectorIndex
from memory_plugin.testing.index import Drive, VectorIndexTests


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: making a store syncs some eighty times, seconds on a busy disk."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


class TestEdgeIndex(VectorIndexTests):
    @pytest.fixture
    def index(self, scratch: Path) -> VectorIndex:
        return EdgeIndex(scratch / "store", durability="process")


class TestEdgeIndexOnALoop(VectorIndexTests):
    @pytest.fixture
    def index(self, scratch: Path) -> VectorIndex:
        return EdgeIndex(scratch / "store")

    @pytest.fixture
    def drive(self) -> Drive:
        return lambda work: asyncio.run(work(OnLoop()))
