"""What training starts from, as a sentence-transformers model: the shipped model, or a directory of the user's.

The shipped model is int8.  Its weights are taken back to float32, so that training needs no download; what the int8
rounding took stays taken, which costs nothing that can be measured (docs/fine-tuning.md).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memory_plugin.errors import ConfigurationError, MissingExtraError
from memory_plugin.models import runtime
from memory_plugin.models.prompts import chosen

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from memory_plugin.train.onnx_graph import Array

EXTRA = "train"
MODULES = "modules.json"
FLOATS = "sentence-transformers"
"""Where in a directory that training wrote its float32 model is."""

_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
_LAYOUT = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def require_extra() -> None:
    """Nothing, where the extra is installed.

    Raises:
        MissingExtraError: It is not.
    """
    import importlib.util

    for name in ("torch", "sentence_transformers", "onnx"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError("training", EXTRA)


def floats(directory: str | os.PathLike[str]) -> Path:
    """Where a directory's sentence-transformers model is: itself, or inside what training wrote.

    Raises:
        ConfigurationError: There is none.
    """
    where = Path(directory).expanduser()
    for place in (where, where / FLOATS):
        if (place / MODULES).is_file():
            return place
    raise ConfigurationError(
        f"{where} holds no sentence-transformers model (no {MODULES}): name a directory that has one, or leave --base"
        " out to start from the shipped model"
    )


def load(base: str | os.PathLike[str] | None) -> SentenceTransformer:
    """The model to train, from this machine only.

    Args:
        base: A sentence-transformers directory, or None for the shipped model.

    Raises:
        MissingExtraError: The extra is not installed.
        ConfigurationError: The directory holds no model, or one that cannot be loaded.
    """
    require_extra()
    if base is not None:
        return _open(floats(base))
    with tempfile.TemporaryDirectory(prefix="memory-plugin-train-") as folder:
        write_shipped(Path(folder))
        return _open(Path(folder))


def _open(where: Path) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    try:
        with quiet():
            model = SentenceTransformer(str(where), local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigurationError(f"the model in {where} cannot be loaded: {error!s:.300}") from error
    prompts = chosen(where.name, model.prompts or {})  # as the embedder of the same directory has them
    model.prompts = {**(model.prompts or {}), "query": prompts.query, "document": prompts.document}
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of transformers meanwhile: ours is there."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def write_shipped(where: Path) -> None:
    """Write the shipped model as a sentence-transformers directory, its weights in float32."""
    from memory_plugin.train.encoder_graph import Shape, layers, read_weights

    weights = read_weights(runtime.read("model.onnx"))
    shape = Shape(window=runtime.WINDOW)
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": runtime.DIMENSION,
        "intermediate_size": len(weights["encoder.layer.0.intermediate.dense.bias"]),
        "layer_norm_eps": shape.epsilon,
        "max_position_embeddings": runtime.WINDOW,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": layers(weights),
        "type_vocab_size": 2,
        "vocab_size": runtime.VOCABULARY,
    }
    tokenizer = {"tokenizer_class": "BertTokenizer", "model_max_length": runtime.WINDOW, "do_lower_case": True}
    width = runtime.DIMENSION
    # Of no use to a mean over tokens, but transformers warns where they are missing.
    weights |= {
        "pooler.dense.weight": np.zeros((width, width), np.float32),
        "pooler.dense.bias": np.zeros(width, np.float32),
    }
    write(where, weights, config, runtime.read("tokenizer.json"), {**tokenizer, **_SPECIAL}, runtime.WINDOW)


def write(
    where: Path,
    weights: Mapping[str, Array],
    config: Mapping[str, Any],
    tokenizer: bytes,
    tokenizer_config: Mapping[str, Any],
    window: int,
) -> None:
    """Write a BERT that averages its last hidden states as a sentence-transformers directory."""
    from safetensors.numpy import save_file

    for folder in ("1_Pooling", "2_Normalize"):
        (where / folder).mkdir(parents=True, exist_ok=True)
    width = int(config["hidden_size"])
    described: dict[str, Any] = {
        MODULES: _LAYOUT,
        "config.json": dict(config),
        "sentence_bert_config.json": {"max_seq_length": window, "do_lower_case": False},
        "tokenizer_config.json": dict(tokenizer_config),
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
        "2_Normalize/config.json": {},
    }
    for name, content in described.items():
        (where / name).write_text(json.dumps(content), encoding="utf-8")
    (where / "tokenizer.json").write_bytes(tokenizer)
    save_file(dict(weights), where / "model.safetensors", metadata={"format": "pt"})
