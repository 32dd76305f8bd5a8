"""Embedding objects of LlamaIndex and LangChain, taken as they are.  Neither is imported here: what counts are methods.

A store takes such an object wherever it takes an embedder.  Wrap it yourself to say more than can be seen from
outside: ``Bridge(obj, leaves_machine=False, revision="2024-05")``.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from memory_plugin.errors import ConfigurationError, EmbeddingError, translate
from memory_plugin.types import Embeddings, InputType, Matrix, ModelIdentity

LLAMA_INDEX, LANGCHAIN = "llama-index", "langchain"

_METHODS = {
    LLAMA_INDEX: ("get_text_embedding_batch", "get_query_embedding"),
    LANGCHAIN: ("embed_documents", "embed_query"),
}

# Package and name of classes that run the model in this process, and have read it when they are made.
_LOCAL = frozenset(
    {
        ("llama_index", "MockEmbedding"),
        ("llama_index", "HuggingFaceEmbedding"),
        ("llama_index", "FastEmbedEmbedding"),
        ("langchain_core", "FakeEmbeddings"),
        ("langchain_core", "DeterministicFakeEmbedding"),
        ("langchain_huggingface", "HuggingFaceEmbeddings"),
        ("langchain_community", "FastEmbedEmbeddings"),
        ("langchain_community", "LlamaCppEmbeddings"),
    }
)

# Where these objects keep what decides their vectors.
_NAMES = ("model_name", "model", "model_id", "deployment")
_QUERY_PREFIXES = ("query_instruction",)
_DOCUMENT_PREFIXES = ("text_instruction", "embed_instruction")

_PROBE = "dimension"


class Bridge:
    """An embedding object of LlamaIndex or LangChain as an embedder.

    Its vectors are brought to unit length.  Its identity is what can be seen of it: the framework, its class, the
    name of its model, the instructions that it puts before texts, and the dimension, which is asked once with one
    text.  What else changes its vectors cannot be seen: give another ``revision`` then.

    The object's own batching, retries and caches stay in force, and so do its callbacks, which may carry texts.

    Args:
        wrapped: Has ``get_text_embedding_batch`` and ``get_query_embedding`` (LlamaIndex), or ``embed_documents``
            and ``embed_query`` (LangChain).
        leaves_machine: Whether it sends texts elsewhere.  Default: True, but for classes known to be local.
        revision: A version of the model.  Default: the name of the object's class.
        dimension: Length of a vector.  Default: it is asked.

    Raises:
        ConfigurationError: The object has the methods of neither.
    """

    def __init__(
        self,
        wrapped: object,
        *,
        leaves_machine: bool | None = None,
        revision: str | None = None,
        dimension: int | None = None,
    ) -> None:
        framework = framework_of(wrapped)
        if framework is None:
            raise ConfigurationError(
                f"{type(wrapped).__name__} is no embedding object of LlamaIndex or LangChain: it has neither "
                + " nor ".join(f"{documents!r} with {query!r}" for documents, query in _METHODS.values())
            )
        self._framework = framework
        self._wrapped: Any = wrapped
        self._revision = revision or type(wrapped).__name__
        self._dimension = dimension
        self._guard = threading.Lock()
        self.leaves_machine = not _is_local(wrapped) if leaves_machine is None else leaves_machine

    @property
    def identity(self) -> ModelIdentity:
        """See the class; the first time, it embeds one word.

        Raises:
            EmbeddingError: The object failed.
        """
        with self._guard:
            if self._dimension is None:
                self._dimension = self._documents([_PROBE]).shape[1]
        return ModelIdentity(
            provider=self._framework,
            model=_text(self._wrapped, _NAMES) or type(self._wrapped).__name__,
            revision=self._revision,
            dimension=self._dimension,
            query_prefix=_text(self._wrapped, _QUERY_PREFIXES),
            document_prefix=_text(self._wrapped, _DOCUMENT_PREFIXES),
        )

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Unit vectors, in input order.

        Args:
            texts: Any number.
            input_type: Queries go to the object's method for queries, one by one: it has no other.

        Raises:
            EmbeddingError: The object failed, or returned something that is not numbers in rows.
        """
        if not texts:
            return Embeddings(np.empty((0, self.identity.dimension), np.float32))
        return Embeddings(self._queries(texts) if input_type == "query" else self._documents(texts))

    def _documents(self, texts: Sequence[str]) -> Matrix:
        embed = getattr(self._wrapped, _METHODS[self._framework][0])
        with translate(EmbeddingError, provider=self._name):
            return _unit(embed(list(texts)), self._name)

    def _queries(self, texts: Sequence[str]) -> Matrix:
        embed = getattr(self._wrapped, _METHODS[self._framework][1])
        with translate(EmbeddingError, provider=self._name):
            return _unit([embed(text) for text in texts], self._name)

    @property
    def _name(self) -> str:
        return f"{self._framework}:{type(self._wrapped).__name__}"

    def __repr__(self) -> str:
        # The object's own repr may show keys.
        return f"Bridge({self._name}, leaves_machine={self.leaves_machine})"


def framework_of(value: object) -> str | None:
    """Whose embedding object it is: "llama-index", "langchain", or None."""
    for framework, methods in _METHODS.items():
        if all(callable(getattr(value, name, None)) for name in methods):
            return framework
    return None


def _is_local(value: object) -> bool:
    # A subclass may do anything: only the very class is known.
    kind = type(value)
    return (kind.__module__.partition(".")[0], kind.__name__) in _LOCAL


def _text(value: object, names: Sequence[str]) -> str:
    """The first of the attributes that is a text, or ""."""
    found = (getattr(value, name, None) for name in names)
    return next((one for one in found if isinstance(one, str) and one), "")


def _unit(rows: object, provider: str) -> Matrix:
    vectors = np.asarray(rows, dtype=np.float32)
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise EmbeddingError(f"{provider} returned no rows of numbers, but {vectors.shape}", provider=provider)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # The engine refuses a zero vector; here it only must not become NaN.
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)
