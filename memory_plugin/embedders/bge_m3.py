"""bge-m3 with all three outputs: a dense vector, learned term weights, and token vectors for late interaction."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import EmbeddingError, InvalidInputError, translate
from memory_plugin.models import m3
from memory_plugin.models.files import directory, fingerprint, read_json
from memory_plugin.models.once import Once
from memory_plugin.models.runtime import default_workers
from memory_plugin.models.session import Texts, each, read_tokenizer, read_window
from memory_plugin.types import Embeddings, InputType, ModelIdentity, TokenVectors
from memory_plugin.vectors import joined

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME = "bge-m3"
WINDOW = 8192


class BgeM3Embedder:
    """bge-m3 from a local directory: 1,024 dimensions, over 100 languages, up to 8,192 word pieces.

    A directory holds ``tokenizer.json`` and either an ONNX export with three outputs, which onnxruntime runs, or the
    original checkpoint with ``sparse_linear.pt`` and ``colbert_linear.pt``, which needs the extra
    "sentence-transformers".  Nothing is downloaded.

    A text's vectors depend on nothing but the text: each is a run of its own.  The model is loaded by the first
    call; an instance may cross a fork and be used by many threads.

    Args:
        model: The directory.
        file: Which ONNX file in it, where there are several: "model_int8.onnx".
        workers: Texts to run at a time.  Default: 2, or 1 where there is one core.
        threads: Cores that one text may use.

    Raises:
        InvalidInputError: There is no such directory, or a number is not positive.
    """

    leaves_machine = False

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        file: str | None = None,
        workers: int | None = None,
        threads: int = 1,
    ) -> None:
        place = directory(model)
        if place is None:
            raise InvalidInputError(f"there is no directory {os.fspath(model)!r:.200} to read bge-m3 from")
        if threads < 1 or (workers is not None and workers < 1):
            raise InvalidInputError("workers and threads must be at least 1")
        self._place: Path = place
        self._file = file
        self._threads = threads
        self._workers = workers or default_workers()
        self._texts = Once(self._read_texts)
        self._model = Once(lambda: m3.find(self._place, self._file).load(self._threads))

    @property
    def identity(self) -> ModelIdentity:
        """The revision is the beginning of a SHA-256 over the weights and the tokenizer.

        Raises:
            ConfigurationError: The directory holds no bge-m3.
        """
        return ModelIdentity(
            provider=NAME,
            model=NAME,
            revision=self._revision,
            dimension=self._dimensions[0],
            outputs="dense,terms",
        )

    @property
    def encoder(self) -> str:
        """Which model makes the token vectors."""
        return f"{NAME}@{self._revision}"

    @property
    def token_dimension(self) -> int:
        """Length of a token vector."""
        return self._dimensions[1]

    @property
    def vocabulary(self) -> int:
        """How many word pieces there are."""
        return int(self.tokenizer.get_vocab_size())

    @cached_property
    def special_tokens(self) -> frozenset[int]:
        """Ids of the word pieces that stand for no word."""
        added = self.tokenizer.get_added_tokens_decoder()
        return frozenset(number for number, token in added.items() if token.special)

    @property
    def max_tokens(self) -> int:
        """Word pieces a text may have, the two special ones included."""
        return self._texts().max_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, for a chunker.  Shared: do not change its settings."""
        return self._texts().tokenizer

    def count(self, text: str, /) -> int:
        """How many word pieces the text has, the two special ones included."""
        return len(self._texts().pieces(text))

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """All three outputs, in input order; the model knows no difference of input types.

        Terms are word pieces with the highest weight that one of their places has; those of no weight and special
        ones are left out.  Token vectors are those of all word pieces but the first special one; of a query, without
        the last, too.

        Args:
            texts: Any number; token vectors take 4 KB a word piece until they are packed.
            input_type: "document" or "query".

        Raises:
            InvalidInputError: A text holds a lone surrogate, or is a document that is too long.
            ConfigurationError: The directory holds no bge-m3.
            EmbeddingError: The model or its tokenizer failed.
        """
        with translate(EmbeddingError, provider=NAME):
            pieces = self._texts().fitting(texts, input_type)
            outputs = each(self._model().run, pieces, workers=self._workers)
            rows = [output.dense for output in outputs]
            vectors = np.array(rows, np.float32) if rows else np.empty((0, self._dimensions[0]), np.float32)
            tokens = tuple(
                _tokens(ids, output, inner=input_type == "query") for ids, output in zip(pieces, outputs, strict=True)
            )
            terms = tuple(self._terms(ids, output.weights) for ids, output in zip(pieces, outputs, strict=True))
        return Embeddings(vectors, tokens, terms=terms)

    def token_vectors(self, texts: Sequence[str], /) -> tuple[TokenVectors, ...]:
        """Token vectors of texts of any length, window by window.

        Raises:
            InvalidInputError: A text holds a lone surrogate.
            ConfigurationError: The directory holds no bge-m3.
        """
        windows = [list(self._texts().windows(text)) for text in texts]
        flat = [ids for text in windows for ids in text]
        made = iter(zip(flat, each(self._model().run, flat, workers=self._workers), strict=True))
        return tuple(joined([_tokens(*next(made), inner=False) for _ in text]) for text in windows)

    def _terms(self, ids: NDArray[np.int64], weights: NDArray[np.float32]) -> Mapping[str, float]:
        found: dict[int, float] = {}
        for number, weight in zip(ids.tolist(), weights.tolist(), strict=True):
            if weight > 0 and number not in self.special_tokens:
                found[number] = max(weight, found.get(number, 0.0))
        return {str(self.tokenizer.id_to_token(number)): weight for number, weight in found.items()}

    def _read_texts(self) -> Texts:
        tokenizer = read_tokenizer(self._place)
        return Texts(tokenizer, read_window(self._place, tokenizer, WINDOW))

    @cached_property
    def _revision(self) -> str:
        return fingerprint([*m3.find(self._place, self._file).files, self._place / "tokenizer.json"])

    @cached_property
    def _dimensions(self) -> tuple[int, int]:
        """Lengths of a dense vector and of a token vector: all are hidden states, or as long as one."""
        told = read_json(self._place / "config.json").get("hidden_size")
        if isinstance(told, int) and not (self._place / m3.HEADS[1]).is_file():
            return told, told
        made = self._model().run(self._texts().pieces(NAME))
        return len(made.dense), made.tokens.shape[1]

    def __repr__(self) -> str:
        return f"BgeM3Embedder({str(self._place)!r})"


def _tokens(ids: NDArray[np.int64], output: m3.Output, *, inner: bool) -> TokenVectors:
    """Word pieces with their vectors, without the first special one; without the last where ``inner``."""
    end = len(ids) - 1 if inner else len(ids)
    return TokenVectors(ids[1:end].astype(np.uint32), output.tokens[: end - 1])
