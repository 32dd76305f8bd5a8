"""The OpenAI Agents SDK's own runner over our session, filter and tool, with a model that follows a script."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import AsyncMemoryStore, EmbeddingError, InvalidInputError, MemoryStore, MissingExtraError
from memory_plugin.adapters import conversation as conversations
from memory_plugin.adapters.conversation import Conversation
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from memory_plugin.types import Embeddings, InputType

agents = pytest.importorskip("agents")

from agents import (  # noqa: E402
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
    handoff,
    input_guardrail,
    output_guardrail,
    set_tracing_disabled,
)
from agents.memory import SessionSettings  # noqa: E402
from agents.memory.session import Session  # noqa: E402
from agents.run_config import CallModelData, ModelInputData  # noqa: E402

from memory_plugin.adapters.openai_agents import MemorySession, memory_tools, recall_filter  # noqa: E402
from tests.adapters.agents_sdk import Scripted, call, thought  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_is_sent() -> None:
    """The SDK's tracing goes to its vendor unless it is switched off."""
    set_tracing_disabled(True)


def open_store(path: Path, embedder: HashEmbedder | None = None) -> MemoryStore:
    return MemoryStore(
        EdgeIndex(path / "store", durability="process"),
        embedder or HashEmbedder(256),
        reranker=OverlapReranker(),
        late=None,
        keyring=path / "keys.json",
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with open_store(tmp_path) as store:
        yield store


@pytest.fixture(params=["blocking", "async"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """A store of either kind."""
    if request.param == "blocking":
        with open_store(tmp_path) as store:
            yield store
        return
    index = EdgeIndex(tmp_path / "store", durability="process")
    async with AsyncMemoryStore(
        index, HashEmbedder(256), reranker=OverlapReranker(), late=None, keyring=tmp_path / "keys.json"
    ) as store:
        yield store


class Counting(Conversation):
    """A conversation that counts how often the store is searched."""

    searches = 0

    async def _search(self, *arguments: Any) -> Any:
        self.searches += 1
        return await super()._search(*arguments)


def config(conversation: Conversation, **options: Any) -> RunConfig:
    return RunConfig(call_model_input_filter=recall_filter(conversation, **options))


def texts(items: list[Any]) -> list[str]:
    """What the items say, in order."""
    return [one if isinstance(one := item.get("content"), str) else one[0]["text"] for item in items if "role" in item]


@function_tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"Sun in {city}."


# ── the session ───────────────────────────────────────────────────────────────────────────────────


class SessionTests:
    """What a ``Session`` does, run on the SDK's own and on ours: both must pass."""

    @pytest.fixture
    def make(self, tmp_path: Path) -> Any:
        raise NotImplementedError

    MESSAGES = tuple({"role": "user", "content": f"Message {number}."} for number in range(6))

    def test_it_is_a_session(self, make: Any) -> None:
        session = make("one")
        assert session.session_settings.limit is None
        assert session.session_id == "one"
        assert isinstance(session, Session)

    async def test_items_come_back_exactly_and_in_order(self, make: Any) -> None:
        session = make("one")
        items = [
            {"role": "user", "content": [{"type": "input_text", "text": "Look."}, {"type": "input_image", "b": 1.0}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA=="},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"b":1,"a":2}'},
            {"type": "function_call_output", "call_id": "c1", "output": "\ud83d cut off \x00"},
            {"z": None, "a": [1e3, 2**70, True, "漢"], "id": "__fake_id__"},
        ]
        await session.add_items(items)
        assert json.dumps(await session.get_items()) == json.dumps(items)

    async def test_adding_nothing(self, make: Any) -> None:
        session = make("one")
        await session.add_items([])
        assert await session.get_items() == []

    @pytest.mark.parametrize("limit", [0, 1, 4, 6, 100, -1, -7, None])
    async def test_limit(self, make: Any, limit: int | None) -> None:
        session = make("one")
        await session.add_items(list(self.MESSAGES[:2]))
        await session.add_items(list(self.MESSAGES[2:]))
        wanted = self.MESSAGES if limit is None or limit < 0 else self.MESSAGES[len(self.MESSAGES) - limit :]
        wanted = self.MESSAGES if limit is not None and limit > 6 else wanted
        assert await session.get_items(limit=limit) == list(wanted)

    async def test_limit_of_the_settings_and_of_the_call(self, make: Any) -> None:
        session = make("one", session_settings=SessionSettings(limit=2))
        await session.add_items(list(self.MESSAGES))
        assert await session.get_items() == list(self.MESSAGES[-2:])
        assert await session.get_items(3) == list(self.MESSAGES[-3:])
        assert await make("one", session_settings={"limit": 1}).get_items() == [self.MESSAGES[-1]]
        session.session_settings = SessionSettings(limit=4)
        assert await session.get_items() == list(self.MESSAGES[-4:])
        session.session_settings = None
        assert await session.get_items() == list(self.MESSAGES)

    async def test_pop(self, make: Any) -> None:
        session = make("one")
        assert await session.pop_item() is None
        await session.add_items(list(self.MESSAGES[:2]))
        assert await session.pop_item() == self.MESSAGES[1]
        await session.add_items([self.MESSAGES[2]])
        assert await session.get_items() == [self.MESSAGES[0], self.MESSAGES[2]]
        assert [await session.pop_item() for _ in range(3)] == [self.MESSAGES[2], self.MESSAGES[0], None]

    async def test_clear(self, make: Any) -> None:
        session, other = make("one"), make("two")
        await session.add_items(list(self.MESSAGES))
        await other.add_items([self.MESSAGES[0]])
        await session.clear_session()
        assert (await session.get_items(), await session.get_items(3), await session.pop_item()) == ([], [], None)
        assert await other.get_items() == [self.MESSAGES[0]]
        await session.clear_session()
        await session.add_items([self.MESSAGES[1]])
        assert await session.get_items() == [self.MESSAGES[1]]

    async def test_the_same_words_twice(self, make: Any) -> None:
        session = make("one")
        for _ in range(2):
            await session.add_items([self.MESSAGES[0]])
        await session.add_items([self.MESSAGES[0], self.MESSAGES[0]])
        assert await session.get_items() == [self.MESSAGES[0]] * 4
        # What the SDK calls all messages of models that give them no id.
        answer = {"role": "assistant", "content": "Yes.", "id": "__fake_id__", "type": "message"}
        for _ in range(2):
            await session.add_items([answer])
        assert await session.get_items(2) == [answer] * 2

    async def test_two_objects_of_one_session(self, make: Any) -> None:
        first, second = make("one"), make("one")
        await first.add_items(list(self.MESSAGES[:3]))
        assert await second.get_items(2) == list(self.MESSAGES[1:3])
        assert await second.pop_item() == self.MESSAGES[2]
        await second.add_items([self.MESSAGES[3]])
        assert await first.get_items(2) == [self.MESSAGES[1], self.MESSAGES[3]]

    async def test_many_at_once(self, make: Any) -> None:
        session = make("one")
        pairs = [[{"n": number, "half": half} for half in "ab"] for number in range(12)]
        await asyncio.gather(*(session.add_items(pair) for pair in pairs))
        items = await session.get_items()
        together = [items[place : place + 2] for place in range(0, 24, 2)]
        assert sorted(together, key=lambda pair: pair[0]["n"]) == pairs
        popped = await asyncio.gather(*(session.pop_item() for _ in range(30)))
        assert sorted(map(json.dumps, filter(None, popped))) == sorted(map(json.dumps, items))

    async def test_what_is_no_json(self, make: Any) -> None:
        session = make("one")
        with pytest.raises((TypeError, ValueError)):
            await session.add_items([self.MESSAGES[0], {"role": "user", "content": object()}])
        assert await session.get_items() == []

    @pytest.mark.parametrize("way", ["async", "streamed"])
    async def test_a_run_keeps_question_tool_round_and_answer(self, make: Any, way: str) -> None:
        session = make("one")
        model = Scripted([thought("hm"), call("weather", '{"city": "Lisbon"}')], "It is sunny.", "You asked of Lisbon.")
        agent = Agent("assistant", model=model, tools=[weather])
        for question, answer in (("Weather?", "It is sunny."), ("Which city?", "You asked of Lisbon.")):
            assert await ask(agent, question, session=session, way=way) == answer
        items: Any = await session.get_items()
        kinds = [item.get("type", item.get("role")) for item in items]
        assert kinds == ["user", "reasoning", "function_call", "function_call_output", "message", "user", "message"]
        assert items[2]["call_id"] == items[3]["call_id"]
        assert items[1]["encrypted_content"] == "gAAAA=="
        assert model.inputs[2] == items[:6]

    async def test_a_run_that_fails_leaves_its_question(self, make: Any) -> None:
        session = make("one")
        agent = Agent("assistant", model=Scripted("Hello.", RuntimeError("the model is down"), "Here."))
        assert await ask(agent, "Hi!", session=session) == "Hello."
        with pytest.raises(RuntimeError, match="down"):
            await ask(agent, "There?", session=session)
        assert texts(await session.get_items()) == ["Hi!", "Hello.", "There?"]

    async def test_handoff(self, make: Any) -> None:
        session = make("one")
        second = Agent("second", model=Scripted("Second here."))
        first = Agent("first", model=Scripted([call("transfer_to_second")]), handoffs=[handoff(second)])
        assert await ask(first, "Hand me over.", session=session) == "Second here."
        items: Any = await session.get_items()
        assert [item.get("type", item.get("role")) for item in items] == [
            "user",
            "function_call",
            "function_call_output",
            "message",
        ]

    async def test_a_question_that_a_guardrail_stops(self, make: Any) -> None:
        session = make("one")

        @input_guardrail(run_in_parallel=False)
        async def stop(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

        agent = Agent("assistant", model=Scripted("Never."), input_guardrails=[stop])
        with pytest.raises(InputGuardrailTripwireTriggered):
            await ask(agent, "Tell me a secret.", session=session)
        assert texts(await session.get_items()) == ["Tell me a secret."]

    async def test_an_answer_that_a_guardrail_stops(self, make: Any) -> None:
        session = make("one")

        @output_guardrail
        async def stop(context: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

        agent = Agent("assistant", model=Scripted("Blurted out."), output_guardrails=[stop])
        with pytest.raises(OutputGuardrailTripwireTriggered):
            await ask(agent, "Tell me a secret.", session=session)
        assert "Blurted out." not in texts(await session.get_items())

    async def test_rewinding_a_retry(self, make: Any) -> None:
        from agents.run_internal.session_persistence import rewind_session_items

        session = make("one")
        await session.add_items(list(self.MESSAGES[:2]))
        turn: Any = [self.MESSAGES[2], {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f"}]
        await session.add_items(turn)
        await rewind_session_items(session, turn)
        assert await session.get_items() == list(self.MESSAGES[:2])
        await rewind_session_items(session, turn)  # not what it ends with: nothing is taken away
        assert await session.get_items() == list(self.MESSAGES[:2])


class TestSQLiteSession(SessionTests):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Any]:
        made: list[SQLiteSession] = []

        def make(session_id: str, **options: Any) -> SQLiteSession:
            made.append(SQLiteSession(session_id, tmp_path / "sessions.db", **options))
            return made[-1]

        yield make
        for session in made:
            session.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryStore]:
    with open_store(tmp_path_factory.mktemp("shared")) as store:
        yield store


class TestMemorySession(SessionTests):
    @pytest.fixture
    def make(self, shared: MemoryStore, request: pytest.FixtureRequest) -> Any:
        """Each test is another user."""
        return lambda session_id, **options: MemorySession(shared, request.node.name, session_id, **options)


async def ask(agent: Any, question: Any, *, way: str = "async", **options: Any) -> Any:
    """The answer of a run, driven one way or the other."""
    if way == "async":
        return (await Runner.run(agent, question, **options)).final_output
    streamed = Runner.run_streamed(agent, question, **options)
    async for _ in streamed.stream_events():
        pass
    return streamed.final_output


@pytest.fixture
def own_loop() -> Iterator[None]:
    """``run_sync`` makes a loop where there is none, and leaves it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("own_loop")
def test_a_session_survives_closing_the_store(tmp_path: Path) -> None:
    """Without a running loop, too."""
    for question, answer in (("I moved to Lisbon.", "Noted."), ("Where do I live?", "In Lisbon.")):
        with open_store(tmp_path) as store:
            agent = Agent("assistant", model=(model := Scripted(answer)))
            done = Runner.run_sync(agent, question, session=MemorySession(store, "alice", "monday"))
            assert done.final_output == answer
    assert texts(model.inputs[0]) == ["I moved to Lisbon.", "Noted.", "Where do I live?"]


async def test_what_was_said_is_found_in_all_sessions_of_the_user_and_of_nobody_else(either: Any) -> None:
    agent = Agent("assistant", model=Scripted("Noted, LX-2217.", "Noted."))
    await ask(agent, "My badge is LX-2217.", session=MemorySession(either, "alice", "monday"))
    await ask(agent, "My badge is QQ-9999.", session=MemorySession(either, "bob", "monday"))
    model = Scripted("LX-2217.")
    conversation = Conversation(either, "alice")
    answer = await ask(
        Agent("assistant", model=model),
        "Which badge is mine? LX-2217?",
        session=MemorySession(either, "alice", "friday"),
        run_config=config(conversation),
    )
    assert answer == "LX-2217."
    memories, question = texts(model.inputs[0])
    assert memories.startswith("<memories>")
    assert "My badge is LX-2217." in memories
    assert "QQ-9999" not in json.dumps(model.inputs)
    assert question == "Which badge is mine? LX-2217?"


async def test_tool_outputs_and_reasoning_are_not_embedded(tmp_path: Path) -> None:
    embedder = HashEmbedder(256)
    with open_store(tmp_path, embedder) as store:
        model = Scripted([thought("zebra"), call("weather", '{"city": "Giraffe"}')], "It is sunny.")
        await ask(Agent("a", model=model, tools=[weather]), "Weather?", session=MemorySession(store, "alice", "one"))
        assert len(await MemorySession(store, "alice", "one").get_items()) == 5
    seen = "\n".join(embedder.texts)
    assert "Weather?" in seen
    assert "It is sunny." in seen
    assert "zebra" not in seen
    assert "Giraffe" not in seen


async def test_two_sessions_of_one_user_in_parallel(either: Any) -> None:
    async def talk(number: int) -> list[Any]:
        session = MemorySession(either, "alice", f"session {number}")
        agent = Agent("a", model=Scripted([call("weather", '{"city": "X"}')], f"Answer {number}.", f"More {number}."))
        agent.tools = [weather]
        await ask(agent, f"Question {number}?", session=session)
        await ask(agent, f"And {number}?", session=session)
        return texts(await session.get_items())

    for number, found in enumerate(await asyncio.gather(*map(talk, range(5)))):
        assert found == [f"Question {number}?", f"Answer {number}.", f"And {number}?", f"More {number}."]


async def test_cleared_is_cleared(store: MemoryStore) -> None:
    conversation = Conversation(store, "alice")
    session = MemorySession(store, "alice", "monday", conversation=conversation)
    await session.add_items([{"role": "user", "content": "The code word is walnut."}])
    data: Any = CallModelData(ModelInputData([{"role": "user", "content": "The code word?"}], None), Agent("a"), None)
    recall = recall_filter(conversation)
    assert "walnut" in json.dumps((await recall(data)).input)
    await session.clear_session()
    assert (await recall(data)).input == data.model_data.input
    await session.add_items([{"role": "user", "content": "The code word is cherry."}])
    conversation.forget_turn()
    assert "cherry" in json.dumps((await recall(data)).input)
    await session.pop_item()
    assert (await recall(data)).input == data.model_data.input


class Watched:
    """A store that notes which threads its verbs run on."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.threads = store, dict[str, set[int]]()

    def __getattr__(self, verb: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.threads.setdefault(verb, set()).add(threading.get_ident())
            return getattr(self.store, verb)(*arguments, **options)

        return call


async def test_a_blocking_store_is_never_used_on_the_loops_thread(store: MemoryStore) -> None:
    watched: Any = Watched(store)
    session = MemorySession(watched, "alice", "one")
    model = Scripted([call("search_memory", '{"query": "Lisbon"}')], "Yes.", "No.")
    agent = Agent("a", model=model, tools=memory_tools(watched, "alice"))
    for question in ("I moved to Lisbon.", "Where do I live?"):
        await ask(agent, question, session=session, run_config=config(Conversation(watched, "alice")))
    await session.get_items(2)
    await session.pop_item()
    await session.clear_session()
    assert {"add", "search", "context", "list", "count", "get_sources", "delete"} <= set(watched.threads)
    assert not any(threading.get_ident() in threads for threads in watched.threads.values())


class Failing(HashEmbedder):
    """Is down when told."""

    down = False

    def embed(self, texts: Any, /, *, input_type: InputType) -> Embeddings:
        if self.down:
            raise RuntimeError("down")
        return super().embed(texts, input_type=input_type)


async def test_a_store_that_fails_leaves_no_half_of_a_turn(tmp_path: Path) -> None:
    embedder = Failing(64)
    with open_store(tmp_path, embedder) as store:
        session = MemorySession(store, "alice", "one")
        await ask(Agent("a", model=Scripted("Hello.")), "Hi!", session=session)
        before = await session.get_items()
        embedder.down = True
        with pytest.raises(EmbeddingError):
            await ask(Agent("a", model=Scripted("Never.")), "Anyone?", session=session)
        embedder.down = False
        assert await session.get_items() == before
        assert await ask(Agent("a", model=Scripted("Yes.")), "Anyone?", session=session) == "Yes."
        assert texts(await session.get_items()) == ["Hi!", "Hello.", "Anyone?", "Yes."]


def test_without_the_sdk_the_pip_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "agents"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "memory_plugin.adapters.openai_agents")
    with pytest.raises(MissingExtraError, match=r"pip install 'memory-plugin\[openai-agents\]'"):
        importlib.import_module("memory_plugin.adapters.openai_agents")


@pytest.mark.parametrize("session_id", ["", 7, "x" * 2000], ids=["empty", "number", "long"])
def test_ids_that_cannot_be(store: MemoryStore, session_id: Any) -> None:
    with pytest.raises(InvalidInputError):
        MemorySession(store, "alice", session_id)


# ── memories in the input ─────────────────────────────────────────────────────────────────────────


@pytest.fixture
def known(store: MemoryStore) -> MemoryStore:
    store.add(["Alice moved to Lisbon in May.", "Her badge is LX-2217."], "alice")
    store.add("Bob lives in Oslo.", "bob")
    return store


@pytest.mark.parametrize("way", ["async", "streamed"])
async def test_recall_happens_once_a_turn_and_is_not_kept(known: MemoryStore, way: str) -> None:
    conversation = Counting(known, "alice")
    session = MemorySession(known, "alice", "monday")
    weather_call = call("weather", '{"city": "Lisbon"}')
    model = Scripted([weather_call], [call("weather", '{"city": "Porto"}')], "Sun in Lisbon.", "Yes.")
    agent = Agent("assistant", instructions="Be kind.", model=model, tools=[weather])
    await ask(agent, "Weather where Alice moved to?", way=way, session=session, run_config=config(conversation))
    assert conversation.searches == 1
    memories = [[item for item in given if item.get("role") == "developer"] for given in model.inputs]
    assert [len(found) for found in memories] == [1, 1, 1]
    assert "Alice moved to Lisbon in May." in memories[0][0]["content"]
    assert "Oslo" not in memories[0][0]["content"]
    # Each step begins with what the one before was sent: its prefix stays cached.
    for before, after in zip(model.inputs, model.inputs[1:], strict=False):
        assert after[: len(before)] == before
    assert model.inputs[0][-1] == {"role": "user", "content": "Weather where Alice moved to?"}
    assert model.inputs[2][2]["call_id"] == model.inputs[2][3]["call_id"] == weather_call.call_id
    assert model.instructions == ["Be kind."] * 3
    await ask(agent, "Is her badge LX-2217?", way=way, session=session, run_config=config(conversation))
    assert conversation.searches == 2
    last = model.inputs[3]
    assert [item.get("role") for item in last][-2:] == ["developer", "user"]
    assert sum(item.get("role") == "developer" for item in last) == 1
    kept: Any = await session.get_items()
    assert "memories>" not in json.dumps(kept)
    assert last[:-2] + last[-1:] == kept[:-1]


async def test_a_tool_that_takes_long_does_not_begin_a_new_turn(
    known: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "RETRY_SECONDS", 0.0)
    conversation = Counting(known, "alice")
    model = Scripted([thought("Hm."), call("weather", '{"city": "Lisbon"}')], "Sunny.")
    agent = Agent("assistant", model=model, tools=[weather])
    await ask(agent, "Weather where Alice moved to?", run_config=config(conversation))
    assert (len(model.inputs), conversation.searches) == (2, 1)


async def test_recall_without_a_session_and_with_the_sdks_own(known: MemoryStore, tmp_path: Path) -> None:
    own = SQLiteSession("one", tmp_path / "sessions.db")
    for session in (None, own):
        model = Scripted("In Lisbon.")
        options: dict[str, Any] = {"session": session, "run_config": config(Conversation(known, "alice"))}
        await ask(Agent("assistant", model=model), "Where did Alice move to?", **options)
        assert "Alice moved to Lisbon" in texts(model.inputs[0])[0]
    assert "memories>" not in json.dumps(await own.get_items())
    own.close()


async def test_memories_in_the_instructions(known: MemoryStore) -> None:
    for given, starts in (("Be kind.", "Be kind.\n\n<memories>"), (None, "<memories>")):
        conversation = Counting(known, "alice")
        model = Scripted([call("weather", '{"city": "Lisbon"}')], "Sunny.")
        agent = Agent("assistant", instructions=given, model=model, tools=[weather])
        run_config = config(conversation, place="instructions")
        await ask(agent, "Where did Alice move to?", run_config=run_config)
        assert all(str(one).startswith(starts) and "Lisbon in May" in str(one) for one in model.instructions)
        assert len(set(model.instructions)) == 1
        assert conversation.searches == 1
        assert "memories" not in json.dumps(model.inputs)


async def test_a_filter_of_ones_own_runs_first(known: MemoryStore) -> None:
    def shorten(data: CallModelData[Any]) -> ModelInputData:
        return ModelInputData(data.model_data.input[-1:], "Shortened.")

    async def later(data: CallModelData[Any]) -> ModelInputData:
        return shorten(data)

    for inner in (shorten, later):
        model = Scripted("Lisbon.")
        given: Any = [{"role": "user", "content": "Old."}, {"role": "user", "content": "Where did Alice move to?"}]
        run_config = config(Conversation(known, "alice"), inner=inner)
        await ask(Agent("assistant", model=model), given, run_config=run_config)
        assert model.instructions == ["Shortened."]
        assert [item["role"] for item in model.inputs[0]] == ["developer", "user"]


async def test_a_handoff_is_the_same_turn(known: MemoryStore) -> None:
    conversation = Counting(known, "alice")
    second = Agent("second", model=(last := Scripted("In Lisbon.")))
    first = Agent("first", model=Scripted([call("transfer_to_second")]), handoffs=[handoff(second)])
    await ask(first, "Where did Alice move to?", run_config=config(conversation))
    assert conversation.searches == 1
    assert "Alice moved to Lisbon" in texts(last.inputs[0])[0]


@pytest.mark.parametrize("place", ["input", "instructions"])
async def test_a_handoff_that_makes_one_text_of_the_conversation(known: MemoryStore, place: str) -> None:
    conversation = Counting(known, "alice")
    second = Agent("second", instructions="Go on.", model=(last := Scripted("In Lisbon.")))
    first = Agent("first", model=Scripted([call("transfer_to_second")]), handoffs=[handoff(second)])
    run_config = config(conversation, place=place)
    run_config.nest_handoff_history = True
    await ask(first, "Where did Alice move to?", run_config=run_config)
    assert conversation.searches == 1
    assert "user" not in [item.get("role") for item in last.inputs[0]]
    sent = texts(last.inputs[0])[0] if place == "input" else str(last.instructions[0])
    assert "Alice moved to Lisbon in May." in sent


async def test_nothing_to_ask_and_nothing_found(known: MemoryStore) -> None:
    conversation = Counting(known, "nobody")
    picture: Any = {"role": "user", "content": [{"type": "input_image", "image_url": "data:,", "detail": "auto"}]}
    cases: list[Any] = [[picture], [{"role": "user", "content": "Where did Alice move to?"}]]
    for given in cases:
        model = Scripted("Hm.")
        await ask(Agent("assistant", model=model), given, run_config=config(conversation))
        assert model.inputs == [given]
    assert conversation.searches == 1


async def test_a_store_that_fails_stops_the_run_with_its_own_error(tmp_path: Path) -> None:
    embedder = Failing(64)
    with open_store(tmp_path, embedder) as store:
        store.add("Alice moved to Lisbon.", "alice")
        embedder.down = True
        model = Scripted("Never.")
        with pytest.raises(EmbeddingError):
            await ask(Agent("a", model=model), "Where is Alice?", run_config=config(Conversation(store, "alice")))
        assert model.inputs == []


@pytest.mark.parametrize("options", [{"place": "output"}, {"role": "assistant"}], ids=["place", "role"])
def test_places_and_roles_that_cannot_be(store: MemoryStore, options: Any) -> None:
    with pytest.raises(InvalidInputError):
        recall_filter(Conversation(store, "alice"), **options)


# ── the tool ──────────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_asks_for_memories(either: Any) -> None:
    for texts_, name in ((["Alice moved to Lisbon in May.", "Her badge is LX-2217."], "alice"), ("Bob: Oslo.", "bob")):
        added = either.add(texts_, name)
        if asyncio.iscoroutine(added):
            await added
    asked = call("search_memory", '{"query": "LX-2217"}')
    model = Scripted([asked], lambda given: given[-1]["output"])
    agent = Agent("assistant", model=model, tools=memory_tools(either, "alice"))
    answer = await ask(agent, "Whose badge is LX-2217?")
    assert "Her badge is LX-2217." in answer
    assert "Oslo" not in answer


async def test_the_tool_tells_when_it_finds_nothing_or_fails(tmp_path: Path) -> None:
    embedder = Failing(64)
    with open_store(tmp_path, embedder) as store:
        tools = memory_tools(store, "nobody")
        for query, says in (("Lisbon", "Nothing is remembered"), ("  ", "Nothing was asked for")):
            model = Scripted([call("search_memory", json.dumps({"query": query}))], lambda given: given[-1]["output"])
            assert says in await ask(Agent("a", model=model, tools=tools), "Well?")
        store.add("Secret Lisbon.", "nobody")
        embedder.down = True
        model = Scripted([call("search_memory", '{"query": "Lisbon"}')], lambda given: given[-1]["output"])
        answer = await ask(Agent("a", model=model, tools=tools), "Well?")
        assert answer == "The memory could not be searched (EmbeddingError). Go on without it."


def test_a_model_cannot_say_whose_memories(store: MemoryStore) -> None:
    tool: Any = memory_tools(store, ["alice", "company"])[0]
    assert list(tool.params_json_schema["properties"]) == ["query"]
    assert tool.params_json_schema["additionalProperties"] is False
    with pytest.raises(InvalidInputError):
        memory_tools(store, [])
    with pytest.raises(InvalidInputError):
        memory_tools(store, "alice", limit=0)


async def test_a_word_is_enough_with_the_models_that_ship(tmp_path: Path) -> None:
    """A number that no embedding tells from another, said a hundred messages ago in another session."""
    with MemoryStore.open(tmp_path / "store", keyring=tmp_path / "keys.json") as store:
        said: list[Any] = [
            {"role": "user", "content": f"Ticket {number} is about the printer."} for number in range(40)
        ]
        said.append({"role": "user", "content": "The door code of the archive is QX-7731."})
        await MemorySession(store, "alice", "monday").add_items(said)
        model = Scripted("It is.")
        session = MemorySession(store, "alice", "friday")
        run_config = config(Conversation(store, "alice", limit=3))
        await ask(Agent("a", model=model), "What was QX-7731 for?", session=session, run_config=run_config)
        assert "The door code of the archive is QX-7731." in texts(model.inputs[0])[0]
        assert texts(await session.get_items()) == ["What was QX-7731 for?", "It is."]
