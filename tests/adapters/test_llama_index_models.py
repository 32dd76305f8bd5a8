"""``MemoryReranker`` and ``MemoryEmbedding``: our models inside LlamaIndex, and LlamaIndex's in our store."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode

from memory_plugin import ConfigurationError, InvalidInputError, MemoryStore, RerankError, UnknownProviderError
from memory_plugin.adapters.llama_index import MemoryEmbedding, MemoryReranker, MemoryRetriever
from memory_plugin.testing.doubles import AsyncHashEmbedder, FailingReranker, HashEmbedder, OverlapReranker
from memory_plugin.types import Embeddings, InputType
from tests.adapters.llama import opened


def nodes(*texts: str) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(text=text, id_=text), score=1.0 - n / 100) for n, text in enumerate(texts)]


class Seen(OverlapReranker):
    """Remembers what it was given, and where it ran."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.threads: set[int] = set()

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        self.texts.extend(texts)
        self.threads.add(threading.get_ident())
        return super().rerank(query, texts)


@pytest.fixture
def events() -> Iterator[list[Any]]:
    seen: list[Any] = []

    class Keep(BaseEventHandler):
        def handle(self, event: Any, **kwargs: Any) -> None:
            seen.append(event)

    dispatcher = get_dispatcher()
    handler = Keep()
    dispatcher.add_event_handler(handler)
    yield seen
    dispatcher.event_handlers.remove(handler)


# ── reranker ──────────────────────────────────────────────────────────────────────────────────────


def test_the_last_node_can_become_the_first() -> None:
    """Nothing is cut off before it was read."""
    given = nodes(*(f"node {n} is about trees" for n in range(30)), "the red harbour crane")
    seen = Seen()
    best = MemoryReranker(seen, top_n=2).postprocess_nodes(given, query_str="red harbour crane")
    assert len(seen.texts) == 31
    assert [one.text for one in best] == ["the red harbour crane", "node 0 is about trees"]
    assert best[0].score == 1.0
    assert given[-1].score == pytest.approx(0.7)  # what came in is as it was


async def test_rerank_off_the_loop_and_the_same() -> None:
    seen = Seen()
    reranker = MemoryReranker(seen, top_n=1)
    [best] = await reranker.apostprocess_nodes(nodes("a tree", "a red crane"), query_str="red crane")
    assert best.text == "a red crane"
    assert threading.get_ident() not in seen.threads


def test_rerank_events(events: list[Any]) -> None:
    MemoryReranker(OverlapReranker(), top_n=1).postprocess_nodes(nodes("a tree", "a crane"), query_str="crane")
    start, end = events
    assert (start.class_name(), end.class_name()) == ("ReRankStartEvent", "ReRankEndEvent")
    assert (start.top_n, start.model_name, len(start.nodes)) == (1, "testing:overlap", 2)
    assert [one.text for one in end.nodes] == ["a crane"]


def test_rerank_edges() -> None:
    reranker = MemoryReranker(OverlapReranker(), top_n=3)
    assert reranker.postprocess_nodes([], query_str="x") == []
    with pytest.raises(InvalidInputError, match="query"):
        reranker.postprocess_nodes(nodes("a"))
    with pytest.raises(InvalidInputError, match="top_n"):
        MemoryReranker(OverlapReranker(), top_n=0)
    with pytest.raises(UnknownProviderError):
        MemoryReranker("nobody:model")
    with pytest.raises(RerankError):
        MemoryReranker(FailingReranker()).postprocess_nodes(nodes("a"), query_str="x")


class Short(OverlapReranker):
    """Loses a score."""

    def rerank(self, query: str, texts: Sequence[str], /) -> list[float]:
        return super().rerank(query, texts)[:-1]


def test_rerank_answers_are_checked() -> None:
    with pytest.raises(RerankError, match="1 scores for 2 nodes"):
        MemoryReranker(Short()).postprocess_nodes(nodes("a", "b"), query_str="x")


def test_shipped_reranker_in_a_query_engine(tmp_path: Path) -> None:
    with opened(tmp_path, reranker=None) as store:
        store.add(["The cat sat on the mat.", "Alice moved to Lisbon in May.", "Bread needs four hours."], "alice")
        engine = RetrieverQueryEngine.from_args(
            MemoryRetriever(store, "alice", limit=3, rerank="none"),
            llm=MockLLM(),
            node_postprocessors=[MemoryReranker("local", top_n=1)],
        )
        response = engine.query("Where does Alice live?")
    assert [one.text for one in response.source_nodes] == ["Alice moved to Lisbon in May."]


def test_reranker_round_trip() -> None:
    named = MemoryReranker("local", top_n=4)
    assert MemoryReranker.from_dict(named.to_dict()).top_n == 4
    assert pickle.loads(pickle.dumps(named)).model == "local"
    of_object = MemoryReranker(OverlapReranker(), top_n=2)
    with pytest.raises(ConfigurationError, match="reranker="):
        MemoryReranker.from_dict(of_object.to_dict())
    assert MemoryReranker.from_dict(of_object.to_dict(), reranker=OverlapReranker()).top_n == 2


# ── our embedders in LlamaIndex ───────────────────────────────────────────────────────────────────


class Typed(HashEmbedder):
    """Queries and documents lie in different places."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[tuple[InputType, int]] = []

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        self.types.append((input_type, len(texts)))
        made = super().embed(texts, input_type=input_type)
        return made if input_type == "query" else Embeddings(-made.vectors)


def test_queries_and_documents_are_told_apart() -> None:
    typed = Typed()
    model = MemoryEmbedding(typed, embed_batch_size=2)
    query, document = model.get_query_embedding("a red crane"), model.get_text_embedding("a red crane")
    assert query == pytest.approx([-one for one in document])
    assert len(model.get_text_embedding_batch(["a", "b", "c"])) == 3
    assert typed.types == [("query", 1), ("document", 1), ("document", 2), ("document", 1)]
    assert model.model_name == "testing:hashed-words"


@pytest.mark.parametrize("kind", [HashEmbedder, AsyncHashEmbedder], ids=["blocking", "awaited"])
async def test_embedding_on_a_loop(kind: type[HashEmbedder]) -> None:
    model = MemoryEmbedding(kind())
    expected = HashEmbedder().embed(["a red crane"], input_type="query").vectors[0]
    assert await model.aget_query_embedding("a red crane") == pytest.approx(expected.tolist())
    assert await model.aget_text_embedding("a red crane") == pytest.approx(expected.tolist())
    assert len(await model.aget_text_embedding_batch(["a", "b", "c"])) == 3


def test_shipped_embedder() -> None:
    model = MemoryEmbedding("local")
    near, far = model.get_text_embedding_batch(["Alice moved to Lisbon.", "Bread needs four hours."])
    query = model.get_query_embedding("Where does Alice live?")
    assert len(query) == 384
    assert model.similarity(query, near) > model.similarity(query, far)


def test_embedding_round_trip() -> None:
    named = MemoryEmbedding("local", embed_batch_size=7)
    assert MemoryEmbedding.from_dict(named.to_dict()).embed_batch_size == 7
    assert pickle.loads(pickle.dumps(named)).model_name == "local"
    with pytest.raises(ConfigurationError, match="embedder="):
        MemoryEmbedding.from_dict(MemoryEmbedding(HashEmbedder()).to_dict())


class Keyed(HashEmbedder):
    """Has what must not be seen."""

    api_key = "sk-very-secret"

    def __repr__(self) -> str:
        return f"Keyed({self.api_key})"


def test_no_key_is_written(events: list[Any]) -> None:
    model = MemoryEmbedding(Keyed())
    model.get_query_embedding("a")
    written = json.dumps(model.to_dict()) + model.to_json() + repr(model) + str(model.to_payload())
    written += "".join(str(one) for one in events)
    assert "sk-very-secret" not in written


# ── LlamaIndex's embedders in our store ───────────────────────────────────────────────────────────


class Words(BaseEmbedding):
    """An embedding model of LlamaIndex, with hashed words."""

    model_name: str = "words"

    def _embed(self, text: str) -> list[float]:
        vector: list[float] = np.asarray(HashEmbedder(32).embed([text], input_type="document").vectors[0]).tolist()
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._embed(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed(text)


def test_an_embedding_of_llama_index_in_the_store(tmp_path: Path) -> None:
    with opened(tmp_path, embedder=Words()) as store:
        assert isinstance(store, MemoryStore)
        store.add(["Alice moved to Lisbon.", "Bread needs four hours."], "alice")
        found = MemoryRetriever(store, "alice", limit=1, legs="dense").retrieve("moved to Lisbon")
        assert [one.text for one in found] == ["Alice moved to Lisbon."]


def test_there_and_back_gives_the_same_vectors(tmp_path: Path) -> None:
    """Ours in theirs in ours: the bridge adds nothing."""
    there = MemoryEmbedding(HashEmbedder())
    back = MemoryEmbedding(there)  # type: ignore[arg-type]
    assert back.get_query_embedding("a red crane") == pytest.approx(there.get_query_embedding("a red crane"))
