"""Canaries: a model that changes under its name is noticed, one that jitters is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import CachedEmbedder, MemoryStore, Settings
from memory_plugin.embedders.given import GivenVectors
from memory_plugin.embedders.truncated import Truncated
from memory_plugin.engine.canaries import KEPT, MEAN_FLOOR, PROBES, projected
from memory_plugin.errors import DecryptionError, EmbeddingError, ModelDriftError
from memory_plugin.flow import run
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType, Matrix
from tests.conftest import Opener

ONE_WAY = pytest.mark.parametrize("open_store", ["blocking"], indirect=True)


class Vendor(HashEmbedder):
    """A vendor's model: what it makes may change without its name."""

    def __init__(self, dimension: int = 96) -> None:
        super().__init__(dimension)
        self.change = 0.0
        self.jitter = 0.0

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """As it was, then turned a little towards another model's, then with noise."""
        made = super().embed(texts, input_type=input_type).vectors.astype(np.float64)
        if self.change:
            other = HashEmbedder(made.shape[1], revision="silently another").embed(texts, input_type=input_type)
            made = made + self.change * other.vectors
        if self.jitter:
            made = made + self.jitter * np.random.default_rng(len(self.texts)).normal(size=made.shape)
        return Embeddings((made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize("dimension", [96, 700])
def test_a_model_that_changes_silently_is_caught_and_jitter_is_not(open_store: Opener, dimension: int) -> None:
    vendor = Vendor(dimension)
    store = open_store(embedder=vendor)
    store.add("anything", "alice")
    same = store.verify(model=True)
    assert same.ok
    assert same.drift.probes == 2 * len(PROBES)
    assert same.drift.worst == pytest.approx(1, abs=1e-5)
    assert store.verify().drift is None  # only when asked

    vendor.jitter = float(np.sqrt(2 * 5e-4 / dimension))  # cosines of 0.9995 with what they were
    found = store.verify(model=True)
    assert found.ok
    assert 0.999 < found.drift.mean < 0.9999

    vendor.change = 0.25
    found = store.verify(model=True)
    assert not found.ok
    assert found.drift.moved
    assert 0.9 < found.drift.mean < MEAN_FLOOR
    assert found.failures == {}


@ONE_WAY
def test_how_far_is_told_about_right(open_store: Opener) -> None:
    for change in (0.2, 0.5, 2.0):
        vendor = Vendor(700)
        store = open_store(f"m{change}", embedder=vendor)
        before = vendor.embed(PROBES, input_type="document").vectors
        vendor.change = change
        true = float((before * vendor.embed(PROBES, input_type="document").vectors).sum(axis=1).mean())
        assert store.verify(model=True).drift.mean == pytest.approx(true, abs=0.05)


@ONE_WAY
def test_a_change_in_one_script_alone_is_caught(open_store: Opener) -> None:
    class OneScript(Vendor):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            made = super().embed(texts, input_type=input_type).vectors.copy()
            if self.change:
                for row, text in zip(made, texts, strict=True):
                    if not text.isascii():
                        row[:] = np.roll(row, 1)
            return Embeddings(made)

    model = OneScript()
    store = open_store(embedder=model)
    model.change = 1e-9
    assert store.verify(model=True).drift.moved


@pytest.mark.parametrize("shorter", [False, True])
def test_a_cache_does_not_hide_it(open_store: Opener, tmp_path: Path, shorter: bool) -> None:
    vendor = Vendor()
    cached: Any = CachedEmbedder(vendor, tmp_path / "cache", key=bytes(32))
    store = open_store(embedder=Truncated(cached, 48, force=True) if shorter else cached)
    store.add(list(PROBES), "alice")
    assert store.verify(model=True).ok
    vendor.change = 1.0
    assert store.verify(model=True).drift.moved


def test_on_opening(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    vendor, checking = Vendor(), Settings(check_model=True)
    MemoryStore.open(tmp_path / "m", embedder=vendor, **parts).close()
    vendor.jitter = 0.002
    MemoryStore.open(tmp_path / "m", embedder=vendor, settings=checking, **parts).close()
    vendor.change = 1.0
    MemoryStore.open(tmp_path / "m", embedder=vendor, **parts).close()  # not asked for
    with pytest.raises(ModelDriftError, match=r"testing:hashed-words makes other vectors(.|\n)*migrate"):
        MemoryStore.open(tmp_path / "m", embedder=vendor, settings=checking, **parts)
    # The store was let go of.
    MemoryStore.open(tmp_path / "m", embedder=vendor, **parts).close()


@ONE_WAY
def test_a_migration_makes_those_of_the_new_model_and_drops_the_others(open_store: Opener) -> None:
    store, vendor = open_store(), Vendor(200)
    store.add("anything", "alice")
    store.migrate(vendor)
    store.finish()
    assert store.verify(model=True).drift.mean == pytest.approx(1, abs=1e-5)
    vendor.change = 1.0
    assert store.verify(model=True).drift.moved


@ONE_WAY
def test_a_model_that_embeds_no_text_has_none(open_store: Opener) -> None:
    store = open_store(embedder=GivenVectors(dimension=8))
    found = store.verify(model=True)
    assert found.ok
    assert found.drift is None


def test_a_store_is_not_made_with_a_model_that_does_not_work(tmp_path: Path) -> None:
    class Broken(HashEmbedder):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            raise TimeoutError("no answer")

    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with pytest.raises(EmbeddingError, match="no answer"):
        MemoryStore.open(tmp_path / "m", embedder=Broken(), **parts)
    assert not (tmp_path / "k.json").exists()
    MemoryStore.open(tmp_path / "m", embedder=HashEmbedder(), **parts).close()


def test_they_are_sealed_and_bound_to_their_space(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    vendor = Vendor()
    with MemoryStore.open(tmp_path / "m", embedder=vendor, **parts) as store:
        engine = store._verbs.engine
        raw = np.concatenate([vendor.embed(PROBES, input_type=kind).vectors for kind in ("document", "query")])
        written = (tmp_path / "m" / "manifest.json").read_bytes()
        assert raw.astype("<f2").tobytes()[:32] not in written
        [(space, sealed)] = engine.manifest.canaries.items()
        flipped = sealed[:-8] + ("A" if sealed[-8] != "A" else "B") + sealed[-7:]
        engine.manifest = replace(engine.manifest, canaries={space: flipped})
        with pytest.raises(DecryptionError):
            store.verify(model=True)
        # A manifest whose canaries were exchanged is not opened at all.
        from memory_plugin.engine.proof import PROOF, shown

        found = run(engine.index.read_manifest(engine.io))
        assert found is not None
        run(engine.index.write_manifest(engine.io, {**shown(engine.manifest), PROOF: found[PROOF]}))
    with pytest.raises(DecryptionError, match="manifest was changed"):
        MemoryStore.open(tmp_path / "m", embedder=vendor, **parts)


@pytest.mark.parametrize("dimension", [3, KEPT, KEPT + 1, 1536])
def test_a_projection_keeps_cosines(dimension: int) -> None:
    dice = np.random.default_rng(dimension)
    rows: Matrix = dice.normal(size=(64, dimension)).astype(np.float32)
    other = (rows + 0.3 * dice.normal(size=rows.shape)).astype(np.float32)
    one, two = projected(rows), projected(other)
    assert one.shape == (64, min(dimension, KEPT))

    def cosines(a: Matrix, b: Matrix) -> Matrix:
        return np.asarray((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))

    assert np.allclose(cosines(one, two), cosines(rows, other), atol=0.06)
    assert np.allclose(cosines(one, one), 1)
    assert np.array_equal(projected(rows), one)
