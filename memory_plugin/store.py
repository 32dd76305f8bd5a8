"""``MemoryStore``: one line a verb over the engine, without an event loop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from memory_plugin import ids
from memory_plugin.assembly import AUTO, LOCAL, Assembly, KeySource, index_at
from memory_plugin.engine.add import Progress
from memory_plugin.engine.entries import Items
from memory_plugin.engine.images import ImageLike
from memory_plugin.engine.request import Legs, Rerank
from memory_plugin.flow import Blocking, run
from memory_plugin.protocols import AnyEmbedder, LateInteraction, Reranker, VectorIndex
from memory_plugin.settings import Settings
from memory_plugin.tokens import DEFAULT_ENCODING
from memory_plugin.types import Added, Context, Filter, Metadata, Numbers, Page, PointId, Record, Results, Scalar
from memory_plugin.upkeep import Upkeep


class MemoryStore(Upkeep):
    """A memory for agents: add what was said and written, ask for what matters.

    Args:
        index: Where points are kept.
        embedder: Makes vectors; an object, also an embedding object of LlamaIndex or LangChain; or a name such as
            "local".
        reranker: A cross-encoder that reads the best candidates, or None.
        late: Re-ranks candidates by token vectors: an object; "local"; the name of an embedder that gives them, as
            "bge-m3:/models/bge-m3"; None; or "auto": as the store was made, at first the embedder's own, else "local".
        keyring: Where the keys are; see ``KeySource``.
        settings: How the store behaves; None for what it was made with.
        successor: The model that a migration by another process goes to: this store then writes both spaces, and
            follows the switch.
        allow_network: False refuses every provider, and every server, that is not on this machine.

    Raises:
        NetworkForbiddenError: A provider leaves the machine, or does not tell, and ``allow_network`` is False.
        ManifestMismatchError: The store was made with another model, key mode, or settings.
        KeyServiceError: The keys cannot be read, or are another store's.
        StoreLockedError: Another process has it open.
    """

    def __init__(
        self,
        index: VectorIndex,
        embedder: AnyEmbedder | str = LOCAL,
        *,
        reranker: Reranker | str | None = LOCAL,
        late: LateInteraction | str | None = AUTO,
        keyring: KeySource = None,
        settings: Settings | None = None,
        successor: AnyEmbedder | str | None = None,
        allow_network: bool = True,
    ) -> None:
        parts = Assembly(index, embedder, reranker, late, keyring, settings, successor, allow_network=allow_network)
        self._verbs = run(parts.open(Blocking()))

    @classmethod
    def open(
        cls,
        location: str | os.PathLike[str],
        *,
        embedder: AnyEmbedder | str = LOCAL,
        reranker: Reranker | str | None = LOCAL,
        late: LateInteraction | str | None = AUTO,
        keyring: KeySource = None,
        settings: Settings | None = None,
        successor: AnyEmbedder | str | None = None,
        allow_network: bool = True,
        collection: str = "memory",
        api_key: str | None = None,
    ) -> Self:
        """Open the store at a directory (embedded Qdrant) or an http(s) address (a server), or make it.

        Args:
            location: A directory, or a Qdrant server's address.
            embedder: See the class.
            reranker: See the class.
            late: See the class.
            keyring: See the class.
            settings: See the class.
            successor: See the class.
            allow_network: See the class.
            collection: Name of the collection on a server.
            api_key: Of the server.

        Raises:
            MemoryPluginError: As for the class.
        """
        index = index_at(
            location, asynchronous=False, collection=collection, api_key=api_key, allow_network=allow_network
        )
        return cls(
            index,
            embedder,
            reranker=reranker,
            late=late,
            keyring=keyring,
            settings=settings,
            successor=successor,
            allow_network=allow_network,
        )

    def add(
        self,
        items: Items,
        namespace: ids.NamespaceLike,
        *,
        source: str | None = None,
        time: datetime | None = None,
        metadata: Metadata | None = None,
        markdown: bool = False,
        local_only: bool = False,
        vector: Numbers | None = None,
        progress: Progress | None = None,
    ) -> Added:
        """Remember texts, documents or messages; durable on return.

        Adding the same twice changes nothing.  Adding another text under the same source replaces it.

        Args:
            items: A text, a ``Document``, a ``Message``, a chat message mapping, or a list of any.
            namespace: Who it belongs to: "alice", or ("alice", "session-7").
            source: What the one item is called inside the namespace.
            time: When it was said or written; default now.
            metadata: JSON values, kept sealed.
            markdown: Whether a plain string is Markdown.
            local_only: Whether no model outside this machine may ever see them; see ``Document``.
            vector: Of the one item, made elsewhere; see ``Document``.
            progress: Called with documents done and documents given.

        Raises:
            InvalidInputError: Something cannot be used; nothing was written.
            EmbeddingError: The embedder failed; whole documents before it are kept.
            IndexUnavailableError: Qdrant failed.
        """
        return run(
            self._verbs.add(
                items,
                namespace,
                source=source,
                time=time,
                metadata=metadata,
                markdown=markdown,
                local_only=local_only,
                vector=vector,
                progress=progress,
            )
        )

    def add_file(
        self,
        path: str | os.PathLike[str],
        namespace: ids.NamespaceLike,
        *,
        source: str | None = None,
        time: datetime | None = None,
        metadata: Metadata | None = None,
        local_only: bool = False,
    ) -> Added:
        """Remember a UTF-8 text file; adding it again after a change replaces it.

        Args:
            path: The file; .md is read as Markdown.
            namespace: Who it belongs to.
            source: What it is called; default its path as given.
            time: Default: when the file was last written.
            metadata: JSON values, kept sealed.
            local_only: See ``add``.

        Raises:
            InvalidInputError: It cannot be read, or is no text; nothing was written.
        """
        return run(
            self._verbs.add_file(path, namespace, source=source, time=time, metadata=metadata, local_only=local_only)
        )

    def add_image(
        self,
        image: ImageLike,
        namespace: ids.NamespaceLike,
        *,
        caption: str | None = None,
        source: str | None = None,
        time: datetime | None = None,
        metadata: Metadata | None = None,
        local_only: bool = False,
    ) -> Added:
        """Remember a picture by its vector, in the space of the texts, and by its caption; its file is not kept.

        Args:
            image: Path or content of a PNG, JPEG, WebP or GIF file.
            namespace: Who it belongs to.
            caption: What is to be seen, in words; found as text is.
            source: What it is called; default its path as given.
            time: Default: when the file was last written.
            metadata: JSON values, kept sealed.
            local_only: See ``add``.

        Raises:
            ConfigurationError: The store's model embeds no images.
            InvalidInputError: It cannot be read, is no image, or its caption is too long; nothing was written.
            EmbeddingError: The embedder failed.
        """
        return run(
            self._verbs.add_image(
                image,
                namespace,
                caption=caption,
                source=source,
                time=time,
                metadata=metadata,
                local_only=local_only,
            )
        )

    def search(
        self,
        query: str,
        namespace: ids.NamespacesLike,
        *,
        limit: int = 10,
        filter: Filter | None = None,
        legs: Legs = "hybrid",
        rerank: Rerank = "full",
        per_document: int | None = None,
        neighbours: int = 0,
        vector: Numbers | None = None,
        duplicates: bool = False,
    ) -> Results:
        """The memories that answer a query, best first, each with its rank and score at every stage.

        Args:
            query: A question, or words; "" for a search by ``vector`` alone, with ``legs="dense"``.  The embedder is
                given it, and a reranker, also those that leave the machine: ``legs="lexical"`` keeps it from the first.
            namespace: Where to look; a list looks in several at once.  A namespace holds those below it.
            limit: Hits at most.
            filter: See ``memory_plugin.filters``.
            legs: "hybrid", or one leg alone: "dense", "lexical", "learned" (of a model that weighs terms).
            rerank: Last stage to run: "none" (fusion), "late", or "full" (the cross-encoder, if there is one).
            per_document: Hits of one document at most.
            neighbours: Chunks of the same document to bring along on each side of a hit.
            vector: The query's, made elsewhere, in place of one by the store's embedder, which is not asked then.
            duplicates: Whether near duplicates of a better hit are kept, whatever the settings say.

        Raises:
            InvalidInputError: The query, namespace or filter cannot be used.
            EmbeddingError: The embedder failed.
            RerankError: The reranker failed, and the settings say "raise".
            SealError: A stored payload was tampered with, or its key is gone.
        """
        return run(
            self._verbs.search(
                query,
                namespace,
                limit=limit,
                filter=filter,
                legs=legs,
                rerank=rerank,
                per_document=per_document,
                neighbours=neighbours,
                vector=vector,
                duplicates=duplicates,
            )
        )

    def context(
        self,
        query: str,
        namespace: ids.NamespacesLike,
        *,
        max_tokens: int = 1000,
        limit: int = 20,
        filter: Filter | None = None,
        neighbours: int = 0,
        encoding: str = DEFAULT_ENCODING,
        vector: Numbers | None = None,
    ) -> Context:
        """The memories that answer a query as text for a prompt, within a token budget, with citations.

        Args:
            query: A question, or words.
            namespace: Where to look; a list looks in several at once.
            max_tokens: Never exceeded.
            limit: Hits to pack at most.
            filter: See ``memory_plugin.filters``.
            neighbours: Chunks of the same document to bring along on each side of a hit.
            encoding: The tiktoken encoding to count with.
            vector: See ``search``.

        Raises:
            InvalidInputError: ``max_tokens`` is not positive, or as ``search``.
        """
        return run(
            self._verbs.context(
                query,
                namespace,
                max_tokens=max_tokens,
                limit=limit,
                filter=filter,
                neighbours=neighbours,
                encoding=encoding,
                vector=vector,
            )
        )

    def get(self, id: PointId, namespace: ids.NamespaceLike) -> Record:
        """One memory by its id.

        Raises:
            MemoryNotFoundError: None of that id in that namespace.
        """
        return run(self._verbs.get(id, namespace))

    def get_sources(self, sources: Sequence[str], namespace: ids.NamespaceLike) -> dict[str, tuple[Record, ...]]:
        """What is kept under the names that documents and messages were given; those that are not there are left out.

        One request, whatever the size of the store.  Of a document that is being replaced: all of the old one, or all
        of the new one.

        Args:
            sources: Names: a ``Document``'s ``source``, a ``Message``'s ``id``.
            namespace: Where exactly: not in those below it.

        Returns:
            By name: its chunks in order, its value last.

        Raises:
            InvalidInputError: The names are no list of texts.
            SealError: A stored payload was tampered with, or its key is gone.
        """
        return run(self._verbs.get_sources(sources, namespace))

    def list(
        self,
        namespace: ids.NamespaceLike,
        *,
        filter: Filter | None = None,
        limit: int = 100,
        after: str | None = None,
        newest_first: bool = False,
    ) -> Page:
        """A page of memories in time order.

        Args:
            namespace: Whose.
            filter: See ``memory_plugin.filters``.
            limit: Memories a page.
            after: ``next`` of the page before.
            newest_first: The other direction.

        Raises:
            InvalidInputError: ``after`` is not from such a listing.
        """
        return run(self._verbs.list(namespace, filter=filter, limit=limit, after=after, newest_first=newest_first))

    def count(self, namespace: ids.NamespaceLike, *, filter: Filter | None = None) -> int:
        """How many memories (chunks) there are, exactly."""
        return run(self._verbs.count(namespace, filter=filter))

    def facet(
        self,
        field: str,
        namespace: ids.NamespaceLike,
        *,
        filter: Filter | None = None,
        limit: int = 100,
    ) -> dict[Scalar, int]:
        """How many memories have each value of a metadata field, most frequent first, exactly.

        A field declared ``filterable`` is counted inside Qdrant; another by opening every memory.  None
        counts where a field of the record's own, such as ``$name``, is not set.
        """
        return run(self._verbs.facet(field, namespace, filter=filter, limit=limit))

    def close(self) -> None:
        """Let go of the store; twice is no error."""
        run(self._verbs.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
