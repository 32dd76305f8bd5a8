"""The embedder that needs nothing: the shipped model, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from memory_plugin.errors import EmbeddingError, InvalidInputError, translate
from memory_plugin.models import runtime
from memory_plugin.types import Embeddings, InputType, ModelIdentity, TokenVectors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PROVIDER = f"local:{runtime.NAME}"


class LocalEmbedder:
    """all-MiniLM-L6-v2 in int8: 384 dimensions, English, offline, about 100 passages a second and core.

    A text's vectors depend on nothing but the text: not on what it is embedded with, nor on the thread.
    The model is loaded by the first call; an instance holds nothing and may cross a fork or be used by many threads.

    Args:
        workers: Texts to run at a time, a core each.  Default: 2, or 1 where there is one core.

    Raises:
        InvalidInputError: ``workers`` is not positive.
    """

    leaves_machine = False
    max_tokens = runtime.WINDOW
    """Word pieces a text may have, the two special ones included."""

    def __init__(self, *, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise InvalidInputError(f"workers must be at least 1, not {workers}")
        self._workers = workers or runtime.default_workers()

    @property
    def identity(self) -> ModelIdentity:
        """The revision is the beginning of the SHA-256 of the weights."""
        return ModelIdentity(
            provider="local", model=runtime.NAME, revision=runtime.REVISION, dimension=runtime.DIMENSION
        )

    @property
    def encoder(self) -> str:
        """Which model makes the token vectors; a late interaction of the same ``encoder`` scores them."""
        return runtime.ENCODER

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, for a chunker that cuts by its tokens.  Shared: do not change its settings.

        A chunker that counts without the two special word pieces must aim at ``max_tokens - 2``.

        Raises:
            ConfigurationError: A model file is missing or damaged.
        """
        return runtime.load().tokenizer

    def count(self, text: str, /) -> int:
        """How many word pieces the text has, the two special ones included.

        Raises:
            InvalidInputError: The text holds a lone surrogate.
            ConfigurationError: A model file is missing or damaged.
        """
        return len(runtime.load().pieces(text))

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Unit vectors and token vectors, in input order; the model knows no difference of input types.

        A document has to fit into ``max_tokens``: its end would be lost in silence.  A query that does not is cut,
        its beginning kept.  Token vectors of documents include those of [CLS] and [SEP], which see the whole text;
        those of queries do not, since they would match anything.

        Args:
            texts: Any number; token vectors take 1.5 KB a word piece until they are packed.
            input_type: "document" or "query".

        Returns:
            ``vectors`` of shape (n, 384), and a ``TokenVectors`` a text with ``vectors`` of shape (tokens, 384).

        Raises:
            InvalidInputError: A text is empty, holds a lone surrogate, or is a document that is too long.
                Nothing was embedded.
            ConfigurationError: A model file is missing or damaged.
            EmbeddingError: onnxruntime or the tokenizer failed.
        """
        with translate(EmbeddingError, provider=PROVIDER):
            model = runtime.load()
            pieces = [_fit(model, text, position, input_type) for position, text in enumerate(texts)]
            encodings = model.encode_all(pieces, workers=self._workers)
        vectors = np.empty((len(encodings), runtime.DIMENSION), np.float32)
        for row, encoding in zip(vectors, encodings, strict=True):
            row[:] = encoding.sentence
        tokens = (encoding.tokens for encoding in encodings)
        return Embeddings(vectors, tuple(map(_inner, tokens) if input_type == "query" else tokens))


def _fit(model: runtime.MiniLM, text: str, position: int, input_type: InputType) -> runtime.Pieces:
    """The text's word pieces, at most a window of them."""
    try:
        pieces = model.pieces(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"texts[{position}]: {error}") from error
    if len(pieces) <= 2:
        raise InvalidInputError(f"texts[{position}] is empty, or nothing but white space and control characters")
    if len(pieces) > runtime.WINDOW and input_type == "document":
        raise InvalidInputError(
            f"texts[{position}] has {len(pieces)} word pieces, more than the {runtime.WINDOW} that the model reads:"
            " split it first"
        )
    return runtime.windows(pieces)[0]


def _inner(tokens: TokenVectors) -> TokenVectors:
    """All but the special word pieces at both ends."""
    return TokenVectors(tokens.ids[1:-1], tokens.vectors[1:-1])
