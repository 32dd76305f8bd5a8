"""Messages of LangChain as turns of a conversation, and their tokens.  Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from memory_plugin.adapters.conversation import Turn, count_tokens
from memory_plugin.adapters.extras import needs
from memory_plugin.tokens import DEFAULT_ENCODING

with needs("langchain", "the LangChain adapter"):
    from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

ROLES = ((HumanMessage, "user"), (AIMessage, "assistant"), (SystemMessage, "system"), (ToolMessage, "tool"))

PER_MESSAGE = 4
"""Tokens that chat formats put around a message."""


def turn_of(message: BaseMessage, *, id: bool = False) -> Turn:
    """A message as a turn: the words of the user and of the model, no others.

    What a middleware wrote in the user's name, such as a summary of the conversation, is nobody's words.

    Args:
        message: Of any kind.
        id: Whether its id is kept.
    """
    role = role_of(message)
    made = "lc_source" in message.additional_kwargs
    words = str(message.text) if role in ("user", "assistant") and not made else ""
    return Turn("system" if made else role, words, message.name, id=message.id if id else None)


def role_of(message: BaseMessage) -> str:
    """Who speaks: "user", "assistant", "system", "tool", or what the message says itself."""
    if isinstance(message, ChatMessage):
        return {"human": "user", "ai": "assistant"}.get(message.role, message.role)
    return next((role for kind, role in ROLES if isinstance(message, kind)), message.type)


def count_message_tokens(messages: Sequence[BaseMessage], encoding: str = DEFAULT_ENCODING) -> int:
    """Tokens of messages, counted on this machine, tool calls and their results included.

    For ``langchain_core.messages.trim_messages(…, token_counter=count_message_tokens)``.  Of parts that are no text,
    such as images, their JSON is counted.

    Args:
        messages: Of any kinds.
        encoding: The tiktoken encoding to count with.
    """
    return sum(PER_MESSAGE + count_tokens("\n".join(_parts(message)), encoding) for message in messages)


def _parts(message: BaseMessage) -> Iterable[str]:
    yield role_of(message)
    yield message.name or ""
    called: list[object] = []
    if isinstance(message.content, str):
        yield message.content
    else:
        for block in message.content:
            if isinstance(block, str):
                yield block
            elif block.get("type") == "text":
                yield str(block.get("text", ""))
            else:
                called.append(block.get("id"))
                yield json.dumps(block, ensure_ascii=False, default=str)
    if isinstance(message, AIMessage):
        # Some models' calls stand in the content, too: they are sent once.
        for call in (*message.tool_calls, *message.invalid_tool_calls):
            if call["id"] is None or call["id"] not in called:
                yield json.dumps(call, ensure_ascii=False, default=str)
    if isinstance(message, ToolMessage):
        yield message.tool_call_id
