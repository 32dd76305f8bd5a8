"""Cross-encoders that fastembed runs: from its list or from a directory, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from memory_plugin.errors import InvalidInputError, RerankError, translate
from memory_plugin.models import fast, optional
from memory_plugin.models.once import Once
from memory_plugin.models.session import require_unicode

PROVIDER = "fastembed"


class FastEmbedReranker:
    """A cross-encoder of fastembed's, by name or from a directory with an ONNX file and its tokenizer.

    A score is the model's logit: it has no fixed range.  A pair that is longer than the model's window is cut.
    Pairs are run one at a time unless ``batch`` says otherwise, as for the embedder.  The model is loaded by the first
    call.  Many threads may use it.

    Args:
        model: A name in fastembed's list, or a directory.
        path: The directory of a listed model's files.
        local_files_only: Use only what is in fastembed's cache.
        cache_dir: Where fastembed keeps what it fetches.
        batch: Pairs run together.
        threads: Cores that one run may use.  Default: all.

    Raises:
        MissingExtraError: fastembed is not installed.
        InvalidInputError: There is no such directory, or a number is not positive.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "Xenova/ms-marco-MiniLM-L-6-v2",
        *,
        path: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        batch: int = 1,
        threads: int | None = None,
    ) -> None:
        if batch < 1 or (threads is not None and threads < 1):
            raise InvalidInputError("batch and threads must be at least 1")
        self._choice = fast.choose(os.fspath(model), None if path is None else os.fspath(path))
        self._batch = batch
        self._settings: dict[str, Any] = {"threads": threads, "local_files_only": local_files_only}
        if cache_dir is not None:
            self._settings["cache_dir"] = os.fspath(cache_dir)
        self.leaves_machine = self._choice.place is None and not local_files_only
        self._encoder = Once(self._load)

    @property
    def model(self) -> str:
        """Its name, and the beginning of the hash of its files where they are in a directory."""
        if self._choice.place is None:
            return f"{PROVIDER}:{self._choice.name}"
        return f"{PROVIDER}:{self._choice.name}@{fast.revision(self._choice, None)}"

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        """One score a text, in input order; higher is better.

        Raises:
            InvalidInputError: The query or a text holds a lone surrogate.
            ConfigurationError: fastembed cannot load the model.
            RerankError: It failed.
        """
        require_unicode([query, *texts])
        if not texts:
            return []
        with translate(RerankError, provider=f"{PROVIDER}:{self._choice.name}"):
            return [float(score) for score in self._encoder().rerank(query, list(texts), batch_size=self._batch)]

    def _load(self) -> Any:
        kind = optional.load("fastembed.rerank.cross_encoder", what=PROVIDER, extra=fast.EXTRA).TextCrossEncoder
        choice = self._choice
        if choice.listed:
            return fast.load(kind, choice, choice.name, **self._settings)
        described = optional.load("fastembed.common.model_description", what=PROVIDER, extra=fast.EXTRA)
        name = f"memory-plugin/{fast.revision(choice, None)}"

        def add() -> None:
            assert choice.place is not None
            file = str(choice.file.relative_to(choice.place))
            kind.add_custom_model(model=name, sources=described.ModelSource(hf=name), model_file=file)

        fast.register(kind, name, add)
        return fast.load(kind, choice, name, **self._settings)

    def __repr__(self) -> str:
        return f"FastEmbedReranker({str(self._choice.place or self._choice.name)!r})"
