"""What the providers that count were used for, and what that is estimated to have cost."""

from __future__ import annotations

from collections.abc import Sequence

from memory_plugin.engine.core import Engine
from memory_plugin.engine.sealing import Part
from memory_plugin.types import Usage

EMBEDDER, OTHER, RERANKER, LATE = "embedder", "other_embedder", "reranker", "late"


def usage(engine: Engine) -> dict[str, Usage]:
    """Of each provider that counts, by what it is to the store.

    "other_embedder" is the model of the second space while there is one.
    """
    models = engine.models
    held = {
        EMBEDDER: models.active.embedder,
        OTHER: models.other.embedder if models.other is not None else None,
        RERANKER: engine.reranker,
        LATE: engine.late,
    }
    counted = {what: _of(provider) for what, provider in held.items()}
    return {what: found for what, found in counted.items() if found is not None}


def _of(provider: object) -> Usage | None:
    found = getattr(provider, "usage", None)
    return found if isinstance(found, Usage) else None


class Bill:
    """What vendors charged one call for.

    Attributes:
        tokens: As they said.
        cost: Estimated dollars; None where the price of a model is not known.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.cost: float | None = 0.0

    def add(self, parts: Sequence[Part]) -> None:
        """What models made of a batch."""
        for part in parts:
            tokens = part.embeddings.billed_tokens or 0
            price = _price(part.model.embedder) if tokens else 0.0
            self.tokens += tokens
            self.cost = None if self.cost is None or price is None else self.cost + tokens * price


def _price(provider: object) -> float | None:
    """Dollars a token, by all that the provider was used for: other threads may be using it, too."""
    found = _of(provider)
    return found.cost / found.tokens if found is not None and found.cost is not None and found.tokens else None
