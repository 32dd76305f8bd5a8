"""Runs bge-m3 with its three outputs: from an ONNX export without torch, or from its own checkpoint with torch.

The outputs are those of Chen et al. (BGE M3-Embedding, arXiv:2402.03216), from the encoder's last hidden states h:

    dense    h_0 of the first special token, of unit length
    terms    max(0, w · h_i + b) of each word piece i
    tokens   W h_i + b of each but the first special token, of unit length
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import ConfigurationError, MissingExtraError
from memory_plugin.models.files import first, onnx_files
from memory_plugin.models.session import Session, unit
from memory_plugin.types import Matrix, Vector

ONNX = ("model.onnx", "bge_m3_model.onnx", "onnx/model.onnx", "model_int8.onnx", "model_quantized.onnx")
"""Where published exports keep the model."""
HEADS = ("sparse_linear.pt", "colbert_linear.pt")
"""The heads of the original checkpoint, beside the encoder."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")

# Published exports call the outputs dense_vecs, dense_embeddings, dense; sparse_vecs, sparse_weights, sparse; and
# colbert_vecs, colbert_vectors, colbert.
_OUTPUTS = ("dense", "sparse", "colbert")


class Output(NamedTuple):
    """What the model makes of a text of n word pieces.

    Args:
        dense: Shape (dimension,), of unit length.
        weights: One a word piece, shape (n,), not negative.
        tokens: One a word piece but the first, shape (n - 1, token dimension), of unit length.
    """

    dense: Vector
    weights: NDArray[np.float32]
    tokens: Matrix


class M3(Protocol):
    """A loaded model."""

    def run(self, ids: NDArray[np.int64]) -> Output:
        """Its outputs for the word pieces of one text."""


class Source(NamedTuple):
    """A model on disk.

    Args:
        files: All that decide what it makes, but for the tokenizer.
        load: Reads them.
    """

    files: list[Path]
    load: Callable[[int], M3]


def find(place: Path, file: str | None = None) -> Source:
    """The model in a directory; an ONNX export is preferred.

    Args:
        place: The directory.
        file: Which ONNX file, where there are several.

    Raises:
        ConfigurationError: There is none.
    """
    onnx = first(place, (file,) if file else ONNX)
    if onnx is not None:
        return Source(onnx_files(onnx), lambda threads: OnnxM3(onnx, threads))
    weights = first(place, WEIGHTS)
    heads = [place / name for name in HEADS]
    if weights is not None and not file and all(head.is_file() for head in heads):
        return Source([place / "config.json", weights, *heads], lambda _: TorchM3(place))
    raise ConfigurationError(
        f"{place} holds no bge-m3: neither an ONNX export with three outputs ({file or ', '.join(ONNX)}),"
        f" nor a checkpoint with {' and '.join(HEADS)}"
    )


class OnnxM3:
    """An ONNX export with the outputs dense, sparse and colbert, raw or normalised.

    Args:
        path: The model's file.
        threads: Cores that one run may use.

    Raises:
        ConfigurationError: It cannot be loaded, or lacks an output.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._session = Session(path, threads=threads)
        named = {kind: [name for name in self._session.outputs if name.lower().startswith(kind)] for kind in _OUTPUTS}
        if any(len(found) != 1 for found in named.values()):
            raise ConfigurationError(
                f"{path} is no bge-m3 with three outputs: one each whose name begins with {', '.join(_OUTPUTS)} is"
                f" needed, it has {', '.join(self._session.outputs)}"
            )
        self._names = [found[0] for found in named.values()]

    def run(self, ids: NDArray[np.int64]) -> Output:
        """Its outputs for the word pieces of one text."""
        dense, weights, tokens = (np.asarray(one[0], np.float32) for one in self._session.texts(ids, self._names))
        return _output(dense, weights.reshape(-1), tokens, len(ids))


class TorchM3:
    """The original checkpoint: an encoder that transformers loads, and two linear heads beside it.

    Args:
        place: Its directory.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """

    def __init__(self, place: Path) -> None:
        try:
            import torch
            from transformers import AutoModel
        except ImportError as error:
            raise MissingExtraError("a bge-m3 checkpoint that is no ONNX export", "sentence-transformers") from error
        self._torch: Any = torch
        self._encoder = AutoModel.from_pretrained(str(place), local_files_only=True).eval()
        self._sparse, self._colbert = (
            torch.load(place / name, map_location="cpu", weights_only=True) for name in HEADS
        )

    def run(self, ids: NDArray[np.int64]) -> Output:
        """Its outputs for the word pieces of one text."""
        torch = self._torch
        with torch.inference_mode():
            hidden = self._encoder(input_ids=torch.from_numpy(ids[None])).last_hidden_state[0].float()
            weights = torch.nn.functional.linear(hidden, self._sparse["weight"].float(), self._sparse["bias"].float())
            tokens = torch.nn.functional.linear(hidden, self._colbert["weight"].float(), self._colbert["bias"].float())
        return _output(hidden[0].numpy(), weights.numpy().reshape(-1), tokens.numpy(), len(ids))


def _output(dense: Vector, weights: NDArray[np.float32], tokens: Matrix, pieces: int) -> Output:
    """The outputs as they are meant, whether an export left the last steps to us or not."""
    if len(weights) != pieces or len(tokens) not in (pieces, pieces - 1):
        raise ConfigurationError(
            f"this is no export of bge-m3: of {pieces} word pieces it made {len(weights)} weights and {len(tokens)}"
            " token vectors"
        )
    return Output(unit(dense), np.maximum(weights, 0), unit(tokens[len(tokens) - pieces + 1 :]))
