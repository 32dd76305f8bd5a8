"""Every managed provider under every fault, with the real SDKs against a local server."""

from __future__ import annotations

from typing import Any

from memory_plugin.testing.managed import ManagedEmbedderTests, ManagedRerankerTests
from memory_plugin.testing.wire import WireServer
from tests.managed import providers


class _Embedder(ManagedEmbedderTests):
    def make(self, wire: WireServer, **options: Any) -> Any:
        return providers.embedder(self.vendor, wire, **options)


class TestOpenAI(_Embedder):
    vendor = "openai"
    own_key = "OPENAI_API_KEY"


class TestAzure(_Embedder):
    vendor = "azure"
    own_key = "AZURE_OPENAI_API_KEY"


class TestOllama(_Embedder):
    vendor = "ollama"


class TestCohere(_Embedder):
    vendor = "cohere"
    own_key = "CO_API_KEY"
    indexed = False


class TestVoyage(_Embedder):
    vendor = "voyage"
    own_key = "VOYAGE_API_KEY"


class TestJina(_Embedder):
    vendor = "jina"
    own_key = "JINA_API_KEY"


class TestZeroEntropy(_Embedder):
    vendor = "zeroentropy"
    own_key = "ZEROENTROPY_API_KEY"
    indexed = False


class TestTei(_Embedder):
    vendor = "tei"
    own_key = "TEI_API_KEY"
    indexed = base64 = False


class _Reranker(ManagedRerankerTests):
    def make(self, wire: WireServer, **options: Any) -> Any:
        return providers.reranker(self.vendor, wire, **options)


class TestCohereReranker(_Reranker):
    vendor = "cohere"
    own_key = "CO_API_KEY"


class TestVoyageReranker(_Reranker):
    vendor = "voyage"
    own_key = "VOYAGE_API_KEY"


class TestJinaReranker(_Reranker):
    vendor = "jina"
    own_key = "JINA_API_KEY"


class TestZeroEntropyReranker(_Reranker):
    vendor = "zeroentropy"
    own_key = "ZEROENTROPY_API_KEY"


class TestTeiReranker(_Reranker):
    vendor = "tei"
    own_key = "TEI_API_KEY"
