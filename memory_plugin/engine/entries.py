"""What users may give to ``add``, as one kind of value.  Pure.

A string, a ``Document``, a ``Message``, a chat message as a mapping, or a list of any of these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from memory_plugin import ids
from memory_plugin.chunk import Pieces, chunk_document, chunk_message, message_context
from memory_plugin.errors import InvalidInputError
from memory_plugin.settings import Settings
from memory_plugin.types import Chunk, Document, Json, Message, Metadata, Numbers
from memory_plugin.vectors import unit

Item: TypeAlias = "str | Document | Message | Mapping[str, object]"
Items: TypeAlias = "Item | Sequence[Item]"


@dataclass(frozen=True, slots=True)
class Image:
    """The content of a picture's file.

    Args:
        data: All of it; it is embedded and then let go.
        media_type: "image/png", …
        sha256: Of ``data``, in hex.
    """

    data: bytes = field(repr=False)
    media_type: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One document, message or image, checked.

    Args:
        kind: "document", "message" or "image".
        text: Valid UTF-8 and not empty, but for an image without a caption, and where there is a value.
        source: Its name inside the namespace, or None: then its content is its identity.
        time: As given, in UTC, or None.
        metadata: Plain JSON.
        role: Of a message.
        name: Of a message's speaker.
        markdown: Of a document.
        modified: When its file was last written, in UTC, or None.
        local_only: Whether no model outside this machine may see it.
        vector: Made elsewhere, of unit length: its float32 numbers, little-endian; or None.
        image: Of an image.
        value: Canonical JSON, or None.
    """

    kind: Literal["document", "message", "image"]
    text: str
    source: str | None
    time: datetime | None
    metadata: dict[str, Json]
    role: str | None = None
    name: str | None = None
    markdown: bool = False
    modified: datetime | None = None
    local_only: bool = False
    vector: bytes | None = field(default=None, repr=False)
    image: Image | None = None
    value: bytes | None = field(default=None, repr=False)

    def identity(self) -> tuple[str, str]:
        """What makes it the same document when it is added again."""
        if self.source is not None:
            return "source", self.source
        when = self.time.timestamp() if self.time else None
        if self.image is not None:
            return "content", ids.canonical([self.kind, when, self.image.sha256]).decode()
        content: list[Json] = [self.kind, self.role, self.name, when, self.text]
        return "content", ids.canonical(content + self._value()).decode()

    def revision(self, chunk_tokens: int) -> str:
        """What makes it an unchanged one."""
        when = self.time.timestamp() if self.time else None
        content: list[Json] = [self.text, self.role, self.name, when, self.metadata, self.markdown, chunk_tokens]
        # Without the first, what a managed model made of the text would stay.
        content += [self.local_only, hashlib.sha256(self.vector).hexdigest() if self.vector is not None else None]
        content.append(self.image.sha256 if self.image is not None else None)
        return ids.canonical(content + self._value()).decode()

    def _value(self) -> list[Json]:
        # Nothing where there is none: what was added before there were values stays what it was.
        return [] if self.value is None else [hashlib.sha256(self.value).hexdigest()]

    def chunks(self, pieces: Pieces, now: datetime, *, max_tokens: int) -> list[Chunk]:
        """The passages to embed.

        Raises:
            InvalidInputError: It is to be one passage, and is too long for that.
        """
        if not self.text and not self.whole:
            return []
        if self.kind == "message":
            context = message_context(self.name, self.role or "", self.time or now)
            chunks = chunk_message(self.text, context, pieces, max_tokens=max_tokens)
        elif not self.whole:
            return chunk_document(self.text, pieces, max_tokens=max_tokens, markdown=self.markdown)
        else:
            chunks = chunk_document(self.text, pieces, max_tokens=max_tokens, markdown=False) if self.text else []
        if self.whole and len(chunks) > 1:
            what = "a caption" if self.image is not None else "a text with a vector of its own"
            raise InvalidInputError(
                f"{what} is one passage, of at most {max_tokens} word pieces, and this one needs {len(chunks)}: "
                "shorten it" + ("" if self.image is not None else ", or give each part its own vector")
            )
        return chunks if chunks or not self.whole else [Chunk("", 0, 0, 0)]

    @property
    def whole(self) -> bool:
        """Whether it has one vector, and so is one passage."""
        return self.vector is not None or self.image is not None


def entries(
    items: Items,
    settings: Settings,
    *,
    source: str | None = None,
    time: datetime | None = None,
    metadata: Metadata | None = None,
    markdown: bool = False,
    local_only: bool = False,
    vector: Numbers | None = None,
    dimension: int | None = None,
) -> list[Entry]:
    """Everything given, checked before anything is written.

    Args:
        items: What to remember.
        settings: For the longest text accepted.
        source: Names the only item; refused for several.
        time: For items that have none of their own.
        metadata: For all items; an item's own keys win.
        markdown: For strings.
        local_only: Marks all items, whatever they say of themselves.
        vector: Of the only item; refused for several.
        dimension: What a vector has to have; None: any.

    Raises:
        InvalidInputError: Something cannot be used; names the item.
    """
    several = not isinstance(items, str | Document | Message | Mapping)
    if several and not isinstance(items, Iterable):
        raise InvalidInputError(f"add takes text, a Document, a Message, or a list of them, not {type(items).__name__}")
    given: Sequence[Item] = list(items) if several else [items]  # type: ignore[arg-type, list-item]
    for what, value in (("source names", source), ("vector is of", vector)):
        if value is not None and len(given) != 1:
            raise InvalidInputError(f"{what} one document, but {len(given)} items were given: give each its own")
    shared = ids.metadata(metadata or {})
    how = _How(
        settings, source, time, shared, flag(markdown, "markdown"), flag(local_only, "local_only"), vector, dimension
    )
    made = []
    for number, item in enumerate(given):
        try:
            made.append(_entry(item, how))
        except InvalidInputError as error:
            if not several:
                raise
            raise InvalidInputError(f"item {number} of {len(given)}: {error}; nothing was written") from error
    return made


@dataclass(frozen=True, slots=True)
class _How:
    """What the caller says of everything given; see ``entries``."""

    settings: Settings
    source: str | None
    time: datetime | None
    shared: dict[str, Json]
    markdown: bool
    local_only: bool
    vector: Numbers | None
    dimension: int | None


def _entry(item: Item, how: _How) -> Entry:
    if isinstance(item, str):
        item = Document(item, markdown=how.markdown)
    elif isinstance(item, Mapping):
        item = message_of(item)
    match item:
        case Document():
            own_source, text, role, name, kind = item.source, item.text, None, None, "document"
            markdown = flag(item.markdown, "markdown")
        case Message():
            own_source, text, role, name, kind = item.id, item.content, item.role, item.name, "message"
            ids.utf8(role, "a message's role", limit=256)
            if name is not None:
                ids.utf8(name, "a message's name", limit=1024)
            markdown = False
        case _:
            raise InvalidInputError(
                f"add takes text, a Document, a Message or a chat message mapping, not {type(item).__name__}"
            )
    value = _value(item.value, how.settings.max_text_bytes)
    vector = _vector(item, how)
    seen = _require_text(text, how.settings.max_text_bytes, alone=value is None or vector is not None)
    return Entry(
        kind="message" if kind == "message" else "document",
        text=text if seen else "",
        source=source_of(own_source if own_source is not None else how.source),
        time=ids.moment(item.time if item.time is not None else how.time),
        metadata={**how.shared, **ids.metadata(item.metadata)},
        role=role,
        name=name,
        markdown=markdown,
        modified=ids.moment(item.modified, "modified") if isinstance(item, Document) else None,
        local_only=flag(item.local_only, "local_only") or how.local_only,
        vector=vector,
        value=value,
    )


def _vector(item: Document | Message, how: _How) -> bytes | None:
    own = item.vector if isinstance(item, Document) else None
    given = own if own is not None else how.vector
    return None if given is None else unit(given, how.dimension).astype("<f4").tobytes()


def source_of(source: str | None) -> str | None:
    """What an item is called, checked.

    Raises:
        InvalidInputError: It is empty, too long, or no text.
    """
    if source is not None and not ids.utf8(source, "source", limit=ids.MAX_SOURCE_BYTES):
        raise InvalidInputError("source is empty: leave it out, and the content is the document's identity")
    return source


def flag(value: object, name: str) -> bool:
    """True or False, and nothing else.

    Raises:
        InvalidInputError: Something else.
    """
    if not isinstance(value, bool):
        raise InvalidInputError(f"{name} is True or False, not {type(value).__name__}")
    return value


def message_of(item: Mapping[str, object]) -> Message:
    """A chat message mapping, as chat APIs write it, as a ``Message``.

    Keys: role, content (text, or parts of which the text ones are taken), and optionally name, time
    or timestamp (a ``datetime`` or ISO 8601 text), id, metadata, local_only.

    Raises:
        InvalidInputError: A key is missing or has a value that cannot be used.
    """
    # What chat clients write for what a message does not have, such as "tool_calls": None, is no key.
    given = {key for key, value in item.items() if value is not None and value != []}
    unknown = given - {"role", "content", "name", "time", "timestamp", "id", "metadata", "local_only"}
    if "role" not in item or "content" not in item or unknown:
        raise InvalidInputError(
            "a chat message has the keys role and content, and may have name, time, id, metadata, local_only"
            + (f"; it has {', '.join(sorted(map(str, unknown)))} too" if unknown else "")
        )
    content = item["content"]
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS]
        content = "\n".join(part for part in parts if isinstance(part, str))
    when = item.get("time", item.get("timestamp"))
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            raise InvalidInputError(f"time is not ISO 8601: {when!r:.60}") from None
    return Message(
        role=item["role"],  # type: ignore[arg-type]
        content=content,  # type: ignore[arg-type]
        name=item.get("name"),  # type: ignore[arg-type]
        time=when,  # type: ignore[arg-type]
        id=item.get("id"),  # type: ignore[arg-type]
        metadata=item.get("metadata") or {},  # type: ignore[arg-type]
        local_only=False if item.get("local_only") is None else item["local_only"],  # type: ignore[arg-type]
    )


_TEXT_PARTS = ("text", "input_text", "output_text")


def _require_text(text: object, limit: int, *, alone: bool) -> bool:
    """Whether there is a text; ``alone``: there has to be one."""
    ids.utf8(text, "the text", limit=limit)
    seen = isinstance(text, str) and ids.visible(text)
    if alone and not seen:
        raise InvalidInputError("the text is empty: there is nothing to remember")
    return seen


MAX_VALUE_DEPTH = 100
"""How deep a value may be nested: whoever reads it has to be able to."""


def _value(value: Json, limit: int) -> bytes | None:
    """A value as canonical JSON.

    Raises:
        InvalidInputError: It is no JSON, too long, or nested too deep.
    """
    if value is None:
        return None
    try:
        data = ids.canonical(value)
    except InvalidInputError as error:
        raise InvalidInputError(f"the value cannot be kept: {error}") from error
    if len(data) > limit:
        raise InvalidInputError(f"the value is {len(data):,} bytes long as JSON; at most {limit:,} are accepted")
    if _depth(value) > MAX_VALUE_DEPTH:
        raise InvalidInputError(f"the value is nested more than {MAX_VALUE_DEPTH} deep")
    return data


def _depth(value: object) -> int:
    """How many lists and dictionaries are inside each other."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list | tuple)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth
