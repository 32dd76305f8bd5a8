"""Memories for chat APIs: OpenAI's Chat Completions and Responses, Anthropic's Messages, and what speaks as they do.

    chat = Chat(store, "alice", session=("alice", "session-7"))
    reply = client.chat.completions.create(model=…, messages=chat.inject(messages))
    chat.remember([*messages, reply.choices[0].message])

Needs no SDK.  For a client that does both by itself, see ``memory_plugin.adapters.openai`` and ``…anthropic``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.adapters.chat import formats
from memory_plugin.adapters.chat.formats import FORMATS, PLACES, Format, Place
from memory_plugin.adapters.conversation import TEMPLATE, Conversation
from memory_plugin.errors import InvalidInputError
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.ids import NamespaceLike, NamespacesLike
from memory_plugin.tokens import DEFAULT_ENCODING
from memory_plugin.types import Added, Filter

__all__ = ["FORMATS", "PLACES", "Chat", "Format", "Place", "ainject", "aremember", "inject", "remember"]


class Chat:
    """Puts a user's memories into messages, and remembers what is said in them.

    Args:
        store: Where memories are.
        namespace: Whose memories: "alice"; a list looks in several.
        session: Where what is said is written: ("alice", "session-7"); by default the namespace, if it is one.
        place: Where memories go: "user": into the last user message, before its words; "developer" or "system": into a
            message of that role before it.
        max_tokens: Of the memories, never exceeded.
        limit: Memories at most.
        filter: Which memories; see ``memory_plugin.filters``.
        encoding: The tiktoken encoding to count with.
        template: What stands around the memories.

    Raises:
        InvalidInputError: A value cannot be used.
    """

    def __init__(
        self,
        store: MemoryStore | AsyncMemoryStore,
        namespace: NamespacesLike,
        *,
        session: NamespaceLike | None = None,
        place: Place = "user",
        max_tokens: int = 1000,
        limit: int = 20,
        filter: Filter | None = None,
        encoding: str = DEFAULT_ENCODING,
        template: str = TEMPLATE,
    ) -> None:
        if place not in PLACES:
            raise InvalidInputError(f"a place is one of {', '.join(PLACES)}, not {place!r:.40}")
        self.place: Place = place
        self.conversation = Conversation(
            store,
            namespace,
            session=session,
            max_tokens=max_tokens,
            limit=limit,
            filter=filter,
            encoding=encoding,
            template=template,
        )

    def inject(self, messages: Any, *, format: Format | None = None) -> Any:  # noqa: A002 - see ainject
        """The messages with what the user's last one calls to mind; see ``ainject``."""
        return run(self._inject(Blocking(), messages, format))

    async def ainject(self, messages: Any, *, format: Format | None = None) -> Any:  # noqa: A002 - users' word
        """The messages with what the user's last one calls to mind.

        For this request only: keep your own list, and inject again before the next one.  Within a turn, also one with
        many tool calls, the memories are the same text in the same place, from one search.

        Args:
            messages: As the API takes them: a list of mappings or of an SDK's objects; a text for Responses.  They are
                not changed.
            format: "chat", "responses" or "anthropic"; by default told from the messages.

        Returns:
            A new list, or a text; ``messages`` itself when nothing was found or no user speaks.

        Raises:
            InvalidInputError: The messages are of no known format.
            MemoryPluginError: The store failed.
        """
        return await self._inject(OnLoop(), messages, format)

    def remember(self, messages: Any, *, format: Format | None = None) -> Added:  # noqa: A002 - see ainject
        """Remember what the user and the assistant said; see ``aremember``."""
        return run(self._remember(Blocking(), messages, format))

    async def aremember(self, messages: Any, *, format: Format | None = None) -> Added:  # noqa: A002 - see ainject
        """Remember what the user and the assistant said; durable on return.

        The same list again, or the list grown, writes only what is new.  Instructions, tool calls and their results,
        reasoning and files are not remembered.

        Args:
            messages: As for ``ainject``; the API's answers may stand in the list as they came.
            format: As for ``ainject``.

        Raises:
            ConfigurationError: It is not clear where to write: give ``session``.
            MemoryPluginError: The store failed.
        """
        return await self._remember(OnLoop(), messages, format)

    def forget_turn(self) -> None:
        """Drop the memories at hand; after a deletion, so that nothing deleted comes back within a turn."""
        self.conversation.forget_turn()

    async def _inject(self, io: IO, messages: Any, given: Format | None) -> Any:
        listed = _listed(messages)
        form: Format = await io.call(formats.detect, listed, given)
        clean = self.conversation.stripped
        said = await io.call(formats.turns, listed, form, clean)
        text = await self.conversation.recalled(io, said)
        return await io.call(formats.put, listed, text, form, self.place, clean) if text else messages

    async def _remember(self, io: IO, messages: Any, given: Format | None) -> Added:
        listed = _listed(messages)
        form: Format = await io.call(formats.detect, listed, given)
        said = await io.call(formats.turns, listed, form, self.conversation.stripped)
        return await self.conversation.remember(io, said)


def inject(messages: Any, store: MemoryStore, namespace: NamespacesLike, **options: Any) -> Any:
    """The messages with what the user's last one calls to mind: ``Chat.inject`` in one call, with a search each time.

    Args:
        messages: As for ``Chat.ainject``.
        store: Where memories are.
        namespace: Whose.
        options: ``format``, and those of ``Chat``.
    """
    form = options.pop("format", None)
    return Chat(store, namespace, **options).inject(messages, format=form)


async def ainject(
    messages: Any, store: MemoryStore | AsyncMemoryStore, namespace: NamespacesLike, **options: Any
) -> Any:
    """``inject``, awaited."""
    form = options.pop("format", None)
    return await Chat(store, namespace, **options).ainject(messages, format=form)


def remember(messages: Any, store: MemoryStore, namespace: NamespaceLike, **options: Any) -> Added:
    """Remember what the user and the assistant said: ``Chat.remember`` in one call.

    Args:
        messages: As for ``Chat.ainject``.
        store: Where memories are.
        namespace: Where to write: ("alice", "session-7").
        options: ``format``, and those of ``Chat``.
    """
    form = options.pop("format", None)
    return Chat(store, namespace, **options).remember(messages, format=form)


async def aremember(
    messages: Any, store: MemoryStore | AsyncMemoryStore, namespace: NamespaceLike, **options: Any
) -> Added:
    """``remember``, awaited."""
    form = options.pop("format", None)
    return await Chat(store, namespace, **options).aremember(messages, format=form)


def _listed(messages: Any) -> str | Sequence[Any]:
    if isinstance(messages, str | list | tuple):
        return messages
    raise InvalidInputError(f"messages are a list, or a text for Responses, not {type(messages).__name__}")
