"""A migration under a continuous load of readers and writers: nothing fails, nothing mixes, nothing is lost."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from memory_plugin import AsyncMemoryStore, MemoryStore, Settings
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.manifest import space
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType, Results

SETTINGS: dict[str, Any] = {"chunk_tokens": 32, "staging": 6, "batch": 8}
BEFORE = 150


class Slow(HashEmbedder):
    """Hashed words, as slow as a quick model."""

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        time.sleep(0.0005 * len(texts))
        return super().embed(texts, input_type=input_type)


MODELS = {space(one.identity): one for one in (HashEmbedder(96), HashEmbedder(128, revision="2"))}


def old() -> Slow:
    return Slow(96)


def new() -> Slow:
    return Slow(128, revision="2")


def text(name: str, version: int, sentences: int = 1) -> str:
    of = crc32(name.encode()) % 97  # not hash(): it differs from one interpreter to the next
    return " ".join(f"{name} in version {version} says number {n} of {of}." for n in range(sentences))


def check(found: Results, query: str) -> str | None:
    """One space for all hits, and dense scores that are that space's; its name."""
    spaces = {hit.space for hit in found}
    assert len(spaces) <= 1, f"mixed: {spaces}"
    for hit in found:
        if "dense" in hit.stages:
            model = MODELS[hit.space]
            rows = model.embed([query, hit.record.passage], input_type="document").vectors
            assert hit.stages["dense"].score == pytest.approx(float(rows[0] @ rows[1]), abs=2e-3)
    return spaces.pop() if spaces else None


class Load:
    """What writers did, and what readers saw."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.searches = 0
        self.writes = 0
        self.spaces: set[str] = set()
        self.expected: dict[str, dict[str, tuple[int, int]]] = {}

    def reader(self, store: MemoryStore, seed: int) -> None:
        dice = random.Random(seed)
        while not self.stop.is_set():
            query = f"s{dice.randrange(BEFORE)} in version 0"
            legs: Any = dice.choice(["dense", "hybrid"])
            name = check(store.search(query, "alice", limit=10, legs=legs, rerank="none"), query)
            assert name is not None, "nothing found"
            self.spaces.add(name)
            self.searches += 1

    def writer(self, store: MemoryStore, who: str) -> None:
        dice = random.Random(who)
        mine = self.expected.setdefault(who, {})
        version = 0
        while not self.stop.is_set():
            version += 1
            name, what = f"w{dice.randrange(12)}", dice.random()
            if what < 0.75:
                sentences = dice.choice([1, 1, 3, 30])  # the last one is staged
                store.add(text(name, version, sentences), who, source=name)
                mine[name] = (version, sentences)
            elif what < 0.95:
                store.delete(who, source=name)
                mine.pop(name, None)
            else:
                store.forget(who)
                mine.clear()
            self.writes += 1

    def more(self, jobs: Sequence[Future[None]]) -> None:
        """Wait until readers and writers have done some more, however busy the machine is."""
        searches, writes = self.searches + 6, self.writes + 6
        while self.searches < searches or self.writes < writes:
            for job in jobs:
                if job.done():
                    job.result()  # it failed
            time.sleep(0.005)

    def holds(self, store: MemoryStore) -> None:
        """Everything that was acknowledged is there, whole, in its last version, and has a vector."""
        assert store.verify().ok, store.verify().failures
        for who, documents in self.expected.items():
            found: dict[str, list[str]] = {}
            for record in store.list(who, limit=10_000).records:
                found.setdefault(str(record.source), []).append(record.text)
            assert set(found) == set(documents)
            for name, (version, sentences) in documents.items():
                assert " ".join(" ".join(found[name]).split()).count(f"in version {version} ") == sentences
        engine = store._verbs.engine
        for who in self.expected:
            for name in list(self.expected[who])[:3]:
                query = text(name, self.expected[who][name][0])
                hits = store.search(query, who, limit=10, legs="dense", rerank="none")
                assert name in {hit.record.source for hit in hits}
                assert check(hits, query) == engine.active.space


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["rotated", "sealed"])
def test_readers_and_writers_while_the_model_changes(tmp_path: Path, vectors: Any) -> None:
    load, first, second = Load(), old(), new()
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    index = EdgeIndex(tmp_path / "m", durability="process")
    with (
        MemoryStore(index, first, settings=Settings(vectors=vectors, **SETTINGS), **parts) as store,
        ThreadPoolExecutor(4) as pool,
    ):
        for number in range(BEFORE):
            store.add(text(f"s{number}", 0), "alice", source=f"s{number}")
        jobs = [pool.submit(load.reader, store, seed) for seed in range(2)]
        jobs += [pool.submit(load.writer, store, who) for who in ("bob", "carol")]
        try:
            done = store.migrate(second, batch=16)
            assert done.state == "switched"
            load.more(jobs)
            assert store.rollback().missing == 0
            load.more(jobs)
            assert store.rollback().missing == 0
            store.finish()
            load.more(jobs)
        finally:
            load.stop.set()
        for job in jobs:
            job.result(timeout=60)
        assert load.spaces == set(MODELS)
        load.holds(store)
        # Nothing that was there before is embedded twice; writers embed what they write.
        assert sum("version 0 " in one and "says" in one for one in second.texts) <= BEFORE + 400  # the gate's queries
    with MemoryStore.open(tmp_path / "m", embedder=new(), **parts) as store:
        load.holds(store)


@pytest.mark.slow
def test_the_same_on_a_loop(tmp_path: Path) -> None:
    async def main() -> None:
        parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
        index = EdgeIndex(tmp_path / "m", durability="process")
        stop, spaces, longest = asyncio.Event(), set(), 0.0
        written: dict[str, int] = {}
        async with AsyncMemoryStore(index, old(), settings=Settings(**SETTINGS), **parts) as store:
            await store.add([text(f"s{number}", 0) for number in range(BEFORE)], "alice")

            async def reader() -> None:
                while not stop.is_set():
                    spaces.add(check(await store.search("s7 in version 0", "alice", rerank="none"), "s7 in version 0"))

            async def writer(who: str) -> None:
                version = 0
                while not stop.is_set():
                    version += 1
                    name = f"{who}{version % 9}"
                    await store.add(text(name, version, 1 + 29 * (version % 5 == 0)), who, source=name)
                    written[name] = version

            async def heartbeat() -> None:
                nonlocal longest
                while not stop.is_set():
                    start = time.perf_counter()
                    await asyncio.sleep(0.01)
                    longest = max(longest, time.perf_counter() - start)

            tasks = [asyncio.create_task(one) for one in (reader(), reader(), writer("bob"), writer("carol"))]
            beat = asyncio.create_task(heartbeat())
            # Slow by its throttle alone: the loop is free meanwhile.
            done = await store.migrate(new(), batch=16, rate=200)
            assert done.seconds > BEFORE / 200
            while spaces != set(MODELS):
                assert not any(task.done() for task in tasks)
                await asyncio.sleep(0.01)
            await store.rollback()
            await store.rollback()
            stop.set()
            await asyncio.gather(*tasks, beat)
            assert longest < 5
            assert spaces == set(MODELS)
            assert (await store.verify()).ok
            for name, version in written.items():
                who = name.rstrip("0123456789")
                found = await store.search(text(name, version), who, legs="dense", limit=10)
                assert any(f"version {version} " in hit.text for hit in found if hit.record.source == name)

    asyncio.run(main())


def test_a_write_that_began_before_the_migration_ends_after_the_switch(tmp_path: Path) -> None:
    """It was embedded for the old space alone, and gets its vector of the new one all the same."""
    begun, go = threading.Event(), threading.Event()

    class Stopping(HashEmbedder):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            made = super().embed(texts, input_type=input_type)
            if any("held up" in one for one in texts):
                begun.set()
                assert go.wait(30)
            return made

    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=Stopping(96), **parts) as store, ThreadPoolExecutor(1) as pool:
        store.add("there before", "alice")
        writing = pool.submit(store.add, "held up for long", "alice")
        assert begun.wait(30)
        assert store.migrate(new()).memories == 1
        go.set()
        writing.result(timeout=30)
        assert store.verify().ok
        assert store.search("held up for long", "alice", legs="dense", limit=1)[0].text == "held up for long"
        back = store.rollback()
        assert (back.missing, back.memories) == (0, 2)


def test_a_write_that_began_before_the_space_was_given_up(tmp_path: Path) -> None:
    """It has vectors of a space that is not there any more: they are left out, the rest is written."""
    begun, go = threading.Event(), threading.Event()

    class Stopping(HashEmbedder):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            if any("held up" in one for one in texts):
                begun.set()
                assert go.wait(30)
            return super().embed(texts, input_type=input_type)

    class GivenUp(Exception):
        pass

    def stop(_progress: object) -> None:
        raise GivenUp

    modes: list[Any] = ["rotated", "sealed"]
    for vectors in modes:
        begun.clear()
        go.clear()
        parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / f"{vectors}.json"}
        settings = Settings(vectors=vectors)
        with (
            MemoryStore.open(tmp_path / vectors, embedder=old(), settings=settings, **parts) as store,
            ThreadPoolExecutor(1) as pool,
        ):
            store.add("there before", "alice")
            with pytest.raises(GivenUp):
                store.migrate(Stopping(128, revision="2"), progress=stop)
            writing = pool.submit(store.add, "held up for long", "alice")
            assert begun.wait(30)
            store.abandon()
            go.set()
            assert writing.result(timeout=30).written == 1
            assert store.verify().ok
            assert store.search("held up", "alice", legs="dense", limit=1)[0].text == "held up for long"


def test_a_search_that_began_before_the_switch_ends_after_the_old_space_is_gone(tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    class Stopping(HashEmbedder):
        def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
            if input_type == "query" and "what of it" in texts:
                begun.set()
                assert go.wait(30)
            return super().embed(texts, input_type=input_type)

    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    modes: list[Any] = ["rotated", "sealed"]
    for vectors in modes:
        begun.clear()
        go.clear()
        where, settings = tmp_path / vectors, Settings(vectors=vectors)
        keys = {**parts, "keyring": tmp_path / f"{vectors}.json"}
        with (
            MemoryStore.open(where, embedder=Stopping(96), settings=settings, **keys) as store,
            ThreadPoolExecutor(1) as pool,
        ):
            store.add(["what of it", "and something else"], "alice")
            reading = pool.submit(store.search, "what of it", "alice", legs="dense")
            assert begun.wait(30)
            store.migrate(new())
            store.finish()
            go.set()
            hits = reading.result(timeout=30)
            assert [hit.space for hit in hits] == [space(new().identity)] * 2
            assert hits[0].text == "what of it"


def test_vectors_of_the_new_space_are_those_of_its_model(tmp_path: Path) -> None:
    """Whether a memory was filled in or written to both spaces: the stored vector is the model's, turned."""
    from memory_plugin.flow import run
    from memory_plugin.types import HasVector

    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=old(), **parts) as store:
        for who in ("alice", "bob"):
            store.add([text(f"{who}{n}", 0) for n in range(70)], who)
        store.migrate(new())
        store.add("and one more", "bob")
        engine = store._verbs.engine
        dense = engine.active.dense
        points, _ = run(engine.index.scroll(engine.io, HasVector(dense), limit=1000, payload=()))
        fetched = run(engine.index.fetch(engine.io, [point.id for point in points], payload=True, vectors=True))
        assert len(fetched) == 141
        for point in fetched:
            sealer = run(engine.sealer_of(str(point.payload["t"]), create=False))
            assert sealer is not None
            from memory_plugin.engine.payload import open_record

            passage = open_record(sealer, point.id, point.payload).passage
            stored = point.vectors[dense]
            assert isinstance(stored, np.ndarray)
            wanted = new().embed([passage], input_type="document").vectors[0]
            assert np.allclose(sealer.unrotate(stored[None])[0], wanted, atol=1e-5)
