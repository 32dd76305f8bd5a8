"""Vectors added, dropped and quantized in an embedded store: what is killed, what is left, who waits."""

from __future__ import annotations

import random
import shutil
import signal
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import qdrant_edge as qe

from memory_plugin.errors import IndexUnavailableError
from memory_plugin.flow import Blocking, run
from memory_plugin.index import edge_repair
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.index.edge_files import MIB, Wal
from memory_plugin.index.edge_shard import ShardDirectory
from memory_plugin.testing.index_changing import found, only, row, same_direction
from memory_plugin.testing.index_examples import EVERYTHING, MANIFEST, example, filled, point_id, sparse
from memory_plugin.types import HasVector, Point
from tests.on_disk import written_below

io = Blocking()
Script = Callable[..., "Popen[str]"]
NUMBERS = range(1, 121)


def later(numbers: Sequence[int]) -> list[Point]:
    return [only(n, later=row(n), w=sparse({n: 2.0})) for n in numbers]


@pytest.fixture
def filled_store(store: Path) -> Path:
    """With points in two kinds of segments: one that was rewritten, one that grows."""
    index = EdgeIndex(store)
    run(index.upsert(io, [example(n) for n in NUMBERS[:60]]))
    run(index.quantize(io, "int8"))
    run(index.upsert(io, [example(n) for n in NUMBERS[60:]]))
    run(index.close(io))
    return store


@pytest.fixture
def widened(filled_store: Path) -> Path:
    """The same with two vectors more, filled."""
    index = EdgeIndex(filled_store)
    run(index.add_vectors(io, dense={"later": 5}, weighted=["w"]))
    run(index.update_vectors(io, later(NUMBERS)))
    run(index.close(io))
    return filled_store


def check_points(index: EdgeIndex) -> None:
    """No point lost or changed."""
    assert run(index.read_manifest(io)) == MANIFEST
    assert run(index.count(io, EVERYTHING)) == len(NUMBERS)
    for point in run(index.fetch(io, [point_id(n) for n in NUMBERS], payload=True, vectors=True)):
        original = example(int(str(point.payload["n"])))
        assert point.payload == original.payload
        assert {"d", "s"} <= set(point.vectors)
        assert same_direction(point.vectors["d"], original.vectors["d"])
        if "later" in point.vectors:
            assert same_direction(point.vectors["later"], row(int(str(point.payload["n"]))))


def holding(directory: Path, vector: Any) -> list[str]:
    """The files that hold a vector's floats, as given or at unit length, as segments or as the log write them."""
    given = np.asarray(vector, dtype=np.float32)
    forms = []
    for floats in (given[:3], (given / np.linalg.norm(given)).astype(np.float32)[:3]):
        forms += [floats.tobytes(), b"".join(b"\xfa" + struct.pack(">f", value) for value in floats)]
    files = written_below(directory).items()
    return [file.name for file, content in files if any(form in content for form in forms)]


CHANGER = """
from memory_plugin.testing.index_changing import only, row
index = EdgeIndex(sys.argv[1])
numbers = range(1, 121)
run(index.read_manifest(io))
for round in range(1000):
    say("add", round)
    run(index.add_vectors(io, dense={"later": 5}, weighted=["w"]))
    say("update", round)
    run(index.update_vectors(io, [only(n, later=row(n), w=sparse({n: 2.0})) for n in numbers]))
    run(index.upsert(io, [Point(point_id(n), example(n).payload, {**example(n).vectors, "later": row(n)}) for n in
                          range(1, 30)]))
    say("settle", round)
    run(index.settle(io))
    say("quantize", round)
    run(index.quantize(io, ["none", "binary", "int8", "turbo2", "turbo4"][round % 5]))
    say("drop", round)
    run(index.drop_vectors(io, ["later", "w"]))
"""


@pytest.mark.slow
def test_a_change_that_is_killed_at_any_moment_loses_no_point_and_can_be_repeated(
    filled_store: Path, script: Script
) -> None:
    dice = random.Random(11)
    seen = set()
    for step in (1, 2, 3, 4, 5, 8, 9, 10):
        process = script(CHANGER, filled_store)
        assert process.stdout is not None
        for _ in range(step):
            doing = process.stdout.readline().split()[0]
        time.sleep(dice.choice([0, dice.uniform(0, 0.02), dice.uniform(0, 0.2)]))
        process.send_signal(signal.SIGKILL)
        doing = ([doing] + [text.split()[0] for text in process.stdout])[-1]
        assert process.wait() == -signal.SIGKILL
        seen.add(doing)
        index = EdgeIndex(filled_store)
        check_points(index)
        if doing == "drop":
            run(index.drop_vectors(io, ["later", "w"]))
            check_points(index)
            assert holding(filled_store, row(100)) == []
        run(index.add_vectors(io, dense={"later": 5}, weighted=["w"]))
        run(index.update_vectors(io, later(NUMBERS)))
        run(index.settle(io))
        check_points(index)
        assert run(index.count(io, HasVector("later"))) == len(NUMBERS)
        assert run(found(index, io, "later", row(50)))[0] == point_id(50)
        run(index.close(io))
    assert len(seen) >= 3, seen


AT_A_SYNC = """
from memory_plugin.testing.index_changing import only, row
index = EdgeIndex(sys.argv[1])
run(index.read_manifest(io))
fsync, calls, fatal = os.fsync, 0, int(sys.argv[2])
def counted(descriptor):
    global calls
    calls += 1
    if calls == fatal:
        os.kill(os.getpid(), 9)
    fsync(descriptor)
os.fsync = counted
if sys.argv[3] == "add":
    run(index.add_vectors(io, dense={"later": 5}, weighted=["w"]))
else:
    run(index.drop_vectors(io, ["later", "w"]))
say(calls)
"""


@pytest.mark.parametrize("verb", ["add", "drop"])
def test_what_a_killed_change_left_is_put_right_by_opening(
    verb: str, filled_store: Path, widened: Path, scratch: Path, script: Script
) -> None:
    """Killed between the engine and the manifest, where the two disagree."""
    whole, store = scratch / "whole", scratch / "killed"
    if verb == "add":
        index = EdgeIndex(widened)
        run(index.drop_vectors(io, ["later", "w"]))
        run(index.close(io))
    shutil.copytree(widened, whole)
    output, _ = script(AT_A_SYNC, whole, 0, verb).communicate(timeout=60)
    syncs = int(output.split()[-1])
    outcomes = set()
    # The manifest is written first by a drop, last by an addition.
    for fatal in (1, syncs - 1, syncs) if verb == "add" else (1, 2, 3, syncs):
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(widened, store)
        process = script(AT_A_SYNC, store, fatal, verb)
        assert process.wait(timeout=60) == -signal.SIGKILL
        index = EdgeIndex(store)
        check_points(index)
        vectors = run(index.stats(io))["vectors"]
        assert isinstance(vectors, dict)
        outcomes.add("later" in vectors)
        assert edge_repair.vectors(store / "shard") == set(vectors)
        if verb == "add":
            run(index.add_vectors(io, dense={"later": 5}, weighted=["w"]))
            assert run(index.count(io, HasVector("later"))) == 0
        else:
            run(index.drop_vectors(io, ["later", "w"]))
            assert holding(store, row(100)) == []
        check_points(index)
        run(index.close(io))
    assert outcomes == {True, False}


@pytest.mark.parametrize("half", ["one segment", "all segments", "a folder"])
def test_vectors_that_the_layout_does_not_name_are_removed(half: str, filled_store: Path) -> None:
    """As an addition leaves them that was killed inside the engine."""
    before = {file: file.read_bytes() for file in (filled_store / "shard" / "segments").glob("*/segment.json")}
    assert len(before) == 2
    shard = qe.EdgeShard.load(str(filled_store / "shard"))
    shard.update(qe.UpdateOperation.create_dense_vector("later", 9, qe.Distance.Cosine))
    shard.update(qe.UpdateOperation.update_vectors([qe.PointVectors(point_id(70), {"later": [1.0] * 9})]))
    shard.close()
    if half == "one segment":
        first = min(before)
        first.write_bytes(before[first])
        with pytest.raises(Exception, match="ncompatible"):
            qe.EdgeShard.load(str(filled_store / "shard"))
    if half == "a folder":
        for file, text in before.items():
            file.write_bytes(text)
    index = EdgeIndex(filled_store)
    check_points(index)
    assert run(index.count(io, HasVector("later"))) == 0
    run(index.add_vectors(io, dense={"later": 5}))
    run(index.update_vectors(io, [only(7, later=row(7))]))
    run(index.close(io))
    index = EdgeIndex(filled_store)
    assert run(found(index, io, "later", row(7))) == [point_id(7)]
    run(index.close(io))


def test_after_a_power_cut_the_log_alone_holds_the_vectors_that_were_set(
    widened: Path, scratch: Path, script: Script
) -> None:
    cut = scratch / "cut"
    shutil.copytree(widened, cut)
    body = """
from memory_plugin.testing.index_changing import only, row
index = EdgeIndex(sys.argv[1])
run(index.update_vectors(io, [only(n, later=row(1000 + n)) for n in range(1, 41)]))
say("done")
time.sleep(60)
"""
    process = script(body, widened)
    assert process.stdout is not None
    assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    shutil.rmtree(cut / "shard" / "wal")
    shutil.copytree(widened / "shard" / "wal", cut / "shard" / "wal")
    index = EdgeIndex(cut)
    assert run(found(index, io, "later", row(1040)))[0] == point_id(40)
    (point,) = run(index.fetch(io, [point_id(40)], payload=[], vectors=True))
    assert same_direction(point.vectors["later"], row(1040))
    run(index.close(io))


def test_the_bytes_of_dropped_vectors_are_gone(widened: Path) -> None:
    index = EdgeIndex(widened)
    marked = [Point(point_id(n), example(n).payload, {**example(n).vectors, "later": row(n)}) for n in (3, 4)]
    run(index.upsert(io, marked))
    assert len(holding(widened, row(3))) >= 2  # at unit length in a segment, as given in the log
    bytes_before = run(index.stats(io))["bytes"]
    run(index.drop_vectors(io, ["later"]))
    assert holding(widened, row(3)) == holding(widened, row(100)) == []
    assert not list((widened / "shard").rglob("*-later"))
    assert len(list((widened / "shard" / "wal").iterdir())) <= 4
    assert isinstance(bytes_before, int)
    check_points(index)
    run(index.close(io))
    index = EdgeIndex(widened)
    check_points(index)
    run(index.delete(io, [point_id(1)]))  # the numbers of the log's records went on
    run(index.set_payload(io, {"k": "x"}, where=HasVector("w")))
    run(index.close(io))
    index = EdgeIndex(widened)
    assert run(index.count(io, EVERYTHING)) == len(NUMBERS) - 1
    assert run(index.facet(io, "k", HasVector("w"), limit=9)) == [("x", len(NUMBERS) - 3)]
    run(index.close(io))


def test_a_change_stops_before_the_disk_is_full(widened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = EdgeIndex(widened)
    run(index.read_manifest(io))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * MIB))
        for change in (
            index.add_vectors(io, dense={"more": 3}),
            index.update_vectors(io, later([1])),
            index.drop_vectors(io, ["later"]),
            index.quantize(io, "binary"),
            index.settle(io),
        ):
            with pytest.raises(IndexUnavailableError, match=r"no space left .* 3 MiB are free"):
                run(change)
    stats = run(index.stats(io))
    assert stats["quantization"] == "int8"
    assert isinstance(stats["vectors"], dict)
    assert set(stats["vectors"]) == {"d", "d2", "s", "later", "w"}
    check_points(index)
    with monkeypatch.context() as patch:  # room for the drop, none for pushing it out of the log
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20 * MIB))
        with pytest.raises(IndexUnavailableError, match="no space left"):
            run(index.drop_vectors(io, ["later"]))
    assert holding(widened, row(100))
    run(index.drop_vectors(io, ["later"]))
    assert holding(widened, row(100)) == []
    check_points(index)
    run(index.close(io))


def test_a_name_that_is_leaving_can_be_taken_again(widened: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = EdgeIndex(widened)
    check_points(index)
    with monkeypatch.context() as patch:
        patch.setattr(Wal, "holding", lambda _: {1})
        with pytest.raises(IndexUnavailableError, match="keeps what was dropped") as refused:
            run(index.drop_vectors(io, ["later"]))
    assert refused.value.retryable
    run(index.add_vectors(io, dense={"later": 9}))
    run(index.update_vectors(io, [only(8, later=row(8, 9))]))
    run(index.drop_vectors(io, []))
    assert run(found(index, io, "later", row(8, 9))) == [point_id(8)]
    run(index.close(io))
    index = EdgeIndex(widened)
    assert run(found(index, io, "later", row(8, 9))) == [point_id(8)]
    assert run(index.count(io, EVERYTHING)) == len(NUMBERS)
    run(index.close(io))


def test_a_shard_that_does_not_load_again_is_opened_by_the_next_call(
    widened: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = EdgeIndex(widened)
    check_points(index)
    with monkeypatch.context() as patch:
        patch.setattr(ShardDirectory, "_load", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(IndexUnavailableError, match="Input/output error"):
            run(index.quantize(io, "binary"))
    check_points(index)
    assert run(index.stats(io))["quantization"] == "binary"
    run(index.quantize(io, "binary"))
    check_points(index)
    run(index.close(io))


def test_statistics_tell_what_is_not_quantized_yet(scratch: Path) -> None:
    index = EdgeIndex(scratch / "store")
    run(filled(index, io, 50))

    def quantized(name: str) -> object:
        vectors = run(index.stats(io))["vectors"]
        assert isinstance(vectors, dict)
        told = vectors[name]
        assert isinstance(told, dict)
        return told["quantized"]

    assert quantized("d") is True
    run(index.add_vectors(io, dense={"later": 50}))
    run(index.update_vectors(io, [only(n, later=row(n, 50)) for n in range(1, 51)]))
    assert (quantized("d"), quantized("later")) == (True, False)
    run(index.settle(io))
    assert (quantized("d"), quantized("later")) == (True, True)
    run(index.quantize(io, "none"))
    assert (quantized("d"), quantized("later")) == (False, False)
    run(index.quantize(io, "int8"))
    assert (quantized("d"), quantized("later")) == (True, True)
    run(index.close(io))
    index = EdgeIndex(scratch / "store")
    assert run(index.stats(io))["quantization"] == "int8"
    assert (quantized("d"), quantized("later")) == (True, True)
    run(index.close(io))


def test_what_is_made_in_int8_is_quantized_by_settling(scratch: Path) -> None:
    index = EdgeIndex(scratch / "store")
    layout: dict[str, Any] = {"dense": {"d": 8}, "sparse": [], "keywords": ["t"], "integers": [], "tenant": "t"}
    run(index.create(io, {}, **layout, quantization="int8"))
    for number in range(3):
        points = [
            Point(point_id(n), {"t": "a"}, {"d": example(n).vectors["d"]}) for n in range(number * 40, number * 40 + 40)
        ]
        run(index.upsert(io, points))
        run(index.settle(io))
    quantized = list((scratch / "store" / "shard" / "segments").glob("*/vector_storage-d/quantized.data"))
    assert quantized
    assert run(found(index, io, "d", example(50).vectors["d"]))[0] == point_id(50)
    run(index.close(io))
