"""Several processes on one key file, and one that is killed while it writes."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

from memory_plugin.crypto.keyring import FileKeyRing
from tests.crypto.helpers import finish, start_python

CREATE = """
import sys, time
from memory_plugin.crypto.keyring import FileKeyRing
path, number, start = sys.argv[1], sys.argv[2], float(sys.argv[3])
time.sleep(max(0, start - time.time()))
ring = FileKeyRing(path, store_id="store")
for subject in ["", "shared"] + [f"{number}-{turn}" for turn in range(12)]:
    (key,) = ring.keys(subject, create=True)
    print(subject + "=" + key.derive("record").hex())
"""

CHURN = """
import sys
from memory_plugin.crypto.keyring import FileKeyRing
ring = FileKeyRing(sys.argv[1], store_id="store")
for turn in range(100_000):
    ring.keys(f"{sys.argv[2]}-{turn}", create=True)
    print(turn, flush=True)
    if turn % 5 == 4:
        ring.destroy(f"{sys.argv[2]}-{turn}")
"""


def test_eight_processes_create_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    start = str(time.time() + 2)
    children = [start_python(CREATE, path, str(number), start) for number in range(8)]
    seen: dict[str, set[str]] = {}
    for child in children:
        for line in finish(child).splitlines():
            subject, derived = line.split("=")
            seen.setdefault(subject, set()).add(derived)
    assert len(seen) == 2 + 8 * 12
    ring = FileKeyRing(path, store_id="store")
    for subject, derived_keys in seen.items():
        (derived,) = derived_keys  # every process was given the same
        (key,) = ring.keys(subject, create=False)
        assert key.derive("record").hex() == derived


@pytest.mark.parametrize("round_", range(8))
def test_a_killed_writer_leaves_the_old_file_or_the_new(round_: int, tmp_path: Path) -> None:
    rng = random.Random(round_)
    path = tmp_path / "keys.json"
    ring = FileKeyRing(path, store_id="store")
    before = ring.keys("before", create=True)[0].derive("record")
    child = start_python(CHURN, path, str(round_))
    assert child.stdout is not None
    assert child.stdout.readline() == "0\n"
    time.sleep(rng.random() * 0.2)
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate(timeout=60)
    acknowledged = len(rest.splitlines()) + 1
    assert json.loads(path.read_bytes())["store"] == "store"
    for fresh in (ring, FileKeyRing(path, store_id="store")):
        assert fresh.keys("before", create=False)[0].derive("record") == before
        for turn in range(acknowledged):
            if turn % 5 != 4:
                assert len(fresh.keys(f"{round_}-{turn}", create=False)) == 1
    ring.keys("after", create=True)  # the lock died with its owner
    assert sorted(file.name for file in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]
