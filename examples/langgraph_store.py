"""LangGraph: an agent that keeps what its user says in an encrypted store; its model follows a script here."""

from __future__ import annotations

import tempfile
from typing import Any

from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolCall

from memory_plugin import MemoryStore
from memory_plugin.adapters.langgraph import LangGraphStore


@tool
def search_notes(query: str, runtime: ToolRuntime) -> str:
    """Look for what the user said before."""
    assert runtime.store is not None
    return "\n".join(item.value["text"] for item in runtime.store.search(("notes",), query=query, limit=1))


class Script(GenericFakeChatModel):
    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


with tempfile.TemporaryDirectory() as name, MemoryStore.open(f"{name}/memory", keyring=f"{name}/keys") as memory:
    store = LangGraphStore(memory, namespace="alice")
    for text in ("I moved to Lisbon in May.", "My badge is LX-2217."):
        store.put(("notes",), text, {"text": text})
    call = ToolCall(name="search_notes", args={"query": "LX-2217"}, id="1")
    model = Script(messages=iter([AIMessage("", tool_calls=[call]), "That is your badge."]))
    agent: Any = create_agent(model, [search_notes], store=store)
    for message in agent.invoke({"messages": [("user", "What is LX-2217?")]})["messages"]:
        print(f"{message.type:5} {message.content}")
