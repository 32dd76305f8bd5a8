"""A LangChain agent with a memory: two sessions of one user.  The model is scripted, so that no key is needed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage

from memory_plugin import MemoryStore
from memory_plugin.adapters.langchain import MemoryMiddleware


class Model(GenericFakeChatModel):
    """In its place, any chat model: "openai:gpt-5.5", "anthropic:claude-sonnet-5"."""

    def _generate(self, messages: list[BaseMessage], *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
        print(f"--- the model is shown\n{messages[-1].text}\n")
        return super()._generate(messages)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        MemoryStore.open(Path(name, "memory"), keyring=Path(name, "keys.json")) as store,
    ):
        answers = iter([AIMessage("Noted: no walnuts."), AIMessage("A carrot cake, without walnuts.")])
        for session, said in (("monday", "I cannot have walnuts."), ("tuesday", "Which cake should I bake?")):
            memory = MemoryMiddleware(store, "alice", session=("alice", session))
            agent = create_agent(Model(messages=answers), middleware=[memory])
            result = agent.invoke({"messages": [{"role": "user", "content": said}]})
            print(f"--- {session}: {[message.text for message in result['messages']]}\n")


if __name__ == "__main__":
    main()
