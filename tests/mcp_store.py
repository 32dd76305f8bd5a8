"""Real stores for the tests of the MCP server: quick ones, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker


def open_store(place: Path, **parts: Any) -> MemoryStore:
    """A blocking store at a place; its keys beside it."""
    index = EdgeIndex(place, durability="process")
    return MemoryStore(index, HashEmbedder(64), reranker=OverlapReranker(), keyring=place.with_suffix(".json"), **parts)


def async_store(place: Path) -> AsyncMemoryStore:
    """The same, awaited."""
    index = EdgeIndex(place, durability="process")
    return AsyncMemoryStore(index, HashEmbedder(64), reranker=OverlapReranker(), keyring=place.with_suffix(".json"))


def text_of(result: Any) -> str:
    """What a model reads of a tool's result."""
    return "\n".join(block.text for block in result.content)
