"""``MemoryVectorStore``: LangChain's suite whole, and what it leaves out."""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from memory_plugin import (
    PLAINTEXT,
    AsyncMemoryStore,
    ConfigurationError,
    InvalidInputError,
    MemoryStore,
    StoreClosedError,
    eq,
)
from memory_plugin import Document as Memory
from memory_plugin.adapters.langchain import MemoryEmbeddings, MemoryVectorStore
from memory_plugin.flow import OnLoop
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from memory_plugin.types import Embeddings as Made
from memory_plugin.types import InputType
from tests.adapters.langchain_store import either, opened


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryStore]:
    """Sealed, with a reranker, and the embedding object of LangChain's suite as it is."""
    path = tmp_path_factory.mktemp("shared")
    embedding = VectorStoreIntegrationTests.get_embeddings()
    with opened(path / "m", embedder=embedding, reranker=OverlapReranker(), keyring=path / "keys.json") as store:
        yield store


class TestMemoryVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, shared: MemoryStore) -> MemoryVectorStore:
        """Empty, since nobody else has this namespace."""
        return MemoryVectorStore(shared, (uuid.uuid4().hex, "documents"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryStore]:
    with opened(tmp_path_factory.mktemp("plain") / "m") as store:
        yield store


@pytest.fixture(params=[MemoryStore, AsyncMemoryStore], ids=lambda kind: kind.__name__)
async def vectors(
    request: pytest.FixtureRequest, plain: MemoryStore, tmp_path: Path
) -> AsyncIterator[MemoryVectorStore]:
    """Over either kind of store; its async methods take both."""
    async with either(request.param, plain, tmp_path / "m") as store:
        yield MemoryVectorStore(store, "alice", embedding=MemoryEmbeddings(HashEmbedder()))


LONG = "  The first line.\r\n\r\n" + "\n\n".join(f"Chapter {n}.\n" + f"word{n} " * 300 for n in range(5)) + "\t\n "


async def test_documents_come_back_as_they_were(vectors: MemoryVectorStore) -> None:
    metadata = {"a": [1, 2.5, None, {"b": "ü"}], "source": "mine", "citation": "kept", "": ""}
    texts = [LONG, " \n", "", "one", "\ufeff two \u200b", "🙂 " * 700]
    documents = [Document(text, metadata=metadata, id="x" * 3000 + str(n)) for n, text in enumerate(texts)]
    names = [one.id or "" for one in documents]
    assert await vectors.aadd_documents(documents) == names
    assert await vectors.aget_by_ids(["no", *reversed(names), names[0]]) == documents[::-1]
    # Found once, though several of its passages answer.
    assert await vectors.asimilarity_search("word3", k=1, legs="lexical") == documents[:1]
    assert (await vectors.asimilarity_search("word3", k=9)).count(documents[0]) == 1


async def test_adding_under_an_id_replaces(vectors: MemoryVectorStore) -> None:
    await vectors.aadd_texts([LONG, "b"], [{"n": 1}, {"n": 2}], ids=["1", "2"])
    assert await vectors.aadd_texts(["short", "c", "last"], ids=["1", "3", "1"]) == ["1", "3", "1"]
    assert [one.page_content for one in await vectors.aget_by_ids(["1", "2", "3"])] == ["last", "b", "c"]
    assert await vectors.asimilarity_search("word3 Chapter", k=9, filter={"n": 1}) == []


async def test_ids_where_none_are_given(vectors: MemoryVectorStore) -> None:
    made = await vectors.aadd_documents([Document("a", id="mine"), Document("b"), Document("b")])
    assert made[0] == "mine"
    assert len(set(made)) == 3
    assert [one.page_content for one in await vectors.aget_by_ids(made)] == ["a", "b", "b"]
    assert await vectors.aadd_documents([]) == []
    assert await vectors.aget_by_ids([]) == []


async def test_nothing_is_written_of_what_cannot_be(vectors: MemoryVectorStore) -> None:
    for documents, given, says in (
        ([Document("a"), Document("b", metadata={"x": object()})], {}, "JSON"),
        ([Document("a")], {"ids": ["1", "2"]}, "2 ids .* 1 documents"),
        ([Document("a")], {"ids": [""]}, "empty"),
        ([Document("a")], {"ids": ["x" * 5000]}, "bytes"),
        ([Document("a")], {"where": 3}, "where"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            await vectors.aadd_documents(documents, **given)
    with pytest.raises(InvalidInputError, match="1 metadatas"):
        await vectors.aadd_texts(["a", "b"], [{}])
    assert await vectors.asimilarity_search("a b") == []


async def test_deleting_deletes(vectors: MemoryVectorStore) -> None:
    await vectors.aadd_texts([LONG, "b word1", "c word1"], ids=["1", "2", "3"])
    assert await vectors.adelete(["1", "no"]) is True
    assert await vectors.adelete([]) is True
    assert {one.id for one in await vectors.asimilarity_search("word1")} == {"2", "3"}
    with pytest.raises(InvalidInputError, match="'where'"):
        await vectors.adelete(where={"a": 1})
    assert await vectors.adelete() is True
    assert await vectors.asimilarity_search("word1") == []
    assert await vectors.aget_by_ids(["1", "2", "3"]) == []


async def test_nothing_of_another_namespace(tmp_path: Path) -> None:
    with opened(tmp_path / "memory") as store:
        alice, bob = MemoryVectorStore(store, "alice"), MemoryVectorStore(store, "bob")
        below = MemoryVectorStore(store, ("alice", "monday"))
        for one, text in ((alice, "tea of Alice"), (bob, "tea of Bob"), (below, "tea of Monday")):
            one.add_texts([text], ids=["1"])
        assert [one.page_content for one in bob.similarity_search("tea")] == ["tea of Bob"]
        assert [one.page_content for one in below.similarity_search("tea")] == ["tea of Monday"]
        # What is below is found, but its id is none of this store's.
        found = {one.page_content: one.id for one in alice.similarity_search("tea")}
        assert found == {"tea of Alice": "1", "tea of Monday": None}
        alice.delete(["1"])
        assert below.get_by_ids(["1"])
        assert bob.get_by_ids(["1"])
        alice.delete()
        assert not below.get_by_ids(["1"])
        assert bob.get_by_ids(["1"])


async def test_what_was_added_otherwise_comes_as_passages(vectors: MemoryVectorStore) -> None:
    await OnLoop().call(vectors.store.add, [Memory(LONG, source="book"), Memory("Loose word3.")], "alice")
    found = await vectors.asimilarity_search("word3", k=9)
    assert sorted({one.metadata["citation"]["source"] or "" for one in found}) == ["", "book"]
    assert await vectors.aget_by_ids(["book"]) == []


async def test_filters(vectors: MemoryVectorStore) -> None:
    texts = [f"note {number}" for number in range(8)]
    await vectors.aadd_texts(texts, [{"n": number, "even": number % 2 == 0} for number in range(8)])

    async def found(filter: Any) -> list[int]:
        return sorted(one.metadata["n"] for one in await vectors.asimilarity_search("note", k=9, filter=filter))

    assert await found({"even": True}) == [0, 2, 4, 6]
    assert await found({"even": True, "n": {"$gte": 3}}) == [4, 6]
    assert await found({"$or": [{"n": 1}, {"n": {"$in": [2, 9]}}]}) == [1, 2]
    assert await found(eq("n", 5)) == [5]
    with pytest.raises(InvalidInputError, match="function"):
        await found(lambda document: True)
    with pytest.raises(InvalidInputError, match="'filters'"):
        await vectors.asimilarity_search("note", filters={"n": 1})


# ── scores ────────────────────────────────────────────────────────────────────────────────────────


async def test_scores_fall_and_relevance_is_the_cosine(vectors: MemoryVectorStore) -> None:
    texts = ["red apple pie", "red apple", "green pear tart", "blue plum"]
    await vectors.aadd_texts(texts, ids=texts)
    scored = await vectors.asimilarity_search_with_score("red apple pie", k=4)
    assert [score for _, score in scored] == sorted((score for _, score in scored), reverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relevant = await vectors.asimilarity_search_with_relevance_scores("red apple pie", k=4)
    by_id = {one.id: score for one, score in relevant}
    embedded = HashEmbedder().embed(["red apple pie", *texts], input_type="query").vectors
    for text, cosine in zip(texts, embedded[1:] @ embedded[0], strict=True):
        assert by_id[text] == pytest.approx(max(float(cosine), 0), abs=0.02)
    retriever = vectors.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.7, "k": 4}
    )
    assert {one.id for one in await retriever.ainvoke("red apple pie")} == {"red apple pie", "red apple"}
    assert vectors._select_relevance_score_fn()(1.0000001) == 1.0
    with pytest.raises(InvalidInputError, match="search_type"):
        await vectors.asimilarity_search("red", score_threshold=0.5)


class Blind(HashEmbedder):
    """Sees no difference between texts, but for one."""

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Made:
        return super().embed(
            ["far" if "E1042" in text and input_type == "document" else "x" for text in texts], input_type=input_type
        )


def test_a_document_that_only_words_find(tmp_path: Path) -> None:
    with opened(tmp_path / "blind", embedder=Blind()) as store:
        vectors = MemoryVectorStore(store, "alice")
        vectors.add_texts([f"Note {number} on the garden." for number in range(60)] + ["E1042 is the code."])
        assert vectors.similarity_search("what was E1042", k=1)[0].page_content == "E1042 is the code."
        by_text = {
            one.page_content: score
            for one, score in vectors.similarity_search_with_relevance_scores("what was E1042", k=4)
        }
        assert by_text.pop("E1042 is the code.") == 0.0
        assert min(by_text.values()) > 0.9


async def test_by_vector(vectors: MemoryVectorStore) -> None:
    await vectors.aadd_texts(["red apple", "green pear", "red plum"], [{"n": 1}, {"n": 2}, {"n": 3}])
    given = HashEmbedder().embed(["green pear"], input_type="query").vectors[0].tolist()
    assert [one.metadata["n"] for one in await vectors.asimilarity_search_by_vector(given, k=1)] == [2]
    assert [one.metadata["n"] for one in await vectors.asimilarity_search_by_vector(given, filter={"n": 3})] == [3]
    with pytest.raises(InvalidInputError):
        await vectors.asimilarity_search_by_vector([0.5, 0.5])


# ── maximal marginal relevance ────────────────────────────────────────────────────────────────────

ALIKE = ["apple pie recipe one", "apple pie recipe two", "apple pie recipe three", "apple orchard history"]


async def test_diversity(vectors: MemoryVectorStore) -> None:
    await vectors.aadd_texts(ALIKE, ids=ALIKE)
    near = [one.id for one in await vectors.amax_marginal_relevance_search("apple pie recipe", k=2, lambda_mult=1)]
    assert "apple orchard history" not in near
    far = [one.id for one in await vectors.amax_marginal_relevance_search("apple pie recipe", k=2, lambda_mult=0.2)]
    assert far[0] in ALIKE[:3]
    assert far[1] == "apple orchard history"
    given = await MemoryEmbeddings(HashEmbedder()).aembed_query("apple pie recipe")
    by_vector = await vectors.amax_marginal_relevance_search_by_vector(given, k=2, lambda_mult=0.2)
    assert by_vector[1].id == "apple orchard history"
    retriever = vectors.as_retriever(search_type="mmr", search_kwargs={"k": 9, "fetch_k": 3})
    assert len(await retriever.ainvoke("apple pie")) == 4
    assert await vectors.amax_marginal_relevance_search("apple", filter={"no": 1}) == []


def test_diversity_needs_the_model(tmp_path: Path) -> None:
    with opened(tmp_path / "m") as store:
        vectors = MemoryVectorStore(store, "alice")
        assert vectors.embeddings is None
        with pytest.raises(ConfigurationError, match="embedding="):
            vectors.max_marginal_relevance_search("apple")


class Elsewhere(HashEmbedder):
    leaves_machine = True


def test_diversity_sends_nothing_elsewhere_that_is_for_this_machine_only(tmp_path: Path) -> None:
    elsewhere = Elsewhere()
    with opened(tmp_path / "m", embedder=elsewhere) as store:
        store.add([Memory(text) for text in ALIKE[:2]], "alice")
        store.add([Memory(text) for text in ALIKE[2:]], "alice", local_only=True)
        vectors = MemoryVectorStore(store, "alice", embedding=MemoryEmbeddings(elsewhere))
        elsewhere.texts.clear()
        found = vectors.max_marginal_relevance_search("apple pie recipe history", k=4)
        assert {one.page_content for one in found} == set(ALIKE)
        assert not [text for text in elsewhere.texts if text in ALIKE[2:]]
        store.delete("alice", filter=eq("$kind", "document"))
        store.add([Memory(text) for text in ALIKE[2:]], "alice", local_only=True)
        assert len(vectors.max_marginal_relevance_search("apple", k=4)) == 2


# ── making ────────────────────────────────────────────────────────────────────────────────────────


def test_from_texts_into_a_store_that_is_open(tmp_path: Path) -> None:
    embedding = DeterministicFakeEmbedding(size=6)
    with opened(tmp_path / "m", embedder=embedding) as store:
        made = MemoryVectorStore.from_texts(["a", "b"], embedding, [{"n": 1}, {"n": 2}], store=store, namespace="alice")
        assert made.embeddings is embedding
        assert made.similarity_search("b", k=1)[0].metadata == {"n": 2}
        more = MemoryVectorStore.from_documents([Document("c", id="c")], embedding, store=store, namespace="alice")
        assert more.get_by_ids(["c"]) == [Document("c", id="c")]


async def test_from_texts_into_one_that_is_opened(tmp_path: Path) -> None:
    options: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "keys.json", "namespace": "alice"}
    embedding: Embeddings = MemoryEmbeddings(HashEmbedder())
    made = MemoryVectorStore.from_texts(["a"], embedding, ids=["1"], location=tmp_path / "m", **options)
    assert made.get_by_ids(["1"])
    made.store.close()
    again = await MemoryVectorStore.afrom_texts(["b"], embedding, ids=["2"], location=tmp_path / "m", **options)
    assert [one.page_content for one in await again.aget_by_ids(["1", "2"])] == ["a", "b"]
    await OnLoop().call(again.store.close)
    # A store that was opened for nothing is closed again.
    for _ in range(2):
        with pytest.raises(InvalidInputError):
            MemoryVectorStore.from_texts(["a"], embedding, [{"x": object()}], location=tmp_path / "m", **options)
        with pytest.raises(InvalidInputError):
            await MemoryVectorStore.afrom_texts(["a"], embedding, ids=[""], location=tmp_path / "m", **options)


def test_from_texts_asks_for_what_it_needs(tmp_path: Path) -> None:
    embedding = MemoryEmbeddings(HashEmbedder())
    with opened(tmp_path / "m") as store:
        with pytest.raises(ConfigurationError, match="namespace="):
            MemoryVectorStore.from_texts(["a"], embedding, store=store)
        with pytest.raises(ConfigurationError, match="location="):
            MemoryVectorStore.from_texts(["a"], embedding, namespace="alice")
        with pytest.raises(ConfigurationError, match="keyring"):
            MemoryVectorStore.from_texts(["a"], embedding, namespace="alice", store=store, keyring=PLAINTEXT)
        with pytest.raises(InvalidInputError):
            MemoryVectorStore(store, "")
    with pytest.raises(StoreClosedError):
        MemoryVectorStore(store, "alice").similarity_search("a")


# ── in a program ──────────────────────────────────────────────────────────────────────────────────


def test_langchains_indexing(tmp_path: Path) -> None:
    """``langchain_core.indexing.index``: what is gone from the source is gone from the store."""
    with opened(tmp_path / "m") as store:
        vectors = MemoryVectorStore(store, "alice")
        manager = InMemoryRecordManager(namespace="m")
        manager.create_schema()
        first = [Document(f"page {number}", metadata={"source": "book"}) for number in range(4)]
        options: dict[str, Any] = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
        assert index(first, manager, vectors, **options)["num_added"] == 4
        assert index(first, manager, vectors, **options)["num_skipped"] == 4
        assert index(first[1:], manager, vectors, **options)["num_deleted"] == 1
        assert {one.page_content for one in vectors.similarity_search("page", k=9)} == {"page 1", "page 2", "page 3"}


async def test_never_on_the_loops_thread(tmp_path: Path) -> None:
    threads: set[int] = set()

    class Noting(HashEmbedder):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Made:
            threads.add(threading.get_ident())
            return super().embed(texts, input_type=input_type)

    with opened(tmp_path / "m", embedder=Noting()) as store:
        vectors = MemoryVectorStore(store, "alice", embedding=MemoryEmbeddings(Noting()))
        threads.clear()
        await vectors.aadd_texts(["a", "b"], ids=["1", "2"])
        await vectors.asimilarity_search("a")
        await vectors.asimilarity_search_with_relevance_scores("a")
        await vectors.amax_marginal_relevance_search("a")
        assert threads
        assert threading.get_ident() not in threads
