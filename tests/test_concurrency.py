"""Many hands on one store: threads, tasks, cancellations, forgetting and closing while others are at work."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import (
    AsyncMemoryStore,
    Document,
    MemoryStore,
    Settings,
    StoreClosedError,
    StoreLockedError,
    UnknownKeyError,
)
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType

THREADS = 8


def parts(tmp_path: Path, **other: Any) -> dict[str, Any]:
    settings = Settings(chunk_tokens=32, staging=6, batch=4, filterable=("topic",))
    return {
        "embedder": HashEmbedder(),
        "reranker": None,
        "late": None,
        "keyring": tmp_path / "k.json",
        "settings": settings,
        **other,
    }


def text(source: str, version: int, sentences: int) -> str:
    return " ".join(f"Document {source} version {version} says thing {n} here." for n in range(sentences))


def versions(records: Sequence[Any]) -> dict[str, set[int]]:
    """Versions by source; every text tells both."""
    found: dict[str, set[int]] = {}
    for record in records:
        found.setdefault(record.source, set()).add(int(record.text.split("version ")[1].split()[0]))
    return found


def check_whole(records: Sequence[Any]) -> None:
    """Every document is there in one version, with every chunk."""
    chunks: dict[str, list[Any]] = {}
    for record in records:
        chunks.setdefault(record.source, []).append(record)
    for source, found in chunks.items():
        assert len(versions(found)[source]) == 1, source
        assert sorted(one.index for one in found) == list(range(found[0].chunks)), source


def gather(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work, number) for number in range(THREADS)]:
            future.result()


@pytest.mark.slow
@pytest.mark.parametrize("vectors", ["rotated", "sealed"])
def test_threads_on_one_store(tmp_path: Path, vectors: Any) -> None:
    settings = Settings(
        chunk_tokens=32, staging=6, batch=4, filterable=("topic",), vectors=vectors, duplicate_similarity=None
    )
    expected: dict[str, int] = {}

    with MemoryStore.open(tmp_path / "m", **parts(tmp_path, settings=settings)) as store:

        def work(number: int) -> None:
            dice = random.Random(number)
            for version in range(8):
                source = f"{number}-{dice.randrange(3)}"
                store.add(
                    text(source, version, dice.choice([1, 3, 12])), "alice", source=source, metadata={"topic": source}
                )
                expected[source] = version
                store.add(text("shared", number, 2), "alice", source="shared")
                hits = store.search(f"Document {source}", "alice", limit=5)
                assert all(hit.record.namespace == ("alice",) for hit in hits)
                store.list("alice", limit=5)
                store.facet("topic", "alice")
                if dice.random() < 0.3:
                    store.delete("alice", source=source)
                    expected.pop(source)

        gather(work)
        records = store.list("alice", limit=10_000).records
        found = versions(records)
        assert found.pop("shared") <= set(range(THREADS))
        assert found == {source: {version} for source, version in expected.items()}
        check_whole(records)
        assert store.verify().ok
        assert store.count("alice") == len(records)
        # What the dense leg knows is what there is, also where vectors are kept in this process.
        hits = store.search("Document version", "alice", legs="dense", limit=10_000)
        assert {hit.id for hit in hits} == {record.id for record in records}
    with MemoryStore.open(tmp_path / "m", **parts(tmp_path, settings=settings)) as store:
        assert {record.id for record in store.list("alice", limit=10_000).records} == {record.id for record in records}
        assert store.verify().ok


def test_tasks_on_one_store(tmp_path: Path) -> None:
    expected: dict[str, int] = {}

    async def work(store: AsyncMemoryStore, number: int) -> None:
        dice = random.Random(number)
        for version in range(6):
            source = f"{number}-{dice.randrange(3)}"
            await store.add(text(source, version, dice.choice([1, 3, 12])), "alice", source=source)
            expected[source] = version
            assert await store.search(f"Document {source}", "alice", limit=5)
            await store.list("alice", limit=5)
            if dice.random() < 0.3:
                await store.delete("alice", source=source)
                expected.pop(source)

    async def main() -> None:
        async with AsyncMemoryStore.open(tmp_path / "m", **parts(tmp_path)) as store:
            await asyncio.gather(*(work(store, number) for number in range(THREADS)))
            records = (await store.list("alice", limit=10_000)).records
            assert versions(records) == {source: {version} for source, version in expected.items()}
            check_whole(records)
            assert (await store.verify()).ok

    asyncio.run(main())


def test_one_document_added_by_many_is_one(tmp_path: Path) -> None:
    with MemoryStore.open(tmp_path / "m", **parts(tmp_path)) as store:
        for sentences in (1, 4, 40):
            added: list[tuple[str, ...]] = []
            start = threading.Barrier(THREADS)

            def work(number: int, sentences: int = sentences, start: threading.Barrier = start) -> None:
                start.wait()
                added.append(store.add(text("x", 1, sentences), ("alice", str(sentences)), source="x").ids)  # noqa: B023

            gather(work)
            assert len(set(added)) == 1
            assert store.count(("alice", str(sentences))) == len(added[0])
        assert store.verify().ok


def test_forgetting_while_others_add(tmp_path: Path) -> None:
    with MemoryStore.open(tmp_path / "m", **parts(tmp_path)) as store:
        done = threading.Event()
        refused = forgotten = 0

        def work(number: int) -> None:
            nonlocal refused, forgotten
            dice = random.Random(number)
            if number == 0:
                for _ in range(15):
                    time.sleep(0.02)
                    store.forget("alice")
                    forgotten += 1
                done.set()
                return
            while not done.is_set():
                source = f"{number}-{dice.randrange(4)}"
                try:
                    store.add(text(source, 1, dice.choice([1, 12])), "alice", source=source)
                except UnknownKeyError as error:
                    assert "add it again" in str(error)  # noqa: PT017 - the others are fine
                    refused += 1

        gather(work)
        print(f"\n{forgotten} times forgotten, {refused} additions refused")
        records = store.list("alice", limit=10_000).records
        check_whole(records)
        verified = store.verify()
        assert verified.ok, verified.failures
        assert verified.memories == len(records)
        store.add("a new life", "alice", source="n")
        assert store.search("life", "alice")[0].text == "a new life"
    with MemoryStore.open(tmp_path / "m", **parts(tmp_path)) as store:
        assert store.count("alice") == len(records) + 1


class Slow(HashEmbedder):
    """Takes a moment, as models do."""

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        time.sleep(0.002)
        return super().embed(texts, input_type=input_type)


def test_cancelled_at_any_moment(tmp_path: Path) -> None:
    """What was cancelled is whole or not there; the store goes on."""
    dice = random.Random(7)

    async def main() -> tuple[int, int]:
        cancelled = 0
        async with AsyncMemoryStore.open(tmp_path / "m", **parts(tmp_path, embedder=Slow())) as store:
            for version in range(60):
                source = f"s{version % 5}"
                verb: Any
                if version % 25 == 24:
                    verb = store.forget("alice")
                elif version % 10 == 9:
                    verb = store.delete("alice", source=source)
                else:
                    verb = store.add(text(source, version, dice.choice([1, 4, 30])), "alice", source=source)
                task = asyncio.ensure_future(verb)
                # Every fifth before it can be done, however busy the machine is.
                await asyncio.sleep(dice.uniform(0, 0.03) if version % 5 else 0)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                cancelled += task.cancelled()
                if version % 6 == 5:
                    check_whole((await store.list("alice", limit=10_000)).records)
            assert (await store.add("still usable", "alice", source="u")).written == 1
            verified = await store.verify()
            assert verified.ok, verified.failures
            return cancelled, verified.memories

    cancelled, memories = asyncio.run(main())
    assert cancelled > 10
    with MemoryStore.open(tmp_path / "m", **parts(tmp_path)) as store:  # nothing had to be cleared away
        check_whole([record for record in store.list("alice", limit=10_000).records if record.source != "u"])
        assert store.verify().memories == memories


def test_a_cancelled_opening_is_no_closing(tmp_path: Path) -> None:
    async def main() -> None:
        store = AsyncMemoryStore.open(tmp_path / "m", **parts(tmp_path))
        task = asyncio.ensure_future(store.add("one", "alice"))
        await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await store.add("two", "alice")
        assert await store.count("alice") >= 1
        await store.close()
        with pytest.raises(StoreClosedError):
            await store.count("alice")

    asyncio.run(main())


def test_closing_while_it_is_being_opened(tmp_path: Path) -> None:
    async def main() -> None:
        store = AsyncMemoryStore.open(tmp_path / "m", **parts(tmp_path))
        task = asyncio.ensure_future(store.add("one", "alice"))
        await asyncio.sleep(0)
        await store.close()
        with suppress(StoreClosedError):
            await task

    asyncio.run(main())
    with MemoryStore.open(tmp_path / "m", **parts(tmp_path)) as store:  # nobody holds its lock
        assert store.verify().ok


def test_closed_while_others_are_at_work(tmp_path: Path) -> None:
    store = MemoryStore.open(tmp_path / "m", **parts(tmp_path))
    acknowledged: dict[str, int] = {}
    begun = threading.Barrier(THREADS)

    def work(number: int) -> None:
        begun.wait()
        if number == 0:
            time.sleep(0.3)
            store.close()
            return
        for version in range(10_000):
            source = f"{number}"
            try:
                store.add(text(source, version, [1, 12][version % 2]), "alice", source=source)
                acknowledged[source] = version
                store.search("Document", "alice", limit=3)
            except StoreClosedError as error:
                assert "closed" in str(error)  # noqa: PT017 - the only way out
                return

    gather(work)
    with MemoryStore.open(tmp_path / "m", **parts(tmp_path)) as again:
        records = again.list("alice", limit=10_000).records
        check_whole(records)
        found = versions(records)
        for source, version in acknowledged.items():
            assert found[source] <= {version, version + 1}, source
        assert again.verify().ok


def test_two_owners_are_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with MemoryStore.open(tmp_path / "m", **parts(tmp_path)) as first:
        for _ in range(3):
            with pytest.raises(StoreLockedError, match="share that store object"):
                MemoryStore.open(tmp_path / "m", **parts(tmp_path))
        first.add("x", "alice")
        assert first.verify().ok


@pytest.mark.slow
def test_the_loop_beats_on(tmp_path: Path) -> None:
    """Prints the longest time that the event loop stood still; timings are no assertions."""
    stalls: dict[str, float] = {}
    batch = [Document(f"Memory {n} tells of thing {n % 97} and of {n % 13}.", source=f"s{n}") for n in range(3_000)]

    async def heart(what: str, until: asyncio.Event) -> None:
        last = time.perf_counter()
        while not until.is_set():
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            stalls[what] = max(stalls.get(what, 0.0), now - last - 0.001)
            last = now

    async def beside(what: str, work: Any) -> None:
        until = asyncio.Event()
        beating = asyncio.ensure_future(heart(what, until))
        await work
        until.set()
        await beating

    async def main() -> None:
        settings = Settings(filterable=("topic",), batch=64)
        async with AsyncMemoryStore.open(tmp_path / "m", **parts(tmp_path, settings=settings)) as store:
            await beside("nothing", asyncio.sleep(0.2))
            await beside("add", store.add(batch, "alice"))
            await beside("add again", store.add(batch, "alice"))
            await beside("search", store.search("thing 7", "alice", limit=100))
            await beside("list", store.list("alice", limit=5_000))
            await beside("facet", store.facet("$source", "alice", limit=5_000))
            await beside("verify", store.verify())
            await beside("delete", store.delete("alice", everything=True))
            assert set(stalls) == {"nothing", "add", "add again", "search", "list", "facet", "verify", "delete"}

    asyncio.run(main())
    print("\nlongest stall of the loop, ms:", {what: round(1000 * seconds, 1) for what, seconds in stalls.items()})
