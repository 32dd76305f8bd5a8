"""Timings as ratios, measured side by side in one run: ``python -m tests.benchmarks`` (``make bench``).

Absolute times depend on the machine and on what else it does; the ratios are what the project is held to.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qe
from rich.console import Console
from rich.progress import track
from rich.table import Table

from memory_plugin import MemoryStore
from memory_plugin.crypto.keys import RootKey
from memory_plugin.crypto.sealer import SubjectSealer
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.engine.sealing import sparse_vector
from memory_plugin.lexical import terms
from memory_plugin.protocols import Sealer
from memory_plugin.types import Embeddings, InputType, ModelIdentity

MEMORIES = 20_000
DIMENSION = 384
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in "bdfgklmnprstvz"]


class Random:
    """Vectors that look like embeddings, made before the clock runs: an embedder that costs nothing."""

    identity = ModelIdentity("testing", "random", "1", DIMENSION)

    def __init__(self) -> None:
        dice = np.random.default_rng(0)
        mixed = dice.standard_normal((4096, 48)) @ dice.standard_normal((48, DIMENSION))
        self._pool = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
        self._next = 0

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """The next vectors of the pool."""
        rows = np.arange(self._next, self._next + len(texts)) % len(self._pool)
        self._next += len(texts)
        return Embeddings(self._pool[rows])


def sentence(dice: np.random.Generator, length: int = 14) -> str:
    """A sentence of words as frequent as words are."""
    return " ".join(WORDS[int(n) % len(WORDS)] for n in dice.zipf(1.3, length))


def interleaved(rounds: int, **runs: Callable[[], object]) -> dict[str, list[float]]:
    """Milliseconds of each run, taken in turn so that all meet the same noise."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append((time.perf_counter() - start) * 1e3)
    return taken


def search_overhead(directory: Path) -> dict[str, list[float]]:
    """``search`` without models against the raw hybrid query on the same shard."""
    dice = np.random.default_rng(1)
    embedder = Random()
    store = MemoryStore.open(directory / "m", embedder=embedder, reranker=None, late=None, keyring=directory / "k.json")
    with store:
        for _ in track(range(MEMORIES // 500), description="adding"):
            store.add([sentence(dice) for _ in range(500)], "alice")
        engine = store._verbs.engine
        shard = engine.index._shard._opened.shard  # type: ignore[attr-defined]
        queries = [sentence(dice, 6) for _ in range(64)]
        tag = qe.FieldCondition("t", match=qe.MatchValue(_tag(store)))
        where = qe.Filter(must=[tag])
        dense = qe.SearchParams(quantization=qe.QuantizationSearchParams(rescore=True, oversampling=3.0))
        sparse = qe.SearchParams(idf=qe.IdfParams(corpus=where))
        vectors = embedder.embed(queries, input_type="query").vectors
        prepared = []
        for query in queries:
            words = sorted(set(terms(query)))
            ids = sparse_vector(_sealer(store), words, [1.0] * len(words))
            prepared.append(qe.SparseVector(indices=ids.indices.tolist(), values=ids.values.tolist()))
        turn = iter(range(10**9))

        def raw() -> object:
            at = next(turn) % len(queries)
            legs = [
                qe.Prefetch(100, qe.Query.Nearest(vectors[at], engine.active.dense), filter=where, params=dense),
                qe.Prefetch(100, qe.Query.Nearest(prepared[at], engine.sparse), filter=where, params=sparse),
            ]
            fusion: Any = qe.Fusion.Rrf(4, [1.0, 2.0])  # the stub does not know that it is a Fusion
            return shard.query(
                qe.QueryRequest(limit=10, query=fusion, prefetches=legs, with_payload=True, with_vector=False)
            )

        def ours() -> object:
            return store.search(queries[next(turn) % len(queries)], "alice", rerank="none", limit=10)

        interleaved(20, raw=raw, ours=ours)
        return interleaved(300, raw=raw, ours=ours)


def _tag(store: MemoryStore) -> str:
    from memory_plugin.crypto.terms import subject_tag

    return subject_tag(store._verbs.engine.store_key, "alice")


def _sealer(store: MemoryStore) -> Sealer:
    return store._verbs.engine._sealers[_tag(store)][1]


class Timed:
    """An embedder that adds up the time spent in it."""

    def __init__(self) -> None:
        self._inner = LocalEmbedder()
        self.identity = self._inner.identity
        self.encoder = self._inner.encoder
        self.tokenizer = self._inner.tokenizer
        self.count = self._inner.count
        self.seconds = 0.0

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Embed, and add up."""
        start = time.perf_counter()
        made = self._inner.embed(texts, input_type=input_type)
        self.seconds += time.perf_counter() - start
        return made


def add_share(directory: Path) -> tuple[float, float]:
    """Share of ``add`` spent in the embedder, and passages a second."""
    dice = np.random.default_rng(2)
    embedder = Timed()
    with MemoryStore.open(directory / "s", embedder=embedder, reranker=None, keyring=directory / "s.json") as store:
        store.add("warm up", "alice")
        embedder.seconds, texts = 0.0, [sentence(dice, 40) for _ in range(512)]
        start = time.perf_counter()
        store.add(texts, "alice")
        total = time.perf_counter() - start
    return embedder.seconds / total, len(texts) / total


def seal_and_open() -> dict[str, list[float]]:
    """Microseconds of sealing and opening 4 KB, in batches of 1,000."""
    sealer = SubjectSealer("store", "subject", [RootKey(b"0000", os.urandom(32))])
    point, data = "00000000-0000-8000-8000-000000000000", os.urandom(4096)
    sealed = sealer.seal(point, "record", data)
    return interleaved(
        20,
        seal=lambda: [sealer.seal(point, "record", data) for _ in range(1000)],
        open=lambda: [sealer.open(point, "record", sealed) for _ in range(1000)],
    )


def process(*command: str, rounds: int = 7) -> list[float]:
    """Wall seconds of a whole process."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    """Measure and print one table."""
    table = Table("what", "measured", "bar")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        taken = search_overhead(directory)
        ratio = statistics.median(taken["ours"]) / statistics.median(taken["raw"])
        table.add_row(
            f"search without models at {MEMORIES:,} memories ÷ raw Edge query",
            f"{ratio:.2f} ({statistics.median(taken['ours']):.2f} ms ÷ {statistics.median(taken['raw']):.2f} ms)",
            "≤ 1.25",
        )
        share, rate = add_share(directory)
        table.add_row("share of add in the embedder", f"{share:.0%} at {rate:.0f} passages/s", "≥ 80 %")
        for what, values in seal_and_open().items():
            table.add_row(
                f"{what} 4 KB", f"{min(values):.1f} µs best, {statistics.median(values):.1f} µs median", "≤ 20 µs"
            )
        empty, full = process("-c", "pass"), process("-c", "import memory_plugin")
        loading = statistics.median(full) - statistics.median(empty)
        table.add_row("import memory_plugin", f"{loading:.2f} s", "< 0.3 s")
        store = ["--store", str(directory / "cli"), "--keys", str(directory / "cli.json"), "-n", "alice"]
        subprocess.run(
            [sys.executable, "-m", "memory_plugin", "add", "-", *store],
            input=b"Alice moved to Lisbon.",
            check=True,
            stdout=subprocess.DEVNULL,
        )
        cold = process("-m", "memory_plugin", "search", "Where is Alice?", *store)
        table.add_row("cold memory-plugin search", f"{statistics.median(cold):.2f} s", "< 1.5 s")
    Console().print(table)


if __name__ == "__main__":
    main()
