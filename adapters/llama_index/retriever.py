"""``MemoryRetriever``: memories as nodes, for whatever takes a retriever of LlamaIndex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks.base import CallbackManager
from llama_index.core.schema import IndexNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from memory_plugin import Hit
from memory_plugin.adapters.llama_index.conditions import condition
from memory_plugin.adapters.llama_index.detached import AnyStore, Attachable, Legs, Rerank, spelled
from memory_plugin.adapters.llama_index.nodes import fields_of_memories, memory_metadata, node_of
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.ids import NamespacesLike
from memory_plugin.types import Filter


class MemoryRetriever(Attachable, BaseRetriever):
    """Retrieves memories of a namespace, best first, each as a ``TextNode`` with its score.

    A node has the memory's id, text, offsets in its document, its metadata, and beside them ``source``, ``time``,
    ``role``, ``name``, ``heading`` and ``namespace`` where they are known and the metadata has no such key.

    Args:
        store: Either store; one of each kind works in both, sync and async.
        namespace: Where to look; a list looks in several.
        limit: Nodes at most.
        filter: Ours, or LlamaIndex's ``MetadataFilters`` with all operators, over a node's metadata.
        rerank: Last stage to run: "none", "late" or "full".
        legs: "hybrid", or one leg alone: "dense", "lexical", "learned".
        per_document: Nodes of one document at most.
        neighbours: Chunks of the same document to put before and after each.
        use_embedding: Search by a ``QueryBundle``'s embedding where it has one: it has to be of the store's model.
            False embeds the query's text always: for retrievers that are fused with others, which leave the
            embeddings of their own models in the query that they share.
        callback_manager: As in ``BaseRetriever``.
        object_map: As in ``BaseRetriever``.
        objects: As in ``BaseRetriever``.
        verbose: As in ``BaseRetriever``.

    Raises:
        InvalidInputError: The namespace or the filter cannot be used.
    """

    arguments: ClassVar[tuple[str, ...]] = (
        "namespace",
        "limit",
        "rerank",
        "legs",
        "per_document",
        "neighbours",
        "use_embedding",
    )

    def __init__(
        self,
        store: AnyStore,
        namespace: NamespacesLike,
        *,
        limit: int = 10,
        filter: Filter | MetadataFilters | None = None,
        rerank: Rerank = "full",
        legs: Legs = "hybrid",
        per_document: int | None = None,
        neighbours: int = 0,
        use_embedding: bool = True,
        callback_manager: CallbackManager | None = None,
        object_map: dict[str, Any] | None = None,
        objects: Sequence[IndexNode] | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(callback_manager, object_map, list(objects) if objects is not None else None, verbose)
        self.namespace = spelled(namespace)
        self.limit = limit
        self.rerank = rerank
        self.legs = legs
        self.per_document = per_document
        self.neighbours = neighbours
        self.use_embedding = use_embedding
        self._store, self._filter, self.narrowed = store, filter, filter is not None
        self._connect()

    def _connect(self) -> None:
        self._where = condition(self._filter, fields_of_memories, memory_metadata)

    def __repr__(self) -> str:
        return f"MemoryRetriever(limit={self.limit}, legs={self.legs!r}, rerank={self.rerank!r})"

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return run(self._nodes(Blocking(), query_bundle))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self._nodes(OnLoop(), query_bundle)

    async def _nodes(self, io: IO, query: QueryBundle) -> list[NodeWithScore]:
        vector = query.embedding if self.use_embedding else None
        alone = vector is not None and not query.query_str.strip()
        found = await io.call(
            self._store.search,
            "" if alone else query.query_str,
            list(self.namespace),
            limit=self.limit,
            filter=self._where,
            legs="dense" if alone else self.legs,
            rerank=self.rerank,
            per_document=self.per_document,
            neighbours=self.neighbours,
            vector=vector if self.legs in ("hybrid", "dense") or alone else None,
        )
        return await io.call(_nodes, found)


def _nodes(hits: Sequence[Hit]) -> list[NodeWithScore]:
    return [node_of(hit) for hit in hits]
