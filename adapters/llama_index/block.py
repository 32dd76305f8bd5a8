"""``MemoryBlock``: long-term memories inside LlamaIndex's own ``Memory``."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, ClassVar

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.memory.memory import BaseMemoryBlock

from memory_plugin.adapters.conversation import Conversation, Turn, count_tokens
from memory_plugin.adapters.llama_index.detached import AnyStore, Attachable, spelled
from memory_plugin.adapters.llama_index.memory import session_of
from memory_plugin.adapters.llama_index.messages import goes_on, turn_of, without_memories, words_of
from memory_plugin.flow import OnLoop
from memory_plugin.ids import NamespaceLike, NamespacesLike
from memory_plugin.tokens import DEFAULT_ENCODING
from memory_plugin.types import Filter, Namespace

_SESSIONS = 256
"""Conversations at hand: one block may serve the memories of many sessions."""

_PASSAGE = re.compile(r"^(?=\[\d+\] )", re.MULTILINE)


class MemoryBlock(Attachable, BaseMemoryBlock[str]):
    """Recalls for the turn, and remembers what is said.

    LlamaIndex's ``Memory`` gives a block messages to keep only once they fall out of its own queue: a short chat never
    does.  So this one also remembers what it is shown when it is asked (``write_through``): the user's words at once,
    an answer when the next question comes.  ``Memory.reset`` tells blocks nothing: delete with the store's verbs.

    Args:
        store: Either store.
        namespace: Whose memories are recalled; a list recalls from several.
        session: Where what is said is kept.  Default: below the namespace, under the ``session_id`` of the ``Memory``.
        name: Of the block, and of the tag around it.
        description: As in ``BaseMemoryBlock``.
        priority: As in ``BaseMemoryBlock``: 0 is never cut down.
        accept_short_term_memory: As in ``BaseMemoryBlock``; False recalls only.
        max_tokens: Of the memories.
        limit: Memories at most.
        filter: Which memories may be recalled.
        encoding: The tiktoken encoding to count with.
        write_through: Whether to remember what it is shown, before it falls out of the queue.

    Raises:
        InvalidInputError: A namespace, a number or the filter cannot be used.
    """

    arguments: ClassVar[tuple[str, ...]] = (
        "namespace",
        "session",
        "name",
        "description",
        "priority",
        "accept_short_term_memory",
        "max_tokens",
        "limit",
        "encoding",
        "write_through",
    )

    namespace: tuple[tuple[str, ...], ...] = Field(description="Where memories are recalled from.")
    session: tuple[str, ...] | None = Field(description="Where what is said is kept.")
    max_tokens: int = Field(description="Of the memories.")
    limit: int = Field(description="Memories at most.")
    encoding: str = Field(description="What tokens are counted with.")
    write_through: bool = Field(description="Whether to remember what it is shown.")
    narrowed: bool = Field(default=False, description="Whether a filter restricts what is recalled.")

    _store: Any = PrivateAttr(default=None)
    _filter: Any = PrivateAttr(default=None)
    _conversations: Any = PrivateAttr(default=None)

    def __init__(
        self,
        store: AnyStore,
        namespace: NamespacesLike,
        *,
        session: NamespaceLike | None = None,
        name: str = "long_term_memory",
        description: str | None = None,
        priority: int = 0,
        accept_short_term_memory: bool = True,
        max_tokens: int = 1000,
        limit: int = 20,
        filter: Filter | None = None,
        encoding: str = DEFAULT_ENCODING,
        write_through: bool = True,
    ) -> None:
        whose = spelled(namespace)
        super().__init__(  # type: ignore[call-arg]
            name=name,
            description=description,
            priority=priority,
            accept_short_term_memory=accept_short_term_memory,
            namespace=whose,
            session=None if session is None else session_of(whose, session),
            max_tokens=max_tokens,
            limit=limit,
            encoding=encoding,
            write_through=write_through,
            narrowed=filter is not None,
        )
        self._store, self._filter = store, filter
        self._connect()
        self._conversation(None)  # what cannot be used is said now

    def _connect(self) -> None:
        self._conversations = OrderedDict()

    def _conversation(self, session_id: str | None) -> Conversation:
        session: Namespace | None = self.session
        if session is None and session_id:
            session = session_of(self.namespace, session_id)
        known: OrderedDict[Any, Conversation] = self._conversations
        found = known.pop(session, None) or Conversation(
            self._store,
            list(self.namespace),
            session=session,
            max_tokens=self.max_tokens,
            limit=self.limit,
            filter=self._filter,
            encoding=self.encoding,
        )
        known[session] = found
        while len(known) > _SESSIONS:
            known.popitem(last=False)
        return found

    async def _aget(
        self, messages: list[ChatMessage] | None = None, session_id: str | None = None, **block_kwargs: Any
    ) -> str:
        """Memories for the last message of the user; one search a turn."""
        io, conversation = OnLoop(), self._conversation(session_id)
        turns = _turns(messages or [])
        memories = await conversation.recalled(io, turns)
        if self.write_through and self.accept_short_term_memory and turns:
            await conversation.remember(io, turns)
        return memories

    async def _aput(self, messages: list[ChatMessage]) -> None:
        """Remember what fell out of the queue."""
        session_id = next((one.additional_kwargs.get("session_id") for one in messages), None)
        turns = _turns(messages)
        if turns:
            await self._conversation(session_id).remember(OnLoop(), turns)

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """The memories without the least of them; None where none would be left."""
        opening, closing = content.find("\n") + 1, content.rfind("\n")
        head, *passages = _PASSAGE.split(content[opening:closing])
        spared = 0
        while passages and spared < tokens_to_truncate:
            spared += count_tokens(passages.pop(), self.encoding)
        return f"{content[:opening]}{head}{''.join(passages)}{content[closing:]}" if passages else None


def _turns(messages: Sequence[ChatMessage]) -> list[Turn]:
    """The messages as turns: what the user says is there twice where LlamaIndex passes it as input, too."""
    said = without_memories(messages)
    if len(said) > 1 and said[-1].role == "user" and goes_on(said[:-1], words_of(said[-1])):
        del said[-1]
    return [turn_of(message) for message in said]
