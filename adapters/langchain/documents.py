"""What was found as documents of LangChain.  Pure."""

from __future__ import annotations

from typing import Any

from memory_plugin import Hit
from memory_plugin.adapters.extras import needs

with needs("langchain", "the LangChain adapter"):
    from langchain_core.documents import Document

CITATION = "citation"
"""Where in a document's metadata it says what it was in the store."""


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
