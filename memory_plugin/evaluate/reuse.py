"""Each text embedded once a model, however many candidates share it.

Vectors and packed token vectors stay in memory: 2 KB a passage at 384 dimensions, and 50 bytes a word piece.
Nothing is written: the texts may be somebody's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np

from memory_plugin.protocols import Embedder, LateInteraction
from memory_plugin.types import Embeddings, InputType, ModelIdentity, TokenVectors, Vector

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A passage's token vectors, already packed: where the engine only hands them on."""

    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Query:
    embeddings: Embeddings
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Passage:
    vector: Vector
    packed: Packed | None
    terms: Mapping[str, float] | None


def _all(values: Sequence[T | None]) -> tuple[T, ...] | None:
    """The values, where none is missing."""
    found = tuple(one for one in values if one is not None)
    return found if len(found) == len(values) else None


class Once:
    """An embedder that embeds no text twice and tells what it took.

    Args:
        inner: The embedder.
        late: What packs its token vectors; None: none are kept.
        keep: Whether the documents' vectors are kept; queries' always are.

    Attributes:
        texts: Documents embedded.
        seconds: Spent on them.
        saved: Seconds that the last query took when it was embedded, where it was not embedded again.
    """

    def __init__(self, inner: Embedder, late: LateInteraction | None, *, keep: bool) -> None:
        self._inner = inner
        self._late = late
        self._keep = keep
        self._documents: dict[str, _Passage] = {}
        self._queries: dict[str, _Query] = {}
        self.texts = 0
        self.seconds = 0.0
        self.saved = 0.0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    @property
    def identity(self) -> ModelIdentity:
        """The embedder's."""
        return self._inner.identity

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """As the embedder does, the first time."""
        return self._query(texts) if input_type == "query" else self._passages(texts)

    def _query(self, texts: Sequence[str]) -> Embeddings:
        if len(texts) != 1:
            return self._embedded(texts, "query")
        known = self._queries.get(texts[0])
        self.saved = known.seconds if known is not None else 0.0
        if known is None:
            start = time.perf_counter()
            made = self._embedded(texts, "query")
            known = self._queries[texts[0]] = _Query(made, time.perf_counter() - start)
        return known.embeddings

    def _passages(self, texts: Sequence[str]) -> Embeddings:
        missing = list(dict.fromkeys(text for text in texts if text not in self._documents))
        made = None
        if missing:
            start = time.perf_counter()
            made = self._embedded(missing, "document")
            self.texts += len(missing)
            self.seconds += time.perf_counter() - start
        if not self._keep:
            assert made is not None  # nothing is ever known
            return made if len(missing) == len(texts) else self._embedded(texts, "document")
        if made is not None:
            self._remember(missing, made)
        found = [self._documents[text] for text in texts]
        vectors = np.array([one.vector for one in found], dtype=np.float32)
        # Nothing but Repacking.pack below sees the tokens.
        tokens = cast("list[TokenVectors | None]", [one.packed for one in found])
        terms = [one.terms for one in found]
        return Embeddings(vectors, _all(tokens), terms=_all(terms))

    def _remember(self, texts: Sequence[str], made: Embeddings) -> None:
        vectors = np.asarray(made.vectors, dtype=np.float32)
        for place, text in enumerate(texts):
            packed = None
            if self._late is not None and made.tokens is not None:
                packed = Packed(self._late.pack(made.tokens[place]))
            self._documents[text] = _Passage(vectors[place], packed, made.terms[place] if made.terms else None)

    def _embedded(self, texts: Sequence[str], input_type: InputType) -> Embeddings:
        made: Any = self._inner.embed(texts, input_type=input_type)
        return made if isinstance(made, Embeddings) else Embeddings(np.asarray(made, dtype=np.float32))


class Repacking:
    """Late interaction that takes packed token vectors as they are, and makes those of a passage once.

    Args:
        inner: The late interaction.

    Attributes:
        adding: Whether what is asked for are passages to be packed.
    """

    def __init__(self, inner: LateInteraction) -> None:
        self._inner = inner
        self._packed: dict[str, Packed] = {}
        self.adding = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def pack(self, tokens: TokenVectors | Packed, /) -> bytes:
        """A passage's tokens as bytes."""
        return tokens.data if isinstance(tokens, Packed) else self._inner.pack(tokens)

    def tokens(self, texts: Sequence[str], /) -> tuple[Any, ...]:
        """Token vectors of texts, those of passages packed."""
        if not self.adding:
            return self._inner.tokens(texts)
        missing = list(dict.fromkeys(text for text in texts if text not in self._packed))
        for text, made in zip(missing, self._inner.tokens(missing) if missing else (), strict=True):
            self._packed[text] = Packed(self._inner.pack(made))
        return tuple(self._packed[text] for text in texts)
