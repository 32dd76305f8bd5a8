"""Our own providers do what every provider does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.crypto.kek import CallbackKek, LocalKek
from memory_plugin.crypto.keyring import FileKeyRing
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.protocols import Embedder, KeyRing, Reranker
from memory_plugin.rerankers.local import LocalReranker
from memory_plugin.testing.doubles import AsyncHashEmbedder, HashEmbedder, OverlapReranker
from memory_plugin.testing.providers import EmbedderTests, KeyRingTests, RerankerTests


class TestLocalEmbedder(EmbedderTests):
    tolerance = 1e-6  # a text's vector depends on nothing but the text

    @pytest.fixture
    def embedder(self) -> Embedder:
        return LocalEmbedder()


class TestHashEmbedder(EmbedderTests):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return HashEmbedder(256)


class TestAsyncHashEmbedder(EmbedderTests):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return AsyncHashEmbedder(256)

    def call(self, method: Callable[..., Any], /, *given: Any, **named: Any) -> Any:
        return asyncio.run(method(*given, **named))


class TestLocalReranker(RerankerTests):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return LocalReranker()


class TestOverlapReranker(RerankerTests):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return OverlapReranker()


class TestFileKeyRing(KeyRingTests):
    @pytest.fixture
    def ring(self, tmp_path: Path) -> Callable[[], KeyRing]:
        return lambda: FileKeyRing(tmp_path / "keys.json", store_id="store")


class TestFileKeyRingUnderAGivenKek(KeyRingTests):
    @pytest.fixture
    def ring(self, tmp_path: Path) -> Callable[[], KeyRing]:
        kek = LocalKek(bytes(range(32)))
        return lambda: FileKeyRing(tmp_path / "keys.json", store_id="store", kek=kek)


class TestFileKeyRingUnderAKms(KeyRingTests):
    @pytest.fixture
    def ring(self, tmp_path: Path) -> Callable[[], KeyRing]:
        kms = LocalKek(bytes(range(32)))
        kek = CallbackKek(kms.wrap, kms.unwrap, "kms-key-1")
        return lambda: FileKeyRing(tmp_path / "keys.json", store_id="store", kek=kek)
