"""What a search asks for, checked before anything is read or sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from memory_plugin import ids
from memory_plugin.engine.entries import flag
from memory_plugin.errors import InvalidInputError
from memory_plugin.filters import check
from memory_plugin.types import Filter, Namespace, Numbers, Vector
from memory_plugin.vectors import unit

Legs: TypeAlias = Literal["hybrid", "dense", "lexical", "learned"]
Rerank: TypeAlias = Literal["none", "late", "full"]

LEGS: tuple[Legs, ...] = ("hybrid", "dense", "lexical", "learned")
RERANKS: tuple[Rerank, ...] = ("none", "late", "full")

MAX_QUERY_BYTES = 64 * 1024
MAX_NEIGHBOURS = 16


@dataclass(frozen=True, slots=True)
class Request:
    """A search, checked.

    Args:
        query: Not empty, but for a search by a vector alone.
        namespaces: Where to look.
        limit: Hits at most.
        filter: Or None.
        legs: Which legs propose candidates.
        rerank: The last stage to run: fusion, late interaction, or the cross-encoder.
        per_document: Hits of one document at most, or None.
        neighbours: Chunks to bring along on each side of a hit.
        vector: The query's, made elsewhere, of unit length; or None.
        duplicates: Whether near duplicates of a better hit are hits too.
    """

    query: str
    namespaces: tuple[Namespace, ...]
    limit: int
    filter: Filter | None = None
    legs: Legs = "hybrid"
    rerank: Rerank = "full"
    per_document: int | None = None
    neighbours: int = 0
    vector: Vector | None = None
    duplicates: bool = False

    def searches(self, leg: Legs) -> bool:
        """Whether a leg is to propose candidates."""
        return self.legs in ("hybrid", leg)


def request(
    query: str,
    namespaces: ids.NamespacesLike,
    *,
    limit: int,
    filter_: Filter | None,
    legs: Legs,
    rerank: Rerank,
    per_document: int | None,
    neighbours: int,
    vector: Numbers | None = None,
    duplicates: bool = False,
) -> Request:
    """Check what a user asked for.

    Raises:
        InvalidInputError: Something cannot be used.
    """
    ids.utf8(query, "the query", limit=MAX_QUERY_BYTES)
    if legs not in LEGS or rerank not in RERANKS:
        raise InvalidInputError(f"no such legs or rerank: {legs!r:.40}, {rerank!r:.40}")
    query = _words(query, legs, by_vector=vector is not None)
    ids.whole(limit, "limit")
    if per_document is not None:
        ids.whole(per_document, "per_document")
    if ids.whole(neighbours, "neighbours", least=0) > MAX_NEIGHBOURS:
        raise InvalidInputError(f"neighbours must be at most {MAX_NEIGHBOURS}, not {neighbours:,}")
    if filter_ is not None:
        check(filter_)
    return Request(
        query,
        ids.namespaces(namespaces),
        limit,
        filter_,
        legs,
        rerank,
        per_document,
        neighbours,
        unit(vector) if vector is not None else None,
        flag(duplicates, "duplicates"),
    )


def _words(query: str, legs: Legs, *, by_vector: bool) -> str:
    """The query; "" where a vector alone is searched by.

    Raises:
        InvalidInputError: There is nothing to search for, or a vector for legs that compare none.
    """
    if by_vector and legs not in ("hybrid", "dense"):
        raise InvalidInputError(f"a vector is for the dense leg: with legs={legs!r} leave it out")
    if ids.visible(query):
        return query
    if not by_vector:
        raise InvalidInputError("the query is empty: there is nothing to search for")
    if legs != "dense":
        raise InvalidInputError("the query is empty: to search by the vector alone, say so with legs='dense'")
    return ""
