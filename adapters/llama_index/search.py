"""One search with a condition that the store cannot decide alone: asked again, for more, until enough is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from memory_plugin import AsyncMemoryStore, Hit, MemoryStore
from memory_plugin.flow import IO
from memory_plugin.ids import NamespacesLike, namespaces
from memory_plugin.types import Filter, Numbers, Record

AnyStore: TypeAlias = MemoryStore | AsyncMemoryStore
Legs: TypeAlias = Literal["hybrid", "dense", "lexical", "learned"]
Rerank: TypeAlias = Literal["none", "late", "full"]

_LOOKED_AT = 1000
"""Candidates that a search looks at before it returns fewer hits than it was asked for, where there are so many."""


async def hits(
    io: IO,
    store: AnyStore,
    query: str,
    namespace: NamespacesLike,
    *,
    limit: int,
    filter: Filter | None,
    accepts: Callable[[Record], bool] | None,
    legs: Legs,
    rerank: Rerank,
    per_document: int | None,
    neighbours: int = 0,
    vector: Numbers | None = None,
    ahead: int = 4,
) -> list[Hit]:
    """The best ``limit`` hits that are accepted; fewer only where there are no more.

    Args:
        io: How to reach the store.
        store: Either.
        query: See ``MemoryStore.search``, as what is not named here.
        namespace: Where to look.
        limit: Hits at most.
        filter: What the store can decide.
        accepts: What it cannot; None: nothing.
        legs: Which propose candidates.
        rerank: The last stage.
        per_document: Hits of one document at most.
        neighbours: Chunks to bring along.
        vector: The query's.
        ahead: How many times ``limit`` is asked for first where ``accepts`` may refuse some.

    Raises:
        MemoryPluginError: As ``MemoryStore.search``.
    """
    wanted = limit if accepts is None else ahead * limit
    total: int | None = None
    while True:
        found = await io.call(
            store.search,
            query,
            namespace,
            limit=wanted,
            filter=filter,
            legs=legs,
            rerank=rerank,
            per_document=per_document,
            neighbours=neighbours,
            vector=vector,
        )
        if accepts is None:
            return list(found)
        kept = await io.call(_accepted, found, accepts)
        if len(kept) >= limit:
            return kept[:limit]
        if total is None:
            total = sum([await io.call(store.count, one) for one in namespaces(namespace)])
        if wanted >= total or (len(found) < wanted and total <= _LOOKED_AT):
            return kept
        wanted = min(8 * wanted, total)


def _accepted(found: Sequence[Hit], accepts: Callable[[Record], bool]) -> list[Hit]:
    return [hit for hit in found if accepts(hit.record)]
