"""A LlamaIndex agent with a memory: two sessions of one user.  The model is scripted, so that no key is needed."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage, MockFunctionCallingLLM

from memory_plugin import MemoryStore
from memory_plugin.adapters.llama_index import ChatMemory

ANSWERS = iter(["Noted: no walnuts.", "A carrot cake, without walnuts."])


def answer(messages: Sequence[ChatMessage], **_: Any) -> ChatMessage:
    print(f"--- shown\n{messages[-1].content}\n")
    return ChatMessage(role="assistant", content=next(ANSWERS))


async def main() -> None:
    agent = FunctionAgent(llm=MockFunctionCallingLLM(response_generator=answer))  # or any function calling model
    with tempfile.TemporaryDirectory() as at, MemoryStore.open(Path(at, "memory"), keyring=Path(at, "keys")) as store:
        for session, said in (("monday", "I cannot have walnuts."), ("tuesday", "Which cake should I bake?")):
            memory = ChatMemory(store, "alice", session=session)
            await agent.run(user_msg=said, memory=memory)
            print(f"--- kept on {session}: {[message.content for message in memory.get_all()]}\n")


if __name__ == "__main__":
    asyncio.run(main())
