"""What an index does when its vectors change while it serves: see ``index.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
from memory_plugin.types import AnyOf, HasKey, HasVector, LegQuery, Not, Point, Vector
from memory_plugin.vectors import QUANTIZATIONS


def only(number: int, **vectors: object) -> Point:
    """A point's vectors alone."""
    return Point(point_id(number), {}, vectors)  # type: ignore[arg-type]


def row(number: int, dimension: int = 5) -> Vector:
    """A vector that differs from every other number's."""
    return np.random.default_rng(1000 + number).normal(size=dimension).astype(np.float32)


def same_direction(stored: object, given: object) -> bool:
    """Whether a stored vector is the given one at unit length."""
    assert isinstance(stored, np.ndarray)
    assert isinstance(given, np.ndarray)
    return np.allclose(stored, given / np.linalg.norm(given), rtol=1e-5)


async def found(index: VectorIndex, io: IO, using: str, vector: object, limit: int = 10) -> list[str]:
    """The ids that a leg finds."""
    (hits,) = await index.search(io, [LegQuery(using, vector, EVERYTHING, limit)])  # type: ignore[arg-type]
    return [hit.id for hit in hits]


class ChangingTests:
    """Vectors added, filled and dropped, other quantizations, and the manifest meanwhile."""

    @scenario
    async def test_added_vectors_are_empty_then_filled(self, io: IO, index: VectorIndex) -> None:
        points = await filled(index, io, 30)
        await index.add_vectors(io, dense={"later": 5}, weighted=["w"])
        assert await index.read_manifest(io) == MANIFEST
        assert await matching(index, io, HasVector("later")) == set()
        assert await found(index, io, "later", row(1)) == await found(index, io, "w", sparse({1: 1.0})) == []
        await index.update_vectors(io, [only(n, later=row(n), w=sparse({n: 2.0})) for n in range(1, 21)])
        assert await matching(index, io, Not(HasVector("later"))) == set(range(21, 31))
        assert (await found(index, io, "later", row(7)))[0] == point_id(7)
        assert await found(index, io, "w", sparse({7: 1.0})) == [point_id(7)]
        (point,) = await index.fetch(io, [point_id(7)], payload=True, vectors=True)
        assert dict(point.payload) == dict(points[6].payload)
        assert set(point.vectors) == {"d", "s", "later", "w"}
        assert same_direction(point.vectors["later"], row(7))
        assert same_direction(point.vectors["d"], points[6].vectors["d"])

    @scenario
    async def test_vectors_that_are_there_can_be_added_again(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        for _ in range(2):
            await index.add_vectors(io, dense={"later": 5, "d": DIMENSION}, weighted=["w"])
            await index.update_vectors(io, [only(2, later=row(2))])
        assert await matching(index, io, HasVector("later")) == {2}
        assert await matching(index, io, HasVector("d")) == {1, 2, 3}

    @scenario
    async def test_a_vector_of_another_kind_is_refused_and_nothing_added(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        await index.add_vectors(io, dense={}, weighted=["w"])
        asked: list[tuple[dict[str, int], list[str]]] = [
            ({"new": 4, "d": DIMENSION + 1}, []),
            ({"new": 4, "s": 3}, []),
            ({"new": 4, "w": 3}, []),
            ({"new": 4}, ["d"]),
            ({"new": 4}, ["s"]),
            ({"new": 4}, ["new"]),
            ({"new": 4, "other": 0}, []),
            ({"new": 4, "a.b": 2}, []),
            ({"new": 4}, ["a b"]),
        ]
        for dense, weighted in asked:
            with pytest.raises(InvalidInputError):
                await index.add_vectors(io, dense=dense, weighted=weighted)
            with pytest.raises(InvalidInputError):
                await index.search(io, [LegQuery("new", row(1, 4), EVERYTHING, 1)])

    @scenario
    async def test_vectors_of_absent_points_are_passed_over(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 5)
        await index.add_vectors(io, dense={"later": 5})
        await index.delete(io, [point_id(3)])
        await index.update_vectors(io, [only(n, later=row(n)) for n in (1, 99, 3, 2, 98)])
        await index.update_vectors(io, [only(99, later=row(99))])
        await index.update_vectors(io, [])
        await index.update_vectors(io, [only(4)])
        assert await matching(index, io, EVERYTHING) == {1, 2, 4, 5}
        assert await matching(index, io, HasVector("later")) == {1, 2}

    @scenario
    async def test_of_one_id_twice_the_later_vector_stays(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 2)
        await index.add_vectors(io, dense={"later": 5})
        await index.update_vectors(io, [only(1, later=row(1)), only(2, later=row(2)), only(1, later=row(3))])
        (point,) = await index.fetch(io, [point_id(1)], payload=[], vectors=True)
        assert same_direction(point.vectors["later"], row(3))

    @scenario
    async def test_a_bad_vector_is_refused_and_none_is_set(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        await index.add_vectors(io, dense={"later": 5}, weighted=["w"])
        bad: Sequence[Point] = [
            only(2, later=row(2, 4)),
            only(2, later=row(2) * np.float32(np.nan)),
            only(2, later=sparse({1: 1.0})),
            only(2, w=row(2)),
            only(2, w=sparse({1: np.inf})),
            only(2, unknown=row(2)),
            Point("x", {}, {"later": row(2)}),
        ]
        for point in bad:
            with pytest.raises(InvalidInputError):
                await index.update_vectors(io, [only(1, later=row(1)), point, only(3, w=sparse({3: 1.0}))])
        assert await matching(index, io, HasVector("later")) == await matching(index, io, HasVector("w")) == set()

    @scenario
    async def test_a_weighted_vector_is_scored_as_it_is(self, io: IO, index: VectorIndex) -> None:
        await index.create(
            io, MANIFEST, dense={}, sparse=["s"], weighted=["w"], keywords=["t", "k"], integers=["n", "m"], tenant="t"
        )
        weights = {n: {1: 0.5, 100 + n: float(n)} for n in range(1, 9)}
        await index.upsert(
            io, [Point(point_id(n), {"t": "a"}, {"w": sparse(w), "s": sparse(w)}) for n, w in weights.items()]
        )
        everything = AnyOf("t", ("a",))
        for corpus in (None, everything):
            (hits,) = await index.search(io, [LegQuery("w", sparse({1: 2.0, 103: 1.5}), everything, 10, corpus)])
            scores = {hit.id: hit.score for hit in hits}
            assert scores == {point_id(n): pytest.approx(5.5 if n == 3 else 1.0) for n in weights}
        (rare,) = await index.search(io, [LegQuery("s", sparse({1: 2.0, 103: 1.5}), everything, 1)])
        assert rare[0].score != pytest.approx(5.5)

    @scenario
    async def test_dropped_vectors_are_gone_and_their_names_free(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 20)
        await index.add_vectors(io, dense={"later": 5}, weighted=["w"])
        await index.update_vectors(io, [only(n, later=row(n), w=sparse({n: 1.0})) for n in range(1, 21)])
        await index.drop_vectors(io, ["d", "w", "absent"])
        await index.drop_vectors(io, ["d"])
        assert await index.read_manifest(io) == MANIFEST
        (point,) = await index.fetch(io, [point_id(3)], payload=True, vectors=True)
        assert set(point.vectors) == {"s", "later"}
        assert dict(point.payload) == dict(example(3).payload)
        assert (await found(index, io, "later", row(3)))[0] == point_id(3)
        for name, vector in (("d", row(3, DIMENSION)), ("w", sparse({3: 1.0}))):
            with pytest.raises(InvalidInputError):
                await found(index, io, name, vector)
            with pytest.raises(InvalidInputError):
                await index.upsert(io, [only(3, **{name: vector})])
            with pytest.raises(InvalidInputError):
                await index.update_vectors(io, [only(3, **{name: vector})])
        await index.add_vectors(io, dense={"d": 3, "w": 4})
        assert await found(index, io, "d", row(3, 3)) == await found(index, io, "w", row(3, 4)) == []
        await index.update_vectors(io, [only(3, d=row(3, 3))])
        assert await found(index, io, "d", row(3, 3)) == [point_id(3)]

    @scenario
    async def test_the_last_vector_cannot_be_dropped(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        with pytest.raises(InvalidInputError, match="at least one vector"):
            await index.drop_vectors(io, ["d", "d2", "s"])
        assert await matching(index, io, HasVector("d")) == await matching(index, io, HasVector("s")) == {1, 2, 3}
        await index.drop_vectors(io, ["d", "d2"])
        assert await matching(index, io, HasVector("s")) == {1, 2, 3}

    @scenario
    async def test_writing_a_point_without_the_later_vector_takes_it_away(self, io: IO, index: VectorIndex) -> None:
        """So that a writer who does not know of it puts the point back on the list of what lacks it."""
        await filled(index, io, 4)
        await index.add_vectors(io, dense={"later": 5})
        await index.update_vectors(io, [only(n, later=row(n)) for n in range(1, 5)])
        await index.upsert(io, [example(2)])
        await index.set_payload(io, {"k": "x"}, where=AnyOf("n", (3,)))
        await index.update_vectors(io, [only(4, d=row(4, DIMENSION))])
        assert await matching(index, io, Not(HasVector("later"))) == {2}
        await index.upsert(io, [Point(point_id(1), {"t": "a"}, {"later": row(1)})])
        assert await matching(index, io, Not(HasVector("d"))) == {1}

    @scenario
    async def test_manifest_and_vectors_do_not_overwrite_each_other(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        await index.write_manifest(io, {"step": 1})
        await index.add_vectors(io, dense={"later": 5})
        assert await index.read_manifest(io) == {"step": 1}
        await index.write_manifest(io, {"step": 2})
        await index.update_vectors(io, [only(1, later=row(1))])
        await index.drop_vectors(io, ["d"])
        assert await index.read_manifest(io) == {"step": 2}
        await index.quantize(io, "int8")
        assert await index.read_manifest(io) == {"step": 2}
        assert await found(index, io, "later", row(1)) == [point_id(1)]

    @scenario
    async def test_every_quantization_finds_what_an_exact_search_finds(self, io: IO, index: VectorIndex) -> None:
        await create(index, io)
        with pytest.raises(InvalidInputError, match="turbo4"):
            await index.quantize(io, "turbo3")  # type: ignore[arg-type]
        await index.add_vectors(io, dense={"later": 64})
        numbers = range(1, 401)
        await index.upsert(io, [example(n) for n in numbers])
        await index.update_vectors(io, [only(n, later=row(n, 64)) for n in numbers])
        await index.settle(io)
        for quantization in (*QUANTIZATIONS, QUANTIZATIONS[0], QUANTIZATIONS[1]):
            await index.quantize(io, quantization)
            stats = await index.stats(io)
            assert stats["quantization"] == quantization
            assert stats["points"] == len(numbers)
            for n in (1, 200, 400):
                assert (await found(index, io, "later", row(n, 64)))[0] == point_id(n)
                assert (await found(index, io, "d", example(n).vectors["d"]))[0] == point_id(n)
            await index.upsert(io, [example(401)])
            await index.settle(io)
            assert (await found(index, io, "d", example(401).vectors["d"]))[0] == point_id(401)
            await index.delete(io, [point_id(401)])

    @scenario
    async def test_a_quantization_is_chosen_when_a_collection_is_made(self, io: IO, index: VectorIndex) -> None:
        made: dict[str, Any] = {"dense": {"d": 64}, "sparse": [], "keywords": ["t"], "integers": [], "tenant": "t"}
        with pytest.raises(InvalidInputError, match="turbo4"):
            await index.create(io, MANIFEST, **made, quantization="turbo3")  # type: ignore[arg-type]
        await index.create(io, MANIFEST, **made, quantization="binary")
        await index.upsert(io, [Point(point_id(n), {"t": "a"}, {"d": row(n, 64)}) for n in range(1, 101)])
        stats = await index.stats(io)
        vectors = stats["vectors"]
        assert isinstance(vectors, dict)
        assert isinstance(vectors["d"], dict)
        assert stats["quantization"] == vectors["d"]["quantization"] == "binary"
        assert await found(index, io, "d", row(50, 64), 1) == [point_id(50)]

    @scenario
    async def test_statistics_tell_each_vector(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        await index.add_vectors(io, dense={"later": 5}, weighted=["w"])
        vectors = (await index.stats(io))["vectors"]
        assert isinstance(vectors, dict)
        kinds = {name: told["kind"] for name, told in vectors.items() if isinstance(told, dict)}
        assert kinds == {"d": "dense", "d2": "dense", "later": "dense", "s": "sparse", "w": "sparse"}
        later, w = vectors["later"], vectors["w"]
        assert isinstance(later, dict)
        assert isinstance(w, dict)
        assert (later["dimension"], later["quantization"]) == (5, "turbo4")
        assert w["modifier"] == "none"

    @scenario
    async def test_has_key(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 4)
        await index.set_payload(io, {"mark": 0}, where=AnyOf("n", (1,)))
        await index.set_payload(io, {"mark": "x"}, where=AnyOf("n", (3,)))
        assert await matching(index, io, HasKey("mark")) == {1, 3}
        assert await matching(index, io, Not(HasKey("mark"))) == {2, 4}
        assert await matching(index, io, HasKey("n")) == {1, 2, 3, 4}
        with pytest.raises(InvalidInputError):
            await index.count(io, HasKey("a.b"))

    @scenario
    async def test_payloads_are_set_point_by_point_and_absent_points_passed_over(
        self, io: IO, index: VectorIndex
    ) -> None:
        points = await filled(index, io, 5)
        given = [Point(point_id(n), {"v_x": f"sealed {n}"}) for n in (2, 4, 77)]
        await index.update_payloads(io, given)
        await index.update_payloads(io, [])
        assert await matching(index, io, HasKey("v_x")) == {2, 4}
        after = {point.id: point for point in await index.fetch(io, [p.id for p in points], payload=True, vectors=True)}
        for before in points:
            more = {"v_x": f"sealed {int(before.id[-4:])}"} if int(before.id[-4:]) in (2, 4) else {}
            assert after[before.id].payload == {**before.payload, **more}
            assert set(after[before.id].vectors) == set(before.vectors)
        assert await index.count(io, EVERYTHING) == 5

    @scenario
    async def test_a_bad_payload_is_refused_and_none_is_set(self, io: IO, index: VectorIndex) -> None:
        await filled(index, io, 3)
        with pytest.raises(InvalidInputError):
            await index.update_payloads(io, [Point(point_id(1), {"new": 1}), Point(point_id(2), {"a.b": 1})])
        assert await matching(index, io, HasKey("new")) == set()

    @scenario
    async def test_dropped_keys_are_gone_and_nothing_else(self, io: IO, index: VectorIndex) -> None:
        points = await filled(index, io, 5)
        await index.update_payloads(io, [Point(point_id(n), {"v_x": "sealed", "v_y": "kept"}) for n in (1, 2, 3)])
        await index.drop_payload(io, ["v_x", "v_z"])
        await index.drop_payload(io, [])
        assert await matching(index, io, HasKey("v_x")) == set()
        assert await matching(index, io, HasKey("v_y")) == {1, 2, 3}
        assert await index.count(io, EVERYTHING) == len(points)
        assert len(await found(index, io, "d", points[0].vectors["d"])) == 5
