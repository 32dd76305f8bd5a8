"""A conversation item for item, exactly as a framework gave it, in order and sealed; what was said in it can be found.

Each item is one document: its JSON as the document's value, and beside it the words that were said, if any, as a
message that is embedded and found.  A tool's output has no words: it is kept, costs no embedding, and is in no search.

The document's name inside the session says where it belongs, so that order needs no clock that never goes back, and no
number that two processes could both take:

    transcript/<time of its append>/<random>/<place in the append>/<digest, or ->

An append takes a time after everything that it knows of; what two processes append at the same moment stays together,
one after the other.  The names of the newest items are remembered in this process (see ``tail``): the newest twenty of
a long session are then twenty that are opened.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from memory_plugin import AsyncMemoryStore, Document, InvalidInputError, MemoryPluginError, MemoryStore, Message, eq
from memory_plugin.adapters.conversation import Turn
from memory_plugin.adapters.tail import Alone, Tail
from memory_plugin.flow import IO
from memory_plugin.ids import NamespaceLike, namespace, visible
from memory_plugin.types import Filter, Json, Record

PREFIX = "transcript/"
"""What the names of items begin with: other documents of the session's namespace are none of ours."""

NO_DIGEST = "-"
ITEMS: Filter = eq("$kind", "value")

MARGIN = 32
"""Items listed beyond those asked for: what two processes appended at once is in another order by time than by name."""
ATTEMPTS = 5
"""How often a read begins again because another process deleted what was about to be read."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Transcript:
    """A conversation item for item, exactly as a framework gave it (JSON), in order, sealed.

    What was said in it can be searched in its namespace and those above; tool calls cannot.  All methods take the IO to
    drive the store with, see ``memory_plugin.flow``.

    Args:
        store: Where it is kept.
        session: Its namespace, such as ("alice", "session-7").

    Raises:
        InvalidInputError: The namespace is not valid.
    """

    def __init__(self, store: MemoryStore | AsyncMemoryStore, session: NamespaceLike) -> None:
        self._store = store
        self._session = namespace(session)

    async def append(self, io: IO, items: Sequence[tuple[Json, Turn | None]]) -> None:
        """Add items at the end: all of them or, on an error, none.

        An append that the session ends with already is one that was tried again, where every item has an id of its own
        (``Turn.id``): it changes nothing.

        Args:
            io: How to reach the store.
            items: What to keep, and what to find it by; None, or a turn without words, is kept and not found.

        Raises:
            InvalidInputError: An item is no JSON value, or too long; nothing was written.
            MemoryPluginError: As ``MemoryStore.add``.
        """
        entries = await io.call(_entries, items)
        if entries:
            await io.uninterrupted(self._append(io, entries))

    async def latest(self, io: IO, limit: int | None = None) -> list[Json]:
        """The last ``limit`` items, oldest first; None for all.

        Raises:
            InvalidInputError: ``limit`` is negative.
            SealError: A stored item was tampered with, or its key is gone.
        """
        if limit is not None and limit < 0:
            raise InvalidInputError(f"limit is how many items to read at most, 0 or more, not {limit}")
        if limit == 0:
            return []
        async with Alone(io, self._store, self._session) as tail:
            if limit is None:
                return await io.call(_decoded, await self._load(io, tail, None))
            for _ in range(ATTEMPTS):
                await self._sync(io, tail, limit)
                names = tail.names[-limit:]
                found = await self._read(io, names)
                if len(found) == len(names):
                    break
                tail.forget()
            return await io.call(_decoded, [found[name] for name in names if name in found])

    async def pop(self, io: IO) -> Json | None:
        """Take the last item away; None where there is none.

        Raises:
            SealError: It was tampered with, or its key is gone.
        """
        return await io.uninterrupted(self._pop(io))

    async def clear(self, io: IO) -> None:
        """Delete this session's items and what was found by them; other documents and sessions stay."""
        await io.uninterrupted(self._clear(io))

    # ── alone in this process from here on ────────────────────────────────────────────────────────

    async def _append(self, io: IO, entries: Sequence[_Entry]) -> None:
        async with Alone(io, self._store, self._session) as tail:
            await self._sync(io, tail, len(entries))
            if _tried_again(tail.names, entries):
                return
            start = max(_now(), _after(tail.names))
            names = _names(start, entries)
            documents = [
                entry.document(name, start + place)
                for place, (name, entry) in enumerate(zip(names, entries, strict=True))
            ]
            try:
                await io.call(self._store.add, documents, self._session)
            except BaseException:
                tail.forget()
                # What of a long append was written before the failure must not stay as half of a turn.
                with suppress(MemoryPluginError):
                    await io.call(self._store.delete, self._session, source=names)
                raise
            tail.grow(names)

    async def _pop(self, io: IO) -> Json | None:
        async with Alone(io, self._store, self._session) as tail:
            for _ in range(ATTEMPTS):
                await self._sync(io, tail, 1)
                if not tail.names:
                    return None
                name = tail.names[-1]
                found = await self._read(io, [name])
                # Whoever deletes it has it: another process may have been faster.
                deleted = await io.call(self._store.delete, self._session, source=name) if found else 0
                if deleted:
                    tail.shrink()
                    [item] = await io.call(_decoded, list(found.values()))
                    return item
                tail.forget()
            return None

    async def _clear(self, io: IO) -> None:
        async with Alone(io, self._store, self._session) as tail:
            tail.forget()
            # Also those whose value was deleted by hand: their words would still be found.
            page = await io.call(self._store.list, self._session, limit=_EVERYTHING)
            names = {record.source for record in page.records if self._is_ours(record)}
            if names:
                await io.call(self._store.delete, self._session, source=sorted(filter(None, names)))

    async def _sync(self, io: IO, tail: Tail, least: int) -> None:
        """Know the names of the newest ``least`` items, or of all if there are fewer.

        What is known stands while the number of items does: every append and every pop of this process is known, and
        one of another process, or a deletion by hand, changes it.
        """
        total = await io.call(self._store.count, self._session, filter=ITEMS)
        if total != tail.total:
            tail.forget()
        if not tail.whole and len(tail.names) < least:
            await self._load(io, tail, least)
            # Counted before they were read: what came between is then noticed the next time.
            tail.total = total if tail.total is None else tail.total

    async def _load(self, io: IO, tail: Tail, least: int | None) -> list[Record]:
        """Read the newest ``least`` items, None for all, and keep their names; oldest first.

        The store lists by day: it opens the days that these are in, no others.
        """
        limit = _EVERYTHING if least is None else least + MARGIN
        while True:
            page = await io.call(self._store.list, self._session, filter=ITEMS, limit=limit, newest_first=True)
            ours = [record for record in page.records if self._is_ours(record)]
            if page.next is None or (least is not None and len(ours) >= least):
                break
            limit *= 2  # values that are others' were among them
        ours.sort(key=_name)
        tail.names, tail.whole = [_name(record) for record in ours], page.next is None
        tail.total = len(page.records) if tail.whole else None
        if least is not None and not tail.whole:
            del tail.names[:-least]
        return ours

    async def _read(self, io: IO, names: Sequence[str]) -> dict[str, Record]:
        """The items by their names, those that are there."""
        found = await io.call(self._store.get_sources, names, self._session)
        return {name: records[-1] for name, records in found.items() if records and records[-1].kind == "value"}

    def _is_ours(self, record: Record) -> bool:
        return record.namespace == self._session and _name(record).startswith(PREFIX)


_EVERYTHING = 2**31


# ── items ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Entry:
    """An item to keep.

    Args:
        text: Its JSON.  The value is this text and not the parsed item, whose keys a store would put in order.
        turn: What to find it by, with words; None: nothing.
        digest: Of an item that has an id; else ``NO_DIGEST``.
    """

    text: str = field(repr=False)
    turn: Turn | None = field(repr=False)
    digest: str

    def document(self, name: str, microseconds: int) -> Document | Message:
        """The item as a store keeps it."""
        time = _EPOCH + timedelta(microseconds=microseconds)
        if self.turn is None:
            return Document("", source=name, time=time, value=self.text)
        speaker = _whole(self.turn.name) if self.turn.name else None
        return Message(self.turn.role, _whole(self.turn.text), name=speaker, time=time, id=name, value=self.text)


def _entries(items: Sequence[tuple[Json, Turn | None]]) -> list[_Entry]:
    return [_entry(item, turn) for item, turn in items]


def _entry(item: Json, turn: Turn | None) -> _Entry:
    text = _encoded(item)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16] if turn is not None and turn.id else NO_DIGEST
    return _Entry(text, turn if turn is not None and visible(turn.text) else None, digest)


def _encoded(item: Json) -> str:
    try:
        text = json.dumps(item, ensure_ascii=False)
        try:
            text.encode()
        except UnicodeEncodeError:
            # A lone surrogate, as a model that was cut off inside an emoji leaves: as an escape it is kept.
            text = json.dumps(item)
    except (TypeError, ValueError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InvalidInputError(
            f"an item of a conversation is no JSON value ({what}): give it as plain dictionaries, lists and texts"
        ) from None
    return text


def _decoded(records: Sequence[Record]) -> list[Json]:
    return [json.loads(str(record.value)) for record in records]


def _whole(text: str) -> str:
    """The words without lone surrogates, which no model can read; pairs of them become the character that they are."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# ── names ─────────────────────────────────────────────────────────────────────────────────────────


def _now() -> int:
    """Microseconds since 1970."""
    return (datetime.now(UTC) - _EPOCH) // timedelta(microseconds=1)


def _names(start: int, entries: Sequence[_Entry]) -> list[str]:
    append = f"{PREFIX}{start:016x}/{secrets.token_hex(4)}"
    return [f"{append}/{place:06x}/{entry.digest}" for place, entry in enumerate(entries)]


def _after(names: Sequence[str]) -> int:
    """The first microsecond after the last item."""
    if not names:
        return 0
    _, start, _, place, _ = names[-1].split("/")
    return int(start, 16) + int(place, 16) + 1


def _tried_again(names: Sequence[str], entries: Sequence[_Entry]) -> bool:
    """Whether the session ends with just these items, each of which has an id."""
    digests = [entry.digest for entry in entries]
    return NO_DIGEST not in digests and digests == [name.rpartition("/")[2] for name in names[-len(digests) :]]


def _name(record: Record) -> str:
    return record.source or ""
