"""Many threads on one index, and closing under them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from memory_plugin.errors import StoreClosedError
from memory_plugin.flow import Blocking, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.testing.index_examples import DIMENSION, EVERYTHING, example, point_id, sparse
from memory_plugin.types import AnyOf, LegQuery

io = Blocking()


def search(index: EdgeIndex, tenant: str) -> int:
    where = AnyOf("t", (tenant,))
    legs = [
        LegQuery("d", np.ones(DIMENSION, dtype=np.float32), where, 10),
        LegQuery("s", sparse({1: 1.0}), where, 10, where),
    ]
    return sum(map(len, run(index.search(io, legs))))


def worker(index: EdgeIndex, number: int) -> set[int]:
    """Write, delete and search among this thread's own points; which are left."""
    rng = random.Random(number)
    alive: set[int] = set()
    tenant = f"thread{number}"
    for _ in range(40):
        chosen = {number * 10_000 + rng.randrange(300) for _ in range(rng.randint(1, 20))}
        if rng.random() < 0.6:
            run(index.upsert(io, [example(n, t=tenant) for n in chosen]))
            alive |= chosen
        else:
            run(index.delete(io, [point_id(n) for n in chosen]))
            alive -= chosen
        assert search(index, tenant) == 2 * min(10, len(alive))
        assert run(index.count(io, AnyOf("t", (tenant,)))) == len(alive)
    return alive


def test_eight_threads_see_their_own_writes_and_no_errors(store: Path) -> None:
    index = EdgeIndex(store)
    with ThreadPoolExecutor(8) as pool:
        alive = set().union(*pool.map(lambda number: worker(index, number), range(8)))
    run(index.close(io))
    index = EdgeIndex(store)
    assert run(index.count(io, EVERYTHING)) == len(alive)
    assert len(run(index.fetch(io, [point_id(n) for n in alive], payload=[]))) == len(alive)
    run(index.close(io))


def until_closed(call: Callable[[], object], started: threading.Event) -> int:
    for calls in range(1_000_000):
        try:
            call()
        except StoreClosedError:
            return calls
        started.set()
    pytest.fail("it was never closed")


def calls_of(index: EdgeIndex) -> list[Callable[[], object]]:
    return [
        lambda: search(index, "tenant1"),
        lambda: run(index.upsert(io, [example(7)])),
        lambda: run(index.scroll(io, EVERYTHING, limit=50, payload=True)),
    ]


def test_closing_waits_for_running_calls_and_refuses_later_ones(store: Path) -> None:
    for _ in range(5):
        index = EdgeIndex(store)
        run(index.upsert(io, [example(n) for n in range(1, 400)]))
        started = [threading.Event() for _ in range(6)]
        calls = calls_of(index) * 2
        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(until_closed, call, event) for call, event in zip(calls, started, strict=True)]
            assert all(event.wait(20) for event in started)
            closing = [pool.submit(run, index.close(io)) for _ in range(2)]
            for ended in running:
                ended.result(timeout=20)
            for closed in closing:
                closed.result(timeout=20)
    index = EdgeIndex(store)  # the lock is free, and nothing is broken
    assert run(index.count(io, EVERYTHING)) == 399
    run(index.close(io))


def test_of_many_threads_that_open_at_once_one_does(store: Path) -> None:
    index = EdgeIndex(store)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: run(index.count(io, EVERYTHING)), range(32))) == {0}
    run(index.close(io))
