"""Chat in the vendors' formats, whole or as a stream of events; the model behind it only quotes what it was given.

It is no language model: it answers with the first memory in the request, or that it sees.  A tool whose name the user
says is called once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memory_plugin.testing.wire.asks import Ask, Refused
from memory_plugin.testing.wire.vectors import tokens

_MEMORIES = re.compile(r"<memories>\n(.*?)</memories>", re.DOTALL)
_PASSAGE = re.compile(r"^\[1\] [^\n]*\n(.*?)(?=\n\[\d+\] |\Z)", re.MULTILINE | re.DOTALL)
_PIECE = re.compile(r"\s*\S+")


class Events(list[tuple[str, Any]]):
    """An answer as server-sent events: a name, or "", and JSON, or a word."""

    def content(self) -> bytes:
        """As it travels."""
        lines = []
        for name, data in self:
            told = data if isinstance(data, str) else json.dumps(data)
            lines.append(f"event: {name}\ndata: {told}\n\n" if name else f"data: {told}\n\n")
        return "".join(lines).encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says, or the tool that it calls."""

    text: str
    tool: str | None
    name: str
    asked: int

    @property
    def pieces(self) -> list[str]:
        """The text as a stream brings it."""
        return _PIECE.findall(self.text)

    @property
    def said(self) -> int:
        """Its tokens."""
        return tokens(self.text) if self.text else 1


def _reply(ask: Ask, messages: Any, *others: Any) -> Reply:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages have to be a list that is not empty")
    whole = json.dumps([messages, others])
    name = hashlib.sha256(whole.encode()).hexdigest()[:24]
    spoken = [text for message in messages if _role(message) == "user" for text in _texts(message.get("content"))]
    words = spoken[-1] if spoken else ""
    results = list(_results(messages[-1]))
    tools = [str(one.get("name") or one.get("function", {}).get("name")) for one in ask.body.get("tools") or ()]
    called = next((one for one in tools if one in words), None) if not results else None
    texts = [text for message in messages for text in _texts(message.get("content"))]
    found = [one for text in [*texts, *map(str, others)] for one in _MEMORIES.findall(text)]
    passage = _PASSAGE.search(found[-1]) if found else None
    if results:
        text = f"The tool says: {results[-1]}"
    elif passage:
        text = f"I was given this memory: {' '.join(passage[1].split())}"
    else:
        text = "I see."
    return Reply("" if called else text, called, name, tokens(whole))


def _role(message: Mapping[str, Any]) -> str:
    return str(message.get("role"))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        if isinstance(part.get("text"), str):
            yield part["text"]


def _results(message: Mapping[str, Any]) -> Iterator[str]:
    """What tools answered in a message."""
    if message.get("role") == "tool":
        yield from _texts(message.get("content"))
    if message.get("type") == "function_call_output":
        yield str(message.get("output"))
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if part.get("type") == "tool_result":
            yield from _texts(part.get("content"))


# ── OpenAI's Chat Completions ─────────────────────────────────────────────────────────────────────


def chat_completions(ask: Ask) -> Any:
    """POST /v1/chat/completions."""
    reply = _reply(ask, ask.body.get("messages"))
    base = {"id": f"chatcmpl-{reply.name}", "created": 1, "model": ask.body.get("model")}
    used = {"prompt_tokens": reply.asked, "completion_tokens": reply.said, "total_tokens": reply.asked + reply.said}
    ended = "tool_calls" if reply.tool else "stop"
    call = {"id": "call_1", "type": "function", "function": {"name": reply.tool, "arguments": "{}"}}
    if not ask.body.get("stream"):
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
        message |= {"tool_calls": [call]} if reply.tool else {}
        choice = {"index": 0, "message": message, "finish_reason": ended, "logprobs": None}
        return {**base, "object": "chat.completion", "choices": [choice], "usage": used}

    def chunk(delta: Any, finish: str | None = None) -> tuple[str, Any]:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]
        return "", {**base, "object": "chat.completion.chunk", "choices": choices}

    events = Events([chunk({"role": "assistant", "content": None if reply.tool else ""})])
    events += [chunk({"tool_calls": [{"index": 0, **call}]})] if reply.tool else []
    events += [chunk({"content": piece}) for piece in reply.pieces]
    events.append(chunk({}, ended))
    if (ask.body.get("stream_options") or {}).get("include_usage"):
        events.append(("", {**base, "object": "chat.completion.chunk", "choices": [], "usage": used}))
    events.append(("", "[DONE]"))
    return events


# ── OpenAI's Responses ────────────────────────────────────────────────────────────────────────────


def responses(ask: Ask) -> Any:
    """POST /v1/responses."""
    body = ask.body
    reply = _reply(ask, body.get("input"), body.get("instructions"), body.get("previous_response_id"))
    item = _item(reply, "completed")
    whole = {
        "id": f"resp_{reply.name}", "object": "response", "created_at": 1, "model": body.get("model"),
        "status": "completed", "error": None, "incomplete_details": None, "instructions": body.get("instructions"),
        "metadata": {}, "output": [item], "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0,
        "tool_choice": "auto", "tools": body.get("tools") or [],
        "previous_response_id": body.get("previous_response_id"),
        "usage": {
            "input_tokens": reply.asked, "output_tokens": reply.said, "total_tokens": reply.asked + reply.said,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
        },
    }  # fmt: skip
    if not body.get("stream"):
        return whole
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    told: list[dict[str, Any]] = [{"type": f"response.{one}", "response": begun} for one in ("created", "in_progress")]
    told.append({"type": "response.output_item.added", "output_index": 0, "item": _item(reply, "in_progress")})
    told += _call_events(item) if reply.tool else _text_events(item, reply.pieces)
    told.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    told.append({"type": "response.completed", "response": whole})
    return Events((one["type"], {**one, "sequence_number": place}) for place, one in enumerate(told))


def _item(reply: Reply, status: str) -> dict[str, Any]:
    if reply.tool:
        call = {"call_id": "call_1", "name": reply.tool, "arguments": "{}" if status == "completed" else ""}
        return {"type": "function_call", "id": f"fc_{reply.name}", "status": status, **call}
    content = [{"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}]
    made = {"type": "message", "id": f"msg_{reply.name}", "status": status, "role": "assistant"}
    return {**made, "content": content if status == "completed" else []}


def _text_events(item: Mapping[str, Any], pieces: Sequence[str]) -> list[dict[str, Any]]:
    where = {"output_index": 0, "content_index": 0, "item_id": item["id"]}
    part = item["content"][0]
    kind = "response.output_text"
    return [
        {"type": "response.content_part.added", **where, "part": {**part, "text": ""}},
        *({"type": f"{kind}.delta", **where, "delta": piece, "logprobs": []} for piece in pieces),
        {"type": f"{kind}.done", **where, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **where, "part": part},
    ]


def _call_events(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    where = {"output_index": 0, "item_id": item["id"]}
    kind = "response.function_call_arguments"
    return [
        {"type": f"{kind}.delta", **where, "delta": item["arguments"]},
        {"type": f"{kind}.done", **where, "arguments": item["arguments"], "name": item["name"]},
    ]


# ── Anthropic's Messages ──────────────────────────────────────────────────────────────────────────


def messages(ask: Ask) -> Any:
    """POST /v1/messages."""
    reply = _reply(ask, ask.body.get("messages"), ask.body.get("system"))
    block: dict[str, Any] = {"type": "text", "text": reply.text}
    if reply.tool:
        block = {"type": "tool_use", "id": "toolu_1", "name": reply.tool, "input": {}}
    ended = {"stop_reason": "tool_use" if reply.tool else "end_turn", "stop_sequence": None}
    used = {"input_tokens": reply.asked, "output_tokens": reply.said}
    whole = {"id": f"msg_{reply.name}", "type": "message", "role": "assistant", "model": ask.body.get("model")}
    if not ask.body.get("stream"):
        return {**whole, "content": [block], **ended, "usage": used}
    begun: dict[str, Any] = {
        **whole,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**used, "output_tokens": 1},
    }
    empty = {**block, "text": ""} if not reply.tool else block
    deltas = [{"type": "text_delta", "text": piece} for piece in reply.pieces]
    deltas += [{"type": "input_json_delta", "partial_json": "{}"}] if reply.tool else []
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": reply.said}},
        {"type": "message_stop"},
    ]
    return Events((one["type"], one) for one in told)


def anthropic_error(status: int, message: str, code: str) -> Any:
    """An error as Anthropic words it."""
    kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
    return {"type": "error", "error": {"type": code or kinds.get(status, "api_error"), "message": message}}
