"""The real Anthropic SDK with a memory, against a server on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_tool

from memory_plugin import ConfigurationError, IndexUnavailableError, InvalidInputError, MemoryStore
from memory_plugin.adapters.anthropic import memory_of, with_memory
from memory_plugin.testing.wire import WireServer
from tests.adapters.talk import FACT, a_store, an_async_store, counted_searches, remembered

QUESTION = "What is Alice allergic to?"
SAID = f"I was given this memory: {FACT}"
ALICE = ("alice", "s1")
BOTH = [("assistant", SAID), ("user", QUESTION)]
ASK: dict[str, Any] = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": QUESTION}]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with a_store(tmp_path) as store:
        yield store


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with WireServer() as wire:
        yield wire


@pytest.fixture
def wire(server: WireServer) -> WireServer:
    server.heal()
    return server


@pytest.fixture
def plain(wire: WireServer) -> Iterator[Anthropic]:
    with Anthropic(base_url=wire.url("anthropic"), api_key=wire.key, max_retries=0) as client:
        yield client


@pytest.fixture
def client(plain: Anthropic, store: MemoryStore) -> Anthropic:
    return with_memory(plain, store, "alice", session=ALICE)


def sent(wire: WireServer) -> list[Any]:
    return [one.body for one in wire.asked("anthropic", "chat")]


def words(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def _create(client: Anthropic) -> str:
    return words(client.messages.create(**ASK))


def _create_stream(client: Anthropic) -> str:
    stream = client.messages.create(**ASK, stream=True)
    assert isinstance(stream, anthropic.Stream)
    deltas = [event.delta for event in stream if event.type == "content_block_delta"]
    return "".join(delta.text for delta in deltas if delta.type == "text_delta")


def _stream(client: Anthropic) -> str:
    with client.messages.stream(**ASK) as stream:
        return "".join(stream.text_stream)


def _stream_left_at_its_end(client: Anthropic) -> str:
    with client.messages.stream(**ASK) as stream:
        for event in stream:
            if event.type == "message_stop":
                return words(event.message)
    return ""


def _parse(client: Anthropic) -> str:
    return words(client.messages.parse(**ASK))


def _raw(client: Anthropic) -> str:
    raw = client.messages.with_raw_response.create(**ASK)
    assert raw.headers["request-id"]
    return words(raw.parse())


def _streaming_response(client: Anthropic) -> str:
    with client.messages.with_streaming_response.create(**ASK) as response:
        return words(response.parse())


def _beta(client: Anthropic) -> str:
    return words(client.beta.messages.create(**ASK))


def _beta_stream(client: Anthropic) -> str:
    with client.beta.messages.stream(**ASK) as stream:
        return words(stream.get_final_message())


def _options(client: Anthropic) -> str:
    return _create(client.with_options(timeout=30).copy(max_retries=1))


ASKS = [
    _create, _create_stream, _stream, _stream_left_at_its_end, _parse, _raw, _streaming_response, _beta, _beta_stream,
    _options,
]  # fmt: skip


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.__name__)
def test_asked_and_answered(client: Anthropic, store: MemoryStore, ask: Callable[[Anthropic], str]) -> None:
    assert ask(client) == SAID
    assert remembered(store, ALICE) == BOTH


def _async_asks() -> list[Any]:
    async def create(client: AsyncAnthropic) -> str:
        return words(await client.messages.create(**ASK))

    async def create_stream(client: AsyncAnthropic) -> str:
        stream = await client.messages.create(**ASK, stream=True)
        deltas = [event.delta async for event in stream if event.type == "content_block_delta"]
        return "".join(delta.text for delta in deltas if delta.type == "text_delta")

    async def stream(client: AsyncAnthropic) -> str:
        async with client.messages.stream(**ASK) as found:
            return await found.get_final_text()

    async def raw(client: AsyncAnthropic) -> str:
        found: Any = await client.messages.with_raw_response.create(**ASK)
        parsed = found.parse()
        return words(await parsed if hasattr(parsed, "__await__") else parsed)

    async def streaming_response(client: AsyncAnthropic) -> str:
        async with client.messages.with_streaming_response.create(**ASK) as found:
            return words(await found.parse())

    async def options(client: AsyncAnthropic) -> str:
        return words(await client.with_options(timeout=30).messages.create(**ASK))

    return [create, create_stream, stream, raw, streaming_response, options]


@pytest.mark.parametrize("ask", _async_asks(), ids=lambda ask: ask.__name__)
async def test_asked_and_answered_on_a_loop(wire: WireServer, store: MemoryStore, ask: Any) -> None:
    async with AsyncAnthropic(base_url=wire.url("anthropic"), api_key=wire.key) as plain:
        assert await ask(with_memory(plain, store, "alice", session=ALICE)) == SAID
    assert remembered(store, ALICE) == BOTH


async def test_an_async_store(wire: WireServer, tmp_path: Path) -> None:
    async with (
        an_async_store(tmp_path) as store,
        AsyncAnthropic(base_url=wire.url("anthropic"), api_key=wire.key) as plain,
    ):
        await store.add(FACT, "alice")
        client = with_memory(plain, store, "alice", session=ALICE)
        assert words(await client.messages.create(**ASK)) == SAID
        assert await store.count(ALICE) == 2
        with Anthropic(api_key="x") as blocking, pytest.raises(ConfigurationError, match="MemoryStore"):
            with_memory(blocking, store, "alice")


def test_what_is_sent(client: Anthropic, wire: WireServer) -> None:
    cached = {"type": "text", "text": "A long text.", "cache_control": {"type": "ephemeral"}}
    question = {"type": "text", "text": QUESTION}
    given: Any = [{"role": "user", "content": [cached, question]}]
    client.messages.create(model="m", max_tokens=9, system="You help.", messages=given)
    (body,) = sent(wire)
    assert body["system"] == "You help."
    assert given == [{"role": "user", "content": [cached, question]}]
    first, memories, last = body["messages"][0]["content"]
    assert (first, last) == (cached, question)
    assert memories["text"].startswith("<memories>")


def test_a_tool_runner(
    client: Anthropic, store: MemoryStore, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK's own agent loop: one search, the same bytes in both rounds, and only words are remembered."""
    searches = counted_searches(monkeypatch)

    @beta_tool
    def look_up() -> str:
        """Look something up."""
        return "Pollen."

    question = "Please look_up what Alice is allergic to."
    runner = client.beta.messages.tool_runner(
        model="m", max_tokens=99, tools=[look_up], messages=[{"role": "user", "content": question}]
    )
    assert words(runner.until_done()) == "The tool says: Pollen."
    first, second = sent(wire)
    assert first["messages"][0]["content"].startswith("<memories>")
    # The SDK lets Anthropic keep the conversation, memories and all: they are not sent again.
    assert second["thread"]["type"] == "continue"
    assert [block["type"] for block in second["messages"][0]["content"]] == ["tool_result"]
    assert len(searches) == 1
    assert remembered(store, ALICE) == [("assistant", "The tool says: Pollen."), ("user", question)]


def test_a_turn_with_tools(client: Anthropic, store: MemoryStore, wire: WireServer) -> None:
    tools: Any = [{"name": "look_up", "input_schema": {"type": "object"}}]
    messages: Any = [{"role": "user", "content": "Please look_up what Alice is allergic to."}]
    answer = client.messages.create(model="m", max_tokens=9, messages=messages, tools=tools)
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Pollen."}
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    said = words(client.messages.create(model="m", max_tokens=9, messages=messages, tools=tools))
    first, second = sent(wire)
    assert second["messages"][0] == first["messages"][0]
    assert second["messages"][2]["content"] == [result]
    assert remembered(store, ALICE) == [("assistant", said), ("user", messages[0]["content"])]


def test_a_conversation_that_anthropic_keeps(client: Anthropic, store: MemoryStore, wire: WireServer) -> None:
    ask: Any = {"model": "m", "max_tokens": 9}
    hello: Any = [{"role": "user", "content": "Hello, I bake a cake for Alice."}]
    first = client.beta.messages.create(**ask, messages=hello, thread={"type": "create"})
    follow: Any = {"type": "continue", "previous_message_id": first.id}
    client.beta.messages.create(**ask, messages=[{"role": "user", "content": "And she?"}], thread=follow)
    assert FACT in sent(wire)[1]["messages"][0]["content"], "what was said before is part of the query"
    assert ("user", "And she?") in remembered(store, ALICE)


@pytest.mark.parametrize("fault", ["bad-request", "server-error", "drop", "truncated", "malformed"])
@pytest.mark.parametrize("ask", [_create, _stream], ids=lambda ask: ask.__name__)
def test_what_fails_or_breaks_off_leaves_nothing(
    client: Anthropic, store: MemoryStore, wire: WireServer, fault: str, ask: Any
) -> None:
    wire.fail("anthropic", fault, operation="chat")
    with suppress(anthropic.AnthropicError, httpx2.HTTPError, ValueError, AssertionError):
        ask(client)
    assert remembered(store, ALICE) == []
    assert ask(client) == SAID
    assert remembered(store, ALICE) == BOTH


def test_an_answer_survives_a_store_that_fails(
    client: Anthropic, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise IndexUnavailableError("the disk is full", provider="qdrant-edge")

    monkeypatch.setattr(store, "add", fail)
    with pytest.warns(RuntimeWarning, match="not remembered: IndexUnavailableError"):
        assert _stream(client) == SAID


def test_it_is_the_client_that_it_was(plain: Anthropic, client: Anthropic, store: MemoryStore) -> None:
    assert isinstance(client, Anthropic)
    for name in ("api_key", "auth_token", "base_url", "max_retries", "timeout", "_client"):
        assert getattr(client, name) == getattr(plain, name), name
    assert _create(plain) == "I see."
    assert remembered(store, ALICE) == []
    assert memory_of(client).conversation.session == ALICE
    with pytest.raises(InvalidInputError, match="no memory"):
        memory_of(plain)
    with pytest.raises(InvalidInputError, match="anthropic"):
        with_memory(object(), store, "alice")  # type: ignore[type-var]
    with pytest.raises(InvalidInputError, match="no developer"):
        _create(with_memory(plain, store, "alice", place="developer"))
    assert _create(with_memory(plain, store, "alice", place="system")) == SAID
