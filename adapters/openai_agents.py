"""The OpenAI Agents SDK: a session that is kept sealed, memories in the model's input, and a tool that asks for them.

    session = MemorySession(store, "alice", "monday")
    config = RunConfig(call_model_input_filter=recall_filter(Conversation(store, "alice")))
    await Runner.run(agent, "Where do I live?", session=session, run_config=config)

What is said in a session is found in all later ones.  The recalled memories are in what the model is sent, never in
what the session keeps: a ``session_input_callback``, which is where one would put them, has its output persisted.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, cast

from memory_plugin import AsyncMemoryStore, InvalidInputError, MemoryStore
from memory_plugin.adapters.conversation import Conversation, Turn
from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.transcript import Transcript
from memory_plugin.flow import OnLoop
from memory_plugin.ids import NamespaceLike, NamespacesLike, namespace, namespaces, whole
from memory_plugin.types import Filter, Json

with needs("openai-agents", "the OpenAI Agents SDK adapter"):
    from agents import FunctionTool, RunContextWrapper, Tool, TResponseInputItem, function_tool
    from agents.memory import SessionSettings
    from agents.memory.session_settings import coerce_session_settings, resolve_session_limit
    from agents.models.fake_id import FAKE_RESPONSES_ID
    from agents.run_config import CallModelData, CallModelInputFilter, ModelInputData

RecallFilter: TypeAlias = Callable[[CallModelData[Any]], Awaitable[ModelInputData]]

__all__ = ["MemorySession", "memory_tools", "recall_filter"]

_WORDS = ("input_text", "output_text", "text")


class MemorySession:
    """A ``Session`` whose items are kept sealed in a memory store; what was said in it is found in later ones.

    Items come back exactly as they were added: ids, reasoning, tool calls with their outputs.

    Args:
        store: Where it is kept; either kind.
        user: Whose session it is, such as "alice".
        session_id: Which of hers.  Its namespace is (user, session_id).
        session_settings: ``limit``: how many of the newest items a run is given.
        conversation: What ``recall_filter`` was given: it lets go of recalled memories when items are deleted.

    Raises:
        InvalidInputError: The user or the id cannot be a part of a namespace.
    """

    session_settings: SessionSettings | None = None

    def __init__(
        self,
        store: MemoryStore | AsyncMemoryStore,
        user: NamespaceLike,
        session_id: str,
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
        conversation: Conversation | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = coerce_session_settings(session_settings or {})
        self.namespace = namespace((*namespace(user), session_id))
        self._io = OnLoop()
        self._transcript = Transcript(store, self.namespace)
        self._conversation = conversation

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The items, oldest first.

        Args:
            limit: The newest so many; None: as ``session_settings`` say; negative: all.
        """
        most = resolve_session_limit(limit, self.session_settings)
        if most is not None and most < 0:  # what the SDK's own sessions take for no limit
            most = None
        return cast("list[TResponseInputItem]", await self._transcript.latest(self._io, most))

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items at the end, all or, on an error, none; durable on return.

        Raises:
            InvalidInputError: An item is no JSON value; nothing was written.
            MemoryPluginError: The store failed; nothing was written.
        """
        given = cast("list[Json]", list(items))
        await self._transcript.append(self._io, [(item, _turn(item)) for item in given])

    async def pop_item(self) -> TResponseInputItem | None:
        """Take the newest item away; None where there is none."""
        item = await self._transcript.pop(self._io)
        self._let_go()
        return cast("TResponseInputItem | None", item)

    async def clear_session(self) -> None:
        """Delete this session's items; nothing that was said in it is found any more."""
        await self._transcript.clear(self._io)
        self._let_go()

    def _let_go(self) -> None:
        if self._conversation is not None:
            self._conversation.forget_turn()


def recall_filter(
    conversation: Conversation,
    *,
    place: Literal["input", "instructions"] = "input",
    role: Literal["developer", "system", "user"] = "developer",
    inner: CallModelInputFilter | None = None,
) -> RecallFilter:
    """Memories in the model's input, for ``RunConfig(call_model_input_filter=…)``.

    They are recalled once for each message of the user, although the model is called once a step, and stand in the
    same place in all steps of a turn, so that what was sent before is still the beginning of what is sent next.
    All items stay as they are.  Works with any session, and without one.

    Args:
        conversation: Whose memories, and how many; one for each user.
        place: "input": an item of its own before the user's last message.  "instructions": after the agent's, which
            is for conversations that the service keeps (``conversation_id``, ``previous_response_id``): there every
            item sent is kept.
        role: Of that item.
        inner: A filter of your own.  It runs first, so that it sees and cuts the conversation alone.
    """
    if place not in ("input", "instructions") or role not in ("developer", "system", "user"):
        raise InvalidInputError("place is 'input' or 'instructions', role 'developer', 'system' or 'user'")
    io = OnLoop()
    last = ""

    async def recall(data: CallModelData[Any]) -> ModelInputData:
        nonlocal last
        given = data.model_data if inner is None else await _apply(inner, data)
        turns = _turns(given.input)
        if any(turn.role == "user" for turn in turns):
            memories = last = await conversation.recalled(io, turns)
        else:  # a later step: the service keeps the user's message, or a handoff made one text of the conversation
            memories = last
        return _with_memories(given, memories, place, role) if memories else given

    return recall


def memory_tools(
    store: MemoryStore | AsyncMemoryStore,
    namespace: NamespacesLike,
    *,
    max_tokens: int = 1000,
    limit: int = 20,
    filter: Filter | None = None,
) -> list[Tool]:
    """Tools for agents that ask for memories themselves: ``search_memory(query)``.

    Whose memories is settled here: a model cannot say.

    Args:
        store: Where memories are; either kind.
        namespace: Where to look; a list looks in several.
        max_tokens: Of what a search returns.
        limit: Memories at most.
        filter: Which may be found; see ``memory_plugin.filters``.

    Raises:
        InvalidInputError: The namespace or a number cannot be used.
    """
    where = list(namespaces(namespace))
    most, budget, io = whole(limit, "limit"), whole(max_tokens, "max_tokens"), OnLoop()

    async def search_memory(query: str) -> str:
        """Search what is remembered of earlier conversations and documents.

        Args:
            query: A question or a few words: names, places, numbers.
        """
        if not query.strip():
            return "Nothing was asked for: give a question or a few words."
        ask: Any = store.context  # of either store
        found = await io.call(ask, query, where, limit=most, max_tokens=budget, filter=filter)
        return found.text or "Nothing is remembered about that."

    return [_tool(search_memory)]


def _tool(function: Callable[..., Awaitable[str]]) -> FunctionTool:
    return function_tool(function, failure_error_function=_failed)


def _failed(context: RunContextWrapper[Any], error: Exception) -> str:
    """What the model is told: no words of the error, which may quote what was asked."""
    return f"The memory could not be searched ({type(error).__name__}). Go on without it."


# ── items of the Responses API ────────────────────────────────────────────────────────────────────


async def _apply(inner: CallModelInputFilter, data: CallModelData[Any]) -> ModelInputData:
    made = inner(data)
    return await made if inspect.isawaitable(made) else made


def _with_memories(given: ModelInputData, memories: str, place: str, role: str) -> ModelInputData:
    if place == "instructions":
        return replace(given, instructions=f"{given.instructions}\n\n{memories}" if given.instructions else memories)
    places = [index for index, item in enumerate(given.input) if _role(item) == "user"]
    places = places or [index for index, item in enumerate(given.input) if _role(item) is not None]
    if not places:
        return given  # nothing but what a tool answered: what was sent before, memories included, is at the service
    # A copy of the list, never of its items: the SDK knows them by identity.
    item = cast("TResponseInputItem", {"role": role, "content": memories})
    return replace(given, input=[*given.input[: places[-1]], item, *given.input[places[-1] :]])


def _turns(items: Sequence[object]) -> list[Turn]:
    """What was said, and that something was done since: a turn in which a tool takes its time is still the same."""
    turns = (_turn(item) for item in items if _role(item) not in ("system", "developer"))
    return [turn for turn in turns if turn is not None]


def _turn(item: object) -> Turn | None:
    """What to find an item by; one without words is known by its id alone."""
    if not isinstance(item, Mapping):
        return None
    role = _role(item)
    text = _text(item.get("content")) if role in ("user", "assistant") else ""
    own = item.get("id")
    id_ = own if isinstance(own, str) and own != FAKE_RESPONSES_ID else item.get("call_id")
    return Turn(role or str(item.get("type")), text, id=id_ if isinstance(id_, str) else None)


def _role(item: object) -> str | None:
    if isinstance(item, Mapping) and item.get("type", "message") == "message" and isinstance(item.get("role"), str):
        return cast("str", item["role"])
    return None


def _text(content: object) -> str:
    """The words of a message, whatever stands between them."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") in _WORDS]
    return "\n".join(text for text in texts if isinstance(text, str))
