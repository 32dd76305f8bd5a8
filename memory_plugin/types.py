"""The values that flow through the two arrows: one frozen, slotted dataclass each.

    add:     Document ─chunk→ [Chunk] ─embed→ Embeddings ─seal→ [Point] ─upsert→ Qdrant
    search:  query ─embed→ Embeddings ─one hybrid query→ [Candidate] ─open→ [Hit] ─rerank→ [Hit] ─pack→ Context

Values hold no provider and do no I/O.  Scores are similarities: higher is better, always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias, overload

from memory_plugin.conditions import And as And
from memory_plugin.conditions import AnyOf as AnyOf
from memory_plugin.conditions import Filter as Filter
from memory_plugin.conditions import HasKey as HasKey
from memory_plugin.conditions import HasVector as HasVector
from memory_plugin.conditions import Not as Not
from memory_plugin.conditions import Or as Or
from memory_plugin.conditions import Range as Range
from memory_plugin.conditions import Scalar as Scalar
from memory_plugin.conditions import TimeRange as TimeRange
from memory_plugin.conditions import Where as Where
from memory_plugin.vectors import Embeddings as Embeddings
from memory_plugin.vectors import InputType as InputType
from memory_plugin.vectors import Matrix as Matrix
from memory_plugin.vectors import ModelIdentity as ModelIdentity
from memory_plugin.vectors import Numbers as Numbers
from memory_plugin.vectors import Quantization as Quantization
from memory_plugin.vectors import SparseVector as SparseVector
from memory_plugin.vectors import TokenVectors as TokenVectors
from memory_plugin.vectors import Usage as Usage
from memory_plugin.vectors import Vector as Vector

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Metadata: TypeAlias = Mapping[str, Json]
Kind: TypeAlias = Literal["document", "message", "image", "value"]
"""What a record is: a chunk of a document, a message or part of one, a picture, or the JSON kept beside a text."""
PointId: TypeAlias = str
"""A UUID in its canonical 36 character form."""
Namespace: TypeAlias = tuple[str, ...]
"""Who a memory belongs to.  The first part is the data subject, which owns a key."""


# ── in ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Document:
    """A text to remember.

    Args:
        text: The whole text; the store chunks it.
        source: What it is called inside its namespace (a path, a URL, a record id).  Adding another
            text under the same source replaces the first.  Without one, the content is its identity.
        metadata: JSON values under string keys; sealed with the text.
        time: When the content was said or written (time zone aware).  Default: when it is added.
        markdown: Whether headings and code fences guide the chunking.
        modified: When its file was last written: its time where none is given.  Another one alone does not
            make it a changed document, since copying a file changes it.
        vector: Its vector, made elsewhere, instead of one by the store's embedder; then the text is one passage.  It
            has to lie in the space of that embedder: nothing can check that.
        local_only: Whether no model outside this machine may ever see it.  A managed embedder or reranker is not
            given its text, which is then found by its words and by the local stages.
        value: JSON kept with the text, whole and sealed, in a record of its own that no search finds; see ``Record``.
            With one, the text may be "".  Another value is another revision, as another text is.
    """

    text: str
    source: str | None = None
    metadata: Metadata = field(default_factory=dict)
    time: datetime | None = None
    markdown: bool = False
    modified: datetime | None = None
    vector: Numbers | None = None
    local_only: bool = False
    value: Json = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Args:
        role: "user", "assistant", "system", "tool", or any other word.
        content: What was said.
        name: The speaker's name; it is part of the text that is embedded.
        time: When it was said (time zone aware); its day is part of the embedded text.
        id: Its identity inside the namespace; adding another content under it replaces the first.
        metadata: JSON values under string keys; sealed with the text.
        local_only: See ``Document``.
        value: See ``Document``.
    """

    role: str
    content: str
    name: str | None = None
    time: datetime | None = None
    id: str | None = None
    metadata: Metadata = field(default_factory=dict)
    local_only: bool = False
    value: Json = field(default=None, repr=False)


# ── the add arrow ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document: ``document.text[start:end] == text``.

    Args:
        text: The span itself.
        start: Offset of its first character in the document.
        end: Offset past its last character.
        index: Its position among the document's chunks, from 0.
        context: What the reader of the span alone would miss: the speaker and the day of a message,
            the heading path of a section.  Embedded and indexed before the text, not part of it.
    """

    text: str
    start: int
    end: int
    index: int
    context: str = ""

    @property
    def passage(self) -> str:
        """What models see: the context, then the text."""
        return f"{self.context}{self.text}"


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """What Qdrant keeps: nothing in it is readable without a key, unless the store is PLAINTEXT.

    Args:
        id: A keyed UUID; tells nothing of the content.
        payload: Blind tags, numbers, and sealed text in base64.
        vectors: By vector name: ``d_<space>`` dense, ``s_<space>`` sparse.
    """

    id: PointId
    payload: Mapping[str, Json]
    vectors: Mapping[str, Vector | SparseVector] = field(default_factory=dict)


# ── the search arrow ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, eq=False)
class LegQuery:
    """One leg of a hybrid query, in an index's vocabulary; an index takes many in one request.

    Args:
        using: Name of the vector.
        vector: Dense (cosine) or sparse (dot product, multiplied by IDF).
        filter: Payload conditions; names the data subject.
        limit: How many candidates at most.
        corpus: The points whose term statistics make a sparse leg's IDF; None: all.
    """

    using: str
    vector: Vector | SparseVector
    filter: Filter
    limit: int
    corpus: Filter | None = None


class Scored(NamedTuple):
    """A point that a leg found: a tuple, since a search makes hundreds.

    Args:
        id: The point.
        score: Cosine, or a sum of weighted terms.
    """

    id: PointId
    score: float


@dataclass(frozen=True, slots=True)
class StageScore:
    """Where a stage put a hit.

    Args:
        rank: From 1, among what the stage saw.
        score: The stage's own scale; higher is better.
    """

    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A point after fusion, still sealed.

    Args:
        id: The point.
        subject: The subject tag whose keys open it.
        score: Fused score.
        stages: Rank and score in each leg that found it, and "fused".
    """

    id: PointId
    subject: str
    score: float
    stages: Mapping[str, StageScore]


@dataclass(frozen=True, slots=True)
class Record:
    """One chunk as it was remembered, or the value of a document: what a sealed payload holds.

    Args:
        id: The point.
        namespace: Who it belongs to.
        text: The chunk; of an image its caption, "" where it has none; of a value its canonical JSON.
        context: Heading path, or speaker and day, as embedded before the text ("" for none).
        source: What the document is called, or None.
        kind: "document", "message", "image" or "value".
        role: Of a message.
        name: The speaker of a message.
        time: When it was said or written.
        metadata: As given.
        start: Offset of the chunk in its document.
        end: Offset past its end.
        index: Position among the document's chunks, from 0; a value comes after all of them.
        chunks: How many chunks the document has, its value counted.
        document: The document's keyed identity; equal for all its chunks.
        local_only: Whether no model outside this machine may see it.
        media_type: Of an image: "image/png", "image/jpeg", "image/webp", "image/gif".
        sha256: Of an image's file, in hex; the file itself is not kept.
        value: Of a value: the JSON that was given.  None for the other kinds.
    """

    id: PointId
    namespace: Namespace
    text: str
    time: datetime
    kind: Kind = "document"
    context: str = ""
    source: str | None = None
    role: str | None = None
    name: str | None = None
    metadata: Metadata = field(default_factory=dict)
    start: int = 0
    end: int = 0
    index: int = 0
    chunks: int = 1
    document: str = ""
    local_only: bool = False
    media_type: str | None = None
    sha256: str | None = None
    value: Json = field(default=None, repr=False)

    @property
    def passage(self) -> str:
        """What models saw: the context, then the text."""
        return f"{self.context}{self.text}"


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that answers a query, and why.

    Args:
        record: The opened memory.
        score: Of the last stage that ran.
        stages: Rank and score at every stage: "dense", "lexical", "learned", "fused", "late",
            "rerank"; those that it was in.
        space: The model space of the dense vector.
        before: Chunks before it in its document, when neighbours were asked for.
        after: Chunks after it, likewise.
    """

    record: Record
    score: float
    stages: Mapping[str, StageScore]
    space: str
    before: tuple[Record, ...] = ()
    after: tuple[Record, ...] = ()

    @property
    def id(self) -> PointId:
        """The point."""
        return self.record.id

    @property
    def text(self) -> str:
        """The chunk."""
        return self.record.text


@dataclass(frozen=True, slots=True)
class Results(Sequence[Hit]):
    """What a search returns: a sequence of hits, best first, and how they came about.

    Args:
        hits: Best first.
        seconds: Wall time by stage: "embed", "index", "open", "late", "rerank", "total".
        rerank: "off" (also where it may read none of the candidates), "applied", or "failed" (then the order before
            the reranker was kept).
    """

    hits: tuple[Hit, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    rerank: Literal["off", "applied", "failed"] = "off"

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        """A hit, or several."""
        return self.hits[index]

    def __len__(self) -> int:
        """How many hits."""
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        """Best first."""
        return iter(self.hits)


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a numbered passage of a context came from."""

    number: int
    id: PointId
    namespace: Namespace
    source: str | None
    start: int
    end: int
    time: datetime


@dataclass(frozen=True, slots=True)
class Context:
    """Text for a prompt, within a token budget.

    Args:
        text: Numbered passages.
        citations: One for each passage, in order.
        tokens: What ``text`` counts, never over the budget.
        counter: What counted: a tiktoken encoding, or the local tokenizer with a margin.
        hits: The hits that were packed.
        dropped: How many further hits did not fit.
    """

    text: str
    citations: tuple[Citation, ...]
    tokens: int
    counter: str
    hits: tuple[Hit, ...] = ()
    dropped: int = 0

    def __str__(self) -> str:
        """The text."""
        return self.text


# ── out of the other verbs ────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Added:
    """What ``add`` did.

    Args:
        ids: The points of everything given, in order, those that were there already included.
        documents: Documents and messages given.
        written: Chunks and values that were written now.
        unchanged: Documents that were there already, byte for byte.
        replaced: Documents that replaced an older text under the same source.
        billed_tokens: Tokens that vendors charged for; 0 for models on this machine.
        cost: What they are estimated to cost, in US dollars; None where a model's price is not known.
    """

    ids: tuple[PointId, ...] = ()
    documents: int = 0
    written: int = 0
    unchanged: int = 0
    replaced: int = 0
    billed_tokens: int = 0
    cost: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Page:
    """A page of ``list``; pass ``next`` as ``after`` for the one that follows, None at the end."""

    records: tuple[Record, ...]
    next: str | None = None
