"""The model behind the server: random directions of words, added up.  Not for users' data."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from typing import Any

import numpy as np

from memory_plugin.types import Matrix

_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\w+|[^\w\s]")

TOLD = 0.3
"""How far the input type moves a vector."""


def tokens(text: str) -> int:
    """Words and signs of the text: no tokenizer makes fewer of it."""
    return len(_TOKEN.findall(text))


def embed(texts: list[str], *, native: int, dimension: int, told: str, seed: str) -> Matrix:
    """A unit vector for each text; shorter ones are the beginnings of longer ones, as Matryoshka models make them.

    Args:
        texts: What to embed.
        native: Dimension of the model.
        dimension: What is asked for.
        told: What the model is told of the texts: the input type.
        seed: Another one is another model.
    """
    made = np.stack([_vector(text, native, told, seed) for text in texts])[:, :dimension]
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def _vector(text: str, native: int, told: str, seed: str) -> Matrix:
    words = _WORD.findall(text.lower()) or [text]
    made = np.sum([_direction(f"{seed}\0{word}", native) for word in words], axis=0)
    made /= np.linalg.norm(made)
    if told:
        made += TOLD * _direction(f"{seed}\0\0{told}", native) / np.sqrt(native)
    return np.asarray(made, dtype=np.float32)


@lru_cache(maxsize=2048)
def _direction(name: str, dimension: int) -> Matrix:
    number = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(number).standard_normal(dimension, dtype=np.float32)


def score(query: str, texts: list[str]) -> list[float]:
    """The share of the query's words that each text holds, above 0 and below 1."""
    wanted = set(_WORD.findall(query.lower()))
    held = (len(wanted & set(_WORD.findall(text.lower()))) for text in texts)
    return [(number + 0.01) / (len(wanted) + 0.02) for number in held]


def written(vector: Matrix, encoding: str) -> Any:
    """A vector as it travels: "float", "int8", or either in base64."""
    if "int8" in encoding:
        whole = np.clip(np.round(vector * 127 / max(float(np.abs(vector).max()), 1e-9)), -128, 127).astype(np.int8)
        return base64.b64encode(whole.tobytes()).decode() if "base64" in encoding else whole.tolist()
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(number) for number in vector]
