"""The embedder that needs nothing: the shipped model, or one built like it, in this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from memory_plugin.errors import EmbeddingError, InvalidInputError, translate
from memory_plugin.models import folder, runtime
from memory_plugin.types import Embeddings, InputType, ModelIdentity, TokenVectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class LocalEmbedder:
    """all-MiniLM-L6-v2 in int8: 384 dimensions, English, offline, about 100 passages a second and core.

    Or, as ``local:DIRECTORY``, a model that ``memory-plugin train embedder`` made.  That one gives no token vectors:
    those for late interaction still come from the shipped model, since scores of two encoders cannot be compared.

    A text's vectors depend on nothing but the text: not on what it is embedded with, nor on the thread.
    The model is loaded by the first call; an instance holds nothing and may cross a fork or be used by many threads.

    Args:
        model: A directory with a model of the user's own; "" is the shipped one.
        workers: Texts to run at a time, a core each.  Default: 2, or 1 where there is one core.

    Raises:
        InvalidInputError: ``workers`` is not positive.
        ConfigurationError: The directory holds no model.
    """

    leaves_machine = False

    def __init__(self, model: str | os.PathLike[str] = "", *, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise InvalidInputError(f"workers must be at least 1, not {workers}")
        self._folder = folder.describe(model) if os.fspath(model) else None
        self._workers = workers or runtime.default_workers()

    @property
    def identity(self) -> ModelIdentity:
        """The revision is the beginning of a SHA-256 of the weights; a folder's counts its tokenizer in."""
        if self._folder is not None:
            made = self._folder
            return ModelIdentity("local", made.name, made.revision, made.dimension)
        return ModelIdentity(
            provider="local", model=runtime.NAME, revision=runtime.REVISION, dimension=runtime.DIMENSION
        )

    @property
    def encoder(self) -> str:
        """Which model makes the token vectors; a late interaction of the same ``encoder`` scores them."""
        return runtime.ENCODER if self._folder is None else f"{self._folder.name}@{self._folder.revision}"

    @property
    def matryoshka(self) -> tuple[int, ...]:
        """Dimensions that the model was trained to be cut to; none for the shipped one."""
        return () if self._folder is None else self._folder.matryoshka

    @property
    def max_tokens(self) -> int:
        """Word pieces a text may have, the two special ones included."""
        return runtime.WINDOW if self._folder is None else self._folder.window

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, for a chunker that cuts by its tokens.  Shared: do not change its settings.

        A chunker that counts without the two special word pieces must aim at ``max_tokens - 2``.

        Raises:
            ConfigurationError: A model file is missing or damaged.
        """
        return self._load().tokenizer

    def count(self, text: str, /) -> int:
        """How many word pieces the text has, the two special ones included.

        Raises:
            InvalidInputError: The text holds a lone surrogate.
            ConfigurationError: A model file is missing or damaged.
        """
        return len(self._load().pieces(text))

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Unit vectors and token vectors, in input order; the model knows no difference of input types.

        A document has to fit into ``max_tokens``: its end would be lost in silence.  A query that does not is cut,
        its beginning kept.  Token vectors of documents include those of [CLS] and [SEP], which see the whole text;
        those of queries do not, since they would match anything.

        Args:
            texts: Any number; token vectors take 1.5 KB a word piece until they are packed.
            input_type: "document" or "query".

        Returns:
            ``vectors`` of shape (n, 384), and a ``TokenVectors`` a text with ``vectors`` of shape (tokens, 384);
            of a user's model none.

        Raises:
            InvalidInputError: A text is empty, holds a lone surrogate, or is a document that is too long.
                Nothing was embedded.
            ConfigurationError: A model file is missing or damaged.
            EmbeddingError: onnxruntime or the tokenizer failed.
        """
        identity = self.identity
        vectors = np.empty((len(texts), identity.dimension), np.float32)
        with translate(EmbeddingError, provider=f"{identity.provider}:{identity.model}"):
            model = self._load()
            pieces = [self._fit(model, text, position, input_type) for position, text in enumerate(texts)]
            if self._folder is not None:
                for row, sentence in zip(vectors, model.sentences(pieces, workers=self._workers), strict=True):
                    row[:] = sentence
                return Embeddings(vectors)
            encodings = model.encode_all(pieces, workers=self._workers)
        for row, encoding in zip(vectors, encodings, strict=True):
            row[:] = encoding.sentence
        tokens = (encoding.tokens for encoding in encodings)
        return Embeddings(vectors, tuple(map(_inner, tokens) if input_type == "query" else tokens))

    def _load(self) -> runtime.MiniLM:
        return runtime.load() if self._folder is None else self._folder.load()

    def _fit(self, model: runtime.MiniLM, text: str, position: int, input_type: InputType) -> runtime.Pieces:
        """The text's word pieces, at most a window of them."""
        try:
            pieces = model.pieces(text)
        except InvalidInputError as error:
            raise InvalidInputError(f"texts[{position}]: {error}") from error
        if len(pieces) <= 2:
            raise InvalidInputError(f"texts[{position}] is empty, or nothing but white space and control characters")
        if len(pieces) > self.max_tokens and input_type == "document":
            raise InvalidInputError(
                f"texts[{position}] has {len(pieces)} word pieces, more than the {self.max_tokens} that the model"
                " reads: split it first"
            )
        return runtime.windows(pieces, self.max_tokens)[0]


def _inner(tokens: TokenVectors) -> TokenVectors:
    """All but the special word pieces at both ends."""
    return TokenVectors(tokens.ids[1:-1], tokens.vectors[1:-1])
