"""A smaller dimension of the same model: nothing is embedded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from memory_plugin import Document, Settings
from memory_plugin.embedders.given import GivenVectors
from memory_plugin.embedders.truncated import Truncated, shortened
from memory_plugin.manifest import space
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType
from tests.conftest import Opener

MODES = ["rotated", "sealed", "plain"]
NOTES = [f"note {n} of topic{n % 7} says thing{n * 31 % 101} and word{n * 17 % 53}" for n in range(40)]

ONE_WAY = pytest.mark.parametrize("open_store", ["blocking"], indirect=True)


class Matryoshka(HashEmbedder):
    """Hashed words, most of what matters in the first numbers."""

    matryoshka = True

    def __init__(self, dimension: int = 128, cut: int | None = None) -> None:
        super().__init__(dimension)
        self.cut = cut
        if cut is not None:
            self.identity = replace(self.identity, dimension=cut)

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        full, wanted = 128, self.identity.dimension
        self.identity = replace(self.identity, dimension=full)
        made = super().embed(texts, input_type=input_type).vectors * np.linspace(1, 0.2, full)
        self.identity = replace(self.identity, dimension=wanted)
        return Embeddings(shortened(made.astype(np.float32), wanted))


class Learned(Matryoshka):
    """Shorter vectors that are not the beginning of the longer ones."""

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        return Embeddings(super().embed(texts, input_type=input_type).vectors[:, ::-1].copy())


@pytest.mark.parametrize("vectors", MODES)
def test_stored_vectors_are_cut(open_store: Opener, vectors: Any) -> None:
    store = open_store(embedder=Matryoshka(), settings=Settings(vectors=vectors))
    for who in ("alice", "bob"):
        store.add(NOTES, who)
    inner = Matryoshka()
    shorter = Truncated(inner, 64)
    done = store.migrate(shorter)
    assert (done.embedded, done.converted, done.memories, done.model.dimension) == (0, 80, 80, 64)
    # Eight to see that it is so, two times eight probes, and the gate's queries.
    documents = [text for text in inner.texts if text in NOTES]
    assert len(documents) <= 8 + 80
    for place, text in enumerate(NOTES[:5]):
        hit = store.search(text, "bob", limit=1, legs="dense", rerank="none")[0]
        assert (hit.text, hit.space) == (NOTES[place], space(shorter.identity))
        assert hit.stages["dense"].score == pytest.approx(1, abs=2e-3)
    store.finish()
    assert store.verify(model=True).ok


@ONE_WAY
def test_a_vendors_own_shorter_vectors_are_recognised(open_store: Opener) -> None:
    store = open_store(embedder=Matryoshka())
    store.add(NOTES, "alice")
    assert store.migrate(Matryoshka(cut=64)).converted == len(NOTES)


@ONE_WAY
def test_shorter_vectors_that_are_something_else_are_embedded(open_store: Opener) -> None:
    store = open_store(embedder=Matryoshka())
    store.add(NOTES, "alice")
    done = store.migrate(Learned(cut=64))
    assert (done.embedded, done.converted) == (len(NOTES), 0)
    assert store.search(NOTES[3], "alice", limit=1, legs="dense")[0].text == NOTES[3]


@ONE_WAY
def test_a_longer_vector_is_embedded(open_store: Opener) -> None:
    store = open_store(embedder=Matryoshka(cut=64))
    store.add(NOTES, "alice")
    assert store.migrate(Matryoshka()).embedded == len(NOTES)


@ONE_WAY
def test_vectors_that_were_given_are_cut_without_a_model(open_store: Opener) -> None:
    store = open_store(embedder=GivenVectors("songs", dimension=32))
    dice = np.random.default_rng(0)
    rows = dice.normal(size=(20, 32)).astype(np.float32)
    store.add([Document(f"song {n}", vector=row.tolist()) for n, row in enumerate(rows)], "alice")
    shorter = Truncated(GivenVectors("songs", dimension=32), 16, force=True)
    done = store.migrate(shorter)
    assert (done.converted, done.embedded, done.state) == (20, 0, "switched")
    found = store.search("x", "alice", vector=rows[4][:16].tolist(), legs="dense", limit=1)
    assert found[0].text == "song 4"


@ONE_WAY
def test_a_dry_run_tells_that_nothing_is_embedded(open_store: Opener) -> None:
    store = open_store(embedder=Matryoshka())
    store.add(NOTES, "alice")
    found = store.migrate(Truncated(Matryoshka(), 64), dry_run=True).estimate
    assert (found.embeds, found.tokens, found.cost) == (False, 0, 0.0)
    assert found.bytes_after < 0
