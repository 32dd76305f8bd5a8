"""Qdrant's fastembed: ONNX models from its list or from a directory, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from memory_plugin.errors import EmbeddingError, InvalidInputError, translate
from memory_plugin.models import fast, optional
from memory_plugin.models.files import read_json
from memory_plugin.models.once import Once
from memory_plugin.models.prompts import chosen
from memory_plugin.models.session import Texts, unit
from memory_plugin.types import Embeddings, InputType, ModelIdentity

PROVIDER = "fastembed"


class FastEmbedEmbedder:
    """A text embedding model that fastembed runs.

    By name, fastembed fetches the model from a hub the first time, into its own cache.  From a directory nothing is
    fetched: one with an ONNX file, ``tokenizer.json``, ``tokenizer_config.json``, and sentence-transformers'
    ``1_Pooling/config.json`` (or say ``pooling``).  Vectors are brought to unit length.

    Texts are run one at a time unless ``batch`` says otherwise: many of these models are quantised, and then a text's
    vector depends on what it was batched with.  The model is loaded by the first call.  Many threads may use it.

    Args:
        model: A name in fastembed's list, or a directory.
        path: The directory of a listed model's files.
        pooling: How a directory's model pools: "cls", "mean", "last_token", or "disabled" where it gives one vector.
        output: Which output of a directory's model, where the first is not the one.
        query_prefix: What is put before a query.  Default: what a model of that name is known to want.
        document_prefix: What is put before a document.  Default: likewise.
        local_files_only: Use only what is in fastembed's cache.
        cache_dir: Where fastembed keeps what it fetches.
        batch: Texts run together.
        threads: Cores that one run may use.  Default: all.

    Raises:
        MissingExtraError: fastembed is not installed.
        InvalidInputError: There is no such directory, or an argument is out of range.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "BAAI/bge-small-en-v1.5",
        *,
        path: str | os.PathLike[str] | None = None,
        pooling: str | None = None,
        output: str | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        local_files_only: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        batch: int = 1,
        threads: int | None = None,
    ) -> None:
        if batch < 1 or (threads is not None and threads < 1):
            raise InvalidInputError("batch and threads must be at least 1")
        self._choice = fast.choose(os.fspath(model), None if path is None else os.fspath(path))
        place = self._choice.place
        self._pooling = None if self._choice.listed or place is None else fast.pooling_of(place, pooling)
        self._prompts = chosen(self._choice.name, {}, query_prefix=query_prefix, document_prefix=document_prefix)
        self._output = output
        self._batch = batch
        self._settings: dict[str, Any] = {"threads": threads, "local_files_only": local_files_only}
        if cache_dir is not None:
            self._settings["cache_dir"] = os.fspath(cache_dir)
        self.leaves_machine = self._choice.place is None and not local_files_only
        self._model = Once(self._load)
        self._texts = Once(self._read_texts)

    @property
    def identity(self) -> ModelIdentity:
        """The revision is a commit of the hub, or the beginning of a SHA-256 over the directory's files.

        Raises:
            ConfigurationError: fastembed cannot load the model.
        """
        return ModelIdentity(
            provider=PROVIDER,
            model=self._choice.name,
            revision=self._revision,
            dimension=self._dimension,
            query_prefix=self._prompts.query,
            document_prefix=self._prompts.document,
        )

    @property
    def max_tokens(self) -> int:
        """Word pieces a text may have, special ones included: what the prefix leaves of the model's window."""
        return self._texts().max_tokens

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, for a chunker.  Shared: do not change its settings."""
        return self._texts().tokenizer

    def count(self, text: str, /) -> int:
        """How many word pieces the text has, special ones included."""
        return len(self._texts().pieces(text))

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Unit vectors, in input order; each text behind its prefix.

        Args:
            texts: Any number.
            input_type: "document" or "query"; a query that is too long is cut, its beginning kept.

        Raises:
            InvalidInputError: A text holds a lone surrogate, or is a document that is too long.
            ConfigurationError: fastembed cannot load the model.
            EmbeddingError: It failed.
        """
        with translate(EmbeddingError, provider=f"{PROVIDER}:{self._choice.name}"):
            prefixed = self._texts().prefixed(texts, input_type)
            model = self._model()
            embed = model.query_embed if input_type == "query" else model.passage_embed
            if not prefixed:
                return Embeddings(np.empty((0, self._dimension), np.float32))
            return Embeddings(unit(np.array(list(embed(prefixed, batch_size=self._batch)), np.float32)))

    def _load(self) -> Any:
        kind = optional.load("fastembed", what=PROVIDER, extra=fast.EXTRA).TextEmbedding
        choice = self._choice
        if choice.listed:
            return fast.load(kind, choice, choice.name, **self._settings)
        described = optional.load("fastembed.common.model_description", what=PROVIDER, extra=fast.EXTRA)
        assert choice.place is not None
        name = f"memory-plugin/{self._revision}"

        def add() -> None:
            assert choice.place is not None
            kind.add_custom_model(
                model=name,
                pooling=described.PoolingType[str(self._pooling).upper()],
                normalization=True,
                sources=described.ModelSource(hf=name),
                dim=0,  # nothing is computed with it
                model_file=str(choice.file.relative_to(choice.place)),
                output_name=self._output,
            )

        fast.register(kind, name, add)
        return fast.load(kind, choice, name, **self._settings)

    def _read_texts(self) -> Texts:
        from tokenizers import Tokenizer

        theirs = self._model().model.tokenizer
        # A copy: theirs pads and cuts.
        window = (theirs.truncation or {}).get("max_length", 2**20)
        return Texts(
            Tokenizer.from_str(theirs.to_str()),
            window,
            query_prefix=self._prompts.query,
            document_prefix=self._prompts.document,
        )

    @cached_property
    def _revision(self) -> str:
        model = None if self._choice.place is not None else self._model().model
        return fast.revision(self._choice, model, self._pooling, self._output)

    @cached_property
    def _dimension(self) -> int:
        """As the configuration says, else as one text shows."""
        if not self._choice.listed and self._choice.place is not None:
            told = read_json(self._choice.place / "config.json").get("hidden_size")
            if isinstance(told, int) and self._pooling not in (None, "disabled"):
                return told
            (row,) = self._model().passage_embed(["dimension"])
            return len(row)
        return int(self._model().embedding_size)

    def __repr__(self) -> str:
        return f"FastEmbedEmbedder({str(self._choice.place or self._choice.name)!r})"
