"""What training leaves: a directory that is there whole or not at all.

    model.json           what ``memory_plugin.models.folder`` reads, and how the model was made
    model.onnx           int8, run without torch: ``local:DIRECTORY``
    tokenizer.json
    sentence-transformers/   the same model in float32: to train on, and for any program that reads this form

A model of another architecture than the shipped one has the last alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from memory_plugin.errors import ConfigurationError
from memory_plugin.models.folder import DESCRIPTION, FORMAT, TOKENIZER, WEIGHTS
from memory_plugin.train.base import FLOATS, floats, quiet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from memory_plugin.train.onnx_graph import Array


def require_free(directory: str | os.PathLike[str]) -> Path:
    """The directory to write, which must not be there yet.

    Raises:
        ConfigurationError: It is there and not empty, or its parent cannot be written.
    """
    where = Path(directory).expanduser()
    if where.exists() and (not where.is_dir() or any(where.iterdir())):
        raise ConfigurationError(f"{where} is there already: name another directory for the new model")
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{where.parent} cannot be made: {error.strerror or error}") from error
    if not os.access(where.parent, os.W_OK):
        raise ConfigurationError(f"{where.parent} cannot be written to: name another directory for the new model")
    return where


@contextmanager
def whole(where: Path) -> Iterator[Path]:
    """A directory to fill, which takes its name only when it is complete."""
    partial = Path(tempfile.mkdtemp(prefix=f".{where.name}-", dir=where.parent))
    try:
        yield partial
        if where.exists():
            where.rmdir()
        partial.chmod(0o755)
        partial.rename(where)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def embedder_name(directory: Path) -> str:
    """The embedder's name of a directory: run by us where it can be, else by sentence-transformers.

    Raises:
        ConfigurationError: It holds no model.
    """
    if (directory / WEIGHTS).is_file():
        return f"local:{directory}"
    return f"sentence-transformers:{floats(directory)}"


def record(where: Path, **facts: Any) -> None:
    """Write more into ``model.json``, in one step."""
    described = where / DESCRIPTION
    found = json.loads(described.read_text(encoding="utf-8"))
    partial = described.with_suffix(".partial")
    partial.write_text(json.dumps(found | facts, indent=2) + "\n", encoding="utf-8")
    partial.replace(described)


def save(model: SentenceTransformer, where: Path, name: str, facts: Mapping[str, Any]) -> None:
    """Write a model into a directory that is there.

    Args:
        model: The trained model.
        where: The directory.
        name: What it is called in a store's identity.
        facts: How it was made; goes into ``model.json``.
    """
    with quiet():
        model.save(str(where / FLOATS), create_model_card=False)
    description: dict[str, Any] = {"format": FORMAT, "name": name, **facts}
    built = _build(model, name)
    if built is not None:
        weights, tokenizer, window = built
        (where / WEIGHTS).write_bytes(weights)
        (where / TOKENIZER).write_bytes(tokenizer)
        description |= {
            "dimension": model.get_embedding_dimension(),
            "window": window,
            "sha256": {
                WEIGHTS: hashlib.sha256(weights).hexdigest(),
                TOKENIZER: hashlib.sha256(tokenizer).hexdigest(),
            },
        }
    (where / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _build(model: SentenceTransformer, name: str) -> tuple[bytes, bytes, int] | None:
    """The model as an int8 ONNX file, its tokenizer, and its window; None where we cannot run its kind."""
    from memory_plugin.train.encoder_graph import POSITIONS, Shape, as_int8

    if not _is_like_ours(model):
        return None
    bert = model[0].auto_model
    weights: dict[str, Array] = {key: value.detach().cpu().float().numpy() for key, value in bert.state_dict().items()}
    window = min(model.max_seq_length or len(weights[POSITIONS]), len(weights[POSITIONS]))
    shape = Shape(bert.config.num_attention_heads, window, bert.config.layer_norm_eps)
    tokenizer = _plain(model.tokenizer.backend_tokenizer.to_str())
    return as_int8(name, weights, shape, Tokenizer.from_str(tokenizer.decode())), tokenizer, window


def _is_like_ours(model: SentenceTransformer) -> bool:
    """Whether it is a BERT that averages its last hidden states, with vectors of unit length and no prompts."""
    kinds = [type(module).__name__ for module in model]
    if kinds != ["Transformer", "Pooling", "Normalize"] or any((model.prompts or {}).values()):
        return False
    config = model[0].auto_model.config
    return (
        config.model_type == "bert"
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and model[1].get_config_dict().get("pooling_mode") == "mean"
    )


def _plain(tokenizer: str) -> bytes:
    """A tokenizer without padding and truncation, and without control tokens that a user's text could spell."""
    source = json.loads(tokenizer)
    return json.dumps(source | {"padding": None, "truncation": None, "added_tokens": []}, ensure_ascii=False).encode()
