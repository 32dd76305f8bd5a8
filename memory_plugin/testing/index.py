"""What every ``VectorIndex`` does, as tests to inherit.

    class TestMine(VectorIndexTests):
        @pytest.fixture
        def index(self, tmp_path):
            return MyIndex(tmp_path)

``index`` is one that was not created yet.  ``drive`` runs a coroutine function with an IO; replace it for an index that
needs an event loop.  An engine's known difference goes into ``differences``: the test then must fail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import ClassVar

import numpy as np
import pytest

from memory_plugin.errors import StoreClosedError
from memory_plugin.flow import IO, Blocking, run
from memory_plugin.protocols import VectorIndex
from memory_plugin.testing.index_changing import ChangingTests
from memory_plugin.testing.index_examples import (
    DIMENSION,
    EVERYTHING,
    Drive,
    create,
    example,
    filled,
    point_id,
    scenario,
    sparse,
)
from memory_plugin.testing.index_filters import FilterTests
from memory_plugin.testing.index_reading import ReadingTests
from memory_plugin.testing.index_writing import WritingTests
from memory_plugin.types import AnyOf, LegQuery, Point

__all__ = ["Drive", "VectorIndexTests"]


class VectorIndexTests(WritingTests, ChangingTests, FilterTests, ReadingTests):
    """Inherit and give ``index``."""

    differences: ClassVar[dict[str, str]] = {}
    """Test name to the reason why this engine fails it: shown as an expected failure, and an error if it passes."""

    @pytest.fixture(autouse=True)
    def _known_difference(self, request: pytest.FixtureRequest) -> None:
        reason = self.differences.get(request.node.originalname)
        if reason is not None:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    @pytest.fixture
    def index(self) -> Iterator[VectorIndex]:
        """An index that was not created yet."""
        raise NotImplementedError("give the fixture 'index'")

    @pytest.fixture
    def drive(self) -> Drive:
        """Blocking; replace it where a loop is needed."""
        return lambda work: run(work(Blocking()))

    @scenario
    async def test_a_tenant_never_sees_anothers_points_or_statistics(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 30)
        mine = AnyOf("t", ("tenant0",))
        legs = [
            LegQuery("d", np.ones(DIMENSION, dtype=np.float32), mine, 100),
            LegQuery("s", sparse({1: 1.0, 10: 1.0, 103: 1.0}), mine, 100, mine),
        ]
        before = await index.search(io, legs)
        others = [Point(point_id(1000 + i), {"t": "tenant2"}, example(3).vectors) for i in range(50)]
        await index.upsert(io, others)
        await index.delete(io, AnyOf("t", ("tenant1",)))
        after = await index.search(io, legs)
        assert len(before[0]) == len(before[1]) == 10
        for old, new in zip(before, after, strict=True):
            assert {hit.id: pytest.approx(hit.score) for hit in old} == {hit.id: hit.score for hit in new}

    @scenario
    async def test_statistics_name_points_and_bytes(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 9)
        stats = await index.stats(io)
        assert stats["points"] == 9
        assert "bytes" in stats

    @scenario
    async def test_closed_is_closed_and_closing_twice_is_fine(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        await index.close(io)
        await index.close(io)
        row = np.ones(DIMENSION, dtype=np.float32)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: index.read_manifest(io),
            lambda: index.write_manifest(io, {}),
            lambda: create(index, io),
            lambda: index.upsert(io, [example(4)]),
            lambda: index.set_payload(io, {"k": "x"}, where=EVERYTHING),
            lambda: index.fetch(io, [point_id(1)], payload=True),
            lambda: index.search(io, [LegQuery("d", row, EVERYTHING, 3)]),
            lambda: index.scroll(io, EVERYTHING, limit=3, payload=True),
            lambda: index.count(io, EVERYTHING),
            lambda: index.facet(io, "k", EVERYTHING, limit=3),
            lambda: index.delete(io, EVERYTHING),
            lambda: index.stats(io),
            lambda: index.add_vectors(io, dense={"later": 3}),
            lambda: index.update_vectors(io, [example(1)]),
            lambda: index.drop_vectors(io, ["d2"]),
            lambda: index.quantize(io, "none"),
            lambda: index.settle(io),
        ]
        for call in calls:
            with pytest.raises(StoreClosedError):
                await call()
