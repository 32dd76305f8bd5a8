"""The embedders and rerankers of this library as LangChain's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memory_plugin import ConfigurationError, EmbeddingError, RerankError, registry
from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.langchain.documents import is_local_only
from memory_plugin.errors import translate
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.network import leaves_machine, may_see, require_local
from memory_plugin.protocols import AnyEmbedder, Embedder, Reranker
from memory_plugin.types import Embeddings as Made
from memory_plugin.types import InputType

with needs("langchain", "the LangChain models"):
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import Document
    from langchain_core.documents.compressor import BaseDocumentCompressor
    from langchain_core.embeddings import Embeddings
    from pydantic import ConfigDict, Field, PrivateAttr, SkipValidation

BATCH = 64
"""Texts that a model is given at a time."""


class MemoryEmbeddings(Embeddings):
    """An embedder of this library wherever LangChain takes embeddings.

    Args:
        embedder: An object, or a name such as "local" or "openai:text-embedding-3-small".
        allow_network: False refuses one that leaves the machine.

    Raises:
        NetworkForbiddenError: It leaves the machine, and ``allow_network`` is False.
        UnknownProviderError: None of that name.
    """

    def __init__(self, embedder: AnyEmbedder | str = "local", *, allow_network: bool = True) -> None:
        self.embedder: Embedder = (
            registry.embedder(embedder, allow_network=allow_network)
            if isinstance(embedder, str)
            else registry.adapted(embedder, allow_network=allow_network)
        )
        if not callable(getattr(self.embedder, "embed", None)):
            raise ConfigurationError(f"{type(embedder).__name__} is no embedder: pass one, or a name such as 'local'")

    @property
    def leaves_machine(self) -> bool:
        """Whether texts are sent elsewhere."""
        return leaves_machine(self.embedder)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text, in order.

        Raises:
            EmbeddingError: The embedder failed.
            InvalidInputError: A text is empty, or longer than a local model reads.
        """
        return run(self._embed(Blocking(), texts, "document"))

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query; raises as ``embed_documents``."""
        return run(self._embed(Blocking(), [text], "query"))[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """See ``embed_documents``."""
        return await self._embed(OnLoop(), texts, "document")

    async def aembed_query(self, text: str) -> list[float]:
        """See ``embed_query``."""
        return (await self._embed(OnLoop(), [text], "query"))[0]

    async def _embed(self, io: IO, texts: Sequence[str], input_type: InputType) -> list[list[float]]:
        rows: list[list[float]] = []
        with translate(EmbeddingError, provider=type(self.embedder).__name__):
            for start in range(0, len(texts), BATCH):
                batch = list(texts[start : start + BATCH])
                made = await io.call(self.embedder.embed, batch, input_type=input_type)
                rows += np.asarray(made.vectors if isinstance(made, Made) else made, np.float32).tolist()
        if len(rows) != len(texts):
            raise EmbeddingError(
                f"{type(self.embedder).__name__} returned {len(rows)} vectors for {len(texts)} texts",
                provider=type(self.embedder).__name__,
            )
        return rows


class MemoryReranker(BaseDocumentCompressor):
    """A reranker of this library behind any retriever: put it into LangChain's ``ContextualCompressionRetriever``.

    Documents come back best first, each a copy with ``metadata["relevance_score"]``: higher is better, comparable
    within one query only.  Passages of a ``MemoryRetriever`` that no model outside this machine may see are not given
    to one: they follow those that were read, without a score.

    Args:
        reranker: An object, or a name such as "local" or "cohere:rerank-v3.5".
        top_n: Documents that are returned; None: all.
        allow_network: False refuses one that leaves the machine.

    Raises:
        NetworkForbiddenError: It leaves the machine, and ``allow_network`` is False.
        UnknownProviderError: None of that name.
        RerankError: It failed.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    reranker: SkipValidation[Reranker | str] = Field(default="local", exclude=True, repr=False)
    top_n: int | None = Field(default=None, ge=1)
    allow_network: bool = True
    _made: Reranker = PrivateAttr()

    def model_post_init(self, context: object, /) -> None:
        """Make the reranker."""
        made = registry.reranker(self.reranker) if isinstance(self.reranker, str) else self.reranker
        if not self.allow_network:
            require_local(made, "reranker")
        self._made = made

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The documents, best first."""
        return run(self._ranked(Blocking(), documents, query))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """See ``compress_documents``."""
        return await self._ranked(OnLoop(), documents, query)

    async def _ranked(self, io: IO, documents: Sequence[Document], query: str) -> list[Document]:
        hidden = [one for one in documents if not may_see(self._made, local_only=is_local_only(one))]
        read = [one for one in documents if may_see(self._made, local_only=is_local_only(one))]
        scores: list[float] = []
        if read:
            with translate(RerankError, provider=self._made.model):
                made = await io.call(self._made.rerank, query, [one.page_content for one in read])
                scores = [float(score) for score in made]
        if len(scores) != len(read) or not np.isfinite(scores).all():
            raise RerankError(f"{self._made.model} did not give each text a number", provider=self._made.model)
        order = sorted(range(len(read)), key=lambda place: -scores[place])
        ranked = [_scored(read[place], scores[place]) for place in order]
        return (ranked + [one.model_copy(deep=True) for one in hidden])[: self.top_n]


def _scored(document: Document, score: float) -> Document:
    metadata = {**document.metadata, "relevance_score": score}
    return Document(document.page_content, metadata=metadata, id=document.id)
