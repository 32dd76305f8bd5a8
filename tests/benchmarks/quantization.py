"""What each quantization finds, weighs and takes: ``python -m tests.benchmarks.quantization CORPUS QUERIES``.

The files hold a JSON object a line with a ``text``, gzipped; the first 300 characters of each are embedded by the local
model and turned by a random rotation, as a store keeps them.  Printed for each quantization and oversampling: the share
of the exact best ten in the best ten found, the share of the exact best hundred in the best hundred found (what a
search asks for), the median milliseconds of both, and the bytes of the quantized vectors.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.flow import Blocking, run
from memory_plugin.index import layout
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.index_examples import EVERYTHING, point_id
from memory_plugin.types import InputType, LegQuery, Matrix, Point
from memory_plugin.vectors import QUANTIZATIONS

io = Blocking()
LIMITS = (10, 100)
OVERSAMPLINGS = (1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 20.0)


def embedded(files: Sequence[str], most: int, input_type: InputType) -> Matrix:
    """The first texts of each file as rows."""
    texts: list[str] = []
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["text"][:300] for line in lines][:most]
    embedder = LocalEmbedder()
    batches = [texts[start : start + 32] for start in range(0, len(texts), 32)]
    return np.concatenate([embedder.embed(batch, input_type=input_type).vectors for batch in batches])


def measured(index: EdgeIndex, queries: Matrix, best: list[list[str]], limit: int) -> tuple[float, float]:
    """Share found of the best ``limit``, and the median milliseconds."""
    shares, taken = [], []
    for query, wanted in zip(queries, best, strict=True):
        begin = time.perf_counter()
        (hits,) = run(index.search(io, [LegQuery("d", query, EVERYTHING, limit)]))
        taken.append(time.perf_counter() - begin)
        shares.append(len({hit.id for hit in hits} & set(wanted[:limit])) / limit)
    return statistics.mean(shares), statistics.median(taken) * 1e3


def main(corpora: Sequence[str], questions: Sequence[str], most: int) -> None:
    """Embed, store, and print a line for each."""
    documents, queries = embedded(corpora, most, "document"), embedded(questions, most // 10, "query")
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(documents.shape[1],) * 2))
    documents, queries = (np.ascontiguousarray(rows @ rotation, dtype=np.float32) for rows in (documents, queries))
    best = [[point_id(int(row)) for row in np.argsort(-scores)[: max(LIMITS)]] for scores in queries @ documents.T]
    print(f"{len(documents)} vectors of {documents.shape[1]}, {len(queries)} queries")
    with tempfile.TemporaryDirectory() as directory:
        index = EdgeIndex(Path(directory) / "store", durability="process")
        made = {"dense": {"d": documents.shape[1]}, "sparse": [], "keywords": ["t"], "integers": [], "tenant": "t"}
        run(index.create(io, {}, **made))  # type: ignore[arg-type]
        for start in range(0, len(documents), 100):
            rows = range(start, min(start + 100, len(documents)))
            run(index.upsert(io, [Point(point_id(row), {"t": "a"}, {"d": documents[row]}) for row in rows]))
        for quantization in QUANTIZATIONS:
            begin = time.perf_counter()
            run(index.quantize(io, quantization))
            seconds = time.perf_counter() - begin
            files = [file for file in (Path(directory) / "store").rglob("*") if "quantized" in str(file)]
            quantized = sum(file.stat().st_blocks * 512 for file in files if file.is_file())
            print(f"{quantization}: made in {seconds:.2f} s, {quantized / len(documents):.0f} bytes a vector")
            for oversampling in OVERSAMPLINGS if quantization != "none" else (1.0,):
                layout.OVERSAMPLING[quantization] = oversampling  # type: ignore[index]
                told = [measured(index, queries, best, limit) for limit in LIMITS]
                cells = [f"recall@{n} {share:.4f} in {ms:.2f} ms" for n, (share, ms) in zip(LIMITS, told, strict=True)]
                print(f"  oversampling {oversampling:4.0f}: {', '.join(cells)}")
        run(index.close(io))


if __name__ == "__main__":
    half = len(sys.argv) // 2 + 1
    main(sys.argv[1:half], sys.argv[half:], 2000)
