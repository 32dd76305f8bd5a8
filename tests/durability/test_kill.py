"""kill -9 and Ctrl-C at random moments of ``add``: everything acknowledged is there, nothing is half there."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from memory_plugin import MemoryStore
from memory_plugin.testing.doubles import HashEmbedder
from tests.durability.writer import SETTINGS

Key = tuple[str, str]
WRITER = Path(__file__).with_name("writer.py")


def run_and_stop(tmp_path: Path, seed: int, how: signal.Signals, after: float) -> tuple[dict[Key, int], dict[Key, int]]:
    """Start a writer, stop it a moment after it is ready; versions acknowledged and versions begun."""
    command = [sys.executable, str(WRITER), str(tmp_path / "m"), str(tmp_path / "k.json"), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        time.sleep(after)
        process.send_signal(how)
        output = process.stdout.read()  # to its end: communicate() would miss what readline() has buffered
    acknowledged: dict[Key, int] = {}
    begun: dict[Key, int] = {}
    for line in output.splitlines():
        if not line.endswith("}}"):
            continue  # cut off by the kill
        [(word, what)] = json.loads(line).items()
        key = (what["subject"], f"s{what['source']}")
        (acknowledged if word == "done" else begun)[key] = what["version"]
    return acknowledged, begun


def check(tmp_path: Path, acknowledged: dict[Key, int], begun: dict[Key, int]) -> dict[Key, int]:
    """Open the store and hold it to what was acknowledged; the version of each document that it has."""
    with MemoryStore.open(
        tmp_path / "m",
        embedder=HashEmbedder(),
        reranker=None,
        late=None,
        keyring=tmp_path / "k.json",
        settings=SETTINGS,
    ) as store:
        verified = store.verify()
        assert verified.ok, verified.failures
        documents: dict[Key, list[tuple[int, int, int]]] = defaultdict(list)
        for subject in ("alice", "bob", "nobody"):
            for record in store.list(subject, limit=10_000).records:
                versions = set(re.findall(r"version (\d+)", record.text)) or {"0"}
                assert len(versions) == 1, record.text
                documents[subject, str(record.source)].append((int(versions.pop()), record.index, record.chunks))
        assert verified.memories == sum(map(len, documents.values()))
    documents.pop(("nobody", "None"), None)
    for key, chunks in documents.items():
        versions_ = {version for version, _, _ in chunks}
        assert len(versions_) == 1, f"{key} is there in versions {versions_}"
        assert sorted(index for _, index, _ in chunks) == list(range(chunks[0][2])), f"{key} is half there"
        assert versions_ <= {acknowledged.get(key), begun.get(key)}
    for key, version in acknowledged.items():
        assert documents[key][0][0] in (version, begun[key]), f"{key} lost version {version}"
    return {key: chunks[0][0] for key, chunks in documents.items()}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("how", "times"), [(signal.SIGKILL, 50), (signal.SIGINT, 10)])
def test_nothing_is_lost_or_half_there(tmp_path: Path, how: signal.Signals, times: int) -> None:
    dice = random.Random(how)
    acknowledged: dict[Key, int] = {}
    begun: dict[Key, int] = {}
    for seed in range(times):
        done, started = run_and_stop(tmp_path, seed, how, dice.uniform(0.0, 0.4))
        acknowledged.update(done)
        begun.update(acknowledged)
        begun.update(started)
        # What was found once may not be lost either, whether it was acknowledged or not.
        acknowledged = check(tmp_path, acknowledged, begun)
    assert len(acknowledged) >= 8
