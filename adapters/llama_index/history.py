"""How much of a conversation is shown: the end of it, within a budget, cut where a turn begins.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole

from memory_plugin.adapters.llama_index.messages import RESULTS, SYSTEM, last_user


def window(messages: Sequence[ChatMessage], budget: int, count: Callable[[ChatMessage], int]) -> list[ChatMessage]:
    """System messages at the front, then the latest turns that fit.

    It begins with a user's message, never with a tool's result whose call is cut off.  Of a turn that does not fit
    alone, the user's message is kept and its last steps, each a call with its results.  The user's last message is
    always there.

    Where turns are left out, they are left out several at a time, so that what a model is sent begins with the same
    words for some turns: its prompt cache holds.

    Args:
        messages: The conversation, oldest first.
        budget: Tokens.
        count: Tokens of one message.
    """
    front = next((n for n, one in enumerate(messages) if one.role not in SYSTEM), len(messages))
    head, rest = list(messages[:front]), list(messages[front:])
    while rest and rest[0].role in RESULTS:
        del rest[0]
    left = budget - sum(map(count, head))
    first = _fitting(rest, left, count)
    if first == 0:
        return head + rest
    begins = [n for n, one in enumerate(rest) if one.role == MessageRole.USER]
    fitting = [(turn, place) for turn, place in enumerate(begins) if place >= first]
    if fitting:
        step = 1 << max(len(fitting) // 4, 1).bit_length() - 1
        return head + rest[next(place for turn, place in fitting if turn % step == 0 or step == 1) :]
    return head + _end_of_turn(rest, left, count)


def _fitting(messages: Sequence[ChatMessage], budget: int, count: Callable[[ChatMessage], int]) -> int:
    """Where the longest end that fits begins."""
    for place in range(len(messages) - 1, -1, -1):
        budget -= count(messages[place])
        if budget < 0:
            return place + 1
    return 0


def _end_of_turn(rest: Sequence[ChatMessage], budget: int, count: Callable[[ChatMessage], int]) -> list[ChatMessage]:
    """Of a last turn that is too long: the user's message and the last steps that fit beside it."""
    asked = last_user(rest)
    begin = [] if asked is None else [rest[asked]]
    steps = list(rest if asked is None else rest[asked + 1 :])
    first = _fitting(steps, budget - sum(map(count, begin)), count)
    while first < len(steps) and steps[first].role in RESULTS:
        first += 1
    return begin + steps[first:]
