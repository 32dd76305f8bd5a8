"""What the tests of the LlamaIndex adapter share: real stores, and an eye on the threads that they work on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.llms import MockFunctionCallingLLM

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


def scripted(*answers: str | ChatMessage) -> tuple[MockFunctionCallingLLM, list[list[ChatMessage]]]:
    """A model of LlamaIndex that gives these answers, one after the other, and what it was sent."""
    left, sent = list(answers), []

    def answer(messages: Sequence[ChatMessage], **_: Any) -> ChatMessage:
        sent.append([message.model_copy(deep=True) for message in messages])
        given = left.pop(0)
        return ChatMessage(role="assistant", content=given) if isinstance(given, str) else given

    return MockFunctionCallingLLM(response_generator=answer, is_chat_model=True), sent


def calling(tool: str, id_: str = "call-1", **arguments: Any) -> ChatMessage:
    """An answer that is a call of a tool."""
    block = ToolCallBlock(tool_call_id=id_, tool_name=tool, tool_kwargs=arguments)
    return ChatMessage(role="assistant", blocks=[block])


def text_of(messages: Sequence[ChatMessage]) -> str:
    """All words of messages."""
    return "\n".join(message.content or "" for message in messages)
