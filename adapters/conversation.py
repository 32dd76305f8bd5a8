"""What every adapter does between a user's message and the model's answer: ask, recall once a turn, render, remember.

No framework is known here: an adapter makes ``Turn`` of its messages and puts the text where its framework wants it.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from memory_plugin import AsyncMemoryStore, MemoryStore, and_, any_of, filters, not_
from memory_plugin.adapters.query import MAX_BEFORE, MAX_QUERY, WORD, printable, says_enough
from memory_plugin.adapters.single_flight import SingleFlight
from memory_plugin.context import PREFACE, pack
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.flow import IO
from memory_plugin.ids import NamespaceLike, NamespacesLike, namespace, namespaces, visible, whole
from memory_plugin.registry import local_pieces
from memory_plugin.tokens import DEFAULT_ENCODING, counter
from memory_plugin.types import Added, Context, Filter, Hit, Message, Namespace, Record

TEMPLATE = "<memories>\n{memories}</memories>"
"""What stands around the memories in a prompt."""

SPOKEN = ("user", "assistant")
"""Roles whose words are remembered; what tools and system prompts say is not."""

MAX_RECALLS = 64
"""Turns whose memories are kept at hand."""
RETRY_SECONDS = 60.0
"""How long the same first words are taken for another try, not for a new conversation; see ``Conversation.recall``."""

_MAX_WRITTEN = 10_000
_MAX_LEFT_OUT = 256  # ids that a filter leaves out inside the search; the rest goes afterwards
_MAX_ID_BYTES = 1024
_OWN_TO_ALL = 16  # characters: an id shorter than that may be another session's too
_SPAN = 40  # characters from which a passage inside a message counts as said in it

_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, in no framework's form.

    Args:
        role: "user", "assistant", "system", "tool", or another word.
        text: Its words only; "" where it has none, as a bare tool call.
        name: The speaker's.
        time: When it was said (time zone aware), where that is known.
        id: The framework's own stable id of the message, if it has one.
    """

    role: str
    text: str = field(repr=False)
    name: str | None = None
    time: datetime | None = None
    id: str | None = None


class Conversation:
    """One user's conversation with a model, and the memories that go with it.

    May be used by many threads and event loops at once.

    Args:
        store: Where memories are.
        namespace: Where recall looks: "alice" for all that is known of her; a list looks in several.
        session: Where what is said is written: ("alice", "session-7"); by default the namespace, if it is one.
        max_tokens: Of the rendered memories, what stands around them included; never exceeded.
        limit: Memories at most.
        filter: Which memories may be recalled; see ``memory_plugin.filters``.
        encoding: The tiktoken encoding to count with.
        template: What stands around the memories, with ``{memories}`` in their place.

    Raises:
        InvalidInputError: A namespace, the filter, a number or the template cannot be used.
    """

    def __init__(
        self,
        store: MemoryStore | AsyncMemoryStore,
        namespace: NamespacesLike,
        *,
        session: NamespaceLike | None = None,
        max_tokens: int = 1000,
        limit: int = 20,
        filter: Filter | None = None,
        encoding: str = DEFAULT_ENCODING,
        template: str = TEMPLATE,
    ) -> None:
        if not isinstance(template, str) or template.count("{memories}") != 1:
            raise InvalidInputError("a template is a text that holds {memories} once")
        self.store = store
        self.namespaces = namespaces(namespace)
        self.session = _session(self.namespaces, session)
        self.max_tokens = whole(max_tokens, "max_tokens")
        self.limit = whole(limit, "limit")
        self.filter = filters.check(filter) if filter is not None else None
        self.encoding = encoding
        self._before, _, self._after = template.partition("{memories}")
        self._closing = _closing(template)
        self._recalls: SingleFlight[Context] = SingleFlight(size=MAX_RECALLS, seconds=RETRY_SECONDS)
        self._written: OrderedDict[bytes, None] = OrderedDict()
        self._guard = threading.Lock()

    # ── recall ────────────────────────────────────────────────────────────────────────────────────

    def query(self, turns: Sequence[Turn]) -> str:
        """What to ask the memory: the last user message, with what was said before it when it says too little.

        Returns:
            Printable words, of bounded length; "" when there is nothing to ask.
        """
        last = _last_user(turns)
        if last is None:
            return ""
        asked = printable(turns[last].text, MAX_QUERY)
        if says_enough(asked):
            return asked
        before: list[str] = []
        for turn in reversed(turns[:last]):
            said = printable(turn.text, MAX_BEFORE) if turn.role in SPOKEN else ""
            if said:
                before.append(said)
            if _asks(turn) or len(before) == 2:
                break
        query = "\n".join([*reversed(before), asked])
        return query if WORD.search(query) and visible(query) else ""

    async def recall(self, io: IO, turns: Sequence[Turn]) -> Context:
        """The memories for this turn, found by one search however often and by how many they are asked for.

        A turn is told by the number of user messages and the query.  Asked again with the user's message at the end,
        it is a new one once an answer was remembered, or after a minute in which nobody asked.  What the turns hold
        themselves is left out.

        Args:
            io: How to reach the store: ``Blocking()`` or ``OnLoop()``.
            turns: The conversation so far, oldest first, or its end.

        Returns:
            Empty when there is nothing to ask or nothing was found.

        Raises:
            MemoryPluginError: The store failed; nobody is given that failure later.
        """
        given = tuple(turns)
        query, key, opens = await io.call(self._asked, given)
        if not query:
            return _NOTHING
        return await self._recalls.get(io, key, lambda: self._search(io, query, given), opens=opens)

    async def recalled(self, io: IO, turns: Sequence[Turn]) -> str:
        """The memories for this turn, rendered; see ``recall`` and ``render``."""
        return self.render(await self.recall(io, turns))

    def render(self, context: Context) -> str:
        """The memories as text for a prompt, inside the template's tags; "" when nothing was found.

        Whatever a memory holds, it cannot close the tags.
        """
        return self._around(context.text) if context.text else ""

    def stripped(self, text: str) -> str:
        """A message without memories that ``render`` made and that an application kept in front of it."""
        opening = self._before + PREFACE
        if not (self._before and self._after and text.startswith(opening)):
            return text
        _, after, rest = text[len(opening) :].partition(self._after)
        return rest.lstrip("\n") if after else text

    def forget_turn(self) -> None:
        """Drop the memories at hand: after a deletion or reset, so that nothing deleted comes back within a turn."""
        self._recalls.clear()

    def _asked(self, turns: tuple[Turn, ...]) -> tuple[str, tuple[int, str], bool]:
        """The query, what tells the turn, and whether the user's message is at the end."""
        query = self.query(turns)
        return query, (sum(map(_asks, turns)), query), _last_user(turns) == len(turns) - 1

    async def _search(self, io: IO, query: str, turns: tuple[Turn, ...]) -> Context:
        held = await io.call(_Held, turns, self.session)
        parts = [one for one in (self.filter, held.left_out()) if one is not None]
        search: Any = self.store.search  # of either store
        found = await io.call(
            search,
            query,
            list(self.namespaces),
            limit=self.limit + min(len(turns), self.limit),
            filter=and_(*parts) if len(parts) > 1 else next(iter(parts), None),
        )
        return await io.call(self._pack, [hit for hit in found if not held.has(hit.record)])

    def _pack(self, hits: Sequence[Hit]) -> Context:
        return pack(hits[: self.limit], max_tokens=self.max_tokens, count=_Rendered(self))

    def _around(self, text: str) -> str:
        return f"{self._before}{self._closing.sub('&lt;', text)}{self._after}"

    # ── remember ──────────────────────────────────────────────────────────────────────────────────

    async def remember(self, io: IO, turns: Sequence[Turn], *, since: int = 0) -> Added:
        """Remember what the user and the assistant said; durable on return.

        The same list again, or the list grown, writes only what is new.  What was deleted from the store since it was
        remembered is not written again by the messages that come after it.

        Args:
            io: How to reach the store.
            turns: The conversation, oldest first: whole, or its end.
            since: Only turns from that place on are written; those before it tell the same words said twice apart.

        Returns:
            What was done; ``ids`` are of those that had not been remembered through this object.

        Raises:
            ConfigurationError: Several namespaces are read and no session says where to write.
            MemoryPluginError: The store failed, or a message cannot be remembered.
        """
        if self.session is None:
            raise ConfigurationError(
                "several namespaces are read: say where to write with session=('alice', 'session-7')"
            )
        fresh, old, answered = await io.call(self._fresh, tuple(turns), since)
        done = Added()
        if fresh:
            add: Any = self.store.add  # of either store
            done = await io.call(add, [message for _, message in fresh], self.session)
        with self._guard:
            for key, _ in fresh:
                self._written[key] = None
                self._written.move_to_end(key)
            while len(self._written) > _MAX_WRITTEN:
                self._written.popitem(last=False)
        if answered:
            self._recalls.close()
        return replace(done, documents=done.documents + old, unchanged=done.unchanged + old)

    def _fresh(self, turns: tuple[Turn, ...], since: int) -> tuple[list[tuple[bytes, Message]], int, bool]:
        """Messages to write, how many need not be, and whether there is an answer to the user's last one.

        Those before the last user message that were written once need not be.

        The rest is always given to the store, which knows what it has: after a reset, the same words are said anew.
        """
        last = _last_user(turns)
        fresh, old = [], 0
        for place, turn, id_ in _identified(turns):
            if place < since:
                continue
            message = Message(turn.role, _storable(turn.text), _name(turn.name), turn.time, id_)
            key = _digest([id_, message.role, message.content, message.name, str(message.time)])
            if last is not None and place < last and key in self._written:
                old += 1
            else:
                fresh.append((key, message))
        said = turns[0 if last is None else last + 1 :]
        return fresh, old, any(turn.role == "assistant" and turn.text for turn in said)


def count_tokens(text: str, encoding: str = DEFAULT_ENCODING) -> int:
    """Tokens of a text, counted on this machine; an upper estimate where the encoding's table is not on it."""
    return counter(_local_count, encoding)(text)


def _local_count(text: str) -> int:
    return local_pieces().count(text)


_NOTHING = Context(text="", citations=(), tokens=0, counter="")


class _Rendered:
    """Counts a context as it will stand in the prompt."""

    def __init__(self, conversation: Conversation) -> None:
        self._around = conversation._around
        self._count = counter(_local_count, conversation.encoding)
        self.name = self._count.name

    def __call__(self, text: str, /) -> int:
        return self._count(self._around(text))


class _Held:
    """What the turns hold themselves, and so need not be recalled.

    The message that was just written would be the best hit for its own words.
    """

    def __init__(self, turns: Sequence[Turn], session: Namespace | None) -> None:
        self._session = session
        self._ids = {id_: None for _, _, id_ in _identified(turns)}  # in order
        self._texts = {" ".join(turn.text.split()) for turn in turns}
        self._long = [text for text in self._texts if len(text) > _SPAN]

    def left_out(self) -> Filter | None:
        """The last of them as a filter, so that they take no hit's place; only ids that no other session has."""
        ids = [id_ for id_ in self._ids if len(id_) >= _OWN_TO_ALL][-_MAX_LEFT_OUT:]
        return not_(any_of("$source", ids)) if ids else None

    def has(self, record: Record) -> bool:
        """Whether the record is one of the turns, or says word for word what one of them says."""
        if record.kind == "message" and record.namespace == self._session and record.source in self._ids:
            return True
        text = " ".join(record.text.split())
        return text in self._texts or (len(text) >= _SPAN and any(text in one for one in self._long))


# ── names ─────────────────────────────────────────────────────────────────────────────────────────


def _session(read: tuple[Namespace, ...], session: NamespaceLike | None) -> Namespace | None:
    if session is not None:
        return namespace(session)
    return read[0] if len(read) == 1 else None


def _identified(turns: Sequence[Turn]) -> Iterator[tuple[int, Turn, str]]:
    """What is remembered of the turns: each with its place and its id inside the session."""
    before: Counter[bytes] = Counter()
    for place, turn in enumerate(turns):
        if turn.role not in SPOKEN or not visible(turn.text):
            continue
        if turn.id:
            usable = len(turn.id) <= _MAX_ID_BYTES // 4 and not _SURROGATE.search(turn.id)
            yield place, turn, turn.id if usable else f"turn-{_digest([turn.id]).hex()}"
            continue
        said = _digest([turn.role, turn.name, turn.text])
        yield place, turn, f"turn-{_digest([said.hex(), before[said]]).hex()}"
        before[said] += 1


def _digest(parts: Sequence[str | int | None]) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()[:16]


def _asks(turn: Turn) -> bool:
    return turn.role == "user" and visible(turn.text)


def _last_user(turns: Sequence[Turn]) -> int | None:
    return next((place for place in range(len(turns) - 1, -1, -1) if _asks(turns[place])), None)


# ── texts ─────────────────────────────────────────────────────────────────────────────────────────


def _storable(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _name(name: str | None) -> str | None:
    return _storable(name)[:256] or None if name is not None else None


def _closing(template: str) -> re.Pattern[str]:
    """What could pass for a tag of the template: its "<", blanks and signs, then the name."""
    unseen = "[\u200c\u200d\u034f\ufe00-\ufe0f]*"
    names = {name.lower() for name in re.findall(r"</?\s*([A-Za-z][\w.:-]*)", template)}
    if not names:
        return re.compile(r"(?!)")
    either = "|".join(unseen.join(map(re.escape, name)) for name in sorted(names))
    return re.compile(rf"[<\uff1c\ufe64](?=[^\w<]*(?:{either}))", re.IGNORECASE)
