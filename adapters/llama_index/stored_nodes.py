"""Nodes of LlamaIndex as documents of a store, and exactly those nodes back.

What is embedded and found is the text that LlamaIndex would embed.  The node itself is the document's value: its JSON
as text, since a node's hash depends on the order of its metadata, which parsed JSON does not keep in a store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    TextNode,
)

from memory_plugin import InvalidInputError, Record, types
from memory_plugin.ids import visible

PREFIX = "node/"
"""What the names of nodes begin with in their namespace: other documents in it are none of them."""

REF_DOC_ID = "ref_doc_id"
"""The metadata field of a stored node that names the document that it is of; its own id where it is of none."""

_SAME = ("doc_id", "document_id")
"""What LlamaIndex's stores also call that, where a node's own metadata has no such key."""

_KINDS: dict[str, type[BaseNode]] = {
    kind.class_name(): kind for kind in (TextNode, ImageNode, IndexNode, Node, Document, ImageDocument)
}
_RESOURCES = ("text_resource", "image_resource", "audio_resource", "video_resource")


def name_of(node_id: str) -> str:
    """What a node's document is called."""
    return PREFIX + node_id


def is_node(record: Record, namespace: types.Namespace) -> bool:
    """Whether a record is part of a node of just this namespace."""
    return record.namespace == namespace and (record.source or "").startswith(PREFIX)


def document_of(node: BaseNode, *, embedded: bool) -> types.Document:
    """A node as a document.

    Args:
        node: Of any kind.
        embedded: Whether its embedding is the document's vector.

    Raises:
        InvalidInputError: It has no embedding and has to, or it holds what is no JSON.
    """
    if embedded and node.embedding is None:
        raise InvalidInputError(
            f"the node {node.node_id!r:.60} has no embedding, and this store was told to take them from its nodes: "
            "embed it first, or make the store with embeddings='store'"
        )
    text = node.get_content(metadata_mode=MetadataMode.EMBED)
    text = text if visible(text) else ""
    kind = next((one.__name__ for one in type(node).__mro__ if _KINDS.get(one.__name__) is one), None)
    if kind is None:
        raise InvalidInputError(f"a {type(node).__name__} is no node that can be read back; derive it from TextNode")
    try:
        data = _dumped(node)
        value = json.dumps({"kind": kind, "node": data}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"the node {node.node_id!r:.60} holds what is no JSON ({type(error).__name__}): metadata are texts, "
            "numbers, booleans, None, and lists and dictionaries of these"
        ) from None
    return types.Document(
        text,
        source=name_of(node.node_id),
        metadata={**data["metadata"], REF_DOC_ID: node.ref_doc_id or node.node_id},
        vector=node.embedding if embedded and text else None,
        value=value,
    )


def _dumped(node: BaseNode) -> dict[str, Any]:
    data = node.model_dump(mode="json")
    data["embedding"] = None
    for name in _RESOURCES:
        resource = getattr(node, name, None)
        if isinstance(resource, MediaResource) and resource.data is not None and isinstance(data.get(name), dict):
            data[name]["data"] = resource.data.decode()  # base64; LlamaIndex leaves it out
    return data


def node_of_value(value: object) -> BaseNode:
    """The node that a value was made of, without its embedding."""
    read = json.loads(cast("str", value))
    return _KINDS[read["kind"]].from_dict(read["node"])


def stored_metadata(record: Record) -> Mapping[str, Any]:
    """What filters see of a stored node."""
    ref_doc_id = record.metadata.get(REF_DOC_ID)
    return {**dict.fromkeys(_SAME, ref_doc_id), **record.metadata}


def fields_of_nodes(key: str) -> tuple[str, ...] | None:
    """Under which fields of a record a key may be found."""
    return (key, REF_DOC_ID) if key in _SAME else (key,)
