"""A retriever over a store: the passages that answer, each with its citation."""

from __future__ import annotations

from typing import Any

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.langchain.asking import Asking, Legs, Rerank
from memory_plugin.adapters.langchain.documents import passage_of
from memory_plugin.flow import IO, Blocking, OnLoop, run

with needs("langchain", "the LangChain retriever"):
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import Field, SkipValidation


class MemoryRetriever(BaseRetriever):
    """The passages that answer, best first, as documents with citations.

    A document's text is the passage that was found, not all that it is from; its metadata is what was given when it
    was added, "source", and "citation": where it is from, its time, its score and its rank at every stage.

    Args:
        store: Open; ``ainvoke`` takes either kind, ``invoke`` a ``MemoryStore``.
        namespace: Where to look; a list looks in several.
        k: Passages at most; also of one call: ``invoke(query, k=3)``, as the next five.
        filter: A dictionary such as ``{"topic": "travel"}``, or a filter of this library.
        legs: "hybrid", or one leg alone.
        rerank: Last stage to run: "none", "late" or "full".
        per_document: Passages of one document at most.
        neighbours: Passages of the same document to bring along on each side of one.

    Raises:
        InvalidInputError: Query, filter or an argument cannot be used.
    """

    # Kept out of what is written down or shown: a store, names of people, and values to look for.
    store: SkipValidation[MemoryStore | AsyncMemoryStore] = Field(exclude=True, repr=False)
    namespace: SkipValidation[str | tuple[str, ...] | list[str | tuple[str, ...]]] = Field(exclude=True, repr=False)
    k: int = 4
    filter: Any = Field(default=None, exclude=True, repr=False)
    legs: Legs = "hybrid"
    rerank: Rerank = "full"
    per_document: int | None = None
    neighbours: int = 0

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return run(self._found(Blocking(), query, kwargs))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        return await self._found(OnLoop(), query, kwargs)

    async def _found(self, io: IO, query: str, given: dict[str, Any]) -> list[Document]:
        own = Asking(self.k, self.filter, self.legs, self.rerank, self.per_document, self.neighbours)
        hits = await own.changed(given).search(io, self.store, query, self.namespace)
        return [passage_of(hit) for hit in hits]
