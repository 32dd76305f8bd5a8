"""An OpenAI client with a memory.

client = with_memory(OpenAI(), store, "alice", session=("alice", "session-7"))
client.responses.create(model=…, input="Which cake should I bake?")
"""

from __future__ import annotations

from typing import Literal, TypeVar

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.adapters.chat import Chat
from memory_plugin.adapters.chat.client import remembering, turns_of
from memory_plugin.adapters.chat.formats import Format, Place
from memory_plugin.adapters.chat.turns import OnError, Turns
from memory_plugin.adapters.conversation import TEMPLATE
from memory_plugin.adapters.extras import needs
from memory_plugin.errors import InvalidInputError
from memory_plugin.ids import NamespaceLike, NamespacesLike
from memory_plugin.tokens import DEFAULT_ENCODING
from memory_plugin.types import Filter

with needs("openai", "an OpenAI client with a memory"):
    import openai

__all__ = ["memory_of", "with_memory"]

C = TypeVar("C", bound=openai.OpenAI | openai.AsyncOpenAI)

ADDRESSES: dict[str, Format] = {"/chat/completions": "chat", "/responses": "responses"}


def with_memory(
    client: C,
    store: MemoryStore | AsyncMemoryStore,
    namespace: NamespacesLike,
    *,
    session: NamespaceLike | None = None,
    place: Place | Literal["instructions"] = "user",
    on_error: OnError = "warn",
    max_tokens: int = 1000,
    limit: int = 20,
    filter: Filter | None = None,
    encoding: str = DEFAULT_ENCODING,
    template: str = TEMPLATE,
) -> C:
    """The client with a user's memory: what is asked is recalled, what was said is remembered.

    ``chat.completions`` and ``responses``, with ``create``, ``parse`` and ``stream``, raw or not, and those of
    ``with_options``.  Everything else is the client's own.  A request goes out with memories in it, for itself only;
    when its answer is whole, also one that was streamed, the user's words and the answer are remembered.  A request
    that fails, or a stream that breaks off, leaves nothing half.

    Args:
        client: ``OpenAI`` or ``AsyncOpenAI``, also Azure's; it stays as it is, and shares its connections.
        store: Where memories are; an ``AsyncMemoryStore`` only for an asynchronous client.
        namespace: Whose memories: "alice"; a list looks in several.
        session: Where what is said is written: ("alice", "session-7"); by default the namespace, if it is one.
        place: See ``Chat``; or "instructions": into those of each Responses request, which is what happens in any case
            where OpenAI keeps the conversation (``previous_response_id``, ``conversation``).
        on_error: When an answer is there and the store cannot take it: "warn", "raise", or a function that is given
            the error.  A recall that fails is always raised, before anything is sent.
        max_tokens: Of the memories, never exceeded.
        limit: Memories at most.
        filter: Which memories; see ``memory_plugin.filters``.
        encoding: The tiktoken encoding to count with.
        template: What stands around the memories.

    Raises:
        ConfigurationError: Something does not fit together.
    """
    if not isinstance(client, openai.OpenAI | openai.AsyncOpenAI):
        raise InvalidInputError(f"with_memory takes a client of the openai package, not {type(client).__name__}")
    chat = Chat(
        store,
        namespace,
        session=session,
        place="user" if place == "instructions" else place,
        max_tokens=max_tokens,
        limit=limit,
        filter=filter,
        encoding=encoding,
        template=template,
    )
    turns = Turns(chat, instructions=place == "instructions", on_error=on_error)
    return remembering(client, turns, ADDRESSES, "chat")


def memory_of(client: openai.OpenAI | openai.AsyncOpenAI) -> Chat:
    """What recalls and remembers for a client that ``with_memory`` made.

    Raises:
        InvalidInputError: It has no memory.
    """
    return turns_of(client).chat
