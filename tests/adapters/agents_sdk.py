"""What tests of the OpenAI Agents SDK share: a model that follows a script, and stores to keep its sessions in."""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeAlias

from agents import Model, ModelResponse, Usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)
from openai.types.responses.response_reasoning_item import Summary

Output: TypeAlias = ResponseOutputItem
Step: TypeAlias = "str | Exception | Sequence[Output] | Callable[[list[Any]], str]"

_numbers = itertools.count(1)


def said(text: str) -> ResponseOutputMessage:
    part = ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])
    return ResponseOutputMessage(
        id=f"msg_{next(_numbers)}", type="message", role="assistant", status="completed", content=[part]
    )


def call(name: str, arguments: str = "{}") -> ResponseFunctionToolCall:
    number = next(_numbers)
    return ResponseFunctionToolCall(
        id=f"fc_{number}", call_id=f"call_{number}", type="function_call", name=name, arguments=arguments
    )


def thought(text: str) -> ResponseReasoningItem:
    summary = Summary(text=text, type="summary_text")
    return ResponseReasoningItem(
        id=f"rs_{next(_numbers)}", type="reasoning", summary=[summary], encrypted_content="gAAAA=="
    )


class Scripted(Model):
    """Answers as it was told, step by step, and keeps what it was sent.

    Args:
        steps: What to do at each call: a text to say, items to return, an error to raise, or a function of the input.
    """

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.inputs: list[list[Any]] = []
        self.instructions: list[str | None] = []

    def _next(self, system_instructions: str | None, input: Any, **_: object) -> list[Output]:  # noqa: A002
        self.instructions.append(system_instructions)
        self.inputs.append(copy.deepcopy(input))
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if callable(step):
            step = step(self.inputs[-1])
        return [said(step)] if isinstance(step, str) else list(step)

    async def get_response(self, *asked: Any, **options: Any) -> ModelResponse:
        return ModelResponse(output=self._next(*asked[:2], **options), usage=Usage(), response_id=None)

    async def stream_response(self, *asked: Any, **options: Any) -> AsyncIterator[ResponseCompletedEvent]:
        response = Response(
            id="resp_1",
            created_at=0,
            model="scripted",
            object="response",
            output=self._next(*asked[:2], **options),
            tool_choice="auto",
            tools=[],
            parallel_tool_calls=False,
        )
        yield ResponseCompletedEvent(type="response.completed", response=response, sequence_number=0)
