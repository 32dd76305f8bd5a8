"""Maximal marginal relevance: what answers, and differs from what was chosen before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memory_plugin import Hit
from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.langchain.models import MemoryEmbeddings
from memory_plugin.embedders.bridges import Bridge
from memory_plugin.flow import IO
from memory_plugin.network import leaves_machine
from memory_plugin.types import Matrix, Vector

with needs("langchain", "the LangChain vector store"):
    from langchain_core.embeddings import Embeddings


def select(nearness: Vector, vectors: Matrix, *, k: int, lambda_mult: float) -> list[int]:
    """Places of the chosen, in the order in which they are chosen.

    Carbonell, Goldstein, "The use of MMR, diversity-based reranking for reordering documents and producing
    summaries", SIGIR 1998.

    Args:
        nearness: Cosine of each to the query, shape (n,).
        vectors: Of unit length, shape (n, dimension); a row of zeros is like no other.
        k: How many at most.
        lambda_mult: 1 looks at relevance alone, 0 at difference alone.
    """
    alike = vectors @ vectors.T
    # The first is the most relevant one, as there is nothing to differ from.
    repeats = np.zeros(len(nearness), np.float32)
    left = list(range(len(nearness)))
    chosen: list[int] = []
    while left and len(chosen) < k:
        weight = lambda_mult if chosen else 1.0
        best = max(left, key=lambda place: weight * nearness[place] - (1 - weight) * repeats[place])
        repeats = np.maximum(repeats, alike[best]) if chosen else alike[best]
        chosen.append(best)
        left.remove(best)
    return chosen


def cosine(hit: Hit) -> float:
    """Of the hit to the query; 0 where the dense leg did not find it."""
    dense = hit.stages.get("dense")
    return dense.score if dense is not None else 0.0


def relevance(cosine: float) -> float:
    """A cosine as LangChain wants relevance: from 0 to 1."""
    return min(max(cosine, 0.0), 1.0)


async def compared(io: IO, model: Embeddings, query: Sequence[float], hits: Sequence[Hit]) -> tuple[Vector, Matrix]:
    """Of each hit its cosine to the query and its vector; a row of zeros for one that the model may not see."""
    elsewhere = model.leaves_machine if isinstance(model, MemoryEmbeddings) else leaves_machine(Bridge(model))
    seen = [place for place, hit in enumerate(hits) if hit.text and not (elsewhere and hit.record.local_only)]
    near = _unit([list(query)])[0]
    vectors = np.zeros((len(hits), len(near)), np.float32)
    nearness = np.array([cosine(hit) for hit in hits], np.float32)
    if seen:
        vectors[seen] = _unit(await io.call(model.embed_documents, [hits[place].record.passage for place in seen]))
        nearness[seen] = vectors[seen] @ near
    return nearness, vectors


def _unit(rows: list[list[float]]) -> Matrix:
    vectors = np.asarray(rows, np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)
