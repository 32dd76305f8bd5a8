"""Processes that migrate a store from model to model until they are killed.

python migrator.py DIRECTORY KEYS LOG, with "go" on a line of the input for each, or "last" for one that finishes.

It says "ready" when the store is open; the log, which it appends to, has one
line for each thing that was done, in order: RUN, BEGIN revision, GATE, SWITCHED, BACK, FINISHED, what was embedded
("revision<tab>text"), and "DONE number" for each memory that was acknowledged.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from memory_plugin import MemoryStore, Settings
from memory_plugin.engine.canaries import PROBES
from memory_plugin.engine.migration import MigrationProgress
from memory_plugin.errors import MigrationError
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.manifest import Manifest
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType
from tests.durability.forked import serve
from tests.wordpiece import pieces

SUBJECTS = ("alice", "bob", "carol")
MEMORIES = 40
BATCH = 8
SETTINGS = Settings(chunk_tokens=96, staging=6, batch=4)


def text(who: str, number: int) -> str:
    """A memory that is told from every other by its words."""
    return f"{who} remembers thing{number} of kind{number % 7} and place{number * 31 % 101}"


class Log:
    """Appends whole lines."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def __call__(self, *lines: str) -> None:
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())


class Logged(HashEmbedder):
    """Says what it embeds."""

    def __init__(self, revision: str, log: Log) -> None:
        super().__init__(128, revision=revision)
        self._log = log
        self.tokenizer, self.count = pieces().tokenizer, pieces().count

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        """As slow as a quick model."""
        if input_type == "document" and tuple(texts) != PROBES:
            self._log(*(f"{self.identity.revision}\t{one}" for one in texts))
            time.sleep(0.0005 * len(texts))
        return super().embed(texts, input_type=input_type)


def opened(directory: str, keys: str, log: Log) -> tuple[MemoryStore, str | None]:
    """The store, and the revision of the model that is being migrated to."""
    index = EdgeIndex(directory)
    found = run(index.read_manifest(Blocking()))
    if found is None:
        first = Logged("0", log)
        store = MemoryStore(index, first, reranker=None, late=None, keyring=keys, settings=SETTINGS)
        for who in SUBJECTS:
            store.add([text(who, number) for number in range(MEMORIES)], who)
        return store, None
    manifest = Manifest.from_json(found)
    active = Logged(manifest.spaces[manifest.active].revision, log)
    other = None if manifest.other is None else Logged(manifest.spaces[manifest.other].revision, log)
    store = MemoryStore(index, active, reranker=None, late=None, keyring=keys, settings=SETTINGS, successor=other)
    return store, None if manifest.target is None else manifest.spaces[manifest.target].revision


def write(store: MemoryStore, log: Log, first: int) -> None:
    """Add memories for ever, sometimes long ones."""
    number = first
    while True:
        number += 1
        words = " ".join(text("dave", number * 100 + part) for part in range(20 if number % 6 == 0 else 1))
        store.add(f"D{number} " + words, "dave", source=f"D{number}")
        log(f"DONE {number}")
        time.sleep(0.01)


def migrate(directory: str, keys: str, path: str, *, last: bool) -> None:
    """Go on with what there is, then from model to model; ``last``: until the next is finished."""
    log = Log(path)
    dice = random.Random()
    store, target = opened(directory, keys, log)
    verified = store.verify()
    assert verified.ok, verified.failures
    log("RUN")
    if not last:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        done = [int(line[5:]) for line in lines if line.startswith("DONE ")]
        begun = max([*done, *(int(line.split("\tD")[1].split()[0]) for line in lines if "\tD" in line)], default=0)
        threading.Thread(target=write, args=(store, log, begun), daemon=True).start()
    print("ready", flush=True)
    while True:
        pending = store.migration()
        if pending is not None and pending.state == "switched":
            log("FINISHING")
            store.finish()
            log("FINISHED")
        if target is None:
            target = str(time.time_ns())
            log(f"BEGIN {target}")

        def tell(at: MigrationProgress) -> None:
            if at.done == at.total:
                log("GATE")

        try:
            store.migrate(Logged(target, log), batch=BATCH, progress=tell)
        except MigrationError as refused:  # as a user would: it serves as before, so try again
            log(f"REFUSED {str(refused).partition(' It serves')[0]}".replace("\n", " "))
            continue
        log("SWITCHED")
        target = None
        if dice.random() < 0.5:
            store.rollback()
            log("BACK")
            store.rollback()
        if last:
            store.finish()
            assert store.verify().ok
            store.close()
            return


def main() -> None:
    directory, keys, path = sys.argv[1:]
    pieces().count("loaded once, before the first fork")
    serve(lambda line: migrate(directory, keys, path, last=line == "last"))


if __name__ == "__main__":
    main()
