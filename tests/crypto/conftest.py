"""A key file that is not there yet, and rings on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory_plugin.crypto.kek import Kek
from memory_plugin.crypto.keyring import FileKeyRing
from tests.crypto.helpers import OpenRing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "store.json"


@pytest.fixture
def open_ring(path: Path) -> OpenRing:
    def build(kek: Kek | None = None, store_id: str = "store") -> FileKeyRing:
        return FileKeyRing(path, store_id=store_id, kek=kek)

    return build
