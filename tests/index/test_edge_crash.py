"""What a killed process, a torn log or a half made store leave behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import pytest

from memory_plugin.errors import IndexUnavailableError, InvalidInputError, ManifestMismatchError
from memory_plugin.flow import Blocking, run
from memory_plugin.index import edge_files
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.index.edge_shard import Durability
from memory_plugin.testing.index_examples import DIMENSION, EVERYTHING, MANIFEST, create, example, filled, point_id
from memory_plugin.types import AnyOf, LegQuery

io = Blocking()
Script = Callable[..., "Popen[str]"]

WRITER = """
import random
index = EdgeIndex(sys.argv[1])
batch, rng = int(sys.argv[2]), random.Random(int(sys.argv[2]))
while True:
    size = rng.randint(1, 64)
    start = batch * 100
    say("begin", batch, size)
    run(index.upsert(io, [example(start + i, batch=str(batch), t=f"b{batch}") for i in range(size)]))
    say("wrote", batch)
    if batch % 5 == 4:
        run(index.delete(io, AnyOf("t", (f"b{batch - 3}",))))
        say("deleted", batch - 3)
        run(index.set_payload(io, {"m": 1_000_000 + batch}, where=AnyOf("t", (f"b{batch - 2}",))))
        say("marked", batch - 2, 1_000_000 + batch)
    batch += 1
"""


@dataclass
class Told:
    """What the writer said before it was killed."""

    sizes: dict[int, int] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    marked: dict[int, int] = field(default_factory=dict)

    def hear(self, text: str) -> None:
        match text.split():
            case ["begin", batch, size]:
                self.sizes[int(batch)] = int(size)
            case ["wrote", batch]:
                self.written.add(int(batch))
            case ["deleted", batch]:
                self.deleted.add(int(batch))
            case ["marked", batch, mark]:
                self.marked[int(batch)] = int(mark)
            case _:
                pytest.fail(f"the writer said {text}")

    def possible(self, batch: int) -> set[int]:
        """How many points of the batch there may be."""
        size = self.sizes[batch]
        if batch in self.deleted:
            return {0}
        # What was not acknowledged may have been logged: a batch whole, a deletion whole.
        if batch not in self.written or (batch % 5 == 1 and batch + 3 in self.written):
            return {0, size}
        return {size}

    def check(self, index: EdgeIndex) -> None:
        for batch, size in self.sizes.items():
            found = run(index.count(io, AnyOf("t", (f"b{batch}",))))
            assert found in self.possible(batch), (batch, size, found)
            points = run(index.fetch(io, [point_id(batch * 100 + i) for i in range(size)], payload=True, vectors=True))
            assert len(points) == found
            assert all(set(point.vectors) == {"d", "s"} and point.payload["batch"] == str(batch) for point in points)
            if batch in self.marked:
                assert {point.payload["m"] for point in points} == {self.marked[batch]}


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kill_9(store: Path, script: Script) -> None:
    rng = random.Random(5)
    told = Told()
    for _ in range(10):
        # Each writer begins at a multiple of five, as if it were one run.
        process = script(WRITER, store, max(told.sizes, default=-1) // 5 * 5 + 5)
        assert process.stdout is not None
        kill_after = rng.randint(1, 60)
        for line, text in enumerate(process.stdout, 1):
            told.hear(text)
            if line == kill_after:
                process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        index = EdgeIndex(store)
        told.check(index)
        run(index.close(io))
    assert len(told.written) > 30


def written_then_killed(store: Path, script: Script) -> Path:
    """Three batches, acknowledged, never flushed; the log's file."""
    body = """
index = EdgeIndex(sys.argv[1])
for batch in range(3):
    run(index.upsert(io, [example(batch * 100 + i, t=f"b{batch}") for i in range(10)]))
say("done")
time.sleep(60)
"""
    process = script(body, store)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (log,) = [file for file in (store / "shard" / "wal").glob("open-*") if len(file.read_bytes().rstrip(b"\0")) > 1000]
    return log


@pytest.mark.parametrize("damage", ["none", "garbage", "zeroed", "truncated"])
def test_a_torn_tail_of_the_log_costs_only_what_it_held(store: Path, script: Script, damage: str) -> None:
    log = written_then_killed(store, script)
    content = log.read_bytes()
    end = len(content.rstrip(b"\0"))
    with log.open("r+b") as file:
        file.seek(end - 200)
        if damage == "garbage":
            file.write(os.urandom(200))
        elif damage == "zeroed":
            file.write(bytes(200))
        elif damage == "truncated":
            file.truncate(end - 200)
    index = EdgeIndex(store)
    kept = [run(index.count(io, AnyOf("t", (f"b{batch}",)))) for batch in range(3)]
    assert kept == [10, 10, 10 if damage == "none" else 0]
    run(index.upsert(io, [example(5000, t="new")]))
    run(index.close(io))
    index = EdgeIndex(store)
    assert run(index.count(io, EVERYTHING)) == sum(kept) + 1
    run(index.close(io))


def test_the_log_alone_holds_what_was_acknowledged(store: Path, scratch: Path, script: Script) -> None:
    """As after a power cut: segments as they were last flushed, and the files that were synced."""
    shutil.copytree(store, scratch / "cut")
    body = """
index = EdgeIndex(sys.argv[1])
for batch in range(14):
    run(index.upsert(io, [example(batch * 100 + i, e="x" * 50_000) for i in range(64)]))
run(index.delete(io, Range("n", lt=100)))
run(index.set_payload(io, {"k": "set"}, where=Range("n", lt=200)))
say("done")
time.sleep(60)
"""
    process = script(body, store)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((store / "shard" / "wal").glob("closed-*")), "more than one segment was meant to be written"
    shutil.rmtree(scratch / "cut" / "shard" / "wal")
    shutil.copytree(store / "shard" / "wal", scratch / "cut" / "shard" / "wal")
    index = EdgeIndex(scratch / "cut")
    assert run(index.count(io, EVERYTHING)) == 13 * 64
    assert run(index.count(io, AnyOf("k", ("set",)))) == 64
    run(index.close(io))


def test_scratch_segments_of_a_killed_process_are_removed(store: Path) -> None:
    scratch = store / "shard" / "temp_segments"
    (scratch / "segment_builder_x").mkdir(parents=True)
    (scratch / "segment_builder_x" / "data").write_bytes(b"x" * 1000)
    (scratch / "stray").write_bytes(b"x")
    outside = store / "precious"
    outside.mkdir()
    (scratch / "link").symlink_to(outside)
    index = EdgeIndex(store)
    run(index.count(io, EVERYTHING))
    assert list(scratch.iterdir()) == []
    assert outside.is_dir()
    run(index.close(io))


MAKER = """
from memory_plugin.index import edge_files
fsync, calls, fatal = os.fsync, 0, int(sys.argv[2])
def counted(descriptor):
    global calls
    calls += 1
    if calls == fatal:
        os.kill(os.getpid(), 9)
    fsync(descriptor)
os.fsync = counted
index = EdgeIndex(sys.argv[1])
say("go")
run(create(index, io))
say("made", calls)
"""


@pytest.mark.slow
def test_a_create_that_is_killed_at_any_moment_can_be_repeated(scratch: Path, script: Script) -> None:
    output, _ = script(MAKER, scratch / "whole", 0).communicate()
    syncs = int(output.split()[-1])
    seen = set()
    # The last four: the shard's new name, the manifest, its new name, the first write.
    for attempt, fatal in enumerate([0, 0, 0, 1, syncs // 2, syncs - 3, syncs - 2, syncs - 1, syncs]):
        path = scratch / f"store{attempt}"
        process = script(MAKER, path, fatal)
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        if fatal == 0:
            time.sleep(attempt * 0.02)  # inside the engine
            process.send_signal(signal.SIGKILL)
        process.wait()
        seen.add(frozenset(file.name for file in path.iterdir()) if path.exists() else frozenset())
        index = EdgeIndex(path)
        if run(index.read_manifest(io)) is None:
            run(create(index, io))
        assert run(index.read_manifest(io)) == MANIFEST
        run(index.upsert(io, [example(1)]))
        assert run(index.facet(io, "t", EVERYTHING, limit=3)) == [("tenant1", 1)]
        run(index.close(io))
        assert {file.name for file in path.iterdir()} - {"manifest.json.tmp"} == {"lock", "manifest.json", "shard"}
    assert len(seen) >= 3, seen


@pytest.mark.parametrize("left", ["partial", "shard", "manifest.json.tmp"])
def test_a_half_made_store_is_none_and_is_made_anew(store: Path, left: str) -> None:
    (store / "manifest.json").rename(store / "manifest.json.tmp")
    if left == "partial":
        (store / "shard").rename(store / "shard.partial")
        shutil.rmtree(store / "shard.partial" / "segments")
    index = EdgeIndex(store)
    assert run(index.read_manifest(io)) is None
    with pytest.raises(IndexUnavailableError, match="create it first"):
        run(index.count(io, EVERYTHING))
    run(filled(index, io, 3))
    run(index.close(io))
    assert {file.name for file in store.iterdir()} == {"lock", "manifest.json", "shard"}


def test_points_whose_manifest_is_gone_are_never_removed(store: Path) -> None:
    index = EdgeIndex(store)
    run(index.upsert(io, [example(1)]))
    run(index.close(io))
    manifest = store / "manifest.json"
    saved = manifest.read_text()
    manifest.unlink()
    index = EdgeIndex(store)
    with pytest.raises(IndexUnavailableError, match=r"holds 1 points .* restore it from a backup"):
        run(create(index, io))
    manifest.write_text(saved)
    assert run(index.count(io, EVERYTHING)) == 1
    run(index.close(io))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"a": 1}', '{"index_format": 2, "layout": {}, "manifest": {}}']
)
def test_a_damaged_manifest_is_an_error_and_keeps_nothing_locked(store: Path, text: str) -> None:
    (store / "manifest.json").write_text(text)
    for _ in range(2):
        with pytest.raises(ManifestMismatchError, match="damaged"):
            run(EdgeIndex(store).read_manifest(io))


def test_a_manifest_of_a_later_version_says_to_upgrade(store: Path) -> None:
    (store / "manifest.json").write_text('{"index_format": 99, "manifest": {}, "layout": {}}')
    with pytest.raises(ManifestMismatchError, match="upgrade"):
        run(EdgeIndex(store).read_manifest(io))


def test_a_shard_that_is_gone_is_an_error(store: Path) -> None:
    shutil.rmtree(store / "shard")
    with pytest.raises(IndexUnavailableError, match="restore it from a backup"):
        run(EdgeIndex(store).read_manifest(io))


def test_what_fails_while_a_store_is_made_leaves_a_place_to_try_again(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = EdgeIndex(scratch / "store")
    with monkeypatch.context() as patch:
        patch.setattr(edge_files, "write_durably", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(IndexUnavailableError, match="no space left"):
            run(create(index, io))
    run(filled(index, io, 2))
    run(index.close(io))


def test_directories_are_private_whatever_the_umask(scratch: Path) -> None:
    for umask in (0o000, 0o777):
        path = scratch / f"umask{umask}"
        before = os.umask(umask)
        try:
            index = EdgeIndex(path)
            run(create(index, io))
            run(index.write_manifest(io, {}))
            run(index.close(io))
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE((path / "shard").stat().st_mode) == 0o700
        for file in ("lock", "manifest.json"):
            assert stat.S_IMODE((path / file).stat().st_mode) & 0o077 == 0


def test_a_closed_log_segment_is_dropped_before_they_pile_up(store: Path) -> None:
    index = EdgeIndex(store, durability="process")
    text = "x" * 100_000
    for batch in range(60):
        run(index.upsert(io, [example(batch * 50 + i, e=text) for i in range(50)]))
    segments = list((store / "shard" / "wal").glob("closed-*"))
    assert 1 <= len(segments) <= 4, segments  # 300 MB were written, in segments of 32 MiB
    assert run(index.count(io, EVERYTHING)) == 3000
    run(index.close(io))


def test_a_call_larger_than_a_log_segment_is_written_whole(store: Path, script: Script) -> None:
    body = """
index = EdgeIndex(sys.argv[1])
run(index.upsert(io, [example(i, e="x" * 100_000) for i in range(500)]))
say("done")
time.sleep(60)
"""
    process = script(body, store)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    index = EdgeIndex(store)
    assert run(index.count(io, EVERYTHING)) == 500
    run(index.close(io))


@pytest.mark.parametrize("durability", ["disk", "flush", "process"])
def test_every_durability_keeps_what_was_closed(scratch: Path, durability: Durability) -> None:
    index = EdgeIndex(scratch / "store", durability=durability, search_threads=1)
    points = run(filled(index, io, 9))
    run(index.close(io))
    index = EdgeIndex(scratch / "store", durability=durability)
    vector = points[4].vectors["d"]
    (hits,) = run(index.search(io, [LegQuery("d", vector, EVERYTHING, 1)]))
    assert [hit.id for hit in hits] == [points[4].id]
    assert run(index.stats(io))["durability"] == durability
    run(index.close(io))


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="durability"):
        EdgeIndex(tmp_path, durability="never")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="search_threads"):
        EdgeIndex(tmp_path, search_threads=0)


def test_statistics_tell_sparse_files_from_real_bytes(store: Path) -> None:
    index = EdgeIndex(store)
    run(index.upsert(io, [example(i) for i in range(1, 11)]))
    stats = run(index.stats(io))
    run(index.close(io))
    allocated, apparent, log = stats["bytes"], stats["bytes_apparent"], stats["wal_bytes"]
    assert isinstance(allocated, int)
    assert isinstance(apparent, int)
    assert isinstance(log, int)
    assert 0 < log < allocated < apparent
    vectors = stats["vectors"]
    assert isinstance(vectors, dict)
    dense = vectors["d"]
    assert isinstance(dense, dict)
    assert dense["dimension"] == DIMENSION
