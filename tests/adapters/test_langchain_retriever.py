"""``MemoryRetriever``: LangChain's suite, citations, and nothing of anybody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.load import dumps
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_tests.integration_tests import RetrieversIntegrationTests

from memory_plugin import (
    AsyncMemoryStore,
    ConfigurationError,
    Document,
    InvalidInputError,
    MemoryStore,
    Message,
    eq,
)
from memory_plugin.adapters.langchain import MemoryRetriever
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType
from tests.adapters.langchain_store import opened

SAID = [
    Document("Trains are booked by Ines.", source="handbook", metadata={"topic": "travel"}),
    Document("Trains to Porto leave at noon.", source="timetable", metadata={"topic": "travel", "source": "web"}),
    Document("The badge of the train driver is LX-2217.", metadata={"topic": "badges"}),
    Message("user", "I took the train to Faro.", name="Alice"),
]


class Noting(HashEmbedder):
    """Notes on which threads it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        self.threads.add(threading.get_ident())
        return super().embed(texts, input_type=input_type)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryStore]:
    with opened(tmp_path_factory.mktemp("store") / "memory") as made:
        made.add(SAID, ("alice", "monday"))
        made.add("Trains are what Bob hates.", "bob")
        yield made


class TestMemoryRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _store(self, store: MemoryStore) -> None:
        self.store = store

    @property
    def retriever_constructor(self) -> type[MemoryRetriever]:
        return MemoryRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"store": self.store, "namespace": "alice"}

    @property
    def retriever_query_example(self) -> str:
        return "trains"


def test_each_passage_says_where_it_is_from(store: MemoryStore) -> None:
    retriever = MemoryRetriever(store=store, namespace="alice", k=9)
    by_text = {one.page_content: one for one in retriever.invoke("trains train")}
    assert len(by_text) == 4
    booked = by_text["Trains are booked by Ines."]
    assert booked.metadata["source"] == "handbook"
    assert booked.metadata["topic"] == "travel"
    citation = booked.metadata["citation"]
    assert citation["id"] == booked.id == store.search("Ines", "alice", limit=1)[0].id
    assert (citation["namespace"], citation["source"]) == (["alice", "monday"], "handbook")
    assert (citation["start"], citation["end"]) == (0, 26)
    assert citation["stages"]["dense"]["rank"] >= 1
    assert by_text["Trains to Porto leave at noon."].metadata["source"] == "web"  # the user's own
    assert "source" not in by_text["The badge of the train driver is LX-2217."].metadata
    said = by_text["I took the train to Faro."].metadata["citation"]
    assert (said["role"], said["name"], said["kind"]) == ("user", "Alice", "message")


async def test_arguments_of_one_call(store: MemoryStore) -> None:
    retriever = MemoryRetriever(store=store, namespace="alice", k=9, filter={"topic": "travel"})
    assert {one.metadata["topic"] for one in retriever.invoke("trains")} == {"travel"}
    assert [one.metadata["topic"] for one in retriever.invoke("trains", filter=eq("topic", "badges"))] == ["badges"]
    assert len(await retriever.ainvoke("trains", filter=None, k=3)) == 3
    found = retriever.invoke("LX-2217", filter=None, k=1, legs="lexical", rerank="none")
    assert found[0].page_content.endswith("LX-2217.")
    with pytest.raises(InvalidInputError, match="'where'"):
        retriever.invoke("trains", where={"topic": "cats"})
    with pytest.raises(InvalidInputError, match="empty"):
        await retriever.ainvoke(" ")


def test_nothing_of_anybody_else(store: MemoryStore) -> None:
    assert all("Bob" not in one.page_content for one in MemoryRetriever(store=store, namespace="alice").invoke("Bob"))
    both = MemoryRetriever(store=store, namespace=["alice", "bob"], k=9).invoke("trains Bob hates")
    assert any("Bob" in one.page_content for one in both)


async def test_a_memory_that_only_words_find(tmp_path: Path) -> None:
    class Blind(HashEmbedder):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            same = super().embed(["same"], input_type=input_type).vectors
            return Embeddings(same.repeat(len(texts), axis=0))

    with opened(tmp_path / "blind", embedder=Blind()) as store:
        store.add([f"Note {number} on the garden." for number in range(50)], "alice")
        store.add("The error code is E1042.", "alice")
        found = await MemoryRetriever(store=store, namespace="alice", k=1).ainvoke("what was E1042")
        assert found[0].page_content == "The error code is E1042."


async def test_neighbours_come_in_the_text(store: MemoryStore) -> None:
    text = "\n\n".join(f"Chapter {number}. " + f"word{number} " * 150 for number in range(3))
    store.add(Document(text, source="book"), "carol")
    alone = MemoryRetriever(store=store, namespace="carol", k=1).invoke("word1")[0]
    around = MemoryRetriever(store=store, namespace="carol", k=1, neighbours=2).invoke("word1")[0]
    assert alone.page_content in around.page_content
    assert len(around.page_content) > len(alone.page_content)
    cited = around.metadata["citation"]
    assert around.page_content.split() == text[cited["start"] : cited["end"]].split()


async def test_either_store_and_never_on_the_loops_thread(store: MemoryStore, tmp_path: Path) -> None:
    for kind in (MemoryStore, AsyncMemoryStore):
        embedder = Noting()
        made = opened(tmp_path / kind.__name__, kind, embedder=embedder)
        retriever = MemoryRetriever(store=made, namespace="alice")
        added = made.add("Trains are booked by Ines.", "alice")
        await added if kind is AsyncMemoryStore else added
        embedder.threads.clear()
        assert len(await retriever.ainvoke("trains")) == 1
        assert embedder.threads
        assert threading.get_ident() not in embedder.threads
        if kind is AsyncMemoryStore:
            with pytest.raises(ConfigurationError, match="AsyncMemoryStore"):
                retriever.invoke("trains")
        closed = made.close()
        await closed if kind is AsyncMemoryStore else closed


async def test_it_is_a_runnable_in_a_chain(store: MemoryStore) -> None:
    prompt = ChatPromptTemplate.from_template("{context}\n\n{question}")
    chain = {"context": MemoryRetriever(store=store, namespace="alice"), "question": RunnablePassthrough()} | prompt
    for value in (chain.invoke("Who books trains?"), await chain.ainvoke("Who books trains?")):
        assert "booked by Ines" in value.to_string()


def test_neither_shown_nor_written_down(store: MemoryStore) -> None:
    retriever = MemoryRetriever(store=store, namespace="alice-the-patient", filter={"diagnosis": "flu"})
    for form in (repr(retriever), str(retriever), str(retriever.model_dump()), dumps(retriever)):
        assert "patient" not in form
        assert "flu" not in form
