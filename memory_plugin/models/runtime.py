"""Runs the model that ships with the package: all-MiniLM-L6-v2, int8 ONNX, no torch, no network.

Models of the same build in directories of users' are in ``folder``.

Loaded on first use, once a process: importing this module costs nothing.  Texts are run one at a time: int8 scales
activations over the whole input, so a text's vector would otherwise depend on what it was batched with.  The same
text gives the same bits in any order and from any thread, as long as onnxruntime and the processor stay the same.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.types import TokenVectors, Vector

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer

NAME = "all-MiniLM-L6-v2"
DIMENSION = 384
WINDOW = 256
"""Word pieces the model reads at most, its two special ones included."""
VOCABULARY = 30_522
CLS, SEP = 101, 102
"""The special word pieces before and after every text."""

SHA256 = {
    "model.onnx": "dc98baaca80e6aabf3cfce11689e2804be67ae12b983a08d7b85ad14df198f82",
    "tokenizer.json": "b99bf63fe13d3adc11370ce5b2f236e33bf72ee7709b2ea0c7a926a4cd94c38c",
    "statistics.npz": "ab6ef0314c3788f044f3cf74d68ed1d55a112052ca00ed0a9f14440a5547b174",
}
REVISION = SHA256["model.onnx"][:16]
ENCODER = f"{NAME}@{REVISION}"
DIRECTORY = Path(__file__).parent / "minilm"

T = TypeVar("T")
Pieces = NDArray[np.int64]
"""Vocabulary ids of a text, from ``CLS`` to ``SEP``, shape (tokens,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """What the model makes of a text.

    Args:
        sentence: The mean over its last hidden states, of unit length, shape (384,), float32.
        tokens: Those states, one a word piece, ``CLS`` and ``SEP`` included.
    """

    sentence: Vector
    tokens: TokenVectors


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """What late interaction knows of language in general.

    Args:
        mean: The mean token vector, shape (384,), float32.
        idf: By vocabulary id, shape (30522,), float32: ``ln(1 + (N - df + 0.5) / (df + 0.5))``.
    """

    mean: Vector
    idf: NDArray[np.float32]


class MiniLM:
    """A loaded model; safe to use from several threads.

    Args:
        tokenizer: Neither pads nor truncates.
        session: Takes ``input_ids`` (1, n), gives ``sentence`` (1, 384) and ``tokens`` (n, 384).
    """

    def __init__(self, tokenizer: Tokenizer, session: InferenceSession) -> None:
        self.tokenizer = tokenizer
        self._session = session

    def pieces(self, text: str) -> Pieces:
        """The text's word pieces, however many.

        Raises:
            InvalidInputError: The text holds half of a surrogate pair, which no encoding can carry.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"the text holds a lone surrogate at offset {error.start}: clean it with"
                " text.encode('utf-8', 'replace').decode()"
            ) from error
        return np.array(self.tokenizer.encode(text).ids, dtype=np.int64)

    def encode(self, pieces: Pieces) -> Encoding:
        """Run the model on at most ``WINDOW`` word pieces."""
        sentence, tokens = self._session.run(["sentence", "tokens"], {"input_ids": pieces[None]})
        return Encoding(sentence[0], TokenVectors(pieces.astype(np.uint32), tokens))

    def sentence(self, pieces: Pieces) -> Vector:
        """As ``encode``, without the token vectors."""
        found: Vector = self._session.run(["sentence"], {"input_ids": pieces[None]})[0][0]
        return found

    def encode_all(self, texts: Sequence[Pieces], *, workers: int) -> list[Encoding]:
        """Run the model on each, ``workers`` at a time."""
        return _each(self.encode, texts, workers)

    def sentences(self, texts: Sequence[Pieces], *, workers: int) -> list[Vector]:
        """As ``encode_all``, without the token vectors."""
        return _each(self.sentence, texts, workers)


def _each(run: Callable[[Pieces], T], texts: Sequence[Pieces], workers: int) -> list[T]:
    """Several runs at a time: onnxruntime lets go of the interpreter lock meanwhile."""
    if workers == 1 or len(texts) < 2:
        return [run(pieces) for pieces in texts]
    with ThreadPoolExecutor(min(workers, len(texts)), thread_name_prefix="memory-plugin-model") as pool:
        return list(pool.map(run, texts))


def windows(pieces: Pieces, window: int = WINDOW) -> list[Pieces]:
    """Cut word pieces into consecutive windows that the model can read, each from ``CLS`` to ``SEP``."""
    if len(pieces) <= window:
        return [pieces]
    inner, step = pieces[1:-1], window - 2
    return [
        np.concatenate([pieces[:1], inner[start : start + step], pieces[-1:]]) for start in range(0, len(inner), step)
    ]


def default_workers() -> int:
    """Texts to run at a time: two cores are worth it, more would take the machine from its owner."""
    return min(2, os.cpu_count() or 1)


def load() -> MiniLM:
    """The model of this process, read from disk by the first call.

    Raises:
        ConfigurationError: A model file is missing, or is not the one that this version was made with.
    """
    return _process.load_model()


def statistics() -> Statistics:
    """The shipped statistics, read from disk by the first call.

    Raises:
        ConfigurationError: The file is missing, or is not the one that this version was made with.
    """
    return _process.load_statistics()


class _Process:
    """What this process has loaded.  A forked child starts anew: a lock or a session may have been in use."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._model: MiniLM | None = None
        self._statistics: Statistics | None = None

    def load_model(self) -> MiniLM:
        with self._lock:
            if self._model is None:
                from tokenizers import Tokenizer

                tokenizer = Tokenizer.from_str(read("tokenizer.json").decode())
                self._model = MiniLM(tokenizer, session(read("model.onnx")))
            return self._model

    def load_statistics(self) -> Statistics:
        with self._lock:
            if self._statistics is None:
                self._statistics = _parse_statistics(read("statistics.npz"))
            return self._statistics


def _parse_statistics(data: bytes) -> Statistics:
    with np.load(BytesIO(data), allow_pickle=False) as file:
        mean, frequency, texts = file["mean"], file["document_frequency"].astype(np.float64), int(file["texts"])
    return Statistics(mean, np.log1p((texts - frequency + 0.5) / (frequency + 0.5)).astype(np.float32))


def session(model: bytes) -> Any:
    """A model, ready to run: one thread a run and no spinning, since parallelism is over texts."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read(name: str) -> bytes:
    """A model file, checked: the bytes that were hashed are the bytes that are used."""
    return read_checked(DIRECTORY / name, SHA256[name], made="this version", remedy="reinstall memory-plugin")


def read_checked(path: Path, sha256: str, *, made: str, remedy: str) -> bytes:
    """A file's bytes, if they are those that were hashed.

    Args:
        path: The file.
        sha256: Their hash.
        made: What was made with the file, for the message.
        remedy: What to do where it is missing or another.

    Raises:
        ConfigurationError: It is.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path} ({error.strerror}): {remedy}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConfigurationError(f"{path} is not the file that {made} was made with (SHA-256 differs): {remedy}")
    return data


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget)
