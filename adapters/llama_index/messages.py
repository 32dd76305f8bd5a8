"""Chat messages of LlamaIndex: as JSON and exactly back, as turns, and what they count.  Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    ContentBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from pydantic import ValidationError

from memory_plugin import InvalidInputError
from memory_plugin.adapters.conversation import TEMPLATE, Turn, count_tokens
from memory_plugin.types import Json

SYSTEM = (MessageRole.SYSTEM, MessageRole.DEVELOPER)
RESULTS = (MessageRole.TOOL, MessageRole.FUNCTION)
"""Roles of what a tool gave back: nothing without the call before it."""

_SPOKEN = (MessageRole.USER, MessageRole.ASSISTANT)
_OPENING, _, _CLOSING = TEMPLATE.partition("{memories}")

MESSAGE_TOKENS = 4
"""What a message costs beside what it says."""
MEDIA_TOKENS: tuple[tuple[type, int], ...] = (
    (ImageBlock, 1024),
    (AudioBlock, 1024),
    (VideoBlock, 4096),
    (DocumentBlock, 2048),
)
"""What an attachment is taken to cost; no file is opened to count it."""

GONE = "(an attachment that is not there any more)"


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────


def item_of(message: ChatMessage) -> Json:
    """The message as JSON.

    Raises:
        InvalidInputError: It holds what is no JSON.
    """
    try:
        item: dict[str, Json] = message.model_dump(mode="json")
        # Pictures under this name are blocks too, which LlamaIndex would add once more when it reads them.
        extra = item.get("additional_kwargs")
        if isinstance(extra, dict):
            extra.pop("images", None)
        json.dumps(item)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"a {message.role.value} message holds what is no JSON ({type(error).__name__}): "
            "give tool arguments and additional_kwargs as texts, numbers, lists and dictionaries"
        ) from None
    return item


def message_of(item: Json) -> ChatMessage:
    """The message that was written so."""
    try:
        return ChatMessage.model_validate(item)
    except ValidationError:  # a file that a block names was moved since
        given: dict[str, Any] = dict(item) if isinstance(item, dict) else {}
        return ChatMessage.model_validate({**given, "blocks": [_block(one) for one in given.get("blocks", [])]})


def _block(item: Any) -> ContentBlock:
    try:
        return ChatMessage.model_validate({"blocks": [item]}).blocks[0]
    except ValidationError:
        return TextBlock(text=GONE)


# ── turns ─────────────────────────────────────────────────────────────────────────────────────────


def words_of(message: ChatMessage) -> str:
    """What it says."""
    return message.content or ""


def turn_of(message: ChatMessage) -> Turn:
    """The message in no framework's form."""
    return Turn(message.role.value, words_of(message))


def found_by(message: ChatMessage) -> Turn | None:
    """What to find it by in the memory: words of the user and the assistant; nothing of tools and system prompts."""
    return turn_of(message) if message.role in _SPOKEN and words_of(message).strip() else None


def goes_on(messages: Sequence[ChatMessage], said: str) -> bool:
    """Whether ``said`` is the message that the last turn began with, and that turn has no answer yet."""
    last = last_user(messages)
    if last is None or words_of(messages[last]).strip() != said.strip():
        return False
    return messages[-1].role != MessageRole.ASSISTANT


def last_user(messages: Sequence[ChatMessage]) -> int | None:
    """Where the last message of the user is."""
    return next((n for n in range(len(messages) - 1, -1, -1) if messages[n].role == MessageRole.USER), None)


def is_recalled(block: object) -> bool:
    """Whether a block is memories that were put there for one turn: nothing of what they hold can close their tag."""
    return isinstance(block, TextBlock) and block.text.startswith(_OPENING) and block.text.endswith(_CLOSING)


def without_memories(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages as they were said, when what comes back had been given memories.

    Raises:
        InvalidInputError: One is no message.
    """
    said = []
    for message in messages:
        if not isinstance(message, ChatMessage):
            raise InvalidInputError(f"a memory keeps ChatMessage, not {type(message).__name__}")
        blocks = [block for block in message.blocks if not is_recalled(block)]
        if len(blocks) == len(message.blocks):
            said.append(message)
        elif blocks:
            said.append(message.model_copy(update={"blocks": blocks}))
    return said


def with_memories(messages: list[ChatMessage], memories: str, *, asked: bool) -> list[ChatMessage]:
    """The messages with memories before the words of the user's last one, or after all where those words come later.

    What stands before the last message is as it was in the turns before: a model's prompt cache holds.

    Args:
        messages: Not changed.
        memories: Rendered; "" for none.
        asked: Whether the user's words are there already.
    """
    if not memories:
        return messages
    block, place = TextBlock(text=memories), last_user(messages)
    if not asked or place is None:
        return [*messages, ChatMessage(role=MessageRole.USER, blocks=[block])]
    message = messages[place]
    shown = message.model_copy(update={"blocks": [block, *message.blocks]})
    return [*messages[:place], shown, *messages[place + 1 :]]


# ── what they count ───────────────────────────────────────────────────────────────────────────────


def tokens_of(message: ChatMessage, encoding: str) -> int:
    """Tokens of a message, with its tool calls and all else that a model is sent, as JSON."""
    texts = [json.dumps(message.additional_kwargs, default=str)] if message.additional_kwargs else []
    total = MESSAGE_TOKENS
    for block in message.blocks:
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ToolCallBlock):
            texts.append(json.dumps([block.tool_name, block.tool_kwargs, block.tool_call_id], default=str))
        elif isinstance(block, ThinkingBlock):
            texts.append(f"{block.content or ''}{json.dumps(block.additional_information, default=str)}")
        elif not isinstance(block, CachePoint):
            media = next((size for kind, size in MEDIA_TOKENS if isinstance(block, kind)), None)
            total += media or 0
            texts += [] if media else [block.model_dump_json()]
    return total + sum(count_tokens(text, encoding) for text in texts if text)
