"""Processes that add and replace documents until they are stopped, saying after each what was acknowledged.

python writer.py DIRECTORY KEYS, with a seed on a line of the input for each process.
"""

from __future__ import annotations

import json
import random
import signal
import sys

from memory_plugin import MemoryStore, Settings
from memory_plugin.testing.doubles import HashEmbedder
from tests.durability.forked import serve
from tests.wordpiece import pieces

SETTINGS = Settings(chunk_tokens=96, staging=6, batch=4)


class Words(HashEmbedder):
    """Hashed words, cut by a tokenizer that is there at once."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer, self.count = pieces().tokenizer, pieces().count


def text(source: int, version: int, sentences: int) -> str:
    """A document that tells which one it is in every sentence."""
    return " ".join(f"Document {source} version {version} says thing number {n} here." for n in range(sentences))


def write(directory: str, keys: str, seed: int) -> None:
    """Add and replace, for ever."""
    dice = random.Random(seed)
    with MemoryStore.open(
        directory, embedder=Words(), reranker=None, late=None, keyring=keys, settings=SETTINGS
    ) as store:
        version = seed * 100_000
        while True:
            version += 1
            source, sentences = dice.randrange(8), dice.choice([1, 3, 12, 40])
            subject = dice.choice(["alice", "bob"])
            intent = {"subject": subject, "source": source, "version": version}
            print(json.dumps({"begin": intent}), flush=True)
            store.add(text(source, version, sentences), subject, source=f"s{source}")
            print(json.dumps({"done": intent}), flush=True)


def main() -> None:
    # Whoever starts the tests in the background makes their children deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    directory, keys = sys.argv[1:]
    pieces().count("loaded once, before the first fork")
    serve(lambda line: write(directory, keys, int(line)))


if __name__ == "__main__":
    main()
