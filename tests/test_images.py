"""Pictures: found by words through the joint space, by their captions, and passed through every verb."""

from __future__ import annotations

import asyncio
import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import AsyncMemoryStore, ConfigurationError, InvalidInputError, MemoryStore, Settings, eq
from memory_plugin.errors import EmbeddingError
from memory_plugin.testing.doubles import HashEmbedder
from tests.conftest import Driver, Opener
from tests.pictures import GIF, JPEG, WEBP, AsyncColourEmbedder, BadPictures, ColourEmbedder, png
from tests.recorders import RemoteReranker, WordLate


@pytest.fixture
def gallery(open_store: Opener) -> Driver:
    """Five pictures, one with a caption, and a text."""
    return filled(open_store, "rotated")


def filled(open_store: Opener, vectors: Any) -> Driver:
    late, reranker = WordLate(leaves_machine=False), RemoteReranker()
    store = open_store(
        vectors, embedder=ColourEmbedder(), late=late, reranker=reranker, settings=Settings(vectors=vectors)
    )
    for colour in ("red", "green", "blue", "yellow"):
        store.add_image(png(colour), "alice", source=f"{colour}.png")
    store.add_image(png("black"), "alice", source="night.png", caption="The river by the old house.")
    store.add("A note about the garden.", "alice")
    return store


@pytest.mark.parametrize("vectors", ["rotated", "sealed", "plain"])
def test_words_find_pictures(open_store: Opener, vectors: Any) -> None:
    gallery = filled(open_store, vectors)
    for colour in ("red", "green", "blue", "yellow"):
        for rerank in ("none", "late", "full"):
            best = gallery.search(colour, "alice", rerank=rerank)[0]
            assert best.record.source == f"{colour}.png", rerank
        assert best.stages["dense"].rank == 1
        assert not {"lexical", "late", "rerank"} & set(best.stages)  # it has no words to be read


def test_captions_are_found_as_text_is(gallery: Driver) -> None:
    best = gallery.search("house by the river", "alice")[0]
    assert best.record.source == "night.png"
    assert {"lexical", "late", "rerank"} <= set(best.stages)
    assert gallery.search("black", "alice")[0].record.source == "night.png"


def test_what_is_kept_of_one(gallery: Driver) -> None:
    record = gallery.search("river house", "alice", filter=eq("$kind", "image"))[0].record
    assert (record.kind, record.text, record.media_type) == ("image", "The river by the old house.", "image/png")
    assert record.sha256 == hashlib.sha256(png("black")).hexdigest()
    assert gallery.get(record.id, "alice") == record
    assert (record.index, record.chunks) == (0, 1)


def test_every_verb_takes_those_without_words(gallery: Driver) -> None:
    assert gallery.count("alice", filter=eq("$kind", "image")) == 5
    assert gallery.facet("$kind", "alice") == {"image": 5, "document": 1}
    bare = [one for one in gallery.list("alice").records if one.kind == "image" and not one.text]
    assert len(bare) == 4
    assert gallery.get(bare[0].id, "alice").source == bare[0].source
    assert gallery.verify().ok
    assert gallery.delete("alice", source="red.png") == 1
    assert gallery.count("alice") == 5
    assert gallery.describe()["memories"] == 5


def test_near_duplicates_are_told_by_their_files(open_store: Opener) -> None:
    store = open_store(embedder=ColourEmbedder())
    for number in range(3):
        store.add_image(png("red"), "alice", source=f"{number}.png", caption="A photograph.")
        store.add_image(png("red", size=5 + number), "alice", source=f"other {number}.png", caption="A photograph.")
    assert len(store.search("red", "alice")) == 4
    assert len(store.search("a photograph", "alice")) == 4


def test_a_context_names_them(gallery: Driver) -> None:
    packed = gallery.context("red, and the river by the house", "alice", limit=2)
    assert "image · night.png · " in packed.text
    assert "The river by the old house." in packed.text
    assert "image · red.png · " in gallery.context("red", "alice", limit=1).text
    assert {one.source for one in packed.citations} >= {"night.png"}


def test_models_that_read_are_given_no_empty_text(gallery: Driver) -> None:
    gallery.search("red", "alice")  # recorders fail on one
    found = gallery.search("blue yellow green", "alice", filter=eq("$kind", "image"))
    assert len(found) >= 3


# ── adding ────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_named_by_its_path_and_dated_by_itself(open_store: Opener, tmp_path: Path) -> None:
    store = open_store(embedder=ColourEmbedder())
    path = tmp_path / "red.png"
    path.write_bytes(png("red"))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    store.add_image(path, "alice")
    (record,) = store.list("alice").records
    assert (record.source, record.time) == (path.as_posix(), datetime.fromtimestamp(1_700_000_000, UTC))
    store.add_image(str(path), "alice", time=datetime(2020, 1, 1, tzinfo=UTC), metadata={"album": "summer"})
    (record,) = store.list("alice").records
    assert (record.time.year, record.metadata) == (2020, {"album": "summer"})


def test_the_same_twice_changes_nothing_and_another_replaces(open_store: Opener) -> None:
    embedder = ColourEmbedder()
    store = open_store(embedder=embedder)
    first = store.add_image(png("red"), "alice")
    again = store.add_image(bytearray(png("red")), "alice")  # type: ignore[arg-type, unused-ignore]
    assert (again.unchanged, again.ids, len(embedder.images)) == (1, first.ids, 1)
    assert store.add_image(png("red"), "alice", caption="A red square.").replaced == 1
    assert store.add_image(png("red"), "alice", source="a.png").unchanged == 0
    assert store.add_image(png("blue"), "alice", source="a.png").replaced == 1
    assert store.count("alice") == 2
    assert store.search("blue", "alice")[0].record.source == "a.png"


@pytest.mark.parametrize(("data", "expected"), [(JPEG, "jpeg"), (WEBP, "webp"), (GIF, "gif")])
def test_four_formats_are_known_by_their_first_bytes(open_store: Opener, data: bytes, expected: str) -> None:
    class Any4(HashEmbedder):
        def embed_images(self, images: Any, /) -> Any:
            return super().embed(["a"] * len(images), input_type="document")

    store = open_store(embedder=Any4())
    store.add_image(data, "alice")
    assert store.list("alice").records[0].media_type == f"image/{expected}"


def test_a_model_of_texts_alone_refuses_them(open_store: Opener) -> None:
    with pytest.raises(ConfigurationError, match=r"testing:hashed-words embeds no images.*clip"):
        open_store().add_image(png("red"), "alice")


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (b"", {}, "no PNG, JPEG, WebP or GIF"),
    (b"%PDF-1.7", {}, "no PNG, JPEG, WebP or GIF"),
    ("missing.png", {}, "cannot be read"),
    (".", {}, "cannot be read"),
    (7, {}, "path of an image or its bytes"),
    ("a\x00.png", {}, "path of an image or its bytes"),
    (png("red"), {"caption": "  "}, "the caption is empty"),
    (png("red"), {"caption": "\ud800"}, "surrogate"),
    (png("red"), {"caption": "word " * 400}, "a caption is one passage, of at most 256 word pieces.*shorten it"),
    (png("red"), {"source": ""}, "source is empty"),
    (png("red"), {"time": datetime(2020, 1, 1)}, "time zone"),
    (png("red"), {"metadata": {"a": object()}}, "JSON"),
    (png("red"), {"local_only": "yes"}, "local_only is True or False"),
]


def test_what_cannot_be_used_is_refused(open_store: Opener) -> None:
    embedder = ColourEmbedder()
    store = open_store(embedder=embedder)
    for image, more, message in BAD:
        with pytest.raises(InvalidInputError, match=message):
            store.add_image(image, "alice", **more)
    assert (embedder.images, store.count("alice")) == ([], 0)


def test_a_text_file_that_is_too_large_is_not_read(open_store: Opener, tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    path.write_text("house " * 20, encoding="utf-8")
    with pytest.raises(InvalidInputError, match="at most 100 are accepted"):
        open_store(settings=Settings(max_text_bytes=100)).add_file(path, "alice")


def test_a_file_that_is_too_large_is_not_read(open_store: Opener, tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(33 * 2**20)
    store = open_store(embedder=ColourEmbedder())
    with pytest.raises(InvalidInputError, match="at most 33,554,432 are accepted"):
        store.add_image(path, "alice")


def test_what_is_no_vector_of_the_space_is_refused(open_store: Opener) -> None:
    store = open_store(embedder=BadPictures())
    with pytest.raises(EmbeddingError, match="shape"):
        store.add_image(png("red"), "alice")
    assert store.count("alice") == 0


def test_models_that_await(tmp_path: Path) -> None:
    async def scenario() -> str:
        path = tmp_path / "m"
        parts: dict[str, Any] = {"embedder": AsyncColourEmbedder(), "reranker": None, "late": None}
        async with AsyncMemoryStore.open(path, keyring=tmp_path / "k.json", **parts) as s:
            await s.add_image(png("red"), "alice", source="red.png")
            return str((await s.search("red", "alice"))[0].record.source)

    assert asyncio.run(scenario()) == "red.png"


# ── local_only ────────────────────────────────────────────────────────────────────────────────────


def test_a_model_elsewhere_sees_no_picture_that_is_local_only(open_store: Opener) -> None:
    embedder = ColourEmbedder()
    embedder.leaves_machine = True
    store = open_store(embedder=embedder, reranker=RemoteReranker())
    with pytest.raises(InvalidInputError, match="give it a caption to find it by"):
        store.add_image(png("red"), "alice", local_only=True)
    store.add_image(png("red"), "alice", local_only=True, caption="The old house.", source="house.png")
    assert embedder.images == []
    assert not any("house" in text for text in embedder.texts)
    (hit,) = store.search("house", "alice", legs="lexical")
    assert hit.record.source == "house.png"
    assert hit.record.local_only
    assert store.verify().ok


# ── another model ─────────────────────────────────────────────────────────────────────────────────


def test_another_model_takes_the_texts_and_says_which_pictures_it_lacks(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    old, new = ColourEmbedder(revision="old"), ColourEmbedder(revision="new")
    with MemoryStore.open(tmp_path / "m", embedder=old, **parts) as store:
        store.add_image(png("red"), "alice", source="red.png")
        store.add([f"note {number} of the house" for number in range(3)], "alice")
        done = store.migrate(new, force=True)
        assert (done.missing, done.exempt) == (0, 1)
        assert new.images == []
        (failure,) = store.verify().failures.values()
        assert "add its file again" in failure
        assert store.add_image(png("red"), "alice", source="red.png").written == 1
        assert store.verify().ok
        assert store.search("red", "alice")[0].record.source == "red.png"
        assert store.add_image(png("red"), "alice", source="red.png").unchanged == 1
        store.add_image(png("blue"), "alice", source="blue.png")  # both spaces while the old one is kept
        store.rollback()
        assert store.search("blue", "alice")[0].record.source == "blue.png"


def test_a_shorter_space_takes_the_pictures_along(tmp_path: Path) -> None:
    from memory_plugin.embedders.truncated import Truncated

    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    embedder = ColourEmbedder(dimension=256)
    with MemoryStore.open(tmp_path / "m", embedder=embedder, **parts) as store:
        for colour in ("red", "green", "blue"):
            store.add_image(png(colour), "alice", source=f"{colour}.png")
        store.add([f"note {number} of the house" for number in range(3)], "alice")
        before = len(embedder.images)
        done = store.migrate(Truncated(embedder, 128, force=True), force=True)
        assert done.converted == 6
        assert len(embedder.images) == before
        assert store.verify().ok
        assert store.search("blue", "alice")[0].record.source == "blue.png"


def test_a_model_of_texts_alone_lacks_nothing(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=ColourEmbedder(), **parts) as store:
        store.add_image(png("red"), "alice", caption="The old house.")
        store.migrate(HashEmbedder(), force=True)
        assert store.verify().ok
        assert store.search("house", "alice")[0].record.kind == "image"
