"""The same through the real ``openai`` client, against a server on this machine: what is sent, and what is traced."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import MemoryStore
from memory_plugin.adapters.conversation import Conversation
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.doubles import HashEmbedder

pytest.importorskip("agents")

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
    set_trace_processors,
    set_tracing_disabled,
)
from agents.memory import OpenAIResponsesCompactionSession
from agents.tracing import Span, Trace, TracingProcessor
from openai import AsyncOpenAI

from memory_plugin.adapters.openai_agents import MemorySession, memory_tools, recall_filter


class Service(ThreadingHTTPServer):
    """Answers each request with the next of its answers, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.answers: list[Any] = []

    @property
    def client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"http://127.0.0.1:{self.server_port}/v1", api_key="test", max_retries=0)

    def says(self, text: str) -> None:
        part = {"type": "output_text", "text": text, "annotations": []}
        number = len(self.answers)
        self.answers.append(
            {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        )

    def calls(self, name: str, **arguments: str) -> None:
        number = len(self.answers)
        self.answers.append(
            {
                "id": f"fc_{number}",
                "type": "function_call",
                "call_id": f"call_{number}",
                "name": name,
                "arguments": json.dumps(arguments),
                "status": "completed",
            }
        )


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/compact"):
            tokens = {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18}
            details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
            output = [
                *(item for item in asked["input"] if item.get("role") == "user"),
                {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA=="},
            ]
            self._answer(
                {
                    "id": "resp_c",
                    "object": "response.compaction",
                    "created_at": 0,
                    "output": output,
                    "usage": {**tokens, **details},
                }
            )
            return
        output = self.server.answers[len(self.server.asked)]
        number = len(self.server.asked)
        self.server.asked.append(asked)
        common = {"id": f"resp_{number}", "model": "scripted"}
        if self.path.endswith("/responses"):
            self._answer(
                {
                    **common,
                    "object": "response",
                    "created_at": 0,
                    "output": [output],
                    "tools": [],
                    "tool_choice": "auto",
                    "parallel_tool_calls": False,
                }
            )
        else:
            function = {"name": output.get("name"), "arguments": output.get("arguments")}
            call = {"id": output.get("call_id"), "type": "function", "function": function}
            said = {"content": output["content"][0]["text"]} if "content" in output else {"tool_calls": [call]}
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **said}}
            self._answer({**common, "object": "chat.completion", "created": 0, "choices": [choice]})

    def _answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Collected(TracingProcessor):
    """Keeps what would be exported."""

    def __init__(self) -> None:
        self.exported: list[Any] = []

    def on_trace_start(self, trace: Trace) -> None: ...

    def on_trace_end(self, trace: Trace) -> None:
        self.exported.append(trace.export())

    def on_span_start(self, span: Span[Any]) -> None: ...

    def on_span_end(self, span: Span[Any]) -> None:
        self.exported.append(span.export())

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...


@pytest.fixture(autouse=True)
def traced() -> Iterator[Collected]:
    """In place of the processor that sends everything away."""
    collected = Collected()
    set_trace_processors([collected])
    set_tracing_disabled(False)
    yield collected
    set_tracing_disabled(True)
    set_trace_processors([])


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncOpenAI]:
    async with service.client as client:
        yield client


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    index = EdgeIndex(tmp_path / "store", durability="process")
    with MemoryStore(index, HashEmbedder(256), reranker=None, late=None, keyring=tmp_path / "keys.json") as store:
        store.add("Alice moved to Lisbon in May.", "alice")
        yield store


@function_tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"Sun in {city}."


def config(store: MemoryStore, **options: Any) -> RunConfig:
    place = options.pop("place", "input")
    return RunConfig(call_model_input_filter=recall_filter(Conversation(store, "alice"), place=place), **options)


QUESTION = "Weather where Alice moved to?"


async def test_a_session_over_the_responses_api(service: Service, client: AsyncOpenAI, store: MemoryStore) -> None:
    service.calls("weather", city="Lisbon")
    service.says("Sunny.")
    service.says("You asked about Lisbon.")
    agent = Agent("assistant", model=OpenAIResponsesModel("scripted", client), tools=[weather])
    session = MemorySession(store, "alice", "monday")
    await Runner.run(agent, QUESTION, session=session, run_config=config(store))
    await Runner.run(agent, "What did I ask?", session=session, run_config=config(store))
    first, second, third = (asked["input"] for asked in service.asked)
    assert [item.get("role", item.get("type")) for item in first] == ["developer", "user"]
    assert "Alice moved to Lisbon in May." in first[0]["content"]
    assert second[:2] == first
    assert [item["type"] for item in second[2:]] == ["function_call", "function_call_output"]
    kept: Any = await session.get_items()
    assert "memories>" not in json.dumps(kept)
    assert third[0] == first[1]
    assert [item.get("id") for item in kept if "id" in item] == ["fc_0", "msg_1", "msg_2"]


async def test_a_session_that_the_service_compacts(service: Service, client: AsyncOpenAI, store: MemoryStore) -> None:
    """What docs/openai-agents.md says of it: what compaction drops is found no longer."""
    service.calls("weather", city="Lisbon")
    service.says("Rain of frogs.")
    agent = Agent("assistant", model=OpenAIResponsesModel("gpt-4.1", client), tools=[weather])
    ours = MemorySession(store, "alice", "monday")
    session = OpenAIResponsesCompactionSession(
        "monday", ours, client=client, compaction_mode="input", should_trigger_compaction=lambda _: False
    )
    await Runner.run(agent, QUESTION, session=session)
    assert len(await ours.get_items()) == 4
    assert any("frogs" in hit.text for hit in store.search("frogs", "alice"))
    await session.run_compaction({"force": True})
    kept: Any = await ours.get_items()
    assert [item.get("type", "message") for item in kept] == ["message", "compaction"]
    assert not any("frogs" in hit.text for hit in store.search("frogs", "alice"))
    assert any(hit.text == QUESTION for hit in store.search(QUESTION, "alice"))


@pytest.mark.parametrize("options", [{"auto_previous_response_id": True}, {"conversation_id": "conv_1"}], ids=str)
async def test_a_conversation_that_the_service_keeps(
    service: Service, client: AsyncOpenAI, store: MemoryStore, options: Any
) -> None:
    agent = Agent("a", instructions="Be kind.", model=OpenAIResponsesModel("scripted", client), tools=[weather])
    for place in ("instructions", "input"):
        service.asked.clear()
        service.answers.clear()
        service.calls("weather", city="Lisbon")
        service.says("Sunny.")
        await Runner.run(agent, QUESTION, run_config=config(store, place=place), **options)
        first, second = service.asked
        assert [item["type"] for item in second["input"]] == ["function_call_output"]
        with_memories = ["Lisbon in May" in asked["instructions"] for asked in (first, second)]
        if place == "instructions":
            assert with_memories == [True, True]
            assert len(first["input"]) == 1
        else:  # sent once; the service keeps it with the conversation
            assert with_memories == [False, False]
            assert [item["role"] for item in first["input"]] == ["developer", "user"]


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, True), ({"trace_include_sensitive_data": False}, False), ({"tracing_disabled": True}, False)],
    ids=["by default", "without data", "off"],
)
async def test_what_is_traced(
    service: Service, client: AsyncOpenAI, store: MemoryStore, traced: Collected, options: Any, told: bool
) -> None:
    """What docs/openai-agents.md says of it: by default memories leave the machine with the trace, in the clear."""
    service.calls("search_memory", query="Alice")
    service.says("In Lisbon.")
    model = OpenAIChatCompletionsModel("scripted", client)
    agent = Agent("assistant", model=model, tools=memory_tools(store, "alice"))
    session = MemorySession(store, "alice", "monday")
    await Runner.run(agent, QUESTION, session=session, run_config=config(store, **options))
    spans = {one["span_data"]["type"]: json.dumps(one) for one in traced.exported if "span_data" in one}
    memory = "Alice moved to Lisbon in May."
    assert (memory in spans.get("generation", ""), memory in spans.get("function", "")) == (told, told)
    assert bool(traced.exported) is ("tracing_disabled" not in options)
    assert memory in json.dumps(service.asked[0]["messages"])
