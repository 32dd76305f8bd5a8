"""Any model of sentence-transformers, with the prompts that it was trained with."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from memory_plugin.errors import EmbeddingError, InvalidInputError, translate
from memory_plugin.models import transformers
from memory_plugin.models.once import Once
from memory_plugin.models.prompts import Prompts, chosen
from memory_plugin.models.session import Texts, require_unicode
from memory_plugin.models.transformers import PROVIDER
from memory_plugin.types import Embeddings, InputType, ModelIdentity


class SentenceTransformersEmbedder:
    """A model that sentence-transformers runs, from a hub or from a directory; torch comes with the extra.

    A hub is asked for a model by name, unless ``local_files_only``; from a directory nothing is fetched.  Vectors are
    brought to unit length.  Prompts are those given here, else those of the model's own configuration, else those that
    a model of that name is known to want (nomic-embed, bge, e5, …); they are part of its identity.

    The model is loaded by the first call.  Many threads may use it, one after the other.

    Args:
        model: A name on the hub, or a directory.
        query_prefix: What is put before a query; "" for nothing.
        document_prefix: What is put before a document.
        revision: Which commit of a hub's model.  Default: the latest, and the identity names it.
        local_files_only: Use only what was fetched before.
        device: "cpu", "cuda", "mps".  Default: the best there is.
        batch: Texts run together.
        cache_folder: Where what is fetched is kept.
        trust_remote_code: Run code that comes with the model.  Some models need it; read that code first.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        InvalidInputError: There is no such directory, or an argument is out of range.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "sentence-transformers/all-MiniLM-L6-v2",
        *,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        device: str | None = None,
        batch: int = 32,
        cache_folder: str | os.PathLike[str] | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if batch < 1:
            raise InvalidInputError(f"batch must be at least 1, not {batch}")
        self._choice = transformers.choose(
            model,
            revision=revision,
            local_files_only=local_files_only,
            device=device,
            cache_folder=cache_folder,
            trust_remote_code=trust_remote_code,
        )
        chosen(self._choice.name, {}, query_prefix=query_prefix, document_prefix=document_prefix)
        self._given = {"query_prefix": query_prefix, "document_prefix": document_prefix}
        self._batch = batch
        self.leaves_machine = self._choice.leaves_machine
        self._model = Once(lambda: transformers.load("SentenceTransformer", self._choice))
        self._turn = Once(threading.Lock)
        self._texts = Once(self._read_texts)

    @property
    def identity(self) -> ModelIdentity:
        """The revision is a commit of the hub, or the beginning of a SHA-256 over the directory's files.

        Raises:
            ConfigurationError: The model cannot be loaded.
        """
        return self._identity

    @property
    def max_tokens(self) -> int:
        """Word pieces a text may have, special ones included: what the prefix leaves of the model's window."""
        texts = self._texts()
        return texts.max_tokens if texts is not None else transformers.window_of(self._model())

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, for a chunker.  Shared: do not change its settings.

        Raises:
            AttributeError: It is not of a kind that a chunker can use.
        """
        return self._counted("tokenizer").tokenizer

    def count(self, text: str, /) -> int:
        """How many word pieces the text has, special ones included."""
        return len(self._counted("count").pieces(text))

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Unit vectors, in input order; each text behind its prompt.

        Args:
            texts: Any number.
            input_type: "document" or "query"; a query that is too long is cut, its beginning kept.

        Raises:
            InvalidInputError: A text holds a lone surrogate, or is a document that is too long.
            ConfigurationError: The model cannot be loaded.
            EmbeddingError: It failed.
        """
        with translate(EmbeddingError, provider=f"{PROVIDER}:{self._choice.name}"):
            require_unicode(texts)
            counted = self._texts()
            if counted is not None:
                counted.prefixed(texts, input_type)
            if not texts:
                return Embeddings(np.empty((0, self.identity.dimension), np.float32))
            model, prompts = self._model(), self._prompts
            # These two also choose the way through a model that has one for queries and one for documents.
            encode = model.encode_query if input_type == "query" else model.encode_document
            with self._turn():  # a tokenizer of transformers cannot be used by two threads at once
                vectors = encode(
                    list(texts),
                    prompt=prompts.query if input_type == "query" else prompts.document,
                    batch_size=self._batch,
                    normalize_embeddings=True,
                    convert_to_numpy=True,
                    show_progress_bar=False,
                )
            return Embeddings(np.asarray(vectors, np.float32))

    @cached_property
    def _prompts(self) -> Prompts:
        own = transformers.prompts_of(self._model())
        return chosen(self._choice.name, own, **self._given)

    @cached_property
    def _identity(self) -> ModelIdentity:
        with translate(EmbeddingError, provider=f"{PROVIDER}:{self._choice.name}"):
            model = self._model()
            # Renamed in sentence-transformers 6.
            measure = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
            return ModelIdentity(
                provider=PROVIDER,
                model=self._choice.name,
                revision=transformers.revision(self._choice, model),
                dimension=int(measure()),
                query_prefix=self._prompts.query,
                document_prefix=self._prompts.document,
            )

    def _read_texts(self) -> Texts | None:
        model = self._model()
        tokenizer = transformers.tokenizer_of(model)
        if tokenizer is None:
            return None
        prompts, window = self._prompts, transformers.window_of(model)
        return Texts(tokenizer, window, query_prefix=prompts.query, document_prefix=prompts.document)

    def _counted(self, name: str) -> Texts:
        texts = self._texts()
        if texts is None:
            raise AttributeError(f"{self._choice.name} has no {name}: its tokenizer is none of 'tokenizers'")
        return texts

    def __repr__(self) -> str:
        return f"SentenceTransformersEmbedder({str(self._choice.place or self._choice.name)!r})"
