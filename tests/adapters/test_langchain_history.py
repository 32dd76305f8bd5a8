"""``MemoryChatMessageHistory``: messages as they were, found by what was said, and nothing left of what was cleared."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory

from memory_plugin import AsyncMemoryStore, InvalidInputError, MemoryStore
from memory_plugin.adapters.langchain import MemoryChatMessageHistory, count_message_tokens
from memory_plugin.flow import OnLoop
from tests.adapters.langchain_store import either, emptied, opened

MESSAGES: list[BaseMessage] = [
    SystemMessage("You help.", id="s1"),
    HumanMessage("I am moving to Lisbon.", id="h1", name="alice"),
    AIMessage(
        [
            {"type": "reasoning", "reasoning": "She moves.", "extras": {"signature": "AbC=="}},
            {"type": "text", "text": "When?", "annotations": []},
            {"type": "tool_call", "id": "c1", "name": "calendar", "args": {"month": "May", "z": 1, "a": [None, 1.5]}},
        ],
        id="a1",
        tool_calls=[{"id": "c1", "name": "calendar", "args": {"month": "May", "z": 1, "a": [None, 1.5]}}],
        invalid_tool_calls=[{"id": "c2", "name": "bad", "args": "{", "error": "no JSON"}],
        usage_metadata={"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
        response_metadata={"model_name": "m", "logprobs": None},
    ),
    ToolMessage("Blocked on the 3rd", tool_call_id="c1", artifact={"days": [3]}, status="error", id="t1"),
    HumanMessage(
        [{"type": "text", "text": "See this"}, {"type": "image", "base64": "iVBORw0=", "mime_type": "image/png"}]
    ),
    AIMessage("A cat.\n", id="a2"),
    ChatMessage(role="critic", content="Really?"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryStore]:
    with opened(tmp_path_factory.mktemp("shared") / "m") as made:
        yield made


@pytest.fixture(params=[MemoryStore, AsyncMemoryStore], ids=lambda kind: kind.__name__)
async def store(request: pytest.FixtureRequest, shared: MemoryStore, tmp_path: Path) -> AsyncIterator[Any]:
    async with either(request.param, shared, tmp_path / "m") as made:
        yield made


@pytest.fixture
def blocking(shared: MemoryStore) -> Iterator[MemoryStore]:
    yield shared
    emptied(shared)


async def test_messages_come_back_as_they_were(store: Any) -> None:
    history = MemoryChatMessageHistory(store, ("alice", "monday"))
    assert await history.aget_messages() == []
    await history.aadd_messages(MESSAGES[:3])
    await history.aadd_messages(MESSAGES[3:])
    read = await MemoryChatMessageHistory(store, ("alice", "monday")).aget_messages()
    assert read == MESSAGES
    assert [type(one) for one in read] == [type(one) for one in MESSAGES]
    # Also the order of keys, which a provider's cache of prompts depends on.
    assert [json.dumps(one.model_dump()) for one in read] == [json.dumps(one.model_dump()) for one in MESSAGES]
    last = MemoryChatMessageHistory(store, ("alice", "monday"), limit=2)
    assert await last.aget_messages() == MESSAGES[-2:]


async def test_what_was_said_is_found_and_what_tools_did_is_not(store: Any) -> None:
    await MemoryChatMessageHistory(store, ("alice", "monday")).aadd_messages(MESSAGES)
    search = OnLoop().call
    found = [hit.text for hit in await search(store.search, "Lisbon", "alice", limit=9)]
    assert sorted(found) == ["A cat.", "I am moving to Lisbon.", "See this", "When?"]
    assert not await search(store.search, "Lisbon", "bob")


async def test_clearing_deletes_this_session_only(store: Any) -> None:
    monday, tuesday = (MemoryChatMessageHistory(store, ("alice", day)) for day in ("monday", "tuesday"))
    await monday.aadd_messages(MESSAGES[:2])
    await tuesday.aadd_messages([HumanMessage("Back in Lisbon.")])
    await monday.aclear()
    assert await monday.aget_messages() == []
    assert [hit.text for hit in await OnLoop().call(store.search, "Lisbon", "alice")] == ["Back in Lisbon."]
    assert len(await tuesday.aget_messages()) == 1


async def test_what_cannot_be_kept_is_refused_whole(store: Any) -> None:
    history = MemoryChatMessageHistory(store, ("alice", "monday"))
    with pytest.raises(InvalidInputError, match="JSON"):
        await history.aadd_messages([HumanMessage("Hi"), ToolMessage("x", tool_call_id="1", artifact=object())])
    with pytest.raises(InvalidInputError, match="not str"):
        await history.aadd_messages(["Hi"])  # type: ignore[list-item]
    assert await history.aget_messages() == []
    with pytest.raises(InvalidInputError):
        MemoryChatMessageHistory(store, "")
    assert repr(history) == "MemoryChatMessageHistory"


def test_without_a_loop(blocking: MemoryStore) -> None:
    history = MemoryChatMessageHistory(blocking, ("alice", "monday"))
    history.add_user_message("Hello")
    history.add_ai_message("Hi, Alice")
    history.add_messages(MESSAGES)
    assert [one.content for one in history.messages[:2]] == ["Hello", "Hi, Alice"]
    assert history.messages[2:] == MESSAGES
    history.clear()
    assert history.messages == []


@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
async def test_behind_a_chain(blocking: MemoryStore) -> None:
    prompt = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{said}")])
    seen: list[int] = []

    def noted(value: Any) -> Any:
        seen.append(len(value.to_messages()))
        return value

    answers = iter([AIMessage("one"), AIMessage("two"), AIMessage("three"), AIMessage("other")])
    chain = RunnableWithMessageHistory(
        prompt | noted | GenericFakeChatModel(messages=answers),
        lambda session_id: MemoryChatMessageHistory(blocking, ("alice", session_id)),
        input_messages_key="said",
        history_messages_key="history",
    )
    monday: Any = {"configurable": {"session_id": "monday"}}
    chain.invoke({"said": "first"}, monday)
    chain.invoke({"said": "second"}, monday)
    await chain.ainvoke({"said": "third"}, monday)
    chain.invoke({"said": "first"}, {"configurable": {"session_id": "tuesday"}})
    assert seen == [1, 3, 5, 1]
    kept = MemoryChatMessageHistory(blocking, ("alice", "monday")).messages
    assert [one.content for one in kept] == ["first", "one", "second", "two", "third", "three"]


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────


def test_token_counts_include_tool_calls() -> None:
    call = {"id": "c1", "name": "calendar", "args": {"note": "a long list of things to do " * 20}}
    bare = count_message_tokens([AIMessage("")])
    called = count_message_tokens([AIMessage("", tool_calls=[call])])
    assert called > bare + 100
    # One that stands in the content as well is sent once.
    both = AIMessage([{"type": "tool_use", "id": "c1", "name": "calendar", "input": call["args"]}], tool_calls=[call])
    assert abs(count_message_tokens([both]) - called) < 20
    wrong = AIMessage("", invalid_tool_calls=[{"id": "c", "name": "n", "args": "word " * 200, "error": None}])
    assert count_message_tokens([wrong]) > bare + 100
    assert count_message_tokens([ToolMessage("word " * 200, tool_call_id="c1")]) > 200
    assert count_message_tokens([HumanMessage(["one", {"type": "text", "text": "word " * 200}])]) > 200


def test_trimming_by_them() -> None:
    call = {"id": "c1", "name": "write", "args": {"text": "word " * 300}}
    messages = [
        HumanMessage("a"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("ok", tool_call_id="c1"),
        HumanMessage("b"),
        AIMessage("c"),
    ]

    def kept(limit: int) -> Sequence[BaseMessage]:
        return trim_messages(
            messages, max_tokens=limit, token_counter=count_message_tokens, strategy="last", start_on="human"
        )

    assert kept(100) == messages[3:]
    assert kept(1000) == messages
