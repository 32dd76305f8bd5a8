"""A tiny BERT with random weights, in both of its forms: nothing that it says is right, and all of it is computed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import wordpiece

Array = NDArray[Any]
WIDTH, LAYERS, HEADS, INNER, WINDOW = 32, 2, 4, 64, 96


def weights(vocabulary: int, *, seed: int = 0) -> dict[str, Array]:
    """Random ones, by the names of transformers' ``BertModel``."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 0.2) -> Array:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    made = {
        "embeddings.word_embeddings.weight": normal(vocabulary, WIDTH, scale=1.0),
        "embeddings.position_embeddings.weight": normal(WINDOW, WIDTH),
        "embeddings.token_type_embeddings.weight": normal(2, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for index in range(LAYERS):
        prefix = f"encoder.layer.{index}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            made |= {f"{prefix}{part}.weight": normal(WIDTH, WIDTH), f"{prefix}{part}.bias": normal(WIDTH)}
        made |= {
            f"{prefix}intermediate.dense.weight": normal(INNER, WIDTH),
            f"{prefix}intermediate.dense.bias": normal(INNER),
        }
        made |= {f"{prefix}output.dense.weight": normal(WIDTH, INNER), f"{prefix}output.dense.bias": normal(WIDTH)}
        norms += [f"{prefix}attention.output.LayerNorm", f"{prefix}output.LayerNorm"]
    for name in norms:
        made |= {f"{name}.weight": 1 + normal(WIDTH), f"{name}.bias": normal(WIDTH)}
    return made


def forward(held: Mapping[str, Array], ids: list[int]) -> tuple[Array, Array]:
    """The sentence vector and the token vectors of a text, as the papers say, without any library."""

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        return np.asarray(scaled * held[f"{name}.weight"] + held[f"{name}.bias"])

    def linear(x: Array, name: str) -> Array:
        return np.asarray(x @ held[f"{name}.weight"].T + held[f"{name}.bias"])

    def heads(x: Array) -> Array:
        return x.reshape(len(ids), HEADS, WIDTH // HEADS).transpose(1, 0, 2)

    erf = np.vectorize(math.erf)
    x = held["embeddings.word_embeddings.weight"][ids] + held["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + held["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for index in range(LAYERS):
        prefix = f"encoder.layer.{index}."
        query, key, value = (heads(linear(x, f"{prefix}attention.self.{part}")) for part in ("query", "key", "value"))
        scores = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(WIDTH // HEADS))
        mixed = (scores / scores.sum(axis=2, keepdims=True)) @ value
        y = linear(mixed.transpose(1, 0, 2).reshape(len(ids), WIDTH), f"{prefix}attention.output.dense")
        x = norm(x + y, f"{prefix}attention.output.LayerNorm")
        y = linear(x, f"{prefix}intermediate.dense")
        y = linear(0.5 * y * (1 + erf(y / math.sqrt(2))), f"{prefix}output.dense")
        x = norm(x + y, f"{prefix}output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean), x / np.linalg.norm(x, axis=1, keepdims=True)


def folder(where: Path, *, seed: int = 0, words: Iterable[str] = wordpiece.WORDS, **more: Any) -> Path:
    """A directory as training writes it, without the float32 form.  Needs onnx."""
    from memory_plugin.train.encoder_graph import Shape, as_int8

    where.mkdir(parents=True)
    tokenizer = wordpiece.tokenizer(words)
    shape = Shape(heads=HEADS, window=WINDOW)
    model = as_int8("tiny", weights(tokenizer.get_vocab_size(), seed=seed), shape, tokenizer)
    files = {"model.onnx": model, "tokenizer.json": tokenizer.to_str().encode()}
    for name, content in files.items():
        (where / name).write_bytes(content)
    description = {
        "format": 1,
        "name": "tiny",
        "dimension": WIDTH,
        "window": WINDOW,
        "matryoshka": [],
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    (where / "model.json").write_text(json.dumps(description | more), encoding="utf-8")
    return where


def floats(where: Path, *, seed: int = 0, words: Iterable[str] = wordpiece.WORDS) -> Path:
    """The same as a sentence-transformers directory.  Needs safetensors."""
    from memory_plugin.train.base import write

    tokenizer = wordpiece.tokenizer(words)
    held = weights(tokenizer.get_vocab_size(), seed=seed)
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": WINDOW,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "type_vocab_size": 2,
        "vocab_size": tokenizer.get_vocab_size(),
    }
    held |= {
        "pooler.dense.weight": np.zeros((WIDTH, WIDTH), np.float32),
        "pooler.dense.bias": np.zeros(WIDTH, np.float32),
    }
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": WINDOW, "do_lower_case": True, **special}
    where.mkdir(parents=True)
    write(where, held, config, tokenizer.to_str().encode(), settings, WINDOW)
    return where
