"""A cache's file: bounded, shared by processes, whole after a kill, passed over on a full disk, and telling nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.cache import CachedEmbedder
from memory_plugin.cache.file import CacheFile
from memory_plugin.testing.doubles import HashEmbedder

KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite"


def names(*numbers: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in numbers]


def test_the_least_recently_used_goes_first(path: Path) -> None:
    file = CacheFile(path, 2**18)
    value = os.urandom(4000)
    for number in range(40):
        file.put({names(number)[0]: value}, names(0))  # the first is used again and again
    for number in range(40, 80):
        file.put({names(number)[0]: value}, names(0))
    kept = set(file.get(names(*range(80))))
    assert names(0)[0] in kept
    assert names(79)[0] in kept
    assert not kept & set(names(*range(1, 20)))
    assert len(kept) >= 40
    file.close()


def test_it_does_not_outgrow_its_limit(path: Path) -> None:
    limit = 2**19
    cached: Any = CachedEmbedder(HashEmbedder(dimension=1024), path, key=KEY, max_bytes=limit)
    for start in range(0, 1000, 50):
        cached.embed([f"text {number}" for number in range(start, start + 50)], input_type="document")
    cached.close()
    assert path.stat().st_size <= 1.25 * limit
    assert path.stat().st_size > 0.5 * limit
    assert cached.counts.failures == 0
    again: Any = CachedEmbedder(HashEmbedder(dimension=1024), path, key=KEY, max_bytes=limit)
    again.embed([f"text {number}" for number in range(990, 1000)], input_type="document")
    assert again.counts.hits == 10


def test_what_is_larger_than_the_file_may_be_is_left_out(path: Path) -> None:
    file = CacheFile(path, 2**16)
    file.put({names(1)[0]: os.urandom(2**17), names(2)[0]: b"small"}, ())
    assert set(file.get(names(1, 2))) == set(names(2))
    file.close()


def test_clearing_leaves_nothing(path: Path) -> None:
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    cached.embed([f"text {number}" for number in range(200)], input_type="document")
    cached.clear()
    cached.close()
    assert path.stat().st_size < 20_000
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("make", ["CREATE TABLE mine (a)", "PRAGMA user_version = 9"])
def test_another_database_is_left_alone(path: Path, make: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE entries (name, sealed, used)")
        connection.execute(make)
    connection.close()
    before = path.read_bytes()
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    assert len(cached.embed(["a"], input_type="query").vectors) == 1
    assert cached.counts.failures == 2
    assert path.read_bytes() == before


def test_a_damaged_file_is_passed_over(path: Path) -> None:
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    cached.embed([f"text {number}" for number in range(200)], input_type="document")
    cached.close()
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    again: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    expected = HashEmbedder().embed(["text 7"], input_type="document").vectors
    assert (again.embed(["text 7"], input_type="document").vectors == expected).all()
    assert again.counts.failures


def test_a_disk_that_is_full_is_no_error(tmp_path: Path, path: Path) -> None:
    """A limit on the size of files stands for it: SQLite is told the same."""
    script = f"""
import resource, signal
from memory_plugin.cache import CachedEmbedder
from memory_plugin.testing.doubles import HashEmbedder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
cached = CachedEmbedder(HashEmbedder(dimension=512), {str(path)!r}, key=bytes(range(32)))
cached.embed(["first"], input_type="document")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for start in range(0, 400, 20):
    made = cached.embed([f"text {{number}}" for number in range(start, start + 20)], input_type="document")
    assert made.vectors.shape == (20, 512)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
again = cached.embed(["first", "text 399"], input_type="document")
assert cached.counts.failures >= 1, cached.counts
assert cached.counts.hits >= 1, cached.counts
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "fine", done.stderr
    assert done.stderr.count("is passed over") == 1


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    cached: Any = CachedEmbedder(HashEmbedder(), tmp_path / "file" / "cache.sqlite", key=KEY)
    assert len(cached.embed(["a"], input_type="query").vectors) == 1
    assert cached.counts.failures == 2


WRITER = """
import sys
from memory_plugin.cache import CachedEmbedder
from memory_plugin.testing.doubles import HashEmbedder
path, first = sys.argv[1], int(sys.argv[2])
cached = CachedEmbedder(HashEmbedder(), path, key=bytes(range(32)))
expected = HashEmbedder()
print("ready", flush=True)
for round in range(first, first + 60):
    texts = [f"text {number}" for number in range(round, round + 10)]
    made = cached.embed(texts, input_type="document").vectors
    assert (made == expected.embed(texts, input_type="document").vectors).all()
assert cached.counts.failures == 0, cached.counts
assert cached.counts.refused == 0, cached.counts
print("fine", flush=True)
"""


def started(path: Path, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(first)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_share_it(path: Path) -> None:
    running = [started(path, first) for first in (0, 10, 20, 30)]
    for one in running:
        out, errors = one.communicate(timeout=120)
        assert out.split() == ["ready", "fine"], errors
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    cached.embed([f"text {number}" for number in range(98)], input_type="document")
    assert cached.counts.hits == 98


def test_a_killed_process_leaves_it_whole(path: Path) -> None:
    for pause in (0.0, 0.02, 0.05, 0.1):
        one = started(path, 0)
        assert one.stdout is not None
        assert one.stdout.readline().strip() == "ready"
        time.sleep(pause)
        one.send_signal(signal.SIGKILL)
        one.communicate(timeout=60)
    cached: Any = CachedEmbedder(HashEmbedder(), path, key=KEY)
    texts = [f"text {number}" for number in range(70)]
    made = cached.embed(texts, input_type="document").vectors
    assert (made == HashEmbedder().embed(texts, input_type="document").vectors).all()
    assert (cached.counts.failures, cached.counts.refused) == (0, 0)


def test_a_forked_child_and_its_parent_go_on(path: Path) -> None:
    script = f"""
import os, warnings
warnings.simplefilter("ignore")
from memory_plugin.cache import CachedEmbedder
from memory_plugin.testing.doubles import HashEmbedder
cached = CachedEmbedder(HashEmbedder(), {str(path)!r}, key=bytes(range(32)))
cached.embed(["one", "two"], input_type="document")
child = os.fork()
if child == 0:
    cached.embed(["one", "three"], input_type="document")
    os._exit(0 if cached.counts.hits == 1 and cached.counts.failures == 0 else 1)
assert os.waitpid(child, 0)[1] == 0
cached.embed(["one", "two", "three"], input_type="document")
assert cached.counts.hits == 3, cached.counts
assert cached.counts.failures == 0, cached.counts
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "fine", done.stderr
