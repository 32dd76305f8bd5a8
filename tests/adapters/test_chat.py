"""Memories in the messages of three APIs: in the right place, for this request only, and nothing else touched."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock, Usage
from openai.types.chat import ChatCompletionMessage
from openai.types.responses import ResponseFunctionToolCall, ResponseInputText, ResponseOutputMessage
from openai.types.responses.response_input_item import Message as InputMessage

from memory_plugin import InvalidInputError, MemoryStore
from memory_plugin.adapters import chat as chats
from memory_plugin.adapters.chat import Chat, formats
from memory_plugin.adapters.conversation import count_tokens
from tests.adapters.talk import FACT, a_store, an_async_store, remembered
from tests.benchmarks.steps import timed

QUESTION = "What is Alice allergic to?"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with a_store(tmp_path) as store:
        yield store


@pytest.fixture
def alice(store: MemoryStore) -> Chat:
    return Chat(store, "alice", session=("alice", "s1"))


def memories(text: str) -> bool:
    return text.startswith("<memories>\nMemories that may help") and FACT in text and text.endswith("</memories>")


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


# Conversations in which a tool was called, as the APIs have them, with everything that has to stay as it is.
CHAT: list[Any] = [
    {"role": "system", "content": "You help."},
    user("Hello there"),
    {"role": "assistant", "content": "Hello.", "refusal": None, "audio": {"id": "audio_1"}},
    user(
        [
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            {"type": "text", "text": QUESTION},
            {"type": "file", "file": {"file_id": "file_1"}},
        ],
        name="Alice",
    ),
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "Nothing."},
]  # fmt: skip
RESPONSES: list[Any] = [
    user("Hello there"),
    {
        "type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "final_answer",
        "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
    },
    {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_image", "image_url": "data:,"}, {"type": "input_text", "text": QUESTION}],
    },
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"},
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "Nothing."},
    {"type": "item_reference", "id": "rs_0"},
]  # fmt: skip
ANTHROPIC: list[Any] = [
    user([{"type": "text", "text": "Hello there", "cache_control": {"type": "ephemeral"}}]),
    {"role": "assistant", "content": "Hello."},
    user([{"type": "image", "source": {"type": "url", "url": "http://x"}}, {"type": "text", "text": QUESTION}]),
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
        ],
    },
    user([{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Nothing."}]}]),
]  # fmt: skip
CONVERSATIONS = {"chat": (CHAT, 3), "responses": (RESPONSES, 2), "anthropic": (ANTHROPIC, 2)}


@pytest.mark.parametrize("form", CONVERSATIONS)
def test_only_the_last_users_message_gets_a_part(alice: Chat, form: str) -> None:
    messages, place = CONVERSATIONS[form]
    before = copy.deepcopy(messages)
    injected = alice.inject(messages)
    assert messages == before, "what was given is not changed"
    assert formats.detect(messages) == form
    assert len(injected) == len(messages)
    assert all(one is other for one, other in zip(injected, messages, strict=True) if one is not injected[place])
    old, new = messages[place], injected[place]
    assert {**new, "content": 0} == {**old, "content": 0}
    parts = new["content"]
    assert parts[0] is old["content"][0]
    assert memories(parts[1]["text"])
    assert parts[1] == {"type": "input_text" if form == "responses" else "text", "text": parts[1]["text"]}
    assert parts[2:] == old["content"][1:]


@pytest.mark.parametrize("form", CONVERSATIONS)
def test_the_same_in_every_round_of_a_turn(alice: Chat, store: MemoryStore, form: str) -> None:
    """The rounds see the same bytes, and one search; the turn after it sees the history without memories."""
    messages, place = CONVERSATIONS[form]
    first = alice.inject(messages[: place + 1])
    store.add("Alice is allergic to hazelnuts too, says a tool meanwhile.", "alice")
    later = alice.inject(messages)
    assert json.dumps(later[: place + 1]) == json.dumps(first)
    following = [
        *messages,
        {"role": "assistant", "content": "Walnuts."},
        user("And what is she allergic to, say again?"),
    ]
    third = alice.inject(following, format=form)  # type: ignore[arg-type]
    assert third[: len(following) - 1] == following[:-1]
    assert "hazelnuts" in third[-1]["content"]


@pytest.mark.parametrize("form", CONVERSATIONS)
def test_what_is_remembered_of_them(alice: Chat, store: MemoryStore, form: str) -> None:
    messages, _ = CONVERSATIONS[form]
    alice.remember(alice.inject(messages))
    expected = [("assistant", "Hello."), ("user", "Hello there"), ("user", QUESTION)]
    assert remembered(store, ("alice", "s1")) == expected, "without the memories that were put in"
    assert alice.remember(messages).written == 0


def test_a_plain_text(alice: Chat) -> None:
    (message,) = alice.inject([user(QUESTION, name="Alice")])
    assert message["name"] == "Alice"
    found, _, own = message["content"].rpartition("\n\n")
    assert memories(found)
    assert own == QUESTION
    text = alice.inject(QUESTION)
    assert text == message["content"]


@pytest.mark.parametrize("place", ["developer", "system"])
def test_a_message_of_its_own(store: MemoryStore, place: Any) -> None:
    alice = Chat(store, "alice", place=place)
    for messages, at in ((CHAT, 3), (RESPONSES, 2)):
        injected = alice.inject(messages)
        assert injected[at]["role"] == place
        assert memories(injected[at]["content"])
        assert injected[:at] + injected[at + 1 :] == messages
    first, second = alice.inject(QUESTION)
    assert (first["role"], second) == (place, user(QUESTION))
    if place == "developer":
        with pytest.raises(InvalidInputError, match="no developer"):
            alice.inject(ANTHROPIC)
    else:
        assert alice.inject(ANTHROPIC)[2]["role"] == "system"


CACHED = {"cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("content", "place"),
    [
        pytest.param([{"type": "text", "text": QUESTION}], 0, id="before the words"),
        pytest.param([{"type": "text", "text": "One"}, {"type": "text", "text": QUESTION}], 0, id="before all words"),
        pytest.param([{"type": "text", "text": QUESTION, **CACHED}], 1, id="behind what is cached"),
        pytest.param(
            [{"type": "document", "source": {}, **CACHED}, {"type": "text", "text": QUESTION}], 1, id="cached document"
        ),
        pytest.param(
            [{"type": "tool_result", "tool_use_id": "t", "content": "x"}, {"type": "text", "text": QUESTION}],
            1,
            id="behind a tool's result",
        ),
        pytest.param(
            [{"type": "text", "text": QUESTION}, {"type": "image", "source": {}, **CACHED}], 2, id="cached image last"
        ),
    ],
)
def test_the_place_among_the_parts(alice: Chat, content: list[Any], place: int) -> None:
    (message,) = alice.inject([user(content)], format="anthropic")
    assert memories(message["content"][place]["text"])
    assert "cache_control" not in message["content"][place]
    assert [part for part in message["content"] if part is not message["content"][place]] == content


def test_a_picture_without_words_goes_with_the_words_before_it(alice: Chat) -> None:
    picture = user([{"type": "image_url", "image_url": {"url": "data:,"}}])
    injected = alice.inject([user(QUESTION), {"role": "assistant", "content": "?"}, picture])
    assert memories(injected[-1]["content"][0]["text"])
    assert injected[-1]["content"][1:] == picture["content"]


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "system", "content": QUESTION}],
        [user("Completely unrelated zebra words")],
        [user("")],
        "",
        [{"type": "function_call_output", "call_id": "c", "output": QUESTION}],
        [user([{"type": "tool_result", "tool_use_id": "t", "content": QUESTION}])],
    ],
    ids=["none", "no user", "unknown", "empty", "empty text", "output only", "tool result only"],
)
def test_nothing_to_add_changes_nothing(store: MemoryStore, messages: Any) -> None:
    carol = Chat(store, "carol")
    assert carol.inject(messages) is messages
    if messages and messages != [user("Completely unrelated zebra words")]:
        assert Chat(store, "alice").inject(messages) is messages


def test_kept_injections_do_not_pile_up(alice: Chat, store: MemoryStore) -> None:
    """An application that keeps the injected list instead of its own."""
    kept = alice.inject([user(QUESTION)])
    again = Chat(store, "alice").inject(kept)
    assert again == kept
    parts = alice.inject([user([{"type": "text", "text": QUESTION}])])
    assert Chat(store, "alice").inject(parts) == parts
    assert alice.inject(alice.inject(QUESTION)) == alice.inject(QUESTION)
    quoting = [user("<memories>\nMine.</memories> What is Alice allergic to?")]
    assert alice.inject(quoting)[0]["content"].endswith(quoting[0]["content"]), "a user's own words stay"


def test_within_the_budget(store: MemoryStore) -> None:
    store.add([f"Alice's allergy number {number} is to pollen of kind {number}." for number in range(50)], "alice")
    for budget in (60, 120, 400):
        (message,) = Chat(store, "alice", max_tokens=budget).inject([user(QUESTION)])
        assert 0 < count_tokens(message["content"].removesuffix(QUESTION).rstrip()) <= budget


def test_the_sdks_own_objects(alice: Chat, store: MemoryStore) -> None:
    answer = ChatCompletionMessage.model_validate(CHAT[4])
    injected = alice.inject([*CHAT[:4], answer, CHAT[5]])
    assert injected[4] is answer

    item = ResponseOutputMessage.model_validate(RESPONSES[1])
    call = ResponseFunctionToolCall.model_validate(RESPONSES[4])
    said = InputMessage(role="user", content=[ResponseInputText(type="input_text", text=QUESTION)])
    before = said.model_dump()
    injected = alice.inject([user("Hello there"), item, said, call, RESPONSES[5]])
    assert (injected[1], injected[3]) == (item, call)
    assert memories(injected[2]["content"][0]["text"])
    assert injected[2]["content"][1] == {"type": "input_text", "text": QUESTION}
    assert said.model_dump() == before

    thought = ThinkingBlock(type="thinking", thinking="Hm.", signature="s")
    used = ToolUseBlock(type="tool_use", id="toolu_1", name="look", input={}, caller=None)
    whole = AnthropicMessage(
        id="m", type="message", role="assistant", model="x", usage=Usage(input_tokens=1, output_tokens=1),
        content=[thought, TextBlock(type="text", text="Let me look."), used],
    )  # fmt: skip
    injected = alice.inject([ANTHROPIC[2], whole, ANTHROPIC[4]])
    assert injected[1] is whole
    assert memories(injected[0]["content"][1]["text"])
    alice.remember([ANTHROPIC[2], whole, ANTHROPIC[4]])
    assert ("assistant", "Let me look.") in remembered(store, ("alice", "s1"))


@pytest.mark.parametrize(
    ("messages", "form"),
    [
        ("words", "responses"),
        ([user("words")], "chat"),
        ([user([{"type": "text", "text": "x"}])], "chat"),
        ([user([{"type": "input_text", "text": "x"}])], "responses"),
        ([user([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}])], "anthropic"),
        ([{"type": "message", "role": "user", "content": "x"}], "responses"),
        ([{"id": "rs_1"}], "responses"),
        ([{"role": "tool", "content": "x"}], "chat"),
    ],
    ids=["text", "plain", "part", "input_text", "cached", "item", "reference", "tool"],
)
def test_formats_are_told_from_messages(messages: Any, form: str) -> None:
    assert formats.detect(messages) == form


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        ([CHAT[4], RESPONSES[3]], {}),
        ([user("x")], {"format": "gemini"}),
        (["words"], {}),
        ([{"content": "x"}], {}),
        (user("x"), {}),
        (None, {}),
        (7, {}),
    ],
    ids=["mixed", "unknown", "texts", "no role", "one message", "none", "number"],
)
def test_what_cannot_be_used_is_refused(alice: Chat, messages: Any, options: Any) -> None:
    for method in (alice.inject, alice.remember):
        with pytest.raises(InvalidInputError):
            method(messages, **options)


def test_bad_options(store: MemoryStore) -> None:
    with pytest.raises(InvalidInputError, match="place"):
        Chat(store, "alice", place="assistant")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError):
        Chat(store, "")


def test_nobody_elses_memories(store: MemoryStore) -> None:
    text = Chat(store, "alice").inject(QUESTION)
    assert "pollen" not in text
    assert "walnuts" not in Chat(store, "bob").inject(QUESTION)


def test_one_call(store: MemoryStore) -> None:
    injected = chats.inject([user(QUESTION)], store, "alice", max_tokens=200)
    assert memories(injected[0]["content"].removesuffix(f"\n\n{QUESTION}"))
    assert chats.remember([user(QUESTION)], store, ("alice", "s1")).written == 1
    assert chats.inject(ANTHROPIC, store, "alice", format="anthropic") != ANTHROPIC


def test_what_is_deleted_does_not_come_back(alice: Chat, store: MemoryStore) -> None:
    assert alice.inject(QUESTION) != QUESTION
    store.forget("alice")
    alice.forget_turn()
    assert alice.inject(QUESTION) == QUESTION


async def test_awaited(tmp_path: Path, store: MemoryStore) -> None:
    async with an_async_store(tmp_path) as other:
        await chats.aremember([user("Alice is allergic to walnuts.")], other, ("alice", "s0"))
        assert "walnuts" in (await chats.ainject(QUESTION, other, "alice"))
        alice = Chat(other, "alice", session=("alice", "s1"))
        assert "walnuts" in await alice.ainject(QUESTION)
        assert (await alice.aremember(QUESTION)).written == 1
    assert "walnuts" in await Chat(store, "alice").ainject(QUESTION), "a blocking store, on a thread"


async def test_a_long_conversation_does_not_hold_up_the_loop(store: MemoryStore) -> None:
    """Two thousand messages of some kilobytes: what is read of them is read on a thread."""
    messages: list[Any] = [user(QUESTION)]
    for number in range(1000):
        messages += [{"role": "assistant", "content": f"Answer {number}. " * 200}, user(f"Message {number}. " * 200)]
    messages.append(user(QUESTION))
    alice = Chat(store, "alice", session=("alice", "s1"))
    await alice.ainject(messages[-1:])
    with timed() as steps:
        assert FACT in (await alice.ainject(messages))[-1]["content"]
        await alice.aremember(messages[-20:])
    assert steps.worst < 10, steps.longest
