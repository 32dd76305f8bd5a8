"""``MemoryEmbedding``: an embedder of ours wherever LlamaIndex takes an embedding model.

The other way round needs nothing: ``MemoryStore.open(…, embedder=an_embedding_of_llama_index)`` takes it as it is.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr

from memory_plugin import ConfigurationError, EmbeddingError, registry
from memory_plugin.errors import translate
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.protocols import Embedder
from memory_plugin.types import InputType


class MemoryEmbedding(BaseEmbedding):
    """Embeds queries as queries and texts as documents, with an embedder of ours.

    Args:
        embedder: A name, as "local" or "voyage:voyage-3.5", or an object of ours.
        embed_batch_size: Texts that LlamaIndex gives it at a time.
        **kwargs: As in ``BaseEmbedding``.

    Raises:
        UnknownProviderError: No embedder of that name.
        MissingExtraError: Its package is not installed.
    """

    by_name: bool = Field(default=False, description="Whether the name alone makes it again.")
    _embedder: Any = PrivateAttr(default=None)

    def __init__(self, embedder: Embedder | str = "local", *, embed_batch_size: int = 64, **kwargs: Any) -> None:
        made = registry.embedder(embedder) if isinstance(embedder, str) else registry.adapted(embedder)
        by_name = isinstance(embedder, str)
        name = embedder if isinstance(embedder, str) else f"{made.identity.provider}:{made.identity.model}"
        super().__init__(model_name=name, embed_batch_size=embed_batch_size, by_name=by_name, **kwargs)  # type: ignore[call-arg]
        self._embedder = made

    @classmethod
    def class_name(cls) -> str:
        """Name in what it is written as."""
        return "MemoryEmbedding"

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, embedder: Embedder | None = None, **kwargs: Any) -> MemoryEmbedding:
        """Read back what ``to_dict`` wrote.

        Args:
            data: From ``to_dict``.
            embedder: The object, where it was made of one.
            **kwargs: In place of what is in ``data``.

        Raises:
            ConfigurationError: It was made of an object, and none is given.
        """
        given = {**data, **kwargs}
        if embedder is None and not given.get("by_name"):
            raise ConfigurationError(
                f"a MemoryEmbedding of the object {str(given.get('model_name'))[:80]!r} was read back without it: "
                "MemoryEmbedding.from_dict(data, embedder=…)"
            )
        kept = {name: given[name] for name in ("embed_batch_size", "num_workers") if name in given}
        return cls(embedder or str(given["model_name"]), **kept)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.to_dict(),)

    async def _vectors(self, io: IO, texts: list[str], input_type: InputType) -> list[list[float]]:
        with translate(EmbeddingError, provider=self.model_name):
            embedded = await io.call(self._embedder.embed, texts, input_type=input_type)
            rows: list[list[float]] = embedded.vectors.tolist()
        if len(rows) != len(texts):
            what = f"{len(rows)} vectors for {len(texts)} texts"
            raise EmbeddingError(f"{self.model_name}: {what}", provider=self.model_name)
        return rows

    def _get_query_embedding(self, query: str) -> list[float]:
        return run(self._vectors(Blocking(), [query], "query"))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await self._vectors(OnLoop(), [query], "query"))[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return run(self._vectors(Blocking(), [text], "document"))[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._vectors(OnLoop(), [text], "document"))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return run(self._vectors(Blocking(), texts, "document"))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await self._vectors(OnLoop(), texts, "document")


def _again(data: dict[str, Any]) -> MemoryEmbedding:
    return MemoryEmbedding.from_dict(data)
