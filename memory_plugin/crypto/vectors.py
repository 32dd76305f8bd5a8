"""A secret rotation of vectors (docs/sealed-format.md, section 8).

Obfuscation, not encryption: some 50 to 400 texts paired with their stored vectors undo it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory_plugin.crypto.encoding import u32
from memory_plugin.crypto.keys import Secret
from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Matrix

_LABEL: Final = b"memory-plugin/v1/rotation"
_CACHE_BYTES: Final = 64 * 2**20
_TILE: Final = 48


class RotationCache(Secret):
    """Least recently used matrices, up to a number of bytes; the latest one is always kept.

    Args:
        capacity: Bytes.
    """

    __slots__ = ("_capacity", "_lock", "_matrices", "_size")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._lock = threading.Lock()
        # Named by a hash of key and dimension, from which neither can be computed.
        self._matrices: OrderedDict[bytes, Matrix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._matrices)

    def get(self, name: bytes) -> Matrix | None:
        """The matrix, which is now the most recently used one."""
        with self._lock:
            if name in self._matrices:
                self._matrices.move_to_end(name)
            return self._matrices.get(name)

    def put(self, name: bytes, matrix: Matrix) -> None:
        """Keep a matrix; drop what was not used for longest."""
        with self._lock:
            if name in self._matrices:  # another thread was as fast
                return
            self._matrices[name] = matrix
            self._size += matrix.nbytes
            while self._size > self._capacity and len(self._matrices) > 1:
                self._size -= self._matrices.popitem(last=False)[1].nbytes


_CACHE: Final = RotationCache(_CACHE_BYTES)


class Rotation(Secret):
    """The rotation of one subject, in any dimension.

    Args:
        key: The vector sub-key, 32 bytes.
        cache: Where matrices are kept between calls: 0.6 MiB each at 384 dimensions, 9 MiB at 1536.
    """

    __slots__ = ("_cache", "_state")

    def __init__(self, key: bytes, *, cache: RotationCache = _CACHE) -> None:
        self._state = hashlib.shake_256(_LABEL + key)
        self._cache = cache

    def matrix(self, dimension: int) -> Matrix:
        """The orthogonal matrix Q, shape (dimension, dimension), float32, read-only."""
        stream = self._state.copy()
        stream.update(u32(dimension))
        name = hashlib.sha256(stream.digest(32)).digest()
        matrix = self._cache.get(name)
        if matrix is None:
            matrix = orthogonal(gaussians(stream.digest(8 * _even(dimension**2)))[: dimension**2])
            self._cache.put(name, matrix)
        return matrix

    def apply(self, vectors: Matrix) -> Matrix:
        """Vectors times Q, shape (n, dimension); lengths and cosines stay, up to float32 rounding.

        Raises:
            InvalidInputError: It is not a matrix of at least one column.
        """
        vectors = _rows(vectors)
        return vectors @ self.matrix(vectors.shape[1])

    def undo(self, vectors: Matrix) -> Matrix:
        """Vectors times the transpose of Q, which is its inverse: what ``apply`` was given.

        Raises:
            InvalidInputError: It is not a matrix of at least one column.
        """
        vectors = _rows(vectors)
        return vectors @ self.matrix(vectors.shape[1]).T


def _rows(vectors: Matrix) -> Matrix:
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not vectors.shape[1]:
        raise InvalidInputError(f"expected vectors of shape (n, dimension), not {vectors.shape}")
    return vectors


def gaussians(stream: bytes) -> NDArray[np.float64]:
    """Standard normal numbers, one for each 8 bytes (Box and Muller 1958).

    Args:
        stream: Uniformly random, a multiple of 16 bytes.
    """
    uniform = (np.frombuffer(stream, dtype="<u8") >> np.uint64(11)).astype(np.float64)
    radius = np.sqrt(-2.0 * np.log((uniform[0::2] + 1.0) * 2.0**-53))
    angle = (2.0 * np.pi * 2.0**-53) * uniform[1::2]
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1).reshape(-1)


def orthogonal(normal: NDArray[np.float64]) -> Matrix:
    """A uniformly distributed orthogonal matrix of d² normal numbers, filled row by row, read-only.

    The Q of G = QR with R's diagonal positive, which makes it unique (Mezzadri 2007).
    """
    dimension = round(len(normal) ** 0.5)
    square = normal.reshape(dimension, dimension)
    try:
        q = _in_tiles(square)
    except np.linalg.LinAlgError:
        # So nearly singular that squaring it loses it: about one key in a million.
        q, r = np.linalg.qr(square)
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    matrix = q.astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def _in_tiles(square: NDArray[np.float64]) -> NDArray[np.float64]:
    """Q by block Gram-Schmidt, each panel twice, with Cholesky inside it (Yamamoto et al. 2015).

    All products are of tiles too small for BLAS to start its threads.  ``np.linalg.qr`` starts them
    thousands of times, and where other processes want the cores too it waits for them each time:
    at 384 dimensions 1.8 s were measured instead of 10 ms.

    Raises:
        LinAlgError: It is nearly singular.
    """
    count = -(-len(square) // _TILE)
    size = count * _TILE
    padded = np.eye(size)
    padded[: len(square), : len(square)] = square
    panels = padded.reshape(count, _TILE, count, _TILE).transpose(2, 0, 1, 3)
    done = np.empty_like(panels)
    for index in range(count):
        before, panel = done[:index], panels[index]
        for _ in range(2):
            shared = (before.swapaxes(-1, -2) @ panel).sum(axis=1)
            panel = panel - (before @ shared[:, None]).sum(axis=0)
            lower = np.linalg.cholesky((panel.swapaxes(-1, -2) @ panel).sum(axis=0))
            panel = panel @ np.linalg.inv(lower).T
        done[index] = panel
    return done.transpose(1, 2, 0, 3).reshape(size, size)[: len(square), : len(square)]


def _even(number: int) -> int:
    return number + number % 2
