"""What retriever and vector store ask a store for, in LangChain's words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from memory_plugin import AsyncMemoryStore, InvalidInputError, MemoryStore, Results
from memory_plugin.adapters.langchain.filters import FilterLike, filter_of
from memory_plugin.flow import IO
from memory_plugin.ids import NamespacesLike
from memory_plugin.types import Numbers

Store: TypeAlias = MemoryStore | AsyncMemoryStore
Legs: TypeAlias = Literal["hybrid", "dense", "lexical", "learned"]
Rerank: TypeAlias = Literal["none", "late", "full"]


@dataclass(frozen=True, slots=True)
class Asking:
    """How a store is searched; see ``MemoryStore.search``.

    Args:
        k: Documents at most.
        filter: See ``filters.filter_of``.
        legs: "hybrid", or one leg alone.
        rerank: Last stage to run.
        per_document: Passages of one document at most.
        neighbours: Passages of the same document to bring along on each side.
    """

    k: int = 4
    filter: FilterLike = None
    legs: Legs = "hybrid"
    rerank: Rerank = "full"
    per_document: int | None = None
    neighbours: int = 0

    def changed(self, given: Mapping[str, Any]) -> Asking:
        """With what one call says.

        Raises:
            InvalidInputError: It says something that a search does not know: ignoring it would find too much.
        """
        unknown = [key for key in given if key not in self.__slots__]
        if unknown:
            raise InvalidInputError(
                f"a search takes {', '.join(self.__slots__)}, not {unknown[0]!r:.40}"
                + (": ask for search_type='similarity_score_threshold'" if "score_threshold" in unknown else "")
            )
        return replace(self, **given)

    async def search(
        self, io: IO, store: Store, query: str, namespace: NamespacesLike, *, vector: Numbers | None = None
    ) -> Results:
        """The hits, best first."""
        return await io.call(
            store.search,
            query,
            namespace,
            limit=self.k,
            filter=filter_of(self.filter),
            legs=self.legs,
            rerank=self.rerank,
            per_document=self.per_document,
            neighbours=self.neighbours,
            vector=vector,
        )
