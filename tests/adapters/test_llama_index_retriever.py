"""``MemoryRetriever``: what LlamaIndex gets, in what order, and from where."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import IndexNode, MetadataMode, QueryBundle, TextNode
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters

from memory_plugin import (
    ConfigurationError,
    Document,
    InvalidInputError,
    MemoryStore,
    Message,
    Settings,
    eq,
)
from memory_plugin.adapters.llama_index import MemoryRetriever
from memory_plugin.adapters.llama_index.detached import links
from memory_plugin.testing.doubles import HashEmbedder
from tests.adapters.llama import Watch, opened, opened_async

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
LONG = "\n\n".join(f"Paragraph {n} tells of harbour number {n}, its boats and its keeper." for n in range(40))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with opened(tmp_path, settings=Settings(filterable=("topic",))) as store:
        store.add(
            [
                Document("Alice moved to Lisbon in May.", source="diary", metadata={"topic": "home", "stars": 5}),
                Document("Bread needs four hours to rise.", source="recipes", metadata={"topic": "food", "stars": 2}),
                Message("user", "My passport number is XK-77-1309.", name="Alice", time=NOON),
            ],
            "alice",
        )
        store.add("Bob lives in Oslo with his passport.", "bob")
        yield store


def test_nodes_carry_what_is_known(store: MemoryStore) -> None:
    [found] = MemoryRetriever(store, "alice", limit=1).retrieve("Where did Alice move to, Lisbon?")
    [hit] = store.search("Where did Alice move to, Lisbon?", "alice", limit=1)
    assert isinstance(found.node, TextNode)
    assert (found.node.node_id, found.node.text) == (hit.id, "Alice moved to Lisbon in May.")
    assert found.score == pytest.approx(hit.score)
    assert found.node.metadata["topic"] == "home"
    assert found.node.metadata["source"] == "diary"
    assert found.node.metadata["namespace"] == "alice"
    assert datetime.fromisoformat(found.node.metadata["time"]) == hit.record.time
    assert found.node.ref_doc_id == "diary"
    assert (found.node.start_char_idx, found.node.end_char_idx) == (0, 29)
    assert "namespace" not in found.node.get_content(MetadataMode.LLM)
    assert "diary" in found.node.get_content(MetadataMode.LLM)


def test_own_metadata_is_not_overwritten(store: MemoryStore) -> None:
    store.add(Document("Zebras sleep standing.", source="zoo", metadata={"source": "an encyclopedia"}), "alice")
    [found] = MemoryRetriever(store, "alice", limit=1).retrieve("zebras standing")
    assert found.node.metadata["source"] == "an encyclopedia"


def test_message_says_who_and_when(store: MemoryStore) -> None:
    [found] = MemoryRetriever(store, "alice", limit=1).retrieve("passport number")
    assert found.node.metadata["role"] == "user"
    assert found.node.metadata["name"] == "Alice"
    assert found.node.metadata["time"] == NOON.isoformat()


def test_a_keyword_only_memory_surfaces(store: MemoryStore) -> None:
    nodes = MemoryRetriever(store, "alice", limit=3).retrieve("XK-77-1309")
    assert "XK-77-1309" in nodes[0].node.get_content()


def test_nothing_of_another_user(store: MemoryStore) -> None:
    texts = [one.text for one in MemoryRetriever(store, "alice", limit=50).retrieve("Oslo passport Bob lives")]
    assert texts
    assert not any("Oslo" in text for text in texts)
    assert MemoryRetriever(store, "carol").retrieve("passport") == []


def test_several_namespaces(store: MemoryStore) -> None:
    nodes = MemoryRetriever(store, ["alice", "bob"], limit=10).retrieve("passport")
    assert {one.node.metadata["namespace"] for one in nodes[:2]} == {"alice", "bob"}


def test_filters_of_both_kinds(store: MemoryStore) -> None:
    ours = MemoryRetriever(store, "alice", filter=eq("topic", "food")).retrieve("Lisbon bread")
    theirs = MetadataFilters(filters=[MetadataFilter(key="topic", value="food")])
    assert [one.text for one in ours] == ["Bread needs four hours to rise."]
    assert [one.text for one in MemoryRetriever(store, "alice", filter=theirs).retrieve("Lisbon bread")] == [
        "Bread needs four hours to rise."
    ]


@pytest.mark.parametrize(
    ("key", "value"), [("source", "recipes"), ("topic", "food"), ("stars", 2)], ids=["source", "declared", "other"]
)
def test_filters_see_the_metadata_of_nodes(store: MemoryStore, key: str, value: Any) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value)])
    nodes = MemoryRetriever(store, "alice", filter=filters).retrieve("Lisbon bread passport")
    assert [one.text for one in nodes] == ["Bread needs four hours to rise."]


def test_a_filter_that_the_store_cannot_decide_still_fills_the_limit(tmp_path: Path) -> None:
    with opened(tmp_path, settings=Settings(duplicate_similarity=None)) as store:
        store.add(
            [
                Document(
                    f"Boat {n} lies in the harbour.",
                    source=f"s{n}",
                    metadata={"path": f"/{'a' if n % 60 else 'b'}/{n}"},
                )
                for n in range(600)
            ],
            "alice",
        )
        filters = MetadataFilters(filters=[MetadataFilter(key="path", value="/b/", operator=FilterOperator.TEXT_MATCH)])
        nodes = MemoryRetriever(store, "alice", limit=10, filter=filters, rerank="none").retrieve("boats of a harbour")
        assert len(nodes) == 10
        assert all(one.node.metadata["path"].startswith("/b/") for one in nodes)


def test_neighbours_and_offsets(tmp_path: Path) -> None:
    with opened(tmp_path, settings=Settings(chunk_tokens=32)) as store:
        store.add(Document(LONG, source="harbours"), "alice")
        [one] = MemoryRetriever(store, "alice", limit=1, neighbours=1).retrieve("harbour number 20 keeper")
        assert isinstance(one.node, TextNode)
        assert one.node.start_char_idx is not None
        assert one.node.end_char_idx is not None
        span = LONG[one.node.start_char_idx : one.node.end_char_idx]
        assert "harbour number 20" in one.node.text
        assert span.split() == one.node.text.split()


def test_embedding_of_the_query_is_searched_by(store: MemoryStore) -> None:
    embedder = HashEmbedder()
    bread = embedder.embed(["Bread needs four hours to rise."], input_type="query").vectors[0].tolist()
    retriever = MemoryRetriever(store, "alice", limit=1, legs="dense", rerank="none")
    assert retriever.retrieve(QueryBundle("Lisbon", embedding=bread))[0].text.startswith("Bread")
    assert retriever.retrieve(QueryBundle("", embedding=bread))[0].text.startswith("Bread")
    ignoring = MemoryRetriever(store, "alice", limit=1, legs="dense", rerank="none", use_embedding=False)
    assert ignoring.retrieve(QueryBundle("Alice moved Lisbon", embedding=bread))[0].text.startswith("Alice moved")


def test_embedding_of_another_model_is_refused(store: MemoryStore) -> None:
    with pytest.raises(InvalidInputError, match="2 numbers"):
        MemoryRetriever(store, "alice").retrieve(QueryBundle("Lisbon", embedding=[0.1, 0.2]))


def test_empty_query_is_an_error(store: MemoryStore) -> None:
    with pytest.raises(InvalidInputError, match="empty"):
        MemoryRetriever(store, "alice").retrieve("  ")


async def test_async_does_not_work_on_the_loop(store: MemoryStore) -> None:
    watch = Watch(store)
    retriever = MemoryRetriever(store, "alice", limit=2)
    found = await retriever.aretrieve("Lisbon")
    assert watch.count("search") == 1
    assert watch.here() == []
    assert [one.node.node_id for one in found] == [one.node.node_id for one in retriever.retrieve("Lisbon")]


async def test_async_store_is_awaited(tmp_path: Path) -> None:
    async with opened_async(tmp_path) as store:
        await store.add("Alice moved to Lisbon in May.", "alice")
        retriever = MemoryRetriever(store, "alice")
        assert [one.text for one in await retriever.aretrieve("Lisbon")] == ["Alice moved to Lisbon in May."]
        with pytest.raises(ConfigurationError, match="AsyncMemoryStore"):
            retriever.retrieve("Lisbon")


def test_query_engine(store: MemoryStore) -> None:
    engine = RetrieverQueryEngine.from_args(MemoryRetriever(store, "alice", limit=1), llm=MockLLM())
    response = engine.query("Where did Alice move, Lisbon?")
    assert "Alice moved to Lisbon in May." in str(response)  # the mock repeats its prompt
    assert response.source_nodes[0].node.metadata["source"] == "diary"


def test_objects_are_retrieved_through(store: MemoryStore) -> None:
    inner = TextNode(text="what the index node stands for", id_="inner")
    [hit] = store.search("Lisbon", "alice", limit=1)
    retriever = MemoryRetriever(store, "alice", limit=1, objects=[IndexNode(text="x", index_id=hit.id, obj=inner)])
    assert retriever.object_map == {hit.id: inner}


def test_fused_with_others(store: MemoryStore) -> None:
    fused = QueryFusionRetriever(
        [MemoryRetriever(store, "alice", limit=2), MemoryRetriever(store, "bob", limit=2)],
        llm=MockLLM(),
        num_queries=1,
        use_async=False,
        similarity_top_k=3,
    )
    assert {one.node.metadata["namespace"] for one in fused.retrieve("passport")} == {"alice", "bob"}


def test_events_are_those_of_a_retriever(store: MemoryStore) -> None:
    names: list[str] = []

    class Names(BaseEventHandler):
        def handle(self, event: Any, **kwargs: Any) -> None:
            names.append(event.class_name())

    dispatcher = get_dispatcher()
    handler = Names()
    dispatcher.add_event_handler(handler)
    try:
        MemoryRetriever(store, "alice").retrieve("Lisbon")
    finally:
        dispatcher.event_handlers.remove(handler)
    assert names == ["RetrievalStartEvent", "RetrievalEndEvent"]


def test_what_is_written_has_no_store_and_no_filter(store: MemoryStore, tmp_path: Path) -> None:
    retriever = MemoryRetriever(store, ("alice", "s1"), limit=3, filter=eq("topic", "a secret topic"))
    written = pickle.dumps(retriever)
    for secret in (b"a secret topic", str(tmp_path).encode(), b"Lisbon"):
        assert secret not in written
        assert secret.decode() not in repr(retriever) + str(retriever.to_dict())
    links.clear()  # as in another process
    again = pickle.loads(written)
    assert (again.limit, again.namespace) == (3, (("alice", "s1"),))
    with pytest.raises(ConfigurationError, match="attach"):
        again.retrieve("Lisbon")
    with pytest.raises(ConfigurationError, match="filter"):
        again.attach(store)
    assert again.attach(store, filter=eq("topic", "home")).retrieve("Lisbon") == []
    whole = MemoryRetriever(store, "alice", limit=1)
    back = MemoryRetriever.from_dict(whole.to_dict(), store=store)
    assert [one.text for one in back.retrieve("Lisbon")] == [one.text for one in whole.retrieve("Lisbon")]
