"""Names to providers: "local", or "name:model".  Lazy: a provider's module loads when asked for.

Other packages add providers through the entry point groups ``memory_plugin.embedders`` and
``memory_plugin.rerankers``.  Indexes, ciphers and key rings have no names: pass the object.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

from memory_plugin.chunk import Pieces
from memory_plugin.errors import MissingExtraError, UnknownProviderError
from memory_plugin.protocols import Embedder, LateInteraction, Reranker

# name → (module:attribute, the extra that it needs or "")
EMBEDDERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "local": ("memory_plugin.embedders.local:LocalEmbedder", ""),
    }
)
LATE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "local": ("memory_plugin.rerankers.late_interaction:MaxSim", ""),
    }
)
RERANKERS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "local": ("memory_plugin.rerankers.local:LocalReranker", ""),
    }
)


def embedder(name: str) -> Embedder:
    """The embedder of that name; what follows a colon is its model.

    Raises:
        UnknownProviderError: None of that name.
        MissingExtraError: Its package is not installed.
    """
    return cast("Embedder", _make(name, EMBEDDERS, "memory_plugin.embedders"))


def reranker(name: str) -> Reranker:
    """The reranker of that name; what follows a colon is its model.

    Raises:
        UnknownProviderError: None of that name.
        MissingExtraError: Its package is not installed.
    """
    return cast("Reranker", _make(name, RERANKERS, "memory_plugin.rerankers"))


def late_interaction(name: str) -> LateInteraction:
    """The late interaction model of that name.

    Raises:
        UnknownProviderError: None of that name.
    """
    return cast("LateInteraction", _make(name, LATE, "memory_plugin.late_interaction"))


def pieces(embedder: Embedder) -> Pieces:
    """The tokenizer to cut passages with: the embedder's own, else the local model's."""
    if hasattr(embedder, "count") and hasattr(embedder, "tokenizer"):
        return cast("Pieces", embedder)
    return cast("Pieces", _make("local", EMBEDDERS, ""))


def _make(name: str, table: Mapping[str, tuple[str, str]], group: str) -> Any:
    provider, _, model = name.partition(":")
    if provider in table:
        target, extra = table[provider]
        module, _, attribute = target.partition(":")
        try:
            factory = getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            if not extra:
                raise
            raise MissingExtraError(f"{provider!r}", extra) from error
    else:
        from importlib.metadata import entry_points  # reads mail headers: slow to load

        found = {point.name: point for point in entry_points(group=group)}
        if provider not in found:
            known = ", ".join(sorted({*table, *found}))
            raise UnknownProviderError(f"no provider {provider!r} in {group}; known are: {known}")
        factory = found[provider].load()
    return factory(model) if model else factory()
