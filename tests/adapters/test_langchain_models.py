"""Our embedders and rerankers as LangChain's: the framework's own suites, and what they leave out."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from langchain_core.documents import Document
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from memory_plugin import (
    ConfigurationError,
    EmbeddingError,
    InvalidInputError,
    NetworkForbiddenError,
    RerankError,
    UnknownProviderError,
)
from memory_plugin.adapters.langchain import MemoryEmbeddings, MemoryReranker
from memory_plugin.testing.doubles import AsyncHashEmbedder, HashEmbedder, OverlapReranker


class TestLocalEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[MemoryEmbeddings]:
        return MemoryEmbeddings


class TestLocalEmbeddingsAsAUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[MemoryEmbeddings]:
        return MemoryEmbeddings


async def test_vectors_are_the_embedders_own() -> None:
    embedder = HashEmbedder()
    ours, texts = MemoryEmbeddings(embedder), [f"text {number}" for number in range(130)]
    expected = embedder.embed(texts, input_type="document").vectors.tolist()
    assert ours.embed_documents(texts) == await ours.aembed_documents(texts) == expected
    assert ours.embed_query("text 3") == await ours.aembed_query("text 3") == expected[3]
    assert ours.embed_documents([]) == []


async def test_an_async_embedder_is_awaited_and_not_called_without_a_loop() -> None:
    ours = MemoryEmbeddings(AsyncHashEmbedder())
    assert len(await ours.aembed_query("one")) == 64
    with pytest.raises(ConfigurationError, match="async"):
        ours.embed_query("one")


class HostedEmbedder(HashEmbedder):
    leaves_machine = True


def test_embeddings_refuse_what_is_no_embedder() -> None:
    with pytest.raises(UnknownProviderError):
        MemoryEmbeddings("no-such")
    with pytest.raises(ConfigurationError, match="no embedder"):
        MemoryEmbeddings(object())  # type: ignore[arg-type]
    with pytest.raises(NetworkForbiddenError):
        MemoryEmbeddings(HostedEmbedder(), allow_network=False)
    with pytest.raises(InvalidInputError):
        MemoryEmbeddings().embed_documents([""])


class Short(HashEmbedder):
    def embed(self, texts: Sequence[str], /, *, input_type: object) -> list[list[float]]:  # type: ignore[override]
        return [[1.0, 0.0]] * (len(texts) - 1)


class Broken(HashEmbedder):
    def embed(self, texts: Sequence[str], /, *, input_type: object) -> list[list[float]]:  # type: ignore[override]
        raise TimeoutError("no answer")


def test_failures_of_an_embedder_are_ours() -> None:
    with pytest.raises(EmbeddingError, match="1 vectors for 2"):
        MemoryEmbeddings(Short()).embed_documents(["a", "b"])
    with pytest.raises(EmbeddingError, match="no answer"):
        MemoryEmbeddings(Broken()).embed_query("a")


# ── the reranker ──────────────────────────────────────────────────────────────────────────────────

DOCUMENTS = [
    Document("Trains are booked by Ines.", metadata={"topic": "travel"}, id="1"),
    Document("The cat sleeps on the sofa.", metadata={"topic": "cats"}, id="2"),
    Document("Who feeds the cat on Sundays?", metadata={}, id="3"),
]


class Elsewhere(OverlapReranker):
    leaves_machine = True

    def __init__(self) -> None:
        self.given: list[str] = []
        self.thread = 0

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        self.given += texts
        self.thread = threading.get_ident()
        return super().rerank(query, texts)


async def test_the_best_come_first_with_their_scores_and_the_given_stay_as_they_are() -> None:
    before = [one.model_copy(deep=True) for one in DOCUMENTS]
    reranker = MemoryReranker(reranker=OverlapReranker(), top_n=2)
    found = reranker.compress_documents(DOCUMENTS, "who feeds the cat")
    assert [one.id for one in found] == ["3", "2"]
    assert found[0].metadata["relevance_score"] == 1.0
    assert found[1].metadata == {"topic": "cats", "relevance_score": 0.5}
    assert before == DOCUMENTS
    assert await reranker.acompress_documents(DOCUMENTS, "who feeds the cat") == found
    assert reranker.compress_documents([], "who") == []


def test_the_shipped_cross_encoder_reads_question_and_answer() -> None:
    found = MemoryReranker().compress_documents(DOCUMENTS, "How do I get a railway ticket?")
    assert found[0].id == "1"


def test_what_is_for_this_machine_only_is_not_sent_elsewhere() -> None:
    secret = Document("The cat is at the vet.", metadata={"citation": {"local_only": True}})
    elsewhere = Elsewhere()
    found = MemoryReranker(reranker=elsewhere).compress_documents([secret, *DOCUMENTS], "where is the cat")
    assert secret.page_content not in elsewhere.given
    assert len(elsewhere.given) == 3
    assert found[-1] == secret
    assert MemoryReranker(reranker=OverlapReranker()).compress_documents([secret], "cat")[0] != secret


async def test_reranking_does_not_hold_the_loop_up() -> None:
    elsewhere = Elsewhere()
    await MemoryReranker(reranker=elsewhere).acompress_documents(DOCUMENTS, "cat")
    assert elsewhere.thread not in (0, threading.get_ident())


class Wrong(OverlapReranker):
    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        return [float("nan")] * len(texts)


def test_failures_of_a_reranker_are_ours() -> None:
    with pytest.raises(RerankError, match="number"):
        MemoryReranker(reranker=Wrong()).compress_documents(DOCUMENTS, "cat")
    with pytest.raises(NetworkForbiddenError):
        MemoryReranker(reranker=Elsewhere(), allow_network=False)
    with pytest.raises(UnknownProviderError):
        MemoryReranker(reranker="no-such")
