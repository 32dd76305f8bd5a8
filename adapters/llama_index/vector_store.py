"""``MemoryVectorStore``: a namespace of a store as a vector store of LlamaIndex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

from memory_plugin import InvalidInputError, and_, any_of, eq
from memory_plugin.adapters.llama_index.conditions import condition
from memory_plugin.adapters.llama_index.detached import AnyStore, Attachable, Legs, Rerank, spelled
from memory_plugin.adapters.llama_index.stored_nodes import (
    REF_DOC_ID,
    document_of,
    fields_of_nodes,
    is_node,
    name_of,
    node_of_value,
    stored_metadata,
)
from memory_plugin.filters import matches, where
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.ids import NamespaceLike
from memory_plugin.types import Filter, Record

_LEGS: dict[VectorStoreQueryMode, Legs] = {
    VectorStoreQueryMode.DEFAULT: "hybrid",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
    VectorStoreQueryMode.SPARSE: "lexical",
    VectorStoreQueryMode.TEXT_SEARCH: "lexical",
}
_EVERYTHING = 2**31
_VALUES = eq("$kind", "value")


class MemoryVectorStore(Attachable, BasePydanticVectorStore):
    """Keeps nodes sealed in a namespace, finds them by vectors and words, and gives exactly those nodes back.

    Nodes are deleted with their document (``delete``), by id or filter (``delete_nodes``), or all (``clear``): only
    nodes, and only those of just this namespace.  Declare ``Settings(filterable=("ref_doc_id",))`` in a large store:
    deleting a document's nodes then opens no other.

    Args:
        store: Either store.
        namespace: Whose the nodes are, as "alice" or ("alice", "library").
        embeddings: "store": the store's own model embeds nodes and queries, and embeddings that LlamaIndex made are not
            looked at.  "nodes": each node's ``embedding`` is its vector, and a query's is the query's; they have to be
            of the model that the store was made with, which is "vectors:1536" for any other's of 1,536 dimensions.
        rerank: Last stage of a query: "none", "late" or "full".

    Raises:
        InvalidInputError: The namespace or a choice cannot be used.
    """

    arguments: ClassVar[tuple[str, ...]] = ("namespace", "embeddings", "rerank")

    stores_text: bool = True
    is_embedding_query: bool = False
    namespace: tuple[str, ...] = Field(description="Whose the nodes are.")
    embeddings: Literal["store", "nodes"] = Field(description="Who makes the vectors.")
    rerank: Literal["none", "late", "full"] = Field(description="Last stage of a query.")
    narrowed: bool = Field(default=False, exclude=True)

    _store: Any = PrivateAttr(default=None)
    _filter: Any = PrivateAttr(default=None)

    def __init__(
        self,
        store: AnyStore,
        namespace: NamespaceLike,
        *,
        embeddings: Literal["store", "nodes"] = "store",
        rerank: Rerank = "full",
    ) -> None:
        if embeddings not in ("store", "nodes") or rerank not in ("none", "late", "full"):
            raise InvalidInputError(
                f"embeddings is 'store' or 'nodes', rerank 'none', 'late' or 'full', not {embeddings!r}, {rerank!r}"
            )
        own = namespace if isinstance(namespace, str) else tuple(namespace)
        super().__init__(  # type: ignore[call-arg]
            stores_text=True,
            is_embedding_query=embeddings == "nodes",
            namespace=spelled(own)[0],
            embeddings=embeddings,
            rerank=rerank,
        )
        self._store = store

    @classmethod
    def class_name(cls) -> str:
        """Name in what it is written as."""
        return "MemoryVectorStore"

    @property
    def _mine(self) -> Filter:
        """The nodes of just this namespace: not what else is in it, nor those below it."""
        return where(lambda record: is_node(record, self.namespace))

    @property
    def client(self) -> Any:
        """The store."""
        return self._store

    # ── write ─────────────────────────────────────────────────────────────────────────────────────

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Keep nodes; one of an id that is there replaces it.

        Raises:
            InvalidInputError: A node cannot be kept; none was.
            EmbeddingError: The store's embedder failed; whole nodes before it are kept.
        """
        return run(self._add(Blocking(), nodes))

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """See ``add``."""
        return await self._add(OnLoop(), nodes)

    async def _add(self, io: IO, nodes: Sequence[BaseNode]) -> list[str]:
        documents = await io.call(self._documents, nodes)
        if documents:
            await io.call(self._store.add, documents, self.namespace)
        return [node.node_id for node in nodes]

    def _documents(self, nodes: Sequence[BaseNode]) -> list[Any]:
        latest = {node.node_id: node for node in nodes}  # the last of several of one id, as if added one by one
        return [document_of(node, embedded=self.embeddings == "nodes") for node in latest.values()]

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes of a document, and a node of that id that is of none."""
        run(self._delete(Blocking(), None, eq(REF_DOC_ID, ref_doc_id)))

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """See ``delete``."""
        await self._delete(OnLoop(), None, eq(REF_DOC_ID, ref_doc_id))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes of these ids, or that satisfy the filters, or both.

        Raises:
            InvalidInputError: Neither is given.
        """
        run(self._delete(Blocking(), node_ids, self._chosen(node_ids, filters)))

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """See ``delete_nodes``."""
        await self._delete(OnLoop(), node_ids, self._chosen(node_ids, filters))

    def clear(self) -> None:
        """Delete all nodes of this namespace, and nothing else that is in it."""
        run(self._delete(Blocking(), None, None))

    async def aclear(self) -> None:
        """See ``clear``."""
        await self._delete(OnLoop(), None, None)

    @staticmethod
    def _chosen(node_ids: list[str] | None, filters: MetadataFilters | None) -> Filter | None:
        if node_ids is None and filters is None:
            raise InvalidInputError("say which nodes to delete: node_ids=, filters=, or clear() for all")
        return condition(filters, fields_of_nodes, stored_metadata)

    async def _delete(self, io: IO, node_ids: list[str] | None, wanted: Filter | None) -> None:
        names = [record.source for record in await self._records(io, node_ids, wanted)]
        if names:
            await io.call(self._store.delete, self.namespace, source=names)

    # ── read ──────────────────────────────────────────────────────────────────────────────────────

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Nodes of these ids in their order, or all that satisfy the filters in the order that they were added in."""
        return run(self._get(Blocking(), node_ids, filters))

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """See ``get_nodes``."""
        return await self._get(OnLoop(), node_ids, filters)

    async def _get(self, io: IO, node_ids: list[str] | None, filters: MetadataFilters | None) -> list[BaseNode]:
        wanted = condition(filters, fields_of_nodes, stored_metadata)
        return await io.call(_nodes, await self._records(io, node_ids, wanted))

    async def _records(self, io: IO, node_ids: list[str] | None, wanted: Filter | None) -> list[Record]:
        """The value of each node that is wanted."""
        if node_ids is None:
            both = self._mine if wanted is None else and_(self._mine, wanted)
            page = await io.call(self._store.list, self.namespace, filter=and_(_VALUES, both), limit=_EVERYTHING)
            return list(page.records)
        names = [name_of(one) for one in dict.fromkeys(node_ids)]
        found = await io.call(self._store.get_sources, names, self.namespace) if names else {}
        return await io.call(_those, [found[name][-1] for name in names if name in found], wanted)

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best ``similarity_top_k`` of the nodes that satisfy the filters, with their scores.

        The modes DEFAULT, HYBRID and SEMANTIC_HYBRID search by vectors and words (``alpha=1``: by vectors alone,
        ``alpha=0``: by words alone), SPARSE and TEXT_SEARCH by words.

        Args:
            query: LlamaIndex's.
            **kwargs: ``rerank`` in place of the store's.

        Raises:
            InvalidInputError: A mode that there is not, or nothing to search for.
        """
        return run(self._query(Blocking(), query, kwargs.get("rerank", self.rerank)))

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """See ``query``."""
        return await self._query(OnLoop(), query, kwargs.get("rerank", self.rerank))

    async def _query(self, io: IO, query: VectorStoreQuery, rerank: Rerank) -> VectorStoreQueryResult:
        legs, top_k = _legs(query), query.similarity_top_k
        if query.mode == VectorStoreQueryMode.HYBRID and query.hybrid_top_k is not None:
            top_k = query.hybrid_top_k
        words = query.query_str or ""
        vector = query.query_embedding if self.embeddings == "nodes" and legs != "lexical" else None
        wanted = condition(query.filters, fields_of_nodes, stored_metadata, _restriction(query), self._mine)
        found = await io.call(
            self._store.search,
            words,
            self.namespace,
            limit=top_k,
            filter=wanted,
            legs="dense" if vector is not None and not words.strip() else legs,
            rerank=rerank,
            per_document=1,
            vector=vector,
            duplicates=True,
        )
        names = [str(hit.record.source) for hit in found]
        kept = await io.call(self._store.get_sources, names, self.namespace) if names else {}
        there = [hit for hit in found if str(hit.record.source) in kept]  # none that was deleted meanwhile
        nodes = await io.call(_nodes, [kept[str(hit.record.source)][-1] for hit in there])
        return VectorStoreQueryResult(
            nodes=nodes, similarities=[float(hit.score) for hit in there], ids=[node.node_id for node in nodes]
        )


def _legs(query: VectorStoreQuery) -> Legs:
    legs = _LEGS.get(query.mode)
    if legs is None:
        known = ", ".join(mode.value for mode in _LEGS)
        raise InvalidInputError(f"no query mode {query.mode.value!r} here; there are {known}")
    if legs == "hybrid" and query.alpha in (0, 1) and query.mode != VectorStoreQueryMode.DEFAULT:
        return "dense" if query.alpha == 1 else "lexical"
    return legs


def _restriction(query: VectorStoreQuery) -> Filter | None:
    """By ids; an empty list is what LlamaIndex passes for none."""
    parts = []
    if query.doc_ids:
        parts.append(any_of(REF_DOC_ID, query.doc_ids))
    if query.node_ids:
        parts.append(any_of("$source", [name_of(one) for one in query.node_ids]))
    return and_(*parts) if parts else None


def _those(records: Sequence[Record], wanted: Filter | None) -> list[Record]:
    return [one for one in records if one.kind == "value" and (wanted is None or matches(wanted, one))]


def _nodes(records: Sequence[Record]) -> list[BaseNode]:
    return [node_of_value(record.value) for record in records]
