"""Every managed provider of ours, with the vendor's SDK where it has one, as conformance classes."""

from __future__ import annotations

from typing import Any

from memory_plugin.embedders.azure import AzureEmbedder
from memory_plugin.embedders.cohere import CohereEmbedder
from memory_plugin.embedders.jina import JinaEmbedder
from memory_plugin.embedders.ollama import OllamaEmbedder
from memory_plugin.embedders.openai import OpenAIEmbedder
from memory_plugin.embedders.tei import TeiEmbedder
from memory_plugin.embedders.voyage import VoyageEmbedder
from memory_plugin.embedders.zeroentropy import ZeroEntropyEmbedder
from memory_plugin.rerankers.cohere import CohereReranker
from memory_plugin.rerankers.jina import JinaReranker
from memory_plugin.rerankers.tei import TeiReranker
from memory_plugin.rerankers.voyage import VoyageReranker
from memory_plugin.rerankers.zeroentropy import ZeroEntropyReranker
from memory_plugin.testing.wire import WireServer

EMBEDDERS: dict[str, tuple[type[Any], tuple[Any, ...]]] = {
    "openai": (OpenAIEmbedder, ()),
    "azure": (AzureEmbedder, ()),
    "ollama": (OllamaEmbedder, ("nomic-embed-text",)),
    "cohere": (CohereEmbedder, ()),
    "voyage": (VoyageEmbedder, ()),
    "jina": (JinaEmbedder, ()),
    "zeroentropy": (ZeroEntropyEmbedder, ()),
    "tei": (TeiEmbedder, ()),
}
RERANKERS: dict[str, type[Any]] = {
    "cohere": CohereReranker,
    "voyage": VoyageReranker,
    "jina": JinaReranker,
    "zeroentropy": ZeroEntropyReranker,
    "tei": TeiReranker,
}


def embedder(vendor: str, wire: WireServer, **options: Any) -> Any:
    kind, given = EMBEDDERS[vendor]
    return kind(*given, **{"base_url": wire.url(vendor), "api_key": wire.key, **options})


def reranker(vendor: str, wire: WireServer, **options: Any) -> Any:
    return RERANKERS[vendor](**{"base_url": wire.url(vendor), "api_key": wire.key, **options})
