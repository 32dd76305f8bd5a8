"""CLIP: texts and images in one space, so that words find pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memory_plugin.errors import ConfigurationError, EmbeddingError, InvalidInputError, translate
from memory_plugin.models import clip, optional
from memory_plugin.models.files import directory, fingerprint, name_of, read_json
from memory_plugin.models.images import Preparation, pixels, preparation
from memory_plugin.models.once import Once
from memory_plugin.models.runtime import default_workers
from memory_plugin.models.session import Texts, each, read_tokenizer, read_window
from memory_plugin.types import Embeddings, InputType, ModelIdentity, Vector

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PROVIDER = "clip"


class ClipEmbedder:
    """CLIP from local directories: 77 word pieces of English, or a picture.

    onnxruntime runs exports of both models: in one directory (``text_model.onnx``, ``vision_model.onnx``), or in two,
    as Qdrant/clip-ViT-B-32-text and -vision are.  A checkpoint of transformers or sentence-transformers needs the
    extra "sentence-transformers".  Nothing is downloaded.  Pictures are decoded by Pillow, the extra "images".

    A vector depends on nothing but its text or picture: each is a run of its own.  The models are loaded by the first
    call; an instance may cross a fork and be used by many threads.

    A store for it needs ``Settings(chunk_tokens=77)`` or less.

    Args:
        model: A directory with both models, or with two directories whose names end in "text" and "vision".
        vision: The directory of the vision model, where ``model`` is that of the text model alone.
        query_prefix: What is put before a query, "a photo of " say.
        document_prefix: What is put before a document that is a text.
        workers: Texts or pictures to run at a time.  Default: 2, or 1 where there is one core.
        threads: Cores that one run may use.

    Raises:
        InvalidInputError: There is no such directory, or a number is not positive.
        ConfigurationError: It does not hold both models.
        MissingExtraError: Pillow is not installed.
    """

    leaves_machine = False

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        vision: str | os.PathLike[str] | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
        workers: int | None = None,
        threads: int = 1,
    ) -> None:
        if threads < 1 or (workers is not None and workers < 1):
            raise InvalidInputError("workers and threads must be at least 1")
        optional.require("PIL", what=PROVIDER, extra="images")
        self._place = _directory(model)
        self._source = clip.find(self._place, None if vision is None else _directory(vision))
        self._prefixes = {"query_prefix": query_prefix, "document_prefix": document_prefix}
        self._workers = workers or default_workers()
        self._texts = Once(self._read_texts)
        self._towers = Once(lambda: self._source.load(threads))

    @property
    def identity(self) -> ModelIdentity:
        """The revision is the beginning of a SHA-256 over both models, the tokenizer and how images are prepared.

        Raises:
            ConfigurationError: A model cannot be loaded.
            EmbeddingError: It failed.
        """
        return ModelIdentity(
            provider=PROVIDER,
            model=name_of(self._place),
            revision=self._revision,
            dimension=self._dimension,
            query_prefix=self._prefixes["query_prefix"],
            document_prefix=self._prefixes["document_prefix"],
        )

    @property
    def max_tokens(self) -> int:
        """Word pieces a text may have, the two special ones included: what the prefix leaves of the model's window."""
        return self._texts().max_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, for a chunker.  Shared: do not change its settings."""
        return self._texts().tokenizer

    def count(self, text: str, /) -> int:
        """How many word pieces the text has, the two special ones included."""
        return len(self._texts().pieces(text))

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Unit vectors of texts, in input order.

        Args:
            texts: Any number.
            input_type: "document" or "query"; a query that is too long is cut, its beginning kept.

        Raises:
            InvalidInputError: A text holds a lone surrogate, or is a document that is too long.
            ConfigurationError: A model cannot be loaded.
            EmbeddingError: The model or its tokenizer failed.
        """
        with translate(EmbeddingError, provider=PROVIDER):
            pieces = self._texts().fitting(texts, input_type)
            return self._stacked(each(self._towers().text, pieces, workers=self._workers))

    def embed_images(self, images: Sequence[bytes], /) -> Embeddings:
        """Unit vectors of pictures, in input order.

        Args:
            images: The content of PNG, JPEG, WebP or GIF files, each up to 64 MiB and 67 million pixels.

        Raises:
            InvalidInputError: One is no such file, is damaged, or is too large.  Nothing was embedded.
            ConfigurationError: A model cannot be loaded.
            EmbeddingError: The model failed.
        """
        with translate(EmbeddingError, provider=PROVIDER):
            prepared = [pixels(data, position, self._preparation) for position, data in enumerate(images)]
            return self._stacked(each(self._towers().image, prepared, workers=self._workers))

    def _stacked(self, rows: Sequence[Vector]) -> Embeddings:
        return Embeddings(np.array(rows, np.float32) if rows else np.empty((0, self._dimension), np.float32))

    def _read_texts(self) -> Texts:
        tokenizer = read_tokenizer(self._source.texts)
        return Texts(tokenizer, read_window(self._source.texts, tokenizer, clip.WINDOW), **self._prefixes)

    @cached_property
    def _preparation(self) -> Preparation:
        return preparation(read_json(self._source.images / "preprocessor_config.json"))

    @cached_property
    def _revision(self) -> str:
        return fingerprint([*self._source.files, self._source.texts / "tokenizer.json"], self._preparation)

    @cached_property
    def _dimension(self) -> int:
        """What both models make; asked of each with one run."""
        with translate(EmbeddingError, provider=PROVIDER):
            height, width = self._preparation.crop
            blank = np.zeros((3, height, width), np.float32)
            text, image = self._towers().text(self._texts().pieces("picture")), self._towers().image(blank)
        if len(text) != len(image):
            raise ConfigurationError(
                f"the two models are no pair: texts have {len(text)} dimensions, images {len(image)}"
            )
        return len(text)

    def __repr__(self) -> str:
        return f"ClipEmbedder({str(self._place)!r})"


def _directory(model: str | os.PathLike[str]) -> Path:
    place = directory(model)
    if place is None:
        raise InvalidInputError(f"there is no directory {os.fspath(model)!r:.200} to read CLIP from")
    return place
