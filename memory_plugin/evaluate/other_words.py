"""Other words for a word, out of a data subject's own: no list of synonyms, no language model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from memory_plugin import registry
from memory_plugin.assembly import LOCAL
from memory_plugin.lexical import STOP_WORDS, terms, words
from memory_plugin.protocols import Embedder
from memory_plugin.types import Embeddings, Matrix, Record, Vector

VOCABULARY = 3000
"""Words of a data subject that are looked at, the most frequent ones."""
NEAR = 0.5
LOOKED_AT = 15
SHARED_LETTERS = 4


class OtherWords:
    """Another word of the same data subject's memories for a word: near it for the model, and of another stem.

    Each subject has its own words only, so that no question about one holds a word of another's memories.

    Args:
        records: All memories.
        embedder: What says which words are near; the local model unless given.
    """

    def __init__(self, records: Iterable[Record], embedder: Embedder | None = None) -> None:
        self._embedder = embedder or registry.embedder(LOCAL)
        self._vectors: dict[str, Vector] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._known: dict[str, tuple[list[str], dict[str, int], Matrix]] = {}
        for record in records:
            counts = self._counts.setdefault(record.namespace[0], Counter())
            counts.update({word for word in words(record.text) if word.isalpha() and word.islower() and len(word) > 2})

    def __call__(self, subject: str, word: str) -> str | None:
        """Another word for it, or None where there is none."""
        vocabulary, places, matrix = self._subject(subject)
        if word not in places:
            return None
        near = matrix @ matrix[places[word]]
        best = np.argsort(-near, kind="stable")[1 : LOOKED_AT + 1]
        others = (vocabulary[place] for place in best if near[place] >= NEAR)
        return next((other for other in others if not _alike(word, other)), None)

    def _subject(self, subject: str) -> tuple[list[str], dict[str, int], Matrix]:
        """The subject's words, where each is, and their vectors."""
        if subject not in self._known:
            # In this order whatever that of the memories: words of one frequency by the alphabet.
            often = sorted(self._counts.get(subject, Counter()).items(), key=lambda item: (-item[1], item[0]))
            found = [word for word, times in often if times > 1 and word not in STOP_WORDS][:VOCABULARY]
            self._embed([word for word in found if word not in self._vectors])
            rows = [self._vectors[word] for word in found]
            matrix = np.array(rows, dtype=np.float32) if rows else np.empty((0, 1), np.float32)
            self._known[subject] = found, {word: place for place, word in enumerate(found)}, matrix
        return self._known[subject]

    def _embed(self, missing: Sequence[str]) -> None:
        if missing:
            made = self._embedder.embed(missing, input_type="document")
            assert isinstance(made, Embeddings)
            self._vectors.update(zip(missing, made.vectors, strict=True))


def _alike(word: str, other: str) -> bool:
    """Whether a lexical index, or a reader, would take them for one word."""
    return bool(
        set(terms(word)) & set(terms(other))
        or word in other
        or other in word
        or word[:SHARED_LETTERS] == other[:SHARED_LETTERS]
    )
