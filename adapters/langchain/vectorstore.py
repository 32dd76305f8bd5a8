"""A LangChain vector store over one namespace: documents by id, whole, found by meaning and by words."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from memory_plugin import AsyncMemoryStore, ConfigurationError, Hit, InvalidInputError, MemoryStore
from memory_plugin import ids as ids_
from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.langchain.asking import Asking, Legs, Rerank, Store
from memory_plugin.adapters.langchain.documents import documents_of, memory_of, passage_of, whole_of
from memory_plugin.adapters.langchain.mmr import compared, cosine, relevance, select
from memory_plugin.adapters.langchain.models import MemoryEmbeddings
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.ids import NamespaceLike
from memory_plugin.types import Namespace, Numbers

with needs("langchain", "the LangChain vector store"):
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore

Found = list[tuple[Document, Hit]]


class MemoryVectorStore(VectorStore):
    """Documents of one namespace, by id.

    A document comes back exactly as it was added, however long it is: its text is cut into passages to be found by,
    and kept whole beside them.  Metadata are JSON values.  What was added otherwise to the namespace, or below it, is
    found too, passage by passage, as ``MemoryRetriever`` returns it.

    Searches take ``k``, ``filter`` (a dictionary, see ``filters.filter_of``), ``legs``, ``rerank``, ``neighbours``.
    Scores are similarities: higher is better.  Those of ``similarity_search_with_score`` are of the last stage that
    ran and compare within one result only; relevance scores, and so thresholds, are cosines.  A document that was
    found by its words alone has none: its relevance is 0.

    Args:
        store: Open; methods that begin with "a" take either kind, the others a ``MemoryStore``.
        namespace: Whose documents.
        embedding: The model that the store was made with, for ``embeddings`` and maximal marginal relevance only:
            a store embeds by itself.
        legs: "hybrid", or one leg alone.
        rerank: Last stage to run: "none", "late" or "full".

    Raises:
        InvalidInputError: The namespace cannot be used.
    """

    def __init__(
        self,
        store: Store,
        namespace: NamespaceLike,
        *,
        embedding: Embeddings | None = None,
        legs: Legs = "hybrid",
        rerank: Rerank = "full",
    ) -> None:
        self.store = store
        self._namespace = ids_.namespace(namespace)
        self._embedding = embedding
        self._asking = Asking(legs=legs, rerank=rerank, per_document=1)

    @property
    def embeddings(self) -> Embeddings | None:
        """What was given as ``embedding``."""
        return self._embedding

    # ── writing ───────────────────────────────────────────────────────────────────────────────────

    def add_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """Add documents; their ids.

        One under an id that is there replaces it.  Without ids, and without ``Document.id``, new ones are made.

        Args:
            documents: With metadata of JSON values.
            kwargs: ``ids``: one a document.  ``batch_size`` is passed over: a store has its own.

        Raises:
            InvalidInputError: Something cannot be used; nothing was written.
            EmbeddingError: The embedder failed; whole documents before it are kept.
        """
        return run(self._add(Blocking(), documents, **kwargs))

    async def aadd_documents(self, documents: list[Document], **kwargs: Any) -> list[str]:
        """See ``add_documents``."""
        return await self._add(OnLoop(), documents, **kwargs)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add texts; see ``add_documents``."""
        return run(self._add(Blocking(), documents_of(texts, metadatas), ids=ids, **kwargs))

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """See ``add_texts``."""
        return await self._add(OnLoop(), documents_of(texts, metadatas), ids=ids, **kwargs)

    async def _add(
        self,
        io: IO,
        documents: Sequence[Document],
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **unknown: Any,
    ) -> list[str]:
        if unknown:
            raise InvalidInputError(f"adding takes ids, not {next(iter(unknown))!r:.40}")
        given = [one.id for one in documents] if ids is None else list(ids)
        if len(given) != len(documents):
            raise InvalidInputError(f"{len(given)} ids were given for {len(documents)} documents")
        named = [one if one is not None else str(uuid.uuid4()) for one in given]
        # The last of an id wins, as if they had been added one after the other.
        items = {name: memory_of(one, name) for name, one in zip(named, documents, strict=True)}
        if items:
            await io.call(self.store.add, list(items.values()), self._namespace)
        return named

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents; True, also where there were none.

        Args:
            ids: These; None: all that this vector store finds, which is all of its namespace and those below it.
            kwargs: None is known.
        """
        return run(self._delete(Blocking(), ids, **kwargs))

    async def adelete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """See ``delete``."""
        return await self._delete(OnLoop(), ids, **kwargs)

    async def _delete(self, io: IO, ids: Sequence[str] | None = None, **unknown: Any) -> bool:
        if unknown:
            # A condition that is passed over would delete everything.
            raise InvalidInputError(f"deleting takes ids, not {next(iter(unknown))!r:.40}")
        if ids is None:
            await io.call(self.store.delete, self._namespace, everything=True)
        elif ids:
            await io.call(self.store.delete, self._namespace, source=list(ids))
        return True

    # ── reading ───────────────────────────────────────────────────────────────────────────────────

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents of these ids, in their order; those that are not there are left out."""
        return run(self._get(Blocking(), ids))

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """See ``get_by_ids``."""
        return await self._get(OnLoop(), ids)

    async def _get(self, io: IO, ids: Sequence[str]) -> list[Document]:
        names = list(dict.fromkeys(ids))
        found = await io.call(self.store.get_sources, names, self._namespace) if names else {}
        documents = (whole_of(name, found[name]) for name in names if name in found)
        return [one for one in documents if one is not None]

    async def _find(self, io: IO, query: str, given: dict[str, Any], vector: Numbers | None = None) -> Found:
        """What a search finds, each document once, as it was added."""
        hits = await self._asking.changed(given).search(io, self.store, query, self._namespace, vector=vector)
        names: dict[Namespace, list[str]] = {}
        for hit in hits:
            if hit.record.source is not None:
                names.setdefault(hit.record.namespace, []).append(hit.record.source)
        found = {
            (where, name): records
            for where, sources in names.items()
            for name, records in (await io.call(self.store.get_sources, sources, where)).items()
        }
        documents: Found = []
        for hit in hits:
            where, name = hit.record.namespace, hit.record.source
            if name is None:
                documents.append((passage_of(hit), hit))
            elif (where, name) in found:  # else it was deleted meanwhile
                # An id leads somewhere: only in the namespace itself is it one of this store's.
                whole = whole_of(name if where == self._namespace else None, found[where, name])
                documents.append((whole if whole is not None else passage_of(hit), hit))
        return documents

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The documents that answer, best first.

        Args:
            query: A question, or words.
            k: Documents at most.
            kwargs: ``filter`` and others, see the class.

        Raises:
            InvalidInputError: Query, filter or an argument cannot be used.
            EmbeddingError: The embedder failed.
            SealError: A stored payload was tampered with, or its key is gone.
        """
        return [one for one, _ in run(self._find(Blocking(), query, {"k": k, **kwargs}))]

    async def asimilarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """See ``similarity_search``."""
        return [one for one, _ in await self._find(OnLoop(), query, {"k": k, **kwargs})]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Document, float]]:
        """The same with the score of the last stage that ran: higher is better, within one result."""
        return [(one, hit.score) for one, hit in run(self._find(Blocking(), query, {"k": k, **kwargs}))]

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """See ``similarity_search_with_score``."""
        return [(one, hit.score) for one, hit in await self._find(OnLoop(), query, {"k": k, **kwargs})]

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """The documents whose vectors are nearest to one in the store's space; no words are compared."""
        asked = {"k": k, **kwargs, "legs": "dense"}
        return [one for one, _ in run(self._find(Blocking(), "", asked, embedding))]

    async def asimilarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Document]:
        """See ``similarity_search_by_vector``."""
        asked = {"k": k, **kwargs, "legs": "dense"}
        return [one for one, _ in await self._find(OnLoop(), "", asked, embedding)]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Of a cosine."""
        return relevance

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        found = run(self._find(Blocking(), query, {"k": k, **kwargs}))
        return [(one, relevance(cosine(hit))) for one, hit in found]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        found = await self._find(OnLoop(), query, {"k": k, **kwargs})
        return [(one, relevance(cosine(hit))) for one, hit in found]

    # ── maximal marginal relevance ────────────────────────────────────────────────────────────────

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """Documents that answer and differ from each other.

        The passages that were found are embedded once more, by ``embedding``.  One that no model outside this machine
        may see is not given to one that is, and counts as like no other.

        Args:
            query: A question, or words.
            k: Documents at most.
            fetch_k: How many are found first.
            lambda_mult: 1 looks at relevance alone, 0 at difference alone.
            kwargs: As ``similarity_search``.

        Raises:
            ConfigurationError: No ``embedding`` was given.
        """
        return run(self._diverse(Blocking(), query, None, k, fetch_k, lambda_mult, kwargs))

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """See ``max_marginal_relevance_search``."""
        return await self._diverse(OnLoop(), query, None, k, fetch_k, lambda_mult, kwargs)

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """See ``max_marginal_relevance_search``; nearest to a vector in the store's space."""
        return run(self._diverse(Blocking(), "", embedding, k, fetch_k, lambda_mult, kwargs))

    async def amax_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Document]:
        """See ``max_marginal_relevance_search_by_vector``."""
        return await self._diverse(OnLoop(), "", embedding, k, fetch_k, lambda_mult, kwargs)

    async def _diverse(
        self,
        io: IO,
        query: str,
        vector: Sequence[float] | None,
        k: int,
        fetch_k: int,
        lambda_mult: float,
        given: dict[str, Any],
    ) -> list[Document]:
        model = self._embedding
        if model is None:
            raise ConfigurationError(
                "maximal marginal relevance compares vectors, which a store does not give out: "
                "make the vector store with embedding=, the model that the store was made with"
            )
        asked = {"k": max(k, fetch_k), **given, **({"legs": "dense"} if vector is not None else {})}
        found = await self._find(io, query, asked, vector)
        if not found:
            return []
        near = vector if vector is not None else await io.call(model.embed_query, query)
        nearness, vectors = await compared(io, model, near, [hit for _, hit in found])
        return [found[place][0] for place in select(nearness, vectors, k=k, lambda_mult=lambda_mult)]

    # ── making ────────────────────────────────────────────────────────────────────────────────────

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        namespace: NamespaceLike | None = None,
        store: MemoryStore | None = None,
        location: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A vector store with texts in it, over a store that is open, or one that is opened here.

        Args:
            texts: To add.
            embedding: Of a store that is opened here; of an open one, the model that it was made with.
            metadatas: One a text.
            ids: One a text.
            namespace: Whose documents; there is no default.
            store: An open one; or
            location: a directory or a server's address, to open.  Close it by ``vectorstore.store.close()``.
            kwargs: Of ``MemoryStore.open``: ``keyring``, ``reranker``, ``settings``, …

        Raises:
            ConfigurationError: There is no namespace, or not exactly one of store and location.
            InvalidInputError: Something cannot be used; nothing was written.
        """
        where = _whose(namespace, store, location, kwargs)
        made = store or MemoryStore.open(location or "", embedder=_embedder(embedding), **kwargs)
        try:
            self = cls(made, where, embedding=embedding)
            self.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            if store is None:
                made.close()
            raise
        return self

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        namespace: NamespaceLike | None = None,
        store: Store | None = None,
        location: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """See ``from_texts``; a store that is opened here is an ``AsyncMemoryStore``."""
        where = _whose(namespace, store, location, kwargs)
        made = store or AsyncMemoryStore.open(location or "", embedder=_embedder(embedding), **kwargs)
        try:
            self = cls(made, where, embedding=embedding)
            await self.aadd_texts(texts, metadatas, ids=ids)
        except BaseException:
            if store is None:
                await OnLoop().call(made.close)
            raise
        return self


def _whose(namespace: NamespaceLike | None, store: object, location: object, options: dict[str, Any]) -> NamespaceLike:
    if namespace is None:
        raise ConfigurationError("a vector store has a namespace, as namespace='alice': whose documents they are")
    if (store is None) == (location is None):
        raise ConfigurationError("give either store=, one that is open, or location=, where to open one")
    if store is not None and options:
        raise ConfigurationError(f"the store is open: {next(iter(options))!r:.40} is for opening one at location=")
    return namespace


def _embedder(embedding: Embeddings) -> Any:
    return embedding.embedder if isinstance(embedding, MemoryEmbeddings) else embedding
