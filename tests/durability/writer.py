"""A process that adds and replaces documents until it is killed, saying after each what was acknowledged.

python writer.py DIRECTORY KEYS SEED
"""

from __future__ import annotations

import json
import random
import signal
import sys

from memory_plugin import MemoryStore, Settings
from memory_plugin.testing.doubles import HashEmbedder

SETTINGS = Settings(chunk_tokens=32, staging=6, batch=4)


def text(source: int, version: int, sentences: int) -> str:
    """A document that tells which one it is in every sentence."""
    return " ".join(f"Document {source} version {version} says thing number {n} here." for n in range(sentences))


def main() -> None:
    # Whoever starts the tests in the background makes their children deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    directory, keys, seed = sys.argv[1:]
    dice = random.Random(int(seed))
    parts = {"embedder": HashEmbedder(), "reranker": None, "late": None, "keyring": keys, "settings": SETTINGS}
    with MemoryStore.open(directory, **parts) as store:  # type: ignore[arg-type]
        store.add("loads the tokenizer, which takes longer than an add", "nobody")
        print("ready", flush=True)
        version = int(seed) * 100_000
        while True:
            version += 1
            source, sentences = dice.randrange(8), dice.choice([1, 3, 12, 40])
            subject = dice.choice(["alice", "bob"])
            intent = {"subject": subject, "source": source, "version": version}
            print(json.dumps({"begin": intent}), flush=True)
            store.add(text(source, version, sentences), subject, source=f"s{source}")
            print(json.dumps({"done": intent}), flush=True)


if __name__ == "__main__":
    main()
