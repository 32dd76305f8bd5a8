"""Shorter vectors of a model: the first numbers of each, of unit length again (Matryoshka, arXiv:2205.13147).

It works for models that were trained for it, which put what matters first.  Of another model it keeps an arbitrary
part: that is refused unless forced.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memory_plugin.errors import ConfigurationError
from memory_plugin.protocols import Embedder, Maybe
from memory_plugin.types import Embeddings, InputType, Matrix, ModelIdentity


@dataclass(frozen=True, slots=True)
class Family:
    """Models that were trained to be shortened.

    Args:
        name: Matches the end of a model's name, an organisation before it and a tag after it aside.
        least: The shortest that they were trained for.
        centred: Whether each vector's mean is taken away before it is cut, as in a layer norm.
    """

    name: str
    least: int
    centred: bool = False


# Sources, read on 2026-11-21.  openai: openai.com/index/new-embedding-models-and-api-updates (large to 256) and
# supabase.com/blog/matryoshka-embeddings.  cohere: docs.cohere.com/docs/cohere-embed; v3 cannot.  voyage:
# docs.voyageai.com/docs/embeddings; voyage-3, -lite and the older ones cannot.  nomic: nomic.ai/blog/posts/
# nomic-embed-matryoshka and the model card, whose layer norm comes before the cut; v2: ollama.com/library/
# nomic-embed-text-v2-moe.  jina: arXiv:2409.10173 (v3), qdrant.tech/documentation/embeddings/jina-embeddings (v4,
# clip-v2), jina.ai/models (v5).  mixedbread: mixedbread.com/docs/embeddings.  snowflake and alibaba: model cards.
# qwen: ollama.com/library/qwen3-embedding.  google: ai.google.dev/gemini-api/docs/embeddings.
# Not here on purpose: zembed-1, whose shorter vectors are learned projections and not the first numbers.
FAMILIES: tuple[Family, ...] = (
    Family(r"text-embedding-3-(small|large)", 256),
    Family(r"embed-v4(\.0)?", 256),
    Family(r"voyage-(3-large|3\.5|3\.5-lite|code-3|4|4-lite|4-large|4-nano|context-3)", 256),
    Family(r"nomic-embed-text([-:]v1\.5)?", 64, centred=True),
    Family(r"nomic-embed-text-v2-moe", 256),
    Family(r"jina-embeddings-(v3|v5-[a-z-]+)", 32),
    Family(r"jina-embeddings-v4", 128),
    Family(r"jina-clip-v2", 64),
    Family(r"mxbai-embed-(large|2d-large)(-v1)?", 64),
    Family(r"snowflake-arctic-embed-(m-v1\.5|[ml]-v2\.0)|snowflake-arctic-embed2", 256),
    Family(r"gte-multilingual-base", 128),
    Family(r"qwen3-embedding(-[0-9.]+b)?", 32),
    Family(r"gemini-embedding-\d+", 128),
    Family(r"embeddinggemma(-300m)?", 128),
    Family(r".*(matryoshka|[-_]mrl([-_].*)?)", 1),
)
_TAG = r"(:[\w.-]+)?"


def family(model: str) -> Family | None:
    """Which of the models trained for it a model is; None for all others.

    Args:
        model: Its name, with or without an organisation before it: "nomic-ai/nomic-embed-text-v1.5".
    """
    name = model.lower().rsplit("/", 1)[-1]
    return next((one for one in FAMILIES if re.fullmatch(f"(?:{one.name}){_TAG}", name)), None)


class Truncated:
    """An embedder with shorter vectors, and in everything else as it is.

    Which models may be shortened is known from ``FAMILIES``, or an embedder says it itself: ``matryoshka = True``, or
    the dimensions that its model was trained for.  Token vectors, for late interaction, stay whole.

    Args:
        inner: The embedder.
        dimension: How many numbers of each vector to keep.
        force: Shorten a model that was not trained for it, or below what it was trained for.

    Raises:
        ConfigurationError: The dimension is no whole number from 1 to the model's own, or the model was not trained
            for it.
    """

    def __init__(self, inner: Embedder, dimension: int, *, force: bool = False) -> None:
        full = inner.identity
        if isinstance(dimension, bool) or not isinstance(dimension, int) or not 1 <= dimension <= full.dimension:
            raise ConfigurationError(
                f"dimension is a whole number from 1 to {full.dimension}, the length of vectors of {_name(full)}, "
                f"not {dimension!r:.40}"
            )
        if not force and dimension < full.dimension:
            _require_trained(inner, dimension)
        found = family(full.model)
        self._inner = inner
        self._dimension = dimension
        self._centred = found is not None and found.centred and dimension < full.dimension

    def __repr__(self) -> str:
        return f"Truncated({self._inner!r}, {self._dimension})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # a copy in the making has no inner one yet
            raise AttributeError(name)
        found = getattr(self._inner, name)
        if name == "embed_images":  # an image lies where the texts lie
            return lambda images, /: self._cut(found(images))
        return found

    @property
    def uncached(self) -> Embedder:
        """The same over what is inside a cache, where the inner one is a cache."""
        found = getattr(self._inner, "uncached", None)
        return self if found is None else Truncated(found, self._dimension, force=True)

    @property
    def identity(self) -> ModelIdentity:
        """The model's, with the smaller dimension."""
        return replace(self._inner.identity, dimension=self._dimension, normalized=True)

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Maybe[Embeddings]:
        """The inner one's vectors, cut and of unit length, shape (n, dimension).

        Raises:
            MemoryPluginError: As the inner one.
        """
        return self._cut(self._inner.embed(texts, input_type=input_type))

    def _cut(self, made: Any) -> Maybe[Embeddings]:
        return self._awaited(made) if inspect.isawaitable(made) else self._shortened(made)

    async def _awaited(self, made: Awaitable[Any]) -> Embeddings:
        return self._shortened(await made)

    def _shortened(self, made: Embeddings | Sequence[Sequence[float]]) -> Embeddings:
        found = made if isinstance(made, Embeddings) else Embeddings(np.asarray(made, dtype=np.float32))
        return replace(found, vectors=shortened(found.vectors, self._dimension, centred=self._centred))


def shortened(vectors: Matrix, dimension: int, *, centred: bool = False) -> Matrix:
    """The first numbers of each vector, of unit length; a vector of which nothing is left stays zero.

    Args:
        vectors: Shape (n, at least dimension).
        dimension: How many to keep.
        centred: Take each vector's mean away first.

    Returns:
        Shape (n, dimension), float32.
    """
    full = np.asarray(vectors, dtype=np.float64)
    if centred:
        full = full - full.mean(axis=1, keepdims=True)
    kept = full[:, :dimension]
    norms = np.linalg.norm(kept, axis=1, keepdims=True)
    return np.asarray(np.divide(kept, norms, out=np.zeros_like(kept), where=norms > 0), dtype=np.float32)


def _require_trained(inner: Embedder, dimension: int) -> None:
    """Refuse a model that was not trained to be shortened so far.

    Raises:
        ConfigurationError: It says what would do.
    """
    name = _name(inner.identity)
    said = getattr(inner, "matryoshka", None)
    if said is True:
        return
    if said:
        if dimension not in said:
            known = ", ".join(map(str, sorted(said)))
            raise ConfigurationError(f"{name} was trained for the dimensions {known}, not {dimension}")
        return
    found = family(inner.identity.model) if said is None else None
    if found is None:
        raise ConfigurationError(
            f"{name} is not known to be trained for shorter vectors: the first {dimension} of its "
            f"{inner.identity.dimension} numbers are an arbitrary part. Choose another model or dimension; "
            "force=True (in a name: &force=true) shortens it all the same, and `memory-plugin eval` shows what is lost"
        )
    if dimension < found.least:
        raise ConfigurationError(
            f"{name} was trained for {found.least} dimensions and more, not {dimension}; force=True shortens it all "
            "the same"
        )


def _name(identity: ModelIdentity) -> str:
    return f"{identity.provider}:{identity.model}"
