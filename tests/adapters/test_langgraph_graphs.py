"""LangGraph's graphs, LangChain's agents and langmem's tools on our store: real ones, with a scripted model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import InjectedStore
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.adapters.langgraph import LangGraphStore
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType


class Model(GenericFakeChatModel):
    """Says what the script says, whatever tools it has."""

    def bind_tools(self, tools: Any, **named: Any) -> Runnable[Any, AIMessage]:
        return self


def scripted(*messages: AIMessage | str) -> Model:
    return Model(messages=iter(messages))


def calling(name: str, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call-{name}", "type": "tool_call"}])


class Watched(HashEmbedder):
    """Knows in which threads it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        self.threads.add(threading.get_ident())
        return super().embed(texts, input_type=input_type)


@pytest.fixture
def embedder() -> Watched:
    return Watched()


@pytest.fixture
def memory(tmp_path: Path, embedder: Watched) -> Iterator[MemoryStore]:
    index = EdgeIndex(tmp_path / "store", durability="process")
    with MemoryStore(index, embedder, reranker=None, late=None, keyring=tmp_path / "keys.json") as store:
        yield store


@pytest.fixture
def store(memory: MemoryStore) -> LangGraphStore:
    return LangGraphStore(memory, namespace="app")


# ── graphs ────────────────────────────────────────────────────────────────────────────────────────


class State(TypedDict):
    user: str
    said: str
    recalled: list[str]


def remember(state: State, runtime: Runtime[None]) -> dict[str, list[str]]:
    assert runtime.store is not None
    runtime.store.put((state["user"], "notes"), state["said"], {"text": state["said"]})
    found = runtime.store.search((state["user"],), query="Where does the user live?")
    return {"recalled": [item.value["text"] for item in found]}


async def aremember(state: State, runtime: Runtime[None]) -> dict[str, list[str]]:
    assert runtime.store is not None
    await runtime.store.aput((state["user"], "notes"), state["said"], {"text": state["said"]})
    found = await runtime.store.asearch((state["user"],), query="Where does the user live?")
    return {"recalled": [item.value["text"] for item in found]}


def graph_of(node: Any, store: BaseStore) -> Any:
    graph = StateGraph(State)
    graph.add_node("remember", node)
    graph.add_edge(START, "remember")
    graph.add_edge("remember", END)
    return graph.compile(store=store)


def test_a_graph_remembers_across_its_runs_and_each_user_apart(store: LangGraphStore) -> None:
    graph = graph_of(remember, store)
    graph.invoke({"user": "ann", "said": "The user lives in Lisbon."})
    second = graph.invoke({"user": "ann", "said": "Lunch is at noon."})
    assert second["recalled"] == ["The user lives in Lisbon.", "Lunch is at noon."]
    assert graph.invoke({"user": "bob", "said": "Hello."})["recalled"] == ["Hello."]


async def test_an_async_graph_does_too_and_the_loop_embeds_nothing(store: LangGraphStore, embedder: Watched) -> None:
    made_here = set(embedder.threads)
    embedder.threads.clear()
    graph = graph_of(aremember, store)
    await graph.ainvoke({"user": "ann", "said": "The user lives in Lisbon."})
    second = await graph.ainvoke({"user": "ann", "said": "Lunch is at noon."})
    assert second["recalled"] == ["The user lives in Lisbon.", "Lunch is at noon."]
    assert made_here == {threading.get_ident()}
    assert embedder.threads
    assert threading.get_ident() not in embedder.threads


async def test_an_async_store_serves_an_async_graph(tmp_path: Path) -> None:
    async with AsyncMemoryStore.open(
        tmp_path / "store", embedder=HashEmbedder(), reranker=None, late=None, keyring=tmp_path / "keys.json"
    ) as memory:
        graph = graph_of(aremember, LangGraphStore(memory, namespace="app"))
        found = await graph.ainvoke({"user": "ann", "said": "The user lives in Lisbon."})
        assert found["recalled"] == ["The user lives in Lisbon."]


# ── agents ────────────────────────────────────────────────────────────────────────────────────────


@tool
def save_note(text: str, store: Annotated[Any, InjectedStore()], config: RunnableConfig) -> str:
    """Keep a note of the user."""
    store.put((config["configurable"]["user"], "notes"), "last", {"text": text})
    return "saved"


@tool
async def find_notes(query: str, runtime: ToolRuntime) -> str:
    """Look for notes of the user."""
    assert runtime.store is not None
    found = await runtime.store.asearch((runtime.config["configurable"]["user"],), query=query)
    return "; ".join(item.value["text"] for item in found) or "nothing"


def told(messages: Sequence[BaseMessage]) -> list[str]:
    return [str(one.content) for one in messages if isinstance(one, ToolMessage)]


async def test_tools_of_an_agent_are_given_the_store(store: LangGraphStore) -> None:
    asked: dict[str, Any] = {"messages": [HumanMessage("Note that I like tea.")]}
    ann: RunnableConfig = {"configurable": {"user": "ann"}}
    writing: Any = create_agent(scripted(calling("save_note", text="likes tea"), "Noted."), [save_note], store=store)
    assert told(writing.invoke(asked, ann)["messages"]) == ["saved"]
    for user, expected in (("ann", "likes tea"), ("bob", "nothing")):
        script = scripted(calling("find_notes", query="What does the user like?"), "There.")
        agent: Any = create_agent(script, [find_notes], store=store)
        found = await agent.ainvoke(asked, {"configurable": {"user": user}})
        assert told(found["messages"]) == [expected]
        assert found["messages"][-1].content == "There."


@pytest.mark.filterwarnings("ignore:Importing Send from langgraph.constants")  # by what langmem imports
async def test_langmems_tools_work_on_it(store: LangGraphStore) -> None:
    from langmem import create_manage_memory_tool, create_search_memory_tool  # type: ignore[import-untyped]

    place = ("memories", "{langgraph_user_id}")
    tools = [create_manage_memory_tool(place), create_search_memory_tool(place)]
    ann: RunnableConfig = {"configurable": {"langgraph_user_id": "ann"}}
    asked: dict[str, Any] = {"messages": [HumanMessage("I am allergic to walnuts.")]}

    def agent(*script: AIMessage | str) -> Any:
        return create_agent(scripted(*script), tools, store=store)

    creating = agent(calling("manage_memory", content="Allergic to walnuts."), "Noted.")
    [said] = told(creating.invoke(asked, ann)["messages"])
    assert said.startswith("created memory ")
    name = said.removeprefix("created memory ")
    searching = agent(calling("search_memory", query="Which nuts must I avoid?"), "Walnuts.")
    [found] = told((await searching.ainvoke(asked, ann))["messages"])
    assert "Allergic to walnuts." in found
    assert name in found
    bob: RunnableConfig = {"configurable": {"langgraph_user_id": "bob"}}
    assert told(agent(calling("search_memory", query="walnuts"), "No.").invoke(asked, bob)["messages"]) == ["[]"]

    updating = agent(calling("manage_memory", id=name, action="update", content="Allergic to hazelnuts."), "Done.")
    assert told((await updating.ainvoke(asked, ann))["messages"]) == [f"updated memory {name}"]
    assert [item.value for item in store.search(("memories", "ann"))] == [{"content": "Allergic to hazelnuts."}]
    deleting = agent(calling("manage_memory", id=name, action="delete"), "Gone.")
    assert told(deleting.invoke(asked, ann)["messages"]) == [f"Deleted memory {name}"]
    assert told(agent(calling("search_memory", query="hazelnuts"), "No.").invoke(asked, ann)["messages"]) == ["[]"]
