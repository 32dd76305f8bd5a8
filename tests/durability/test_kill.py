"""kill -9 and Ctrl-C at random moments of ``add``: everything acknowledged is there, nothing is half there."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from memory_plugin import MemoryStore
from tests.durability.forked import KILLS, Runs
from tests.durability.writer import SETTINGS, Words

Key = tuple[str, str]
WRITER = Path(__file__).with_name("writer.py")
ADDS = (0, 1, 2, 3, 5, 8)
"""How many documents a writer has acknowledged before it is stopped, one writer after the other."""


class Told:
    """What a process said: the versions that it began and those that were acknowledged, by document."""

    def __init__(self) -> None:
        self.begun: dict[Key, int] = {}
        self.acknowledged: dict[Key, int] = {}
        self.done = self.under_way = 0

    def hear(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line.endswith("}}"):  # else it was cut off by the kill
                [(word, what)] = json.loads(line).items()
                key = (what["subject"], f"s{what['source']}")
                if word == "done":
                    self.acknowledged[key] = what["version"]
                    self.done += 1
                    self.under_way -= 1
                else:
                    self.begun[key] = what["version"]
                    self.under_way += 1


def write_and_stop(runs: Runs, seed: int, how: signal.Signals, adds: int, after: float) -> Told:
    """Let a writer have ``adds`` documents acknowledged, however long that takes, and stop it a moment later."""
    told = Told()
    runs.start(str(seed))
    while told.done < adds or not told.begun:
        told.hear([runs.line()])
    time.sleep(after)
    runs.stop(how)
    lines, status = runs.rest()
    assert status == -how
    told.hear(lines)
    return told


def check(tmp_path: Path, acknowledged: dict[Key, int], begun: dict[Key, int]) -> dict[Key, int]:
    """Open the store and hold it to what was acknowledged; the version of each document that it has."""
    with MemoryStore.open(
        tmp_path / "m",
        embedder=Words(),
        reranker=None,
        late=None,
        keyring=tmp_path / "k.json",
        settings=SETTINGS,
    ) as store:
        verified = store.verify()
        assert verified.ok, verified.failures
        documents: dict[Key, list[tuple[int, int, int]]] = defaultdict(list)
        for subject in ("alice", "bob"):
            for record in store.list(subject, limit=10_000).records:
                versions = set(re.findall(r"version (\d+)", record.text))
                assert len(versions) == 1, record.text
                documents[subject, str(record.source)].append((int(versions.pop()), record.index, record.chunks))
        assert verified.memories == sum(map(len, documents.values()))
    for key, chunks in documents.items():
        versions_ = {version for version, _, _ in chunks}
        assert len(versions_) == 1, f"{key} is there in versions {versions_}"
        assert sorted(index for _, index, _ in chunks) == list(range(chunks[0][2])), f"{key} is half there"
        assert versions_ <= {acknowledged.get(key), begun.get(key)}
    for key, version in acknowledged.items():
        assert documents[key][0][0] in (version, begun[key]), f"{key} lost version {version}"
    return {key: chunks[0][0] for key, chunks in documents.items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked here")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_nothing_is_lost_or_half_there(tmp_path: Path, how: signal.Signals) -> None:
    dice = random.Random(how)
    acknowledged: dict[Key, int] = {}
    begun: dict[Key, int] = {}
    done = interrupted = 0
    with Runs(WRITER, tmp_path / "m", tmp_path / "k.json") as runs:
        for seed in range(KILLS if how == signal.SIGKILL else max(KILLS // 3, 5)):
            told = write_and_stop(runs, seed, how, ADDS[seed % len(ADDS)], dice.uniform(0.0, 0.03))
            done += told.done
            interrupted += told.under_way
            acknowledged.update(told.acknowledged)
            begun.update(acknowledged)
            begun.update(told.begun)
            # What was found once may not be lost either, whether it was acknowledged or not.
            acknowledged = check(tmp_path, acknowledged, begun)
    # Each writer got as far as was asked, however busy the machine is, and some were stopped in the middle of an add.
    assert done >= sum(ADDS[:5])
    assert interrupted >= 1
