"""The event loop is not held up by the LangGraph store, however much there is: measured as in ``test_loop_is_free``."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.store.base import GetOp, PutOp

from memory_plugin import AsyncMemoryStore, MemoryStore
from memory_plugin.adapters.langgraph import LangGraphStore
from memory_plugin.flow import OnLoop
from memory_plugin.testing.doubles import HashEmbedder
from tests.benchmarks.steps import timed

ITEMS = 2_000
LIMIT = 10.0
"""Milliseconds of the thread's own time."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """The collector runs on whichever thread makes the next object, and walks through all of the process."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def parts(path: Path) -> dict[str, Any]:
    return {"embedder": HashEmbedder(), "late": None, "reranker": None, "keyring": path / "keys.json"}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("full")
    with MemoryStore.open(path / "m", **parts(path)) as memory:
        store = LangGraphStore(memory, namespace="alice")
        for start in range(0, ITEMS, 500):
            numbers = range(start, start + 500)
            texts = {n: {"text": f"note {n} of {n % 7} whales", "n": n, "in": {"n": n % 100}} for n in numbers}
            store.batch([PutOp(("notes", f"{n % 5}"), f"{n}", texts[n], ttl=600 if n % 2 else None) for n in numbers])
    return path


def script(store: LangGraphStore) -> Iterator[tuple[str, Awaitable[Any]]]:
    yield "get many", store.abatch([GetOp(("notes", "1"), f"{n}") for n in range(1, ITEMS, 5)])
    yield "put", store.aput(("notes", "1"), "new", {"text": "a long one about whales. " * 2000}, ttl=5)
    yield "search", store.asearch((), query="how many whales")
    yield "search, rare", store.asearch((), query="how many whales", filter={"in": {"n": 3}}, limit=50)
    yield "search, none", store.asearch((), query="how many whales", filter={"in": {"n": 1000}})
    yield "newest", store.asearch((), limit=100)
    yield "newest, rare", store.asearch((), filter={"n": {"$gt": ITEMS - 5}})
    yield "namespaces", store.alist_namespaces()
    yield "delete", store.adelete(("notes", "1"), "new")
    yield "sweep", store.asweep_ttl()


async def check(store: LangGraphStore) -> None:
    found = {}
    for name, work in script(store):
        with timed() as steps:
            await work
        found[name] = steps.worst, steps.longest
    assert {name: one for name, one in found.items() if one[0] > LIMIT} == {}


async def test_on_an_async_store(full: Path) -> None:
    async with AsyncMemoryStore.open(full / "m", **parts(full)) as memory:
        await check(LangGraphStore(memory, namespace="alice"))


async def test_on_a_blocking_store(full: Path) -> None:
    io = OnLoop()
    memory = await io.call(MemoryStore.open, full / "m", **parts(full))
    try:
        await check(LangGraphStore(memory, namespace="alice"))
    finally:
        await io.call(memory.close)
