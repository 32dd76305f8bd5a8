"""Doubles that discriminate: texts that share words are near, others are not.  For tests, not for users' data."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memory_plugin.types import Embeddings, InputType, ModelIdentity

_WORDS = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class WordTokenizer:
    """Counts words, with two more for the special tokens of a model."""

    def count(self, text: str, /) -> int:
        """Words and two."""
        return len(_WORDS.findall(text)) + 2


class HashEmbedder:
    """A bag of hashed words as a unit vector.

    Args:
        dimension: Length of a vector.
        revision: Another revision puts every word elsewhere: a different space.
    """

    leaves_machine = False

    def __init__(self, dimension: int = 64, revision: str = "1") -> None:
        self.identity = ModelIdentity("testing", "hashed-words", revision, dimension)
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """One vector a text; remembers the texts."""
        self.texts.extend(texts)
        vectors = np.zeros((len(texts), self.identity.dimension), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[0] = 1e-3  # a text without words still has a direction
            for word in _WORDS.findall(text.lower()):
                digest = hashlib.blake2b(f"{self.identity.revision}:{word}".encode(), digest_size=8).digest()
                place = int.from_bytes(digest[:4], "little") % self.identity.dimension
                row[place] += 1.0 if digest[4] & 1 else -1.0
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(vectors / norms)


class AsyncHashEmbedder(HashEmbedder):
    """The same for event loops."""

    async def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:  # type: ignore[override]
        """One vector a text."""
        return super().embed(texts, input_type=input_type)


class OverlapReranker:
    """Scores by the share of the query's words that a text holds."""

    model = "testing:overlap"
    leaves_machine = False

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        """One score a text."""
        wanted = set(_WORDS.findall(query.lower()))
        return [len(wanted & set(_WORDS.findall(text.lower()))) / max(len(wanted), 1) for text in texts]


class FailingReranker:
    """Fails."""

    model = "testing:failing"
    leaves_machine = False

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        """Raise."""
        raise TimeoutError("the reranker's service did not answer")
