"""What the tests of the LlamaIndex adapter share: real stores, and an eye on the threads that they work on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import AsyncHashEmbedder, HashEmbedder, OverlapReranker

VERBS = ("add", "search", "context", "get", "get_sources", "list", "count", "facet", "delete", "forget")


def opened(path: Path, name: str = "memory", **parts: Any) -> MemoryStore:
    """A store of hashed words, without a model."""
    # These tests kill no process, so they need not wait for the disk.
    index = EdgeIndex(path / name, durability="process")
    given = {"embedder": HashEmbedder(), "reranker": OverlapReranker(), "late": None, **parts}
    return MemoryStore(index, keyring=path / "keys" / f"{name}.json", **given)


def opened_async(path: Path, name: str = "memory", **parts: Any) -> AsyncMemoryStore:
    """The same, awaited."""
    index = EdgeIndex(path / name, durability="process")
    given = {"embedder": AsyncHashEmbedder(), "reranker": OverlapReranker(), "late": None, **parts}
    return AsyncMemoryStore(index, keyring=path / "keys" / f"{name}.json", **given)


class Watch:
    """Which verbs of a store were called, and on which threads."""

    def __init__(self, store: MemoryStore) -> None:
        self.calls: list[tuple[str, int]] = []
        for verb in VERBS:
            if hasattr(store, verb):
                setattr(store, verb, self._watched(verb, getattr(store, verb)))

    def _watched(self, verb: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((verb, threading.get_ident()))
            return fn(*args, **kwargs)

        return call

    def count(self, *verbs: str) -> int:
        """How often the verbs were called."""
        return sum(verb in verbs for verb, _ in self.calls)

    def here(self) -> list[str]:
        """The verbs that were called on this thread."""
        return [verb for verb, thread in self.calls if thread == threading.get_ident()]
