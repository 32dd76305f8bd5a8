"""The embedded index does what every index does, driven both ways."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from memory_plugin.flow import OnLoop
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.protocols import VectorIndex
from memory_plugin.testing.index import Drive, VectorIndexTests


class TestEdgeIndex(VectorIndexTests):
    @pytest.fixture
    def index(self, tmp_path: Path) -> VectorIndex:
        return EdgeIndex(tmp_path / "store", durability="process")


class TestEdgeIndexOnALoop(VectorIndexTests):
    @pytest.fixture
    def index(self, tmp_path: Path) -> VectorIndex:
        return EdgeIndex(tmp_path / "store")

    @pytest.fixture
    def drive(self) -> Drive:
        return lambda work: asyncio.run(work(OnLoop()))
