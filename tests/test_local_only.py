"""What is marked local_only reaches no model outside this machine, by no way, and is found all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import Document, InvalidInputError, MemoryStore, Message, Settings
from memory_plugin.embedders.jina import JinaEmbedder
from memory_plugin.engine.core import Model
from memory_plugin.manifest import space
from memory_plugin.rerankers.jina import JinaReranker
from memory_plugin.rerankers.late_interaction import MaxSim
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from memory_plugin.testing.wire import WireServer
from tests.conftest import Driver, Opener
from tests.recorders import RemoteEmbedder, RemoteReranker, WordLate

SECRET = "zyqqvorth"
"""A word of every text that must stay here, and of no other."""

LONG = " ".join(f"The {SECRET} of day {day} was the great old house by the river." for day in range(60))

ITEMS: dict[str, Any] = {
    "a document": Document(f"The {SECRET} is under the garden.", local_only=True),
    "a message": Message("user", f"Alice moved the {SECRET}.", local_only=True),
    "a chat message": {"role": "user", "content": f"Bob has the {SECRET}.", "local_only": True},
    "a long document": Document(LONG, source="long", local_only=True),
    "a long Markdown document": Document(f"# The {SECRET}\n\n{LONG}", source="long.md", markdown=True, local_only=True),
}


@pytest.fixture
def remote() -> RemoteEmbedder:
    return RemoteEmbedder()


def fill(store: Driver, *items: Any) -> None:
    store.add(["The house by the river.", "Alice moved to Lisbon.", "A little quick fox."], "alice")
    store.add(list(items), "alice")


@pytest.mark.parametrize("vectors", ["rotated", "sealed"])
def test_its_text_reaches_no_model_elsewhere(open_store: Opener, remote: RemoteEmbedder, vectors: Any) -> None:
    reranker, late = RemoteReranker(), WordLate(leaves_machine=True)
    settings = Settings(vectors=vectors, staging=4, batch=3, chunk_tokens=32)
    store = open_store(embedder=remote, reranker=reranker, late=late, settings=settings)
    fill(store)
    for what, item in ITEMS.items():
        store.add(item, ("alice", what))
        for rerank in ("none", "late", "full"):
            assert SECRET in store.search(SECRET, ("alice", what), rerank=rerank, legs="lexical")[0].text.lower()
            found = store.search("house, garden, Alice, Bob", "alice", rerank=rerank, neighbours=2, limit=30)
            assert any(SECRET in hit.text for hit in found)
        assert SECRET in store.context("house, garden, Alice, Bob", ("alice", what)).text
        store.add(item, ("alice", what), metadata={"changed": True})
        seen = [text for text in (*remote.texts, *reranker.texts, *late.texts) if SECRET in text]
        assert [text for text in seen if text != SECRET] == [], what  # a query may be that word
        assert not any(SECRET in text for text in remote.counted), what
    assert len(late.packed) == 3
    assert any("Lisbon" in text for text in reranker.texts)
    assert store.verify().ok


def test_models_on_this_machine_are_given_it(open_store: Opener) -> None:
    embedder, late = HashEmbedder(), WordLate(leaves_machine=False)
    store = open_store(embedder=embedder, reranker=OverlapReranker(), late=late)
    fill(store, ITEMS["a document"])
    assert any(SECRET in text for text in embedder.texts)
    assert any(SECRET in text for text in late.texts)
    (best, *_) = store.search(f"where is the {SECRET}", "alice")
    assert set(best.stages) == {"dense", "lexical", "fused", "late", "rerank"}
    assert best.record.local_only


def test_one_that_does_not_tell_is_taken_to_be_elsewhere(open_store: Opener) -> None:
    class Silent:
        def __init__(self) -> None:
            self.inner = HashEmbedder()
            self.identity, self.embed = self.inner.identity, self.inner.embed

    silent = Silent()
    store = open_store(embedder=silent)
    fill(store, ITEMS["a document"])
    assert not any(SECRET in text for text in silent.inner.texts)


def test_it_is_found_by_its_words_and_by_the_local_stages(open_store: Opener, remote: RemoteEmbedder) -> None:
    store = open_store(embedder=remote, reranker=OverlapReranker(), late=MaxSim())
    fill(store, ITEMS["a document"])
    (best, *_) = store.search(f"{SECRET} garden", "alice")
    assert SECRET in best.text
    assert set(best.stages) == {"lexical", "fused", "late", "rerank"}
    assert not remote.saw(SECRET) or remote.texts[-1] == f"{SECRET} garden"


def test_a_reranker_elsewhere_leaves_it_in_its_place(open_store: Opener, remote: RemoteEmbedder) -> None:
    reranker = RemoteReranker()
    store = open_store(embedder=HashEmbedder(), reranker=reranker)
    store.add(["the old house", Document(f"the {SECRET} of the garden", local_only=True), "a quick fox"], "alice")
    found = store.search(f"the {SECRET} of the garden", "alice")
    assert found.rerank == "applied"
    assert SECRET in found[0].text  # first by the stages before
    assert "rerank" not in found[0].stages
    assert [hit.stages["rerank"].rank for hit in found if "rerank" in hit.stages] == [1, 2]
    assert found[0].score >= found[1].score >= found[2].score


def test_where_a_reranker_may_read_nothing_it_is_not_called(open_store: Opener) -> None:
    reranker = RemoteReranker()
    store = open_store(reranker=reranker)
    texts = [f"the {SECRET} of the garden", f"the {SECRET}", "the garden"]
    store.add(texts, "alice", local_only=True)
    before = store.search(f"the {SECRET} of the garden", "alice", rerank="none")
    found = store.search(f"the {SECRET} of the garden", "alice", rerank="full")
    assert (found.rerank, reranker.queries) == ("off", [])
    assert [hit.text for hit in found] == [hit.text for hit in before]
    assert len(found) == 3


def test_where_late_interaction_may_read_nothing_it_is_not_called(open_store: Opener) -> None:
    late = WordLate(leaves_machine=True)
    store = open_store(reranker=None, late=late)
    store.add([f"the {SECRET} of the garden", "the garden"], "alice", local_only=True)
    found = store.search(f"the {SECRET}", "alice")
    assert len(found) == 2
    assert (late.texts, late.packed) == ([], [])


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


def test_no_request_of_real_providers_holds_it(open_store: Opener, wire: WireServer) -> None:
    """What went over the wire, byte for byte: the server stands for the vendor's."""

    class Embedder(JinaEmbedder):
        leaves_machine = True

    class Reranker(JinaReranker):
        leaves_machine = True

    address: dict[str, Any] = {"base_url": wire.url("jina"), "api_key": wire.key}
    embedder, reranker = Embedder(dimension=64, **address), Reranker(**address)
    settings = Settings(staging=4, batch=3, chunk_tokens=32)
    store = open_store(embedder=embedder, reranker=reranker, late=MaxSim(), settings=settings)
    fill(store, *ITEMS.values())
    found = store.search("house, garden, Alice, Bob", "alice", neighbours=2, limit=30)
    assert any(SECRET in hit.text for hit in found)
    assert store.verify().ok
    sent = [json.dumps(seen.body) for operation in ("embed", "rerank") for seen in wire.asked("jina", operation)]
    assert any("Lisbon" in body for body in sent)
    assert not any(SECRET in body for body in sent)
    assert wire.asked("jina", "rerank")


# ── the query ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("late", [None, MaxSim()])
def test_the_lexical_leg_alone_sends_no_query(open_store: Opener, remote: RemoteEmbedder, late: Any) -> None:
    store = open_store(embedder=remote, reranker=OverlapReranker(), late=late)
    fill(store, ITEMS["a document"])
    assert SECRET in store.search(SECRET, "alice", legs="lexical")[0].text
    assert not remote.saw(SECRET)
    store.search(SECRET, "alice")
    assert remote.texts[-1] == SECRET


# ── marked later, or no longer ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("vectors", ["rotated", "sealed"])
@pytest.mark.parametrize("source", [None, "notes.md"])
def test_marking_it_later_takes_away_what_a_model_elsewhere_made(
    open_store: Opener, remote: RemoteEmbedder, source: str | None, vectors: Any
) -> None:
    store = open_store(embedder=remote, reranker=None, settings=Settings(vectors=vectors))
    store.add("the house by the river", "alice", source=source)
    assert "dense" in store.search("house river", "alice")[0].stages
    asked = len(remote.texts)
    done = store.add("the house by the river", "alice", source=source, local_only=True)
    assert (done.replaced, done.unchanged) == (1, 0)
    assert len(remote.texts) == asked
    (hit,) = store.search("house river", "alice")
    assert hit.record.local_only
    assert "dense" not in hit.stages
    assert store.verify().ok
    assert store.add("the house by the river", "alice", source=source, local_only=True).unchanged == 1
    done = store.add("the house by the river", "alice", source=source)
    assert done.replaced == 1
    assert "dense" in store.search("house river", "alice")[0].stages


def test_verify_wants_a_vector_where_the_model_is_here(tmp_path: Path) -> None:
    """The same store, once its model works on this machine: a memory without a vector lacks one."""
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    embedder = HashEmbedder()
    embedder.leaves_machine = True
    for vectors in ("rotated", "sealed"):
        parts |= {"settings": Settings(vectors=vectors), "keyring": tmp_path / f"{vectors}.json"}
        with MemoryStore.open(tmp_path / vectors, embedder=embedder, **parts) as store:
            store.add("the house", "alice", local_only=True)
            assert store.verify().ok
        with MemoryStore.open(tmp_path / vectors, embedder=HashEmbedder(), **parts) as store:
            assert len(store.verify().failures) == 1


def test_a_marker_that_was_taken_away_is_noticed(tmp_path: Path, tamper: Callable[..., None]) -> None:
    """Without the marker a migration would hand the text to its model."""
    parts: dict[str, Any] = {"embedder": HashEmbedder(), "reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", **parts) as store:
        store.add("the house", "alice", local_only=True)
        tamper(store, {"l": 0})
        (failure,) = store.verify().failures.values()
    assert "tags" in failure


@pytest.fixture
def tamper() -> Callable[..., None]:
    """Sets payload keys of every memory behind the store's back."""

    def change(store: MemoryStore, payload: dict[str, Any]) -> None:
        from memory_plugin.conditions import HasKey
        from memory_plugin.flow import run

        engine = store._verbs.engine
        run(engine.index.set_payload(engine.io, payload, where=HasKey("l")))

    return change


# ── while a store has two models ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("active", "other"), [(True, False), (False, True), (True, True)])
def test_neither_of_two_models_is_given_what_it_may_not_see(tmp_path: Path, active: bool, other: bool) -> None:
    first, second = RemoteEmbedder(revision="a"), RemoteEmbedder(revision="b")
    first.leaves_machine, second.leaves_machine = active, other
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=first, settings=Settings(vectors="sealed"), **parts) as store:
        engine, name = store._verbs.engine, space(second.identity)
        spaces = {**engine.manifest.spaces, name: second.identity}
        engine.manifest = replace(engine.manifest, spaces=spaces, target=name)
        engine.models = replace(engine.models, other=Model(second, name))
        store.add([Document(f"the {SECRET}", local_only=True), "the house"], "alice")
        assert first.saw(SECRET) is not active
        assert second.saw(SECRET) is not other
        assert first.saw("the house")
        assert second.saw("the house")
        assert store.verify().ok


# ── bad input ─────────────────────────────────────────────────────────────────────────────────────


def test_only_true_and_false_mark(open_store: Opener) -> None:
    remote = RemoteEmbedder()
    store = open_store(embedder=remote)
    values: list[Any] = ["yes", 1, "false", [True]]
    for value in values:
        items: list[Any] = [
            Document(f"the {SECRET}", local_only=value),
            Message("user", f"the {SECRET}", local_only=value),
            {"role": "user", "content": f"the {SECRET}", "local_only": value},
        ]
        for item in items:
            with pytest.raises(InvalidInputError, match="local_only is True or False"):
                store.add(["fine", item], "alice")
        with pytest.raises(InvalidInputError, match="local_only is True or False"):
            store.add(f"the {SECRET}", "alice", local_only=value)
    assert not remote.saw(SECRET)
    assert store.count("alice") == 0


def test_all_that_is_added_together_can_be_marked(open_store: Opener, tmp_path: Path) -> None:
    remote = RemoteEmbedder()
    store = open_store(embedder=remote)
    store.add([Document(f"the {SECRET}", local_only=False), f"another {SECRET}"], "alice", local_only=True)
    path = tmp_path / "notes.md"
    path.write_text(f"# The {SECRET}\n\nIt is here.\n", encoding="utf-8")
    store.add_file(path, "alice", local_only=True)
    assert not remote.saw(SECRET)
    assert [one.local_only for one in store.list("alice").records] == [True] * 3
