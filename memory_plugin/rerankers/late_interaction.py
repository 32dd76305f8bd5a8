"""Late interaction: each word of the query looks for its best match in the passage.

A passage's token vectors are kept as one bit a dimension, 48 bytes a token, and two bytes for the word piece:

    packed: version 1 (1 byte) ‖ tokens n (uint16, little-endian) ‖ n ids (uint16) ‖ n × 48 bytes of sign bits

Score of passage d for query q, t over q's tokens and u over d's:

    Σ_t w_t · max_u (q_t − m) · sign(d_u − m) / √384        w_t ∝ √(idf_candidates(t) · idf_shipped(t)), Σ_t w_t = 1

It is the MaxSim of Khattab and Zaharia (ColBERT, arXiv:2004.12832) with the passages' vectors reduced to signs around
the shipped mean m, and with weights: a query word counts by how rare it is among the candidates and in general,
idf(t) = ln(1 + (N − df + 0.5) / (df + 0.5)) as in BM25.  So there is no state to keep for a corpus.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import InvalidInputError, RerankError, translate
from memory_plugin.models import runtime
from memory_plugin.types import Matrix, TokenVectors

VERSION = 1
_HEADER = struct.Struct("<BH")
_BITS = runtime.DIMENSION // 8
_TOKEN = 2 + _BITS
_MOST = 2**16 - 1
_BYTES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1


class MaxSim:
    """IDF-weighted MaxSim over the shipped model's token vectors.

    A query of 12 word pieces takes some 1.5 ms against 100 passages of 27, and 5 ms against 100 of 150.
    Safe to use from several threads.

    Args:
        workers: Texts that ``tokens`` runs at a time, a core each.  Default: 2, or 1 where there is one core.

    Raises:
        InvalidInputError: ``workers`` is not positive.
    """

    leaves_machine = False

    def __init__(self, *, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise InvalidInputError(f"workers must be at least 1, not {workers}")
        self._workers = workers or runtime.default_workers()

    @property
    def model(self) -> str:
        """The format, the model, and the beginnings of the hashes of its weights and of the mean."""
        statistics = runtime.SHA256["statistics.npz"][:8]
        return f"maxsim-{VERSION}:{runtime.NAME}@{runtime.REVISION}+{statistics}"

    @property
    def encoder(self) -> str:
        """Which model's token vectors it scores."""
        return runtime.ENCODER

    def pack(self, tokens: TokenVectors, /) -> bytes:
        """A passage's tokens in 3 + 50 n bytes.

        Args:
            tokens: 1 to 65,535 of them, of the model that ``model`` names.

        Raises:
            InvalidInputError: They are none, too many, of another shape, or not finite.
            ConfigurationError: A model file is missing or damaged.
        """
        _check(tokens)
        count = len(tokens.ids)
        if not 1 <= count <= _MOST:
            raise InvalidInputError(f"a passage must have 1 to {_MOST} tokens, not {count}")
        signs = np.packbits(tokens.vectors > runtime.statistics().mean, axis=1)
        return _HEADER.pack(VERSION, count) + tokens.ids.astype("<u2").tobytes() + signs.tobytes()

    def tokens(self, texts: Sequence[str], /) -> tuple[TokenVectors, ...]:
        """Token vectors of texts of any length, [CLS] and [SEP] included; ``score`` ignores those of a query.

        A text that is longer than the model's window is read window by window.

        Raises:
            InvalidInputError: A text holds a lone surrogate.
            ConfigurationError: A model file is missing or damaged.
            RerankError: onnxruntime or the tokenizer failed.
        """
        with translate(RerankError, provider=self.model):
            model = runtime.load()
            windows = [runtime.windows(model.pieces(text)) for text in texts]
            parts = iter(model.encode_all([part for text in windows for part in text], workers=self._workers))
        return tuple(_join([next(parts).tokens for _ in text]) for text in windows)

    def score(self, query: TokenVectors, passages: Sequence[bytes], /) -> NDArray[np.float32]:
        """One score a passage, shape (n,), about −1 to 1; comparable within one call, since weights depend on it.

        Args:
            query: Its tokens; [CLS] and [SEP] are ignored.  All scores are 0 when there are no others.
            passages: What ``pack`` returned, all candidates of the query together.

        Raises:
            InvalidInputError: A passage is not what ``pack`` returns, or the query's tokens have another shape,
                an id outside the vocabulary, or are not finite.
            ConfigurationError: A model file is missing or damaged.
        """
        _check(query)
        words = (query.ids != runtime.CLS) & (query.ids != runtime.SEP)
        ids, vectors = query.ids[words], query.vectors[words]
        if len(ids) and ids.max() >= runtime.VOCABULARY:
            raise InvalidInputError(f"the query has a word piece {ids.max()}, past the vocabulary's end")
        counts = [_count(passage, position) for position, passage in enumerate(passages)]
        if not len(ids) or not counts:
            return np.zeros(len(counts), np.float32)
        starts = np.cumsum([0, *counts[:-1]])
        statistics = runtime.statistics()
        weights = np.sqrt(_candidate_idf(ids, passages, counts, starts) * statistics.idf[ids])
        cosines = _cosines(vectors - statistics.mean, _signs(passages, counts))
        best = np.maximum.reduceat(cosines, starts, axis=0)
        return np.asarray((best * (weights / weights.sum())).sum(axis=1), np.float32)


def _check(tokens: TokenVectors) -> None:
    if tokens.ids.ndim != 1 or tokens.vectors.shape != (len(tokens.ids), runtime.DIMENSION):
        raise InvalidInputError(
            f"token vectors must have the shape (tokens, {runtime.DIMENSION}) and an id each, not the shapes"
            f" {tokens.vectors.shape} and {tokens.ids.shape}"
        )
    if not np.isfinite(tokens.vectors).all():
        raise InvalidInputError("a token vector is not finite")


def _count(passage: bytes, position: int) -> int:
    """How many tokens a packed passage has, once its size has been checked."""
    if len(passage) >= _HEADER.size:
        version, count = _HEADER.unpack_from(passage)
        if version == VERSION and count > 0 and len(passage) == _HEADER.size + count * _TOKEN:
            return int(count)
    raise InvalidInputError(f"passages[{position}] ({len(passage)} bytes) is not what MaxSim {VERSION} packs")


def _join(parts: Sequence[TokenVectors]) -> TokenVectors:
    """The tokens of a text's windows, in order."""
    if len(parts) == 1:
        return parts[0]
    return TokenVectors(np.concatenate([p.ids for p in parts]), np.concatenate([p.vectors for p in parts]))


def _candidate_idf(
    ids: NDArray[np.uint16], passages: Sequence[bytes], counts: Sequence[int], starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How rare each of the query's word pieces is among the passages, shape (query tokens,)."""
    spans = [passage[_HEADER.size : _HEADER.size + 2 * count] for passage, count in zip(passages, counts, strict=True)]
    found = np.frombuffer(b"".join(spans), "<u2") == ids[:, None]
    frequency = np.logical_or.reduceat(found, starts, axis=1).sum(axis=1)
    idf: NDArray[np.float64] = np.log1p((len(passages) - frequency + 0.5) / (frequency + 0.5))
    return idf


def _signs(passages: Sequence[bytes], counts: Sequence[int]) -> NDArray[np.uint8]:
    """The sign bits of all passages' tokens, shape (all tokens, 48)."""
    spans = [passage[_HEADER.size + 2 * count :] for passage, count in zip(passages, counts, strict=True)]
    return np.frombuffer(b"".join(spans), np.uint8).reshape(-1, _BITS)


def _cosines(query: Matrix, signs: NDArray[np.uint8]) -> Matrix:
    """Products q · s / √384 of every pair, shape (passage tokens, query tokens), where s is ±1.

    By table: for each of the 48 bytes of a token, what each of its 256 values adds.  Half the time of unpacking the
    bits for a matrix product, and none of the threads that BLAS would start for one.
    """
    scaled = query.reshape(len(query), _BITS, 8) / np.float32(np.sqrt(runtime.DIMENSION))
    tables = np.einsum("tjk,bk->jbt", scaled, _BYTES)
    cosines = np.zeros((len(signs), len(query)), np.float32)
    part = np.empty_like(cosines)
    for table, values in zip(tables, np.ascontiguousarray(signs.T), strict=True):
        np.take(table, values, axis=0, out=part, mode="clip")  # "raise" would copy; a byte is never past 255
        cosines += part
    return cosines
