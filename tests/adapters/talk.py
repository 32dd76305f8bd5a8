"""Small stores, and what was remembered in them, for tests of adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import HashEmbedder

FACT = "Alice is allergic to walnuts."


def parts() -> dict[str, Any]:
    return {"embedder": HashEmbedder(), "reranker": None, "late": None}


@contextmanager
def a_store(path: Path) -> Iterator[MemoryStore]:
    """A store of hashed words that knows one thing of Alice and one of Bob."""
    index = EdgeIndex(path / "memory", durability="process")
    with MemoryStore(index, keyring=path / "keys.json", **parts()) as store:
        store.add(FACT, "alice")
        store.add("Bob is allergic to pollen, Alice.", "bob")
        yield store


def an_async_store(path: Path) -> AsyncMemoryStore:
    """One of its own kind, at a place of its own, empty."""
    return AsyncMemoryStore(
        EdgeIndex(path / "async", durability="process"), keyring=path / "async keys.json", **parts()
    )


def remembered(store: MemoryStore, namespace: Any) -> list[tuple[str | None, str]]:
    """Role and text of what was said, in no order."""
    return sorted(
        (str(one.role), one.text) for one in store.list(namespace, limit=1000).records if one.kind == "message"
    )


def counted_searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries of all searches from now on."""
    queries: list[str] = []
    real = MemoryStore.search

    def counting(store: MemoryStore, query: str, *args: Any, **kwargs: Any) -> Any:
        queries.append(query)
        return real(store, query, *args, **kwargs)

    monkeypatch.setattr(MemoryStore, "search", counting)
    return queries
