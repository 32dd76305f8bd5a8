"""Bring any function as an embedder: an identity, and one method.  Write ``async def`` if it awaits.

The toy here hashes the letter triples of a text, so that texts that share words are near.  It is no model:
it shows the protocol, and that a store refuses vectors of another space.
"""

from __future__ import annotations

import math
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from memory_plugin import ManifestMismatchError, MemoryStore, ModelIdentity


class Triples:
    """Letter triples, hashed into ``dimension`` buckets."""

    def __init__(self, dimension: int = 256, revision: str = "1") -> None:
        # Everything that decides what the vectors are.  Another revision is another space, and the two never mix.
        self.identity = ModelIdentity("example", "letter-triples", revision, dimension)

    def embed(self, texts: Sequence[str], /, *, input_type: str) -> list[list[float]]:
        """One vector a text, in input order; ``input_type`` is "query" or "document"."""
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        vector = [0.0] * self.identity.dimension
        padded = f"  {text.lower()} "
        for start in range(len(padded) - 2):
            vector[zlib.crc32(padded[start : start + 3].encode()) % len(vector)] += 1.0
        length = math.hypot(*vector)
        return [number / length for number in vector]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        place, keys = Path(name, "memory"), Path(name, "keys.json")
        with MemoryStore.open(place, embedder=Triples(), keyring=keys) as store:
            store.add(["The cat sleeps on the sofa.", "Interest rates rose by a quarter point."], "alice")
            for query in ("sleeping cats", "the rate of interest"):
                (hit,) = store.search(query, "alice", limit=1, legs="dense", rerank="none")
                print(f"{query:22} {hit.text:42} {hit.stages['dense'].score:.2f}  space {hit.space}")
        try:
            MemoryStore.open(place, embedder=Triples(revision="2"), keyring=keys)
        except ManifestMismatchError as error:
            print(f"\nAnother revision is refused:\n{error}")


if __name__ == "__main__":
    main()
