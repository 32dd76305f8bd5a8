"""What an index does with what it is told to keep: see ``index.py``."""

from __future__ import annotations

import json
import math
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from memory_plugin.errors import InvalidInputError
from memory_plugin.flow import IO
from memory_plugin.protocols import VectorIndex
from memory_plugin.testing.index_examples import (
    DIMENSION,
    EVERYTHING,
    MANIFEST,
    create,
    example,
    filled,
    matching,
    point_id,
    scenario,
    sparse,
)
from memory_plugin.types import And, AnyOf, Json, LegQuery, Or, Point, Range, SparseVector

UNMAKEABLE: list[dict[str, Any]] = [
    {"dense": {"d": 0}},
    {"dense": {}, "sparse": []},
    {"sparse": ["d"]},
    {"tenant": "n"},
    {"keywords": ["t", "a.b"]},
    {"manifest": {"x": {1, 2}}},
    {"manifest": {"x": math.nan}},
]
BAD_POINTS = [
    Point("no-uuid", {}, {}),
    Point("00000000-0000-0000-0000-00000000000A", {}, {}),
    Point("00000000000000000000000000000007", {}, {}),
    Point(point_id(7), {}, {"d": np.ones(DIMENSION + 1, dtype=np.float32)}),
    Point(point_id(7), {}, {"d": np.ones((1, DIMENSION), dtype=np.float32)}),
    Point(point_id(7), {}, {"d": np.full(DIMENSION, np.nan, dtype=np.float32)}),
    Point(point_id(7), {}, {"d": np.full(DIMENSION, np.inf, dtype=np.float32)}),
    Point(point_id(7), {}, {"d": np.full(DIMENSION, 1e300)}),
    Point(point_id(7), {}, {"unknown": np.ones(DIMENSION, dtype=np.float32)}),
    Point(point_id(7), {}, {"d": sparse({1: 1.0})}),
    Point(point_id(7), {}, {"s": np.ones(DIMENSION, dtype=np.float32)}),
    Point(point_id(7), {}, {"s": sparse({1: math.nan})}),
    Point(point_id(7), {}, {"s": SparseVector(np.array([1, 1], np.uint32), np.ones(2, np.float32))}),
    Point(point_id(7), {}, {"s": SparseVector(np.array([1, 2], np.uint32), np.ones(1, np.float32))}),
    Point(point_id(7), {}, {"s": SparseVector(np.array([-1]), np.ones(1, np.float32))}),
    Point(point_id(7), {"x": math.nan}, {}),
    Point(point_id(7), {"x": 2**70}, {}),
    Point(point_id(7), {"x": "\ud800"}, {}),
    Point(point_id(7), {"x": [b"bytes"]}, {}),  # type: ignore[list-item]
    Point(point_id(7), {"x.y": 1}, {}),
    Point(point_id(7), {"x": {1: "key"}}, {}),  # type: ignore[dict-item]
    Point(point_id(7), {"x": json.loads("[" * 100 + "]" * 100)}, {}),
    Point(point_id(7), {}, {"d": np.array(["a"] * DIMENSION)}),
]


class WritingTests:
    """Manifest, upsert, fetch, set_payload, delete."""

    @scenario
    async def test_manifest_is_none_before_create_then_as_given(self, io: IO, index: VectorIndex) -> None:
        assert await index.read_manifest(io) is None
        await create(index, io)
        assert await index.read_manifest(io) == MANIFEST
        await index.write_manifest(io, {"only": "this"})
        assert await index.read_manifest(io) == {"only": "this"}
        assert index.name
        assert index.location

    @scenario
    async def test_a_second_create_changes_nothing(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        with pytest.raises(Exception, match="already"):
            await index.create(io, {}, dense={"d": 2}, sparse=[], keywords=["t"], integers=[], tenant="t")
        assert await index.read_manifest(io) == MANIFEST
        assert await index.count(io, EVERYTHING) == 3

    @scenario
    async def test_what_cannot_be_made_is_refused_and_not_made(self, io: IO, index: VectorIndex) -> None:
        good: dict[str, Any] = {"dense": {"d": 2}, "sparse": ["s"], "keywords": ["t"], "integers": ["n"], "tenant": "t"}
        for change in UNMAKEABLE:
            asked = {"manifest": {}} | good | change
            with pytest.raises(InvalidInputError):
                await index.create(io, asked.pop("manifest"), **asked)
            assert await index.read_manifest(io) is None, change

    @scenario
    async def test_fetch_gives_back_what_was_written_in_the_order_asked(self, io: IO, index: VectorIndex) -> None:
        points = await filled(index, io, 5)
        asked = [points[3].id, point_id(99), points[0].id, points[4].id]
        found = await index.fetch(io, asked, payload=True, vectors=True)
        assert [point.id for point in found] == [points[3].id, points[0].id, points[4].id]
        for point in found:
            original = points[UUID(point.id).int - 1]
            assert dict(point.payload) == dict(original.payload)
            row, terms = original.vectors["d"], original.vectors["s"]
            assert isinstance(row, np.ndarray)
            assert isinstance(terms, SparseVector)
            stored, stored_terms = point.vectors["d"], point.vectors["s"]
            assert isinstance(stored, np.ndarray)
            assert isinstance(stored_terms, SparseVector)
            assert stored.dtype == np.float32
            np.testing.assert_allclose(stored, row / np.linalg.norm(row), rtol=1e-5)
            weights = dict(zip(stored_terms.indices.tolist(), stored_terms.values.tolist(), strict=True))
            assert weights == dict(zip(terms.indices.tolist(), terms.values.tolist(), strict=True))
            assert stored_terms.indices.dtype == np.uint32

    @scenario
    async def test_fetch_reads_only_what_is_asked(self, io: IO, index: VectorIndex) -> None:
        points = await filled(index, io, 2)
        (some,) = await index.fetch(io, [points[0].id], payload=["k", "absent"])
        assert dict(some.payload) == {"k": "k1"}
        assert not some.vectors
        (none,) = await index.fetch(io, [points[0].id], payload=[])
        assert not none.payload
        assert await index.fetch(io, [], payload=True) == []
        twice = await index.fetch(io, [points[0].id, points[0].id], payload=[])
        assert [point.id for point in twice] == [points[0].id] * 2

    @scenario
    async def test_writing_an_id_again_replaces_the_whole_point(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        await index.upsert(io, [Point(point_id(2), {"t": "new"}, {"d2": np.ones(3, dtype=np.float32)})])
        (point,) = await index.fetch(io, [point_id(2)], payload=True, vectors=True)
        assert dict(point.payload) == {"t": "new"}
        assert set(point.vectors) == {"d2"}
        assert await index.count(io, EVERYTHING) == 3

    @scenario
    async def test_of_one_id_twice_in_a_call_the_later_stays(self, io: IO, index: VectorIndex) -> None:
        await create(index, io)
        first, second = example(1, v="first"), example(1, v="second")
        await index.upsert(io, [first, example(2), second])
        (point,) = await index.fetch(io, [point_id(1)], payload=["v"])
        assert dict(point.payload) == {"v": "second"}
        assert await index.count(io, EVERYTHING) == 2

    @scenario
    async def test_empty_calls_do_nothing(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 2)
        await index.upsert(io, [])
        await index.delete(io, [])
        await index.set_payload(io, {}, where=EVERYTHING)
        assert await index.search(io, []) == []
        assert await index.count(io, EVERYTHING) == 2

    @scenario
    async def test_payload_is_kept_exactly(self, io: IO, index: VectorIndex) -> None:
        await create(index, io)
        payload: dict[str, Json] = {
            "text": "naïve 日本語 🦀 \u0000 \u202e \\ \" '",
            "big": 2**62 + 1,
            "small": -(2**62) - 1,
            "real": 0.1,
            "list": ["a", 1, None, True, [], {"x": {"y": "ß"}}],
            "empty": "",
        }
        await index.upsert(io, [Point(point_id(1), payload, {})])
        (point,) = await index.fetch(io, [point_id(1)], payload=True)
        assert dict(point.payload) == payload
        (part,) = await index.fetch(io, [point_id(1)], payload=["text"])
        assert dict(part.payload) == {"text": payload["text"]}

    @scenario
    async def test_a_bad_point_is_refused_and_nothing_is_written(self, io: IO, index: VectorIndex) -> None:
        """Not even the good points before and after it."""
        await filled(index, io, 2)
        for bad in BAD_POINTS:
            with pytest.raises(InvalidInputError):
                await index.upsert(io, [example(1, v="changed"), example(5), bad, example(6)])
            assert await matching(index, io, EVERYTHING) == {1, 2}, bad
        (kept,) = await index.fetch(io, [point_id(1)], payload=True)
        assert "v" not in kept.payload

    @scenario
    async def test_bad_questions_are_refused(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        with pytest.raises(InvalidInputError):
            await index.fetch(io, ["x"], payload=True)
        with pytest.raises(InvalidInputError):
            await index.fetch(io, point_id(1), payload=True)
        with pytest.raises(InvalidInputError):
            await index.fetch(io, [point_id(1)], payload=["a.b"])
        with pytest.raises(InvalidInputError):
            await index.delete(io, ["x", point_id(1)])
        with pytest.raises(InvalidInputError):
            await index.delete(io, point_id(1))
        with pytest.raises(InvalidInputError):
            await index.set_payload(io, {"x": math.inf}, where=EVERYTHING)
        with pytest.raises(InvalidInputError):
            await index.scroll(io, EVERYTHING, limit=0, payload=[])
        with pytest.raises(InvalidInputError):
            await index.scroll(io, EVERYTHING, limit=1, after="x", payload=[])
        with pytest.raises(InvalidInputError):
            await index.facet(io, "absent", EVERYTHING, limit=5)
        row = np.ones(DIMENSION, dtype=np.float32)
        for leg in (
            LegQuery("absent", row, EVERYTHING, 3),
            LegQuery("d", row[:-1], EVERYTHING, 3),
            LegQuery("d", row * np.float32(np.nan), EVERYTHING, 3),
            LegQuery("d", sparse({1: 1.0}), EVERYTHING, 3),
            LegQuery("s", row, EVERYTHING, 3),
            LegQuery("d", row, EVERYTHING, 0),
        ):
            with pytest.raises(InvalidInputError):
                await index.search(io, [leg])
        assert await index.count(io, EVERYTHING) == 3

    @scenario
    async def test_set_payload_changes_those_keys_of_those_points(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 10)
        await index.set_payload(io, {"k": "moved", "extra": [1, 2]}, where=AnyOf("t", ("tenant1",)))
        assert await matching(index, io, AnyOf("k", ("moved",))) == {1, 4, 7, 10}
        moved, kept = await index.fetch(io, [point_id(4), point_id(5)], payload=True)
        assert dict(moved.payload) == dict(example(4).payload) | {"k": "moved", "extra": [1, 2]}
        assert dict(kept.payload) == dict(example(5).payload)
        await index.set_payload(io, {"k": "nobody"}, where=AnyOf("t", ("absent",)))
        assert await matching(index, io, AnyOf("k", ("nobody",))) == set()

    @scenario
    async def test_delete_by_ids_and_by_filter(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 12)
        await index.delete(io, [point_id(1), point_id(404), point_id(2)])
        assert await matching(index, io, EVERYTHING) == set(range(3, 13))
        await index.delete(io, And((AnyOf("t", ("tenant0",)), Range("n", gt=6))))
        assert await matching(index, io, EVERYTHING) == {3, 4, 5, 6, 7, 8, 10, 11}
        await index.delete(io, Or(()))
        assert await index.count(io, EVERYTHING) == 8
        await index.delete(io, EVERYTHING)
        assert await index.count(io, EVERYTHING) == 0
        await index.upsert(io, [example(1)])
        assert await matching(index, io, EVERYTHING) == {1}
