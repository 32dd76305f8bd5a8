"""Terms that the embedder weighs itself: a leg of their own, under ids and weights that tell nothing by themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import ConfigurationError, InvalidInputError, MemoryStore, Settings
from memory_plugin.embedders.bge_m3 import BgeM3Embedder
from memory_plugin.engine.sealing import LEARNED
from memory_plugin.errors import EmbeddingError
from memory_plugin.flow import run
from memory_plugin.lexical import terms
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType, SparseVector
from tests import tiny
from tests.conftest import Driver, Opener

CONCEPTS = {"car": "vehicle", "automobile": "vehicle", "doctor": "medicine", "physician": "medicine"}
WEIGHTS = {"vehicle": 1.5, "medicine": 0.75}


class WeighingEmbedder(HashEmbedder):
    """Weighs the concepts that a text's words stand for, and its words a little."""

    def __init__(self, revision: str = "terms") -> None:
        super().__init__(revision=revision)
        self.identity = dataclasses.replace(self.identity, outputs="dense,terms")

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Vectors and weights."""
        made = super().embed(texts, input_type=input_type)
        return dataclasses.replace(made, terms=tuple(map(self.weigh, texts)))

    def weigh(self, text: str) -> Mapping[str, float]:
        """A term's weight."""
        words = text.lower().replace(".", "").split()
        found = {CONCEPTS[word]: WEIGHTS[CONCEPTS[word]] for word in words if word in CONCEPTS}
        return {**dict.fromkeys(words, 0.125), **found, "nothing": 0.0}


TEXTS = ("The car is red.", "A physician came.", "Nobody knows the way.")


def fill(store: Driver) -> Driver:
    store.add(list(TEXTS), "alice")
    store.add(["Another car of another person."], "bob")
    return store


@pytest.fixture(params=["rotated", "plain"])
def store(open_store: Opener, request: pytest.FixtureRequest) -> Driver:
    return fill(open_store(embedder=WeighingEmbedder(), settings=Settings(vectors=request.param), reranker=None))


def test_the_leg_adds_what_the_others_do_not_find(store: Driver) -> None:
    assert not store.search("automobile", "alice", legs="lexical")
    (best, *_) = store.search("automobile", "alice", legs="learned")
    assert best.text == "The car is red."
    assert set(best.stages) == {"learned", "fused"}
    best = store.search("automobile", "alice")[0]
    assert best.text == "The car is red."
    assert {"dense", "learned"} <= set(best.stages)
    assert store.search("doctor", "alice")[0].text == "A physician came."


def test_scores_are_products_of_the_weights_as_they_were_learned(store: Driver) -> None:
    (hit,) = store.search("automobile", "alice", legs="learned")
    assert hit.stages["learned"].score == pytest.approx(WEIGHTS["vehicle"] ** 2, rel=1e-5)
    best = store.search("The doctor came", "alice", legs="learned")[0]
    assert best.text == "A physician came."
    assert best.stages["learned"].score == pytest.approx(WEIGHTS["medicine"] ** 2 + 0.125**2, rel=1e-5)


def test_nobody_elses_are_found(store: Driver) -> None:
    assert [hit.text for hit in store.search("automobile", "bob", legs="learned")] == ["Another car of another person."]
    assert len(store.search("automobile", ["alice", "bob"], legs="learned")) == 2


def test_its_weight_in_fusion_is_a_setting(open_store: Opener) -> None:
    parts: dict[str, Any] = {"embedder": WeighingEmbedder(), "reranker": None}
    for weight in (0.0, 1.0, 3.0):
        store = fill(open_store(f"w{weight}", settings=Settings(learned_weight=weight, rrf_k=4.0), **parts))
        best = store.search("automobile", "alice", rerank="none")[0]
        ranks = {leg: stage.rank for leg, stage in best.stages.items() if leg != "fused"}
        expected = sum({"dense": 1.0, "learned": weight}[leg] / (4.0 + rank) for leg, rank in ranks.items())
        assert best.score == pytest.approx(expected)
    with pytest.raises(ConfigurationError, match="learned_weight must not be negative"):
        Settings(learned_weight=-1)


def test_a_vector_that_is_given_brings_none(store: Driver) -> None:
    found = store.search("automobile", "alice", vector=[1.0] * 64)
    assert not any("learned" in hit.stages for hit in found)
    store.add("A car with a vector.", "alice", vector=[1.0] * 64)
    assert len(store.search("automobile", "alice", legs="learned")) == 1


@pytest.mark.parametrize("embedder", [HashEmbedder(), WeighingEmbedder()])
def test_a_store_without_them_says_why(open_store: Opener, embedder: Any) -> None:
    sealed = "terms" in embedder.identity.outputs
    store = open_store(embedder=embedder, settings=Settings(vectors="sealed" if sealed else "rotated"))
    store.add("The car.", "alice")
    assert store.search("car", "alice")[0].text == "The car."
    with pytest.raises(InvalidInputError, match="vectors are sealed" if sealed else "weighs no terms"):
        store.search("car", "alice", legs="learned")


@pytest.mark.parametrize(
    ("given", "message"),
    [(None, "returned none"), ((), "terms of 0 texts"), (({"a": float("nan")},), "not finite")],
)
def test_what_a_model_must_not_return(open_store: Opener, given: Any, message: str) -> None:
    class Broken(WeighingEmbedder):
        spoiled = False

        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            made = super().embed(texts, input_type=input_type)
            return dataclasses.replace(made, terms=given) if self.spoiled else made

    embedder = Broken()
    store = open_store(embedder=embedder)
    embedder.spoiled = True
    with pytest.raises(EmbeddingError, match=message):
        store.add("The car.", "alice")
    assert store.count("alice") == 0


# ── what lies in Qdrant ───────────────────────────────────────────────────────────────────────────


def stored(store: Any, name: str) -> list[SparseVector]:
    """The weighted terms of every memory of a subject, as Qdrant has them."""
    engine = store._verbs.engine
    page = run(engine.index.scroll(engine.io, engine.scope(run(engine.sealer((name,), create=False)), (name,)),
                                   limit=100, payload=()))[0]  # fmt: skip
    points = run(engine.index.fetch(engine.io, [one.id for one in page], payload=(), vectors=True))
    found = [point.vectors.get(engine.active.weighted) for point in points]
    return [one for one in found if isinstance(one, SparseVector)]


def opened(path: Path, vectors: Any) -> MemoryStore:
    store = MemoryStore.open(
        path / vectors, embedder=WeighingEmbedder(), reranker=None, late=None, keyring=path / f"{vectors}.json",
        settings=Settings(vectors=vectors),
    )  # fmt: skip
    for name in ("alice", "bob"):
        store.add(list(TEXTS), name)
    return store


def test_ids_are_keyed_and_none_of_bm25s(tmp_path: Path) -> None:
    with opened(tmp_path, "rotated") as store:
        engine = store._verbs.engine
        words = sorted({term for text in TEXTS for term in terms(text)} | set(WEIGHTS))
        ids = {}
        for name in ("alice", "bob"):
            sealer = run(engine.sealer((name,), create=False))
            assert sealer is not None
            found = {int(one) for vector in stored(store, name) for one in vector.indices}
            assert not found & set(sealer.term_ids(words).tolist())
            assert int(sealer.term_ids([f"{LEARNED}vehicle"])[0]) in found
            ids[name] = found
        assert not ids["alice"] & ids["bob"]


def test_rotated_weights_do_not_tell_which_text_it_is(tmp_path: Path) -> None:
    """A text's weights in order are as good as its name to who has the model; under keyed factors they are not."""
    embedder = WeighingEmbedder()
    weights = {tuple(sorted(float(one) for one in embedder.weigh(text).values() if one)) for text in TEXTS}
    for vectors, shown in (("plain", True), ("rotated", False)):
        with opened(tmp_path, vectors) as store:
            kept = {tuple(sorted(map(float, vector.values))) for vector in stored(store, "alice")}
            assert (kept == weights) is shown
            other = {tuple(sorted(map(float, vector.values))) for vector in stored(store, "bob")}
            assert (kept == other) is shown


def test_sealed_vectors_come_with_none(tmp_path: Path) -> None:
    with opened(tmp_path, "sealed") as store:
        assert stored(store, "alice") == []
        assert store.verify().ok


# ── another model ─────────────────────────────────────────────────────────────────────────────────


def test_a_migration_fills_them_too(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=HashEmbedder(), **parts) as store:
        store.add(list(TEXTS), "alice")
        store.migrate(WeighingEmbedder(), force=True)
        (hit,) = store.search("automobile", "alice", legs="learned")
        assert hit.stages["learned"].score == pytest.approx(WEIGHTS["vehicle"] ** 2, rel=1e-5)
        store.add("A new automobile.", "alice")
        assert len(store.search("car", "alice", legs="learned")) == 2
        store.finish()
        assert store.verify().ok


# ── bge-m3 ────────────────────────────────────────────────────────────────────────────────────────


def test_all_three_outputs_of_bge_m3_are_stored_and_used(tmp_path: Path) -> None:
    """Its term weights score as the model itself would."""
    embedder = BgeM3Embedder(tiny.write_m3(tmp_path / "bge-m3"))
    texts = ["The red cat sleeps.", "A blue river by the house.", "The cat and the river."]
    settings = Settings(chunk_tokens=64)
    parts: dict[str, Any] = {"reranker": None, "keyring": tmp_path / "k.json", "settings": settings}
    with MemoryStore.open(tmp_path / "m", embedder=embedder, **parts) as store:
        store.add(texts, "alice")
        hits = store.search("the red cat", "alice")
        used = {stage for hit in hits for stage in hit.stages}
        assert used == {"dense", "lexical", "learned", "fused", "late"}
        query, *documents = embedder.embed(["the red cat", *texts], input_type="document").terms or ()
        for hit in hits:
            own = documents[texts.index(hit.text)]
            expected = sum(weight * own.get(term, 0.0) for term, weight in query.items())
            if expected:
                assert hit.stages["learned"].score == pytest.approx(expected, rel=1e-4)
            else:
                assert "learned" not in hit.stages
        assert np.isfinite([hit.score for hit in hits]).all()
