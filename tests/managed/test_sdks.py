"""The vendors' own SDKs against the server: what ours get from it is what they get."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from memory_plugin.testing.wire import WireServer
from memory_plugin.types import Matrix
from tests.managed.providers import embedder, reranker

pytestmark = pytest.mark.filterwarnings("ignore")  # others' clients leave sockets to the garbage collector

TEXTS = ["The cat sleeps on the sofa.", "Interest rates rose.", "naïve café, Ω ≈ 3, 東京"]
QUERY = "where does the cat sleep"


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as wire:
        yield wire
    gc.collect()


def sdk(name: str) -> Any:
    return pytest.importorskip(name, reason=f"{name} is not installed")


def ours(wire: WireServer, vendor: str, input_type: str = "document", **options: Any) -> Matrix:
    made = embedder(vendor, wire, **options)
    found: Matrix = made.embed(TEXTS, input_type=input_type).vectors
    made.close()
    return found


def scores(wire: WireServer, vendor: str) -> list[float]:
    made = reranker(vendor, wire)
    found: list[float] = made.rerank(QUERY, TEXTS)
    made.close()
    return found


def same(theirs: Any, mine: Matrix) -> None:
    assert np.asarray(theirs, dtype=np.float32) == pytest.approx(mine, abs=1e-6)


def in_order(results: Any) -> list[float]:
    made = [0.0] * len(TEXTS)
    for one in results:
        made[one.index] = one.relevance_score
    return made


def test_openai(wire: WireServer) -> None:
    openai = sdk("openai")
    with openai.OpenAI(base_url=wire.url("openai"), api_key=wire.key) as client:
        for encoding in ({}, {"encoding_format": "float"}):
            answer = client.embeddings.create(model="text-embedding-3-small", input=TEXTS, **encoding)
            same([one.embedding for one in answer.data], ours(wire, "openai"))
        short = client.embeddings.create(model="text-embedding-3-small", input=TEXTS, dimensions=99)
        same([one.embedding for one in short.data], ours(wire, "openai", dimension=99))
        with pytest.raises(openai.BadRequestError, match="at most 2048"):
            client.embeddings.create(model="text-embedding-3-small", input=["x"] * 2049)
        wire.fail("openai", "quota", times=1)
        with pytest.raises(openai.RateLimitError) as caught:
            client.with_options(max_retries=0).embeddings.create(model="text-embedding-3-small", input="x")
        assert caught.value.code == "insufficient_quota"
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="other").embeddings.create(model="text-embedding-3-small", input="x")


def test_azure(wire: WireServer) -> None:
    openai = sdk("openai")
    named = {"azure_endpoint": wire.url("azure"), "api_version": "2024-10-21", "api_key": wire.key}
    with openai.AzureOpenAI(**named) as client:
        answer = client.embeddings.create(model="text-embedding-3-large", input=TEXTS)
    same([one.embedding for one in answer.data], ours(wire, "azure", model="text-embedding-3-large"))


def test_cohere(wire: WireServer) -> None:
    cohere = sdk("cohere")
    httpx = importlib.import_module("httpx")
    with httpx.Client() as http:
        client = cohere.ClientV2(api_key=wire.key, base_url=wire.url("cohere"), httpx_client=http)
        named = {"model": "embed-v4.0", "texts": TEXTS}
        for told, input_type in (("search_query", "query"), ("search_document", "document")):
            answer = client.embed(input_type=told, embedding_types=["float", "int8"], **named)
            same(answer.embeddings.float_, ours(wire, "cohere", input_type))
            assert max(max(row) for row in answer.embeddings.int8) == 127
        with pytest.raises(cohere.errors.BadRequestError):
            client.embed(model="embed-v4.0", texts=["x"] * 97, input_type="search_query", embedding_types=["float"])
        ranked = client.rerank(model="rerank-v3.5", query=QUERY, documents=TEXTS)
        assert in_order(ranked.results) == pytest.approx(scores(wire, "cohere"))
        assert [one.relevance_score for one in ranked.results] == sorted(scores(wire, "cohere"), reverse=True)
        wire.fail("cohere", "rate-limit", times=1)
        with pytest.raises(cohere.errors.TooManyRequestsError):
            client.embed(input_type="search_query", request_options={"max_retries": 0}, **named)


def test_voyage(wire: WireServer) -> None:
    voyageai = sdk("voyageai")
    client = voyageai.Client(api_key=wire.key, base_url=wire.url("voyage"), max_retries=1)
    named = {"model": "voyage-code-3", "input_type": "document"}
    same(client.embed(TEXTS, **named).embeddings, ours(wire, "voyage", model="voyage-code-3"))
    short = client.embed(TEXTS, output_dimension=256, **named)
    same(short.embeddings, ours(wire, "voyage", model="voyage-code-3", dimension=256))
    whole = np.asarray(client.embed(TEXTS, output_dtype="int8", **named).embeddings, dtype=np.float32)
    mine = ours(wire, "voyage", model="voyage-code-3", output_type="int8")
    same(whole / np.linalg.norm(whole, axis=1, keepdims=True), mine)
    ranked = client.rerank(QUERY, TEXTS, model="rerank-2.5")
    assert in_order(ranked.results) == pytest.approx(scores(wire, "voyage"))
    assert ranked.total_tokens > 0
    wire.fail("voyage", "rate-limit", times=1)
    with pytest.raises(voyageai.error.RateLimitError):
        client.embed(TEXTS, **named)
    with pytest.raises(voyageai.error.InvalidRequestError):
        client.embed(["x"] * 1001, **named)


def test_zeroentropy(wire: WireServer) -> None:
    zeroentropy = sdk("zeroentropy")
    with zeroentropy.ZeroEntropy(api_key=wire.key, base_url=wire.url("zeroentropy")) as client:
        answer = client.models.embed(model="zembed-1", input=TEXTS, input_type="document")
        same([one.embedding for one in answer.results], ours(wire, "zeroentropy"))
        ranked = client.models.rerank(model="zerank-2", query=QUERY, documents=TEXTS)
        assert in_order(ranked.results) == pytest.approx(scores(wire, "zeroentropy"))


def test_ollama(wire: WireServer) -> None:
    ollama = sdk("ollama")
    client = ollama.Client(host=wire.url("ollama").removesuffix("/v1"))
    answer = client.embed(model="nomic-embed-text", input=TEXTS)
    same(answer.embeddings, ours(wire, "ollama"))
    assert [one.model for one in client.list().models] == ["nomic-embed-text:latest", "mxbai-embed-large:latest"]


def test_jina_through_the_sdk_of_openai(wire: WireServer) -> None:
    openai = sdk("openai")
    with openai.OpenAI(base_url=wire.url("jina"), api_key=wire.key) as client:
        answer = client.embeddings.create(
            model="jina-embeddings-v3", input=TEXTS, extra_body={"task": "retrieval.passage"}
        )
    same([one.embedding for one in answer.data], ours(wire, "jina"))


def test_tei_through_the_client_of_the_hub(wire: WireServer) -> None:
    hub = sdk("huggingface_hub")
    client = hub.InferenceClient(f"{wire.url('tei')}/embed")
    same(np.concatenate([client.feature_extraction(text) for text in TEXTS]), ours(wire, "tei"))
