"""Builds real embedded stores and holds them against what ``memory_plugin.plan`` says of them.

    python -m scripts.check_sizing --memories 20000 --dimension 384 --dimension 1024 --quantization turbo4

Vectors and texts are random: their sizes are what counts.  Memory is what a fresh process that opens the store and
searches it has more of its own than before (Linux), files' pages left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from memory_plugin import MemoryStore, Settings
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.lexical import terms
from memory_plugin.plan import Choice, Load, Plan, plan
from memory_plugin.types import Embeddings, InputType, ModelIdentity, Quantization
from memory_plugin.vectors import QUANTIZATIONS

WORDS_A_SUBJECT = 20_000
SYLLABLES = [consonant + vowel for consonant in "bdgklmn" for vowel in "aeio"]


class RandomVectors:
    """Random unit vectors; of local size, of no meaning."""

    leaves_machine = False

    def __init__(self, dimension: int) -> None:
        self.identity = ModelIdentity("testing", "random", "1", dimension)
        self._random = np.random.default_rng(dimension)

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """One a text."""
        shape = len(texts), self.identity.dimension
        return Embeddings(self._random.standard_normal(shape, dtype=np.float32))


@dataclass(frozen=True, slots=True)
class Built:
    """A store that was made, and what was expected of it."""

    load: Load
    choice: Choice
    plan: Plan
    disk: Counter[str]
    seconds: float

    @property
    def disk_bytes(self) -> int:
        """Of all its files but the log."""
        return sum(size for name, size in self.disk.items() if name != "log")


def build(
    where: Path,
    memories: int,
    dimension: int,
    quantization: Quantization,
    *,
    subjects: int = 4,
    words: int = 30,
    fields: int = 0,
    depth: int = 1,
) -> Built:
    """Make a store of random memories and measure its files once it is closed.

    Args:
        where: An empty directory.
        memories: How many.
        dimension: Of the vectors.
        quantization: Of the vectors.
        subjects: Data subjects.
        words: Of a memory, on average.
        fields: Filterable fields, each with a value in every memory.
        depth: Parts of a namespace.
    """
    choose = random.Random(memories)
    vocabulary = ["".join(choose.choices(SYLLABLES, k=3)) for _ in range(WORDS_A_SUBJECT)]
    names = tuple(f"field{number}" for number in range(fields))
    settings = Settings(late_interaction=False, filterable=names, quantization=quantization, batch=256)
    index = EdgeIndex(where / "store", durability="process")
    text = postings = distinct = 0
    start = time.perf_counter()
    with MemoryStore(
        index,
        RandomVectors(dimension),
        late=None,
        reranker=None,
        keyring=where / "keys.json",
        settings=settings,
    ) as store:
        for subject in range(subjects):
            seen: set[str] = set()
            for begin in range(0, memories // subjects, 1000):
                size = min(1000, memories // subjects - begin)
                made = [
                    " ".join(choose.choices(vocabulary, k=choose.randint(words // 2, words + words // 2)))
                    for _ in range(size)
                ]
                text += sum(map(len, made))
                words_of = [set(terms(one)) for one in made]
                postings += sum(map(len, words_of))
                seen.update(*words_of)
                space = (f"subject {subject}", *(f"part {part}" for part in range(1, depth)))
                store.add(made, space, metadata=dict.fromkeys(names, f"value {begin}"))
            distinct += len(seen)
        run(index.settle(Blocking()))
        kept = sum(store.count(f"subject {subject}") for subject in range(subjects))
    load = Load(
        kept,
        subjects,
        metadata=22 * fields + 8,
        fields=fields,
        depth=depth,
        terms=postings / kept,
        text=text / kept,
        distinct=distinct / subjects,
    )
    choice = Choice("testing", dimension, quantization, late=False)
    return Built(load, choice, plan(load, choice), files(where), time.perf_counter() - start)


def files(where: Path) -> Counter[str]:
    """Bytes allocated below a directory, by what they hold in the words of a plan."""
    found: Counter[str] = Counter()
    for folder, _, names in os.walk(where):
        for name in names:
            path = Path(folder, name)
            found[_kind(path.relative_to(where).as_posix())] += path.lstat().st_blocks * 512
    return found


def _kind(path: str) -> str:
    kinds = (
        (r"/wal/", "log"),
        (r"keys\.json", "key file"),
        (r"/vector_storage-d_[^/]*/quantized", "quantized vectors"),
        (r"/vector_storage-d_", "vectors"),
        (r"/vector_storage-s_", "term weights"),
        (r"/vector_index-s_", "lexical index"),
        (r"/payload_storage/", "payload"),
    )
    return next((kind for pattern, kind in kinds if re.search(pattern, path)), "indexes and ids")


def resident(where: Path, built: Built) -> int:
    """Bytes of memory that a process takes for opening the store and searching it."""
    subjects = json.dumps([f"subject {number}" for number in range(built.load.subjects)])
    command = [
        sys.executable,
        "-m",
        "scripts.check_sizing",
        "--look",
        str(where),
        str(built.choice.dimension),
        subjects,
    ]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout)


def _look(where: Path, dimension: int, subjects: Sequence[str]) -> int:
    before = _pages()
    with MemoryStore.open(
        where / "store", embedder=RandomVectors(dimension), late=None, reranker=None, keyring=where / "keys.json"
    ) as store:
        for number in range(200):
            store.search(f"word {number}", subjects[number % len(subjects)], legs="dense")
        return _pages() - before


def _pages() -> int:
    """Bytes of the process's own pages; those of files can be dropped."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memories", type=int, default=5000)
    parser.add_argument("--dimension", type=int, action="append")
    parser.add_argument("--quantization", choices=QUANTIZATIONS, action="append")
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--words", type=int, default=30)
    parser.add_argument("--fields", type=int, default=0)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--look", nargs=3, metavar=("WHERE", "DIMENSION", "SUBJECTS"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.look:
        print(_look(Path(given.look[0]), int(given.look[1]), json.loads(given.look[2])))
        return
    columns = "memories dimension quantization | disk measured planned ratio | heap measured planned ratio | seconds"
    print(columns)
    for dimension in given.dimension or (384,):
        for quantization in given.quantization or QUANTIZATIONS:
            with tempfile.TemporaryDirectory(prefix="sizing-") as place:
                where = Path(place)
                built = build(
                    where,
                    given.memories,
                    dimension,
                    cast("Quantization", quantization),
                    subjects=given.subjects,
                    words=given.words,
                    fields=given.fields,
                    depth=given.depth,
                )
                heap = resident(where, built)
            planned_heap = built.plan.memory_bytes - sum(
                built.plan.memory.get(name, 0) for name in ("vectors", "quantized vectors")
            )
            print(
                built.load.memories,
                dimension,
                quantization,
                "|",
                f"{built.disk_bytes:,} {built.plan.disk_bytes:,} {built.plan.disk_bytes / built.disk_bytes:.3f}",
                "|",
                f"{heap:,} {planned_heap:,} {planned_heap / heap:.3f}",
                "|",
                f"{built.seconds:.0f}",
                flush=True,
            )
            print("   measured", dict(built.disk))
            print("   planned ", dict(built.plan.disk))


if __name__ == "__main__":
    main()
