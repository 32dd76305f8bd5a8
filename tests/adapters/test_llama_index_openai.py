"""The LlamaIndex adapter with what most people install: the package ``llama-index``, with its own OpenAI classes.

It wants an older openai than this project is developed with, so it has an environment of its own: ``make llama``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REASON = "llama-index, with its classes for OpenAI, is in an environment of its own: make llama"
llms: Any = pytest.importorskip("llama_index.llms.openai", reason=REASON)
embeddings: Any = pytest.importorskip("llama_index.embeddings.openai", reason=REASON)

from llama_index.core.agent.workflow import FunctionAgent  # noqa: E402
from llama_index.core.chat_engine import CondensePlusContextChatEngine, SimpleChatEngine  # noqa: E402

from memory_plugin import MemoryStore  # noqa: E402
from memory_plugin.adapters.llama_index import ChatMemory, MemoryRetriever  # noqa: E402
from memory_plugin.testing.wire import WireServer  # noqa: E402
from tests.adapters.llama import opened  # noqa: E402

# LlamaIndex looks through all attributes of an agent, deprecated ones of pydantic too.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The `.*` attribute is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the .* attribute on the instance is deprecated:DeprecationWarning"),
]

FACT = "Alice moved to Lisbon in May."
QUESTION = "Where did Alice move to?"
QUOTED = f"I was given this memory: {FACT}"
"""What the local server's model says when it was given one."""


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as wire:
        yield wire


@pytest.fixture
def llm(wire: WireServer) -> Any:
    return llms.OpenAI(model="gpt-4o-mini", api_base=wire.url("openai"), api_key=wire.key, max_retries=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with opened(tmp_path) as store:
        store.add(FACT, "alice")
        store.add("Bob lives in Oslo.", "bob")
        yield store


def test_chat_engine(store: MemoryStore, llm: Any) -> None:
    memory = ChatMemory(store, "alice", session="s1")
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    assert engine.chat(QUESTION).response == QUOTED
    assert "".join(engine.stream_chat("Say it again: where did Alice move to?").response_gen) == QUOTED
    assert [one.role.value for one in memory.get_all()] == ["user", "assistant"] * 2
    assert memory.get_all()[0].content == QUESTION
    stranger = SimpleChatEngine.from_defaults(llm=llm, memory=ChatMemory(store, "bob", session="s1"))
    assert "Lisbon" not in stranger.chat(QUESTION).response


async def test_agent_with_a_tool(store: MemoryStore, llm: Any, wire: WireServer) -> None:
    def weather() -> str:
        """The weather."""
        return "Rain."

    memory = ChatMemory(store, "alice", session="s1")
    agent = FunctionAgent(tools=[weather], llm=llm)
    answer = await agent.run(user_msg="What does weather say of where Alice moved to?", memory=memory)
    assert str(answer) == "The tool says: Rain."
    assert [one.role.value for one in memory.get_all()] == ["user", "assistant", "tool", "assistant"]
    asked = wire.asked("openai", "chat")
    assert len(asked) == 2
    assert all(FACT in str(one.body["messages"]) and "Oslo" not in str(one.body["messages"]) for one in asked)
    assert asked[1].body["messages"][: len(asked[0].body["messages"])] == asked[0].body["messages"]
    # The next turn is sent the call and its answer as they were, or the vendor would refuse it.
    again = await agent.run(user_msg="Thank you. Where did Alice move to?", memory=memory)
    assert str(again) == QUOTED
    assert [one["role"] for one in wire.asked("openai", "chat")[2].body["messages"]][:3] == [
        "user",
        "assistant",
        "tool",
    ]


def test_retriever_in_a_chat_engine(store: MemoryStore, llm: Any, wire: WireServer) -> None:
    engine = CondensePlusContextChatEngine.from_defaults(
        retriever=MemoryRetriever(store, "alice"), llm=llm, memory=ChatMemory(store, "alice", session="s1")
    )
    engine.chat(QUESTION)
    assert FACT in str(wire.asked("openai", "chat")[0].body["messages"])


def test_its_embedding_is_our_embedder(tmp_path: Path, wire: WireServer) -> None:
    model = embeddings.OpenAIEmbedding(
        model="text-embedding-3-small", api_base=wire.url("openai"), api_key=wire.key, dimensions=64, max_retries=0
    )
    with opened(tmp_path, embedder=model) as store:
        store.add(FACT, "alice")
        assert [one.text for one in store.search(QUESTION, "alice", legs="dense")] == [FACT]
    assert wire.asked("openai", "embed")
    assert wire.key not in repr(store)
