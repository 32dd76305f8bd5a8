"""The same store over the served index: on the client's local mode, and on a server where QDRANT_URL names one."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient

from memory_plugin import AsyncMemoryStore, Document, MemoryStore, Message, Settings, eq, not_
from memory_plugin.index.server import ServerIndex
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker

URL = os.environ.get("QDRANT_URL")
PLACES = [
    ":memory:",
    pytest.param(URL, marks=pytest.mark.skipif(URL is None, reason="QDRANT_URL names no server")),
]


def parts(tmp_path: Path) -> dict[str, Any]:
    return {
        "embedder": HashEmbedder(256),
        "reranker": OverlapReranker(),
        "late": None,
        "keyring": tmp_path / "keys.json",
        "settings": Settings(filterable=("topic",), staging=4, batch=4, chunk_tokens=32),
    }


@contextmanager
def blocking(place: str, name: str) -> Iterator[QdrantClient]:
    client = QdrantClient(place) if place == ":memory:" else QdrantClient(url=place)
    try:
        yield client
    finally:
        client.delete_collection(f"{name}__v1")
        client.close()


@asynccontextmanager
async def on_loop(place: str, name: str) -> AsyncIterator[AsyncQdrantClient]:
    client = AsyncQdrantClient(place) if place == ":memory:" else AsyncQdrantClient(url=place)
    try:
        yield client
    finally:
        await client.delete_collection(f"{name}__v1")
        await client.close()


LONG = " ".join(f"Sentence number {n} tells of turtle {n}." for n in range(40))


@pytest.mark.parametrize("place", PLACES)
def test_the_main_job_on_a_served_index(place: str, tmp_path: Path) -> None:
    name = f"test-{uuid.uuid4().hex}"
    with blocking(place, name) as client:
        with MemoryStore(ServerIndex(client, name), **parts(tmp_path)) as store:
            store.add("Alice moved to Lisbon.", "alice", metadata={"topic": "home"})
            store.add(["Bob hates Lisbon.", "The invoice is ZX-4471-B."], "bob")
            assert store.add("Alice moved to Lisbon.", "alice", metadata={"topic": "home"}).unchanged == 1
            whole = store.add(LONG, "acme", source="turtles")
            assert whole.written > 4
            assert store.count("acme") == whole.written
            shorter = store.add("Turtles are slow.", "acme", source="turtles")
            assert (shorter.replaced, store.count("acme")) == (1, 1)
        with MemoryStore(ServerIndex(client, name), **parts(tmp_path)) as store:
            assert [hit.text for hit in store.search("Lisbon", "alice")] == ["Alice moved to Lisbon."]
            assert store.search("ZX-4471-B", "bob", limit=1)[0].text.startswith("The invoice")
            assert {hit.record.namespace[0] for hit in store.search("Lisbon", ["alice", "bob"])} == {"alice", "bob"}
            assert store.count("alice", filter=eq("topic", "home")) == 1
            assert store.facet("topic", "alice") == {"home": 1}
            assert store.rotate("bob").resealed == 2
            store.add([Document(LONG, source="book", value=[1]), Message("tool", "", id="m", value={})], "acme")
            store.add(Document("Turtles.", source="book", value=[2]), "acme")
            found = store.get_sources(["turtles", "book", "m", "absent"], "acme")
            assert [len(records) for records in found.values()] == [1, 2, 1]
            assert [records[-1].value for records in found.values()] == [None, [2], {}]
            assert store.count("acme", filter=eq("$kind", "value")) == 2
            assert store.count("acme", filter=not_(eq("$kind", "value"))) == 2
            assert store.delete("acme", source=["book", "m"]) == 3
            assert store.forget("alice").memories == 1
            assert list(store.search("Lisbon", "alice")) == []
            assert store.verify().ok


@pytest.mark.parametrize("place", PLACES)
def test_the_main_job_on_a_served_index_on_a_loop(place: str, tmp_path: Path) -> None:
    async def main() -> None:
        name = f"test-{uuid.uuid4().hex}"
        async with (
            on_loop(place, name) as client,
            AsyncMemoryStore(ServerIndex(client, name), **parts(tmp_path)) as store,
        ):
            await asyncio.gather(*(store.add(f"memory {n} of Alice", "alice") for n in range(10)))
            await store.add(Document(LONG, source="turtles", value=7), "alice")
            assert (await store.get_sources(["turtles"], "alice"))["turtles"][-1].value == 7
            found = await store.search("memory 7", "alice", limit=1)
            assert found[0].text == "memory 7 of Alice"
            assert (await store.context("memory 7", "alice", max_tokens=60)).tokens <= 60
            assert (await store.verify()).ok

    asyncio.run(main())


def test_local_mode_keeps_nothing_readable_in_its_payloads(tmp_path: Path) -> None:
    with blocking(":memory:", "sealed") as client:
        with MemoryStore(ServerIndex(client, "sealed"), **parts(tmp_path)) as store:
            store.add("Zyqqvorth moved to Lisbon.", "wexmalgin", metadata={"topic": "brunnhulde"}, source="plim.md")
        points, _ = client.scroll("sealed__v1", limit=100, with_payload=True)
        told = repr([point.payload for point in points]) + repr(client.get_collection("sealed__v1"))
    assert len(points) == 2
    assert not [word for word in ("Zyqqvorth", "wexmalgin", "brunnhulde", "plim", "topic") if word in told]
