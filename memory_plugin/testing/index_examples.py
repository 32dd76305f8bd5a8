"""Points, and how to drive an index: what the conformance tests of ``index.py`` share."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias
from uuid import UUID

import numpy as np

from memory_plugin.flow import IO
from memory_plugin.protocols import VectorIndex
from memory_plugin.types import And, Filter, Json, Point, SparseVector

Drive: TypeAlias = Callable[[Callable[[IO], Coroutine[Any, Any, None]]], None]
DIMENSION = 8
EVERYTHING = And(())
MANIFEST: dict[str, Json] = {"format": 1, "spaces": ["a", "ü"], "nested": {"x": [1, 2.5, None, True]}}


def point_id(number: int) -> str:
    """A UUID whose order is that of the numbers."""
    return str(UUID(int=number))


def sparse(terms: dict[int, float]) -> SparseVector:
    """A sparse vector of the weights."""
    return SparseVector(np.array(list(terms), dtype=np.uint32), np.array(list(terms.values()), dtype=np.float32))


def example(number: int, **payload: Json) -> Point:
    """A point that differs from every other number's."""
    row = np.random.default_rng(number).normal(size=DIMENSION).astype(np.float32)
    fields: dict[str, Json] = {"t": f"tenant{number % 3}", "k": f"k{number % 5}", "n": number, "m": number % 7}
    terms = {1: 1.0, 10 + number % 4: 2.0, 100 + number: 1.5}
    return Point(point_id(number), fields | payload, {"d": row, "s": sparse(terms)})


async def create(index: VectorIndex, io: IO) -> None:
    """Make the collection that the tests use."""
    await index.create(
        io,
        MANIFEST,
        dense={"d": DIMENSION, "d2": 3},
        sparse=["s"],
        keywords=["t", "k"],
        integers=["n", "m"],
        tenant="t",
    )


async def filled(index: VectorIndex, io: IO, number: int) -> list[Point]:
    """Make the collection and write points 1 to ``number``."""
    await create(index, io)
    points = [example(i) for i in range(1, number + 1)]
    await index.upsert(io, points)
    return points


async def matching(index: VectorIndex, io: IO, where: Filter) -> set[int]:
    """The numbers of the points that match, which ``count`` must confirm."""
    found, rest = await index.scroll(io, where, limit=1000, payload=[])
    assert rest is None
    assert await index.count(io, where) == len(found)
    return {UUID(point.id).int for point in found}


def scenario(body: Callable[[Any, IO, Any], Awaitable[None]]) -> Callable[[Any, Any, Drive], None]:
    """An async test of an index as one that pytest runs, by whatever drives the index."""

    @functools.wraps(body)
    def test(self: Any, index: Any, drive: Drive) -> None:
        async def work(io: IO) -> None:
            try:
                await body(self, io, index)
            finally:
                await index.close(io)

        drive(work)

    del test.__wrapped__  # pytest would take the fixtures' names from it
    return test
