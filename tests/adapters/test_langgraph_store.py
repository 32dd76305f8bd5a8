"""Our LangGraph store does what every LangGraph store does, on either memory store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from langgraph.store.base import TTLConfig

from memory_plugin import PLAINTEXT, AsyncMemoryStore, MemoryStore
from memory_plugin.adapters.langgraph import LangGraphStore
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import AsyncHashEmbedder, HashEmbedder
from memory_plugin.testing.langgraph_store import LangGraphStoreTests, OpenStore, Way


class Clock:
    """The time, and more of it when a test says so."""

    ahead = timedelta()

    @classmethod
    def now(cls) -> datetime:
        return datetime.now(UTC) + cls.ahead

    def wait(self, ticks: float) -> None:
        Clock.ahead += timedelta(minutes=ticks)


def opened(
    store: MemoryStore | AsyncMemoryStore, namespace: tuple[str, ...], ttl: TTLConfig | None, fields: list[str] | None
) -> LangGraphStore:
    made = LangGraphStore(store, namespace=namespace, index_fields=fields, ttl=ttl)
    made._shelf = replace(made._shelf, clock=Clock.now)
    return made


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryStore]:
    """One store for all: each test has a data subject of its own."""
    path = tmp_path_factory.mktemp("langgraph")
    index = EdgeIndex(path / "store", durability="process")
    with MemoryStore(index, HashEmbedder(), reranker=None, late=None, keyring=path / "keys.json") as store:
        yield store


class TestLangGraphStore(Clock, LangGraphStoreTests):
    tick = 60

    @pytest.fixture
    def open_store(self, memory: MemoryStore) -> OpenStore:
        def make(*, ttl: TTLConfig | None = None, fields: list[str] | None = None) -> LangGraphStore:
            return opened(memory, (uuid.uuid4().hex,), ttl, fields)

        return make


class TestOnAnAsyncStore(Clock, LangGraphStoreTests):
    tick = 60

    @pytest.fixture(params=["on a loop"])
    def way(self, request: pytest.FixtureRequest) -> Way:
        return "on a loop"

    @pytest.fixture(scope="class")
    @classmethod
    def amemory(cls, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsyncMemoryStore]:
        path = tmp_path_factory.mktemp("langgraph")
        index: Any = EdgeIndex(path / "store", durability="process")
        store = AsyncMemoryStore(index, AsyncHashEmbedder(), reranker=None, late=None, keyring=PLAINTEXT)
        yield store
        portal.call(store.close)

    @pytest.fixture
    def open_store(self, amemory: AsyncMemoryStore) -> OpenStore:
        def make(*, ttl: TTLConfig | None = None, fields: list[str] | None = None) -> LangGraphStore:
            return opened(amemory, ("app", uuid.uuid4().hex), ttl, fields)

        return make
