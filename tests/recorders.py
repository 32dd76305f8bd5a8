"""Models that work elsewhere, as far as the store knows, and write down every text that they are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from memory_plugin.types import Embeddings, InputType, Matrix, TokenVectors
from tests.wordpiece import pieces


class RemoteEmbedder(HashEmbedder):
    """An embedder with a tokenizer of its own; nothing of it may see a text that is not to leave the machine."""

    leaves_machine = True

    def __init__(self, dimension: int = 64, revision: str = "remote") -> None:
        super().__init__(dimension, revision)
        self.counted: list[str] = []
        self.tokenizer: Any = pieces().tokenizer

    def count(self, text: str, /) -> int:
        """As another process would."""
        self.counted.append(text)
        return pieces().count(text)

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """One vector a text."""
        assert texts, "a call with nothing in it"
        return super().embed(texts, input_type=input_type)

    def saw(self, word: str) -> bool:
        """Whether any text held the word."""
        return any(word in text for text in (*self.texts, *self.counted))


class RemoteReranker(OverlapReranker):
    """A reranker elsewhere."""

    leaves_machine = True

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.texts: list[str] = []

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        """One score a text."""
        assert texts, "a call with nothing in it"
        self.queries.append(query)
        self.texts.extend(texts)
        return super().rerank(query, texts)


class WordLate:
    """Late interaction by hashed words: how many of the query's a passage has."""

    model = "testing:late"
    encoder = "testing:late"

    def __init__(self, *, leaves_machine: bool) -> None:
        self.leaves_machine = leaves_machine
        self.texts: list[str] = []
        self.packed: list[bytes] = []

    def tokens(self, texts: Sequence[str], /) -> tuple[TokenVectors, ...]:
        """A token a word."""
        assert all(texts), "an empty text"
        self.texts.extend(texts)
        return tuple(map(self._of, texts))

    @staticmethod
    def _of(text: str) -> TokenVectors:
        ids = np.array([sum(map(ord, word)) % 65536 for word in text.lower().split()], np.uint32)
        vectors: Matrix = np.ones((len(ids), 1), np.float32)
        return TokenVectors(ids, vectors)

    def pack(self, tokens: TokenVectors, /) -> bytes:
        """The ids."""
        self.packed.append(tokens.ids.tobytes())
        return self.packed[-1]

    def score(self, query: TokenVectors, passages: Sequence[bytes], /) -> Any:
        """How many words both have."""
        wanted = set(query.ids.tolist())
        return np.array([len(wanted & set(np.frombuffer(one, np.uint32).tolist())) for one in passages], np.float32)
