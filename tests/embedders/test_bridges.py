"""Embedding objects of LlamaIndex and LangChain, the real ones, where a store wants an embedder."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import MemoryStore, registry
from memory_plugin.embedders.bridges import Bridge, framework_of
from memory_plugin.errors import ConfigurationError, EmbeddingError, ManifestMismatchError
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.manifest import space
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Embedder
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.testing.providers import EmbedderTests

with warnings.catch_warnings():
    # What a framework warns of while it is imported is its own affair.
    warnings.simplefilter("ignore")
    langchain = pytest.importorskip("langchain_core.embeddings")
    llama_index = pytest.importorskip("llama_index.core.embeddings")


def hashed(text: str, salt: str = "") -> list[float]:
    """A bag of hashed words, not of unit length."""
    vector = [0.01] * 128
    for word in re.findall(r"\w+", text.lower()):
        vector[int.from_bytes(hashlib.sha256((salt + word).encode()).digest()[:2], "big") % 128] += 3.0
    return vector


class Words(langchain.Embeddings):  # type: ignore[misc, name-defined]
    """A LangChain embedding object that discriminates, and tells queries from documents."""

    model = "words-1"

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(("documents", texts))
        return [hashed(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.calls.append(("query", [text]))
        return hashed(text)


class Tokens(llama_index.BaseEmbedding):  # type: ignore[misc, name-defined]
    """A LlamaIndex embedding object that discriminates."""

    query_instruction: str = "find: "

    def _get_text_embedding(self, text: str) -> list[float]:
        return hashed(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return hashed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return hashed(query)


class TestLangChain(EmbedderTests):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return registry.adapted(Words())


class TestLlamaIndex(EmbedderTests):
    @pytest.fixture
    def embedder(self) -> Embedder:
        return registry.adapted(Tokens(model_name="tokens-1", embed_batch_size=2))


def test_their_own_fake_comes_out_as_it_is_but_for_its_length() -> None:
    fake = langchain.DeterministicFakeEmbedding(size=64)
    found = Bridge(fake).embed(["one", "two"], input_type="document").vectors
    theirs = np.array(fake.embed_documents(["one", "two"]))
    assert found == pytest.approx(theirs / np.linalg.norm(theirs, axis=1, keepdims=True), abs=1e-6)
    assert np.linalg.norm(theirs[0]) > 2


def test_identity_is_what_can_be_seen_of_the_object() -> None:
    found = Bridge(Tokens(model_name="tokens-1")).identity
    assert (found.provider, found.model, found.revision) == ("llama-index", "tokens-1", "Tokens")
    assert (found.dimension, found.normalized, found.query_prefix) == (128, True, "find: ")
    other = Bridge(Words()).identity
    assert (other.provider, other.model, other.revision) == ("langchain", "words-1", "Words")
    spaces = {
        space(Bridge(Tokens(model_name="tokens-1")).identity),
        space(Bridge(Tokens(model_name="tokens-2")).identity),
        space(Bridge(Tokens(model_name="tokens-1", query_instruction="")).identity),
        space(Bridge(Tokens(model_name="tokens-1"), revision="2024-05").identity),
        space(Bridge(Words()).identity),
    }
    assert len(spaces) == 5


def test_the_dimension_is_asked_once_and_not_at_construction() -> None:
    words = Words()
    bridge = Bridge(words)
    assert words.calls == []
    assert bridge.identity.dimension == bridge.identity.dimension == 128
    assert words.calls == [("documents", ["dimension"])]
    told = Words()
    assert Bridge(told, dimension=128).identity == bridge.identity
    assert told.calls == []


def test_queries_go_to_the_method_for_queries() -> None:
    words = Words()
    bridge = Bridge(words, dimension=128)
    bridge.embed(["one", "two"], input_type="document")
    bridge.embed(["one", "two"], input_type="query")
    assert words.calls == [("documents", ["one", "two"]), ("query", ["one"]), ("query", ["two"])]


def test_it_is_taken_to_leave_the_machine_unless_known() -> None:
    assert leaves_machine(Bridge(Words()))
    assert leaves_machine(registry.adapted(Tokens()))
    assert not leaves_machine(Bridge(Words(), leaves_machine=False))
    assert not leaves_machine(Bridge(langchain.DeterministicFakeEmbedding(size=4)))
    assert not leaves_machine(Bridge(llama_index.MockEmbedding(embed_dim=4)))

    class Mine(langchain.DeterministicFakeEmbedding):  # type: ignore[misc, name-defined]
        """A subclass may do anything."""

    assert leaves_machine(Bridge(Mine(size=4)))


def test_what_is_neither_is_told_what_it_lacks() -> None:
    with pytest.raises(ConfigurationError, match=r"'get_text_embedding_batch' with .* nor 'embed_documents' with"):
        Bridge(object())
    assert framework_of(HashEmbedder()) is None
    ours = HashEmbedder()
    assert registry.adapted(ours) is ours


class Broken(Words):
    api_key = "sk-very-secret"

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"Broken({self.api_key})"


@pytest.mark.parametrize("answer", [[1.0, 2.0], [[1.0], [1.0, 2.0]], [["a"]], None, [[]], TimeoutError("no answer")])
def test_what_it_returns_is_checked(answer: Any) -> None:
    with pytest.raises(EmbeddingError, match="langchain:Broken") as caught:
        _ = Bridge(Broken(answer)).identity
    assert caught.value.provider == "langchain:Broken"


def test_a_zero_vector_is_refused_by_the_store_and_becomes_no_nan() -> None:
    made = Bridge(Broken([[0.0, 0.0]])).embed(["x"], input_type="document")
    assert np.isfinite(made.vectors).all()


def test_its_repr_shows_no_key() -> None:
    bridge = Bridge(Broken([[1.0]]))
    assert "secret" not in repr(bridge)
    assert repr(bridge) == "Bridge(langchain:Broken, leaves_machine=True)"


@pytest.fixture(params=["langchain", "llama-index"])
def foreign(request: pytest.FixtureRequest) -> Any:
    return Words() if request.param == "langchain" else Tokens(model_name="tokens-1")


def test_a_store_takes_the_object_as_it_is(foreign: Any, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"

    def opened(embedder: Any) -> MemoryStore:
        index = EdgeIndex(tmp_path / "memory", durability="process")
        return MemoryStore(index, embedder, reranker=None, keyring=keys)

    with opened(foreign) as store:
        store.add(["The cat sleeps on the sofa.", "Interest rates rose."], "alice")
        (hit,) = store.search("where is the cat?", "alice", limit=1, legs="dense", rerank="none")
        assert hit.text == "The cat sleeps on the sofa."
    with opened(foreign) as store:
        assert store.count("alice") == 2
    with pytest.raises(ManifestMismatchError, match="made by another model"):
        opened(Bridge(foreign, revision="other"))
