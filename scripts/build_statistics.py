"""Counts the statistics that late interaction ships with: numbers only, no text.

    python -m scripts.build_statistics --data DIR

``DIR/train/*/corpus.jsonl.gz`` hold one JSON object with a ``text`` a line.  Written to ``statistics.npz`` beside the
model, which must be there already:

* ``mean``: the mean token vector, shape (384,), float32, over all tokens of some 600 texts;
* ``document_frequency``: in how many texts each word piece occurs, shape (30522,), uint16;
* ``texts``: in how many it was counted.

Every data set has the same share of both samples, as far as it has enough texts; the seed is fixed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import random
from pathlib import Path

import numpy as np

from memory_plugin.models.runtime import DIMENSION, VOCABULARY, WINDOW, load, windows

SEED = 20240229
COUNTED, AVERAGED = 16_000, 600


def read_texts(corpus: Path) -> list[str]:
    with gzip.open(corpus, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def share_out(total: int, sizes: list[int]) -> list[int]:
    """Equal shares of a total; what a small one cannot take goes to the others."""
    shares = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    for left, index in zip(range(len(order), 0, -1), order, strict=True):
        shares[index] = min(sizes[index], (total - sum(shares)) // left)
    return shares


def sample(corpora: list[list[str]], total: int) -> list[str]:
    chooser = random.Random(SEED)
    shares = share_out(total, [len(corpus) for corpus in corpora])
    return [text for corpus, share in zip(corpora, shares, strict=True) for text in chooser.sample(corpus, share)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the statistics that late interaction ships with.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds train/*/corpus.jsonl.gz")
    parser.add_argument("--out", type=Path, default=Path("memory_plugin/models/minilm/statistics.npz"))
    arguments = parser.parse_args()
    paths = sorted(arguments.data.glob("train/*/corpus.jsonl.gz"))
    if not paths:
        raise SystemExit(f"{arguments.data}: no train/*/corpus.jsonl.gz in it")
    corpora = [read_texts(path) for path in paths]
    model = load()

    frequency = np.zeros(VOCABULARY, np.uint16)
    counted = sample(corpora, COUNTED)
    for text in counted:
        frequency[np.unique(model.pieces(text)[:WINDOW])] += 1

    total, tokens = np.zeros(DIMENSION), 0
    for text in sample(corpora, AVERAGED):
        vectors = model.encode(windows(model.pieces(text))[0]).tokens.vectors
        total, tokens = total + vectors.sum(axis=0, dtype=np.float64), tokens + len(vectors)

    mean = (total / tokens).astype(np.float32)
    np.savez_compressed(arguments.out, mean=mean, document_frequency=frequency, texts=np.uint32(len(counted)))
    digest = hashlib.sha256(arguments.out.read_bytes()).hexdigest()
    print(f"{arguments.out}: {len(counted)} texts counted, {tokens} tokens averaged, sha256 {digest}")


if __name__ == "__main__":
    main()
