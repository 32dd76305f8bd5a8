"""LangChain: retriever, reranker, embeddings.

Each is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.adapters.langchain.models import MemoryEmbeddings as MemoryEmbeddings
    from memory_plugin.adapters.langchain.models import MemoryReranker as MemoryReranker
    from memory_plugin.adapters.langchain.retriever import MemoryRetriever as MemoryRetriever

_HOMES = {
    "MemoryEmbeddings": "models",
    "MemoryReranker": "models",
    "MemoryRetriever": "retriever",
}

__all__ = ["MemoryEmbeddings", "MemoryReranker", "MemoryRetriever"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
