"""A model in a directory of the user's, built as the shipped one is: what ``memory-plugin train`` writes.

The directory holds ``model.onnx``, ``tokenizer.json`` and ``model.json``, which describes them:

    {"format": 1, "name": "…", "dimension": 384, "window": 256, "matryoshka": [384, 128],
     "sha256": {"model.onnx": "…", "tokenizer.json": "…"}, …}

What else stands in ``model.json`` is for people.  Files are read on first use, once a process, and checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_plugin.errors import ConfigurationError
from memory_plugin.models.runtime import MiniLM, read_checked, session

FORMAT = 1
DESCRIPTION, WEIGHTS, TOKENIZER = "model.json", "model.onnx", "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Folder:
    """A model's directory.

    Args:
        path: Where it is.
        name: What the model is called.
        dimension: Length of its vectors.
        window: Word pieces it reads at most, the two special ones included.
        matryoshka: Dimensions that it was trained to be cut to, if any.
        weights: SHA-256 of ``model.onnx``.
        tokenizer: SHA-256 of ``tokenizer.json``.
    """

    path: Path
    name: str
    dimension: int
    window: int
    matryoshka: tuple[int, ...]
    weights: str
    tokenizer: str

    @property
    def revision(self) -> str:
        """The beginning of a hash over both files: either decides the vectors."""
        return hashlib.sha256(f"{self.weights} {self.tokenizer}".encode()).hexdigest()[:16]

    def load(self) -> MiniLM:
        """The model, read from disk by the first call of this process.

        Raises:
            ConfigurationError: A file is missing, or is not the one that ``model.json`` describes.
        """
        return _process.load(self)


def describe(path: str | os.PathLike[str]) -> Folder:
    """What a directory holds; no weights are read.

    Args:
        path: The directory; "~" is the user's home.

    Raises:
        ConfigurationError: It holds no model, or one of another format.
    """
    where = Path(path).expanduser()
    described = where / DESCRIPTION
    try:
        found = json.loads(described.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise ConfigurationError(
            f"{where} holds no model that this machine can run: cannot read {described.name} ({reason});"
            " name a directory that `memory-plugin train` wrote"
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ConfigurationError(f"{described} is not of format {FORMAT}: train the model with this version again")
    try:
        return _folder(where, found)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{described} is damaged ({error!r:.80}): train the model again") from error


def _folder(where: Path, found: dict[str, Any]) -> Folder:
    dimension, window = int(found["dimension"]), int(found["window"])
    matryoshka = tuple(int(one) for one in found["matryoshka"])
    if not found["name"] or dimension < 1 or window < 3 or any(not 1 <= one <= dimension for one in matryoshka):
        raise ValueError("a size is out of its range")
    sha256 = found["sha256"]
    return Folder(
        where, str(found["name"]), dimension, window, matryoshka, str(sha256[WEIGHTS]), str(sha256[TOKENIZER])
    )


class _Process:
    """What this process has loaded.  A forked child starts anew: a lock or a session may have been in use."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[Folder, MiniLM] = {}

    def load(self, folder: Folder) -> MiniLM:
        with self._lock:
            if folder not in self._models:
                from tokenizers import Tokenizer

                remedy = "copy the whole directory again, or train the model again"
                tokenizer, weights = (
                    read_checked(folder.path / name, sha256, made=DESCRIPTION, remedy=remedy)
                    for name, sha256 in ((TOKENIZER, folder.tokenizer), (WEIGHTS, folder.weights))
                )
                self._models[folder] = MiniLM(Tokenizer.from_str(tokenizer.decode()), session(weights))
            return self._models[folder]


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.forget)
