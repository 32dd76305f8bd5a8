"""``MemoryMiddleware`` in real agents with a scripted model: what it is shown, what the graph keeps, whose it is."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, SummarizationMiddleware
from langchain.tools import tool
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import Field

from memory_plugin import (
    AsyncMemoryStore,
    ConfigurationError,
    IndexUnavailableError,
    InvalidInputError,
    MemoryStore,
    eq,
)
from memory_plugin.adapters.langchain import MemoryMiddleware
from memory_plugin.flow import OnLoop
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType
from tests.adapters.langchain_store import either, emptied, opened


class Scripted(BaseChatModel):
    """Says what it is told to, and keeps what it was shown."""

    answers: list[AIMessage] = Field(default_factory=list)
    shown: list[list[BaseMessage]] = Field(default_factory=list)
    offered: list[str] = Field(default_factory=list)
    otherwise: Callable[[list[BaseMessage]], AIMessage] | None = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        for one in tools:
            self.offered.append(json.dumps(one.tool_call_schema.model_json_schema()))
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.shown.append(messages)
        answer = self.answers.pop(0) if self.answers else AIMessage("Fine.")
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def text(self, call: int = -1) -> str:
        return "\n".join(str(message.text) for message in self.shown[call])


class Noting(HashEmbedder):
    """Notes what was asked, and on which threads."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[str] = []
        self.threads: set[int] = set()

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        self.threads.add(threading.get_ident())
        if input_type == "query":
            self.queries += texts
        return super().embed(texts, input_type=input_type)


@dataclass
class User:
    name: str
    session: str = "monday"


def whose(runtime: Any) -> Any:
    return runtime.context.name


def session(runtime: Any) -> tuple[str, ...]:
    return runtime.context.name, runtime.context.session


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MemoryStore, Noting]]:
    embedder = Noting()
    with opened(tmp_path_factory.mktemp("shared") / "m", embedder=embedder) as made:
        yield made, embedder


@pytest.fixture
def embedder(shared: tuple[MemoryStore, Noting]) -> Noting:
    return shared[1]


@pytest.fixture(params=["MemoryStore", "MemoryStore on a loop", "AsyncMemoryStore"])
async def driven(
    request: pytest.FixtureRequest, shared: tuple[MemoryStore, Noting], tmp_path: Path
) -> AsyncIterator[Driven]:
    kind = AsyncMemoryStore if request.param == "AsyncMemoryStore" else MemoryStore
    async with either(kind, shared[0], tmp_path / "m", embedder=shared[1]) as store:
        made = Driven(store, loop=request.param != "MemoryStore")
        for text in ("Alice cannot have walnuts.", "The badge is LX-2217."):
            await made.call("add", text, "alice")
        await made.call("add", "Bob hates walnuts and cake.", "bob")
        shared[1].queries.clear()
        shared[1].threads.clear()
        yield made


class Driven:
    """A store, and agents called as it needs."""

    def __init__(self, store: Any, *, loop: bool) -> None:
        self.store = store
        self.loop = loop

    async def call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return await OnLoop().call(getattr(self.store, verb), *args, **kwargs)

    async def ask(self, agent: Any, said: Any, user: User | None = None, thread: str = "t") -> Any:
        messages = {"messages": [HumanMessage(said)] if isinstance(said, str) else said}
        config = {"configurable": {"thread_id": thread}}
        if self.loop:
            return await agent.ainvoke(messages, config, context=user)
        return agent.invoke(messages, config, context=user)


@tool
def oven(degrees: int) -> str:
    """Heat the oven."""
    return f"{degrees} degrees"


def calling(name: str, number: int = 1, **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"id": f"call-{number}", "name": name, "args": args}])


# ── what the model sees, and what is kept ─────────────────────────────────────────────────────────


async def test_shown_to_the_model_and_in_no_state(driven: Driven, embedder: Noting) -> None:
    model = Scripted(answers=[calling("oven", degrees=180), calling("oven", 2, degrees=200), AIMessage("Carrot cake.")])
    saver = InMemorySaver()
    agent = create_agent(model, [oven], middleware=[MemoryMiddleware(driven.store, "alice")], checkpointer=saver)
    result = await driven.ask(agent, "Which cake without walnuts should I bake?")
    assert len(model.shown) == 3
    for number in range(3):  # every round sees the same, and the tools' results after it
        assert "Alice cannot have walnuts." in model.text(number)
        assert "Bob" not in model.text(number)
        assert model.shown[number][0].content == model.shown[0][0].content
    assert embedder.queries == ["Which cake without walnuts should I bake?"]  # one recall
    assert [type(one) for one in result["messages"]] == [
        HumanMessage,
        AIMessage,
        ToolMessage,
        AIMessage,
        ToolMessage,
        AIMessage,
    ]
    assert result["messages"][0].content == "Which cake without walnuts should I bake?"
    config: Any = {"configurable": {"thread_id": "t"}}
    assert len(list(saver.list(config))) > 5
    everything = f"{[*saver.list(config)]!r} {saver.storage!r} {saver.blobs!r} {saver.writes!r}"
    assert "cake without walnuts" in everything
    assert "Alice cannot" not in everything
    if driven.loop:
        assert threading.get_ident() not in embedder.threads


async def test_the_turn_is_remembered_once(driven: Driven) -> None:
    model = Scripted(answers=[calling("oven", degrees=180), AIMessage("It is hot.")])
    middleware = MemoryMiddleware(driven.store, "alice", session=("alice", "monday"))
    agent = create_agent(model, [oven], middleware=[middleware], checkpointer=InMemorySaver())
    await driven.ask(agent, "Heat the oven.")
    said = {(one.role, one.text) for one in (await driven.call("list", ("alice", "monday"))).records}
    assert said == {("user", "Heat the oven."), ("assistant", "It is hot.")}
    await driven.ask(agent, "Thank you for the oven.")
    assert await driven.call("count", ("alice", "monday")) == 4
    # Another process, and a caller that keeps the list itself and gives all of it each time.
    again = create_agent(
        Scripted(answers=[AIMessage("Nothing.")]),
        [oven],
        middleware=[MemoryMiddleware(driven.store, "alice", session=("alice", "monday"))],
    )
    await driven.ask(again, [HumanMessage("Heat the oven."), AIMessage("It is hot."), HumanMessage("What else?")])
    assert await driven.call("count", ("alice", "monday")) == 6
    # In another session it comes back.
    model = Scripted()
    other = MemoryMiddleware(driven.store, "alice", session=("alice", "tuesday"))
    await driven.ask(create_agent(model, middleware=[other]), "Was the oven hot on Monday?")
    assert "It is hot." in model.text()


async def test_two_users_of_one_agent(driven: Driven) -> None:
    model = Scripted()
    middleware = MemoryMiddleware(driven.store, whose, session=session)
    agent = create_agent(model, middleware=[middleware], context_schema=User, checkpointer=InMemorySaver())
    for user, thread in ((User("alice"), "a"), (User("bob"), "b")):
        await driven.ask(agent, "What about walnuts?", user, thread)
    assert "Alice cannot" in model.text(0)
    assert "Bob" not in model.text(0)
    assert "Bob hates" in model.text(1)
    assert "Alice" not in model.text(1)
    assert await driven.call("count", ("alice", "monday")) == 2
    assert await driven.call("count", ("bob", "monday")) == 2
    with pytest.raises(AttributeError):  # nobody said whose: nothing is read
        await driven.ask(agent, "What about walnuts?", None, "c")
    with pytest.raises(InvalidInputError, match="namespace"):
        await driven.ask(agent, "What about walnuts?", User(""), "d")
    assert len(model.shown) == 2


async def test_a_memory_that_only_words_find(driven: Driven) -> None:
    for number in range(60):
        await driven.call("add", f"Alice said that number {number} is what it is.", "alice")
    model = Scripted()
    await driven.ask(create_agent(model, middleware=[MemoryMiddleware(driven.store, "alice", limit=3)]), "LX-2217?")
    assert "The badge is LX-2217." in model.text()


async def test_deleting_deletes(driven: Driven) -> None:
    middleware = MemoryMiddleware(driven.store, "alice", remember=False)
    model = Scripted()
    agent = create_agent(model, middleware=[middleware])
    await driven.ask(agent, "What about walnuts?")
    await driven.call("forget", "alice")
    middleware.forget_turn()
    await driven.ask(agent, "What about walnuts?")
    assert "Alice cannot" in model.text(0)
    assert model.text(1) == "What about walnuts?"


# ── hooks, in one way each ────────────────────────────────────────────────────────────────────────


@pytest.fixture
def store(shared: tuple[MemoryStore, Noting]) -> Iterator[MemoryStore]:
    made, embedder = shared
    made.add(["Alice cannot have walnuts.", "The badge is LX-2217."], "alice")
    embedder.queries.clear()
    yield made
    emptied(made)


def test_order_of_hooks(store: MemoryStore) -> None:
    order: list[str] = []

    class Noted(MemoryMiddleware):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            order.append("wrap_model_call")
            return super().wrap_model_call(request, handler)

        def after_agent(self, state: Any, runtime: Any) -> None:
            order.append("after_agent")
            super().after_agent(state, runtime)

    model = Scripted(answers=[calling("oven", degrees=1), AIMessage("done")])
    create_agent(model, [oven], middleware=[Noted(store, "alice")]).invoke({"messages": [HumanMessage("oven")]})
    assert order == ["wrap_model_call", "wrap_model_call", "after_agent"]


def test_where_memories_stand(store: MemoryStore) -> None:
    parts: list[Any] = [
        {"type": "text", "text": "Are there walnuts?"},
        {"type": "image", "base64": "iVBORw0=", "mime_type": "image/png"},
    ]
    model = Scripted()
    options: Any = {"remember": False}
    behind = create_agent(model, middleware=[MemoryMiddleware(store, "alice", **options)], system_prompt="You help.")
    behind.invoke({"messages": [HumanMessage("Hi"), AIMessage("Hello"), HumanMessage("Are there walnuts?", id="h")]})
    system, first, _, last = model.shown[-1]
    assert (system.content, first.content, last.id) == ("You help.", "Hi", "h")
    assert str(last.content).startswith("<memories>\n")
    assert str(last.content).endswith("</memories>\n\nAre there walnuts?")
    behind.invoke({"messages": [HumanMessage(parts)]})
    assert model.shown[-1][1].content[1:] == parts
    assert "Alice cannot" in model.shown[-1][1].content[0]["text"]  # type: ignore[index]

    for prompt in ("You help.", SystemMessage([{"type": "text", "text": "You help."}]), None):
        placed = MemoryMiddleware(store, "alice", place="system", **options)
        create_agent(model, middleware=[placed], system_prompt=prompt).invoke({"messages": [HumanMessage("walnuts")]})
        system, last = model.shown[-1]
        assert isinstance(system, SystemMessage)
        assert str(system.text).startswith("You help." if prompt else "<memories>")
        assert "Alice cannot" in str(system.text)
        assert last.content == "walnuts"


def test_a_prompt_cache_survives_in_the_users_message(store: MemoryStore) -> None:
    """The share of a turn's request that the provider has seen before, counted from its beginning."""

    def cached(place: Any) -> float:
        model = Scripted(answers=[AIMessage(f"Answer {number} about cake.") for number in range(6)])
        middleware = MemoryMiddleware(store, "alice", session=("alice", place), place=place, max_tokens=100)
        prompt = "You help Alice. " * 30
        agent = create_agent(model, middleware=[middleware], checkpointer=InMemorySaver(), system_prompt=prompt)
        shares = []
        for number in range(6):
            said = f"Question {number}: which cake has no walnuts? " + "Please think. " * 20
            agent.invoke({"messages": [HumanMessage(said)]}, {"configurable": {"thread_id": place}})
            if number:
                before, now = model.text(-2), model.text(-1)
                differ = (at for at, (one, two) in enumerate(zip(before, now, strict=False)) if one != two)
                shares.append(next(differ, len(before)) / len(now))
                same = len(model.shown[-2]) - 1  # all but the message that memories were in
                assert place == "system" or model.shown[-1][:same] == model.shown[-2][:same]
        return sum(shares) / len(shares)

    assert cached("user") > cached("system") + 0.2


def test_several_namespaces_and_filters(store: MemoryStore) -> None:
    store.add("Trains are booked by Ines.", "company", metadata={"topic": "travel"})
    store.add("Trains are late.", "company", metadata={"topic": "rumour"})
    both = MemoryMiddleware(store, ["alice", "company"], session="alice", filter={"topic": {"$ne": "rumour"}})
    model = Scripted()
    create_agent(model, middleware=[both]).invoke({"messages": [HumanMessage("Trains and walnuts, who books?")]})
    assert "Ines" in model.text()
    assert "Alice cannot" in model.text()
    assert "late" not in model.text()
    assert store.count("alice", filter=eq("$kind", "message")) == 2


def test_what_others_wrote_in_the_users_name_is_not_remembered(store: MemoryStore, embedder: Noting) -> None:
    summarizer = Scripted(answers=[AIMessage("SUMMARY of cakes")] * 9)
    model = Scripted(answers=[AIMessage(f"Answer {number}") for number in range(4)])
    agent = create_agent(
        model,
        middleware=[
            SummarizationMiddleware(summarizer, trigger=("messages", 4), keep=("messages", 2)),
            MemoryMiddleware(store, "alice", session=("alice", "monday")),
        ],
        checkpointer=InMemorySaver(),
    )
    for number in range(4):
        agent.invoke({"messages": [HumanMessage(f"Cake number {number}")]}, {"configurable": {"thread_id": "t"}})
    assert "SUMMARY" in model.text()
    kept = [one.text for one in store.list(("alice", "monday")).records]
    assert sorted(kept) == [f"{what} {number}" for what in ("Answer", "Cake number") for number in range(4)]
    assert all("SUMMARY" not in query for query in embedder.queries)


def test_a_request_without_the_users_message(store: MemoryStore) -> None:
    class Forgetful(AgentMiddleware[Any, Any]):
        def wrap_model_call(self, request: Any, handler: Any) -> Any:
            return handler(request.override(messages=[AIMessage("…")]))

    model = Scripted()
    agent = create_agent(model, middleware=[Forgetful(), MemoryMiddleware(store, "alice")])
    agent.invoke({"messages": [HumanMessage("walnuts")]})
    assert [type(one) for one in model.shown[0]] == [SystemMessage, AIMessage]
    assert "Alice cannot" in model.text()


def test_nothing_to_say(store: MemoryStore, embedder: Noting) -> None:
    model = Scripted()
    agent = create_agent(model, middleware=[MemoryMiddleware(store, "nobody")])
    agent.invoke({"messages": [HumanMessage("walnuts")]})
    assert model.text() == "walnuts"
    agent.invoke({"messages": [HumanMessage([{"type": "image", "base64": "iVBORw0=", "mime_type": "image/png"}])]})
    assert len(model.shown) == 2
    assert len(embedder.queries) == 1


@pytest.mark.parametrize("mode", ["values", "updates", "messages", "tasks", "debug"])
def test_no_stream_holds_them(store: MemoryStore, mode: Any) -> None:
    model = Scripted(answers=[calling("oven", degrees=180), AIMessage("Done.")])
    agent = create_agent(model, [oven], middleware=[MemoryMiddleware(store, "alice")])
    events = repr(list(agent.stream({"messages": [HumanMessage("walnuts")]}, stream_mode=mode)))
    assert "Alice cannot" in model.text()
    assert "Done." in events
    assert "Alice cannot" not in events


async def test_users_at_the_same_time(store: MemoryStore) -> None:
    for number in range(6):
        store.add(f"The badge of user {number} is LX-{number}.", ("company", f"u{number}"))
    model = Scripted()
    whole = lambda runtime: ("company", runtime.context.name)  # noqa: E731
    agent = create_agent(model, middleware=[MemoryMiddleware(store, whole)], context_schema=User)
    asked: Any = {"messages": [HumanMessage("Which badge is mine?")]}
    await asyncio.gather(*(agent.ainvoke(asked, context=User(f"u{number}")) for number in range(6)))
    shown = [model.text(number) for number in range(6)]
    assert sorted(re.findall(r"LX-\d", text)[0] for text in shown) == [f"LX-{number}" for number in range(6)]
    assert all(len(re.findall(r"LX-\d", text)) == 1 for text in shown)


# ── the tool ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_model_may_search_but_not_say_whose(driven: Driven) -> None:
    asked: Any = {"query": "badge", "namespace": "bob", "runtime": {"context": {"name": "bob"}}}
    model = Scripted(
        answers=[
            calling("search_memory", **asked),
            calling("search_memory", 2, query=" "),
            calling("search_memory", 3, query="nothing of that kind"),
            AIMessage("LX-2217"),
        ]
    )
    middleware = MemoryMiddleware(driven.store, whose, session=session, search_tool=True, remember=False)
    agent = create_agent(model, middleware=[middleware], context_schema=User)
    result = await driven.ask(agent, "Hello", User("alice"))
    found, empty, _ = [one for one in result["messages"] if isinstance(one, ToolMessage)]
    assert "The badge is LX-2217." in found.text
    assert "Bob" not in found.text
    assert found.text.startswith("<memories>")
    assert "empty" in empty.text
    offered = [one for one in model.offered if "query" in one]
    assert offered
    assert all(set(json.loads(one)["properties"]) == {"query"} for one in offered)
    model.answers = [calling("search_memory", query="badge"), AIMessage("?")]
    nobody = await driven.ask(agent, "Hello", User("nobody"))
    assert nobody["messages"][2].text == "Nothing was found."


# ── faults ────────────────────────────────────────────────────────────────────────────────────────


def test_refused(store: MemoryStore) -> None:
    for given, says in (
        ({"namespace": ["alice", "company"]}, "session="),
        ({"namespace": ["alice", "company"], "session": lambda runtime: None, "remember": True}, None),
        ({"namespace": lambda runtime: ["alice", "bob"]}, None),
        ({"namespace": "alice", "place": "assistant"}, "place"),
        ({"namespace": ""}, "empty"),
        ({"namespace": "alice", "max_tokens": 0}, "max_tokens"),
        ({"namespace": "alice", "template": "no"}, "template"),
        ({"namespace": "alice", "filter": lambda document: True}, "function"),
    ):
        options: Any = dict(given)
        if says is not None:
            with pytest.raises(ConfigurationError, match=says):
                MemoryMiddleware(store, **options)
            continue
        model = Scripted()
        agent = create_agent(model, middleware=[MemoryMiddleware(store, **options)])
        with pytest.raises(ConfigurationError, match="session="):
            agent.invoke({"messages": [HumanMessage("walnuts")]})
        assert not model.shown  # before the model is paid for
    MemoryMiddleware(store, ["alice", "company"], remember=False)


async def test_a_blocking_agent_and_an_async_store(tmp_path: Path) -> None:
    async with opened(tmp_path / "m", AsyncMemoryStore) as store:
        agent = create_agent(Scripted(), middleware=[MemoryMiddleware(store, "alice")])
        with pytest.raises(ConfigurationError, match="AsyncMemoryStore"):
            agent.invoke({"messages": [HumanMessage("walnuts")]})


def test_a_store_that_fails_is_an_error_and_a_retry_is_right(store: MemoryStore) -> None:
    class Failing:
        def __init__(self) -> None:
            self.fail = True

        def __getattr__(self, name: str) -> Any:
            if name == "add" and self.fail:
                raise IndexUnavailableError("gone", provider="qdrant")
            return getattr(store, name)

    failing: Any = Failing()
    saver = InMemorySaver()
    agent = create_agent(Scripted(), middleware=[MemoryMiddleware(failing, "bob")], checkpointer=saver)
    config: Any = {"configurable": {"thread_id": "t"}}
    with pytest.raises(IndexUnavailableError):
        agent.invoke({"messages": [HumanMessage("walnuts")]}, config)
    failing.fail = False
    agent.invoke(None, config)
    assert {one.text for one in store.list("bob").records} == {"walnuts", "Fine."}
