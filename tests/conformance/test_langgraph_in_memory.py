"""LangGraph's own store does what its words promise, but for what is named here."""

from __future__ import annotations

from typing import ClassVar

import pytest
from langgraph.store.base import IndexConfig
from langgraph.store.memory import InMemoryStore

from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.testing.langgraph_store import LangGraphStoreTests, OpenStore


def embed(texts: list[str]) -> list[list[float]]:  # type: ignore[type-arg, unused-ignore]
    vectors: list[list[float]] = HashEmbedder().embed(texts, input_type="document").vectors.tolist()
    return vectors


class TestInMemoryStore(LangGraphStoreTests):
    differences: ClassVar[dict[str, str]] = {}

    @pytest.fixture
    def open_store(self) -> OpenStore:
        def make(*, ttl: object = None, fields: list[str] | None = None) -> InMemoryStore:
            return InMemoryStore(index=IndexConfig(dims=64, embed=embed, fields=fields))

        return make
