"""How long a store holds up the event loop that it runs on: ``python -m tests.benchmarks.loop [memories]``.

For each verb, on an ``AsyncMemoryStore`` and on a ``MemoryStore`` behind ``flow.OnLoop``: the busiest step of ours on
the loop's thread, in processor time; the longest call of the embedded engine, which runs in another thread and lets no
Python run meanwhile, likewise; and by how much a task beside them came late, in wall time, which also tells what else
the machine does.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from memory_plugin import AsyncMemoryStore, Document, MemoryStore, Message, any_of, eq, not_
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.flow import OnLoop
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.types import Embeddings, InputType
from tests.benchmarks.steps import gaps, timed

MEMORIES = 20_000
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in "bdfgklmnprstvz"]
ROUNDS = 3


def sentence(dice: np.random.Generator, length: int = 14) -> str:
    """A sentence of words as frequent as words are."""
    return " ".join(WORDS[int(n) % len(WORDS)] for n in dice.zipf(1.3, length))


class Filling(LocalEmbedder):
    """The local model, but while it is filling documents get what it made of some texts before."""

    def __init__(self) -> None:
        super().__init__()
        dice = np.random.default_rng(0)
        self._pool = super().embed([sentence(dice) for _ in range(256)], input_type="document")
        self.filling = True

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Vectors and token vectors."""
        if not self.filling:
            return super().embed(texts, input_type=input_type)
        rows = np.arange(len(texts)) % len(self._pool.vectors)
        tokens = self._pool.tokens
        return Embeddings(self._pool.vectors[rows], tokens=tuple(tokens[row] for row in rows) if tokens else None)


def verbs(dice: np.random.Generator, store: Any, call: Any) -> dict[str, Callable[[], Awaitable[Any]]]:
    """What agents do."""
    seen = not_(any_of("$source", [f"d{n}" for n in range(200)]))
    number = iter(range(1200, 10**6))
    run = dice.integers(10**9)

    def messages() -> list[Message]:
        return [Message("user", sentence(dice), id=f"m{run}-{next(number)}", value={"n": 1}) for _ in range(50)]

    return {
        "add 50 messages": lambda: call(store.add, messages(), "alice"),
        "add 200 passages": lambda: call(store.add, sentence(dice, 20_000), "alice", source=f"long {next(number)}"),
        "search": lambda: call(store.search, sentence(dice, 6), "alice"),
        "search, no models": lambda: call(store.search, sentence(dice, 6), "alice", rerank="none"),
        "context": lambda: call(store.context, sentence(dice, 6), "alice"),
        "context, 200 left out": lambda: call(store.context, sentence(dice, 6), "alice", filter=seen),
        "list": lambda: call(store.list, "alice", limit=100),
        "list, 5,000": lambda: call(store.list, "alice", limit=5000, newest_first=True),
        "count": lambda: call(store.count, "alice"),
        "count, opening all": lambda: call(store.count, "alice", filter=eq("topic", 3)),
        "facet, opening all": lambda: call(store.facet, "topic", "alice"),
        "get_sources, 200": lambda: call(store.get_sources, [f"d{n}" for n in range(1000, 1200)], "alice"),
        "delete, 200 sources": lambda: call(store.delete, "alice", source=[f"d{next(number)}" for _ in range(200)]),
        "verify": lambda: call(store.verify),
    }


CALLS = ("_upsert", "_set_payload", "_delete", "_fetch", "_search", "_scroll", "_count", "_facet")


@contextmanager
def calls() -> Iterator[dict[str, float]]:
    """Milliseconds of processor time of the longest call of each kind that the embedded index makes."""
    longest: dict[str, float] = {}
    before = {name: getattr(EdgeIndex, name) for name in CALLS}

    def timing(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed_call(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                longest[name] = max(longest.get(name, 0.0), (time.thread_time() - start) * 1e3)

        return timed_call

    for name, call in before.items():
        setattr(EdgeIndex, name, timing(name, call))
    try:
        yield longest
    finally:
        for name, call in before.items():
            setattr(EdgeIndex, name, call)


async def measure(name: str, store: Any, call: Any, table: Table) -> None:
    """A row a verb: the busiest step, and the worst delay of a task beside it."""
    for verb, run in verbs(np.random.default_rng(), store, call).items():
        await run()
        with timed() as steps, calls() as engine:
            late: list[float] = []
            start = time.perf_counter()
            for _ in range(ROUNDS):
                task = asyncio.ensure_future(run())
                late += await gaps(task)
                await task
            took = (time.perf_counter() - start) / ROUNDS
        late.sort()
        middle = late[len(late) // 2]
        what = max(engine, key=lambda one: engine[one], default="")
        held = f"{engine[what]:.1f} {what.strip('_')}" if what else ""
        row = (f"{took * 1e3:.0f}", f"{steps.worst:.1f}", held, f"{late[-1]:.0f}", f"{middle:.1f}", steps.longest)
        table.add_row(name, verb, *row)


def fill(directory: Path, number: int) -> Filling:
    """A store of so many memories with the local models' vectors."""
    embedder = Filling()
    dice = np.random.default_rng(2)
    with MemoryStore.open(directory / "m", embedder=embedder, reranker=None, keyring=directory / "k.json") as store:
        for start in range(0, number, 500):
            items = [
                Document(
                    sentence(dice), source=f"d{n}", metadata={"topic": n % 10}, value={"n": n} if n % 10 == 0 else None
                )
                for n in range(start, min(start + 500, number))
            ]
            store.add(items, "alice")
    embedder.filling = False
    return embedder


def main() -> None:
    """Measure and print."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else MEMORIES
    table = Table("store", "verb", "ms", "busiest step, ms", "engine, ms", "latest task, ms", "median", "busiest")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        embedder = fill(directory, number)
        keys: dict[str, Any] = {"embedder": embedder, "keyring": directory / "k.json"}

        async def plain(fn: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
            return await fn(*args, **kwargs)

        async def both() -> None:
            async with AsyncMemoryStore.open(directory / "m", **keys) as store:
                await measure("AsyncMemoryStore", store, plain, table)
            blocking = await OnLoop().call(MemoryStore.open, directory / "m", **keys)
            await measure("MemoryStore", blocking, OnLoop().call, table)
            await OnLoop().call(blocking.close)

        asyncio.run(both())
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
