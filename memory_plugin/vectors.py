"""What models take and give: vectors, token vectors, and the identity that decides which may meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import InvalidInputError

Vector: TypeAlias = NDArray[np.float32]
"""A dense vector, shape (dimension,)."""
Matrix: TypeAlias = NDArray[np.float32]
"""Row vectors, shape (n, dimension)."""
Numbers: TypeAlias = Sequence[float] | NDArray[np.floating[Any]]
"""A vector as users give one, of any length but zero."""
InputType: TypeAlias = Literal["query", "document"]
Quantization: TypeAlias = Literal["none", "turbo4", "turbo2", "int8", "binary"]
"""How the first pass of a search sees dense vectors; the best are scored again by the full ones."""
QUANTIZATIONS: tuple[Quantization, ...] = ("none", "turbo4", "turbo2", "int8", "binary")


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Everything that decides which space a model's vectors live in.

    Two models whose identities differ in any field make vectors that must never meet.

    Args:
        provider: "local", "openai", …
        model: The vendor's name of the model.
        revision: A version or the SHA-256 of the weights.
        dimension: Length of a vector.
        normalized: Whether vectors have unit length.
        query_prefix: What is put before a query ("" for none).
        document_prefix: What is put before a document.
        output_type: Element type that the model returns: "float32", "int8", …
        outputs: What it makes of a text, comma separated: "dense", and "terms" where it weighs terms too.
    """

    provider: str
    model: str
    revision: str
    dimension: int
    normalized: bool = True
    query_prefix: str = ""
    document_prefix: str = ""
    output_type: str = "float32"
    outputs: str = "dense"


@dataclass(frozen=True, slots=True, eq=False)
class TokenVectors:
    """A text as its word pieces see it in context.

    Args:
        ids: Vocabulary ids, shape (tokens,), uint32.
        vectors: Each of unit length, shape (tokens, dimension), float32.
    """

    ids: NDArray[np.uint32]
    vectors: Matrix


def joined(parts: Sequence[TokenVectors]) -> TokenVectors:
    """The tokens of a text's windows, in order, as one text's."""
    if len(parts) == 1:
        return parts[0]
    return TokenVectors(np.concatenate([p.ids for p in parts]), np.concatenate([p.vectors for p in parts]))


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """What an embedder returns for n texts, in input order.

    Args:
        vectors: Shape (n, dimension), float32.
        tokens: Each text's token vectors, for late interaction; None when the model gives none.
        billed_tokens: What a vendor charged for, or None.
        terms: Each text's terms with the weights that the model learned for them (a learned sparse vector), or None.
    """

    vectors: Matrix
    tokens: tuple[TokenVectors, ...] | None = None
    billed_tokens: int | None = None
    terms: tuple[Mapping[str, float], ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SparseVector:
    """Term weights.

    Args:
        indices: Distinct term ids, shape (terms,), uint32.
        values: Weights, shape (terms,), float32.
    """

    indices: NDArray[np.uint32]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a provider was used for since it was made.

    Args:
        requests: Calls that a vendor answered.
        texts: Texts (or query and passage pairs) in them.
        tokens: Tokens that the vendor billed, or 0 where it tells none.
        cost: Estimate in US dollars by a dated price table; None where the model has no price in it.
    """

    requests: int = 0
    texts: int = 0
    tokens: int = 0
    cost: float | None = 0.0


def unit(given: Numbers, dimension: int | None = None) -> Vector:
    """A vector that was given, of unit length.

    Args:
        given: Finite numbers, not all zero.
        dimension: How many there have to be; None: at least one.

    Raises:
        InvalidInputError: It is no such vector.
    """
    try:
        numbers = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(f"a vector is a sequence of numbers: {error}") from error
    if numbers.ndim != 1 or numbers.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"a vector is a sequence of numbers, not {type(given).__name__} of shape {numbers.shape} "
            f"and type {numbers.dtype}"
        )
    if not numbers.size or (dimension is not None and len(numbers) != dimension):
        raise InvalidInputError(f"the vector has {len(numbers)} numbers, and this store's have {dimension or 'some'}")
    exact = numbers.astype(np.float64)
    largest = np.abs(exact).max()
    if not np.isfinite(largest) or largest == 0:
        raise InvalidInputError(
            "the vector holds a number that is not finite, or nothing but zeros: it has no direction"
        )
    exact /= largest  # squares of very large and very small numbers are not representable
    return np.asarray(exact / np.linalg.norm(exact), np.float32)
