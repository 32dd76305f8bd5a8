"""What an index finds: see ``index.py``."""

from __future__ import annotations

import math
from uuid import UUID

import numpy as np
import pytest

from memory_plugin.flow import IO
from memory_plugin.protocols import VectorIndex
from memory_plugin.testing.index_examples import (
    DIMENSION,
    EVERYTHING,
    create,
    filled,
    point_id,
    scenario,
    sparse,
)
from memory_plugin.types import AnyOf, LegQuery, Or, Point, Range, SparseVector


class ReadingTests:
    """Search, scroll, count, facet."""

    @scenario
    async def test_dense_search_orders_by_cosine(self, io: IO, index: VectorIndex) -> None:
        points = await filled(index, io, 300)
        matrix = np.stack([np.asarray(point.vectors["d"]) for point in points])
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        query = np.random.default_rng(0).normal(size=DIMENSION).astype(np.float32)
        cosines = matrix @ (query / np.linalg.norm(query))
        for chosen, where in ((range(300), EVERYTHING), (range(1, 300, 3), AnyOf("t", ("tenant2",)))):
            best = sorted(chosen, key=lambda row: -cosines[row])[:20]
            (found,) = await index.search(io, [LegQuery("d", query, where, 20)])
            assert [UUID(hit.id).int - 1 for hit in found] == best
            np.testing.assert_allclose([hit.score for hit in found], cosines[best], atol=1e-5)

    @scenario
    async def test_sparse_search_weighs_terms_by_their_rarity_in_the_corpus(self, io: IO, index: VectorIndex) -> None:
        points = await filled(index, io, 40)
        query = {1: 1.0, 10: 0.5, 11: 2.0, 104: 1.0, 9999: 3.0}
        tenant = AnyOf("t", ("tenant1",))
        for corpus, where in ((tenant, tenant), (AnyOf("k", ("k0", "k1")), EVERYTHING), (None, tenant)):
            within = [point for point in points if corpus is None or point.payload[corpus.field] in corpus.values]
            scores = _bm25_like(points, within, query)
            if where is tenant:
                scores = {p: s for p, s in scores.items() if UUID(p).int % 3 == 1}
            (found,) = await index.search(io, [LegQuery("s", sparse(query), where, 100, corpus)])
            assert {hit.id for hit in found} == set(scores)
            for hit in found:
                assert hit.score == pytest.approx(scores[hit.id], rel=1e-5)
            assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)

    @scenario
    async def test_many_legs_of_many_tenants_in_one_request(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 60)
        row = np.random.default_rng(1).normal(size=DIMENSION).astype(np.float32)
        legs = []
        for tenant in ("tenant2", "tenant0", "nobody", "tenant1"):
            where = AnyOf("t", (tenant,))
            legs += [LegQuery("d", row, where, 7), LegQuery("s", sparse({1: 1.0}), where, 5, where)]
        legs.append(LegQuery("s", sparse({}), EVERYTHING, 5))
        legs.append(LegQuery("d2", np.ones(3, dtype=np.float32), EVERYTHING, 5))
        found = await index.search(io, legs)
        assert [len(hits) for hits in found] == [7, 5, 7, 5, 0, 0, 7, 5, 0, 0]
        for hits, rest in zip(found, (2, 2, 0, 0, None, None, 1, 1, None, None), strict=True):
            assert all(UUID(hit.id).int % 3 == rest for hit in hits)
        alone = [(await index.search(io, [leg]))[0] for leg in legs]
        for batch, single in zip(found, alone, strict=True):
            assert [hit.score for hit in batch] == pytest.approx([hit.score for hit in single])

    @scenario
    async def test_scroll_covers_everything_once_in_id_order(self, io: IO, index: VectorIndex) -> None:
        await create(index, io)
        rng = np.random.default_rng(3)
        ids = [str(UUID(bytes=rng.bytes(16))) for _ in range(205)]
        await index.upsert(io, [Point(point, {"t": f"t{i % 2}", "n": i}, {}) for i, point in enumerate(ids)])
        for where, wanted in ((EVERYTHING, ids), (AnyOf("t", ("t1",)), ids[1::2])):
            for size in (1000, 205, 41, 10):
                seen: list[str] = []
                after = None
                while True:
                    page, after = await index.scroll(io, where, limit=size, after=after, payload=["n"])
                    assert len(page) <= size
                    assert all(set(point.payload) == {"n"} and not point.vectors for point in page)
                    seen += [point.id for point in page]
                    if after is None:
                        break
                assert seen == sorted(wanted)

    @scenario
    async def test_scroll_goes_on_when_points_vanish_meanwhile(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 20)
        page, after = await index.scroll(io, EVERYTHING, limit=5, payload=[])
        assert [UUID(point.id).int for point in page] == [1, 2, 3, 4, 5]
        assert after is not None
        await index.delete(io, [after, point_id(2)])
        page, _ = await index.scroll(io, EVERYTHING, limit=3, after=after, payload=[])
        assert [UUID(point.id).int for point in page] == [7, 8, 9]

    @scenario
    async def test_scroll_of_ten_thousand_points(self, io: IO, index: VectorIndex) -> None:
        await create(index, io)
        for start in range(1, 10_001, 1000):
            await index.upsert(io, [Point(point_id(n), {"t": "a", "n": n}, {}) for n in range(start, start + 1000)])
        seen: list[int] = []
        after = None
        while True:
            page, after = await index.scroll(io, AnyOf("t", ("a",)), limit=1000, after=after, payload=[])
            seen += [UUID(point.id).int for point in page]
            if after is None:
                break
        assert seen == list(range(1, 10_001))
        assert await index.count(io, EVERYTHING) == 10_000

    @scenario
    async def test_counts_by_value_are_exact_and_most_frequent_first(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 100)
        await index.upsert(io, [Point(point_id(101), {"t": "tenant1", "k": ["k1", "rare", "ü"]}, {})])
        assert await index.facet(io, "t", EVERYTHING, limit=10) == [("tenant1", 35), ("tenant0", 33), ("tenant2", 33)]
        assert await index.facet(io, "t", EVERYTHING, limit=1) == [("tenant1", 35)]
        remainders = [(1, 2), *((n, 1) for n in (0, 2, 3, 4, 5, 6))]
        assert await index.facet(io, "m", Range("n", lt=9), limit=10) == remainders
        assert await index.facet(io, "n", Range("n", gte=8, lt=12), limit=10) == [(8, 1), (9, 1), (10, 1), (11, 1)]
        values = dict(await index.facet(io, "k", AnyOf("t", ("tenant1",)), limit=100))
        assert values["rare"] == 1
        assert values["ü"] == 1
        assert values["k1"] == sum(n % 3 == 1 and n % 5 == 1 for n in range(1, 101)) + 1
        await index.delete(io, [point_id(101)])
        assert "rare" not in dict(await index.facet(io, "k", EVERYTHING, limit=100))
        assert await index.facet(io, "t", Or(()), limit=10) == []


def _bm25_like(points: list[Point], corpus: list[Point], query: dict[int, float]) -> dict[str, float]:
    """Dot products with query weights times ln(1 + (N - n + ½)/(n + ½)), N and n counted in the corpus."""

    def terms(point: Point) -> dict[int, float]:
        vector = point.vectors["s"]
        assert isinstance(vector, SparseVector)
        return dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))

    def idf(term: int) -> float:
        having = sum(term in terms(point) for point in corpus)
        return math.log(1 + (len(corpus) - having + 0.5) / (having + 0.5))

    scores: dict[str, float] = {}
    for point in points:
        weights = terms(point)
        if shared := query.keys() & weights.keys():
            scores[point.id] = sum(query[term] * idf(term) * weights[term] for term in shared)
    return scores
