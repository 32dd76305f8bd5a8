"""The cross-encoder that ships with the package: int8, on the CPU, without a network.

Importing this module costs nothing: the model is read on the first call, once a process.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import InvalidInputError, RerankError, translate
from memory_plugin.models import runtime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

NAME = "local:cross-encoder"
PAIR_PIECES = 256
"""Word pieces of a pair, its three special ones included."""
QUERY_PIECES = 64
"""Those of the query, [CLS] and [SEP] included."""
SHA256 = "6cf19ca1b9e4760aea205b53f70b2d348ae8c7ff7f60b52b278d808a3261e54f"
"""Of the weights."""
DIRECTORY = Path(runtime.__file__).parent / "cross_encoder"

_CHARACTERS = 32 * PAIR_PIECES

Pair = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Vocabulary ids and segment numbers of "[CLS] query [SEP] passage [SEP]", shape (1, pieces) each."""


class LocalReranker:
    """Scores (query, passage) pairs with the shipped cross-encoder.

    A MiniLM of 6 layers that reads both texts together; its score is a late interaction of their word pieces in
    that common context (see scripts/cross_encoder/model.py).  Scores have no fixed range: compare them within one
    query only, and blend them after standardising.

    A pair is cut to 256 word pieces: the query to 64 (special pieces included), the passage to the rest.  Each pair
    is a run of its own, so a passage's score depends on nothing but the query and itself, bit for bit.

    Blend it with the stage before it, at about half the weight, rather than let it decide alone: it gains most on
    prose and conversations, and is far worse than words at telling identifiers apart.  20 passages of 60 word pieces
    take some 0.12 s of one core, of 175 pieces 0.37 s.

    The model is read on the first call, once a process.  An instance may be used from several threads.

    Args:
        workers: Pairs to score at a time, a core each.  Default: 2, or 1 where there is one core.

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
        """Its name and the beginning of the weights' SHA-256."""
        return f"{NAME}@{SHA256[:16]}"

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        """One score a text, in input order; higher is better.

        Raises:
            InvalidInputError: The query or a text is not valid Unicode (it holds a lone surrogate).
            RerankError: The model file is missing or damaged, or the runtime failed.
        """
        _require_unicode("the query", query)
        for number, text in enumerate(texts):
            _require_unicode(f"text {number}", text)
        if not texts:
            return []
        with translate(RerankError, provider=NAME):
            model = _load()
            pairs = model.pairs(query, texts)
            if self._workers == 1 or len(pairs) == 1:
                return [model.score(pair) for pair in pairs]
            # A pool a call costs 0.1 ms, and leaves no threads that a fork would lose.
            with ThreadPoolExecutor(min(self._workers, len(pairs)), thread_name_prefix="rerank") as pool:
                return list(pool.map(model.score, pairs))

    def __repr__(self) -> str:
        return f"LocalReranker(model={self.model!r}, workers={self._workers})"


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """A loaded model; safe to use from several threads."""

    session: InferenceSession
    tokenizer: Tokenizer

    def pairs(self, query: str, texts: Sequence[str]) -> list[Pair]:
        """Word pieces of the query with each text, cut to what the model reads."""
        first = [runtime.CLS, *self._pieces(query)[: QUERY_PIECES - 2], runtime.SEP]
        room = PAIR_PIECES - len(first) - 1
        pairs = []
        for text in texts:
            ids = np.array([[*first, *self._pieces(text)[:room], runtime.SEP]], np.int64)
            types = np.zeros_like(ids)
            types[:, len(first) :] = 1
            pairs.append((ids, types))
        return pairs

    def _pieces(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text[:_CHARACTERS], add_special_tokens=False).ids
        return ids

    def score(self, pair: Pair) -> float:
        ids, types = pair
        (scores,) = self.session.run(["score"], {"input_ids": ids, "token_type_ids": types})
        return float(scores[0])


class _Process:
    """What this process has loaded.  A forked child starts anew: a lock or a session may have been in use."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def forget(self) -> None:
        self.__dict__.clear()
        self.lock = threading.Lock()

    @cached_property
    def model(self) -> _Model:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        weights = _read(DIRECTORY / "model.onnx", SHA256)
        session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        # The tokenizer of the shipped embedder: the same vocabulary, and control words such as [SEP] are plain text.
        vocabulary = _read(runtime.DIRECTORY / "tokenizer.json", runtime.SHA256["tokenizer.json"])
        return _Model(session, Tokenizer.from_str(vocabulary.decode()))


def _load() -> _Model:
    """The model of this process; the only place that knows how it is read."""
    with _process.lock:
        return _process.model


def _read(path: Path, sha256: str) -> bytes:
    """A model file, checked: the bytes that were hashed are the bytes that are used."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RerankError(
            f"cannot read {path} ({error.strerror}): reinstall memory-plugin, or search without this reranker",
            provider=NAME,
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise RerankError(
            f"{path} is not the file that this version was made with (SHA-256 differs): reinstall memory-plugin",
            provider=NAME,
        )
    return data


def _require_unicode(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} holds a lone surrogate at {error.start}: decode it properly, or replace it"
        ) from error


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget)
