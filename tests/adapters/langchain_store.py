"""Stores of hashed words for the tests of the LangChain adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from memory_plugin import PLAINTEXT, AsyncMemoryStore, MemoryStore
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import HashEmbedder

PEOPLE = ("alice", "bob", "company", "nobody")


def opened(path: Path, kind: Any = MemoryStore, **parts: Any) -> Any:
    """A store without models; PLAINTEXT, but for what a test says."""
    given = {"embedder": HashEmbedder(), "reranker": None, "late": None, "keyring": PLAINTEXT, **parts}
    return kind(EdgeIndex(path, durability="process"), **given)


def emptied(store: MemoryStore) -> None:
    """For the next test: a new one costs a tenth of a second and some files."""
    for person in PEOPLE:
        store.delete(person, everything=True)


@asynccontextmanager
async def either(kind: Any, shared: MemoryStore, path: Path, **parts: Any) -> AsyncIterator[Any]:
    """The shared store, emptied afterwards; or one for the loop of this test."""
    if kind is MemoryStore:
        yield shared
        emptied(shared)
        return
    store: AsyncMemoryStore = opened(path, kind, **parts)
    yield store
    await store.close()
