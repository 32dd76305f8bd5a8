"""``ChatMemory``: the memory of a chat, as agents and chat engines of LlamaIndex take it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, ClassVar

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.memory.types import BaseMemory

from memory_plugin import ConfigurationError, InvalidInputError
from memory_plugin.adapters.conversation import Conversation, Turn
from memory_plugin.adapters.llama_index.detached import AnyStore, Attachable, spelled
from memory_plugin.adapters.llama_index.history import window
from memory_plugin.adapters.llama_index.messages import (
    found_by,
    goes_on,
    item_of,
    last_user,
    message_of,
    tokens_of,
    turn_of,
    with_memories,
    without_memories,
)
from memory_plugin.adapters.transcript import Transcript
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.ids import NamespaceLike, NamespacesLike
from memory_plugin.tokens import DEFAULT_ENCODING
from memory_plugin.types import Filter, Json, Namespace

_SHARE = 0.75
"""Of a model's context window, for the history and the memories, where only the model is given."""


class ChatMemory(Attachable, BaseMemory):
    """The exact history of one session, and with each turn the memories that it calls for.

    Every message is durable when ``put`` returns: tool calls too, which are kept but not searched.  ``get`` gives the
    latest turns within a budget and, before the words of the user's last message, what is known of earlier
    sessions and of turns that are cut off.  The memories are searched for once a turn, however often an agent asks,
    and are never written to the history.

    Args:
        store: Either store.
        namespace: Whose memories are recalled: "alice"; a list recalls from several.
        session: The conversation: a name inside the namespace, or a whole namespace such as ("alice", "chats", "7").
            Default: a new one.
        token_limit: Of what ``get`` returns, tool calls and memories included.
        recall_tokens: Of the memories at most; 0 recalls nothing.
        limit: Memories at most.
        filter: Which memories may be recalled; see ``memory_plugin.filters``.
        encoding: The tiktoken encoding to count with.

    Raises:
        InvalidInputError: A namespace, a number or the filter cannot be used.
    """

    arguments: ClassVar[tuple[str, ...]] = ("namespace", "session", "token_limit", "recall_tokens", "limit", "encoding")

    namespace: tuple[tuple[str, ...], ...] = Field(description="Where memories are recalled from.")
    session: tuple[str, ...] = Field(description="Where the history is.")
    token_limit: int = Field(description="Of what get returns.")
    recall_tokens: int = Field(description="Of the memories.")
    limit: int = Field(description="Memories at most.")
    encoding: str = Field(description="What tokens are counted with.")
    narrowed: bool = Field(default=False, description="Whether a filter restricts what is recalled.")

    _store: Any = PrivateAttr(default=None)
    _filter: Any = PrivateAttr(default=None)
    _transcript: Any = PrivateAttr(default=None)
    _conversation: Any = PrivateAttr(default=None)

    def __init__(
        self,
        store: AnyStore,
        namespace: NamespacesLike,
        *,
        session: NamespaceLike | None = None,
        token_limit: int = 30_000,
        recall_tokens: int = 1000,
        limit: int = 20,
        filter: Filter | None = None,
        encoding: str = DEFAULT_ENCODING,
    ) -> None:
        if token_limit < 1 or not 0 <= recall_tokens < token_limit:
            raise InvalidInputError(
                f"recall_tokens is part of token_limit: at least 0 and below it, not {recall_tokens} of {token_limit}"
            )
        whose = spelled(namespace)
        super().__init__(  # type: ignore[call-arg]
            namespace=whose,
            session=session_of(whose, session if session is not None else uuid.uuid4().hex),
            token_limit=token_limit,
            recall_tokens=recall_tokens,
            limit=limit,
            encoding=encoding,
            narrowed=filter is not None,
        )
        self._store, self._filter = store, filter
        self._connect()

    def _connect(self) -> None:
        self._transcript = Transcript(self._store, self.session)
        self._conversation = Conversation(
            self._store,
            list(self.namespace),
            session=self.session,
            max_tokens=max(self.recall_tokens, 1),
            limit=self.limit,
            filter=self._filter,
            encoding=self.encoding,
        )

    @classmethod
    def class_name(cls) -> str:
        """Name in what it is written as."""
        return "ChatMemory"

    @classmethod
    def from_defaults(
        cls,
        store: AnyStore | None = None,
        namespace: NamespacesLike | None = None,
        *,
        chat_history: list[ChatMessage] | None = None,
        llm: Any = None,
        token_limit: int | None = None,
        **kwargs: Any,
    ) -> ChatMemory:
        """As the constructor, with what LlamaIndex's memories take.

        Args:
            store: Either store; with ``chat_history`` one that blocks.
            namespace: See the class.
            chat_history: What the session's history is to be.
            llm: Its context window gives the token limit, where none is given.
            token_limit: See the class.
            **kwargs: See the class.

        Raises:
            ConfigurationError: There is no store or no namespace: no default would be yours.
        """
        if store is None or namespace is None:
            raise ConfigurationError("whose memory, and where? ChatMemory.from_defaults(store, namespace, …)")
        if token_limit is None and llm is not None:
            token_limit = int(llm.metadata.context_window * _SHARE)
        if token_limit is not None:
            kwargs["token_limit"] = token_limit
        memory = cls(store, namespace, **kwargs)
        if chat_history:
            memory.set(chat_history)
        return memory

    # ── read ──────────────────────────────────────────────────────────────────────────────────────

    def get(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002 - LlamaIndex's name
        """The latest turns and the memories for this one, within the token limit.

        The user's last message is always among them.

        Args:
            input: What the user says, where it is not put yet.
            **kwargs: ``initial_token_count``: of what the prompt holds already.
        """
        return run(self._get(Blocking(), input, **kwargs))

    async def aget(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002
        """See ``get``."""
        return await self._get(OnLoop(), input, **kwargs)

    def get_all(self) -> list[ChatMessage]:
        """The whole history, as it was put."""
        return run(self._all(Blocking()))

    async def aget_all(self) -> list[ChatMessage]:
        """See ``get_all``."""
        return await self._all(OnLoop())

    async def _all(self, io: IO) -> list[ChatMessage]:
        return await io.call(_messages, await self._transcript.latest(io))

    async def _get(self, io: IO, said: str | None, initial_token_count: int = 0, **_: Any) -> list[ChatMessage]:
        history = await self._all(io)
        asked = not (said and said.strip()) or goes_on(history, said)
        if not asked:
            history = [*history, ChatMessage(role=MessageRole.USER, content=said)]
        left = max(self.token_limit - initial_token_count, 0)
        begun, shown = await io.call(self._cut, history, left)
        memories = ""
        if 0 < self.recall_tokens <= left:
            # The mark after the user's words: this turn is under way, whatever the time that a tool takes.  A new
            # one begins with a put, which forgets it.
            memories = await self._conversation.recalled(io, [*begun, Turn("assistant", "")])
        return with_memories(shown if asked else shown[:-1], memories, asked=asked)

    def _cut(self, history: list[ChatMessage], left: int) -> tuple[list[Turn], list[ChatMessage]]:
        """What the turn began with, which stays the same while it lasts; and what is shown."""
        sizes: dict[int, int] = {}  # each is counted once; both windows hold the same objects

        def count(message: ChatMessage) -> int:
            if id(message) not in sizes:
                sizes[id(message)] = tokens_of(message, self.encoding)
            return sizes[id(message)]

        budget, last = left - self.recall_tokens, last_user(history)
        begun = window(history if last is None else history[: last + 1], budget, count)
        return [turn_of(message) for message in begun], window(history, budget, count)

    # ── write ─────────────────────────────────────────────────────────────────────────────────────

    def put(self, message: ChatMessage) -> None:
        """Add a message; durable on return.

        Raises:
            InvalidInputError: It holds what is no JSON.
        """
        run(self._put(Blocking(), [message]))

    async def aput(self, message: ChatMessage) -> None:
        """See ``put``."""
        await self._put(OnLoop(), [message])

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """Add messages, all or none; durable on return."""
        run(self._put(Blocking(), messages))

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        """See ``put_messages``."""
        await self._put(OnLoop(), messages)

    def set(self, messages: list[ChatMessage]) -> None:
        """Make this the history: what is new is written, what is gone is deleted, the rest stays as it is."""
        run(self._set(Blocking(), messages))

    async def aset(self, messages: list[ChatMessage]) -> None:
        """See ``set``."""
        await self._set(OnLoop(), messages)

    def reset(self) -> None:
        """Delete this session's messages, also from what can be recalled; other sessions stay."""
        run(self._reset(Blocking()))

    async def areset(self) -> None:
        """See ``reset``."""
        await self._reset(OnLoop())

    async def _put(self, io: IO, messages: Sequence[ChatMessage]) -> None:
        entries = await io.call(_entries, messages)
        await self._transcript.append(io, entries)
        if any(turn is not None and turn.role == "user" for _, turn in entries):
            self._conversation.forget_turn()

    async def _set(self, io: IO, messages: Sequence[ChatMessage]) -> None:
        entries = await io.call(_entries, messages)
        await io.uninterrupted(self._replace(io, entries))

    async def _replace(self, io: IO, entries: list[tuple[Json, Turn | None]]) -> None:
        there = await self._transcript.latest(io)
        same = await io.call(_common, there, entries)
        if same == len(there) == len(entries):
            return
        self._conversation.forget_turn()
        if same == 0 and there:
            await self._transcript.clear(io)
        else:
            for _ in there[same:]:
                await self._transcript.pop(io)
        await self._transcript.append(io, entries[same:])

    async def _reset(self, io: IO) -> None:
        await self._transcript.clear(io)
        self._conversation.forget_turn()


def session_of(namespaces: tuple[Namespace, ...], session: NamespaceLike | Sequence[str]) -> Namespace:
    """The namespace of a session: a name is one below the only namespace.

    Raises:
        InvalidInputError: It is a name, and there are several namespaces that it may be in.
    """
    if not isinstance(session, str):
        return spelled([tuple(session)])[0]
    if len(namespaces) > 1:
        raise InvalidInputError(
            "several namespaces are recalled from: say whole where the session is, session=('alice', 'session-7')"
        )
    return spelled([(*namespaces[0], session)])[0]


def _messages(items: Sequence[Json]) -> list[ChatMessage]:
    return [message_of(item) for item in items]


def _entries(messages: Sequence[ChatMessage]) -> list[tuple[Json, Turn | None]]:
    return [(item_of(message), found_by(message)) for message in without_memories(messages)]


def _common(there: Sequence[Json], entries: Sequence[tuple[Json, Turn | None]]) -> int:
    """How many items both begin with."""
    pairs = enumerate(zip(there, entries, strict=False))
    return next((n for n, (old, (new, _)) in pairs if old != new), min(len(there), len(entries)))
