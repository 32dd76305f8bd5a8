"""The event loop is never held up by us: no verb computes on the loop's thread, however much there is to do.

Processor time of the thread is measured, step by step, so that a busy machine changes nothing.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import AsyncMemoryStore, Document, MemoryStore, Message, any_of, eq, not_
from memory_plugin.flow import OnLoop
from memory_plugin.testing.doubles import HashEmbedder, OverlapReranker, WordTokenizer
from tests.benchmarks.steps import timed
from tests.recorders import WordLate
from tests.wordpiece import pieces

MEMORIES = 4_000
LIMIT = 10.0
"""Milliseconds."""


class Words(HashEmbedder):
    """Hashed words, cut by a tokenizer that costs nothing."""

    tokenizer = pieces().tokenizer
    count = WordTokenizer().count


def parts(path: Path) -> dict[str, Any]:
    late, keyring = WordLate(leaves_machine=False), path / "keys.json"
    return {"embedder": Words(), "late": late, "reranker": OverlapReranker(), "keyring": keyring}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of some thousand memories, all of one day, a tenth of them with values."""
    path = tmp_path_factory.mktemp("full")
    with MemoryStore.open(path / "m", **parts(path)) as store:
        for start in range(0, MEMORIES, 500):
            items = [
                Document(
                    f"note {n} of {n % 7} whales and {n % 11} birds",
                    source=f"d{n}",
                    metadata={"topic": n % 10},
                    value={"n": n} if n % 10 == 0 else None,
                )
                for n in range(start, start + 500)
            ]
            store.add(items, "alice")
    return path


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """The collector runs on whichever thread makes the next object, and walks through all of the process."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


Call = Callable[..., Awaitable[Any]]


def script(store: Any, call: Call) -> Iterator[tuple[str, Awaitable[Any]]]:
    """Everything that an agent may do, and then some."""
    seen = not_(any_of("$source", [f"d{n}" for n in range(200)]))
    messages = [Message("user", f"hello {n}", id=f"m{n}", value={"n": n}) for n in range(50)]
    many = [Document(f"note {n} of {n % 7} whales and {n % 11} birds", source=f"d{n}") for n in range(1, MEMORIES, 10)]
    whales: Any = {"query": "how many whales", "namespace": "alice"}
    yield "add", call(store.add, messages, "alice")
    yield "add again", call(store.add, many, "alice", metadata={"topic": 1})
    yield "add a long one", call(store.add, "one more sentence about whales. " * 5000, "alice", source="long")
    yield "search", call(store.search, **whales)
    yield "search, many", call(store.search, **whales, limit=1000, rerank="none")
    yield "search, neighbours", call(store.search, "one more sentence", "alice", neighbours=16)
    yield "search, digging", call(store.search, **whales, filter=eq("topic", 3), limit=200)
    yield "context", call(store.context, **whales, filter=seen)
    yield "list", call(store.list, "alice")
    yield "list all", call(store.list, "alice", limit=10 * MEMORIES, newest_first=True)
    yield "count", call(store.count, "alice", filter=eq("topic", 3))
    yield "count kinds", call(store.count, "alice", filter=not_(eq("$kind", "value")))
    yield "facet", call(store.facet, "topic", "alice")
    yield "get_sources", call(store.get_sources, [f"d{n}" for n in range(0, MEMORIES, 3)], "alice")
    yield "delete", call(store.delete, "alice", source=[f"m{n}" for n in range(50)])
    yield "delete by filter", call(store.delete, "alice", filter=eq("topic", 99))
    yield "verify", call(store.verify)
    yield "rotate", call(store.rotate, "alice")


async def longest(store: Any, call: Call) -> dict[str, tuple[float, str]]:
    """The busiest step of each verb, in milliseconds, and what it ran."""
    found = {}
    for name, work in script(store, call):
        with timed() as steps:
            await work
        found[name] = steps.worst, steps.longest
    return found


async def awaited(fn: Call, *args: Any, **kwargs: Any) -> Any:
    return await fn(*args, **kwargs)


def too_long(found: dict[str, tuple[float, str]]) -> dict[str, tuple[float, str]]:
    return {name: one for name, one in found.items() if one[0] > LIMIT}


async def test_a_store_on_the_loop(full: Path) -> None:
    async with AsyncMemoryStore.open(full / "m", **parts(full)) as store:
        assert too_long(await longest(store, awaited)) == {}


async def test_a_blocking_store_beside_the_loop(full: Path) -> None:
    io = OnLoop()
    store = await io.call(MemoryStore.open, full / "m", **parts(full))
    try:
        assert too_long(await longest(store, io.call)) == {}
    finally:
        await io.call(store.close)


async def test_opening_loads_no_model_on_the_loop(tmp_path: Path) -> None:
    """With the local models: the store is opened, written to, and asked."""
    made = AsyncMemoryStore.open(tmp_path / "m", keyring=tmp_path / "keys.json")
    with timed() as steps:
        async with made as store:
            await store.add(["Alice moved to Lisbon.", "The invoice is ZX-4471-B."], "alice")
            assert (await store.search("Where does Alice live?", "alice"))[0].text == "Alice moved to Lisbon."
            assert "ZX-4471-B" in (await store.context("ZX-4471-B", "alice")).text
    assert steps.worst <= LIMIT, steps.longest


async def test_the_measure_sees_what_holds_a_loop_up() -> None:
    with timed() as steps:
        await asyncio.sleep(0)
        sum(range(10**6))
        await asyncio.sleep(0)
    assert steps.worst > LIMIT / 2
