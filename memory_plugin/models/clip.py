"""Runs CLIP: a text model and a vision model whose vectors lie in one space (Radford et al., arXiv:2103.00020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import ConfigurationError, MissingExtraError
from memory_plugin.models.files import first, onnx_files, read_json
from memory_plugin.models.session import Session, unit
from memory_plugin.types import Vector

WINDOW = 77
TEXT = ("text_model.onnx", "onnx/text_model.onnx", "text_model_quantized.onnx", "onnx/text_model_quantized.onnx")
VISION = tuple(name.replace("text", "vision") for name in TEXT)
"""In a directory that holds both."""
ALONE = ("model.onnx", "onnx/model.onnx", "model_optimized.onnx")
"""In a directory of one of them."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Towers(Protocol):
    """Both models, loaded."""

    def text(self, ids: NDArray[np.int64]) -> Vector:
        """The unit vector of a text's word pieces."""

    def image(self, pixels: NDArray[np.float32]) -> Vector:
        """The unit vector of an image, shape (3, height, width)."""


class Source(NamedTuple):
    """Both models on disk.

    Args:
        texts: The directory of the tokenizer.
        images: The directory that tells how images are prepared.
        files: All that decide what the models make, but for tokenizer and preparation.
        load: Reads them.
    """

    texts: Path
    images: Path
    files: list[Path]
    load: Callable[[int], Towers]


def find(place: Path, vision: Path | None = None) -> Source:
    """Both models.

    Args:
        place: A directory with both; or with two directories, whose names end in "text" and in "vision"; or with the
            text model alone.
        vision: The directory of the vision model, where ``place`` has the text model alone.

    Raises:
        ConfigurationError: One of them is not there.
    """
    if vision is not None:
        return _pair(place, vision)
    text_file, vision_file = first(place, TEXT), first(place, VISION)
    if text_file is not None and vision_file is not None:
        return _onnx(place, place, text_file, vision_file)
    below = sorted(path for path in place.iterdir() if path.is_dir())
    texts, images = ([path for path in below if path.name.lower().endswith(end)] for end in ("text", "vision"))
    if len(texts) == len(images) == 1:
        return _pair(texts[0], images[0])
    for inner in (place, place / "0_CLIPModel"):
        weights = first(inner, WEIGHTS)
        if weights is not None and read_json(inner / "config.json").get("model_type") == "clip":
            return Source(inner, inner, [inner / "config.json", weights], partial(_torch, inner))
    raise ConfigurationError(
        f"{place} holds no CLIP: neither {TEXT[0]} with {VISION[0]}, nor two directories with a model.onnx whose names"
        " end in 'text' and in 'vision', nor a checkpoint of transformers"
    )


def _torch(place: Path, _: int) -> Towers:
    return TorchTowers(place)


def _pair(texts: Path, images: Path) -> Source:
    files = [first(place, ALONE) for place in (texts, images)]
    for place, file in zip((texts, images), files, strict=True):
        if file is None:
            raise ConfigurationError(f"{place} holds no ONNX model: one of {', '.join(ALONE)}")
    text_file, vision_file = files
    assert text_file is not None
    assert vision_file is not None
    return _onnx(texts, images, text_file, vision_file)


def _onnx(texts: Path, images: Path, text: Path, vision: Path) -> Source:
    files = [*onnx_files(text), *onnx_files(vision)]
    return Source(texts, images, files, lambda threads: OnnxTowers(text, vision, threads))


class OnnxTowers:
    """Two ONNX models.

    Args:
        text: The text model's file.
        vision: The vision model's.
        threads: Cores that one run may use.

    Raises:
        ConfigurationError: One cannot be loaded, or it cannot be told which of its outputs is the vector.
    """

    def __init__(self, text: Path, vision: Path, threads: int = 1) -> None:
        self._text, self._vision = Session(text, threads=threads), Session(vision, threads=threads)
        self._text_output = _vector_output(self._text, text, ("text_embeds", "text_embedding", "sentence_embedding"))
        self._vision_output = _vector_output(self._vision, vision, ("image_embeds", "image_embedding"))

    def text(self, ids: NDArray[np.int64]) -> Vector:
        """The unit vector of a text's word pieces."""
        return _vector(self._text.texts(ids, [self._text_output]))

    def image(self, pixels: NDArray[np.float32]) -> Vector:
        """The unit vector of an image."""
        return _vector(self._vision.pixels(pixels, [self._vision_output]))


def _vector_output(session: Session, path: Path, names: Sequence[str]) -> str:
    flat = [name for name, rank in session.outputs.items() if rank == 2]
    found = [name for name in names if name in session.outputs] or flat
    if not found or (len(flat) > 1 and found == flat):
        raise ConfigurationError(
            f"{path} has the outputs {', '.join(session.outputs)}: which is the vector? One called {names[0]} is wanted"
        )
    return found[0]


def _vector(outputs: Sequence[Any]) -> Vector:
    return unit(np.asarray(outputs[0], np.float32).reshape(-1))


class TorchTowers:
    """A checkpoint that transformers loads.

    Args:
        place: Its directory.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """

    def __init__(self, place: Path) -> None:
        try:
            import torch
            from transformers import CLIPModel
        except ImportError as error:
            raise MissingExtraError("a CLIP checkpoint that is no ONNX export", "sentence-transformers") from error
        self._torch: Any = torch
        self._model: Any = CLIPModel.from_pretrained(str(place), local_files_only=True).eval()

    def text(self, ids: NDArray[np.int64]) -> Vector:
        """The unit vector of a text's word pieces."""
        with self._torch.inference_mode():
            states = self._model.text_model(input_ids=self._torch.from_numpy(ids[None]))
            return _vector([self._model.text_projection(states.pooler_output)])

    def image(self, pixels: NDArray[np.float32]) -> Vector:
        """The unit vector of an image."""
        with self._torch.inference_mode():
            states = self._model.vision_model(pixel_values=self._torch.from_numpy(pixels[None]))
            return _vector([self._model.visual_projection(states.pooler_output)])
