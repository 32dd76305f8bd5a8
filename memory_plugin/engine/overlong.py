"""Passages for a model that they were not cut for.

Passages are cut by the tokenizer of the model that a store was made with.  Another one may see more word pieces in the
same text than it reads: then the passage is embedded in parts, and its vector is their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from memory_plugin import registry
from memory_plugin.chunk import Pieces, chunk_document
from memory_plugin.engine.core import Engine, Model
from memory_plugin.types import Embeddings


async def embed_passages(engine: Engine, model: Model, texts: Sequence[str]) -> Embeddings:
    """Unit vectors of passages as documents, one a text, also of those that are too long for the model.

    Raises:
        EmbeddingError: The embedder failed.
    """
    window, pieces = getattr(model.embedder, "max_tokens", None), registry.pieces(model.embedder)
    if not isinstance(window, int) or pieces is not cast("object", model.embedder):  # its limit is its own affair
        return await engine.embed(model, texts, input_type="document")
    parts = await engine.io.call(_parts, pieces, texts, window)
    if all(len(one) == 1 for one in parts):
        return await engine.embed(model, texts, input_type="document")
    made = await engine.embed(model, [part for one in parts for part in one], input_type="document")
    return await engine.io.call(_pooled, made, [len(one) for one in parts])


def _parts(pieces: Pieces, texts: Sequence[str], window: int) -> list[list[str]]:
    return [
        [text]
        if pieces.count(text) <= window
        else [chunk.passage for chunk in chunk_document(text, pieces, max_tokens=window, markdown=False)]
        for text in texts
    ]


def _pooled(made: Embeddings, sizes: Sequence[int]) -> Embeddings:
    """The mean of each text's parts, of unit length; a term weighs what it weighs where it weighs most."""
    ends = np.cumsum(sizes)
    spans = list(zip(ends - sizes, ends, strict=True))
    means = np.stack([made.vectors[start:end].mean(axis=0) for start, end in spans])
    lengths = np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    terms = None
    if made.terms is not None:
        terms = tuple(_heaviest(made.terms[start:end]) for start, end in spans)
    return replace(made, vectors=(means / lengths).astype(np.float32), tokens=None, terms=terms)


def _heaviest(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in parts:
        for term, weight in part.items():
            found[term] = max(weight, found.get(term, weight))
    return found
