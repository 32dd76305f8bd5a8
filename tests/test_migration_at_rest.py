"""What a migration leaves on the disk: both spaces until it is finished, then not a byte of the old one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import PLAINTEXT, MemoryStore, Settings
from memory_plugin.engine.payload import OURS
from memory_plugin.errors import MigrationError
from memory_plugin.flow import run
from memory_plugin.manifest import space
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType
from tests.on_disk import written_below

NOTES = [f"note {n} of topic{n % 7} says thing{n * 31 % 101} and word{n * 17 % 53}" for n in range(40)]
SOME = 12
MODES: dict[str, dict[str, Any]] = {
    "rotated": {"settings": Settings(vectors="rotated")},
    "sealed": {"settings": Settings(vectors="sealed")},
    "plain": {"settings": Settings(vectors="plain")},
    "PLAINTEXT": {"keyring": PLAINTEXT},
}


class Elsewhere(HashEmbedder):
    """A model whose queries lie elsewhere than its documents: the gate refuses it when all is filled."""

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        made = super().embed(texts, input_type=input_type).vectors
        return Embeddings(np.roll(made, 7, axis=1) if input_type == "query" else made)


def needles(store: MemoryStore, name: str) -> list[bytes]:
    """A piece of the bytes of every vector of a space, as it is stored."""
    engine = store._verbs.engine
    points, _ = run(engine.index.scroll(engine.io, OURS, limit=SOME, payload=()))
    fetched = run(engine.index.fetch(engine.io, [point.id for point in points], payload=True, vectors=True))
    if engine.settings.vectors == "sealed":
        return [str(point.payload[f"v_{name}"]).encode()[60:140] for point in fetched]
    rows = [point.vectors[f"d_{name}"] for point in fetched]
    return [np.asarray(row, dtype="<f4").tobytes()[: 4 * 16] for row in rows]


def found(where: Path, *wanted: list[bytes]) -> list[int]:
    """How many of each are in the files."""
    content = b"".join(written_below(where).values())
    return [sum(one in content for one in ones) for ones in wanted]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "way"),
    [
        ("rotated", "finish"),
        ("sealed", "finish"),
        ("PLAINTEXT", "finish"),
        ("plain", "abandon"),
        ("sealed", "abandon"),
    ],
)
def test_the_bytes_of_a_dropped_space_are_gone(tmp_path: Path, mode: str, way: str) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json", **MODES[mode]}
    old, new = HashEmbedder(96), HashEmbedder(128, revision="2")
    with MemoryStore.open(tmp_path / "m", embedder=old, **parts) as store:
        store.add(NOTES, "alice")
        if way == "finish":
            store.migrate(new)
            gone, stays = (needles(store, space(one.identity)) for one in (old, new))
        else:
            new = Elsewhere(128, revision="2")
            with pytest.raises(MigrationError, match="is below"):
                store.migrate(new)
            gone, stays = (needles(store, space(one.identity)) for one in (new, old))
        assert found(tmp_path / "m", gone, stays) == [SOME, SOME]
        store.finish() if way == "finish" else store.abandon()
        assert found(tmp_path / "m", gone, stays) == [0, SOME]
        assert store.verify().ok
    assert found(tmp_path / "m", gone, stays) == [0, SOME]
