"""The wrapper around an embedder: the same answers, to the last bit, and fewer questions."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import AsyncMemoryStore, LocalKek, MemoryStore
from memory_plugin.cache import CacheCounts, CachedEmbedder
from memory_plugin.embedders.bge_m3 import BgeM3Embedder
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.errors import ConfigurationError, EmbeddingError, InvalidInputError, KeyServiceError
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Embedder
from memory_plugin.testing.doubles import AsyncHashEmbedder, HashEmbedder
from memory_plugin.testing.providers import TEXTS, EmbedderTests
from memory_plugin.types import Embeddings, InputType
from tests import tiny
from tests.pictures import AsyncColourEmbedder, ColourEmbedder, png

KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "embeddings.sqlite"


class Billed(HashEmbedder):
    """Charges a token a word."""

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        made = super().embed(texts, input_type=input_type)
        return dataclasses.replace(made, billed_tokens=sum(len(text.split()) for text in texts))


class TestCachedEmbedder(EmbedderTests):
    tolerance = 1e-6

    @pytest.fixture
    def embedder(self, path: Path) -> Embedder:
        return CachedEmbedder(HashEmbedder(), path, key=KEY)


class TestAgain(TestCachedEmbedder):
    """Everything out of the file."""

    @pytest.fixture
    def embedder(self, path: Path) -> Embedder:
        for input_type in ("document", "query"):
            CachedEmbedder(HashEmbedder(), path, key=KEY).embed(TEXTS, input_type=input_type)
        return CachedEmbedder(HashEmbedder(), path, key=KEY)


def same(one: Embeddings, other: Embeddings) -> None:
    assert one.vectors.dtype == other.vectors.dtype
    assert one.vectors.tobytes() == other.vectors.tobytes()
    assert (one.tokens is None, one.terms) == (other.tokens is None, other.terms)
    for mine, theirs in zip(one.tokens or (), other.tokens or (), strict=True):
        assert (mine.ids.dtype, mine.vectors.dtype) == (theirs.ids.dtype, theirs.vectors.dtype)
        assert mine.ids.tobytes() == theirs.ids.tobytes()
        assert mine.vectors.tobytes() == theirs.vectors.tobytes()


@pytest.mark.parametrize("kind", ["local", "bge-m3"])
def test_answers_are_the_models_to_the_last_bit(tmp_path: Path, path: Path, kind: str) -> None:
    inner: Any = LocalEmbedder() if kind == "local" else BgeM3Embedder(tiny.write_m3(tmp_path / "m3"))
    texts = ["The red cat.", "Interest rates rose.", "The red cat."]
    for input_type in ("document", "query"):
        expected = inner.embed(texts, input_type=input_type)
        for _ in range(2):
            cached = CachedEmbedder(inner, path, key=KEY)
            same(cached.embed(texts, input_type=input_type), expected)  # type: ignore[arg-type]
            if kind == "bge-m3":
                assert expected.terms
        assert cached.counts == CacheCounts(hits=3)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, list])
def test_any_numbers_come_back_as_they_were(path: Path, kind: Any) -> None:
    class Odd(HashEmbedder):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Any:
            vectors = super().embed(texts, input_type=input_type).vectors / 3
            return vectors.tolist() if kind is list else Embeddings(vectors.astype(kind))

    cached = CachedEmbedder(Odd(), path, key=KEY)
    first, again = (cached.embed(TEXTS, input_type="document") for _ in range(2))
    assert isinstance(first, Embeddings)
    assert isinstance(again, Embeddings)
    same(first, again)
    assert again.vectors.dtype == (np.float32 if kind is list else kind)


def test_only_what_is_not_known_is_asked_for_once(path: Path) -> None:
    inner = Billed()
    cached: Any = CachedEmbedder(inner, path, key=KEY)
    first = cached.embed(["one cat", "two", "one cat"], input_type="document")
    assert (inner.texts, first.billed_tokens) == (["one cat", "two"], 3)
    second = cached.embed(["two", "three blind mice", "one cat"], input_type="document")
    assert (inner.texts[2:], second.billed_tokens) == (["three blind mice"], 3)
    assert cached.embed(["two"], input_type="document").billed_tokens == 0
    assert cached.embed(["two"], input_type="query").billed_tokens == 1
    assert cached.counts == CacheCounts(hits=4, misses=4)
    assert (second.vectors[0] == first.vectors[1]).all()
    assert (second.vectors[2] == first.vectors[0]).all()


def test_what_another_model_made_is_another_entry(path: Path) -> None:
    one = CachedEmbedder(HashEmbedder(revision="1"), path, key=KEY)
    other = CachedEmbedder(HashEmbedder(revision="2"), path, key=KEY)
    first, second = (each.embed(["a cat"], input_type="document") for each in (one, other))
    assert isinstance(first, Embeddings)
    assert isinstance(second, Embeddings)
    assert other.counts == CacheCounts(misses=1)
    assert (first.vectors != second.vectors).any()


def test_under_another_key_nothing_is_known_and_nothing_is_lost(path: Path) -> None:
    CachedEmbedder(HashEmbedder(), path, key=KEY).embed(TEXTS, input_type="document")
    other = CachedEmbedder(HashEmbedder(), path, key=LocalKek.generate())
    other.embed(TEXTS, input_type="document")
    assert other.counts == CacheCounts(misses=len(TEXTS))
    for again in (CachedEmbedder(HashEmbedder(), path, key=LocalKek(KEY)), other):
        again.embed(TEXTS, input_type="document")
        assert again.counts.hits == len(TEXTS)


def test_a_key_file_of_its_own(tmp_path: Path, path: Path) -> None:
    for _ in range(2):
        cached = CachedEmbedder(HashEmbedder(), path, key=tmp_path / "keys" / "cache.json")
        cached.embed(TEXTS, input_type="document")
    assert cached.counts.hits == len(TEXTS)
    assert (tmp_path / "keys" / "cache.json").stat().st_mode & 0o777 == 0o600
    store = tmp_path / "store.json"
    MemoryStore.open(tmp_path / "m", embedder=HashEmbedder(), reranker=None, late=None, keyring=store).close()
    with pytest.raises(KeyServiceError):
        CachedEmbedder(HashEmbedder(), path, key=store)


def test_it_has_what_the_model_has_and_no_more(path: Path) -> None:
    cached: Any = CachedEmbedder(LocalEmbedder(), path, key=KEY)
    inner = LocalEmbedder()
    assert (cached.encoder, cached.max_tokens, cached.count("a cat")) == (inner.encoder, 256, inner.count("a cat"))
    assert not hasattr(cached, "embed_images")
    assert not hasattr(cached, "usage")
    assert leaves_machine(cached) is False
    assert cached.uncached.identity == cached.identity
    assert "LocalEmbedder" in repr(cached)

    class Silent:
        identity = HashEmbedder().identity

        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Any:
            raise AssertionError

    assert leaves_machine(CachedEmbedder(Silent(), path, key=KEY)) is True


def test_images_are_remembered_apart_from_texts(path: Path) -> None:
    inner = ColourEmbedder()
    cached: Any = CachedEmbedder(inner, path, key=KEY)
    first = cached.embed_images([png("red"), png("blue"), png("red")])
    again = cached.embed_images([png("blue"), png("red")])
    assert len(inner.images) == 2
    assert (again.vectors == first.vectors[[1, 0]]).all()


# ── what must not be kept, or not be believed ─────────────────────────────────────────────────────


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_an_answer_that_is_refused_is_not_kept(path: Path, bad: float) -> None:
    class Flaky(HashEmbedder):
        broken = True

        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            made = super().embed(texts, input_type=input_type)
            return Embeddings(np.full_like(made.vectors, bad)) if self.broken else made

    inner = Flaky()
    cached: Any = CachedEmbedder(inner, path, key=KEY)
    cached.embed(["a"], input_type="document")
    inner.broken = False
    assert np.isfinite(cached.embed(["a"], input_type="document").vectors).all()
    assert cached.counts == CacheCounts(misses=2)


@pytest.mark.parametrize(
    "made",
    [
        Embeddings(np.ones((3, 64), np.float32)),
        Embeddings(np.ones((1, 64), np.float32)),
        Embeddings(np.ones(2, np.float32)),
        Embeddings(np.ones((2, 64), np.float32), terms=({},)),
        [[1.0], [1.0, 2.0]],
        None,
    ],
    ids=range(6),
)
def test_an_answer_that_is_not_one_vector_a_text_is_an_error(path: Path, made: Any) -> None:
    """With one of three texts known, three vectors for the other two would look right from outside."""

    class Wrong(HashEmbedder):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Any:
            return super().embed(texts, input_type=input_type) if len(texts) == 1 else made

    cached = CachedEmbedder(Wrong(), path, key=KEY)
    cached.embed(["a"], input_type="document")
    with pytest.raises(EmbeddingError):
        cached.embed(["a", "b", "c"], input_type="document")


def test_vectors_of_another_length_are_passed_on_but_not_kept(path: Path) -> None:
    class Short(HashEmbedder):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            return Embeddings(np.ones((len(texts), 3), np.float32))

    cached: Any = CachedEmbedder(Short(), path, key=KEY)
    assert cached.embed(["a"], input_type="document").vectors.shape == (1, 3)
    cached.embed(["a"], input_type="document")
    assert cached.counts == CacheCounts(misses=2)


def change(path: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement, values)
    connection.close()


def flip(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        for name, sealed in connection.execute("SELECT name, sealed FROM entries").fetchall():
            changed = sealed[:90] + bytes([sealed[90] ^ 1]) + sealed[91:]
            connection.execute("UPDATE entries SET sealed = ? WHERE name = ?", (changed, name))
    connection.close()


TAMPERED: dict[str, Callable[[Path], None]] = {
    "a flipped bit": flip,
    "cut short": lambda path: change(path, "UPDATE entries SET sealed = substr(sealed, 1, 100)"),
    "empty": lambda path: change(path, "UPDATE entries SET sealed = x''"),
    "text": lambda path: change(path, "UPDATE entries SET sealed = 'hello'"),
    "a number": lambda path: change(path, "UPDATE entries SET sealed = 7"),
    "no envelope": lambda path: change(path, "UPDATE entries SET sealed = ?", b"\x80\x04K\x01." * 60),
    "odd marks of use": lambda path: change(path, "UPDATE entries SET used = 'never', sealed = x'01'"),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_tampered_with_is_a_miss_and_healed(path: Path, how: str) -> None:
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    expected = cached.embed(TEXTS, input_type="document")
    cached.close()
    TAMPERED[how](path)
    again: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    same(again.embed(TEXTS, input_type="document"), expected)
    assert again.counts == CacheCounts(misses=len(TEXTS), refused=len(TEXTS))
    again.embed(TEXTS, input_type="document")
    assert again.counts.hits == len(TEXTS)


def test_an_entry_that_was_moved_is_not_believed(path: Path) -> None:
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    expected = cached.embed(["one", "two"], input_type="document")
    cached.close()
    with sqlite3.connect(path) as connection:
        (first, one), (second, two) = connection.execute("SELECT name, sealed FROM entries").fetchall()
        connection.executemany("UPDATE entries SET sealed = ? WHERE name = ?", [(two, first), (one, second)])
    connection.close()
    again: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    same(again.embed(["one", "two"], input_type="document"), expected)
    assert again.counts.refused == 2


# ── in a store ────────────────────────────────────────────────────────────────────────────────────


def test_a_store_with_one_answers_as_a_store_without(tmp_path: Path, path: Path) -> None:
    texts = ["The old house by the river.", "Alice moved to Lisbon in May.", "Error E1042: the disk is full."]
    answers = []
    for name, embedder in (
        ("plain", LocalEmbedder()),
        ("first", CachedEmbedder(LocalEmbedder(), path, key=KEY)),
        ("second", CachedEmbedder(LocalEmbedder(), path, key=KEY)),
    ):
        parts: dict[str, Any] = {"reranker": None, "keyring": tmp_path / f"{name}.json"}
        with MemoryStore.open(tmp_path / name, embedder=embedder, **parts) as store:
            store.add(texts, "alice")
            found = store.search("Where does Alice live?", "alice")
            answers.append({hit.text: {leg: at.score for leg, at in hit.stages.items()} for hit in found})
    for answer in answers[1:]:
        assert list(answer) == list(answers[0])
        for text, scores in answer.items():  # each store rotates vectors in its own way
            assert scores == pytest.approx(answers[0][text], abs=1e-5)
    assert isinstance(embedder, CachedEmbedder)
    assert embedder.counts.hits == 4


def test_a_model_that_moved_is_noticed_past_the_cache(tmp_path: Path, path: Path) -> None:
    class Moving(HashEmbedder):
        moved = False

        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            made = super().embed(texts, input_type=input_type)
            return Embeddings(np.roll(made.vectors, 1, axis=1)) if self.moved else made

    inner = Moving()
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=CachedEmbedder(inner, path, key=KEY), **parts) as store:
        drift = store.verify(model=True).drift
        assert drift is not None
        assert not drift.moved
        inner.moved = True
        drift = store.verify(model=True).drift
        assert drift is not None
        assert drift.moved


@pytest.mark.parametrize("hidden", [False, True])
def test_models_that_await(tmp_path: Path, path: Path, hidden: bool) -> None:
    inner: Any = AsyncColourEmbedder() if not hidden else Hidden()

    async def scenario() -> Any:
        embedder: Any = CachedEmbedder(inner, path, key=KEY)
        keys = tmp_path / "k.json"
        async with AsyncMemoryStore.open(
            tmp_path / "m", embedder=embedder, reranker=None, late=None, keyring=keys
        ) as store:
            await store.add(["The old house.", "A river."], "alice")
            if not hidden:
                await store.add_image(png("red"), "alice", source="red.png")
                assert (await store.search("red", "alice"))[0].record.source == "red.png"
            first = (await store.search("house", "alice"))[0].text
            second = (await store.search("house", "alice"))[0].text
        return first, second, embedder.counts.hits

    first, second, hits = asyncio.run(scenario())
    assert (first, second) == ("The old house.", "The old house.")
    assert hits >= 1


class Hidden(AsyncHashEmbedder):
    """Does not look as if it awaits."""

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Any:
        return super().embed(texts, input_type=input_type)


def test_a_blocking_store_says_that_it_cannot_await(tmp_path: Path, path: Path) -> None:
    embedder: Any = CachedEmbedder(AsyncHashEmbedder(), path, key=KEY)
    with pytest.raises(ConfigurationError, match="use AsyncMemoryStore"):
        MemoryStore.open(tmp_path / "m", embedder=embedder, reranker=None, late=None, keyring=tmp_path / "k.json")


# ── arguments ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", [b"short", None, 7, bytes(33)])
def test_a_key_that_is_none_is_refused(path: Path, key: Any) -> None:
    with pytest.raises(InvalidInputError):
        CachedEmbedder(HashEmbedder(), path, key=key)


def test_a_place_or_limit_that_cannot_be_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a directory"):
        CachedEmbedder(HashEmbedder(), tmp_path, key=KEY)
    for limit in (0, True, 2.5, "1 GB"):
        with pytest.raises(ConfigurationError, match="at least 65,536"):
            CachedEmbedder(HashEmbedder(), path, key=KEY, max_bytes=limit)  # type: ignore[arg-type]


def test_nothing_is_made_before_it_is_needed(path: Path) -> None:
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    assert not path.parent.exists()
    assert len(cached.embed([], input_type="query").vectors) == 0
    cached.embed(["a"], input_type="query")
    assert {one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_threads_share_it(path: Path) -> None:
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    texts = [f"text {number % 40}" for number in range(400)]
    expected = HashEmbedder().embed(texts, input_type="document").vectors
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda start: cached.embed(texts[start : start + 8], input_type="document"), range(392)))
    for start, one in enumerate(made):
        assert (one.vectors == expected[start : start + 8]).all()
    assert cached.counts.failures == 0
    assert cached.counts.hits + cached.counts.misses == 392 * 8


def test_the_log_names_the_cache_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"This is somebody's letter, and no database.\n" * 100)
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    with caplog.at_level(logging.WARNING, logger="memory_plugin.cache"):
        for _ in range(3):
            assert len(cached.embed(["a cat"], input_type="document").vectors) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(path) in caplog.text
    assert "a cat" not in caplog.text
    assert cached.counts.failures == 6
    assert path.read_bytes().startswith(b"This is somebody's letter")
    with pytest.raises(ConfigurationError, match="was not cleared"):
        cached.clear()
