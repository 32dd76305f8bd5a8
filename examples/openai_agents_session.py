"""An agent of the OpenAI Agents SDK that remembers over sessions, kept sealed on this machine.

The model is a stand-in that repeats what it is sent, so no key is needed: leave ``model=`` out for a real one.
"""

import tempfile
from pathlib import Path
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from memory_plugin import MemoryStore
from memory_plugin.adapters.conversation import Conversation
from memory_plugin.adapters.openai_agents import MemorySession, recall_filter


class Parrot(Model):
    async def get_response(self, system_instructions: str | None, input: Any, *_: object, **__: Any) -> ModelResponse:  # noqa: A002
        text = ResponseOutputText(type="output_text", text=f"I was sent: {input}", annotations=[])
        said = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *_: object, **__: object) -> Any:
        raise NotImplementedError


with (
    tempfile.TemporaryDirectory() as name,
    MemoryStore.open(name + "/memory", keyring=Path(name, "keys.json")) as store,
):
    agent = Agent("assistant", instructions="You help Alice.", model=Parrot())
    for day, question in ("monday", "My badge is LX-2217."), ("friday", "Which number is on my badge?"):
        session = MemorySession(store, "alice", day)
        recall = recall_filter(Conversation(store, "alice"))
        # Without tracing: by default the SDK sends what a model reads and says to its vendor's dashboard.
        config = RunConfig(call_model_input_filter=recall, tracing_disabled=True)
        print(Runner.run_sync(agent, question, session=session, run_config=config).final_output, "\n")
