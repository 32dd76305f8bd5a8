"""A LangChain agent with a memory: two sessions of one user.  The model is scripted, so that no key is needed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from memory_plugin import MemoryStore
from memory_plugin.adapters.langchain import MemoryMiddleware


class Model(GenericFakeChatModel):
    """In its place, any chat model: "openai:gpt-5.5", "anthropic:claude-sonnet-5"."""

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        print(f"--- shown\n{messages[-1].text}\n")
        return super()._generate(messages)


def main() -> None:
    with tempfile.TemporaryDirectory() as at, MemoryStore.open(Path(at, "memory"), keyring=Path(at, "keys")) as store:
        answers = iter([AIMessage("Noted: no walnuts."), AIMessage("A carrot cake, without walnuts.")])
        for session, said in (("monday", "I cannot have walnuts."), ("tuesday", "Which cake should I bake?")):
            memory = MemoryMiddleware(store, "alice", session=("alice", session))
            agent = create_agent(Model(messages=answers), middleware=[memory])
            kept = agent.invoke({"messages": [{"role": "user", "content": said}]})["messages"]
            print(f"--- kept on {session}: {[message.text for message in kept]}\n")


if __name__ == "__main__":
    main()
