"""A migration of 20,000 memories under load: ``python -m tests.benchmarks.migration [MEMORIES]``.

Two readers and a writer go on all the while.  Printed: memories filled a second, the readers' median and 95th
percentile before, during each step and after, and how many searches failed or mixed two models' spaces.  The models are
hashed words at 384 and 512 dimensions, with half a millisecond a text added, as a model on an accelerator would take.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from memory_plugin import MemoryStore
from memory_plugin.engine.migration import MigrationProgress
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType

MEMORIES = 20_000
PAUSE = 0.01
SUBJECTS = ("alice", "bob")


class Model(HashEmbedder):
    """Hashed words; texts take time, as they would on an accelerator, and the interpreter is free meanwhile."""

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """Embed."""
        time.sleep(0.0005 * len(texts))
        self.texts.clear()
        return super().embed(texts, input_type=input_type)


def sentence(number: int) -> str:
    """Fourteen words, some of which are frequent."""
    dice = np.random.default_rng(number)
    return " ".join(f"w{int(word)}" for word in np.minimum(dice.zipf(1.3, 14), 50_000))


@dataclass
class Load:
    """What readers and the writer saw."""

    store: MemoryStore
    memories: int
    stop: threading.Event = field(default_factory=threading.Event)
    step: str = "before"
    taken: list[tuple[str, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    mixed: int = 0
    written: int = 0

    def read(self, seed: int) -> None:
        """Search for what is there."""
        dice = np.random.default_rng(seed)
        while not self.stop.is_set():
            number = int(dice.integers(self.memories))
            step, start = self.step, time.perf_counter()
            try:
                hits = self.store.search(sentence(number), SUBJECTS[number % 2], limit=10, rerank="none")
                self.mixed += len({hit.space for hit in hits}) != 1
                if not hits:
                    self.failed.append(f"nothing was found for memory {number}")
            except Exception as error:  # noqa: BLE001 - counted, and shown
                self.failed.append(f"{type(error).__name__}: {error}")
            self.taken.append((step, time.perf_counter() - start))
            time.sleep(PAUSE)

    def write(self) -> None:
        """Add."""
        while not self.stop.is_set():
            self.store.add(f"{sentence(10**6 + self.written)} written under load", SUBJECTS[self.written % 2])
            self.written += 1
            time.sleep(2 * PAUSE)

    def now(self, step: str) -> None:
        """Book what begins from now on under another step."""
        self.step = step


def main() -> None:
    """Measure and print."""
    memories = int(sys.argv[1]) if len(sys.argv) > 1 else MEMORIES
    with tempfile.TemporaryDirectory() as name:
        old, new = Model(384), Model(512, revision="2")
        keys = Path(name) / "k.json"
        with MemoryStore.open(Path(name) / "m", embedder=old, reranker=None, late=None, keyring=keys) as store:
            for first in track(range(0, memories, 500), description="adding"):
                for offset, who in enumerate(SUBJECTS):
                    store.add([sentence(number) for number in range(first + offset, first + 500, 2)], who)
            load = Load(store, memories)
            threads = [threading.Thread(target=load.read, args=(seed,)) for seed in (1, 2)]
            threads.append(threading.Thread(target=load.write))
            for thread in threads:
                thread.start()
            table, seconds = _under(load, new), load.taken
        Console().print(table)
        whole = len(seconds)
        Console().print(f"{whole:,} searches, {load.written:,} writes; failed {len(load.failed)}, mixed {load.mixed}")
        for why in load.failed[:5]:
            Console().print(why)


def _under(load: Load, new: Model) -> Table:
    store = load.store
    time.sleep(8)
    load.now("begin")

    def tell(at: MigrationProgress) -> None:
        load.now("filling" if at.done < at.total else "gate and switch")

    start = time.perf_counter()
    done = store.migrate(new, progress=tell)
    total = time.perf_counter() - start
    load.now("after the switch")
    time.sleep(8)
    load.now("rollback, twice")
    at = time.perf_counter()
    store.rollback()
    back = time.perf_counter() - at
    store.rollback()
    load.now("finish")
    at = time.perf_counter()
    store.finish()
    finished = time.perf_counter() - at
    load.now("after it")
    time.sleep(8)
    load.stop.set()
    time.sleep(0.5)
    table = Table("readers while", "searches", "median ms", "95 % ms", "longest ms")
    for step in dict.fromkeys(step for step, _ in load.taken):
        taken = np.array([one for name, one in load.taken if name == step]) * 1e3
        low, high = np.percentile(taken, [50, 95])
        table.add_row(step, f"{len(taken):,}", f"{low:.1f}", f"{high:.1f}", f"{taken.max():.0f}")
    figures = "; ".join(f"{figure.name} {figure.value:.3f}" for figure in (done.gate.figures if done.gate else ()))
    table.caption = (
        f"{done.embedded:,} of {done.memories:,} memories filled, {done.embedded / total:.0f}/s over {total:.0f} s; "
        f"rollback {back * 1e3:.0f} ms; finish {finished:.1f} s; {figures}; verified: {store.verify().ok}"
    )
    return table


if __name__ == "__main__":
    main()
