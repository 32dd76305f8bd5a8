"""Many calls in an embedded store, and one that swaps the engine under them: all wait, none fails."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memory_plugin.errors import ForkedStoreError, StoreClosedError
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.index.edge_gate import Gate
from memory_plugin.testing.index_changing import only, row
from memory_plugin.testing.index_examples import EVERYTHING, example, filled, point_id
from memory_plugin.types import HasVector, LegQuery, Not
from memory_plugin.vectors import QUANTIZATIONS

io = Blocking()


def reader(index: EdgeIndex, stop: threading.Event) -> int:
    """Until it is told to stop, and five times at least, however busy the machine is."""
    calls = 0
    while not (stop.is_set() and calls > 5):
        (hits,) = run(index.search(io, [LegQuery("d", example(calls % 100 + 1).vectors["d"], EVERYTHING, 5)]))
        assert hits[0].id == point_id(calls % 100 + 1)
        assert run(index.count(io, Not(HasVector("absent")))) >= 100
        assert len(run(index.fetch(io, [point_id(1), point_id(2)], payload=["n"]))) == 2
        calls += 1
    return calls


def writer(index: EdgeIndex, stop: threading.Event) -> int:
    written = 0
    while not stop.is_set():
        written += 1
        run(index.upsert(io, [example(1000 + written)]))
        run(index.write_manifest(io, {"written": written}))
        run(index.update_vectors(io, [only(1000 + written, d=example(1000 + written).vectors["d"])]))
    return written


def test_readers_and_writers_wait_while_the_shard_is_swapped_and_none_fails(scratch: Path) -> None:
    index = EdgeIndex(scratch / "store", durability="process")
    run(filled(index, io, 300))
    stop = threading.Event()
    with ThreadPoolExecutor(6) as pool:
        reading = [pool.submit(reader, index, stop) for _ in range(4)]
        writing = pool.submit(writer, index, stop)
        try:
            for quantization in QUANTIZATIONS:
                run(index.add_vectors(io, dense={"later": 5}, weighted=["w"]))
                run(index.update_vectors(io, [only(n, later=row(n)) for n in range(1, 200)]))
                run(index.settle(io))
                run(index.quantize(io, quantization))
                run(index.drop_vectors(io, ["later", "w"]))
        finally:
            stop.set()
        assert all(done.result() for done in reading)
        written = writing.result()
    assert run(index.count(io, EVERYTHING)) == 300 + written
    assert run(index.read_manifest(io)) == {"written": written}
    run(index.close(io))
    index = EdgeIndex(scratch / "store")
    assert run(index.count(io, EVERYTHING)) == 300 + written
    run(index.close(io))


def test_closing_during_a_change_waits_for_it(store: Path) -> None:
    index = EdgeIndex(store)
    run(index.upsert(io, [example(n) for n in range(1, 300)]))
    with ThreadPoolExecutor(2) as pool:
        changing = pool.submit(lambda: [run(index.quantize(io, form)) for form in QUANTIZATIONS * 100])
        time.sleep(0.3)
        run(index.close(io))
        with pytest.raises(StoreClosedError):
            changing.result(timeout=20)
    index = EdgeIndex(store)
    assert run(index.count(io, EVERYTHING)) == 299
    run(index.close(io))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_is_forked_during_a_change_is_refused_and_harms_nothing(store: Path) -> None:
    index = EdgeIndex(store)
    run(index.upsert(io, [example(n) for n in range(1, 100)]))
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            run(index.quantize(io, "binary"))
            run(index.quantize(io, "turbo4"))

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        for _ in range(10):
            time.sleep(0.02)
            child = os.fork()
            if child == 0:
                try:
                    run(index.count(io, EVERYTHING))
                except ForkedStoreError:
                    os._exit(7)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        stop.set()
        changing.result(timeout=30)
    run(index.close(io))
    index = EdgeIndex(store)
    assert run(index.count(io, EVERYTHING)) == 99
    run(index.close(io))


def test_the_gate_lets_one_be_alone() -> None:
    gate = Gate(Path("store"))
    inside, go, order = threading.Event(), threading.Event(), []

    def stay() -> None:
        with gate:
            inside.set()
            go.wait(10)
            order.append("first")

    def alone(name: str) -> None:
        with gate.alone():
            order.append(name)
            time.sleep(0.02)
            order.append(name)

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(stay)]
        inside.wait(10)
        calls += [pool.submit(alone, name) for name in ("second", "third")]
        time.sleep(0.05)
        assert order == []
        go.set()
        for call in calls:
            call.result(timeout=10)
    assert order[0] == "first"
    assert order[1:] in (["second"] * 2 + ["third"] * 2, ["third"] * 2 + ["second"] * 2)
    assert gate.shut()
    assert not gate.shut()
    with pytest.raises(StoreClosedError), gate.alone():
        pass
