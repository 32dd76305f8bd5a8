"""What a thief of the store's directory finds: nothing readable, and the proof that the search would find it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from memory_plugin import PLAINTEXT, Document, MemoryStore, Message, Settings
from memory_plugin.crypto.keys import PublicKey
from memory_plugin.crypto.terms import TermHash
from memory_plugin.lexical import terms
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Json
from tests.on_disk import written_below
from tests.pictures import ColourEmbedder, png
from tests.test_learned_terms import WeighingEmbedder

CANARIES = {
    "text": "Zyqqvorth wexmalgin brunnhulde",
    "metadata value": "Kvaskefrist79",
    "metadata key": "plimbotranic_key",
    "source path": "/home/glastrup/Wurzelbeek.md",
    "namespace": "ulfhednar-quist",
    "speaker": "Thrymskvida Oddmunsdottir",
    "caption": "Quolveghast parapluie",
    "local only text": "Druxelmoor kittiwake",
    "image": "Wobblethrice inside a picture",
    "value": "Fjornskelda gimblewock",
}


def encodings(canary: str) -> Iterator[tuple[str, bytes]]:
    """The ways in which a file may hold a text."""
    raw = canary.encode()
    yield "utf-8", raw
    yield "utf-16-le", canary.encode("utf-16-le")
    yield "utf-16-be", canary.encode("utf-16-be")
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    for shift in range(3):
        # Base64 of the text somewhere inside a longer one: the part that does not depend on its neighbours.
        padded = base64.b64encode(b"\0" * shift + raw)
        yield f"base64+{shift}", padded[4 if shift else 0 : len(padded) - 4]
        safe = base64.urlsafe_b64encode(b"\0" * shift + raw)
        yield f"base64url+{shift}", safe[4 if shift else 0 : len(safe) - 4]


def found(directory: Path, needles: dict[str, bytes]) -> set[str]:
    """Names of the needles that stand in any file under the directory, or in a file's name."""
    content = [*(str(path).encode() for path in directory.rglob("*")), *written_below(directory).values()]
    return {name for name, needle in needles.items() if any(needle in one for one in content)}


class Model(WeighingEmbedder, ColourEmbedder):
    """Takes pictures, weighs terms, and works elsewhere."""

    leaves_machine = True


def picture() -> bytes:
    """A PNG file that holds a text, as many do."""
    return png("red") + CANARIES["image"].encode()


def fill(path: Path, keyring: Any, **settings: Any) -> tuple[MemoryStore, HashEmbedder]:
    embedder = Model()
    store = MemoryStore.open(
        path,
        embedder=embedder,
        reranker=None,
        keyring=keyring,
        settings=Settings(filterable=("plimbotranic_key",), **settings),
    )
    metadata = {CANARIES["metadata key"]: CANARIES["metadata value"]}
    document = Document(CANARIES["text"] + " is here", source=CANARIES["source path"], metadata=metadata)
    value: Json = {CANARIES["value"]: [CANARIES["value"]]}
    message = Message(
        "user", CANARIES["text"] + " said", name=CANARIES["speaker"], time=datetime(2024, 1, 1, tzinfo=UTC), value=value
    )
    store.add([document, message], (CANARIES["namespace"], "session"))
    store.add(Document("", source="call", value=value), CANARIES["namespace"], local_only=True)
    store.add("some other memory", "bob")
    store.add(CANARIES["local only text"], CANARIES["namespace"], local_only=True)
    store.add_image(picture(), CANARIES["namespace"], caption=CANARIES["caption"], source="picture.png")
    store.add(CANARIES["text"] + " replaced", (CANARIES["namespace"], "session"), source=CANARIES["source path"])
    return store, embedder


def needles() -> dict[str, bytes]:
    return {f"{name} as {how}": raw for name, canary in CANARIES.items() for how, raw in encodings(canary)}


def term_needles() -> dict[str, bytes]:
    """Ids of the unkeyed hash, as an index (little-endian) and a log (big-endian) write them."""
    words = sorted(set(terms(CANARIES["text"])))
    ids = TermHash(PublicKey().derive("term")).ids(words)
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    return {
        f"{word} {order}": int(id_).to_bytes(4, order) for word, id_ in zip(words, ids, strict=True) for order in orders
    }


def vector_needles(embedder: HashEmbedder, start: int = 0) -> dict[str, bytes]:
    """Any 16 consecutive numbers of each original vector."""
    vectors = embedder.embed(embedder.texts, input_type="document").vectors
    return {
        f"vector {row} {kind}": vectors[row, start : start + 16].astype(kind).tobytes()
        for row in range(len(vectors))
        for kind in ("<f4", "<f2")
        if np.count_nonzero(vectors[row, start : start + 16]) >= 2
    }


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["rotated", "sealed"])
def test_a_sealed_store_holds_nothing_readable(tmp_path: Path, vectors: str) -> None:
    store, embedder = fill(tmp_path / "m", tmp_path / "k.json", vectors=vectors)
    (hit,) = store.search("Zyqqvorth replaced", CANARIES["namespace"], limit=1)
    assert hit.record.source == CANARIES["source path"]
    store.close()
    assert found(tmp_path / "m", needles()) == set()
    # Four bytes may stand somewhere by chance; two such chances in one store are out of the question.
    assert len(found(tmp_path / "m", term_needles())) < 2
    wanted = {name: raw for start in range(0, 64, 16) for name, raw in vector_needles(embedder, start).items()}
    assert wanted
    assert found(tmp_path / "m", wanted) == set()


def test_the_same_search_finds_everything_in_a_plaintext_store(tmp_path: Path) -> None:
    store, embedder = fill(tmp_path / "m", PLAINTEXT, vectors="plain")
    store.close()
    hits = found(tmp_path / "m", needles())
    assert {name.split(" as ")[0] for name in hits} == set(CANARIES) - {"image"}, "of a picture nothing is kept"
    assert found(tmp_path / "m", vector_needles(embedder)) != set()
    assert len(found(tmp_path / "m", term_needles())) >= 3


def test_forgetting_leaves_nothing_that_opens(tmp_path: Path) -> None:
    """A copy of the directory from before, with the key ring from after: nobody reads it."""
    import shutil

    store, _ = fill(tmp_path / "m", tmp_path / "k.json")
    store.close()
    shutil.copytree(tmp_path / "m", tmp_path / "backup")
    with MemoryStore.open(tmp_path / "m", embedder=Model(), reranker=None, keyring=tmp_path / "k.json") as opened:
        assert opened.forget(CANARIES["namespace"]).keys == 1
    with MemoryStore.open(
        tmp_path / "backup", embedder=Model(), reranker=None, keyring=tmp_path / "k.json"
    ) as restored:
        assert list(restored.search("Zyqqvorth", CANARIES["namespace"])) == []
        assert restored.search("memory", "bob")[0].text == "some other memory"
        verified = restored.verify()
        assert len(verified.failures) == 6
        assert all("no key" in failure for failure in verified.failures.values())


def weight_needles() -> dict[str, bytes]:
    """The weights of a text's terms in any order that a file may have them in, as Qdrant writes numbers."""
    weights = Model().weigh(CANARIES["text"] + " is here")
    values = np.array([weight for weight in weights.values() if weight], np.float32)
    return {"weights in order": np.sort(values).astype("<f4").tobytes(), "as made": values.astype("<f4").tobytes()}


@pytest.mark.parametrize(("vectors", "shown"), [("rotated", False), ("sealed", False), ("plain", True)])
def test_weights_of_terms_stand_nowhere_as_they_were_learned(tmp_path: Path, vectors: str, shown: bool) -> None:
    store, _ = fill(tmp_path / "m", tmp_path / "k.json", vectors=vectors)
    wanted = weight_needles()
    store.close()
    assert bool(found(tmp_path / "m", wanted)) is shown


def test_a_cache_holds_nothing_readable(tmp_path: Path) -> None:
    from memory_plugin import CachedEmbedder

    inner = Model()
    cached: Any = CachedEmbedder(inner, tmp_path / "c" / "cache.sqlite", key=tmp_path / "k" / "cache.json")
    with MemoryStore.open(
        tmp_path / "m", embedder=cached, reranker=None, late=None, keyring=tmp_path / "k" / "store.json"
    ) as store:
        store.add([CANARIES["text"], CANARIES["local only text"]], "alice")
        store.add_image(picture(), "alice", caption=CANARIES["caption"])
        store.search(CANARIES["speaker"], "alice")
    assert cached.counts.misses >= 3
    for closed in (False, True):  # its log is a file, too
        if closed:
            cached.close()
        assert found(tmp_path / "c", needles()) == set()
        wanted = {name: raw for start in range(0, 64, 16) for name, raw in vector_needles(inner, start).items()}
        assert found(tmp_path / "c", wanted) == set()
        values = list(inner.weigh(CANARIES["text"]).values())
        assert found(tmp_path / "c", {"weights": np.array(values, "<f8").tobytes(), "json": b'"terms"'}) == set()
