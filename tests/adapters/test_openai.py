"""The real OpenAI SDK with a memory, against a server on this machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI
from pydantic import BaseModel

from memory_plugin import ConfigurationError, IndexUnavailableError, InvalidInputError, MemoryPluginError, MemoryStore
from memory_plugin.adapters.openai import memory_of, with_memory
from memory_plugin.testing.wire import WireServer
from tests.adapters.talk import FACT, a_store, an_async_store, counted_searches, remembered

QUESTION = "What is Alice allergic to?"
SAID = f"I was given this memory: {FACT}"
ALICE = ("alice", "s1")
BOTH = [("assistant", SAID), ("user", QUESTION)]


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
def plain(wire: WireServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=wire.url("openai"), api_key=wire.key, max_retries=0) as client:
        yield client


@pytest.fixture
def client(plain: OpenAI, store: MemoryStore) -> OpenAI:
    return with_memory(plain, store, "alice", session=ALICE)


def user(content: Any = QUESTION) -> dict[str, Any]:
    return {"role": "user", "content": content}


def sent(wire: WireServer) -> list[Any]:
    return [one.body for one in wire.asked("openai", "chat")]


class Reply(BaseModel):
    words: str


# ── every way to ask ──────────────────────────────────────────────────────────────────────────────


def _create(client: OpenAI) -> Any:
    return client.chat.completions.create(model="m", messages=[user()]).choices[0].message.content  # type: ignore[list-item]


def _create_stream(client: OpenAI) -> Any:
    stream = client.chat.completions.create(model="m", messages=[user()], stream=True)  # type: ignore[list-item]
    assert isinstance(stream, openai.Stream)
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def _create_usage(client: OpenAI) -> Any:
    options: Any = {"messages": [user()], "stream_options": {"include_usage": True}}
    with client.chat.completions.create(model="m", stream=True, **options) as stream:
        chunks = list(stream)
    assert chunks[-1].usage is not None
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _stream(client: OpenAI) -> Any:
    with client.chat.completions.stream(model="m", messages=[user()]) as stream:  # type: ignore[list-item]
        return stream.get_final_completion().choices[0].message.content


def _parse(client: OpenAI) -> Any:
    messages: Any = [user()]
    with pytest.raises(ValueError, match="Invalid JSON"):  # the model behind the server speaks no JSON
        client.chat.completions.parse(model="m", messages=messages, response_format=Reply)
    return client.chat.completions.parse(model="m", messages=messages).choices[0].message.content


def _raw(client: OpenAI) -> Any:
    raw = client.chat.completions.with_raw_response.create(model="m", messages=[user()])  # type: ignore[list-item]
    assert raw.headers["x-request-id"]
    return raw.parse().choices[0].message.content


def _raw_stream(client: OpenAI) -> Any:
    messages: Any = [user()]
    raw = client.chat.completions.with_raw_response.create(model="m", messages=messages, stream=True)
    assert raw.parse() is raw.parse()
    return "".join(chunk.choices[0].delta.content or "" for chunk in raw.parse())


def _streaming_response(client: OpenAI) -> Any:
    messages: Any = [user()]
    with client.chat.completions.with_streaming_response.create(model="m", messages=messages) as response:
        return response.parse().choices[0].message.content


def _options(client: OpenAI) -> Any:
    return _create(client.with_options(timeout=30).copy(max_retries=1))


def _responses(client: OpenAI) -> Any:
    return client.responses.create(model="m", input=QUESTION).output_text


def _responses_items(client: OpenAI) -> Any:
    items: Any = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]
    return client.responses.create(model="m", input=items).output_text


def _responses_events(client: OpenAI) -> Any:
    for event in client.responses.create(model="m", input=QUESTION, stream=True):
        if event.type == "response.completed":
            return event.response.output_text  # and never comes back
    return None


def _responses_stream(client: OpenAI) -> Any:
    with client.responses.stream(model="m", input=QUESTION) as stream:
        return stream.get_final_response().output_text


def _responses_parse(client: OpenAI) -> Any:
    return client.responses.parse(model="m", input=QUESTION).output_text


ASKS = [
    _create, _create_stream, _create_usage, _stream, _parse, _raw, _raw_stream, _streaming_response, _options,
    _responses, _responses_items, _responses_events, _responses_stream, _responses_parse,
]  # fmt: skip


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.__name__)
def test_asked_and_answered(client: OpenAI, store: MemoryStore, ask: Callable[[OpenAI], Any]) -> None:
    assert ask(client) == SAID
    assert remembered(store, ALICE) == BOTH


def _async_asks() -> list[Any]:
    messages: Any = [user()]

    async def create(client: AsyncOpenAI) -> Any:
        return (await client.chat.completions.create(model="m", messages=messages)).choices[0].message.content

    async def create_stream(client: AsyncOpenAI) -> Any:
        stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
        assert isinstance(stream, openai.AsyncStream)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def stream(client: AsyncOpenAI) -> Any:
        async with client.chat.completions.stream(model="m", messages=messages) as found:
            return (await found.get_final_completion()).choices[0].message.content

    async def raw(client: AsyncOpenAI) -> Any:
        found = await client.chat.completions.with_raw_response.create(model="m", messages=messages)
        return found.parse().choices[0].message.content

    async def raw_stream(client: AsyncOpenAI) -> Any:
        found = await client.chat.completions.with_raw_response.create(model="m", messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in found.parse()])

    async def streaming_response(client: AsyncOpenAI) -> Any:
        async with client.chat.completions.with_streaming_response.create(model="m", messages=messages) as found:
            return (await found.parse()).choices[0].message.content

    async def options(client: AsyncOpenAI) -> Any:
        return (await client.with_options(timeout=30).responses.create(model="m", input=QUESTION)).output_text

    async def responses_stream(client: AsyncOpenAI) -> Any:
        async with client.responses.stream(model="m", input=QUESTION) as found:
            return (await found.get_final_response()).output_text

    return [create, create_stream, stream, raw, raw_stream, streaming_response, options, responses_stream]


@pytest.mark.parametrize("ask", _async_asks(), ids=lambda ask: ask.__name__)
async def test_asked_and_answered_on_a_loop(wire: WireServer, store: MemoryStore, ask: Any) -> None:
    async with AsyncOpenAI(base_url=wire.url("openai"), api_key=wire.key) as plain:
        assert await ask(with_memory(plain, store, "alice", session=ALICE)) == SAID
    assert remembered(store, ALICE) == BOTH


async def test_an_async_store(wire: WireServer, tmp_path: Path) -> None:
    async with (
        an_async_store(tmp_path) as store,
        AsyncOpenAI(base_url=wire.url("openai"), api_key=wire.key) as plain,
    ):
        await store.add(FACT, "alice")
        client = with_memory(plain, store, "alice", session=ALICE)
        assert (await client.responses.create(model="m", input=QUESTION)).output_text == SAID
        assert await store.count(ALICE) == 2
        with OpenAI(api_key="x") as blocking, pytest.raises(ConfigurationError, match="MemoryStore"):
            with_memory(blocking, store, "alice")


async def test_the_loop_is_not_held_up(wire: WireServer, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()
    for verb in ("search", "add"):
        real = getattr(MemoryStore, verb)

        def noting(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            threads.add(threading.get_ident())
            return real(*args, **kwargs)

        monkeypatch.setattr(MemoryStore, verb, noting)
    async with AsyncOpenAI(base_url=wire.url("openai"), api_key=wire.key) as plain:
        client = with_memory(plain, store, "alice", session=ALICE)
        await asyncio.gather(*(client.responses.create(model="m", input=f"{QUESTION} {n}") for n in range(4)))
    assert threads
    assert threading.get_ident() not in threads


# ── what is sent ──────────────────────────────────────────────────────────────────────────────────


def test_memories_go_out_and_stay_out_of_the_callers_list(client: OpenAI, wire: WireServer) -> None:
    messages: Any = [{"role": "system", "content": "You help."}, user()]
    client.chat.completions.create(model="m", messages=messages, temperature=0.5, extra_body={"seed": 7})
    assert messages == [{"role": "system", "content": "You help."}, user()]
    (body,) = sent(wire)
    assert body["messages"][0] == messages[0]
    assert body["messages"][1]["content"].startswith("<memories>")
    assert body["messages"][1]["content"].endswith(f"</memories>\n\n{QUESTION}")
    assert (body["temperature"], body["seed"]) == (0.5, 7)


def test_a_turn_with_tools(
    client: OpenAI, store: MemoryStore, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One search, the same bytes in both rounds, and only words are remembered."""
    searches = counted_searches(monkeypatch)
    tools: Any = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    messages: Any = [user("Please look_up what Alice is allergic to.")]
    message = client.chat.completions.create(model="m", messages=messages, tools=tools).choices[0].message
    assert message.tool_calls
    messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Pollen."}]
    answer = client.chat.completions.create(model="m", messages=messages, tools=tools).choices[0].message.content
    assert answer == "The tool says: Pollen."
    first, second = sent(wire)
    assert second["messages"][0] == first["messages"][0]
    assert second["messages"][1]["tool_calls"][0]["id"] == "call_1"
    assert len(searches) == 1
    assert remembered(store, ALICE) == [("assistant", answer), ("user", messages[0]["content"])]


def test_the_prefix_stays_the_same_from_turn_to_turn(client: OpenAI, wire: WireServer) -> None:
    messages: Any = [{"role": "system", "content": "You help."}]
    for question in (QUESTION, "Which walnuts is Alice allergic to?", "Why is Alice allergic?"):
        messages.append(user(question))
        said = client.chat.completions.create(model="m", messages=messages).choices[0].message.content
        messages.append({"role": "assistant", "content": said})
    for number, body in enumerate(sent(wire)):
        assert body["messages"][:-1] == messages[: 1 + 2 * number]
        assert "<memories>" in body["messages"][-1]["content"]


def test_a_conversation_that_openai_keeps(client: OpenAI, store: MemoryStore, wire: WireServer) -> None:
    """Memories go where OpenAI does not keep them; the query knows what was said before."""
    first = client.responses.create(model="m", input="Hello, I bake a cake for Alice.", store=True)
    second = client.responses.create(model="m", input="And she?", previous_response_id=first.id, instructions="Help.")
    body = sent(wire)[1]
    assert body["input"] == "And she?"
    assert body["instructions"].startswith("Help.\n\n<memories>")
    output: Any = [{"type": "function_call_output", "call_id": "call_1", "output": "Pollen."}]
    client.responses.create(model="m", input=output, previous_response_id=second.id)
    body = sent(wire)[2]
    assert body["input"] == output
    assert body["instructions"] == sent(wire)[1]["instructions"].removeprefix("Help.\n\n")
    for turn in range(2):
        second = client.responses.create(model="m", input="Yes, walnuts", previous_response_id=second.id)
        assert remembered(store, ALICE).count(("user", "Yes, walnuts")) == turn + 1
    client.responses.create(model="m", input="Alice and walnuts?", conversation="conv_1")
    client.responses.create(model="m", input="And now?", conversation={"id": "conv_1"})
    assert "walnuts" in sent(wire)[-1]["instructions"]


def test_in_the_instructions(plain: OpenAI, store: MemoryStore, wire: WireServer) -> None:
    client = with_memory(plain, store, "alice", session=ALICE, place="instructions")
    client.responses.create(model="m", input=QUESTION)
    assert sent(wire)[0]["input"] == QUESTION
    assert FACT in sent(wire)[0]["instructions"]


def test_examples_in_the_prompt_were_not_said(client: OpenAI, store: MemoryStore) -> None:
    messages: Any = [user("2 + 2?"), {"role": "assistant", "content": "4"}, user()]
    client.chat.completions.create(model="m", messages=messages)
    assert remembered(store, ALICE) == BOTH


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fault", ["bad-request", "server-error", "drop", "malformed"])
def test_a_failed_request_leaves_nothing(client: OpenAI, store: MemoryStore, wire: WireServer, fault: str) -> None:
    wire.fail("openai", fault, operation="chat")
    with pytest.raises(openai.OpenAIError if fault != "malformed" else ValueError):
        _create(client)
    assert remembered(store, ALICE) == []
    assert _create(client) == SAID
    assert remembered(store, ALICE) == BOTH


@pytest.mark.parametrize("ask", [_create_stream, _responses_events], ids=lambda ask: ask.__name__)
@pytest.mark.parametrize("fault", ["truncated", "malformed"])
def test_a_stream_that_breaks_off_leaves_nothing(
    client: OpenAI, store: MemoryStore, wire: WireServer, fault: str, ask: Any
) -> None:
    wire.fail("openai", fault, operation="chat")
    with suppress(openai.OpenAIError, httpx.HTTPError, ValueError):
        ask(client)
    assert remembered(store, ALICE) == []


def test_a_stream_that_is_left_is_remembered_with_the_next_answer(client: OpenAI, store: MemoryStore) -> None:
    question = "Alice wants a cake. Is she allergic?"
    messages: Any = [user(question)]
    with client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
        next(stream)
    assert remembered(store, ALICE) == []
    messages = [user(question), {"role": "assistant", "content": "I was"}, user()]
    client.chat.completions.create(model="m", messages=messages)
    said = remembered(store, ALICE)
    assert ("user", question) in said
    assert ("assistant", "I was") in said
    assert ("user", QUESTION) in said


def test_an_answer_survives_a_store_that_fails(
    plain: OpenAI, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise IndexUnavailableError("the disk is full", provider="qdrant-edge")

    monkeypatch.setattr(store, "add", fail)
    with pytest.warns(RuntimeWarning, match="not remembered: IndexUnavailableError: the disk is full"):
        assert _create(with_memory(plain, store, "alice", session=ALICE)) == SAID
    seen: list[MemoryPluginError] = []
    assert _create_stream(with_memory(plain, store, "alice", session=ALICE, on_error=seen.append)) == SAID
    assert len(seen) == 1
    with pytest.raises(IndexUnavailableError):
        _create(with_memory(plain, store, "alice", session=ALICE, on_error="raise"))


def test_a_recall_that_fails_sends_nothing(
    client: OpenAI, store: MemoryStore, wire: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise IndexUnavailableError("gone", provider="qdrant-edge")

    monkeypatch.setattr(store, "search", fail)
    with pytest.raises(IndexUnavailableError):
        _create(client)
    assert sent(wire) == []


@pytest.mark.parametrize(
    "options",
    [{"on_error": "ignore"}, {"place": "tool"}, {"max_tokens": 0}, {"namespace": ""}],
    ids=["on_error", "place", "tokens", "namespace"],
)
def test_bad_options(plain: OpenAI, store: MemoryStore, options: Any) -> None:
    with pytest.raises(InvalidInputError):
        with_memory(plain, store, **{"namespace": "alice", **options})


# ── a client like any other ───────────────────────────────────────────────────────────────────────


def test_it_is_the_client_that_it_was(plain: OpenAI, client: OpenAI, store: MemoryStore, wire: WireServer) -> None:
    assert isinstance(client, OpenAI)
    assert type(client).__name__ == "OpenAI"
    for name in ("api_key", "base_url", "organization", "max_retries", "timeout", "user_agent", "_client"):
        assert getattr(client, name) == getattr(plain, name), name
    assert client.with_options(max_retries=5).max_retries == 5
    assert isinstance(client.with_options(), OpenAI)
    assert client.embeddings.create(model="text-embedding-3-small", input="x", dimensions=8).data[0].embedding
    _create(plain)
    assert remembered(store, ALICE) == [], "the one given stays as it is"
    assert "<memories>" not in str(sent(wire)[-1])
    assert FACT not in repr(client)


def test_resources_that_were_used_before(plain: OpenAI, store: MemoryStore) -> None:
    _create(plain)
    assert _create(with_memory(plain, store, "alice", session=ALICE)) == SAID
    assert _create(plain) != SAID


class Eager(OpenAI):
    """As clients of the SDK were until 1.57: their resources are made with them."""

    chat: Any = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.chat = openai.resources.Chat(self)


def test_resources_made_with_the_client(wire: WireServer, store: MemoryStore) -> None:
    with Eager(base_url=wire.url("openai"), api_key=wire.key) as plain:
        assert _create(with_memory(plain, store, "alice", session=ALICE)) == SAID
        assert _create(plain) == "I see."


def test_a_client_whose_requests_go_past_us_is_refused(plain: OpenAI, store: MemoryStore) -> None:
    class Elsewhere(OpenAI):
        chat = property(lambda self: plain.chat)

    with Elsewhere(api_key="x") as client, pytest.raises(ConfigurationError, match="upgrade"):
        with_memory(client, store, "alice")


def test_users_side_by_side(plain: OpenAI, store: MemoryStore) -> None:
    """A client for each user, on the same connections."""
    alice, bob = with_memory(plain, store, "alice"), with_memory(plain, store, "bob")
    assert "walnuts" in _create(alice)
    assert "pollen" in _create(bob)
    assert remembered(store, "bob") == [("assistant", _create(bob)), ("user", QUESTION)]


def test_its_memory(client: OpenAI, plain: OpenAI, store: MemoryStore) -> None:
    assert _create(client) == SAID
    store.forget("alice")
    memory_of(client).forget_turn()
    assert _create(client) == "I see."
    with pytest.raises(InvalidInputError, match="no memory"):
        memory_of(plain)
    with pytest.raises(InvalidInputError, match="already"):
        with_memory(client, store, "bob")
    with pytest.raises(InvalidInputError, match="openai"):
        with_memory(object(), store, "bob")  # type: ignore[type-var]


def test_azure(wire: WireServer, store: MemoryStore) -> None:
    with AzureOpenAI(azure_endpoint=wire.url("azure"), api_key=wire.key, api_version="2024-10-21") as plain:
        assert _create(with_memory(plain, store, "alice", session=ALICE)) == SAID
    assert remembered(store, ALICE) == BOTH


def test_many_threads(client: OpenAI, store: MemoryStore) -> None:
    threads = [threading.Thread(target=_create, args=(client,)) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert remembered(store, ALICE) == BOTH


def test_from_session_to_session_with_the_local_models(plain: OpenAI, tmp_path: Path) -> None:
    with MemoryStore.open(tmp_path / "local", keyring=tmp_path / "local.json") as store:
        monday = with_memory(plain, store, "alice", session=("alice", "monday"))
        monday.responses.create(model="m", input="By the way, nuts make me ill.")
        monday.responses.create(model="m", input="The train to Porto leaves at nine.")
        tuesday = with_memory(plain, store, "alice", session=("alice", "tuesday"))
        answer = tuesday.responses.create(model="m", input="Which food should I avoid?").output_text
    assert "nuts make me ill" in answer
