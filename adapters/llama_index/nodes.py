"""Memories as nodes of LlamaIndex."""

from __future__ import annotations

from typing import Any

from llama_index.core.schema import NodeRelationship, NodeWithScore, RelatedNodeInfo, TextNode

from memory_plugin import Hit, Record

_OWN = ("source", "time", "role", "name", "heading", "namespace")
"""What a node tells of its memory beside the memory's own metadata, where that has no such key."""

_NOT_FOR_MODELS = ["namespace"]

_FIELDS = {"source": "$source", "role": "$role", "name": "$name"}


def memory_metadata(record: Record) -> dict[str, Any]:
    """The metadata of the node of a memory."""
    own: dict[str, Any] = {
        "source": record.source,
        "time": record.time.isoformat(),
        "role": record.role,
        "name": record.name,
        "heading": record.context.strip().rstrip(":") if record.kind == "document" else None,
        "namespace": "/".join(record.namespace),
    }
    return {**record.metadata, **{key: own[key] for key in _OWN if own[key] and key not in record.metadata}}


def fields_of_memories(key: str) -> tuple[str, ...] | None:
    """Under which fields a key of such metadata may be found."""
    if key in _FIELDS:
        return key, _FIELDS[key]
    return None if key in _OWN else (key,)


def node_of(hit: Hit) -> NodeWithScore:
    """A hit as a node: its text with the neighbours that were brought along, and where that is in its document."""
    record = hit.record
    chunks = (*hit.before, record, *hit.after)
    origin = RelatedNodeInfo(node_id=record.source or record.document or record.id)
    node = TextNode(
        id_=record.id,
        text="\n".join(one.text for one in chunks if one.text),
        metadata=memory_metadata(record),
        excluded_embed_metadata_keys=list(_OWN),
        excluded_llm_metadata_keys=_NOT_FOR_MODELS,
        relationships={NodeRelationship.SOURCE: origin},
        start_char_idx=min(one.start for one in chunks),
        end_char_idx=max(one.end for one in chunks),
    )
    return NodeWithScore(node=node, score=float(hit.score))
