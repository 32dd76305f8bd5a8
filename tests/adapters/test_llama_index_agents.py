"""LlamaIndex's own agents, workflows and chat engines on our memory, with a model that follows a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine, SimpleChatEngine
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.tools import QueryEngineTool, RetrieverTool
from llama_index.core.workflow import Context, JsonPickleSerializer, JsonSerializer

from memory_plugin import ConfigurationError, MemoryStore
from memory_plugin.adapters.llama_index import ChatMemory, MemoryReranker, MemoryRetriever, MemoryVectorStore
from memory_plugin.adapters.llama_index.detached import links
from tests.adapters.llama import Watch, calling, opened, opened_async, scripted, text_of

# LlamaIndex looks through all attributes of an agent, deprecated ones of pydantic too, and its ReAct agent uses one.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The `.*` attribute is deprecated:DeprecationWarning",
    "ignore:is_running called from within a step:DeprecationWarning",
    "ignore:Accessing the '.*' attribute on the instance is deprecated:DeprecationWarning",
)

FACT = "Alice moved to Lisbon in May."
QUESTION = "Where did Alice move to?"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with opened(tmp_path) as store:
        store.add(FACT, "alice")
        store.add("Bob lives in Oslo.", "bob")
        yield store


@pytest.fixture
def memory(store: MemoryStore) -> ChatMemory:
    return ChatMemory(store, "alice", session="s1")


def weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}."


# ── agents ────────────────────────────────────────────────────────────────────────────────────────


async def test_function_agent_with_a_tool(memory: ChatMemory, store: MemoryStore) -> None:
    watch = Watch(store)
    llm, sent = scripted(calling("weather", city="Lisbon"), "You moved to Lisbon, where it rains.")
    agent = FunctionAgent(tools=[weather], llm=llm, system_prompt="You are terse.")
    answer = await agent.run(user_msg=QUESTION, memory=memory)
    assert str(answer) == "You moved to Lisbon, where it rains."
    assert [one.role for one in sent[0]] == ["system", "user"]
    assert sent[0][0].content == "You are terse."
    assert FACT in text_of(sent[0])
    assert "Oslo" not in text_of(sent[0])
    assert sent[1][:2] == sent[0]  # the same beginning: a prompt cache holds
    assert watch.count("search") == 1
    assert watch.here() == []
    assert [one.role for one in memory.get_all()] == ["user", "assistant", "tool", "assistant"]
    assert memory.get_all()[0] == ChatMessage(role="user", content=QUESTION)


async def test_a_second_session_knows_the_first(memory: ChatMemory, store: MemoryStore) -> None:
    first = FunctionAgent(llm=scripted("Noted.")[0])
    await first.run(user_msg="My passport number is XK-77-1309.", memory=memory)
    llm, sent = scripted("It is XK-77-1309.")
    await FunctionAgent(llm=llm).run(
        user_msg="What is my passport number?", memory=ChatMemory(store, "alice", session="s2")
    )
    assert "XK-77-1309" in text_of(sent[0])
    llm, sent = scripted("I do not know.")
    await FunctionAgent(llm=llm).run(
        user_msg="What is my passport number?", memory=ChatMemory(store, "bob", session="s1")
    )
    assert "XK-77-1309" not in text_of(sent[0])


async def test_agent_given_a_history(memory: ChatMemory, store: MemoryStore) -> None:
    history = [ChatMessage(role="user", content="Hi."), ChatMessage(role="assistant", content="Hello!")]
    await FunctionAgent(llm=scripted("Lisbon.")[0]).run(user_msg=QUESTION, chat_history=history, memory=memory)
    watch = Watch(store)
    grown = memory.get_all()
    llm, sent = scripted("As I said, Lisbon.")
    await FunctionAgent(llm=llm).run(user_msg="Say it again, please.", chat_history=grown, memory=memory)
    assert watch.count("delete") == 0
    assert [one.content for one in memory.get_all()] == [
        *("Hi.", "Hello!", QUESTION, "Lisbon."),
        *("Say it again, please.", "As I said, Lisbon."),
    ]
    assert len(sent[0]) == 5


async def test_agent_with_state(memory: ChatMemory) -> None:
    """It is written into the words of the last message; they are kept as they were said."""
    llm, sent = scripted("Lisbon.")
    agent = AgentWorkflow(
        agents=[FunctionAgent(name="one", description="one", llm=llm)], initial_state={"mood": "good"}
    )
    await agent.run(user_msg=QUESTION, memory=memory)
    assert "mood" in text_of(sent[0])
    assert sent[0][-1].blocks[0].text.startswith("<memories>")  # type: ignore[union-attr]
    assert memory.get_all()[0].content == QUESTION


async def test_workflow_hands_off(memory: ChatMemory, store: MemoryStore) -> None:
    watch = Watch(store)
    llm, sent = scripted(
        calling("handoff", to_agent="second", reason="it knows"), calling("weather", "c2", city="Lisbon"), "Rain."
    )
    first = FunctionAgent(name="first", description="first", llm=llm, can_handoff_to=["second"])
    second = FunctionAgent(name="second", description="second", llm=llm, tools=[weather])
    flow = AgentWorkflow(agents=[first, second], root_agent="first")
    answer = await flow.run(user_msg="How is the weather where Alice moved to?", memory=memory)
    assert str(answer) == "Rain."
    assert all(FACT in text_of(one) for one in sent)
    assert watch.count("search") == 1
    assert watch.here() == []


async def test_react_agent(memory: ChatMemory, store: MemoryStore) -> None:
    watch = Watch(store)
    llm, sent = scripted(
        'Thought: I need a tool.\nAction: weather\nAction Input: {"city": "Lisbon"}',
        "Thought: I can answer.\nAnswer: It rains in Lisbon.",
    )
    answer = await ReActAgent(tools=[weather], llm=llm).run(user_msg=QUESTION, memory=memory)
    assert "It rains in Lisbon." in str(answer)
    assert FACT in text_of(sent[0])
    assert FACT in text_of(sent[1])
    assert watch.count("search") == 1
    assert [one.role for one in memory.get_all()] == ["user", "assistant"]


async def test_agent_on_an_async_store(tmp_path: Path) -> None:
    async with opened_async(tmp_path) as store:
        await store.add(FACT, "alice")
        llm, sent = scripted("Lisbon.")
        await FunctionAgent(llm=llm).run(user_msg=QUESTION, memory=ChatMemory(store, "alice"))
    assert FACT in text_of(sent[0])


async def test_retriever_as_a_tool(memory: ChatMemory, store: MemoryStore) -> None:
    tool = RetrieverTool.from_defaults(
        MemoryRetriever(store, "alice", limit=1), name="recall", description="What is known of the user."
    )
    llm, sent = scripted(calling("recall", input="where Alice moved"), "Lisbon.")
    await FunctionAgent(llm=llm, tools=[tool]).run(user_msg="Hello there.", memory=memory)
    assert FACT in (sent[1][-1].content or "")


# ── chat engines ──────────────────────────────────────────────────────────────────────────────────


def test_simple_engine(memory: ChatMemory, store: MemoryStore) -> None:
    watch = Watch(store)
    llm, sent = scripted("Lisbon.", "In May.")
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="You are terse.")
    assert str(engine.chat(QUESTION)) == "Lisbon."
    assert [one.role for one in sent[0]] == ["system", "user"]
    assert FACT in text_of(sent[0])
    engine.chat("And when did Alice move?")
    assert watch.count("search") == 2
    assert [one.content for one in engine.chat_history] == [QUESTION, "Lisbon.", "And when did Alice move?", "In May."]
    engine.reset()
    assert engine.chat_history == []


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_simple_engine_async(memory: ChatMemory, store: MemoryStore, streaming: bool) -> None:
    watch = Watch(store)
    llm, sent = scripted("Lisbon.")
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
    if streaming:
        response = await engine.astream_chat(QUESTION)
        assert "".join([token async for token in response.async_response_gen()]) == "Lisbon."
    else:
        assert str(await engine.achat(QUESTION)) == "Lisbon."
    assert FACT in text_of(sent[0])
    assert watch.here() == []
    assert [one.role for one in memory.get_all()] == ["user", "assistant"]


def test_context_engine(memory: ChatMemory, store: MemoryStore) -> None:
    watch = Watch(store)
    llm, sent = scripted("Lisbon.", "In May.")
    engine = ContextChatEngine.from_defaults(
        retriever=MemoryRetriever(store, "alice", limit=1),
        llm=llm,
        memory=memory,
        node_postprocessors=[MemoryReranker("local", top_n=1)],
    )
    response = engine.chat(QUESTION)
    assert FACT in text_of(sent[0])
    assert sent[0][-1].content == QUESTION
    assert [one.node.get_content() for one in response.source_nodes] == [FACT]
    assert watch.count("search") == 2  # the engine's retriever, and the memory
    engine.chat("And when did Alice move?")
    assert [one.role for one in memory.get_all()] == ["user", "assistant"] * 2
    assert QUESTION in text_of(sent[1])


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
async def test_condense_plus_context_engine(store: MemoryStore, memory: ChatMemory, streaming: bool) -> None:
    nodes = MemoryVectorStore(store, ("alice", "library"))
    index = VectorStoreIndex.from_vector_store(nodes, embed_model=MockEmbedding(embed_dim=1))
    await nodes.async_add([ChatNode("The harbour of Lisbon has nine cranes.")])
    llm, sent = scripted("Nine.", "Nine, still.")  # the question is condensed by its other method
    engine = CondensePlusContextChatEngine.from_defaults(
        retriever=index.as_retriever(similarity_top_k=1), llm=llm, memory=memory
    )
    for question in ("How many cranes has the harbour of Lisbon?", "And there now?"):
        if streaming:
            response = await engine.astream_chat(question)
            _ = [token async for token in response.async_response_gen()]
        else:
            await engine.achat(question)
    assert "nine cranes" in text_of(sent[0])
    assert "nine cranes" in text_of(sent[1])
    assert [one.role for one in memory.get_all()] == ["user", "assistant"] * 2


def ChatNode(text: str) -> Any:
    from llama_index.core.schema import TextNode

    return TextNode(text=text, id_="n")


def test_engines_want_to_know_whose_memory(store: MemoryStore) -> None:
    with pytest.raises(ConfigurationError, match="whose memory"):
        SimpleChatEngine.from_defaults(llm=scripted()[0], memory_cls=ChatMemory)


async def test_query_engine_tool(store: MemoryStore, memory: ChatMemory) -> None:
    engine = RetrieverQueryEngine.from_args(MemoryRetriever(store, "alice"), llm=scripted("In Lisbon.")[0])
    tool = QueryEngineTool.from_defaults(engine, name="memory", description="What is known.")
    llm, sent = scripted(calling("memory", input=QUESTION), "Lisbon it is.")
    await FunctionAgent(llm=llm, tools=[tool]).run(user_msg="Hello there.", memory=memory)
    assert "In Lisbon." in (sent[1][-1].content or "")


# ── a workflow's context ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("serializer", [JsonSerializer(), JsonPickleSerializer()], ids=["json", "pickle"])
async def test_context_with_the_memory_in_it(
    memory: ChatMemory, store: MemoryStore, tmp_path: Path, serializer: JsonSerializer
) -> None:
    agent = FunctionAgent(llm=scripted("Lisbon.", "In May.")[0])
    context = Context(agent)
    await agent.run(user_msg=QUESTION, memory=memory, ctx=context)
    saved = json.dumps(context.to_dict(serializer=serializer))
    assert FACT not in saved
    assert str(tmp_path) not in saved
    assert "XK" not in saved

    back = Context.from_dict(agent, json.loads(saved), serializer=serializer)  # the store is still open here
    await agent.run(user_msg="And when did Alice move?", ctx=back)
    everything = [QUESTION, "Lisbon.", "And when did Alice move?", "In May."]
    assert [one.content for one in memory.get_all()] == everything

    links.clear()  # as in another process
    agent = FunctionAgent(llm=scripted("Yes.")[0])
    back = Context.from_dict(agent, json.loads(saved), serializer=serializer)
    detached = await back.store.get("memory")
    assert isinstance(detached, ChatMemory)
    with pytest.raises(ConfigurationError, match="attach"):
        await detached.aget()
    await back.store.set("memory", detached.attach(store))
    await agent.run(user_msg="Are you sure?", ctx=back)
    assert [one.content for one in memory.get_all()] == [*everything, "Are you sure?", "Yes."]


async def test_end_to_end_with_the_shipped_models(tmp_path: Path) -> None:
    """No double: the local embedder, late interaction and cross-encoder, keys and files as users have them."""
    with MemoryStore.open(tmp_path / "memory", keyring=tmp_path / "keys.json") as store:
        store.add(["I am allergic to walnuts.", "The meeting is on Tuesday.", "My sister lives in Porto."], "alice")
        llm, sent = scripted("Not the walnut cake.")
        memory = ChatMemory(store, "alice", recall_tokens=60, limit=1)
        await FunctionAgent(llm=llm).run(user_msg="Which nuts can I not eat?", memory=memory)
        assert "walnuts" in text_of(sent[0])
        nodes = MemoryRetriever(store, "alice", limit=1).retrieve("Where does her sister live?")
        assert nodes[0].node.get_content() == "My sister lives in Porto."
