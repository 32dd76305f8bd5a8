"""The messages of a chat, exactly as they were, in order and sealed; what was said in them can be found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from memory_plugin import AsyncMemoryStore, InvalidInputError, MemoryStore
from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.langchain.messages import turn_of
from memory_plugin.adapters.transcript import Transcript
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.ids import NamespaceLike
from memory_plugin.types import Json

with needs("langchain", "the LangChain chat history"):
    from langchain_core.chat_history import BaseChatMessageHistory
    from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict


class MemoryChatMessageHistory(BaseChatMessageHistory):
    """A session's messages: ids, tool calls, parts of every kind, usage, as they were given.

    What the user and the model said is found in the session's namespace and in those above; what tools were asked and
    answered is kept, and in no search.

    Args:
        store: Open; methods that begin with "a" take either kind, the others a ``MemoryStore``.
        session: Its namespace, such as ("alice", "session-7").
        limit: Messages that are read at most, the last ones; None: all.

    Raises:
        InvalidInputError: The namespace cannot be used.
    """

    def __init__(
        self, store: MemoryStore | AsyncMemoryStore, session: NamespaceLike, *, limit: int | None = None
    ) -> None:
        super().__init__()
        self._transcript = Transcript(store, session)
        self._limit = limit

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """All of them, or the last ``limit``; oldest first."""
        return run(self._read(Blocking()))

    async def aget_messages(self) -> list[BaseMessage]:
        """See ``messages``."""
        return await self._read(OnLoop())

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages at the end: all, or on an error none.

        Raises:
            InvalidInputError: A message holds something that is no JSON value, such as a tool's artifact.
        """
        run(self._add(Blocking(), messages))

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """See ``add_messages``."""
        await self._add(OnLoop(), messages)

    def clear(self) -> None:
        """Delete this session's messages, and what was found by them."""
        run(self._transcript.clear(Blocking()))

    async def aclear(self) -> None:
        """See ``clear``."""
        await self._transcript.clear(OnLoop())

    async def _read(self, io: IO) -> list[BaseMessage]:
        return messages_from_dict(cast("list[dict[str, Any]]", await self._transcript.latest(io, self._limit)))

    async def _add(self, io: IO, messages: Sequence[BaseMessage]) -> None:
        strange = next((one for one in messages if not isinstance(one, BaseMessage)), None)
        if strange is not None:
            raise InvalidInputError(f"a chat history takes messages of LangChain, not {type(strange).__name__}")
        items = [(cast("Json", message_to_dict(one)), turn_of(one, id=True)) for one in messages]
        await self._transcript.append(io, items)

    def __repr__(self) -> str:
        # Not str(): that prints the messages.
        return type(self).__name__
