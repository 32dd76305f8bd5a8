"""Any cross-encoder of sentence-transformers."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

from memory_plugin.errors import ConfigurationError, InvalidInputError, RerankError, translate
from memory_plugin.models import optional, transformers
from memory_plugin.models.once import Once
from memory_plugin.models.session import require_unicode
from memory_plugin.models.transformers import PROVIDER


class SentenceTransformersReranker:
    """A cross-encoder that sentence-transformers runs, from a hub or from a directory; torch comes with the extra.

    A score is the model's logit, whatever activation it was saved with: a sigmoid would press the best together.
    A pair that is longer than the model's window is cut.  The model is loaded by the first call.  Many threads may use
    it, one after the other.

    Args:
        model: A name on the hub, or a directory.
        revision: Which commit of a hub's model.  Default: the latest.
        local_files_only: Use only what was fetched before.
        device: "cpu", "cuda", "mps".  Default: the best there is.
        batch: Pairs run together.
        max_tokens: Cut pairs to so many word pieces.  Default: the model's window.
        cache_folder: Where what is fetched is kept.
        trust_remote_code: Run code that comes with the model.  Some models need it; read that code first.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        InvalidInputError: There is no such directory, or an argument is out of range.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "cross-encoder/ms-marco-MiniLM-L6-v2",
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        device: str | None = None,
        batch: int = 32,
        max_tokens: int | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if batch < 1 or (max_tokens is not None and max_tokens < 8):
            raise InvalidInputError("batch must be at least 1, and max_tokens at least 8")
        self._choice = transformers.choose(
            model,
            revision=revision,
            local_files_only=local_files_only,
            device=device,
            cache_folder=cache_folder,
            trust_remote_code=trust_remote_code,
        )
        self._batch = batch
        self._cut = {} if max_tokens is None else {"max_length": max_tokens}
        self.leaves_machine = self._choice.leaves_machine
        self._encoder = Once(self._load)
        self._turn = Once(threading.Lock)

    @property
    def model(self) -> str:
        """Its name, with the revision that was asked for, or the beginning of the hash of a directory's files.

        Raises:
            ConfigurationError: The directory holds no weights.
        """
        name = f"{PROVIDER}:{self._choice.name}"
        asked = transformers.revision(self._choice, None) if self._choice.place is not None else self._choice.revision
        return f"{name}@{asked}" if asked else name

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        """One score a text, in input order; higher is better.

        Raises:
            InvalidInputError: The query or a text holds a lone surrogate.
            ConfigurationError: The model cannot be loaded, or gives more than one score a pair.
            RerankError: It failed.
        """
        require_unicode([query, *texts])
        if not texts:
            return []
        with translate(RerankError, provider=f"{PROVIDER}:{self._choice.name}"):
            encoder = self._encoder()
            logits = optional.load("torch.nn", what=f"{PROVIDER!r}", extra=transformers.EXTRA).Identity()
            with self._turn():  # a tokenizer of transformers cannot be used by two threads at once
                scores = encoder.predict(
                    [(query, text) for text in texts],
                    batch_size=self._batch,
                    activation_fn=logits,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                )
            return [float(score) for score in scores]

    def _load(self) -> Any:
        encoder = transformers.load("CrossEncoder", self._choice, **self._cut)
        labels = int(encoder.num_labels)
        if labels != 1:
            raise ConfigurationError(
                f"{self._choice.name} gives {labels} scores a pair: a reranker needs a model that gives one"
            )
        return encoder

    def __repr__(self) -> str:
        return f"SentenceTransformersReranker({str(self._choice.place or self._choice.name)!r})"
