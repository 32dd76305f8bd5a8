"""What filters mean to an index: see ``index.py``."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from memory_plugin.errors import InvalidInputError
from memory_plugin.flow import IO
from memory_plugin.protocols import VectorIndex
from memory_plugin.testing.index_examples import (
    DIMENSION,
    EVERYTHING,
    filled,
    matching,
    point_id,
    scenario,
    sparse,
)
from memory_plugin.types import And, AnyOf, Filter, HasVector, LegQuery, Not, Or, Point, Range, TimeRange, Vector

BAD_FILTERS: list[Filter] = [
    TimeRange(),
    AnyOf("n", (True,)),
    AnyOf("n", (1.5,)),
    AnyOf("n", (None,)),
    AnyOf("n", (2**64,)),
    AnyOf("a.b", ("x",)),
    AnyOf("", ("x",)),
    "k = 'x'",  # type: ignore[list-item]
    Range("n", gte=math.nan),
    Range("n", gte=2**53 + 1),
    Range("n", lt=10**400),
    Range("n[]", lt=1),
    functools.reduce(lambda inner, _: Not(inner), range(200), Not(And(()))),
]


class FilterTests:
    """Every kind, nested and empty, and what is refused."""

    @scenario
    async def test_filters_mean_what_they_say(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 30)
        await index.upsert(io, [Point(point_id(31), {"t": "tenant0", "tags": ["red", "blue", 5]}, {})])
        numbers = set(range(1, 32))
        with_n = set(range(1, 31))
        tenant0 = {n for n in with_n if n % 3 == 0} | {31}
        small = {n for n in with_n if n < 10}
        expected: list[tuple[Filter, set[int]]] = [
            (And(()), numbers),
            (Or(()), set()),
            (Not(And(())), set()),
            (Not(Or(())), numbers),
            (AnyOf("t", ("tenant0",)), tenant0),
            (AnyOf("t", ()), set()),
            (AnyOf("absent", ("x",)), set()),
            (AnyOf("n", (3, 5, 99)), {3, 5}),
            (AnyOf("k", ("k1", "k2")), {n for n in with_n if n % 5 in {1, 2}}),
            (AnyOf("tags", ("blue", "green")), {31}),
            (AnyOf("tags", ("green", 5)), {31}),
            (Range("n", lt=10), small),
            (Range("n", lte=10), small | {10}),
            (Range("n", gte=4, lt=6), {4, 5}),
            (Range("n", gt=3.5, lte=5.5), {4, 5}),
            (Range("n"), with_n),
            (Range("n", gte=-math.inf, lt=math.inf), with_n),
            (Range("n", gt=math.inf), set()),
            (Range("n", gte=6, lt=4), set()),
            (Not(Range("n", lt=10)), numbers - small),
            (HasVector("d"), with_n),
            (HasVector("d2"), set()),
            (Not(HasVector("d")), {31}),
            (And((AnyOf("t", ("tenant0",)), Range("n", lt=10))), {3, 6, 9}),
            (Or((AnyOf("n", (1,)), And((AnyOf("t", ("tenant0",)), Not(HasVector("s")))))), {1, 31}),
            (Not(Or((AnyOf("t", ("tenant0",)), Not(Range("n", lt=10))))), small - tenant0),
            (And((Not(AnyOf("n", (1,))), Not(AnyOf("n", (2,))), Range("n", lte=3))), {3}),
            (Or((Or(()), And((Or((AnyOf("n", (7,)),)),)))), {7}),
            (
                And(
                    (And(()), Or((And(()), Or(())))),
                ),
                numbers,
            ),
            (Not(Not(Not(AnyOf("t", ("tenant0",))))), numbers - tenant0),
        ]
        for where, wanted in expected:
            assert await matching(index, io, where) == wanted, where

    @scenario
    async def test_a_filter_that_no_index_can_answer_is_refused(self, io: IO, index: VectorIndex) -> None:
        """By every verb that takes one."""
        await filled(index, io, 3)
        row: Vector = np.ones(DIMENSION, dtype=np.float32)
        for bad in BAD_FILTERS:
            where = And((Or((bad,)),))
            for call in (
                lambda where: index.count(io, where),
                lambda where: index.delete(io, where),
                lambda where: index.set_payload(io, {"k": "x"}, where=where),
                lambda where: index.scroll(io, where, limit=3, payload=[]),
                lambda where: index.facet(io, "k", where, limit=3),
                lambda where: index.search(io, [LegQuery("d", row, where, 3)]),
                lambda where: index.search(io, [LegQuery("s", sparse({1: 1.0}), EVERYTHING, 3, where)]),
            ):
                with pytest.raises(InvalidInputError):
                    await call(where)
        assert await matching(index, io, EVERYTHING) == {1, 2, 3}
