"""Vectors that users bring: with any embedder in whose space they lie, or with none at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memory_plugin import Document, InvalidInputError, Message, Settings
from memory_plugin.embedders.given import GivenVectors
from memory_plugin.rerankers.late_interaction import MaxSim
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker
from memory_plugin.vectors import unit
from tests.conftest import Driver, Opener
from tests.recorders import RemoteEmbedder, WordLate

SONGS = {"slow and sad": [1.0, 0.1, 0.0], "fast and loud": [0.0, 1.0, 0.2], "quiet piano": [0.7, 0.0, 0.7]}


@pytest.fixture(params=["rotated", "sealed"])
def songs(open_store: Opener, request: pytest.FixtureRequest) -> Driver:
    """Songs by vectors of three numbers, whatever those are."""
    settings = Settings(vectors=request.param)
    parts: dict[str, Any] = {"late": WordLate(leaves_machine=False), "reranker": OverlapReranker()}
    store = open_store(embedder=GivenVectors(dimension=3), settings=settings, **parts)
    store.add([Document(text, source=text, vector=vector) for text, vector in SONGS.items()], "alice")
    return store


def test_a_vector_alone_finds_the_nearest(songs: Driver) -> None:
    found = songs.search("", "alice", vector=[0.0, 2.0, 0.3], legs="dense")
    assert [hit.text for hit in found] == ["fast and loud", "quiet piano", "slow and sad"]
    assert set(found[0].stages) == {"dense", "fused"}
    assert found.rerank == "off"
    cosine = float(unit([0.0, 1.0, 0.2]) @ unit([0.0, 2.0, 0.3]))
    assert found[0].stages["dense"].score == pytest.approx(cosine, abs=2e-3)


def test_with_words_beside_it_all_stages_run(songs: Driver) -> None:
    found = songs.search("piano", "alice", vector=SONGS["fast and loud"])
    assert found[0].text == "quiet piano"
    assert {"dense", "lexical", "fused", "late", "rerank"} == set(found[0].stages)
    assert songs.search("piano", "alice", vector=SONGS["fast and loud"], legs="dense", rerank="none")[0].text == (
        "fast and loud"
    )
    assert "quiet piano" in songs.context("piano", "alice", vector=SONGS["quiet piano"]).text


def test_words_alone_find_by_their_leg(songs: Driver) -> None:
    assert songs.search("piano", "alice", legs="lexical")[0].text == "quiet piano"
    for legs in ("hybrid", "dense"):
        with pytest.raises(InvalidInputError, match=r"search\(…, vector=…\)"):
            songs.search("piano", "alice", legs=legs)


def test_a_text_without_one_is_refused_before_anything_is_written(songs: Driver) -> None:
    for items in ("a song", [Document("new", vector=[1, 2, 3]), "a song"], Message("user", "a song")):
        with pytest.raises(InvalidInputError, match="add each text with its own"):
            songs.add(items, "alice")
    assert songs.count("alice") == 3
    assert songs.verify().ok


def test_the_embedder_is_not_asked_where_a_vector_is_given(open_store: Opener) -> None:
    remote = RemoteEmbedder(dimension=3)
    store = open_store(embedder=remote, late=MaxSim())
    store.add("a blue song", "alice", vector=[1, 0, 0])
    store.add(Message("user", "a green song"), "alice", vector=np.array([0, 1, 0]))
    store.add([Document("a red song", vector=[0, 0, 1]), "a text that is embedded"], "alice")
    store.search("blue", "alice", vector=[1, 0, 0])
    assert not any("song" in text or text == "blue" for text in (*remote.texts, *remote.counted))
    assert remote.saw("a text that is embedded")
    (hit,) = store.search("", "alice", vector=[0, 1, 0], legs="dense", limit=1)
    assert hit.text == "a green song"
    assert store.verify().ok


def test_a_vector_may_be_given_for_what_is_local_only(open_store: Opener) -> None:
    remote = RemoteEmbedder(dimension=3)
    store = open_store(embedder=remote)
    store.add("the zyqqvorth", "alice", vector=[1, 0, 0], local_only=True)
    (hit,) = store.search("", "alice", vector=[1, 0, 0], legs="dense")
    assert hit.record.local_only
    assert hit.stages["dense"].score == pytest.approx(1, abs=1e-3)
    assert not remote.saw("zyqqvorth")
    assert store.verify().ok


def test_a_vector_is_part_of_what_makes_a_document_unchanged(open_store: Opener) -> None:
    store = open_store(embedder=HashEmbedder(dimension=3))
    first = store.add("a song", "alice", source="s", vector=[1, 2, 3])
    again = store.add("a song", "alice", source="s", vector=np.array([2, 4, 6], np.float64))  # the same direction
    assert (again.unchanged, again.ids) == (1, first.ids)
    assert store.add("a song", "alice", source="s", vector=[3, 2, 1]).replaced == 1
    assert store.add("a song", "alice", source="s").replaced == 1
    assert store.count("alice") == 1


NO_VECTORS: list[tuple[Any, str]] = [
    ([1, 2], "has 2 numbers, and this store's have 3"),
    ([], "has 0 numbers"),
    ([0, 0, 0], "nothing but zeros"),
    ([1, float("nan"), 0], "not finite"),
    ([1, float("inf"), 0], "not finite"),
    ("abc", "a sequence of numbers"),
    (["1", "2", "3"], "a sequence of numbers"),
    ([True, False, True], "a sequence of numbers"),
    ([[1, 2, 3]], "a sequence of numbers"),
    ([1, [2], 3], "a sequence of numbers"),
    ([1j, 2, 3], "a sequence of numbers"),
    ([None, 1, 2], "a sequence of numbers"),
    (7, "a sequence of numbers"),
    ({1: 2}, "a sequence of numbers"),
]


def test_what_is_no_vector_is_refused(open_store: Opener) -> None:
    store = open_store(embedder=GivenVectors(dimension=3))
    store.add("a song", "bob", vector=[1, 2, 3])
    for vector, message in NO_VECTORS:
        with pytest.raises(InvalidInputError, match=message):
            store.add("a song", "alice", vector=vector)
        with pytest.raises(InvalidInputError, match=message):
            store.add(["fine", Document("a song", vector=vector)], "alice")
        with pytest.raises(InvalidInputError, match=message):
            store.search("", "bob", vector=vector, legs="dense")
    assert store.count("alice") == 0


@pytest.mark.parametrize("size", [1e300, 1e-300, 2.0**70, np.float16(1)])
def test_numbers_of_any_size_have_a_direction(size: Any) -> None:
    vector = np.array([size, size, 0 * size])
    assert unit(vector, 3) == pytest.approx([2**-0.5, 2**-0.5, 0], abs=1e-6)


def test_one_vector_is_of_one_passage(open_store: Opener) -> None:
    store = open_store(embedder=HashEmbedder(dimension=3), settings=Settings(chunk_tokens=32))
    long = "the old house by the river " * 12
    for item in (long, Message("user", long), "x" * 2000):
        with pytest.raises(InvalidInputError, match="with a vector of its own is one passage, of at most 32 word"):
            store.add(item, "alice", vector=[1, 2, 3])
    with pytest.raises(InvalidInputError, match="one passage"):
        store.add(["fine", Document(long, vector=[1, 2, 3])], "alice")
    assert store.count("alice") == 0
    markdown = Document("# Song\n\nIt is slow.", vector=[1, 2, 3], markdown=True)
    assert store.add(markdown, "alice").written == 1


def test_one_vector_is_of_one_item(open_store: Opener) -> None:
    store = open_store(embedder=GivenVectors(dimension=3))
    with pytest.raises(InvalidInputError, match="vector is of one document, but 2 items were given"):
        store.add(["a", "b"], "alice", vector=[1, 2, 3])


CONTRADICTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("", {}, "the query is empty: there is nothing"),
    ("", {"vector": [1, 2, 3]}, "say so with legs='dense'"),
    (" \u200b", {"vector": [1, 2, 3], "legs": "hybrid"}, "say so with legs='dense'"),
    ("song", {"vector": [1, 2, 3], "legs": "lexical"}, "a vector is for the dense leg"),
    ("song", {"vector": [1, 2, 3], "legs": "learned"}, "a vector is for the dense leg"),
    ("song", {"vector": [1, 2]}, "has 2 numbers, and this store's have 3"),
]


def test_what_contradicts_itself_is_refused(open_store: Opener) -> None:
    store = open_store(embedder=GivenVectors(dimension=3))
    store.add("a song", "alice", vector=[1, 2, 3])
    for query, more, message in CONTRADICTIONS:
        with pytest.raises(InvalidInputError, match=message):
            store.search(query, "alice", **more)


def test_a_store_of_given_vectors_goes_to_a_model_of_texts(songs: Driver) -> None:
    if songs.store.__class__.__name__ != "MemoryStore":
        pytest.skip("one way is enough")
    old = songs.store._verbs.engine.active.embedder
    songs.migrate(HashEmbedder(), force=True)
    assert songs.search("piano", "alice", legs="dense")[0].text == "quiet piano"
    songs.add("a text alone", "alice")  # the space that was left cannot be filled, and the write does not fail
    assert songs.verify().ok
    songs.rollback(old)
    assert songs.search("", "alice", vector=SONGS["quiet piano"], legs="dense")[0].text == "quiet piano"
