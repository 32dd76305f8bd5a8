"""Bring your own vectors: a space for what no embedder here makes, such as word2vec or song embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from memory_plugin.errors import InvalidInputError
from memory_plugin.types import InputType, ModelIdentity


class GivenVectors:
    """Makes no vectors: it says which ones a store takes, and refuses to embed.

    Give each document its vector, ``Document(text, vector=…)``, and each question its own,
    ``search(query, namespace, vector=…)``.  Texts are found by their words all the same.

    Args:
        model: What the vectors are, "word2vec-google-news" say; or their dimension: "300".
        dimension: Length of a vector.
        revision: Another revision is another space: change it when what makes the vectors changes.

    Raises:
        InvalidInputError: The dimension is missing or not positive.
    """

    leaves_machine = False
    embeds = False
    """It cannot turn texts into vectors: there is nothing to probe, and nothing to embed again."""

    def __init__(self, model: str | int = "given", *, dimension: int | None = None, revision: str = "1") -> None:
        name = str(model)
        if dimension is None and name.isdecimal():
            name, dimension = "given", int(name)
        if isinstance(dimension, bool) or not isinstance(dimension, int) or dimension < 1:
            raise InvalidInputError(
                "vectors that are given need their dimension: 'vectors:300', or 'vectors:word2vec?dimension=300'"
            )
        if not name or not revision:
            raise InvalidInputError("vectors that are given need a name and a revision that are not empty")
        self._identity = ModelIdentity(provider="vectors", model=name, revision=str(revision), dimension=dimension)

    @property
    def identity(self) -> ModelIdentity:
        """The name, the revision and the dimension: all that is known of the vectors."""
        return self._identity

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> NoReturn:
        """Refuse.

        Raises:
            InvalidInputError: Always; it says where a vector goes.
        """
        where = "search(…, vector=…)" if input_type == "query" else "Document(text, vector=…)"
        raise InvalidInputError(
            f"this store takes vectors that are given ({self._identity.model}, {self._identity.dimension} dimensions) "
            f"and embeds no text: pass {where}"
        )

    def __repr__(self) -> str:
        return f"GivenVectors({self._identity.model!r}, dimension={self._identity.dimension})"
