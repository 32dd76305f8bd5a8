"""Passages that are too long for the model that a store is migrated to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memory_plugin import MemoryStore, Settings
from memory_plugin.errors import InvalidInputError
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType
from tests.wordpiece import pieces


class Narrow(HashEmbedder):
    """Sees more word pieces in a text than the model that it was cut for, and refuses too many."""

    max_tokens = 150

    def __init__(self) -> None:
        super().__init__(128, revision="narrow")
        self.tokenizer, self.count = pieces().tokenizer, pieces().count

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        for text in texts:
            if self.count(text) > self.max_tokens and input_type == "document":
                raise InvalidInputError(f"{self.count(text)} word pieces are too many")
        return super().embed(texts, input_type=input_type)


def test_they_are_embedded_in_parts(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    settings = Settings(chunk_tokens=128)
    long = " ".join(f"extraordinarily{n} zweckentfremdet{n * 7}" for n in range(20))
    model = Narrow()
    assert model.count(long) > model.max_tokens
    with MemoryStore.open(tmp_path / "m", embedder=HashEmbedder(), settings=settings, **parts) as store:
        store.add([long, "a short one"], "alice")
        written = store.count("alice")  # cut by the tokenizer of the store: some parts are too long for the new model
        done = store.migrate(model)
        assert (done.embedded, done.missing) == (written, 0)
        store.add(long.replace("extra", "super"), "alice")  # to both spaces, by each one's means
        for record in store.list("alice").records:
            hit = store.search(record.text, "alice", limit=1, legs="dense", rerank="none")[0]
            assert hit.text == record.text
        assert store.verify().ok
        assert store.rollback().missing == 0


def test_the_vector_is_the_mean_of_the_parts(tmp_path: Path) -> None:
    from memory_plugin.engine.core import Model
    from memory_plugin.engine.overlong import embed_passages
    from memory_plugin.flow import run

    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    model = Narrow()
    long = " ".join(f"extraordinarily{n} zweckentfremdet{n * 7}" for n in range(20))
    with MemoryStore.open(tmp_path / "m", embedder=HashEmbedder(), **parts) as store:
        made = run(embed_passages(store._verbs.engine, Model(model, "x"), ["short", long])).vectors
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    assert np.allclose(made[0], model.embed(["short"], input_type="document").vectors[0])
    seen = [text for text in model.texts if text != "short"]
    assert len(seen) > 1
    assert "".join("".join(seen).split()) == "".join(long.split())
    mean = HashEmbedder(128, revision="narrow").embed(seen, input_type="document").vectors.mean(axis=0)
    assert np.allclose(made[1], mean / np.linalg.norm(mean), atol=1e-5)
