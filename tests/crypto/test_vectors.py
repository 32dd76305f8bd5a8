"""A rotation changes no answer."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from memory_plugin.crypto.vectors import Rotation, RotationCache, _in_tiles, gaussians, orthogonal
from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Matrix


def unit_vectors(count: int, dimension: int, seed: int) -> Matrix:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


@pytest.mark.parametrize("dimension", [2, 47, 48, 49, 384])
def test_cosines_and_neighbours_stay(dimension: int) -> None:
    rotation = Rotation(os.urandom(32))
    documents, queries = unit_vectors(2000, dimension, 1), unit_vectors(100, dimension, 2)
    plain = queries @ documents.T
    rotated = rotation.apply(queries) @ rotation.apply(documents).T
    assert abs(plain - rotated).max() < 1e-5
    if dimension == 384:
        top = [[set(row) for row in np.argsort(-scores, axis=1)[:, :10].tolist()] for scores in (plain, rotated)]
        assert top[0] == top[1]


@pytest.mark.parametrize("dimension", [1, 2, 3, 50, 384, 400])
def test_orthogonal_and_of_its_key(dimension: int) -> None:
    key = os.urandom(32)
    matrix = Rotation(key, cache=RotationCache(0)).matrix(dimension)
    assert matrix.dtype == np.float32
    assert abs(matrix.T @ matrix - np.eye(dimension)).max() < 1e-5
    np.testing.assert_array_equal(matrix, Rotation(key, cache=RotationCache(0)).matrix(dimension))
    other = Rotation(os.urandom(32)).matrix(dimension)
    assert dimension == 1 or abs(matrix - other).max() > 0.01
    assert not matrix.flags.writeable


def test_a_vector_moves_far() -> None:
    vectors = unit_vectors(200, 384, 3)
    moved = Rotation(os.urandom(32)).apply(vectors)
    assert abs((vectors * moved).sum(axis=1)).max() < 0.35
    assert moved.dtype == np.float32


def test_dimensions_are_independent() -> None:
    rotation = Rotation(os.urandom(32))
    assert abs(rotation.matrix(50)[:49, :49] - rotation.matrix(49)).max() > 0.01


def test_normal_numbers() -> None:
    numbers = gaussians(os.urandom(16 * 100_000))
    assert len(numbers) == 200_000
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1) < 0.02
    assert abs((numbers**4).mean() - 3) < 0.2
    assert np.all(np.isfinite(gaussians(b"\0" * 16 + b"\xff" * 16)))


def test_signs_follow_the_diagonal() -> None:
    normal = np.random.default_rng(4).normal(size=60 * 60)
    q = orthogonal(normal).astype(np.float64)
    r = q.T @ normal.reshape(60, 60)
    assert np.all(np.diagonal(r) > 0)
    assert abs(np.tril(r, -1)).max() < 1e-5


def test_a_nearly_singular_one_goes_the_long_way() -> None:
    square = np.random.default_rng(5).normal(size=(60, 60))
    square[:, 7] = 0
    with pytest.raises(np.linalg.LinAlgError):
        _in_tiles(square)
    q = orthogonal(square.reshape(-1)).astype(np.float64)
    assert abs(q.T @ q - np.eye(60)).max() < 1e-5
    assert np.all(np.delete(np.diagonal(q.T @ square), 7) > 0)


def test_both_ways_agree_on_what_is_badly_conditioned() -> None:
    square = np.random.default_rng(7).normal(size=(100, 100))
    square[:, 60] = square[:, 3] + 1e-6 * square[:, 60]
    q, (reference, r) = _in_tiles(square), np.linalg.qr(square)
    assert abs(q.T @ q - np.eye(100)).max() < 1e-13
    assert abs(q - reference * np.sign(np.diagonal(r))).max() < 1e-7


def test_known_texts_undo_it() -> None:
    """It is obfuscation: as many pairs as dimensions give the matrix (orthogonal Procrustes)."""
    rotation, known = Rotation(os.urandom(32)), unit_vectors(100, 96, 6)
    left, _, right = np.linalg.svd(known.T @ rotation.apply(known))
    assert abs(left @ right - rotation.matrix(96)).max() < 1e-4


@pytest.mark.parametrize("shape", [(3,), (), (2, 0), (1, 2, 3)])
def test_what_is_no_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInputError, match="shape"):
        Rotation(bytes(32)).apply(np.zeros(shape, dtype=np.float32))


def test_no_rows_are_fine() -> None:
    assert Rotation(bytes(32)).apply(np.zeros((0, 5), dtype=np.float32)).shape == (0, 5)


def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache = RotationCache(3 * 4 * 10 * 10)
    rotations = [Rotation(os.urandom(32), cache=cache) for _ in range(4)]
    matrices = [rotation.matrix(10) for rotation in rotations[:3]]
    assert len(cache) == 3
    assert rotations[0].matrix(10) is matrices[0]
    rotations[3].matrix(10)
    assert len(cache) == 3
    assert rotations[0].matrix(10) is matrices[0]
    assert rotations[1].matrix(10) is not matrices[1]
    rotations[1].matrix(100)  # larger than the cache: kept alone
    assert len(cache) == 1
    cache.put(b"name", matrices[0])
    cache.put(b"name", matrices[1])
    assert cache.get(b"name") is matrices[0]


def test_the_cache_in_several_threads() -> None:
    cache = RotationCache(5 * 4 * 20 * 20)
    keys = [os.urandom(32) for _ in range(10)]
    right = [Rotation(key).matrix(20) for key in keys]
    wrong: set[int] = set()

    def work() -> None:
        for turn in range(100):
            if not np.array_equal(Rotation(keys[turn % 10], cache=cache).matrix(20), right[turn % 10]):
                wrong.add(turn)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(cache) == 5
