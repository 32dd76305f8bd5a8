"""``MemoryVectorStore``: nodes there and back, queries, filters, deletions, and LlamaIndex's own parts on top of it."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import MockEmbedding, SimpleDirectoryReader, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.memory import Memory, VectorMemoryBlock
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

from memory_plugin import ConfigurationError, InvalidInputError, MemoryStore, Settings
from memory_plugin.adapters.llama_index import MemoryEmbedding, MemoryReranker, MemoryVectorStore
from memory_plugin.adapters.llama_index.detached import links
from memory_plugin.testing.doubles import HashEmbedder
from tests.adapters.llama import Watch, opened, opened_async

PLACEHOLDER = MockEmbedding(embed_dim=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with opened(tmp_path, settings=Settings(filterable=("ref_doc_id",))) as store:
        yield store


@pytest.fixture
def nodes(store: MemoryStore) -> MemoryVectorStore:
    return MemoryVectorStore(store, ("alice", "library"))


def text_node(text: str, id_: str, doc: str | None = None, **metadata: Any) -> TextNode:
    relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=doc)} if doc else {}
    return TextNode(text=text, id_=id_, metadata=metadata, relationships=relationships)


def ask(nodes: MemoryVectorStore, words: str, top_k: int = 10, **more: Any) -> list[str]:
    result = nodes.query(VectorStoreQuery(query_str=words, similarity_top_k=top_k, **more))
    return result.ids or []


# ── there and back ────────────────────────────────────────────────────────────────────────────────

EVERYTHING = {
    "text": "Tides rise twice a day.",
    "id_": "n/1 ünïcode",
    "metadata": {"z": 1, "a": [1, "two", None], "nested": {"b": 2, "a": 1.5}, "flag": True, "doc_id": "own"},
    "excluded_embed_metadata_keys": ["z"],
    "excluded_llm_metadata_keys": ["a"],
    "metadata_template": "{key}={value}",
    "metadata_separator": "; ",
    "text_template": "{metadata_str} | {content}",
    "relationships": {
        NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc-1", hash="h", metadata={"k": 1}),
        NodeRelationship.PREVIOUS: RelatedNodeInfo(node_id="n0"),
        NodeRelationship.NEXT: RelatedNodeInfo(node_id="n2"),
        NodeRelationship.PARENT: RelatedNodeInfo(node_id="p"),
        NodeRelationship.CHILD: [RelatedNodeInfo(node_id="c1"), RelatedNodeInfo(node_id="c2")],
    },
}

ONE_OF_EACH: dict[str, BaseNode] = {
    "text": TextNode(**EVERYTHING, start_char_idx=7, end_char_idx=30, mimetype="text/markdown"),
    "document": Document(text="A whole document.", id_="doc", metadata={"file": "a.md"}),
    "image": ImageNode(
        text="a red crane", id_="im", image_path="/pictures/crane.png", image_url="https://x.test/c.png"
    ),
    "index": IndexNode(text="a summary", id_="ix", index_id="points-here"),
    "index with a node": IndexNode(text="short", id_="in", index_id="x", obj=TextNode(text="long", id_="inner")),
    "multimodal": Node(
        id_="mm",
        text_resource=MediaResource(text="a picture of boats"),
        image_resource=MediaResource(data=b"\x89PNG not really a picture", mimetype="image/png"),
    ),
    "without words": ImageNode(id_="bare", image_path="/pictures/bare.png"),
}


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_a_node_comes_back_exactly(nodes: MemoryVectorStore, kind: str) -> None:
    node = ONE_OF_EACH[kind]
    assert nodes.add([node.model_copy(update={"embedding": [0.5]})]) == [node.node_id]
    [back] = nodes.get_nodes([node.node_id])
    assert type(back) is type(node)
    assert back == node
    assert back.hash == node.hash
    assert list(back.metadata) == list(node.metadata)
    assert back.embedding is None


def test_a_subclass_comes_back_as_what_is_known(nodes: MemoryVectorStore) -> None:
    class Mine(TextNode):
        pass

    nodes.add([Mine(text="mine", id_="m")])
    assert type(nodes.get_nodes(["m"])[0]) is TextNode


def test_found_nodes_are_whole(nodes: MemoryVectorStore) -> None:
    node = TextNode(**EVERYTHING)
    nodes.add([node, text_node("Bread needs four hours.", "n2")])
    result = nodes.query(VectorStoreQuery(query_str="tides rise", similarity_top_k=1))
    assert (result.nodes, result.ids) == ([node], [node.node_id])
    assert result.similarities is not None
    assert len(result.similarities) == 1


def test_a_long_node_is_one_hit(nodes: MemoryVectorStore) -> None:
    long = " ".join(f"The harbour of town {n} has {n} cranes." for n in range(400))
    nodes.add([text_node(long, "long"), text_node("A crane is a bird of the harbour.", "short")])
    assert sorted(ask(nodes, "harbour crane", top_k=5)) == ["long", "short"]
    assert nodes.get_nodes(["long"])[0].get_content() == long


def test_adding_again_replaces(nodes: MemoryVectorStore, store: MemoryStore) -> None:
    nodes.add([text_node("Tides rise twice a day.", "n1")])
    nodes.add([text_node("first", "n1"), text_node("Ebb and flow, says the pilot.", "n1")])
    assert [one.get_content() for one in nodes.get_nodes()] == ["Ebb and flow, says the pilot."]
    assert ask(nodes, "twice a day", mode=VectorStoreQueryMode.TEXT_SEARCH) == []
    assert nodes.add([]) == []


def test_what_is_no_json_is_refused_whole(nodes: MemoryVectorStore) -> None:
    with pytest.raises(InvalidInputError, match="JSON"):
        nodes.add([text_node("good", "good"), text_node("bad", "bad", when=object())])
    assert nodes.get_nodes() == []


# ── queries ───────────────────────────────────────────────────────────────────────────────────────


def test_modes(nodes: MemoryVectorStore) -> None:
    nodes.add([text_node("Part XK-77-1309 fits the pump.", "part"), text_node("Water pumps need oil.", "oil")])
    for mode in ("default", "hybrid", "semantic_hybrid", "sparse", "text_search"):
        assert ask(nodes, "XK-77-1309", mode=VectorStoreQueryMode(mode))[0] == "part"
    assert ask(nodes, "XK-77-1309", mode=VectorStoreQueryMode.SPARSE) == ["part"]
    assert ask(nodes, "XK-77-1309", mode=VectorStoreQueryMode.HYBRID, alpha=0.0) == ["part"]
    assert len(ask(nodes, "XK-77-1309", mode=VectorStoreQueryMode.HYBRID, alpha=1.0)) == 2
    assert len(ask(nodes, "pump", mode=VectorStoreQueryMode.HYBRID, hybrid_top_k=1)) == 1
    with pytest.raises(InvalidInputError, match="mmr"):
        ask(nodes, "pump", mode=VectorStoreQueryMode.MMR)
    with pytest.raises(InvalidInputError, match="empty"):
        nodes.query(VectorStoreQuery(query_embedding=[1.0]))


def test_restricted_to_documents_and_nodes(nodes: MemoryVectorStore) -> None:
    nodes.add([text_node(f"Boat {n} of the fleet.", f"n{n}", f"d{n % 3}") for n in range(9)])
    assert sorted(ask(nodes, "boats", doc_ids=["d1"])) == ["n1", "n4", "n7"]
    assert sorted(ask(nodes, "boats", node_ids=["n2", "n4", "none"])) == ["n2", "n4"]
    assert ask(nodes, "boats", node_ids=["n2"], doc_ids=["d1"]) == []
    assert len(ask(nodes, "boats", node_ids=[], doc_ids=[])) == 9


def test_other_memories_in_the_namespace_are_no_nodes(nodes: MemoryVectorStore, store: MemoryStore) -> None:
    store.add([f"Boat {n} was seen by Alice." for n in range(30)], ("alice", "library"))
    store.add("A boat below.", ("alice", "library", "attic"))
    nodes.add([text_node("A boat in the library.", "n")])
    MemoryVectorStore(store, ("alice", "library", "attic")).add([text_node("A boat in the attic.", "below")])
    assert ask(nodes, "boat") == ["n"]
    nodes.clear()
    assert nodes.get_nodes() == []
    assert store.count(("alice", "library")) == 31 + 2  # the rest, and the node below with its value
    assert any("library" in hit.text for hit in store.search("library", "alice")) is False


def test_nodes_are_memories_of_their_owner(nodes: MemoryVectorStore, store: MemoryStore) -> None:
    nodes.add([text_node("Tides rise twice a day.", "n1", "doc")])
    assert "Tides rise" in store.context("tides", "alice").text
    assert store.search("tides", "bob").hits == ()


# ── filters ───────────────────────────────────────────────────────────────────────────────────────

SAMPLES: list[dict[str, Any]] = [
    {"name": "alpha", "stars": 1, "price": 2.5, "tags": ["red", "blue"], "day": "2026-01-02"},
    {"name": "Alphabet", "stars": 2, "price": 7, "tags": ["red"], "day": "2026-03-01"},
    {"name": "beta", "stars": 3, "tags": [], "day": "2025-12-31", "note": ""},
    {"name": "gamma", "stars": 1, "price": 0.5, "tags": ["green", "7"], "note": "see beta"},
    {"stars": 2, "tags": ["blue", "green"], "day": "2026-01-02", "note": None},
    {"name": "delta"},
]

CASES: dict[str, tuple[str, FilterOperator, Any]] = {
    "eq text": ("name", FilterOperator.EQ, "beta"),
    "eq number": ("stars", FilterOperator.EQ, 2),
    "eq float of an integer": ("price", FilterOperator.EQ, 7.0),
    "eq none": ("name", FilterOperator.EQ, None),
    "eq list": ("tags", FilterOperator.EQ, ["red", "blue"]),
    "ne": ("name", FilterOperator.NE, "beta"),
    "gt": ("price", FilterOperator.GT, 0.5),
    "gte": ("price", FilterOperator.GTE, 2.5),
    "lt": ("stars", FilterOperator.LT, 2),
    "lte": ("stars", FilterOperator.LTE, 2),
    "gt text": ("day", FilterOperator.GT, "2026-01-01"),
    "lte text": ("day", FilterOperator.LTE, "2026-01-02"),
    "in": ("name", FilterOperator.IN, ["beta", "gamma"]),
    "in nothing": ("name", FilterOperator.IN, []),
    "nin": ("name", FilterOperator.NIN, ["beta", "gamma"]),
    "any": ("tags", FilterOperator.ANY, ["blue", "green"]),
    "all": ("tags", FilterOperator.ALL, ["blue", "red"]),
    "contains": ("tags", FilterOperator.CONTAINS, "red"),
    "text match": ("name", FilterOperator.TEXT_MATCH, "lpha"),
    "text match, any case": ("name", FilterOperator.TEXT_MATCH_INSENSITIVE, "ALPHA"),
    "is empty": ("note", FilterOperator.IS_EMPTY, None),
    "is empty list": ("tags", FilterOperator.IS_EMPTY, None),
    "missing": ("nowhere", FilterOperator.EQ, "x"),
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryVectorStore]:
    path = tmp_path_factory.mktemp("samples")
    with opened(path, settings=Settings(filterable=("name", "tags"))) as store:
        nodes = MemoryVectorStore(store, "samples", rerank="none")
        nodes.add([text_node(f"sample number {n}", str(n), **sample) for n, sample in enumerate(SAMPLES)])
        yield nodes


@pytest.mark.parametrize("case", CASES)
def test_operators_mean_what_llama_index_means(samples: MemoryVectorStore, case: str) -> None:
    """Held against the filter function of LlamaIndex's own store."""
    key, operator, value = CASES[case]
    filters = MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])
    theirs = build_metadata_filter_fn(lambda id_: SAMPLES[int(id_)], filters)
    expected = [str(n) for n in range(len(SAMPLES)) if theirs(str(n))]
    assert sorted(ask(samples, "sample number", filters=filters)) == expected
    assert sorted(one.node_id for one in samples.get_nodes(filters=filters)) == expected


def combined(random_: random.Random, depth: int) -> MetadataFilters:
    chosen = [random_.choice(list(CASES.values())) for _ in range(random_.randint(1, 3))]
    parts: list[Any] = [MetadataFilter(key=key, operator=op, value=value) for key, op, value in chosen]
    if depth:
        parts.append(combined(random_, depth - 1))
    return MetadataFilters(filters=parts, condition=random_.choice(list(FilterCondition)))


def expected_of(filters: MetadataFilters, sample: dict[str, Any]) -> bool:
    answers = []
    for one in filters.filters:
        if isinstance(one, MetadataFilters):
            answers.append(expected_of(one, sample))
        else:
            answers.append(build_metadata_filter_fn(lambda _: sample, MetadataFilters(filters=[one]))(""))
    if filters.condition == FilterCondition.NOT:
        return not any(answers)
    return any(answers) if filters.condition == FilterCondition.OR else all(answers)


@pytest.mark.parametrize("seed", range(12))
def test_any_nesting(samples: MemoryVectorStore, seed: int) -> None:
    filters = combined(random.Random(seed), depth=2)
    expected = [str(n) for n, sample in enumerate(SAMPLES) if expected_of(filters, sample)]
    assert sorted(ask(samples, "sample number", filters=filters)) == expected


def test_no_filters_are_no_filter(samples: MemoryVectorStore) -> None:
    assert len(ask(samples, "sample number", filters=MetadataFilters(filters=[]))) == len(SAMPLES)


def test_things_without_an_order_are_not_above_each_other(samples: MemoryVectorStore) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key="name", operator=FilterOperator.GT, value=3)])
    assert ask(samples, "sample number", filters=filters) == []


@pytest.mark.parametrize("key", ["ref_doc_id", "doc_id", "document_id"])
def test_filters_on_the_document(nodes: MemoryVectorStore, key: str) -> None:
    nodes.add([text_node(f"Boat {n}", f"n{n}", f"d{n % 2}") for n in range(4)])
    filters = MetadataFilters(filters=[MetadataFilter(key=key, value="d1")])
    assert sorted(ask(nodes, "boat", filters=filters)) == ["n1", "n3"]


def test_top_k_is_reached_whatever_the_filter(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        nodes = MemoryVectorStore(store, "alice", rerank="none")
        nodes.add([text_node("A boat of the fleet", f"n{n}", path=f"/{n % 50}/x") for n in range(600)])
        filters = MetadataFilters(filters=[MetadataFilter(key="path", operator=FilterOperator.TEXT_MATCH, value="/7/")])
        assert len(ask(nodes, "boats of the fleet", top_k=8, filters=filters)) == 8
        assert len(ask(nodes, "boats of the fleet", top_k=40, filters=filters)) == 12


# ── deletions ─────────────────────────────────────────────────────────────────────────────────────


def test_delete_by_document(nodes: MemoryVectorStore, store: MemoryStore) -> None:
    nodes.add([text_node(f"Boat {n} of the fleet.", f"n{n}", f"d{n % 2}") for n in range(4)])
    nodes.add([Document(text="Alone and whole.", id_="alone")])
    nodes.delete("d1")
    assert sorted(one.node_id for one in nodes.get_nodes()) == ["alone", "n0", "n2"]
    nodes.delete("alone")
    nodes.delete("never there")
    assert sorted(ask(nodes, "boats fleet alone whole")) == ["n0", "n2"]
    assert store.count("alice") == 4  # two nodes, two values


def test_delete_nodes(nodes: MemoryVectorStore) -> None:
    nodes.add([text_node(f"Boat {n} of the fleet.", f"n{n}", colour="red" if n % 2 else "blue") for n in range(6)])
    red = MetadataFilters(filters=[MetadataFilter(key="colour", value="red")])
    nodes.delete_nodes(["n0", "n1", "nowhere"], filters=red)
    assert [one.node_id for one in nodes.get_nodes()] == ["n0", "n2", "n3", "n4", "n5"]
    nodes.delete_nodes(filters=red)
    assert [one.node_id for one in nodes.get_nodes()] == ["n0", "n2", "n4"]
    nodes.delete_nodes([])
    nodes.delete_nodes(["n4"])
    assert [one.node_id for one in nodes.get_nodes(["n4", "n2", "n0"])] == ["n2", "n0"]
    with pytest.raises(InvalidInputError, match="clear"):
        nodes.delete_nodes()


def test_deleted_means_gone_from_the_files(tmp_path: Path) -> None:
    secret = "the lighthouse keeper's daughter"
    with opened(tmp_path) as store:
        nodes = MemoryVectorStore(store, "alice")
        nodes.add([text_node(secret, "n1", "doc")])
        nodes.delete("doc")
    with opened(tmp_path) as store:
        assert MemoryVectorStore(store, "alice").get_nodes() == []
        assert store.search("lighthouse keeper", "alice").hits == ()


# ── async ─────────────────────────────────────────────────────────────────────────────────────────


async def test_async_twins_stay_off_the_loop(nodes: MemoryVectorStore, store: MemoryStore) -> None:
    watch = Watch(store)
    await nodes.async_add([text_node(f"Boat {n} of the fleet.", f"n{n}", f"d{n}") for n in range(5)])
    result = await nodes.aquery(VectorStoreQuery(query_str="boat 3", similarity_top_k=1))
    assert result.ids == ["n3"]
    await nodes.adelete("d3")
    await nodes.adelete_nodes(["n4"])
    assert [one.node_id for one in await nodes.aget_nodes()] == ["n0", "n1", "n2"]
    await nodes.aclear()
    assert await nodes.aget_nodes() == []
    assert watch.count("add") == 1
    assert watch.here() == []


async def test_async_store(tmp_path: Path) -> None:
    async with opened_async(tmp_path) as store:
        nodes = MemoryVectorStore(store, "alice")
        await nodes.async_add([text_node("Tides rise twice a day.", "n1")])
        assert (await nodes.aquery(VectorStoreQuery(query_str="tides", similarity_top_k=1))).ids == ["n1"]
        with pytest.raises(ConfigurationError, match="AsyncMemoryStore"):
            nodes.get_nodes()


# ── vectors from nodes ────────────────────────────────────────────────────────────────────────────


def test_embeddings_of_nodes_are_the_vectors(tmp_path: Path) -> None:
    with opened(tmp_path, embedder="vectors:64", reranker=None) as store:
        model = MemoryEmbedding(HashEmbedder())
        nodes = MemoryVectorStore(store, "alice", embeddings="nodes")
        assert nodes.is_embedding_query
        index = VectorStoreIndex.from_vector_store(nodes, embed_model=model)
        index.insert_nodes([text_node("Tides rise twice a day.", "tide"), text_node("Bread needs hours.", "bread")])
        assert index.as_retriever(similarity_top_k=1).retrieve("the tides rise")[0].node_id == "tide"
        vector = model.get_query_embedding("Bread needs hours.")
        alone = nodes.query(VectorStoreQuery(query_embedding=vector, similarity_top_k=1))
        assert alone.ids == ["bread"]
        with pytest.raises(InvalidInputError, match="no embedding"):
            nodes.add([text_node("not embedded", "x")])
        with pytest.raises(InvalidInputError, match="embeddings is"):
            MemoryVectorStore(store, "alice", embeddings="other")  # type: ignore[arg-type]


# ── LlamaIndex's own parts ────────────────────────────────────────────────────────────────────────


def test_index_insert_query_delete(nodes: MemoryVectorStore) -> None:
    context = StorageContext.from_defaults(vector_store=nodes)
    index = VectorStoreIndex.from_documents(
        [Document(text="Tides rise twice a day.", id_="tides"), Document(text="Bread needs four hours.", id_="bread")],
        storage_context=context,
        embed_model=PLACEHOLDER,
    )
    index.insert(Document(text="Part XK-77-1309 fits the pump.", id_="pump"))
    engine = index.as_query_engine(llm=MockLLM(), similarity_top_k=1)
    assert "XK-77-1309 fits" in str(engine.query("What is XK-77-1309?"))
    index.update_ref_doc(Document(text="Part XK-77-1309 is out of stock.", id_="pump"))
    assert "out of stock" in str(engine.query("What is XK-77-1309?"))
    index.delete_ref_doc("pump")
    assert "stock" not in str(engine.query("What is XK-77-1309?"))
    again = VectorStoreIndex.from_vector_store(nodes, embed_model=PLACEHOLDER)
    assert again.as_retriever(similarity_top_k=1).retrieve("tides rise")[0].node.ref_doc_id == "tides"
    lexical = again.as_retriever(vector_store_query_mode="text_search").retrieve("bread")
    assert [one.node.ref_doc_id for one in lexical] == ["bread"]


async def test_index_async(nodes: MemoryVectorStore, store: MemoryStore) -> None:
    watch = Watch(store)
    index = VectorStoreIndex.from_vector_store(nodes, embed_model=PLACEHOLDER)
    await index.ainsert_nodes([text_node("Tides rise twice a day.", "tide", "doc"), text_node("Bread.", "bread")])
    found = await index.as_retriever(similarity_top_k=1).aretrieve("tides")
    assert [one.node_id for one in found] == ["tide"]
    await index.adelete_ref_doc("doc")
    assert [one.node_id for one in await nodes.aget_nodes()] == ["bread"]
    assert watch.here() == []


def test_pipeline_of_readers_and_parsers(nodes: MemoryVectorStore, tmp_path: Path) -> None:
    """A directory is read, split, kept; a changed file is replaced, one that is gone is taken out."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "tides.txt").write_text("Tides rise twice a day. " * 40)
    (folder / "bread.md").write_text("# Bread\n\nBread needs four hours to rise.")

    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=64, chunk_overlap=0), PLACEHOLDER],
        vector_store=nodes,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    )

    def read() -> int:
        documents = SimpleDirectoryReader(str(folder), filename_as_id=True).load_data()
        return len(pipeline.run(documents=documents))

    assert read() == len(nodes.get_nodes()) > 3
    assert read() == 0  # nothing changed
    [bread] = [one for one in nodes.get_nodes() if one.metadata["file_name"] == "bread.md"]
    assert "four hours" in bread.get_content()
    (folder / "bread.md").write_text("# Bread\n\nBread needs five hours to rise.")
    assert read() == 1
    texts = [one.get_content() for one in nodes.get_nodes()]
    assert any("five hours" in text for text in texts)
    assert not any("four hours" in text for text in texts)
    (folder / "tides.txt").unlink()
    read()
    assert [one.metadata["file_name"] for one in nodes.get_nodes()] == ["bread.md"]
    assert ask(nodes, "bread.md", mode=VectorStoreQueryMode.TEXT_SEARCH) == [nodes.get_nodes()[0].node_id]


def test_index_with_a_reranker(nodes: MemoryVectorStore) -> None:
    index = VectorStoreIndex.from_vector_store(nodes, embed_model=PLACEHOLDER)
    index.insert_nodes([text_node("A cat sat on a mat.", "cat"), text_node("Alice moved to Lisbon in May.", "move")])
    engine = index.as_query_engine(
        llm=MockLLM(), similarity_top_k=2, node_postprocessors=[MemoryReranker("local", top_n=1)]
    )
    response = engine.query("Where does Alice live?")
    assert [one.node_id for one in response.source_nodes] == ["move"]


async def test_vector_memory_block_of_llama_index(nodes: MemoryVectorStore) -> None:
    block = VectorMemoryBlock(vector_store=nodes, embed_model=PLACEHOLDER)
    memory = Memory.from_defaults(
        session_id="s1", token_limit=60, chat_history_token_ratio=0.5, token_flush_size=10, memory_blocks=[block]
    )
    await memory.aput(ChatMessage(role="user", content="My passport number is XK-77-1309, please remember it well."))
    await memory.aput(ChatMessage(role="assistant", content="I will remember your passport number, certainly."))
    await memory.aput(ChatMessage(role="user", content="What is my passport number? I need to fill in a long form."))
    await memory.aput(ChatMessage(role="assistant", content="Let me look that up for you in my notes, one moment."))
    await memory.aput(ChatMessage(role="user", content="My passport number, please."))
    shown = "\n".join(str(message) for message in await memory.aget())
    await memory.sql_store._async_engine.dispose()  # type: ignore[attr-defined]
    assert nodes.get_nodes()
    assert "XK-77-1309" in shown


# ── what is written ───────────────────────────────────────────────────────────────────────────────


def test_what_is_written_has_no_store(nodes: MemoryVectorStore, tmp_path: Path) -> None:
    nodes.add([text_node("Tides rise twice a day.", "n1")])
    index = VectorStoreIndex.from_vector_store(nodes, embed_model=PLACEHOLDER)
    index.storage_context.persist(str(tmp_path / "persisted"))
    everything = nodes.to_json() + repr(nodes) + str(pickle.dumps(nodes))
    everything += "".join(path.read_text() for path in (tmp_path / "persisted").iterdir())
    assert "Tides" not in everything
    assert str(tmp_path) not in everything
    written = pickle.dumps(nodes)
    assert len(pickle.loads(written).get_nodes()) == 1  # the store is still open
    links.clear()  # as in another process
    again = pickle.loads(written)
    with pytest.raises(ConfigurationError, match="attach"):
        again.get_nodes()
    assert len(again.attach(nodes.client).get_nodes()) == 1
    back = MemoryVectorStore.from_json(nodes.to_json(), store=nodes.client)
    assert back.namespace == ("alice", "library")
    assert len(back.get_nodes()) == 1
    assert nodes.model_copy(deep=True).client is nodes.client
