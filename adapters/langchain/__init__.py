"""LangChain: vector store, retriever, reranker, embeddings, chat history, agent middleware.

Each is imported when it is first asked for: the middleware needs ``langchain`` itself, the others ``langchain-core``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.adapters.langchain.history import MemoryChatMessageHistory as MemoryChatMessageHistory
    from memory_plugin.adapters.langchain.messages import count_message_tokens as count_message_tokens
    from memory_plugin.adapters.langchain.middleware import MemoryMiddleware as MemoryMiddleware
    from memory_plugin.adapters.langchain.models import MemoryEmbeddings as MemoryEmbeddings
    from memory_plugin.adapters.langchain.models import MemoryReranker as MemoryReranker
    from memory_plugin.adapters.langchain.retriever import MemoryRetriever as MemoryRetriever
    from memory_plugin.adapters.langchain.vectorstore import MemoryVectorStore as MemoryVectorStore

_HOMES = {
    "MemoryChatMessageHistory": "history",
    "MemoryEmbeddings": "models",
    "MemoryMiddleware": "middleware",
    "MemoryReranker": "models",
    "MemoryRetriever": "retriever",
    "MemoryVectorStore": "vectorstore",
    "count_message_tokens": "messages",
}

__all__ = [
    "MemoryChatMessageHistory",
    "MemoryEmbeddings",
    "MemoryMiddleware",
    "MemoryReranker",
    "MemoryRetriever",
    "MemoryVectorStore",
    "count_message_tokens",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
