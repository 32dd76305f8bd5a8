"""A migration of a served store, which other processes have open: here, several stores over one client."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient

from memory_plugin import AsyncMemoryStore, ManifestMismatchError, MemoryStore, Settings
from memory_plugin.engine import transitions
from memory_plugin.errors import MigrationError
from memory_plugin.index.server import ServerIndex
from memory_plugin.manifest import space
from memory_plugin.testing.doubles import HashEmbedder

URL = os.environ.get("QDRANT_URL")
PLACES = [
    ":memory:",
    pytest.param(URL, marks=pytest.mark.skipif(URL is None, reason="QDRANT_URL names no server")),
]
MODES: list[Any] = ["rotated", "sealed"]


def old() -> HashEmbedder:
    return HashEmbedder(96)


def new() -> HashEmbedder:
    return HashEmbedder(128, revision="2")


class Server:
    """Opens stores over one collection, each as another process would."""

    def __init__(self, client: QdrantClient, name: str, tmp_path: Path, vectors: Any) -> None:
        self._client, self._name = client, name
        self._parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "keys.json"}
        self._settings = Settings(vectors=vectors, staging=4, batch=4, chunk_tokens=32)

    def open(self, embedder: HashEmbedder, successor: HashEmbedder | None = None) -> MemoryStore:
        index = ServerIndex(self._client, self._name)
        return MemoryStore(index, embedder, settings=self._settings, successor=successor, **self._parts)


@contextmanager
def serving(place: str, tmp_path: Path, vectors: Any) -> Iterator[Server]:
    client = QdrantClient(place) if place == ":memory:" else QdrantClient(url=place)
    name = f"test-{uuid.uuid4().hex}"
    try:
        yield Server(client, name, tmp_path, vectors)
    finally:
        client.delete_collection(f"{name}__v1")
        client.close()


LONG = " ".join(f"Sentence number {n} tells of turtle {n}." for n in range(40))
NOTES = [f"note {n} of topic{n % 7} says thing{n * 31 % 101}" for n in range(30)]


@pytest.mark.parametrize("vectors", MODES)
@pytest.mark.parametrize("place", PLACES)
def test_the_whole_way(place: str, tmp_path: Path, vectors: Any) -> None:
    with serving(place, tmp_path, vectors) as server, server.open(old()) as store:
        for who in ("alice", "bob"):
            store.add(NOTES, who)
        store.add(LONG, "alice", source="turtles")
        whole = store.count("alice") + store.count("bob")
        done = store.migrate(new())
        assert (done.state, done.memories, done.embedded, done.missing) == ("switched", whole, whole, 0)
        hit = store.search(NOTES[5], "bob", limit=1, legs="dense")[0]
        assert (hit.text, hit.space) == (NOTES[5], space(new().identity))
        assert store.rollback().missing == 0
        assert store.rollback().missing == 0
        store.finish()
        assert store.verify(model=True).ok
        assert store.search("turtle 17", "alice", limit=1)[0].space == space(new().identity)


@pytest.mark.parametrize("vectors", MODES)
@pytest.mark.parametrize("place", PLACES)
def test_a_process_that_has_both_models_follows(place: str, tmp_path: Path, vectors: Any) -> None:
    with serving(place, tmp_path, vectors) as server, server.open(old()) as one, server.open(old(), new()) as other:
        one.add(NOTES, "alice")
        assert other.migration() is None

        def meanwhile(_progress: object) -> None:
            # While it is being filled, the other process writes both spaces from its first write on.
            other.add(f"written meanwhile {uuid.uuid4()}", "alice")

        done = one.migrate(new(), batch=10, progress=meanwhile)
        assert done.embedded == len(NOTES)
        assert other.search(NOTES[3], "alice", limit=1)[0].space == space(old().identity)  # it has not looked yet
        other.add("written after the switch", "alice")
        assert other.search(NOTES[3], "alice", limit=1)[0].space == space(new().identity)
        assert one.verify().ok
        back = one.rollback()
        assert (back.missing, back.embedded) == (0, 0)
        one.rollback()
        one.finish()
        # Readers find out where their space is gone; nobody sees an error.
        assert other.search("written after the switch", "alice", limit=1, legs="dense")[0].text.endswith("the switch")
        other.add("in one space again", "alice")
        assert other.verify().ok


@pytest.mark.parametrize("vectors", MODES)
@pytest.mark.parametrize("place", PLACES)
def test_a_process_that_has_the_old_model_alone(place: str, tmp_path: Path, vectors: Any) -> None:
    with serving(place, tmp_path, vectors) as server, server.open(old()) as one, server.open(old()) as other:
        one.add(NOTES, "alice")
        added: list[str] = []

        def meanwhile(_progress: object) -> None:
            if len(added) < 3:
                added.append(f"written meanwhile {len(added)}")
                other.add(added[-1], "alice")

        done = one.migrate(new(), progress=meanwhile)  # the to-do list catches what it writes
        assert (done.memories, done.missing) == (len(NOTES) + len(added), 0)
        assert other.search(NOTES[3], "alice", limit=1)[0].text == NOTES[3]  # it reads the old space, which is kept
        before = one.count("alice")
        with pytest.raises(ManifestMismatchError, match=r"was moved from this model(.|\n)*--rollback"):
            other.add("too late", "alice")
        assert one.count("alice") == before
        one.finish()
        with pytest.raises(ManifestMismatchError, match="made by another model"):
            other.search(NOTES[3], "alice", legs="dense")
        with pytest.raises(ManifestMismatchError):
            server.open(old())


def test_a_write_that_overlaps_the_switch_of_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and writing, another process switches: the writer notices, and fills in what it missed."""
    with (
        serving(":memory:", tmp_path, "rotated") as server,
        server.open(old()) as one,
        server.open(old(), new()) as other,
    ):
        one.add(NOTES, "alice")
        index: Any = other._verbs.engine.index
        upsert = index.upsert
        done: list[Any] = []

        async def switched_first(io: Any, points: Any) -> None:
            if not done:
                done.append(one.migrate(new()))
            await upsert(io, points)

        monkeypatch.setattr(index, "upsert", switched_first)
        other.add("it was embedded for the old space alone", "alice")
        assert done[0].state == "switched"
        assert one.verify().ok
        hit = one.search("it was embedded for the old space alone", "alice", limit=1, legs="dense")[0]
        assert hit.text.startswith("it was embedded")


def test_two_processes_at_once(tmp_path: Path) -> None:
    with serving(":memory:", tmp_path, "rotated") as server, server.open(old()) as one, server.open(old()) as other:
        one.add(NOTES, "alice")

        def meanwhile(_progress: object) -> None:
            with pytest.raises(MigrationError, match="is pending"):
                other.migrate(HashEmbedder(64, revision="3"))

        one.migrate(new(), progress=meanwhile)
        with pytest.raises(ManifestMismatchError):
            other.migrate(HashEmbedder(64, revision="3"))


def test_killed_while_dropping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server nobody repairs on opening: finishing again, or the next migration, does."""
    with serving(":memory:", tmp_path, "sealed") as server:
        with server.open(old()) as store:
            store.add(NOTES, "alice")
            store.migrate(new())
            with monkeypatch.context() as patched:
                patched.setattr(ServerIndex, "drop_payload", None)
                with pytest.raises(TypeError):
                    store.finish()
            assert store._verbs.engine.manifest.dropping == (space(old().identity),)
        with server.open(new()) as store:
            assert store.migration() is None
            store.add("it serves", "alice")
            store.finish()
            assert store._verbs.engine.manifest.dropping == ()
            assert store.verify().ok
            with pytest.raises(MigrationError):
                store.finish()
            assert transitions.state(store._verbs.engine.manifest) == "stable"


def test_on_a_loop(tmp_path: Path) -> None:
    async def main() -> None:
        client, name = AsyncQdrantClient(":memory:"), "loop"
        parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "keys.json"}
        async with AsyncMemoryStore(ServerIndex(client, name), old(), **parts) as store:
            await store.add(NOTES, "alice")
            done = await store.migrate(new())
            assert done.state == "switched"
            assert (await store.search(NOTES[2], "alice", limit=1))[0].space == space(new().identity)
            await store.rollback()
            assert (await store.migration()).missing == 0  # type: ignore[union-attr]
            await store.finish()
            assert (await store.verify(model=True)).ok
        await client.delete_collection(f"{name}__v1")
        await client.close()

    asyncio.run(main())
