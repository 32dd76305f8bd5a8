"""Documents of LangChain as those of this library, and back.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from memory_plugin import Document as Memory
from memory_plugin import Hit, InvalidInputError, Record
from memory_plugin.adapters.extras import needs
from memory_plugin.ids import visible

with needs("langchain", "the LangChain adapter"):
    from langchain_core.documents import Document

if TYPE_CHECKING:
    from memory_plugin.types import Json

PAGE = "page_content"
CITATION = "citation"
"""Where in a document's metadata it says what it was in the store."""


def documents_of(texts: Iterable[str], metadatas: Sequence[dict[str, Any]] | None) -> list[Document]:
    """Texts and their metadata as documents.

    Raises:
        InvalidInputError: There are not as many of the one as of the other.
    """
    listed = list(texts)
    if metadatas is not None and len(metadatas) != len(listed):
        raise InvalidInputError(f"{len(metadatas)} metadatas were given for {len(listed)} texts")
    return [Document(text, metadata=metadatas[place] if metadatas else {}) for place, text in enumerate(listed)]


def memory_of(document: Document, id: str) -> Memory:
    """A document to add: its text cut into passages, and whole beside them, so that it comes back as it was."""
    text = document.page_content
    # A text without a word has no passage; it is kept all the same.
    return Memory(text if visible(text) else "", source=id, metadata=document.metadata, value={PAGE: text})


def whole_of(id: str | None, records: Sequence[Record]) -> Document | None:
    """The document as it was added; None where it was not added as one of LangChain's."""
    value: Json = records[-1].value
    if not isinstance(value, dict) or not isinstance(text := value.get(PAGE), str):
        return None
    return Document(text, metadata=dict(records[-1].metadata), id=id)


def passage_of(hit: Hit) -> Document:
    """What was found, with where it is from: the metadata's own keys, "source", and "citation".

    Its text is the passage, with its neighbours where they were asked for.
    """
    record = hit.record
    records = (*hit.before, record, *hit.after)
    metadata = {"source": record.source} if record.source is not None else {}
    text = "\n".join(one.text for one in records)
    return Document(text, metadata={**metadata, **record.metadata, CITATION: _citation(hit)}, id=record.id)


def _citation(hit: Hit) -> dict[str, Any]:
    record = hit.record
    records = (*hit.before, record, *hit.after)
    said = {"role": record.role, "name": record.name}
    return {
        "id": record.id,
        "namespace": list(record.namespace),
        "kind": record.kind,
        "source": record.source,
        "start": records[0].start,
        "end": records[-1].end,
        "time": record.time.isoformat(),
        **{key: value for key, value in said.items() if value is not None},
        "score": hit.score,
        "stages": {stage: {"rank": one.rank, "score": one.score} for stage, one in hit.stages.items()},
        "local_only": record.local_only,
    }


def is_local_only(document: Document) -> bool:
    """Whether no model outside this machine may see it."""
    citation = document.metadata.get(CITATION)
    return isinstance(citation, dict) and citation.get("local_only") is True
