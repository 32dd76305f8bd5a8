"""Late interaction: each word of the query looks for its best match in the passage.

A passage's token vectors are kept as one bit a dimension, beside the ids of the word pieces:

    packed: version (1 byte) ‖ tokens n (uint16, little-endian) ‖ n ids ‖ n × dimension / 8 bytes of sign bits

Version 1 has ids of 16 bits, version 2 of 32 bits: a model whose vocabulary has more than 65,536 word pieces uses 2.

Score of passage d for query q, t over q's tokens and u over d's:

    Σ_t w_t · max_u (q_t − m) · sign(d_u − m) / √dimension      w_t ∝ √(idf_candidates(t) · idf_general(t)), Σ_t w_t = 1

It is the MaxSim of Khattab and Zaharia (ColBERT, arXiv:2004.12832) with the passages' vectors reduced to signs around
a mean m, and with weights: a query word counts by how rare it is among the candidates and in general,
idf(t) = ln(1 + (N − df + 0.5) / (df + 0.5)) as in BM25.  For the shipped model, m and the general rarity are shipped.
For another model there are none: m is 0, and w_t ∝ idf_candidates(t).  So there is no state to keep for a corpus.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import InvalidInputError, RerankError, translate
from memory_plugin.models import runtime
from memory_plugin.protocols import TokenEncoder
from memory_plugin.types import Matrix, TokenVectors, Vector
from memory_plugin.vectors import joined

_HEADER = struct.Struct("<BH")
_MOST = 2**16 - 1
_BYTES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1


class MaxSim:
    """IDF-weighted MaxSim over a model's token vectors.

    With the shipped model, a query of 12 word pieces takes some 1.5 ms against 100 passages of 27, and 5 ms against
    100 of 150.  Safe to use from several threads.

    Args:
        source: Whose token vectors: an embedder that gives them.  Default: the shipped model.
        workers: Texts that the shipped model runs at a time in ``tokens``, a core each.  Default: 2, or 1 where there
            is one core.

    Raises:
        InvalidInputError: ``workers`` is not positive.
    """

    def __init__(self, source: TokenEncoder | None = None, *, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise InvalidInputError(f"workers must be at least 1, not {workers}")
        self._source: TokenEncoder = source or _Shipped(workers or runtime.default_workers())
        self._shipped = source is None

    @property
    def leaves_machine(self) -> bool:
        """Whether the source does."""
        return bool(getattr(self._source, "leaves_machine", True))

    @property
    def model(self) -> str:
        """The format and the model, with the beginnings of the hashes of its weights and of the shipped mean."""
        version = f"maxsim-{self._layout.version}:{self.encoder}"
        if self._shipped:
            return f"{version}+{runtime.SHA256['statistics.npz'][:8]}"
        return version

    @property
    def encoder(self) -> str:
        """Which model's token vectors it scores."""
        return self._source.encoder

    @cached_property
    def _layout(self) -> _Layout:
        dimension, vocabulary = self._source.token_dimension, self._source.vocabulary
        if dimension % 8 or dimension < 8:
            raise InvalidInputError(f"token vectors of {dimension} dimensions cannot be packed: it is no multiple of 8")
        return _Layout(1, "<u2", dimension // 8) if vocabulary <= 2**16 else _Layout(2, "<u4", dimension // 8)

    def pack(self, tokens: TokenVectors, /) -> bytes:
        """A passage's tokens in 3 + 50 n bytes with the shipped model.

        Args:
            tokens: 1 to 65,535 of them, of the model that ``model`` names.

        Raises:
            InvalidInputError: They are none, too many, of another shape, or not finite.
            ConfigurationError: A model file is missing or damaged.
        """
        self._check(tokens)
        count = len(tokens.ids)
        if not 1 <= count <= _MOST:
            raise InvalidInputError(f"a passage must have 1 to {_MOST} tokens, not {count}")
        signs = np.packbits(tokens.vectors > self._mean(), axis=1)
        ids = tokens.ids.astype(self._layout.ids).tobytes()
        return _HEADER.pack(self._layout.version, count) + ids + signs.tobytes()

    def tokens(self, texts: Sequence[str], /) -> tuple[TokenVectors, ...]:
        """Token vectors of texts of any length, special ones included; ``score`` ignores those of a query.

        A text that is longer than the model's window is read window by window.

        Raises:
            InvalidInputError: A text holds a lone surrogate.
            ConfigurationError: A model file is missing or damaged.
            RerankError: The model or its tokenizer failed.
        """
        with translate(RerankError, provider=self.model):
            return tuple(self._source.token_vectors(texts))

    def score(self, query: TokenVectors, passages: Sequence[bytes], /) -> NDArray[np.float32]:
        """One score a passage, shape (n,), about −1 to 1; comparable within one call, since weights depend on it.

        Args:
            query: Its tokens; special ones are ignored.  All scores are 0 when there are no others.
            passages: What ``pack`` returned, all candidates of the query together.

        Raises:
            InvalidInputError: A passage is not what ``pack`` returns, or the query's tokens have another shape,
                an id outside the vocabulary, or are not finite.
            ConfigurationError: A model file is missing or damaged.
        """
        self._check(query)
        words = ~np.isin(query.ids, list(self._source.special_tokens))
        ids, vectors = query.ids[words], query.vectors[words]
        if len(ids) and ids.max() >= self._source.vocabulary:
            raise InvalidInputError(f"the query has a word piece {ids.max()}, past the vocabulary's end")
        layout = self._layout
        counts = [_count(passage, position, layout) for position, passage in enumerate(passages)]
        if not len(ids) or not counts:
            return np.zeros(len(counts), np.float32)
        starts = np.cumsum([0, *counts[:-1]])
        weights = _candidate_idf(ids, _ids(passages, counts, layout), len(passages), starts)
        if self._shipped:
            weights = np.sqrt(weights * runtime.statistics().idf[ids])
        cosines = _cosines(vectors - self._mean(), _signs(passages, counts, layout))
        best = np.maximum.reduceat(cosines, starts, axis=0)
        return np.asarray((best * (weights / weights.sum())).sum(axis=1), np.float32)

    def _mean(self) -> Vector | np.float32:
        return runtime.statistics().mean if self._shipped else np.float32(0)

    def _check(self, tokens: TokenVectors) -> None:
        dimension = self._source.token_dimension
        if tokens.ids.ndim != 1 or tokens.vectors.shape != (len(tokens.ids), dimension):
            raise InvalidInputError(
                f"token vectors must have the shape (tokens, {dimension}) and an id each, not the shapes"
                f" {tokens.vectors.shape} and {tokens.ids.shape}"
            )
        if not np.isfinite(tokens.vectors).all():
            raise InvalidInputError("a token vector is not finite")


class _Layout(NamedTuple):
    """How a model's tokens are packed.

    Args:
        version: The first byte.
        ids: The type of an id.
        bits: Bytes of sign bits a token.
    """

    version: int
    ids: str
    bits: int

    @property
    def token(self) -> int:
        """Bytes a token."""
        return np.dtype(self.ids).itemsize + self.bits


class _Shipped:
    """The shipped model's token vectors."""

    leaves_machine = False
    encoder = runtime.ENCODER
    token_dimension = runtime.DIMENSION
    vocabulary = runtime.VOCABULARY
    special_tokens = frozenset({runtime.CLS, runtime.SEP})

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def token_vectors(self, texts: Sequence[str], /) -> tuple[TokenVectors, ...]:
        """All word pieces, window by window."""
        model = runtime.load()
        windows = [runtime.windows(model.pieces(text)) for text in texts]
        parts = iter(model.encode_all([part for text in windows for part in text], workers=self._workers))
        return tuple(joined([next(parts).tokens for _ in text]) for text in windows)


def _count(passage: bytes, position: int, layout: _Layout) -> int:
    """How many tokens a packed passage has, once its size has been checked."""
    if len(passage) >= _HEADER.size:
        version, count = _HEADER.unpack_from(passage)
        if version == layout.version and count > 0 and len(passage) == _HEADER.size + count * layout.token:
            return int(count)
    raise InvalidInputError(f"passages[{position}] ({len(passage)} bytes) is not what MaxSim {layout.version} packs")


def _candidate_idf(
    ids: NDArray[np.uint32], found: NDArray[np.uint32], passages: int, starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How rare each of the query's word pieces is among the passages, shape (query tokens,)."""
    frequency = np.logical_or.reduceat(found == ids[:, None], starts, axis=1).sum(axis=1)
    idf: NDArray[np.float64] = np.log1p((passages - frequency + 0.5) / (frequency + 0.5))
    return idf


def _ids(passages: Sequence[bytes], counts: Sequence[int], layout: _Layout) -> NDArray[np.uint32]:
    """The word pieces of all passages, shape (all tokens,)."""
    width = layout.token - layout.bits
    spans = [passage[_HEADER.size :][: width * count] for passage, count in zip(passages, counts, strict=True)]
    return np.frombuffer(b"".join(spans), layout.ids).astype(np.uint32)


def _signs(passages: Sequence[bytes], counts: Sequence[int], layout: _Layout) -> NDArray[np.uint8]:
    """The sign bits of all passages' tokens, shape (all tokens, dimension / 8)."""
    spans = [passage[len(passage) - layout.bits * count :] for passage, count in zip(passages, counts, strict=True)]
    return np.frombuffer(b"".join(spans), np.uint8).reshape(-1, layout.bits)


def _cosines(query: Matrix, signs: NDArray[np.uint8]) -> Matrix:
    """Products q · s / √dimension of every pair, shape (passage tokens, query tokens), where s is ±1.

    By table: for each byte of a token's bits, what each of its 256 values adds.  Half the time of unpacking the
    bits for a matrix product, and none of the threads that BLAS would start for one.
    """
    scaled = query.reshape(len(query), -1, 8) / np.float32(np.sqrt(query.shape[1]))
    tables = np.einsum("tjk,bk->jbt", scaled, _BYTES)
    cosines = np.zeros((len(signs), len(query)), np.float32)
    part = np.empty_like(cosines)
    for table, values in zip(tables, np.ascontiguousarray(signs.T), strict=True):
        np.take(table, values, axis=0, out=part, mode="clip")  # "raise" would copy; a byte is never past 255
        cosines += part
    return cosines
